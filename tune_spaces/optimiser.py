"""Learning rate, how it falls, and the batch size, around what the job says."""

from __future__ import annotations

from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.config.schedule import value_at
from tutelage.config.search import Choice, FloatRange, Searched
from tutelage.models.describe import ModelCard


def space(job: JobConfig, student: ModelCard) -> Space:
    """A quarter to four times the learning rate; half to double the batch, where workers divide it."""
    train = job.train
    rate = value_at(train.lr, 0)
    sizes = [size for size in (train.batch_size // 2, train.batch_size, 2 * train.batch_size) if size]
    step = train.workers * (train.micro_batch_size or 1)
    fitting = [size for size in sizes if size % step == 0]
    keys: dict[str, Searched] = {
        "train.lr": FloatRange(type="float", low=rate / 4, high=min(0.5, rate * 4), log=True),
        "train.lr_schedule": Choice(type="choice", values=["linear", "cosine", "constant"]),
    }
    if len(fitting) > 1:
        keys["train.batch_size"] = Choice(type="choice", values=fitting)
    return Space(keys)

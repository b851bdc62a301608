"""A candidate and the version before, on every slice.

Shapes: B batch, C classes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from actors.engine import inputs_of
from actors.judge_student import StudentJudge
from actors.student import PATH_FILE
from actors.tally import Scores
from actors.update.opened import Update
from tutelage.continual.heads import nearest_mean
from tutelage.data.examples import Batch
from tutelage.data.folders import whole_folder
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.models.padding import settle_padding
from tutelage.objectives.competing import CLOSED, own_classes

BATCH = 32


def judge(update: Update, folder: Path) -> Scores:
    """A model on the labelled test rows of every slice; it never answers with a class it does not know.

    With `compete: own` it is told which training brought the classes of a row.
    """
    model = load_classifier(folder)
    classes = len(update.space.job.task.labels)
    tokenizer = load_tokenizer(folder)

    def run(batch: Batch) -> Any:
        with torch.inference_mode():
            output = model(**inputs_of(batch, model))
        missing = classes - output.logits.shape[-1]
        logits_BC = torch.nn.functional.pad(output.logits, (0, missing), value=CLOSED)
        output.logits = own_classes(logits_BC, torch.from_numpy(batch.labels_B), update.groups)
        return output

    pad_id = settle_padding(model, tokenizer)
    return StudentJudge(update.space, folder, update.examples, pad_id, run).scores()


def with_nearest_mean(update: Update, folder: Path) -> Path:
    """The candidate with the nearest mean of each class as its head."""
    target = folder.parent / "nearest-mean"
    examples = update.examples
    chosen = examples.select("train")
    rows = chosen.rows[chosen.labelled]
    model, tokenizer = load_classifier(folder), load_tokenizer(folder)
    pad_id = settle_padding(model, tokenizer)

    def batches() -> Iterator[tuple[Callable[[], Any], Tensor]]:
        order = rows[np.argsort(examples.lengths(rows), kind="stable")]
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            batch = examples.batch(some, np.ones(len(some), bool), pad_id)
            yield partial(model, **inputs_of(batch, model)), torch.from_numpy(batch.labels_B)

    nearest_mean(model, batches())
    if target.exists():
        shutil.rmtree(target)
    with whole_folder(target) as place:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        if (folder / PATH_FILE).exists():
            (place / PATH_FILE).parent.mkdir()
            shutil.copyfile(folder / PATH_FILE, place / PATH_FILE)
    return target

"""Importance of a model's weights on Ray: parts of a fixed cut of the rows, made anywhere, added in order.

The cut and the random numbers of a part depend on the rows alone, and parts are added in the order of the
cut. So the result is the same bit by bit for any number of workers, and a part that is there is not made
again.

Shapes: N examples, B batch.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from actors.engine import inputs_of
from actors.silence import LOOK_S, PATIENCE_S, Silence
from tutelage.config.task import Task
from tutelage.config.update import EWC, KFAC, MAS, SI, OnlineEWC
from tutelage.continual.fisher import Mode, Per, Scored, fisher, mas
from tutelage.continual.importance import Importance
from tutelage.data.examples import Batch, Examples
from tutelage.files import digest_text
from tutelage.objectives.competing import own_classes
from tutelage.progress import Stage
from tutelage.semantics import IMPORTANCE
from tutelage.tasks import build_task

PART = 256
"""Examples of one part."""
BATCH = 32
EXACT_CLASSES = 32
"""Up to so many classes `fisher: auto` looks at all of them."""


@dataclass(frozen=True)
class Measurement:
    """What is measured, and on what: plain data that travels to the workers."""

    model: str
    """Folder."""
    digest: str
    """Of its weights."""
    task: Task
    examples: str
    """Arrow file of tokenised rows."""
    rows: tuple[int, ...]
    kind: str
    """`fisher`, `kfac` or `mas`."""
    mode: Mode = "exact"
    per: Per = "sequence"
    seed: int = 0
    pad_id: int = 0
    size: int = PART
    """Examples of one part."""
    groups: tuple[int, ...] = ()
    """Of each class, where only those of one group compete."""

    @property
    def parts(self) -> int:
        """Pieces of the cut."""
        return -(-len(self.rows) // self.size)

    @property
    def identity(self) -> str:
        """16 hex digits of all that decides the result."""
        return digest_text(
            f"importance {IMPORTANCE}", self.digest, self.task.model_dump_json(), self.examples,
            str(self.rows), self.kind, self.mode,
            self.per, str(self.seed), str(self.size), str(self.groups),
        )[:16]  # fmt: skip


def chosen_rows(rows: NDArray[np.int64], most: int, seed: int) -> tuple[int, ...]:
    """At most so many of the rows, each with the same chance, in file order."""
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return tuple(int(row) for row in rows)


def mode_of(section: EWC | OnlineEWC | KFAC | MAS | SI, task: Task) -> tuple[str, Mode]:
    """Kind and mode of a regulariser's importance."""
    if isinstance(section, MAS):
        return "mas", "exact"
    kind = "kfac" if isinstance(section, KFAC) else "fisher"
    asked = "auto" if isinstance(section, SI) else section.fisher
    if asked != "auto":
        return kind, asked
    few = task.type == "sequence-classification" and len(task.labels) <= EXACT_CLASSES
    return kind, "exact" if few else "sampled"


def measure_importance(
    what: Measurement, scratch: Path, stage: Stage, patience_s: float = PATIENCE_S
) -> Importance:
    """Make the parts that are not there yet as Ray tasks, add all of them, and remove them.

    Needs a connected Ray. `scratch`: a folder that every node sees. Raises TrainError when no part is made
    for `patience_s`.
    """
    import ray

    folder = scratch / f"importance-{what.identity}"
    folder.mkdir(parents=True, exist_ok=True)
    remote: Any = ray.remote(num_cpus=1, max_retries=3)(_make_part)
    paths = [folder / f"{index:05d}.safetensors" for index in range(what.parts)]
    shared = ray.put(what)
    waiting = [
        remote.remote(shared, index, str(path)) for index, path in enumerate(paths) if not path.exists()
    ]
    silence = Silence(patience_s)
    while waiting:
        stage.update(what.parts - len(waiting), what.parts, examples=len(what.rows))
        silence.began(what.identity, 1, "no part was made")
        ready: list[Any] = []
        while not ready:
            ready, waiting = ray.wait(waiting, num_returns=1, timeout=LOOK_S)
            stage.waits("" if ready else silence.hear({}))
        ray.get(ready)
    total = Importance.load(paths[0])
    for path in paths[1:]:
        total = total + Importance.load(path)
    stage.update(what.parts, what.parts, examples=len(what.rows))
    shutil.rmtree(folder)
    return total


def part(what: Measurement, index: int) -> Importance:
    """One piece of the cut, in this process."""
    model, task = _loaded(what.model, what.digest, what.task.model_dump_json())
    examples = Examples.open(what.examples)
    rows = np.array(what.rows[index * what.size : (index + 1) * what.size], np.int64)
    order = rows[np.argsort(examples.lengths(rows), kind="stable")]

    def batches() -> Iterator[tuple[int, Batch]]:
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            yield len(some), examples.batch(some, np.ones(len(some), bool), what.pad_id)

    def score(batch: Batch) -> Scored:
        inputs = {name: value.to(model.device) for name, value in inputs_of(batch, model).items()}
        found = task.student(model(**inputs), batch)
        logits_PV = own_classes(found.logits_PV, found.labels_P, what.groups)
        return Scored(logits_PV, found.labels_P, found.examples_P, len(batch.rows))

    if what.kind == "mas":
        return mas(model, batches(), score)
    seed = int(np.random.SeedSequence([what.seed, index]).generate_state(1, np.uint64)[0] >> 1)
    blocks = what.kind == "kfac"
    return fisher(model, batches(), score, mode=what.mode, per=what.per, seed=seed, blocks=blocks)


def _make_part(what: Measurement, index: int, path: str) -> int:
    torch.set_num_threads(1)
    found = part(what, index)
    cpu = {name: value.cpu() for name, value in found.sums.items()}
    Importance(cpu, found.examples, found.stamp).save(Path(path))
    return index


@cache
def _loaded(folder: str, digest: str, section: str) -> tuple[Any, Any]:
    """The model on this worker's device; kept for the parts that follow."""
    adapter: TypeAdapter[Task] = TypeAdapter(Task)
    kind = build_task(adapter.validate_json(section))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return kind.load(folder).to(device), kind

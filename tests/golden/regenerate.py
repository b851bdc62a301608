"""Golden trajectories: what a tiny distillation and a tiny fine-tuning measured, as text.

    python -m tests.golden.regenerate            write the files anew
    python -m tests.golden.regenerate --check    run again and compare; exit code 1 where they differ

fp32, CPU, one worker, one thread, no Ray: everything else is what `tutelage distill` and
`tutelage finetune` run; the fine-tuning has dropout, the distillation none. Regenerate when
a change of the numbers is meant, and say in the commit why.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TOLERANCE = 1e-4
"""Largest difference of a loss: CPUs and BLAS libraries differ in the last bits of a sum."""
ONE_ROW = 1 / 20
"""Largest difference of an accuracy: one of the 20 validation rows may fall to the other side."""


def job(folder: Path) -> dict[str, Any]:
    """Two teachers, of which one is made here, and a student of one layer."""
    from tutelage.testing import tiny_classifier, tiny_rows

    files = tiny_rows(folder / "data", 140, ["books"])
    train = {"epochs": 1, "batch_size": 8, "lr": 5e-3, "precision": "fp32", "threads": 1}
    return {
        "name": "golden",
        "seed": 5,
        "task": {"labels": ["negative", "positive"]},
        "data": {
            "max_tokens": 24,
            "sources": {"books": {"path": files["books"], "splits": {"validation": 20, "test": 20}}},
        },
        "teachers": [
            {"name": "ready", "model": tiny_classifier(folder / "ready", seed=1)},
            {
                "name": "made",
                "model": tiny_classifier(folder / "made", seed=2),
                "finetune": {
                    "data": {"books": {"rows": 80}},
                    "method": {"type": "partial", "freeze_layers": 1},
                    "train": {**train, "micro_batch_size": 4, "evaluate_every": 5},
                },
            },
        ],
        "student": {
            "model": tiny_classifier(folder / "student", seed=3),
            "layers": [1],
            "data": {"books": {"labels": 50}},
        },
        "combiner": {"type": "confidence"},
        "objectives": [{"type": "kl"}, {"type": "cross-entropy", "weight": 0.5}],
        "train": {**train, "epochs": 2, "evaluate_every": 10, "dropout": 0.0},
    }


def trajectories(folder: Path) -> dict[str, str]:
    """Both trainings in this process: name -> text."""
    import torch
    import torch.distributed as dist
    import transformers

    from actors.distill import student_training, teacher_specs
    from actors.finetune import training_of
    from actors.workspace import open_workspace
    from tutelage.config import JobConfig
    from tutelage.progress import Silent

    os.environ["LOCAL_RANK"] = "0"
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    space = open_workspace(JobConfig.model_validate(job(folder)), folder / "home", Silent())
    made = space.job.teachers[1]
    finetuning = training_of(space, made, "finetune", str(folder))
    # Both teachers as they are: a golden distillation must not move when only the fine-tuning does.
    ready = {"teachers": [t.model_copy(update={"finetune": None}) for t in space.job.teachers]}
    plain = open_workspace(space.job.model_copy(update=ready), folder / "home", Silent())
    specs = teacher_specs(plain, {})
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
    try:
        return {
            "finetune": as_text(points(finetuning, [])),
            "distill": as_text(points(student_training(plain, specs, "distill", str(folder), {}), specs)),
        }
    finally:
        dist.destroy_process_group()


def points(training: Any, specs: list[Any]) -> list[dict[str, Any]]:
    """Run one training with local teachers."""
    import torch

    from actors.channel import TeacherChannel
    from actors.engine import Engine
    from actors.replica import LocalReplica
    from actors.stream import SignalStream
    from actors.teacher import Teacher
    from actors.trainer import Trainer
    from actors.training import TrainState
    from actors.world import Solo
    from tutelage.data.examples import Examples
    from tutelage.models.load import prepare_for_training
    from tutelage.signals.store import MemoryStore
    from tutelage.tasks import build_task

    task = build_task(training.task)
    torch.manual_seed(training.seed)
    model = prepare_for_training(
        task.load(training.base, dropout=training.train.dropout),
        training.method,
        training.layers,
    )
    channels = [
        TeacherChannel(
            spec.name, [LocalReplica(Teacher(spec))], training.payloads[spec.name], training.stream
        )
        for spec in specs
    ]
    stores = {spec.name: MemoryStore() for spec in specs}
    stream = SignalStream(channels, dict(stores), training.stream, task.request)
    state = TrainState()
    Trainer(
        training,
        Engine(model, training.train, "fp32", 1),
        Examples.open(training.examples),
        stream,
        Solo(),
        _Forgetful(),
        pad_id=0,
    ).run(state)
    return state.points


class _Forgetful:
    """Keeps nothing."""

    def progress(self, state: Any, total: int) -> None:
        """Do nothing."""

    def checkpoint(self, state: Any, best: Any) -> None:
        """Do nothing."""


def as_text(found: list[dict[str, Any]]) -> str:
    """One line a step: step, loss, its parts, and the accuracy where it was measured."""
    parts = list(found[0]["parts"])
    lines = ["\t".join(["step", "loss", *parts, "accuracy"])]
    for point in found:
        numbers = [point["loss"], *(point["parts"][name] for name in parts), point.get("accuracy")]
        shown = ["-" if number is None else f"{number:#.6g}" for number in numbers]
        lines.append("\t".join([str(point["step"]), *shown]))
    return "\n".join(lines) + "\n"


def differences(golden: str, now: str) -> list[str]:
    """What is different beyond the tolerance, in words; empty when nothing is."""
    if golden.splitlines()[0] != now.splitlines()[0]:
        return [f"columns {now.splitlines()[0]!r}, golden {golden.splitlines()[0]!r}"]
    names = golden.splitlines()[0].split("\t")
    rows = [[line.split("\t") for line in text.splitlines()[1:]] for text in (golden, now)]
    if len(rows[0]) != len(rows[1]):
        return [f"{len(rows[1])} steps, golden {len(rows[0])}"]
    return [
        f"step {old[0]}: {name} is {b}, golden {a}"
        for old, new in zip(*rows, strict=True)
        for name, a, b in zip(names, old, new, strict=True)
        if not _near(name, a, b)
    ]


def _near(name: str, golden: str, now: str) -> bool:
    if "-" in (golden, now) or name == "step":
        return golden == now
    limit = 1.01 * ONE_ROW if name == "accuracy" else TOLERANCE
    return abs(float(golden) - float(now)) <= limit


def main(argv: list[str]) -> int:
    """Write the files, or compare with them."""
    with tempfile.TemporaryDirectory(prefix="tutelage-golden-") as folder:
        found = trajectories(Path(folder))
    if argv == ["--check"]:
        problems = {n: differences((HERE / f"{n}.txt").read_text(), text) for n, text in found.items()}
        for name, lines in problems.items():
            print(
                f"{name}: {len(lines)} numbers differ" if lines else f"{name}: as golden", *lines, sep="\n  "
            )
        return int(any(problems.values()))
    for name, text in found.items():
        (HERE / f"{name}.txt").write_text(text)
        print(f"wrote {HERE / name}.txt")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

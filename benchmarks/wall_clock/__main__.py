"""Wall clock of one distillation: tutelage beside a plain loop, TextBrewer and JSON over HTTP.

    python -m benchmarks.wall_clock [--rows 800] [--epochs 1 4] [--only ours apart loop ...]

Same rows, batches, teachers, student, optimiser and epochs; accuracy on test rows stands beside the time.
Times run from loading the teachers to the trained student; tutelage's includes its fleet and the start of Ray
Train, with Ray itself up. The teachers are fine-tuned once, before the clock runs, with three of six layers
frozen. `apart` is tutelage with a process for each teacher, which shares nothing. TextBrewer is optional.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path

from actors.board import NoBoard
from actors.distill import student_training
from actors.finetune import finetune
from actors.fleet import Fleet
from actors.judge_student import judge_student
from actors.session import session
from actors.student import fit_all
from actors.workspace import open_workspace
from benchmarks.wall_clock import rivals
from benchmarks.wall_clock.job import Course, course, job
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config import JobConfig
from tutelage.files import home
from tutelage.models.load import load_tokenizer
from tutelage.progress import Silent

RIVALS = {"loop": rivals.loop, "textbrewer": rivals.textbrewer, "json-http": rivals.json_http}


def accuracy(lesson: Course, folder: Path) -> float:
    """Mean over the four domains on test rows."""
    if not (folder / "tokenizer.json").exists():
        load_tokenizer(lesson.space.student.folder).save_pretrained(folder)
    mean = judge_student(lesson.space, folder).scores().mean
    assert mean is not None
    return mean


def main() -> None:
    """Print time, accuracy and the ratio to tutelage for each contender and number of epochs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=800, help="rows a domain that the student reads")
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--layers", type=int, nargs="+", default=[0], help="of MiniLM's, for the student")
    ways = ["ours", "apart", *RIVALS]
    parser.add_argument("--only", nargs="+", choices=ways, default=ways)
    asked = parser.parse_args()
    quiet_libraries()
    where = machine()
    print(
        f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB, load {os.getloadavg()[0]:.1f}; {where.os}"
    )
    print(
        f"5 teachers of 6 layers, student of {len(asked.layers)}, {4 * asked.rows} rows, batches of 32, "
        "at most 48 tokens"
    )
    print(f"{'epochs':>6s}  {'way':12s}{'seconds':>9s}{'accuracy':>10s}{'times ours':>12s}")
    for epochs in asked.epochs:
        _compare(job(asked.rows, epochs, asked.layers), asked.only)


def _compare(config: JobConfig, names: list[str]) -> None:
    epochs = config.train.epochs
    space = open_workspace(config, home(), Silent())
    with session(config.ray, space.home) as ray:
        made = finetune(space, Silent(), storage=ray.storage)
        lesson = course(space, made)
        ours: float | None = None
        for way in [each for each in ("ours", "apart") if each in names]:
            seconds, calls, folder = _ours(lesson, ray.storage, share=way == "ours")
            ours = seconds if way == "ours" else ours
            _row(epochs, way, seconds, accuracy(lesson, folder), ours, f"{calls} calls")
    for name in [n for n in names if n in RIVALS]:
        with tempfile.TemporaryDirectory() as scratch:
            begin = time.perf_counter()
            kept = RIVALS[name](lesson, Path(scratch))
            seconds = time.perf_counter() - begin
            _row(epochs, name, seconds, accuracy(lesson, kept), ours)


def _row(epochs: int, name: str, seconds: float, score: float, ours: float | None, note: str = "") -> None:
    ratio = f"{seconds / ours:12.2f}" if ours else ""
    print(f"{epochs:6d}  {name:12s}{seconds:9.1f}{score:10.4f}{ratio}  {note}".rstrip(), flush=True)


def _ours(lesson: Course, storage: str, *, share: bool) -> tuple[float, int, Path]:
    """Seconds, teacher calls and the student's folder; nothing of it is known before."""
    space, specs = lesson.space, lesson.specs
    run = f"wall-clock-{uuid.uuid4().hex[:8]}"
    shutil.rmtree(space.signals, ignore_errors=True)
    apart = {} if share else {"share_process": False}
    by_name = {teacher.name: teacher.model_copy(update=apart) for teacher in space.job.teachers}
    begin = time.perf_counter()
    fleet = Fleet([(spec, by_name[spec.name]) for spec in specs], space.job.stream)
    try:
        training = student_training(space, specs, run, storage, {})
        result = fit_all({run: training}, fleet.members, NoBoard())[run]
    finally:
        fleet.stop()
    seconds = time.perf_counter() - begin
    calls = sum(int(counted["calls"]) for counted in result["teachers"].values())
    return seconds, calls, Path(training.output)


if __name__ == "__main__":
    main()

"""Whether a searched temperature pays: beside fixed ones, on test rows.

    TUTELAGE_HOME=... python -m benchmarks.search_quality [--seeds 1 2 3] [--trials 12]

The teachers of examples/reviews.yaml must be made. The search sees validation rows alone and gets trials of
one epoch; then every schedule is trained for the job's two epochs with each seed, and judged on test rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from actors.distill import student_training, teacher_specs
from actors.evaluate import Asked, measure_teachers
from actors.finetune import finished_teachers
from actors.judge_student import judge_student
from actors.on_demand import Scored
from actors.session import session
from actors.teacher import TeacherSpec
from actors.workspace import Workspace, open_workspace
from tune_spaces.search.opened import open_search
from tune_spaces.search.run import search
from tune_spaces.search.winner import winner_job
from tutelage.cli.quickstart import example
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config import JobConfig
from tutelage.config.load import load_job
from tutelage.files import home
from tutelage.progress import Silent

FIXED = (1.0, 2.0, 4.0, 8.0)


def with_temperature(job: JobConfig, value: Any) -> JobConfig:
    """The job with another temperature of `kl`."""
    data = job.model_dump(mode="json")
    data["objectives"][0]["temperature"] = value
    return JobConfig.model_validate(data)


def accuracy(
    space: Workspace, specs: list[TeacherSpec], measured: dict[str, dict[str, float]], folder: str
) -> float:
    """Train the job of the space in this process, and judge it on the test rows.

    The teachers stay those of the job: with its seed their own runs would have other names.
    """
    import torch

    from actors.engine import Engine, lone_group
    from actors.trainer import Trainer
    from actors.training import TrainState
    from actors.worker import open_stream, quiet
    from actors.world import Solo
    from benchmarks.step_rate import Clock
    from tutelage.data.examples import Examples
    from tutelage.models.load import load_tokenizer

    quiet()
    lone_group()
    torch.set_num_threads(1)
    training = student_training(space, specs, "quality", "", measured)
    examples = Examples.open(training.examples)
    torch.manual_seed(training.seed)
    model = training.model(training.train.dropout)
    engine = Engine(model, training.train, "fp32", 1)
    stream = open_stream(training, {name: Scored(name) for name in training.payloads}, examples)
    tokenizer = load_tokenizer(training.tokenizer)
    pad_id = tokenizer.pad_token_id or 0
    weights = Trainer(training, engine, examples, stream, Solo(), Clock(), pad_id).run(TrainState())
    student = training.model()
    student.load_state_dict(weights)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        student.save_pretrained(place)
        tokenizer.save_pretrained(place)
        found = judge_student(space, Path(place)).scores().mean
    return float(found or 0.0)


def main() -> None:
    """Print mean and spread of the test accuracy of each schedule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--trials", type=int, default=12)
    asked = parser.parse_args()
    quiet_libraries()
    where = machine()
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB", flush=True)
    job = load_job(example(), ["search.spaces=[schedules]", f"search.trials={asked.trials}"]).job
    space = open_workspace(job, home(), Silent())
    with session(job.ray, home()) as ray_session, tempfile.TemporaryDirectory() as folder:
        import ray

        teachers = finished_teachers(space)
        found = search(open_search(space, teachers), Silent(), storage=ray_session.storage)
        specs = teacher_specs(space, teachers)
        nobody: dict[str, Any] = {spec.name: Scored(spec.name) for spec in specs}
        with Silent().stage("measure") as stage:
            measured = measure_teachers(Asked(space, specs, nobody, space.signals), stage)
        best = winner_job(job, found.space, found.best)
        softness: Any = best.model_dump(mode="json")["objectives"][0]["temperature"]
        own = next((r for r in found.book.records.values() if r.number == 1), found.best)
        print(
            f"search: {len(found.book.records)} trials in {found.book.seconds:.0f} s; validation "
            f"{own.value('accuracy'):.4f} as it is, {found.best.value('accuracy'):.4f} best: "
            f"{json.dumps(softness)}",
            flush=True,
        )
        remote: Any = ray.remote(num_cpus=1, max_calls=0)(accuracy)
        names: dict[str, Any] = {f"T = {value:g}": value for value in FIXED} | {"searched": softness}
        asked_of = {
            (name, seed): remote.remote(
                replace(space, job=with_temperature(job, value).model_copy(update={"seed": seed})),
                specs,
                measured,
                folder,
            )
            for name, value in names.items()
            for seed in asked.seeds
        }
        for name in names:
            values = [ray.get(asked_of[name, seed]) for seed in asked.seeds]
            spread = stdev(values) if len(values) > 1 else 0.0
            each = ", ".join(f"{value:.4f}" for value in values)
            print(f"{name:10s} {mean(values):.4f} +- {spread:.4f}  ({each})", flush=True)


if __name__ == "__main__":
    main()

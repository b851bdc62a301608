"""Fisher information as Ray tasks: examples a second on one core and on several.

    python -m benchmarks.continual scaling [--examples 2048] [--cpus 1 2]

The student of `text` (three layers of MiniLM, two classes) on texts of the reviews, exact. Ray is started
anew for each number of cores, and its workers are warmed by other texts before the clock starts. What comes
out has to be the same bit by bit.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.continual.table import markdown
from benchmarks.continual.text_learning import student
from benchmarks.continual.where import where
from tutelage.data.catalog import fetch_model
from tutelage.files import digest_file, home
from tutelage.models.load import load_tokenizer

LABELS = ["negative", "positive"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `scaling`."""
    parser.add_argument("--examples", type=int, default=2_048)
    parser.add_argument("--part", type=int, default=128, help="examples of one task")
    parser.add_argument("--cpus", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=2, help="the fastest counts")
    parser.add_argument("--json", action="store_true")


def measurement(folder: Path, examples: int, size: int) -> Any:
    """What is measured: the student in a folder of its own, on training texts of the reviews."""
    from actors.evaluate import student_examples
    from actors.update.importance import Measurement, chosen_rows
    from actors.workspace import open_workspace
    from tutelage.config import JobConfig
    from tutelage.progress import Silent

    encoder = str(fetch_model("minilm", home()))
    model = student(encoder, LABELS, 1)
    model.save_pretrained(folder)
    load_tokenizer(encoder).save_pretrained(folder)
    job = {
        "name": "scaling",
        "task": {"labels": LABELS},
        "data": {"max_tokens": 48, "sources": {"movies": {"type": "catalog", "dataset": "reviews/movies"}}},
        "teachers": [],
        "student": {"model": str(folder)},
        "objectives": [{"type": "cross-entropy"}],
    }
    space = open_workspace(JobConfig.model_validate(job), home(), Silent())
    found = student_examples(space)
    return Measurement(
        model=str(folder),
        digest=digest_file(folder / "model.safetensors"),
        task=space.job.task,
        examples=str(found.path),
        rows=chosen_rows(found.select("train").rows, examples, 1),
        kind="fisher",
        size=size,
    )


def measured(what: Any, cpus: int, repeats: int, scratch: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """Seconds of the fastest of some runs, and the sums."""
    from actors.session import session
    from actors.update.importance import measure_importance
    from tutelage.config.runtime import RayConfig
    from tutelage.progress import Silent

    seconds = []
    with session(RayConfig(num_cpus=cpus), home()), Silent().stage("scaling") as stage:
        few = what.rows[: what.size * cpus]
        found = measure_importance(replace(what, rows=few), scratch, stage)
        for _ in range(repeats):
            begin = time.perf_counter()
            found = measure_importance(what, scratch, stage)
            seconds.append(time.perf_counter() - begin)
    return min(seconds), found.sums


def run(asked: argparse.Namespace) -> None:
    """Print the machine and the table."""
    results: list[dict[str, Any]] = []
    truth: dict[str, torch.Tensor] | None = None
    with tempfile.TemporaryDirectory() as folder:
        what = measurement(Path(folder) / "model", asked.examples, asked.part)
        for cpus in asked.cpus:
            seconds, sums = measured(what, cpus, asked.repeats, Path(folder))
            truth = truth or sums
            same = all(torch.equal(sums[name], value) for name, value in truth.items())
            each = len(what.rows) / seconds
            results.append({"cpus": cpus, "examples_s": each, "same_bits": same})
    for one in results:
        one["times"] = one["examples_s"] / results[0]["examples_s"]
    if asked.json:
        print(json.dumps({"machine": where("cpu"), "results": results}, indent=1))
        return
    print(f"{where('cpu')}\n{len(what.rows)} examples in {what.parts} tasks\n")
    rows = [
        [
            str(one["cpus"]),
            f"{one['examples_s']:,.1f}",
            f"{one['times']:.2f}",
            "yes" if one["same_bits"] else "NO",
        ]
        for one in results
    ]
    print(markdown(["cores", "examples/s", "times", "same bits"], rows))

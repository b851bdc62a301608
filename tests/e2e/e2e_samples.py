"""The real command in its own process, with its own $TUTELAGE_HOME, on a tiny job."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import yaml

from tutelage.testing import tiny_classifier, tiny_rows

ROOT = Path(__file__).resolve().parents[2]
MARK = "TUTELAGE_TEST_MARK"
"""Every process below a command inherits this variable, also those that leave its process group."""
DOMAINS = ["books", "shop"]
ROWS = 280
"""Train rows of each domain."""


@dataclass
class Command:
    """One `tutelage` process."""

    process: subprocess.Popen[str]
    mark: str

    def finish(self, timeout_s: float) -> Answer:
        """Wait for the end of the process."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.end()
            raise
        return Answer(self.process.returncode, out, err)

    def left(self) -> list[psutil.Process]:
        """Living processes that the command started, itself included."""
        return [process for process in psutil.process_iter() if _marked(process, self.mark)]

    def end(self) -> None:
        """Kill whatever is left."""
        for process in self.left():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What stands on stdout."""
        return json.loads(self.out)


@dataclass
class Cli:
    """Starts commands in one folder; `end` leaves nothing behind."""

    folder: Path
    home: Path
    started: list[Command] = field(default_factory=list)

    def start(self, *words: str, **variables: str) -> Command:
        """`tutelage WORDS` as a process."""
        mark = uuid4().hex
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("TUTELAGE", "RAY_"))}
        path = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
        # The commit is part of a version's lineage, and may change between two commands of one test.
        clean["GIT_DIR"] = str(self.folder / "no-git")
        process = subprocess.Popen(
            [sys.executable, "-m", "tutelage.cli", *words],
            cwd=self.folder,
            env={**clean, "PYTHONPATH": path, "TUTELAGE_HOME": str(self.home), MARK: mark, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(Command(process, mark))
        return self.started[-1]

    def run(self, *words: str, timeout_s: float = 240, **variables: str) -> Answer:
        """`tutelage WORDS` to its end."""
        return self.start(*words, **variables).finish(timeout_s)

    def end(self) -> None:
        """Kill what is left of every command."""
        for command in self.started:
            command.end()


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark
    except psutil.Error:
        return False


def until(true: Callable[[], Any], within_s: float, what: str) -> Any:
    """The first true value of `true`, or a failure after `within_s`."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = true()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s:g} s: {what}")


def job(folder: Path) -> dict[str, Any]:
    """Two teachers, each fine-tuned on one domain; a student of one layer that learns both."""
    files = tiny_rows(folder / "data", ROWS + 40, DOMAINS)
    base = tiny_classifier(folder / "base", seed=1)
    train = {"batch_size": 8, "lr": 5e-3, "cpus_per_worker": 0.8, "precision": "fp32"}
    return {
        "name": "tiny",
        "seed": 3,
        "task": {"type": "sequence-classification", "labels": ["negative", "positive"]},
        "data": {
            "max_tokens": 24,
            "sources": {
                name: {"path": path, "splits": {"validation": 20, "test": 20}} for name, path in files.items()
            },
        },
        "teachers": [
            {
                "name": name,
                "model": base,
                "num_cpus": 0.1,
                "finetune": {"data": {name: {}}, "train": {**train, "epochs": 4, "lr": 1e-2, "dropout": 0.0}},
            }
            for name in DOMAINS
        ],
        "student": {"model": base, "layers": [0], "data": {"books": {"labels": 40}, "shop": {"labels": 0}}},
        "combiner": {"type": "validated"},
        "objectives": [{"type": "kl"}, {"type": "cross-entropy", "weight": 0.2}],
        # Long enough after its first checkpoint to be killed on the way.
        "train": {**train, "epochs": 9, "checkpoint_every": 70},
        # A model of random words has logits close to each other, so int8 changes a few labels.
        "export": {"min_agreement": 0.5},
        "ray": {"num_cpus": 2, "object_store_mb": 200},
    }


def write_job(path: Path, content: dict[str, Any]) -> str:
    """The job as YAML; returns the path as a command takes it."""
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)

"""What the tests of whole commands share: one quickstart of the tiny job, whose teachers others copy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import e2e_samples as sample


@dataclass(frozen=True)
class Story:
    """The tiny job's quickstart."""

    cli: sample.Cli
    job: str
    first: sample.Answer
    first_s: float
    first_left: list[str]
    """Processes that were alive when the command had ended."""


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """`tutelage quickstart --job` on an empty home."""
    folder = tmp_path_factory.mktemp("story")
    cli = sample.Cli(folder, folder / "home")
    job = sample.write_job(folder / "job.yaml", sample.job(folder))
    begin = time.monotonic()
    try:
        command = cli.start("quickstart", "--job", job, "--json")
        first = command.finish(280)
        left = [str(process) for process in command.left()]
        yield Story(cli, job, first, time.monotonic() - begin, left)
    finally:
        cli.end()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[sample.Cli]:
    """Commands in the test's own folder, with an empty home."""
    made = sample.Cli(tmp_path, tmp_path / "home")
    yield made
    made.end()

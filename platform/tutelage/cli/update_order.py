"""What `tutelage update` is asked for, and what it came to."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.update.run import Updated
    from tutelage.cli.console import Console
    from tutelage.cli.steps import Job
    from tutelage.continual.gate import Verdict
    from tutelage.continual.metrics import Summary
    from tutelage.continual.state import Learned
    from tutelage.registry.versions import Version

CANDIDATE, REJECTED = "challenger", "rejected"
"""Aliases of a candidate that the gate let through, and of one that it stopped."""
CATALOG = "catalog:"


@dataclass(frozen=True)
class Ordered:
    """A version and its new data, before anything of it is read."""

    job: Job
    """The version's job with the new source and the overrides."""
    version: Version
    folder: Path
    source: str


@dataclass(frozen=True)
class Candidate:
    """What an update came to."""

    version: Version
    updated: Updated
    verdict: Verdict
    seconds: float
    history: list[Learned]
    """Every training in the life of the version."""
    groups: list[int]
    """For each class the training that brought it."""

    @property
    def page(self) -> Path:
        """Its report, which is written once it is judged."""
        from tutelage.report.update.write import HTML

        return self.updated.update.space.runs / self.updated.update.run / HTML

    @property
    def next_command(self) -> str:
        """What to do with it: a version that the gate stopped is looked at, not served."""
        return f"tutelage {'deploy' if self.verdict.passed else 'models show'} {self.version.ref}"

    @property
    def matrix(self) -> list[list[float]]:
        """Accuracy after each training (rows) on what each of them brought (columns)."""
        from tutelage.continual.metrics import matrix_of

        return matrix_of(self.history)

    @property
    def summary(self) -> Summary:
        """What the matrix comes to; forward transfer is over guessing, where no class was new."""
        from tutelage.continual.metrics import summary

        grown = len(set(self.groups)) > 1
        chance = None if grown else [1 / len(self.groups)] * len(self.history)
        return summary(self.matrix, chance)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        from actors.update.remarks import remarks

        found = self.updated
        return {
            "version": self.version.ref,
            "parent": self.version.card.lineage.parent,
            "run": found.update.run,
            "report": str(self.page),
            "passed": self.verdict.passed,
            "problems": list(self.verdict.problems),
            "remarks": remarks(found.update),
            "before": found.before.by_slice,
            "after": found.after.by_slice,
            "forgotten": self.verdict.forgotten,
            "gained": self.verdict.gained,
            "dips": {name: asdict(dip) for name, dip in found.dips.items()},
            "strength": found.strength,
            "attempts": [{"strength": lam, "accuracy": value} for lam, value in found.attempts],
            "plain": found.plain,
            "seconds": self.seconds,
            "matrix": [[None if math.isnan(one) else one for one in row] for row in self.matrix],
            "summary": {
                key: None if math.isnan(value) else value for key, value in asdict(self.summary).items()
            },
        }


def open_order(
    console: Console, ref: str, data: str, overrides: list[str], name: str | None,
    began: Version | None = None,
) -> Ordered:  # fmt: skip
    """Find the version, and put the new source into its job.

    Args:
        began: what a stream began with. Keys of the job are those of its job: what was set for one increment
            is not for the next.

    Raises:
        ConfigError: no such version, a name that is taken, or overrides that cannot be meant.
    """
    from tutelage.cli.quiet import quiet_libraries
    from tutelage.cli.steps import Job
    from tutelage.config.load import load_recorded
    from tutelage.config.yaml_source import parse_yaml
    from tutelage.errors import ConfigError
    from tutelage.files import home
    from tutelage.registry.registry import open_registry

    quiet_libraries()
    place = home()
    registry = open_registry(place)
    version = registry.versions.get(ref)
    recorded: Any = parse_yaml(version.card.lineage.config_yaml, version.ref).data
    if began is not None:
        recorded = job_of_stream(parse_yaml(began.card.lineage.config_yaml, began.ref).data, recorded)
    source = name or source_name(data)
    sources = recorded["data"]["sources"]
    if source in sources:
        raise ConfigError(
            f"{version.ref} has learned from a source '{source}' already",
            fix="give the data another --name; to go on with a stream, name the version that it began with",
        )
    if recorded["student"].get("data") is not None:
        recorded["student"]["data"][source] = {}  # a state that is computed anew is of all that was learned
    sources[source] = (
        {"type": "catalog", "dataset": data.removeprefix(CATALOG)}
        if data.startswith(CATALOG)
        else {"type": "files", "path": data}
    )
    if recorded.get("update") is None:
        recorded["update"] = {}
    loaded = load_recorded(recorded, version.ref, overrides)
    job = Job(loaded, console, place, registry)
    return Ordered(job, version, registry.versions.folder(version), source)


def job_of_stream(began: Any, newest: Any) -> Any:
    """The job that a stream began with, and what its increments brought: sources, classes."""
    data = {**began["data"], "sources": newest["data"]["sources"]}
    student = {**began["student"], "data": newest["student"].get("data")}
    return {**began, "data": data, "student": student, "task": newest["task"], "teachers": newest["teachers"]}


def source_name(data: str) -> str:
    """`reviews/nyt` and `data/NYT 2.parquet` as `nyt` and `nyt-2`."""
    stem = Path(data.removeprefix(CATALOG)).name.split(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "new"

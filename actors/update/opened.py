"""An update that is checked and not begun: one job of what is new, what is replayed, and what is held out.

Nothing of the data of earlier trainings is read: what is needed of it is in the version's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from actors.distill import teacher_specs
from actors.evaluate import student_examples
from actors.workspace import Workspace, open_workspace
from tutelage.config import JobConfig
from tutelage.config.data import Source
from tutelage.config.load import decided_by_stream, decided_by_update
from tutelage.config.update import UpdateConfig
from tutelage.continual.heads import grow
from tutelage.continual.replay import load as load_buffer
from tutelage.continual.state import State
from tutelage.data.examples import Examples
from tutelage.data.folders import whole_folder
from tutelage.data.sources import open_source
from tutelage.errors import ConfigError, DataError
from tutelage.files import digest_folder, digest_text
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.progress import Progress
from tutelage.semantics import TRAINING

OLD, HELD = "replay-", "heldout-"
"""Beginnings of the names of sources that replay earlier texts, and that are held out."""


@dataclass(frozen=True)
class Update:
    """An update that is checked and not begun."""

    space: Workspace
    """The job of this update: its student is the version before."""
    config: UpdateConfig
    champion: Path
    """Folder of the version before."""
    state: State
    known: list[str]
    """Classes of the version before."""
    new: list[str]
    """Sources of new data."""
    data: str
    """Digest of the version's weights and state, of the new data and how it is read, and of the teachers. Not
    of where the files of the state are, and since when."""

    @property
    def run(self) -> str:
        """The same version, data and settings give the same run."""
        space = self.space
        code, stream = f"training {TRAINING}", decided_by_stream(space.job)
        section = decided_by_update(self.config)
        digest = digest_text(code, self.data, section, str(space.job.seed), stream)
        return f"{space.job.name}-update-{digest[:8]}"

    @property
    def groups(self) -> tuple[int, ...]:
        """Of each class, where only those of one training compete; empty where all do."""
        own = self.config.compete == "own"
        return self.state.about.groups_of(self.space.job.task.labels) if own else ()

    @property
    def examples(self) -> Examples:
        """All rows of this update."""
        return student_examples(self.space)

    @property
    def new_rows(self) -> NDArray[np.int64]:
        """Training rows of the new data."""
        return self.examples.select("train", sources=self.new).rows

    @property
    def replayed(self) -> tuple[str, ...]:
        """Sources that replay earlier texts."""
        return tuple(name for name in self.space.job.data.sources if name.startswith(OLD))


def update_job(
    job: JobConfig, config: UpdateConfig, version: Path, state: State, sources: Mapping[str, Source],
    labels: list[str],
) -> JobConfig:  # fmt: skip
    """The job of an update: what is new, what is replayed, and what forgetting is measured on.

    Raises ConfigError for a source that is called as a replayed one.
    """
    strange = [name for name in sources if name.startswith((OLD, HELD))]
    if strange:
        raise ConfigError(
            f"--name {strange[0]}: names with '{OLD}' and '{HELD}' are of the version's own rows",
            fix="choose another",
        )
    data = job.model_dump(mode="json", exclude={"search", "update"})
    inputs: dict[str, Any] = {name: source.model_dump(mode="json") for name, source in sources.items()}
    if config.replay is not None and state.replay.exists():
        labelled = {part for (part, label) in load_buffer(state.replay).counts() if label is not None}
        for number, path in enumerate(sorted(state.replay.glob("*.parquet"))):
            columns = {} if path.stem in labelled else {"columns": {"label": None}}
            inputs[f"{OLD}{number}"] = _file(path, path.stem, "train") | columns
    for number, path in enumerate(sorted(state.heldout.glob("*.parquet"))):
        part, _, split = path.stem.rpartition(".")
        inputs[f"{HELD}{number}"] = _file(path, part, split)
    objectives: list[dict[str, Any]] = [{"type": "cross-entropy", "weight": config.labels}]
    if config.teachers:
        objectives.append({"type": "kl", "temperature": 2.0})
    if config.labels == 0 and not config.teachers:
        raise ConfigError(
            "update.labels is 0 and there are no update.teachers: nothing new would be learned",
            fix="raise update.labels, or add teachers",
        )
    data |= {
        "task": {**data["task"], "labels": labels},
        "data": {**data["data"], "sources": inputs},
        "teachers": [teacher.model_dump(mode="json") for teacher in config.teachers],
        "student": {"model": str(version), "method": config.method.model_dump(mode="json")},
        "combiner": {"type": "uniform"},
        "objectives": objectives,
        "on_policy": None,
        "train": config.train.model_dump(mode="json"),
    }
    try:
        return JobConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"the update's job does not hold together: {first['msg'].removeprefix('Value error, ')}",
            fix="look at the update section, and at the new source",
        ) from error


def _file(path: Path, part: str, split: str) -> dict[str, Any]:
    return {"type": "files", "path": str(path), "slice": part, "split": split}


def open_update(
    job: JobConfig, config: UpdateConfig, version: Path, state: State, sources: Mapping[str, Source],
    home: Path, ui: Progress, labels: list[str] | None = None,
) -> Update:  # fmt: skip
    """Read the new data and check all that can be checked before anything is trained.

    Args:
        job: the job that the version came from.
        config: the `update` section that counts.
        version: folder of the version.
        state: of the version.
        sources: the new data.
        labels: all classes, old ones first; the version's when None.

    Raises:
        ConfigError, DataError, ModelError: what cannot be meant, read or fitted.
    """
    known = state.about.labels
    labels = labels or known
    section = config.regulariser
    if section is not None and (state.about.held or {}).get("type") != section.type:
        had = (state.about.held or {}).get("type") or "none"
        raise ConfigError(
            f"update.regulariser is '{section.type}', and the version's state was kept for '{had}'",
            fix="choose the one it was kept for, or measure anew with --compute-state",
        )
    asked = update_job(job, config, version, state, sources, labels)
    base = version
    if labels != known:
        base = _grown(version, labels, job.seed, home)
        asked = asked.model_copy(update={"student": asked.student.model_copy(update={"model": str(base)})})
    try:
        space = open_workspace(asked, home, ui)
    except DataError as problem:
        if "labels found" in problem.problem:
            problem.fix += "; new classes need update.grow=true"
        if "held out by other sources" in problem.problem:
            raise DataError(
                "all rows of the new data are known already: the version measures forgetting by them",
                fix="give rows that it has not seen",
            ) from problem
        raise
    decides = [state.about.model, digest_folder(state.folder), *labels, job.data.on_bad_row]
    decides.append(str(job.data.max_tokens))
    for name, one in sources.items():
        decides += open_source(name, one, home, job.task).identity(one)
    decides += [spec.fingerprint for spec in teacher_specs(space, {})]
    data = digest_text(*decides)[:32]
    update = Update(space, config, version, state, known, list(sources), data)
    _check_rows(update)
    return update


def _grown(version: Path, labels: list[str], seed: int, home: Path) -> Path:
    """The version's model with rows for new classes, in a folder of its own."""
    place = home / "grown" / digest_text(str(version), *labels, str(seed))[:16]
    if not place.exists():
        model = load_classifier(version)
        grow(model, labels, seed)
        with whole_folder(place) as folder:
            model.save_pretrained(folder)
            load_tokenizer(version).save_pretrained(folder)
    return place


def _check_rows(update: Update) -> None:
    examples, config = update.examples, update.config
    rows = update.new_rows
    if not len(rows):
        raise DataError(
            "the new data leaves no row to train on", fix="check the file, and the splits of its source"
        )
    labels = examples.labels(rows)
    classes = set(labels[labels >= 0].tolist())
    if not classes and not config.teachers:
        raise DataError(
            f"none of {len(rows)} new rows has a label, and there are no update.teachers: the version would "
            "learn from itself alone",
            fix="label some rows, or add update.teachers",
        )
    names = update.space.job.task.labels
    alone = [group for group in set(update.groups) if update.groups.count(group) == 1]
    if alone and not config.force:
        raise DataError(
            f"'{names[update.groups.index(alone[0])]}' would compete with no class, since update.compete is "
            "'own': it is always right, and nothing is learned",
            fix="add rows of another new class, update.compete=all, or update.force=true",
        )
    kept = config.replay is not None and bool(update.replayed)
    if len(classes) == 1 and not kept and not config.force:
        raise DataError(
            f"all new labels are '{update.space.job.task.labels[classes.pop()]}', and nothing is replayed: "
            "the version would learn to say only that",
            fix="keep update.replay, add rows of other classes, or set update.force=true",
        )

"""What a search is: under the same terms it goes on, under others it is another one.

Terms are kept beside the trials, so that a resumed search whose space has changed is refused with the
difference, and so that a new search can begin with what an earlier one found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.teacher import TeacherSpec
from actors.workspace import Workspace
from tune_spaces.search.asking import Known, Labels
from tune_spaces.search.records import Book
from tune_spaces.space import Space
from tutelage.config.load import job_digest
from tutelage.errors import ConfigError
from tutelage.files import atomic_write, digest_text
from tutelage.models.fingerprint import fingerprint
from tutelage.semantics import TRAINING

TERMS = "terms.json"
GUESSES = 3
"""Best points of an earlier search under other terms that are tried first."""
NO_TERMS = ("concurrent", "sinks", "mlflow_uri", "warm_start", "spaces", "space")
"""Keys of `search` that change nothing of what is found; the space itself is kept key by key."""


@dataclass(frozen=True)
class Terms:
    """What decides the trials of a search."""

    job: str
    facts: dict[str, Any]
    """Dotted key -> plain value."""

    @property
    def id(self) -> str:
        """Run id: equal terms are one search."""
        return f"{self.job}-tune-{digest_text(json.dumps(self.facts, sort_keys=True))[:8]}"

    def differences(self, other: dict[str, Any]) -> list[str]:
        """One line for each fact that is another one in `other`, which came first."""
        keys = [key for key in dict.fromkeys([*other, *self.facts]) if other.get(key) != self.facts.get(key)]
        return [f"{key}: {_short(other.get(key))} -> {_short(self.facts.get(key))}" for key in keys]


def terms_of(space: Workspace, searched: Space, specs: list[TeacherSpec]) -> Terms:
    """The terms of the job's search."""
    job = space.job
    facts: dict[str, Any] = {
        "job": job_digest(job),
        "semantics.training": TRAINING,
        "data": space.rows.fingerprint,
        "student": fingerprint(space.student.folder, space.student.folder),
        **{f"teachers.{spec.name}": spec.fingerprint for spec in specs},
        "serve.variant": job.serve.variant,
        "serve.threads": job.serve.threads,
        **{f"search.{k}": v for k, v in job.search.model_dump(mode="json").items() if k not in NO_TERMS},
        **{f"search.space.{key}": one.model_dump(mode="json") for key, one in searched.keys.items()},
        **{f"search.space.{key} (set)": value for key, value in searched.base.items()},
    }
    return Terms(job.name, facts)


def check_terms(terms: Terms, folder: Path) -> None:
    """Keep the terms of a new search in its folder. Raises ConfigError where others are kept there."""
    path = folder / TERMS
    if path.exists():
        refuse_changed(terms, folder)
        return
    with atomic_write(path) as file:
        json.dump(terms.facts, file, indent=1)


def refuse_changed(terms: Terms, folder: Path) -> None:
    """Raise ConfigError with the difference where the folder's search has other terms."""
    changed = terms.differences(json.loads((folder / TERMS).read_text()))
    if changed:
        lines = "".join(f"\n  {line}" for line in changed)
        raise ConfigError(
            f"search {folder.name} cannot go on: {len(changed)} of its terms changed{lines}",
            fix="undo the change, or leave out --resume: a new search begins with what this one found",
        )


def known_points(space: Workspace, searched: Space, terms: Terms) -> tuple[list[Known], list[Labels]]:
    """What earlier searches found that this one may begin with.

    Returns trials whose values count here too (same job, data, teachers, student, budget and goals; the space
    and the number of trials may differ), and the best points of the others as guesses.
    """
    known: list[Known] = []
    guesses: list[Labels] = []
    for path in sorted(space.runs.glob(f"*-tune-*/{TERMS}")):
        if path.parent.name == terms.id:
            continue
        try:
            facts = json.loads(path.read_text())
            book = Book(path.parent / "trials.jsonl")
        except (OSError, ValueError):
            continue  # another search's damage is no reason to stop this one
        if any(facts.get(key) != terms.facts[key] for key in ("data", "search.goals")):
            continue
        goals = space.job.search.goals
        ranked = [
            record
            for record in book.ranked(goals[0])
            # What changed its values on the way tells nothing of its last ones.
            if record.status == "done" and searched.holds(record.labels) and not record.last.get("parent")
        ]
        if all(facts.get(key) == value for key, value in terms.facts.items() if _counts(key)):
            for record in ranked:
                values = [value for goal in goals if (value := record.value(goal)) is not None]
                if len(values) == len(goals):
                    known.append(Known(record.labels, values))
        else:
            guesses += [record.labels for record in ranked[:GUESSES]]
    return known, guesses


def _counts(key: str) -> bool:
    """Whether values found under another fact of this name are other values."""
    same = ("job", "student", "search.budget", "search.device", "serve.variant", "serve.threads")
    return key in same or key.startswith("teachers.")


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else text[:99] + "…"

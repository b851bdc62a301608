"""Probes: texts that every replica answers before it takes traffic, with what they came to at export.

A version keeps them in `probes.json`: each text, the token ids that its training reads, and the scores of
each ONNX file on the machine that exported it. A process that loads the version reads the same ids, exactly,
and gives nearly the same scores, or it is another model, another tokenizer or a processor that computes
otherwise. Texts are asked one at a time, so that no score depends on a neighbour.

Legend: C classes, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tutelage.errors import ModelError

FILE = "probes.json"
TOLERANCE: Mapping[str, float] = {"fp32": 1e-3, "int8": 0.03}
"""Largest difference of a score from the recorded one, by variant.

In fp32 processors differ by the order of their sums, some 1e-6 a layer. In int8 such a difference moves
single activations to the next of 256 steps; integer products that saturate move a score by a tenth and more.
"""
DECIMALS = 6
"""Scores are kept so exactly; what differs below is no property of a version."""
AGAIN = "the folder is not as it was exported: deploy the recorded version, or export it again"

Encode = Callable[[str], Sequence[int]]
"""Token ids of a text, special tokens included, cut at max_tokens."""
Score = Callable[[Sequence[int]], NDArray[Any]]
"""Token ids of one text to its scores, float[C]."""


class ProbeText(BaseModel):
    """One text, and what it came to where the version was exported."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    what: str
    """Why it is asked: `row 3`, `empty`, `full length`, ..."""
    text: str
    ids: list[int]
    """As the training reads the text."""
    scores: dict[str, list[float]] = {}
    """By ONNX file (fp32, int8, ...): the probability of each label, C numbers."""

    def __str__(self) -> str:
        shown = self.text if len(self.text) <= 40 else self.text[:40] + "..."
        return f"probe '{self.what}' ({shown!r})"


class Probes(BaseModel):
    """All probes of a version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    labels: list[str]
    """In the order of the scores (C)."""
    max_tokens: int
    texts: list[ProbeText] = Field(min_length=1)

    @classmethod
    def read(cls, folder: Path) -> Probes | None:
        """The probes of an exported folder; None where it has none. Raises ModelError for a damaged file."""
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as problem:
            first = problem.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the file"
            raise ModelError(f"{path}: {key}: {first['msg']}", fix=AGAIN) from problem

    def write(self, folder: Path) -> None:
        """Write them into `folder`, which nobody else reads yet."""
        (folder / FILE).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @property
    def longest(self) -> ProbeText:
        """The one of most tokens."""
        return max(self.texts, key=lambda probe: len(probe.ids))

    def scored(self, files: Mapping[str, Score]) -> Probes:
        """The same probes with the scores of these files, those without finite scores left out.

        A model may have no answer to a text without a token; it has one to every row.
        """
        kept = []
        for probe in self.texts:
            scores = {name: np.asarray(score(probe.ids), np.float64) for name, score in files.items()}
            if all(np.isfinite(found).all() for found in scores.values()):
                plain = {name: found.round(DECIMALS).tolist() for name, found in scores.items()}
                kept.append(probe.model_copy(update={"scores": plain}))
        return self.model_copy(update={"texts": kept})


class ScoresDifferError(ModelError):
    """Finite scores that are not those of the export: another model, or another processor."""


@dataclass(frozen=True)
class Difference:
    """The largest difference of a score between here and where the version was exported."""

    probe: ProbeText
    label: str
    here: float
    recorded: float

    @property
    def value(self) -> float:
        """0 to 1; infinite where the score here is not finite."""
        found = abs(self.here - self.recorded)
        return float(found) if np.isfinite(found) else float("inf")

    def __str__(self) -> str:
        return f"{self.probe} scores {self.here:.4g} for '{self.label}', and {self.recorded:.4g} at export"


def check_labels(probes: Probes, labels: Sequence[str], max_tokens: int) -> None:
    """Raise ModelError when the labels, or the length, are not those that the scores were recorded with."""
    if list(labels) != probes.labels:
        raise ModelError(f"the labels are {list(labels)}, and {probes.labels} at export", fix=AGAIN)
    if max_tokens != probes.max_tokens:
        raise ModelError(f"max_tokens is {max_tokens}, and {probes.max_tokens} at export", fix=AGAIN)


def check_reading(probes: Probes, encode: Encode) -> None:
    """Raise ModelError for the first probe that is not read as exactly the ids that training reads."""
    for probe in probes.texts:
        ids = list(encode(probe.text))
        if ids == probe.ids:
            continue
        pairs = zip(ids, probe.ids, strict=False)
        at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(probe.ids)))
        raise ModelError(
            f"{probe} is read as {len(ids)} tokens, and {len(probe.ids)} in training; "
            f"from token {at} on they are {ids[at : at + 4]}, and {probe.ids[at : at + 4]} in training: "
            "the tokenizer is another one",
            fix=AGAIN,
        )


def largest_difference(probes: Probes, name: str, score: Score) -> Difference | None:
    """Of all scores of the file `name` from the recorded ones; None where none are recorded for it.

    Raises ModelError when a probe cannot be answered, or with other than C numbers.
    """
    worst: Difference | None = None
    for probe in probes.texts:
        recorded = probe.scores.get(name)
        if recorded is None:
            continue
        try:
            found = np.asarray(score(probe.ids), np.float64)
        except Exception as problem:  # onnxruntime's own exceptions share no base class but this one
            reason = (str(problem).splitlines() or [type(problem).__name__])[0]
            raise ModelError(f"{probe} cannot be answered: {reason}", fix=AGAIN) from problem
        if found.shape != (len(probes.labels),):
            raise ModelError(
                f"the model gives {found.size} logits for {len(probes.labels)} labels",
                fix="export the version again",
            )
        for label, here, there in zip(probes.labels, found, recorded, strict=True):
            one = Difference(probe, label, float(here), there)
            if worst is None or one.value > worst.value:
                worst = one
    return worst


def check_scores(probes: Probes, name: str, score: Score) -> None:
    """Raise ModelError when a score of the file `name` is not finite, ScoresDifferError when one differs.

    A score differs when it does so beyond its tolerance.
    """
    worst = largest_difference(probes, name, score)
    if worst is None or worst.value <= TOLERANCE[name]:
        return
    kind = ScoresDifferError if np.isfinite(worst.here) else ModelError
    raise kind(
        f"{worst}: the {name} file may differ by {TOLERANCE[name]:g}",
        fix=AGAIN if name == "fp32" else f"set serve.variant to fp32, or: {AGAIN}",
    )

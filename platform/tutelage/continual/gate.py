"""The verdict on a candidate: what it forgot of every earlier slice, and what it gained on the new ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import mean

from tutelage.config.update import ForgettingGate
from tutelage.continual.metrics import forgotten


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate may go on."""

    passed: bool
    problems: tuple[str, ...]
    forgotten: dict[str, float]
    """Fall of the accuracy on each earlier slice; below 0 it rose."""
    gained: float | None
    """Rise of the mean accuracy on the new slices; None where they have no labels."""
    words: str
    """One sentence for people."""

    @property
    def fix(self) -> str:
        """What helps against the first problem."""
        if not self.problems:
            return ""
        if "fell" in self.problems[0]:
            return "raise update.replay.share, update.distil.weight or update.regulariser.strength"
        return "lower update.regulariser.strength, train longer, or give more data"


def judge_forgetting(
    gate: ForgettingGate,
    before: Mapping[str, float],
    after: Mapping[str, float],
    new: Collection[str],
    unmeasured: str = "the new data has no labels to measure",
) -> Verdict:
    """Compare accuracies by slice. A slice of the new data is not forgotten by learning it worse: it is not
    gained. `unmeasured` says why new slices have no accuracy, where they have none.
    """
    lost = {name: fall for name, fall in forgotten(before, after).items() if name not in new}
    fresh = [name for name in new if name in before and name in after]
    gained = mean(after[name] - before[name] for name in fresh) if fresh else None
    problems = [
        f"'{name}' fell from {before[name]:.3f} to {after[name]:.3f}, update.gate.max_forgetting allows "
        f"{gate.max_forgetting:g}"
        for name, fall in lost.items()
        if fall > gate.max_forgetting + 1e-12
    ]
    if gained is not None and gained < gate.min_gain - 1e-12:
        problems.append(
            f"the new data gained {gained:+.3f}, update.gate.min_gain asks for {gate.min_gain:+g}"
        )
    worst = max(lost, key=lambda name: lost[name], default=None)
    words = [unmeasured if gained is None else f"new data {gained:+.3f}"]
    if worst is None:
        words.append("no earlier slice has held-out rows to measure")
    else:
        words.append(f"worst earlier slice '{worst}' {-lost[worst]:+.3f}")
    return Verdict(not problems, tuple(problems), lost, gained, ", ".join(words))

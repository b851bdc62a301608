"""What came out of a command on a job, for people: every model on the test rows, and what was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tutelage.cli.text import measured

if TYPE_CHECKING:
    from tutelage.cli.console import Console
    from tutelage.report.figures import Report


def say_accuracy(console: Console, report: Report) -> None:
    """The table of models, how much of the teachers the student kept, and what was not measured."""
    from tutelage.report.claims import claims
    from tutelage.report.numbers import capital
    from tutelage.report.summary import kept

    slices = report.slices()
    rows = [
        [
            f"{row.model} {row.runtime or ''}".strip(),
            *(measured(row.by_slice.get(name), 3) for name in slices),
            measured(row.mean, 4),
            interval(row.low, row.high),
        ]
        for row in report.accuracy
        if row.mean is not None
    ]
    if rows:
        texts = max(row.examples for row in report.accuracy)
        title = f"{capital(report.measure)} on {texts} test texts that no training saw"
        console.table(title, ["model", *slices, "mean", "95 % interval"], rows)
    for sentence in (kept(report, claims(report)), *report.not_measured):
        if sentence:
            console.say(capital(sentence.replace("\u00a0", " ")))


def interval(low: float | None, high: float | None) -> str:
    """`0.700 to 0.755`; a dash where there is none."""
    return "-" if low is None or high is None else f"{low:.3f} to {high:.3f}"

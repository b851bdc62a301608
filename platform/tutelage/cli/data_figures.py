"""The parts of a report that tell of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tutelage.cli.plan_data import data_about
from tutelage.data.splits import SPLITS
from tutelage.data.token_facts import SourceFacts
from tutelage.report.figures import ClassFigure, LeakFigure, SourceFigure

if TYPE_CHECKING:
    from actors.workspace import Workspace


def data_figures(space: Workspace) -> dict[str, Any]:
    """Sources, classes, test texts that were trained on, and notes: fields of a report."""
    about = data_about(space)
    return {
        "data": [_source(space, name) for name in space.rows.counts],
        "classes": [
            ClassFigure(label=one["class"], **{split: one.get(split, 0) for split in SPLITS})
            for one in about["classes"]
        ],
        "leaks": LeakFigure(**about["leaks"]) if about["leaks"]["texts"] else None,
        "data_notes": [*about["notes"], *about["concerns"]],
    }


def _source(space: Workspace, name: str) -> SourceFigure:
    rows, counts = space.rows, space.rows.counts[name]
    train = rows.classes[name]["train"]
    return SourceFigure(
        source=name,
        **{split: counts.get(split, 0) for split in SPLITS},
        labelled=sum(train.values()) - train[""],
        bad=rows.bad.get(name, {}),
        **vars(space.facts.sources.get(name, SourceFacts())),
    )

"""What `tutelage update --plan` shows: rows, memory, penalty, steps; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.update.opened import Update
    from tutelage.cli.console import Console
    from tutelage.cli.update_stream import Step


def update_plan(update: Update, later: Sequence[Step] = ()) -> dict[str, Any]:
    """Key -> what the update would do; `later` ones of a stream start from versions still to come."""
    from actors.trainer import batch_plan
    from actors.update.remarks import remarks
    from actors.update.training import training
    from tutelage.continual.metrics import matrix_of

    examples, config = update.examples, update.config
    rows = update.new_rows
    labels = examples.labels(rows)
    first = training(update, 1.0, "")
    chosen = examples.select("train")
    steps = batch_plan(first, examples, chosen).steps_per_epoch * config.train.epochs
    held = config.regulariser
    auto = held is not None and held.strength == "auto"
    history = update.state.about.history
    return {
        "run": update.run,
        "from": [f"{one.run}: {', '.join(one.slices)}" for one in history],
        "accuracies so far": [[round(value, 4) for value in row] for row in matrix_of(history)],
        "new rows": {
            "train": len(rows),
            "labelled": int((labels >= 0).sum()),
            **{split: len(examples.select(split, sources=update.new)) for split in ("validation", "test")},
        },
        **({"remarks": found} if (found := remarks(update)) else {}),
        "classes": update.space.job.task.labels,
        "new classes": update.space.job.task.labels[len(update.known) :],
        "replayed rows": len(chosen) - len(rows),
        "penalty": "none" if held is None else f"{held.type}, lambda {held.strength}, {held.step}",
        "teachers": list(first.payloads),
        "steps": min(steps, config.train.max_steps or steps),
        "trainings": f"2 to {held.attempts + 1}" if held is not None and auto else "1",
        "gate": f"no slice falls by more than {config.gate.max_forgetting:g}, "
        f"the new data gains {config.gate.min_gain:+g} or more",
        **({"then": [" ".join([step.name, step.data, *step.settings]) for step in later]} if later else {}),
    }


def show_update_plan(console: Console, plan: dict[str, Any]) -> None:
    """The plan as a table, or as JSON."""
    console.result(
        {"plan": plan},
        lambda: console.table("Plan", ["", ""], [[key, _words(value)] for key, value in plan.items()]),
    )


def _words(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {one}" for key, one in value.items())
        case list():
            return "; ".join(map(_words, value)) or "-"
        case _:
            return str(value)

"""What a search would do, before it costs anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.workspace import Workspace
    from tutelage.cli.console import Console


@dataclass(frozen=True)
class SearchPlan:
    """Steps, searched keys, and what is asked of the teachers."""

    rows: list[dict[str, Any]]
    keys: list[dict[str, Any]]
    teachers: list[dict[str, Any]]
    data: dict[str, Any]
    """Rows, classes and concerns (`data_about`)."""


def search_plan(space: Workspace) -> SearchPlan:
    """What `tune` would do. Raises what a wrong space raises."""
    from tune_spaces.search.opened import searched_space
    from tune_spaces.space import own_point
    from tutelage.cli.plan import distill_plan, finetune_table

    job, found = space.job, searched_space(space)
    search = job.search
    once = distill_plan(space, fresh=True)
    training = once.rows[-1]
    epochs = search.budget.epochs or job.train.epochs
    whole = epochs * -(-training["rows"] // job.train.batch_size)
    steps = min(whole, search.budget.max_steps or job.train.max_steps or whole)
    own = own_point(job, found)
    trials = {
        "step": "search",
        "does": f"{search.trials} trials, {search.searcher.type}, {search.stops_by.type}",
        "rows": training["rows"],
        "epochs": epochs,
        "steps": steps,
        "reports": search.reports,
        "needs": f"{search.cpus_per_trial:g} CPUs a trial",
        "at a time": search.concurrent or "as many as fit",
    }
    winner = {**training, "step": "train the winner", "run": "", "does": "train"}
    winner["teacher calls"] = 0
    keys = [
        {
            "key": key,
            "values": _words(one.model_dump(mode="json")),
            "the job's own": "" if own is None else _text(own[key]),
        }
        for key, one in found.keys.items()
    ]
    teachers = [
        {
            "teacher": row["teacher"],
            "payload": row["payload"],
            "to score": row["texts to score"],
        }
        for row in once.teachers
    ]
    return SearchPlan([*finetune_table(space, None, fresh=False), trials, winner], keys, teachers, once.data)


def show_search_plan(console: Console, plan: SearchPlan) -> None:
    """Print the plan as tables, or as JSON."""
    from tutelage.cli.plan import print_table
    from tutelage.cli.plan_data import tell_data

    def human() -> str | None:
        tell_data(console, plan.data)
        print_table(console, "Plan", plan.rows)
        print_table(console, "Searched", plan.keys)
        print_table(console, "Teachers: each text is scored once for all trials", plan.teachers)
        return None

    found = {"plan": plan.rows, "searched": plan.keys, "teachers": plan.teachers, "data": plan.data}
    console.result(found, human)


def _words(one: dict[str, Any]) -> str:
    if one["type"] == "choice":
        return ", ".join(_text(value) for value in one["values"])
    return f"{one['low']:g} to {one['high']:g}" + (", logarithmic" if one["log"] else "")


def _text(value: Any) -> str:
    from tutelage.config.search import plain

    return plain(value)

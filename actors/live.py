"""What student workers say of their teachers while they train, and the table that a person sees of it.

A view is `TeacherChannel.view()` with `wait_share`: counters so far, and how it goes just now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tutelage.progress import Row, Table
from tutelage.signals.planned import UNITS, word
from tutelage.signals.spec import PayloadSpec

View = Mapping[str, float]

_OF_THE_FLEET = ("replicas", "starting", "respawns", "left_out")
"""Each worker says the same, or nearly; the largest is shown."""
_MEANS = ("p50_ms", "queue_p50_ms")
DASH = "-"


def topic(run: str, rank: int) -> str:
    """Where a worker of a run posts; rank 0 posts under the run's own name."""
    return f"{run}:{rank}" if rank else run


def views_of(posts: Mapping[str, Mapping[str, Any]], run: str) -> dict[str, dict[str, float]]:
    """What the workers of a run say together of each teacher."""
    said = [post["teachers"] for name, post in posts.items() if name == run or name.startswith(f"{run}:")]
    names = dict.fromkeys(name for views in said for name in views)
    return {name: together([views[name] for views in said if name in views]) for name in names}


def together(views: list[View]) -> dict[str, float]:
    """One view of several workers' views of the same teacher."""
    whole: dict[str, float] = {}
    for key in views[0]:
        values = [view[key] for view in views]
        if key in _OF_THE_FLEET:
            whole[key] = max(values)
        elif key == "wait_share":
            whole[key] = sum(values) / len(values)
        elif key in _MEANS:
            # A worker that has asked nothing has measured nothing.
            measured = [view[key] for view in views if view["calls"]] or values
            whole[key] = sum(measured) / len(measured)
        else:
            whole[key] = sum(values)
    whole["bytes_position"] = whole["bytes_received"] / max(1.0, whole["positions"])
    return whole


def cached_share(view: View) -> float | None:
    """Share of the examples that the signal store answered; None before the first."""
    seen = view["cached"] + view["examples"]
    return view["cached"] / seen if seen else None


def teacher_table(
    views: Mapping[str, View], payloads: Mapping[str, PayloadSpec], task: str, *, ended: bool = False
) -> Table:
    """A row for each teacher; what matters most stands left. `ended`: without what is of the moment."""
    unit = UNITS.get(task, "text")
    left_out = {"queue", "replies/s"} if ended else set()
    if not any(view["lost_batches"] for view in views.values()):
        left_out.add("lost")
    cells = {
        name: {"teacher": name, "payload": word(payloads[name]), **_cells(view, unit)}
        for name, view in views.items()
    }
    columns = [key for key in next(iter(cells.values()), {}) if key not in left_out]
    rows = (
        Row(tuple(row[key] for key in columns), warn=_worries(views[name])) for name, row in cells.items()
    )
    return Table(tuple(columns), tuple(rows))


def _cells(view: View, unit: str) -> dict[str, str]:
    starting = f" (+{view['starting']:.0f})" if view["starting"] else ""
    share = cached_share(view)
    return {
        "lost": f"{view['lost_batches']:.0f}{' now' if view['left_out'] else ''}",
        "replicas": f"{view['replicas']:.0f}{starting}",
        "queue": f"{view['queue_depth']:.0f}",
        "replies/s": DASH if view["left_out"] else f"{view['replies_s']:.1f}",
        "waiting": f"{view['wait_share']:.0%}",
        f"bytes/{unit}": f"{view['bytes_position']:,.0f}" if view["positions"] else DASH,
        "stored": DASH if share is None else f"{share:.0%}",
        "retries": f"{view['retries']:.0f}",
        "hedges": f"{view['hedges']:.0f}",
    }


def _worries(view: View) -> bool:
    """The teacher is left out, or has nobody that could answer while somebody waits."""
    return bool(view["left_out"] or (not view["replicas"] and view["queue_depth"]))

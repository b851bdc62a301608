"""The data part of `--plan`: rows by source, split and class, what was left out, and what is a concern."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.workspace import Workspace
    from tutelage.cli.console import Console

SHOWN_CLASSES = 20
ORDER = ("train", "validation", "test")


def data_about(space: Workspace) -> dict[str, Any]:
    """All that is known of the rows, for `--json`."""
    from tutelage.data.row_set import told

    rows = space.rows
    return {
        "sources": [_source(space, name) for name in rows.counts],
        "classes": _classes(rows.classes),
        "two_labels": rows.two_labels,
        "leaks": asdict(space.facts.leaks),
        "notes": told(rows),
        "concerns": space.concerns,
    }


def _source(space: Workspace, name: str) -> dict[str, Any]:
    rows, facts = space.rows, space.facts.sources.get(name)
    row: dict[str, Any] = {"source": name, **{split: rows.counts[name][split] for split in ORDER}}
    row["labelled"] = rows.labelled.get(name, 0)
    row["bad"] = sum(rows.bad.get(name, {}).values())
    row["read otherwise"] = sum(rows.remarks.get(name, {}).values())
    row["repeats"] = rows.repeats.get(name, 0)
    if facts:
        row["cut texts"] = facts.cut
        row["unknown tokens"] = f"{100 * facts.unknown / max(1, facts.tokens):.3g} %"
    return row


def _classes(classes: dict[str, dict[str, dict[str, int]]]) -> list[dict[str, Any]]:
    """Rows of each class by split, over all sources; those without a label last."""
    names = {name: None for parts in classes.values() for counts in parts.values() for name in counts}
    found = []
    for name in sorted(names, key=lambda name: name == ""):
        counts = {split: sum(parts[split][name] for parts in classes.values()) for split in ORDER}
        if name or any(counts.values()):
            found.append({"class": name or "(no label)", **counts})
    return found


def tell_data(console: Console, about: dict[str, Any]) -> None:
    """Print rows by source and by class. What was left out and is a concern was said while it was read."""
    from tutelage.cli.plan import print_table

    print_table(console, "Data", about["sources"])
    classes = about["classes"]
    more = len(classes) - SHOWN_CLASSES
    print_table(
        console, f"Classes ({more} more in --json)" if more > 0 else "Classes", classes[:SHOWN_CLASSES]
    )

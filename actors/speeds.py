"""How fast teachers scored when they were last asked, for the next plan.

One small file a teacher below `$TUTELAGE_HOME/speeds`, named by its fingerprint. It is a measurement of this
home's machines and no more: a plan without it says less, and nothing else reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from actors.teacher import TeacherSpec
from tutelage.config.models import TeacherConfig
from tutelage.files import atomic_write

LEAST_CALLS = 20
"""Fewer tell of the first ones, which are slow."""


def remember(home: Path, specs: Sequence[TeacherSpec], teachers: Mapping[str, Mapping[str, float]]) -> None:
    """Keep positions a second of one replica, among the neighbours that it had in a training.

    Best effort: a full disk is no reason to end a training that is done.
    """
    for spec in specs:
        counted = teachers.get(spec.name, {})
        positions, worked_s = counted.get("positions", 0), counted.get("worked_s", 0)
        if positions and worked_s and counted.get("calls", 0) >= LEAST_CALLS:
            path = _file(home, spec)
            with suppress(OSError):
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as file:
                    json.dump({"positions_s": positions / worked_s}, file)


def known(home: Path, specs: Sequence[TeacherSpec], teachers: Sequence[TeacherConfig]) -> dict[str, float]:
    """Positions a second of each teacher's whole fleet at its largest, where it was ever measured."""
    replicas = {teacher.name: teacher.most_replicas for teacher in teachers}
    found: dict[str, float] = {}
    for spec in specs:
        try:
            speed = float(json.loads(_file(home, spec).read_text(encoding="utf-8"))["positions_s"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if speed > 0:
            found[spec.name] = speed * replicas[spec.name]
    return found


def _file(home: Path, spec: TeacherSpec) -> Path:
    return home / "speeds" / f"{spec.fingerprint}.json"

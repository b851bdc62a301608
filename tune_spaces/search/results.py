"""What a search found, as the figures of its report and as a table that other tools read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from actors.workspace import Workspace
from tune_spaces.search.importance import importances
from tune_spaces.search.records import Record
from tune_spaces.search.run import Searched, mode_of
from tune_spaces.search.winner import is_own
from tutelage.config.search import Choice, IntRange
from tutelage.config.search import Searched as Range
from tutelage.files import atomic_write
from tutelage.report.search.figures import (
    Baseline,
    CurvePoint,
    SearchedKey,
    SearchReport,
    TrialFigures,
    Winner,
)

PARQUET = "trials.parquet"


def search_figures(space: Workspace, found: Searched, surroundings: dict[str, Any]) -> SearchReport:
    """The report without its winner. `surroundings`: command, created, machine, config_yaml."""
    config = space.job.search
    goal = config.goals[0]
    keys = [_key(key, one) for key, one in found.space.keys.items()]
    records = list(found.book.records.values())
    trials = [_trial(record, goal, found) for record in records]
    own = next((record for record in records if is_own(space.job, found.space, record)), None)
    shares, note = importances(keys, trials, goal, space.job.seed)
    limits = {k: v for k, v in config.limits.model_dump().items() if v is not None}
    if "accuracy_min" in limits:
        limits["accuracy"] = limits.pop("accuracy_min")
    return SearchReport(
        search=found.id,
        job=space.job.name,
        metric=goal,
        mode=mode_of(goal),
        searcher=config.searcher.type,
        scheduler=config.stops_by.type,
        objectives=list(config.goals),
        seconds=found.book.seconds,
        keys=keys,
        trials=[*trials, *_refused(found, len(trials))],
        best=found.best.id,
        front=[record.id for record in found.front] if len(config.goals) > 1 else [],
        importances=shares,
        importance_note=note,
        limits=limits,
        near_miss=None if _meets(found.best, limits) else found.best.id,
        teacher_calls=found.book.calls,
        texts_scored=found.book.texts,
        texts=found.texts,
        payloads=found.payloads,
        baseline=None if own is None else Baseline(accuracy=own.value("accuracy"), loss=own.value("loss")),
        notes=found.book.notes,
        **surroundings,
    )


def winner_figures(found: Searched, run: str, command: str, **measured: Any) -> Winner:
    """The winner's block; `measured` are version, test_accuracy, int8_accuracy, size_mb, latency_ms."""
    return Winner(
        run=run, trial=found.best.id, accuracy=found.best.value("accuracy"), command=command, **measured
    )


def write_parquet(figures: SearchReport, folder: Path) -> Path:
    """One row a trial: its values by key (as text where they are sections), and everything measured."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {}
    plain = [name for name in TrialFigures.model_fields if name not in ("values", "curve")]
    for name in plain:
        columns[name] = [getattr(trial, name) for trial in figures.trials]
    for key in figures.keys:
        values = [trial.values.get(key.key) for trial in figures.trials]
        simple = key.kind != "choice"
        columns[f"value.{key.key}"] = [v if simple or v is None else _text(v) for v in values]
    columns["curve"] = [[point.model_dump() for point in trial.curve] for trial in figures.trials]
    path = folder / PARQUET
    with atomic_write(path, "wb") as file:
        pq.write_table(pa.table(columns), file)
    return path


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _key(key: str, one: Range) -> SearchedKey:
    if isinstance(one, Choice):
        return SearchedKey(key=key, kind="choice", values=list(one.values))
    kind = "log" if one.log else "int" if isinstance(one, IntRange) else "float"
    return SearchedKey(key=key, kind=kind, low=one.low, high=one.high)


def _trial(record: Record, goal: str, found: Searched) -> TrialFigures:
    last = record.last
    weights = record.measures.get("weights")
    return TrialFigures(
        id=record.id,
        number=record.number,
        status=record.status if record.status in ("done", "failed", "out-of-memory") else "stopped",
        values=found.space.point(record.labels),
        metric=record.value(goal),
        accuracy=record.value("accuracy"),
        loss=record.value("loss"),
        latency_ms=record.measures.get("latency_ms"),
        size_mb=record.measures.get("size_mb"),
        weights=None if weights is None else int(weights),
        seconds=None if record.ended is None or record.began is None else record.ended - record.began,
        start_s=last.get("start_s"),
        steps=last.get("step", 0),
        progress=last.get("progress", 0.0) / 100,
        curve=[
            CurvePoint(
                step=point["step"],
                progress=point["progress"] / 100,
                accuracy=point.get("accuracy"),
                loss=point.get("loss"),
            )
            for point in record.curve
        ],
        error=record.error or None,
        parent=last.get("parent") or None,
    )


def _refused(found: Searched, count: int) -> list[TrialFigures]:
    return [
        TrialFigures(
            id=f"refused-{n}", number=count + n, status="refused", values=found.space.point(labels), error=why
        )
        for n, (labels, why) in enumerate(found.book.refused, 1)
    ]


def _meets(record: Record, limits: dict[str, float]) -> bool:
    for key, limit in limits.items():
        value = record.value(key)
        if value is not None and (value < limit if key == "accuracy" else value > limit):
            return False
    return True

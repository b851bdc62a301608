"""A realistic search: 24 trials over five keys, some stopped early, two that failed."""

from __future__ import annotations

import math

from tests.unit.report_sample import noise
from tutelage.report.search.figures import (
    Baseline,
    CurvePoint,
    Importance,
    SearchedKey,
    SearchReport,
    TrialFigures,
    Winner,
)

KEYS = [
    SearchedKey(key="objectives.kl.temperature", kind="float", low=1.0, high=6.0),
    SearchedKey(key="train.lr", kind="log", low=5e-5, high=3e-3),
    SearchedKey(key="student.layers", kind="choice", values=[[0, 2, 5], [0, 5], [0, 1, 3, 5]]),
    SearchedKey(key="combiner.type", kind="choice", values=["uniform", "confidence", "learned"]),
    SearchedKey(key="train.batch", kind="int", low=8, high=64),
]
ERROR = "the loss is not a finite number at step 31: lr 0.0029 is too high for a batch of 8"


def trial(number: int) -> TrialFigures:
    """One trial whose accuracy depends on its temperature, its learning rate and its layers."""
    unit = [(noise(number, seed) + 1) / 2 % 1 for seed in (1, 2, 3, 4, 5)]
    layers = [[0, 2, 5], [0, 5], [0, 1, 3, 5]][int(unit[2] * 3)]
    temperature, lr = round(1 + 5 * unit[0], 2), 5e-5 * 60 ** unit[1]
    worth = 0.846 - 0.006 * (temperature - 3.1) ** 2 - 0.022 * math.log10(lr / 7e-4) ** 2
    worth += {2: -0.021, 3: 0.0, 4: 0.009}[len(layers)] + 0.004 * noise(number, 9)
    progress = {0: 1 / 3, 1: 2 / 3}.get(number % 4, 1.0) if worth < 0.83 else 1.0
    values = {
        "objectives.kl.temperature": temperature,
        "train.lr": float(f"{lr:.3g}"),
        "student.layers": layers,
        "combiner.type": ("uniform", "confidence", "learned")[int(unit[3] * 3)],
        "train.batch": int(8 + 56 * unit[4]),
    }
    if number in (9, 18):
        error = ERROR if number == 9 else "CUDA is out of memory: 22.1 GB of 22.0 GB"
        status = "failed" if number == 9 else "out-of-memory"
        return TrialFigures(
            id=f"t{number:03}", number=number, status=status, values=values, seconds=6.1, error=error
        )
    curve = [
        CurvePoint(
            step=50 * point,
            progress=point / 9,
            accuracy=round(worth - 0.24 * math.exp(-point / 2.2) + 0.004 * noise(point, number), 4),
            loss=round(0.42 + 0.9 * (0.85 - worth) + 0.5 * math.exp(-point / 2.2), 4),
        )
        for point in range(1, round(progress * 9) + 1)
    ]
    return TrialFigures(
        id=f"t{number:03}",
        number=number,
        status="done" if progress == 1 else "stopped",
        values=values,
        metric=curve[-1].accuracy,
        accuracy=curve[-1].accuracy,
        loss=curve[-1].loss,
        latency_ms=round(0.62 * len(layers) + 0.05 * noise(number, 3), 3),
        size_mb=round(12.1 + 1.8 * len(layers), 2),
        weights=11_000_000 + 1_774_000 * len(layers),
        seconds=round(16 * progress + noise(number, 6), 1),
        start_s=15.0 * (number - 1),
        steps=round(450 * progress),
        progress=progress,
        curve=curve,
        parent="t003" if number == 21 else None,
    )


def front_of(trials: list[TrialFigures]) -> list[str]:
    """The trials that no other one beats in accuracy and latency."""
    found, best = [], 0.0
    for one in sorted((t for t in trials if t.metric), key=lambda t: (t.latency_ms or 0, -(t.metric or 0))):
        if (one.metric or 0) > best:
            found.append(one.id)
            best = one.metric or 0
    return found


def sample() -> SearchReport:
    """A search of 24 trials with two objectives and a limit, every part filled in."""
    trials = [trial(number) for number in range(1, 25)]
    allowed = [t for t in trials if t.metric is not None and (t.latency_ms or 0) <= 2.2]
    best = max(allowed, key=lambda t: t.metric or 0)
    scored = {"movies": 6000, "amazon": 6000, "tweets": 6000}
    return SearchReport(
        search="reviews-search-20260302-0915",
        job="reviews",
        created="2026-03-02T09:21:12+00:00",
        command="tutelage tune examples/reviews.yaml --trials 24",
        searcher="tree-structured Parzen estimator, 8 random trials first",
        scheduler="successive halving, a third goes on",
        objectives=["accuracy", "latency_ms"],
        seconds=372.4,
        machine={"processor": "AMD EPYC 9R14", "CPU cores": "2", "memory": "24 GB"},
        keys=KEYS,
        trials=trials,
        best=best.id,
        front=front_of(trials),
        importances=[
            Importance(key="student.layers", mean=0.41, low=0.22, high=0.63),
            Importance(key="objectives.kl.temperature", mean=0.34, low=0.15, high=0.52),
            Importance(key="train.lr", mean=0.19, low=0.05, high=0.37),
            Importance(key="combiner.type", mean=0.04, low=0.0, high=0.11),
            Importance(key="train.batch", mean=0.02, low=0.0, high=0.08),
        ],
        importance_note="From 22 finished trials, 5 of them with the accuracy at which they were stopped.",
        limits={"latency_ms": 2.2},
        teacher_calls={"movies": 188, "amazon": 188, "tweets": 190},
        texts_scored=scored,
        texts=6000,
        payloads=1,
        winner=Winner(
            run="reviews-20260302-0928",
            version="reviews:v4",
            trial=best.id,
            accuracy=best.accuracy,
            test_accuracy=0.8361,
            int8_accuracy=0.8344,
            latency_ms=best.latency_ms,
            size_mb=best.size_mb,
            command="tutelage distil examples/reviews.yaml --set objectives.kl.temperature=2.85"
            " --set train.lr=4.51e-4",
        ),
        baseline=Baseline(accuracy=0.8252, loss=0.447),
        notes=["Validation accuracy is over 450 texts: one text is 0.2 points."],
        config_yaml="name: reviews\ntrain: {epochs: 3, lr: 3.0e-4}\n",
    )

"""How much of the spread of a metric each searched key explains, and how sure that is.

A random forest learns the metric from the values of the trials. How much worse it tells trials that it has
not seen when the values of one key are shuffled among them is what that key is worth. All of it is repeated
over samples of the trials drawn with replacement, since a search has few of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.report.search.figures import Importance, SearchedKey, TrialFigures, counts

FEWEST = 8
_SAMPLES = 24
_TREES = 16
_SHUFFLES = 8
_MOST_COLUMNS = 12
_LOW, _HIGH = 5, 95
_WEAK = 0.2
_ROUNDING = 1e-9

Matrix = NDArray[np.float64]


def importances(
    keys: Sequence[SearchedKey], trials: Sequence[TrialFigures], metric: str, seed: int = 0
) -> tuple[list[Importance], str]:
    """The share of each key, the largest first, and what a reader must know about it.

    metric: the field of a trial that is explained. The list is empty where too little is known.
    """
    used = [t for t in trials if counts(t) and math.isfinite(_target(t, metric))]
    target = np.array([_target(trial, metric) for trial in used])
    problem = _problem(keys, target, metric)
    if problem:
        return [], problem
    groups = [_columns(key, used) for key in keys]
    table = np.hstack(groups)
    ends = np.cumsum([0, *(group.shape[1] for group in groups)])
    spans = [range(ends[place], ends[place + 1]) for place in range(len(keys))]
    shares, told = _sampled(table, target, spans, seed)
    if not len(shares):
        return [], f"No searched key tells the {metric} of a trial better than the mean of the others does."
    found = [
        Importance(
            key=key.key,
            mean=float(shares[:, place].mean()),
            low=float(np.percentile(shares[:, place], _LOW)),
            high=float(np.percentile(shares[:, place], _HIGH)),
        )
        for place, key in enumerate(keys)
    ]
    return sorted(found, key=lambda item: -item.mean), _note(used, metric, told)


def _problem(keys: Sequence[SearchedKey], target: Matrix, metric: str) -> str:
    if not keys:
        return "No key was searched."
    if len(target) < FEWEST:
        found = "1 finished trial is" if len(target) == 1 else f"{len(target)} finished trials are"
        return f"{found} too few to tell what mattered: {FEWEST} are needed."
    if np.ptp(target) <= 1e-9 * max(float(np.abs(target).max()), 1e-9):
        return f"All finished trials have the same {metric}: nothing is there to be explained."
    return ""


def _note(used: Sequence[TrialFigures], metric: str, told: float) -> str:
    stopped = sum(trial.status == "stopped" for trial in used)
    early = f", {stopped} of them with the {metric} at which they were stopped" if stopped else ""
    first = f"From {len(used)} finished trials{early}."
    if told < _WEAK:
        return (
            f"{first} A forest tells trials that it has not seen hardly better than their mean does"
            f" ({max(told, 0) * 100:.0f} % of the spread): these shares say little."
        )
    return f"{first} A forest explains {told * 100:.0f} % of the spread of trials that it has not seen."


def _target(trial: TrialFigures, metric: str) -> float:
    value = getattr(trial, metric)
    return math.nan if value is None else float(value)


def _columns(key: SearchedKey, trials: Sequence[TrialFigures]) -> Matrix:
    """Numbers as they are, by their logarithm where the key is searched so; a choice as a column a value."""
    values: list[Any] = [trial.values.get(key.key) for trial in trials]
    numeric = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    if all(numeric) or (key.kind != "choice" and any(numeric)):
        numbers = np.array([float(v) if ok else math.nan for v, ok in zip(values, numeric, strict=True)])
        if key.kind == "log":
            numbers = np.log(np.where(numbers > 0, numbers, math.nan))
        known = numbers[~np.isnan(numbers)]
        # A place of its own for a missing value: trees split it off.
        missing = (known.min() - np.ptp(known) - 1.0) if len(known) else 0.0
        return np.where(np.isnan(numbers), missing, numbers)[:, None]
    texts = [json.dumps(value, sort_keys=True, ensure_ascii=False) for value in values]
    levels = sorted(set(texts))
    if len(levels) > _MOST_COLUMNS:
        return np.array([[float(levels.index(text))] for text in texts])
    return np.array([[float(text == level) for level in levels] for text in texts])


def _sampled(table: Matrix, target: Matrix, spans: list[range], seed: int) -> tuple[Matrix, float]:
    """A row of shares for each sample in which any key told something; the mean share of spread explained."""
    from sklearn.ensemble import RandomForestRegressor  # type: ignore[import-untyped]

    random = np.random.default_rng(seed)
    rows, errors, spreads = [], [], []
    for sample in range(_SAMPLES):
        drawn = random.integers(len(target), size=len(target))
        rest = np.setdiff1d(np.arange(len(target)), drawn)
        if len(rest) < 2:
            continue
        forest = RandomForestRegressor(
            n_estimators=_TREES, min_samples_leaf=2, max_features=0.8, n_jobs=1, random_state=seed + sample
        ).fit(table[drawn], target[drawn])
        base = _error(forest, table[rest], target[rest])
        errors.append(base)
        spreads.append(float(np.mean((target[rest] - target[drawn].mean()) ** 2)))
        blocks = [_shuffled(table[rest], span, random) for span in spans]
        guesses = forest.predict(np.vstack(blocks)).reshape(len(spans), -1)
        losses = np.mean((guesses - np.tile(target[rest], _SHUFFLES)) ** 2, axis=1)
        worth = np.where(losses - base > _ROUNDING * spreads[-1], losses - base, 0.0)
        if worth.sum() > 0:
            rows.append(worth / worth.sum())
    spread = sum(spreads)
    return np.array(rows), 1.0 - sum(errors) / spread if spread else 0.0


def _error(forest: Any, rows: Matrix, target: Matrix) -> float:
    return float(np.mean((forest.predict(rows) - target) ** 2))


def _shuffled(rows: Matrix, span: range, random: np.random.Generator) -> Matrix:
    """Copies of the rows in which the columns of one key stand in another order."""
    copies = []
    for _ in range(_SHUFFLES):
        copy = rows.copy()
        copy[:, list(span)] = rows[random.permutation(len(rows))][:, list(span)]
        copies.append(copy)
    return np.vstack(copies)

"""What a shape costs: measured once, under the conditions that it was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.architecture import Architecture
from tutelage.config.task import CausalLM, SequenceClassification
from tutelage.errors import ModelError
from tutelage.export import cost
from tutelage.testing import LABELS, tiny_classifier

pytestmark = pytest.mark.unit

TASK = SequenceClassification(labels=list(LABELS))
SHAPE = Architecture(family="albert", depth=2, width=16, heads=2, feed_forward=24)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_classifier(tmp_path_factory.mktemp("cost") / "base", layers=2, hidden=16)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Latencies that the next measurements find, in order."""
    latencies: list[float] = []

    def found(*given: Any) -> cost.Cost:
        return cost.Cost(1000, 0.5, latencies.pop(0), 9.0)

    monkeypatch.setattr(cost, "_measure", found)
    return latencies


def latency(home: Path, base: str, **conditions: Any) -> float:
    return cost.measure_cost(
        home, TASK, base, **{"architecture": SHAPE, "tokens": 8, **conditions}
    ).latency_ms


def test_what_is_known_is_not_measured_again(base: str, told: list[float], tmp_path: Path) -> None:
    told += [2.0]
    assert [latency(tmp_path, base) for _ in range(2)] == [2.0, 2.0]


@pytest.mark.parametrize(
    "other",
    [
        {"threads": 2},
        {"batch": 4},
        {"tokens": 9},
        {"variant": "fp32"},
        {"architecture": None},
        {"layers": [0]},
    ],
    ids=str,
)
def test_other_conditions_are_measured_by_themselves(
    base: str, told: list[float], tmp_path: Path, other: dict[str, Any]
) -> None:
    told += [2.0, 3.0]
    other = {**other, "architecture": None} if "layers" in other else other
    assert latency(tmp_path, base) == 2.0
    assert latency(tmp_path, base, **other) == 3.0


@pytest.mark.parametrize("text", ["{", "{}", json.dumps({"cost": {"latency_ms": -1}})])
def test_a_damaged_figure_is_measured_again(base: str, told: list[float], tmp_path: Path, text: str) -> None:
    told += [2.0, 3.0]
    latency(tmp_path, base)
    (file,) = (tmp_path / "latency").glob("*.json")
    file.write_text(text)
    assert latency(tmp_path, base) == 3.0


def test_measured_again_the_lower_figure_is_kept(base: str, told: list[float], tmp_path: Path) -> None:
    told += [2.0, 3.0, 1.0]
    found = [latency(tmp_path, base), *[latency(tmp_path, base, again=True) for _ in range(2)]]
    assert found == [2.0, 2.0, 1.0]
    assert latency(tmp_path, base) == 1.0


def test_a_shape_is_really_exported_and_timed(base: str, tmp_path: Path) -> None:
    found = cost.measure_cost(tmp_path, TASK, base, architecture=SHAPE, tokens=8)
    assert 0 < found.latency_ms <= found.p95_ms < 1000
    assert 0 < found.size_mb < 1
    assert found.weights > 1000


def test_what_is_not_exported_has_no_latency(base: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="only classifiers are exported"):
        cost.measure_cost(tmp_path, CausalLM(type="causal-lm"), base)
    with pytest.raises(ModelError, match="positions"):
        cost.measure_cost(tmp_path, TASK, base, tokens=100_000)


def test_the_estimate_grows_with_depth_and_tokens(base: str) -> None:
    def flop(depth: int, tokens: int) -> int:
        one = SHAPE.model_copy(update={"depth": depth})
        return cost.estimated_flop(TASK, base, architecture=one, tokens=tokens)

    assert flop(4, 8) > 1.5 * flop(2, 8)
    assert flop(2, 16) > 1.9 * flop(2, 8)

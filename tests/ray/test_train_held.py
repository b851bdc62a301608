"""Held weights under DeepSpeed, on one and two gloo ranks, beside a plain loop."""

from __future__ import annotations

from typing import Any

import pytest

from tests.ray.test_train_engine import apart, launch
from tutelage.testing import tiny_classifier

pytestmark = pytest.mark.ray

SAME, NEAR = 1e-5, 1e-2
"""Largest differences of a loss in fp32, and in bf16 from fp32."""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What one and two ranks saw."""
    folder = tmp_path_factory.mktemp("held")
    tiny_classifier(folder / "model", seed=1)
    return {world: launch("tests.ray.held_matrix", folder, world, f"held-{world}.json") for world in (1, 2)}


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("step", ["explicit", "proximal"])
def test_every_stage_holds_weights_as_a_plain_loop(seen: dict[int, Any], world: int, step: str) -> None:
    """fp32, ZeRO 0 to 3, one and two workers: the losses of a loop with the penalty in its loss."""
    plain = seen[1][f"plain {step}"]["losses"]
    for stage in range(4):
        assert apart(seen[world][f"{step} fp32 {stage}"]["losses"], plain) < SAME, stage
    assert apart(plain, seen[world]["free"]["losses"]) > 100 * SAME


@pytest.mark.parametrize("world", [1, 2])
def test_what_a_penalty_is_worth_is_the_same_for_every_stage(seen: dict[int, Any], world: int) -> None:
    """1/2 sum k (theta - theta*)^2 over all workers, of explicit steps; proximal ones cannot diverge."""
    truth = seen[1]["plain explicit"]["energy"]
    assert truth > 0
    for stage in range(4):
        assert seen[world][f"explicit fp32 {stage}"]["energy"] == pytest.approx(truth, rel=1e-4), stage
        assert "energy" not in seen[world][f"proximal fp32 {stage}"]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("step", ["explicit", "proximal"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_holds_from_its_fp32_masters(
    seen: dict[int, Any], world: int, step: str, precision: str
) -> None:
    """fp16 with DeepSpeed's loss scale, which the penalty must not be multiplied or divided by."""
    plain = seen[1][f"plain {step}"]["losses"]
    for stage in (1, 2, 3):
        assert apart(seen[world][f"{step} {precision} {stage}"]["losses"], plain) < NEAR, stage


def test_the_path_of_synaptic_intelligence_is_the_same_for_every_stage_and_world(
    seen: dict[int, Any],
) -> None:
    truth = seen[1]["si fp32 0"]["path"]
    assert max(truth) > 0
    for world in (1, 2):
        for stage in range(4):
            assert seen[world][f"si fp32 {stage}"]["path"] == pytest.approx(truth, rel=1e-3, abs=1e-5), stage


@pytest.mark.parametrize("world", [1, 2])
def test_blocks_hold_whole_weights_and_are_refused_where_there_are_shards(
    seen: dict[int, Any], world: int
) -> None:
    """At a lambda of 1e9 the weights stand on their centre, from which they began 0.05 away."""
    assert seen[world]["kfac"]["off"] < 1e-3
    assert apart(seen[world]["kfac"]["losses"], seen[world]["free"]["losses"]) > 100 * SAME
    assert "kfac holds whole weights" in seen[world]["kfac"]["refused"]


@pytest.mark.parametrize("world", [1, 2])
def test_a_path_goes_on_from_its_checkpoint(seen: dict[int, Any], world: int) -> None:
    for whole, again in seen[world]["resumed"].values():
        assert again == whole

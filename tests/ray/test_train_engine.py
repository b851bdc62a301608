"""The DeepSpeed engine on one and two gloo ranks, beside plain torch. A GPU and NCCL are not covered."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ray.engine_matrix import HALF, REPEATS, STEPS
from tutelage.testing import tiny_classifier

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
SAME = 1e-5
"""Largest loss difference that fp32 sums in another order may make over the steps."""
NEAR = 1e-2
"""The same for bf16, whose numbers have 8 bits: twice what is seen."""


def launch(module: str, folder: Path, world: int, result: str) -> dict[str, Any]:
    """Run one gloo group of real processes to its end; what rank 0 wrote."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "platform")])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", module, str(folder), str(rank), str(world)],
            env={**os.environ, "PYTHONPATH": path, "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]
    try:
        said = [rank.communicate(timeout=240)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert [rank.returncode for rank in ranks] == [0] * world, "\n".join(text[-2000:] for text in said)
    seen: dict[str, Any] = json.loads((folder / result).read_text())
    return seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    """What one and two ranks saw; the single rank also goes on from what the two saved."""
    folder = tmp_path_factory.mktemp("engine")
    tiny_classifier(folder / "model", seed=1)
    return {w: launch("tests.ray.engine_matrix", folder, w, f"world-{w}.json") for w in (2, 1)}


def apart(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("world", [1, 2])
def test_every_stage_trains_as_plain_torch(seen: dict[int, dict[str, Any]], world: int) -> None:
    """fp32: same losses for ZeRO 0 to 3, with and without clipping, accumulation and frozen weights."""
    trainings = seen[world]["fp32"]
    assert len(trainings) == 4 + 8 + 3 * 3
    for name, training in trainings.items():
        settings = name[name.index("clip=") :]
        assert apart(training["losses"], trainings[f"torch {settings}"]["losses"]) < SAME, name


def test_clipping_makes_a_difference(seen: dict[int, dict[str, Any]]) -> None:
    """The trajectories of clip 1, 0.05 and off differ, so that agreeing with torch says something."""
    plain = {name: t["losses"] for name, t in seen[1]["fp32"].items() if name.startswith("torch")}
    one, small, off, frozen = plain.values()
    assert min(apart(one, small), apart(one, off), apart(small, off), apart(one, frozen)) > 100 * SAME


@pytest.mark.parametrize("world", [1, 2])
def test_weights_are_whole_and_fp32(seen: dict[int, dict[str, Any]], world: int) -> None:
    """`weights` gives every tensor of the model in fp32 after any stage, equal to plain torch."""
    trainings = {n: t for n, t in seen[world]["fp32"].items() if not n.startswith("torch")}
    for name, training in trainings.items():
        assert training["missing"] == [], name
        assert training["types"] == ["torch.float32"], name
        assert training["apart"] < SAME, name


def test_frozen_weights_stay(seen: dict[int, dict[str, Any]]) -> None:
    """With embeddings and layer 0 frozen, exactly the others move, under every stage."""
    for name, training in seen[2]["fp32"].items():
        if "torch" in name:
            continue
        still_moves = [w for w in training["moved"] if "embeddings" in w or "layer.0." in w]
        assert bool(still_moves) != ("frozen=True" in name), name
        assert "classifier.weight" in training["moved"], name


@pytest.mark.parametrize("world", [1, 2])
def test_bf16_follows_fp32(seen: dict[int, dict[str, Any]], world: int) -> None:
    """ZeRO 0, 2 and 3 in bf16 stay near fp32, and `weights` gives the fp32 masters, not rounded ones."""
    exact = seen[world]["fp32"]["torch clip=1.0 frozen=False"]["losses"]
    for name, training in seen[world]["bf16"].items():
        assert 1e-6 < apart(training["losses"], exact) < NEAR, name
        assert training["unrounded"] > 30, name


def test_zero_3_in_bf16_is_the_same_every_time(seen: dict[int, dict[str, Any]]) -> None:
    """Two ranks, ZeRO 3, bf16: each repetition gives the same losses, to the last bit."""
    runs = [t["losses"] for n, t in seen[2]["bf16"].items() if n.startswith("zero=3")]
    assert len(runs) == REPEATS
    assert all(run == runs[0] for run in runs)


@pytest.mark.parametrize("world", [1, 2])
def test_a_resumed_training_goes_on_bit_for_bit(seen: dict[int, dict[str, Any]], world: int) -> None:
    """save and load in the middle change no loss, for every stage and type."""
    assert len(seen[world]["resumed"]) == (6 if world == 2 else 2)
    for name, (whole, resumed) in seen[world]["resumed"].items():
        assert len(whole) == STEPS - HALF, name
        assert resumed == whole, name


def test_one_worker_goes_on_from_what_two_saved(seen: dict[int, dict[str, Any]]) -> None:
    """Sharded or not, the state of two workers resumes on one: the losses are those of two."""
    for name, losses in seen[1]["converted"].items():
        whole, _ = seen[2]["resumed"][name]
        assert apart(losses, whole) < (SAME if "fp32" in name else NEAR), name


def test_a_student_on_a_cpu_finds_its_pages_again(seen: dict[int, dict[str, Any]]) -> None:
    """An array of 64 MiB after a training: 16,384 pages, which all fault where memory is given back."""
    assert platform.libc_ver()[0] != "glibc" or seen[1]["faults"] < 1000


@pytest.mark.parametrize("world", [1, 2])
def test_a_gradient_that_is_no_number_is_seen_before_the_step_under_every_stage(
    seen: dict[int, Any], world: int
) -> None:
    """One rank's loss is NaN: before anything has moved, at least one rank holds a shard that shows it."""
    assert len(seen[world]["unsound"]) == 6
    for name, found in seen[world]["unsound"].items():
        assert found["ranks"] >= 1, name
        assert found["moved"] == [], name

"""SIGKILL for replicas at random moments of a real training: the loss trajectory keeps every bit.

fp32 on CPU with one thread. Killed students are part of test_train_fit, hung replicas of test_fleet.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from actors.board import NoBoard
from actors.session import Session
from actors.student import fit_all
from tests.ray import train_samples as sample
from tests.ray.gates import KillingMembers

pytestmark = pytest.mark.ray

SEEDS = {"one": 11, "two": 23}
KILLS = 3
"""For each teacher."""


def test_random_kills_change_no_bit(
    cluster: Session, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two replicas a teacher; a replica is killed within 20 ms of a question."""
    space = sample.workspace(tmp_path)
    work = {name: sample.training(space, name) for name in ("calm", "chaos")}
    with (
        sample.running(sample.fleet(space)) as calm,
        sample.running(sample.fleet(space, one=2, two=2)) as fleet,
    ):
        logs = {name: tmp_path / f"{name}.kills" for name in SEEDS}
        killing = {
            name: KillingMembers(fleet.members[name], seed, KILLS, str(logs[name]))
            for name, seed in SEEDS.items()
        }
        with ThreadPoolExecutor(2) as pool:
            undisturbed = pool.submit(fit_all, {"it": work["calm"]}, calm.members, NoBoard())
            disturbed = pool.submit(fit_all, {"it": work["chaos"]}, killing, NoBoard())
            expected: dict[str, Any] = undisturbed.result(200)["it"]
            found: dict[str, Any] = disturbed.result(200)["it"]
        kills = {name: len(set(log.read_text().split())) for name, log in logs.items()}
        state = fleet.state()
    retries = {name: found["teachers"][name]["retries"] for name in SEEDS}
    with capsys.disabled():
        print(f"\nseeds {SEEDS}, kills {kills}, retries {retries}, fleet {state}")
    assert all(1 <= number <= KILLS for number in kills.values())
    assert sum(kills.values()) >= 4
    assert sum(retries.values()) >= 1
    assert {name: state[name]["respawns"] for name in SEEDS} == kills
    assert found["points"] == expected["points"]
    assert len(found["points"]) == 2 * sample.STEPS_PER_EPOCH
    assert {name: counted["examples"] for name, counted in found["teachers"].items()} == {
        "one": 160,
        "two": 160,
    }

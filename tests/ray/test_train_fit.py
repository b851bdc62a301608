"""A distillation on Ray Train gives one trajectory: with other replicas, workers, stores, and after kills.

Everything is fp32 on CPU with one thread. Several nodes and GPUs are not covered.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from actors.board import NoBoard
from actors.session import Session
from actors.student import fit_all
from tests.ray import train_samples as sample
from tutelage.errors import TrainError

pytestmark = pytest.mark.ray

SAME = 1e-5
"""Largest loss difference that sums in another order may make over the 40 steps."""
STEPS = 2 * sample.STEPS_PER_EPOCH


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenised job."""
    return sample.workspace(tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def calm(space: Any, cluster: Session) -> dict[str, dict[str, Any]]:
    """Undisturbed runs side by side, cold stores: on one worker, and on two."""
    trainings = {
        "one": sample.training(space, "calm-one"),
        "two": sample.training(space, "calm-two", workers=2, micro_batch_size=2),
    }
    with sample.running(sample.fleet(space)) as fleet:
        return fit_all(trainings, fleet.replicas, NoBoard())


def _apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    losses = [[point["loss"] for point in result["points"]] for result in (one, other)]
    return max(abs(a - b) for a, b in zip(*losses, strict=True))


def test_each_text_is_scored_once(calm: dict[str, dict[str, Any]]) -> None:
    """Two epochs on 160 texts cost each teacher 160 texts, whatever the number of workers."""
    for result in calm.values():
        assert [point["step"] for point in result["points"]] == list(range(1, STEPS + 1))
        assert {name: counted["examples"] for name, counted in result["teachers"].items()} == {
            "one": 160,
            "two": 160,
        }


def test_the_student_learns(calm: dict[str, dict[str, Any]], space: Any) -> None:
    """The loss falls, and the result stands in the model folder."""
    losses = [point["loss"] for point in calm["one"]["points"]]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert (space.runs / "calm-one" / "model" / "result.json").exists()


def test_two_workers_train_as_one(calm: dict[str, dict[str, Any]]) -> None:
    """The losses of two workers with half the batch each are those of one."""
    assert calm["two"]["workers"] == 2
    assert _apart(calm["one"], calm["two"]) < SAME


def test_a_warm_store_asks_no_teacher_and_changes_no_bit(calm: dict[str, dict[str, Any]], space: Any) -> None:
    """With the signals of the first run the same losses come out, and nobody is asked."""
    warm = sample.training(space, "warm", signals="calm-one")
    result = fit_all({"it": warm}, {"one": [], "two": []}, NoBoard())["it"]
    assert {name: counted["calls"] for name, counted in result["teachers"].items()} == {"one": 0, "two": 0}
    assert result["points"] == calm["one"]["points"]


def test_killed_teachers_change_no_bit(calm: dict[str, dict[str, Any]], space: Any) -> None:
    """One of three replicas, and the only replica of the other teacher, die in mid-run."""
    with sample.running(sample.fleet(space, one=3)) as fleet:
        cards = fleet.ready(60)
        assert [card["replica"] for card in cards] == ["one-0", "one-1", "one-2", "two-0"]

        def kill(_student: int) -> None:
            for card in (cards[1], cards[3]):
                os.kill(int(card["pid"]), signal.SIGKILL)

        run = sample.disturb(sample.training(space, "killed-teachers"), fleet, 15, kill)
        again = fleet.ready(60)
    assert run.result["points"] == calm["one"]["points"]
    assert run.result["teachers"]["two"]["retries"] > 0
    assert [card["pid"] for card in again][::2] == [card["pid"] for card in cards][::2]
    assert again[3]["pid"] != cards[3]["pid"]


def test_a_killed_student_goes_on_from_its_checkpoint(calm: dict[str, dict[str, Any]], space: Any) -> None:
    """SIGKILL for the only worker in mid-run: the next one starts behind a checkpoint, and no bit changes."""
    with sample.running(sample.fleet(space)) as fleet:
        work = sample.training(space, "killed-student", max_failures=1)
        run = sample.disturb(work, fleet, 30, lambda pid: os.kill(pid, signal.SIGKILL))
    assert run.result["points"] == calm["one"]["points"]
    # Asked 30 times with 2 in each step: 14 steps are done, and those of the last checkpoints may be lost.
    assert run.later_posts[0]["step"] in (6, 11)


def test_a_run_goes_on_with_another_number_of_workers(calm: dict[str, dict[str, Any]], space: Any) -> None:
    """One of two workers dies for good: TrainError says so; repeated on one worker the run goes on."""
    work = {"workers": 2, "micro_batch_size": 2, "zero_stage": 2, "max_failures": 0}
    with sample.running(sample.fleet(space)) as fleet:
        begin = time.monotonic()
        with pytest.raises(TrainError, match="two-then-one") as caught:
            sample.disturb(
                sample.training(space, "two-then-one", **work),
                fleet,
                60,
                lambda pid: os.kill(pid, signal.SIGKILL),
            )
        assert time.monotonic() - begin < 90
        assert "goes on from the last checkpoint" in caught.value.fix
        result = fit_all(
            {"it": sample.training(space, "two-then-one", zero_stage=2)}, fleet.replicas, NoBoard()
        )["it"]
    assert result["workers"] == 1
    assert 0 < result["teachers"]["one"]["examples"] < 160
    assert _apart(result, calm["one"]) < SAME


def test_a_finished_run_is_not_trained_again(calm: dict[str, dict[str, Any]], space: Any) -> None:
    """The same run once more takes no step and gives the same points."""
    before = calm["one"]
    result = fit_all({"it": sample.training(space, "calm-one")}, {"one": [], "two": []}, NoBoard())["it"]
    assert result["points"] == before["points"]
    assert result["seconds"] == before["seconds"]
    assert Path(space.runs / "calm-one" / "model" / "result.json").exists()

"""Small teachers in one process: they answer as alone, die together, and come back apart."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.channel import TeacherChannel
from actors.distill import teacher_specs
from actors.fleet import Fleet
from actors.session import Session
from actors.teacher import Teacher
from tests.ray import train_samples as sample
from tests.ray.test_fleet import DENSE, question, until
from tests.unit.stream_samples import logits
from tutelage.config.runtime import StreamConfig
from tutelage.errors import TeacherError

pytestmark = pytest.mark.ray

STREAM = StreamConfig(backoff_s=0.2, hedge_after=None)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenised job."""
    return sample.workspace(tmp_path_factory.mktemp("host"))


def plans(space: Any) -> list[Any]:
    """Both teachers of the sample, which may share a process, one of them with two replicas."""
    most = {"one": 2, "two": 1}
    return [
        (spec, config.model_copy(update={"share_process": None, "min_replicas": most[spec.name]}))
        for spec, config in zip(teacher_specs(space, {}), space.job.teachers, strict=True)
    ]


def test_a_killed_process_costs_its_teachers_no_answer(space: Any, cluster: Session) -> None:
    """One process for one-0 and two-0, and one for one-1; after a SIGKILL each has its own, same bits."""
    with sample.running(Fleet(plans(space), STREAM)) as fleet:
        cards = {card["replica"]: card["pid"] for card in fleet.ready(60)}
        assert cards["one-0"] == cards["two-0"] != cards["one-1"]
        channels = {name: TeacherChannel(name, fleet.members[name], DENSE, STREAM) for name in ("one", "two")}
        wanted = {
            spec.name: logits(Teacher(spec).score(question()).packet).tobytes() for spec, _ in plans(space)
        }
        os.kill(int(cards["two-0"]), signal.SIGKILL)
        for name, channel in channels.items():
            assert logits(channel.take(channel.ask(question()))).tobytes() == wanted[name]
        until(lambda: len(fleet.ready(60)) == 3, 30, "the fleet is not whole again")
        after = {card["replica"]: card["pid"] for card in fleet.ready(60)}
        assert after["one-1"] == cards["one-1"]
        assert len(set(after.values())) == 3
        for name, channel in channels.items():
            assert logits(channel.take(channel.ask(question()))).tobytes() == wanted[name]


def test_a_teacher_that_cannot_load_leaves_its_neighbours(
    space: Any, cluster: Session, tmp_path: Path
) -> None:
    """The others of its process go on answering, which is what `on_loss: degrade` needs."""
    (one, config), (two, other) = plans(space)
    broken = replace(two, model=str(tmp_path / "nothing"))
    single = config.model_copy(update={"min_replicas": 1})
    with sample.running(Fleet([(one, single), (broken, other)], STREAM)) as fleet:
        with pytest.raises(TeacherError, match="nothing"):
            fleet.ready(60)
        channel = TeacherChannel("one", fleet.members["one"], DENSE, STREAM)
        wanted = logits(Teacher(one).score(question()).packet).tobytes()
        assert logits(channel.take(channel.ask(question()))).tobytes() == wanted
        assert fleet.state()["one"]["respawns"] == 0

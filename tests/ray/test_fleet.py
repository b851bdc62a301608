"""A fleet on Ray: it loads, answers as a local teacher does, replaces, grows, shrinks, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from actors.channel import TeacherChannel
from actors.distill import teacher_specs
from actors.fleet import Fleet
from actors.members import RayMembers
from actors.session import Session
from actors.teacher import Teacher
from tests.ray import train_samples as sample
from tests.ray.leftovers import living_actors
from tests.unit.stream_samples import digest, logits
from tutelage.config.runtime import StreamConfig
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.spec import PayloadSpec
from tutelage.testing import tiny_texts

pytestmark = pytest.mark.ray

TEXTS = [row["text"] for row in tiny_texts(12)]
DENSE = PayloadSpec("dense", 2)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tokenised job."""
    return sample.workspace(tmp_path_factory.mktemp("fleet"))


def question(texts: list[str] = TEXTS) -> Request:
    digests = [digest(text) for text in texts]
    return Request(batch_digest(digests), digests, np.ones(len(texts), np.int32), DENSE, texts=texts)


def until(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Look again and again until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_each_replica_answers_as_a_local_teacher_to_the_last_bit(space: Any, cluster: Session) -> None:
    with sample.running(sample.fleet(space, one=2)) as fleet:
        cards = fleet.ready(60)
        assert [card["replica"] for card in cards] == ["one-0", "one-1", "two-0"]
        assert len({card["pid"] for card in cards}) == 3
        for spec in teacher_specs(space, {}):
            local = logits(Teacher(spec).score(question()).packet)
            for remote in fleet.members[spec.name].current().replicas:
                reply = remote.ask(question()).take(60)
                assert logits(reply.packet).tobytes() == local.tobytes()
                assert (reply.teacher, reply.replica) == (spec.name, remote.name)


def test_logits_stand_in_the_order_of_the_task(space: Any) -> None:
    """Teacher `two` counts its classes the other way round; its columns are swapped on the way."""
    spec = teacher_specs(space, {})[1]
    assert spec.label_order == (1, 0)
    in_task_order = logits(Teacher(spec).score(question()).packet)
    in_own_order = logits(Teacher(replace(spec, label_order=(0, 1))).score(question()).packet)
    assert np.array_equal(in_task_order, in_own_order[:, ::-1])


def test_a_teacher_that_cannot_load_says_why(space: Any, cluster: Session, tmp_path: Path) -> None:
    """`ready` names the teacher's folder and the reason, long before its deadline."""
    spec = replace(teacher_specs(space, {})[0], model=str(tmp_path / "nothing"))
    begin = time.monotonic()
    with (
        sample.running(Fleet([(spec, space.job.teachers[0])])) as fleet,
        pytest.raises(TeacherError, match="nothing") as caught,
    ):
        fleet.ready(60)
    assert time.monotonic() - begin < 45
    assert "cannot be loaded" in caught.value.problem


def test_a_question_that_the_code_refuses_ends_at_once_and_starts_no_replica_anew(
    space: Any, cluster: Session
) -> None:
    """A column that the model has not: an IndexError of the teacher's own code, from its own process."""
    spec = replace(teacher_specs(space, {})[0], label_order=(0, 1, 2))
    with sample.running(Fleet([(spec, space.job.teachers[0])])) as fleet:
        fleet.ready(60)
        channel = TeacherChannel(spec.name, fleet.members[spec.name], DENSE, StreamConfig())
        with pytest.raises(TeacherError, match=r"cannot answer batch .*-0: IndexError: index 2 is out of"):
            channel.take(channel.ask(question()))
        assert channel.counters.retries == 0
        assert fleet.state()[spec.name]["respawns"] == 0


def test_a_fleet_too_large_for_the_cluster_says_what_is_free(space: Any, cluster: Session) -> None:
    spec, config = teacher_specs(space, {})[0], space.job.teachers[0].model_copy(update={"num_cpus": 64})
    with (
        sample.running(Fleet([(spec, config)], StreamConfig(start_s=2))) as fleet,
        pytest.raises(TeacherError, match=r"not loaded within 2 s .* CPUs and 0 GPUs free"),
    ):
        fleet.ready(30)


def test_a_stopped_replica_and_a_killed_supervisor_change_no_bit(space: Any, cluster: Session) -> None:
    """SIGSTOP is a hang: the deadline finds it, and it is replaced. A new supervisor starts a new fleet."""
    spec, config = teacher_specs(space, {})[0], space.job.teachers[0]
    stream = StreamConfig(deadline_s=1.5, backoff_s=0.2, hedge_after=None)
    local = logits(Teacher(spec).score(question()).packet).tobytes()
    with sample.running(Fleet([(spec, config)], stream)) as fleet:
        pid = int(fleet.ready(60)[0]["pid"])
        channel = TeacherChannel("one", fleet.members["one"], DENSE, stream)
        assert logits(channel.take(channel.ask(question()))).tobytes() == local
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        try:
            assert logits(channel.take(channel.ask(question()))).tobytes() == local
        finally:
            _end(pid)
        assert 1.5 <= time.monotonic() - begin < 30
        assert channel.counters.retries == 1
        assert fleet.state()["one"]["respawns"] == 1
        ray.kill(fleet._supervisor, no_restart=False)
        until(lambda: _restarted(fleet), 30, "the supervisor is not started again")
        assert logits(channel.take(channel.ask(question()))).tobytes() == local


def test_the_fleet_grows_under_load_and_shrinks_after_it(space: Any, cluster: Session) -> None:
    """From one replica to two while questions wait, and back; no question is lost or asked twice."""
    spec = teacher_specs(space, {})[0]
    config = space.job.teachers[0].model_copy(update={"min_replicas": 1, "max_replicas": 2})
    stream = StreamConfig(target_wait_s=0.005, idle_s=1.0, hedge_after=None)
    with sample.running(Fleet([(spec, config)], stream)) as fleet:
        fleet.ready(60)
        channel = TeacherChannel("one", fleet.members["one"], DENSE, stream)
        wanted = logits(Teacher(spec).score(question(TEXTS * 20)).packet).tobytes()
        end = time.monotonic() + 40
        while len(set(fleet.members["one"].current().replicas)) < 2:
            assert time.monotonic() < end, "no replica was added"
            ahead = [channel.ask(question(TEXTS * 20)) for _ in range(12)]
            assert {logits(channel.take(one)).tobytes() for one in ahead} == {wanted}
        assert fleet.state()["one"]["added"] == 1
        until(lambda: fleet.state()["one"]["removed"] == 1, 30, "no replica was removed")
        until(lambda: len(fleet.members["one"].current().replicas) == 1, 10, "it may still be asked")
        until(lambda: fleet.state()["one"]["draining"] == 0, 20, "it was not ended")
        assert logits(channel.take(channel.ask(question(TEXTS * 20)))).tobytes() == wanted
        assert (channel.counters.retries, fleet.state()["one"]["respawns"]) == (0, 0)


def test_another_process_hears_of_the_same_fleet(space: Any, cluster: Session) -> None:
    """Members travel by pickle; a worker that gets them may ask at once."""
    with sample.running(sample.fleet(space)) as fleet:
        fleet.ready(60)

        def names(members: RayMembers) -> list[str]:
            return [replica.name for replica in members.current().replicas]

        task: Any = ray.remote(num_cpus=0)(names)
        assert ray.get(task.remote(fleet.members["one"]), timeout=60) == ["one-0"]


def test_a_driver_that_is_killed_leaves_nothing(space: Any, cluster: Session) -> None:
    """SIGKILL for the process that made the fleet: supervisor and replicas end with it."""
    before = set(living_actors())
    code = (
        "import pickle, sys, ray; from actors.fleet import Fleet;"
        f"ray.init(address={ray.get_runtime_context().gcs_address!r}, log_to_driver=False);"
        "fleet = Fleet(pickle.load(sys.stdin.buffer)); fleet.ready(60);"
        "print('ready', flush=True); sys.stdin.read(); import time; time.sleep(600)"
    )
    import pickle

    plans = [(teacher_specs(space, {})[0], space.job.teachers[0].model_copy(update={"min_replicas": 2}))]
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert driver.stdin is not None
        assert driver.stdout is not None
        driver.stdin.write(pickle.dumps(plans))
        driver.stdin.close()
        assert driver.stdout.readline() == b"ready\n"
        assert len(set(living_actors()) - before) == 3
    finally:
        driver.kill()
        driver.wait(20)
        assert driver.stdout is not None
        driver.stdout.close()
    until(lambda: not set(living_actors()) - before, 20, "actors of a dead driver live on")


def _restarted(fleet: Fleet) -> bool:
    try:
        state = fleet.state()["one"]
    except ray.exceptions.RayError:
        return False
    # The old one, which still answers for a moment, has replaced a replica; the new one has not.
    return (state["replicas"], state["respawns"]) == (1, 0)


def _end(pid: int) -> None:
    """The stopped process, where Ray has not ended it."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

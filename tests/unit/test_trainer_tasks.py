"""Every task goes through the whole stream with every payload that serves it, and the student learns."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.task_jobs import TASKS, task_run, task_space
from tutelage.errors import ConfigError, TeacherError

pytestmark = pytest.mark.unit

DENSE = {"type": "dense"}
CAUSAL_PAYLOADS: dict[str, dict[str, Any]] = {
    "dense": DENSE,
    "bf16": {"type": "dense", "dtype": "bf16"},
    "int8": {"type": "dense", "dtype": "int8"},
    "hidden": {"type": "hidden", "dtype": "fp32"},
    "topk": {"type": "topk", "k": 8},
    "mixture": {"type": "sampled", "draws": 12},
    "own draws": {"type": "sampled", "draws": 12, "mixture": "no"},
}


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.mark.parametrize("task", TASKS)
def test_the_student_moves_towards_its_teachers(top: Path, task: str) -> None:
    """With the planner's own payload, the second epoch's loss is below the first one's; all is asked once.

    The loss of draws has the teachers' entropy in it, which no student can learn away.
    """
    run = task_run(task_space(top / task, task))
    run.go()
    half = len(run.losses) // 2
    assert sum(run.losses[half:]) < (0.98 if task == "causal-lm" else 0.9) * sum(run.losses[:half])
    rows = run.trainer._chosen.rows
    different = len(set(run.trainer._examples.digests(rows)))
    for channel in run.stream.channels:
        assert channel.counters.examples == different
        assert channel.counters.cached == 2 * len(rows) - different


def test_every_exact_payload_gives_one_trajectory(top: Path) -> None:
    """Hidden states with the head applied by the student, and int8, differ from dense by rounding alone."""
    losses = {}
    for name in ("dense", "bf16", "int8", "hidden"):
        run = task_run(task_space(top / f"exact-{name}", "causal-lm", payload=CAUSAL_PAYLOADS[name]))
        run.go()
        losses[name] = run.losses
    assert losses["hidden"] == pytest.approx(losses["dense"], rel=1e-4)
    assert losses["bf16"] == pytest.approx(losses["dense"], rel=2e-2)
    assert losses["int8"] == pytest.approx(losses["dense"], rel=2e-2)


@pytest.mark.parametrize("name", ["topk", "mixture", "own draws"])
def test_drawn_and_cut_payloads_teach_as_well(top: Path, name: str) -> None:
    run = task_run(task_space(top / f"drawn-{name}", "causal-lm", payload=CAUSAL_PAYLOADS[name]))
    run.go()
    half = len(run.losses) // 2
    assert sum(run.losses[half:]) < sum(run.losses[:half])
    again = task_run(task_space(top / f"drawn-{name}", "causal-lm", payload=CAUSAL_PAYLOADS[name]))
    again.go()
    assert again.losses == run.losses


def test_a_mixture_costs_the_same_bytes_for_one_teacher_and_for_three(top: Path) -> None:
    received = []
    for teachers in (1, 3):
        space = task_space(
            top / f"mixture-{teachers}", "causal-lm", teachers=teachers, payload=CAUSAL_PAYLOADS["mixture"]
        )
        run = task_run(space, epochs=1)
        run.go()
        counted = [channel.counters for channel in run.stream.channels]
        digests = sum(16 * c.calls for c in counted)
        received.append(sum(c.bytes_received for c in counted) - digests)
        positions = counted[0].positions
        assert received[-1] == 12 * 2 * positions
    assert received[0] == received[1]


def test_micro_batches_do_not_change_the_loss(top: Path) -> None:
    """Texts differ in length, so a mean of means over micro-batches would."""
    space = task_space(top / "micro", "causal-lm", payload=DENSE)
    whole, split = task_run(space), task_run(space, micro_batch_size=2)
    whole.go()
    split.go()
    assert split.losses == pytest.approx(whole.losses, rel=1e-4)


def test_a_biased_combination_is_refused_before_anything_is_loaded(top: Path) -> None:
    space = task_space(
        top / "refused",
        "causal-lm",
        payload=CAUSAL_PAYLOADS["mixture"],
        objectives=[{"type": "jsd", "beta": 0.5}],
    )
    with pytest.raises(ConfigError, match="draws bias them"):
        task_run(space)


OWN = {"on_policy": {"fraction": 0.5, "max_new_tokens": 6}, "objectives": [{"type": "jsd", "beta": 0.5}]}


def test_on_policy_steps_are_scored_by_the_same_stream_and_kept_by_no_store(top: Path) -> None:
    run = task_run(task_space(top / "own", "causal-lm", **OWN))
    run.go()
    assert all(loss > 0 for loss in run.losses)
    rollout = run.trainer._rollout
    assert rollout is not None
    sizes = [len(batch) for epoch in range(2) for batch in run.trainer._plan.epoch(epoch)]
    written = sum(size for step, size in enumerate(sizes) if rollout.chosen(step))
    assert 0 < written < sum(sizes)
    for channel in run.stream.channels:
        stored = len(run.stream._stores[channel.name])  # type: ignore[arg-type]
        assert channel.counters.examples == stored + written


def test_a_resumed_on_policy_run_repeats_the_same_numbers(top: Path) -> None:
    """The student writes with the weights of the step, so a checkpoint in between changes nothing."""
    space = task_space(top / "resumed", "causal-lm", **OWN)
    whole = task_run(space, checkpoint_every=3)
    whole.go()
    state, _, engine = whole.kept.checkpoints[0]
    assert state.step == 3
    rest = task_run(space, checkpoint_every=3)
    rest.engine.take_up(engine)
    rest.state = copy.deepcopy(state)
    rest.go()
    assert rest.losses == whole.losses


def test_on_policy_alone_brings_the_students_own_texts_nearer_to_the_teachers(top: Path) -> None:
    sections = OWN | {"on_policy": {"fraction": 1.0, "max_new_tokens": 6}}
    run = task_run(task_space(top / "all-own", "causal-lm", **sections), epochs=6)
    run.go()
    assert sum(run.losses[-6:]) < 0.8 * sum(run.losses[:6])


def test_a_teacher_that_covers_nothing_is_told_and_not_ignored(top: Path) -> None:
    """Its texts are cut before the first position, so every loss would be that of the others alone."""
    space = task_space(top / "silent", "causal-lm", payload=DENSE, rows=260)
    silent = space.job.teachers[1].model_copy(update={"max_tokens": 1})
    job = space.job.model_copy(update={"teachers": [space.job.teachers[0], silent]})
    run = task_run(replace(space, job=job), batch_size=4)
    with pytest.raises(TeacherError, match="'t1' covered no position of 20 batches") as caught:
        run.go()
    assert "teachers.t1.max_tokens" in caught.value.fix

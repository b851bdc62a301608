"""The planner takes the cheapest payload that is right, and says why with figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.payloads import arithmetic
from tests.unit.payload_samples import request, rows
from tests.unit.planner_samples import CONFIDENCE, JSD1, KL1, KL2, SAMPLED, SCHEDULED, job, teachers
from tutelage.config.objectives import (
    JSD,
    KL,
    Objective,
    Uniform,
    Validated,
    Weighted,
)
from tutelage.config.payload import (
    AutoPayload,
    DensePayload,
    HiddenPayload,
    Payload,
    SampledPayload,
    TopKPayload,
)
from tutelage.config.schedule import Linear
from tutelage.signals.payloads import encode
from tutelage.signals.planner import Planned, TeacherFacts, mixture_name, plan
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit


def auto(count: int, **facts: Any) -> list[TeacherFacts]:
    return teachers(*[AutoPayload()] * count, **facts)


def kinds(found: list[Planned]) -> list[tuple[str, str]]:
    return [(one.spec.kind, one.spec.dtype) for one in found]


# What is chosen


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification", "question-answering"])
@pytest.mark.parametrize("objectives", [KL2, JSD1, SCHEDULED])
def test_classifiers_send_all_logits_in_fp32(task: str, objectives: list[Objective]) -> None:
    found = plan(auto(3, width=5, hidden=None), job(task=task, objectives=objectives))
    assert kinds(found) == [("dense", "fp32")] * 3
    assert [one.position_bytes for one in found] == [20] * 3


@pytest.mark.parametrize("count", [1, 3])
def test_language_models_draw_together_for_forward_kl(count: int) -> None:
    found = plan(auto(count), job(objectives=KL1))
    assert [one.spec.kind for one in found] == ["sampled"] * count
    assert [one.spec.member for one in found] == list(range(count))
    assert {(s.entries, s.temperature, s.seed, bool(s.mixture)) for s in (one.spec for one in found)} == {
        (12, 1.0, 0, True)
    }
    assert sum(one.position_bytes for one in found) == pytest.approx(36)


def test_above_temperature_1_language_models_send_their_most_probable_labels() -> None:
    """Draws are far from the target there; `confidence` has no other choice, and a few classes are dense."""
    found = plan(auto(3), job(objectives=KL2))
    assert {(one.spec.kind, one.spec.entries, one.spec.temperature) for one in found} == {("topk", 64, 2.0)}
    assert "temperature 2, where few draws see too little" in found[0].line
    unsure = plan(auto(3), job(objectives=KL2, combiner=CONFIDENCE))
    assert {one.spec.kind for one in unsure} == {"sampled"}
    assert "far noisier at temperature 2 than at 1" in unsure[0].line
    assert plan(auto(1, width=64, hidden=None), job(objectives=KL2))[0].spec.kind == "sampled"


def test_weights_that_come_with_the_replies_make_teachers_draw_each_for_itself() -> None:
    found = plan(auto(3), job(combiner=CONFIDENCE))
    assert [one.spec.mixture for one in found] == [""] * 3
    assert len({one.spec.seed for one in found}) == 3
    assert [one.position_bytes for one in found] == [38] * 3


def test_jsd_takes_hidden_states_while_the_student_can_afford_the_heads() -> None:
    """Heads of 2 H V each against half of the student's own training FLOP."""
    head = 2 * 1024 * 151_936
    for student_flop, expected in ((4 * head, "hidden"), (4 * head - 1, "dense"), (None, "hidden")):
        found = plan(auto(2), job(objectives=JSD1, student_flop=student_flop))
        assert kinds(found) == [(expected, "bf16")] * 2
        assert [one.head_flop for one in found] == [head if expected == "hidden" else 0] * 2
    assert plan(auto(1), job(objectives=JSD1))[0].spec.width == 1024


def test_jsd_takes_dense_bf16_where_there_is_no_narrower_linear_head() -> None:
    assert kinds(plan(auto(1, hidden=None), job(objectives=JSD1))) == [("dense", "bf16")]
    assert kinds(plan(auto(1, width=500), job(objectives=JSD1))) == [("dense", "bf16")]


def test_a_jsd_of_weight_0_does_not_count() -> None:
    objectives = [JSD(type="jsd", weight=0), KL(type="kl", temperature=1)]
    assert plan(auto(1), job(objectives=objectives))[0].spec.kind == "sampled"


def test_a_temperature_that_follows_a_schedule_takes_a_payload_that_suits_any() -> None:
    """Draws and top-k are made at one temperature: hidden states, else all logits."""
    why = "the temperature of kl follows a schedule, and draws or a top-k serve a single one"
    for hidden, kind, reason in (
        (1024, "hidden", f"{why}, and the student can afford the heads"),
        (None, "dense", f"{why}, and the model has no linear head that is narrower"),
    ):
        found = plan(auto(2, hidden=hidden), job(objectives=SCHEDULED))
        assert kinds(found) == [(kind, "bf16")] * 2
        assert reason in found[0].line
        assert "draws" not in found[0].line.replace(why, "")
    assert "jsd looks at every label" in plan(auto(1), job(objectives=[*SCHEDULED, *JSD1]))[0].line


def test_a_schedule_that_stays_at_one_temperature_is_that_temperature() -> None:
    level: list[Objective] = [KL(type="kl", temperature=Linear(type="linear", start=2, end=2))]
    assert plan(auto(3), job(objectives=level)) == plan(auto(3), job(objectives=KL2))


def test_a_schedule_of_the_weight_does_not_matter_to_payloads() -> None:
    rising: list[Objective] = [
        KL(type="kl", temperature=1, weight=Linear(type="linear", start=0, end=1)),
        JSD(type="jsd", weight=Linear(type="linear", start=0, end=0)),
    ]
    assert plan(auto(3), job(objectives=rising)) == plan(auto(3), job(objectives=KL1))


def test_the_job_file_has_the_last_word() -> None:
    chosen = [
        DensePayload(type="dense", dtype="int8"),
        HiddenPayload(type="hidden"),
        TopKPayload(type="topk", k=25),
    ]
    found = plan(teachers(*chosen), job())
    assert [one.spec for one in found] == [
        PayloadSpec("dense", 151_936, "int8"),
        PayloadSpec("hidden", 1024, "bf16"),
        PayloadSpec("topk", 151_936, "fp16", 25, 2.0),
    ]
    assert all("as the job file says" in one.line for one in found)


def test_draws_beside_other_payloads_are_each_teachers_own() -> None:
    found = plan(teachers(SAMPLED, TopKPayload(type="topk")), job())
    assert found[0].spec.mixture == ""
    different = plan(teachers(SAMPLED, SampledPayload(type="sampled", draws=50)), job())
    assert [one.spec.mixture for one in different] == ["", ""]
    alone = plan(teachers(SampledPayload(type="sampled", mixture="no")), job())
    assert alone[0].spec.mixture == ""


def test_other_weights_are_another_mixture() -> None:
    measured = {"film": {"t0": 0.1, "t1": 0.5}}
    names = [
        mixture_name(Uniform(), ["t0", "t1"]),
        mixture_name(Uniform(), ["t1", "t0"]),
        mixture_name(Weighted(type="weighted", weights={"t0": 1, "t1": 2}), ["t0", "t1"]),
        mixture_name(Validated(type="validated"), ["t0", "t1"], measured),
        mixture_name(Validated(type="validated"), ["t0", "t1"], {"film": {"t0": 0.1, "t1": 0.6}}),
    ]
    assert len(set(names)) == 5
    assert names[0] == mixture_name(Uniform(), ["t0", "t1"])


# What it says


def test_the_line_has_the_figures_that_decided() -> None:
    told = job(objectives=KL1, link_mb_s=100, positions=10**6, epochs=3, store_mb=10)
    line = plan(auto(3), told)[0].line
    assert line == (
        "t0: sampled, 12 draws shared by the teachers, 12 B a token, at most 2,777,778 tokens/s by the link: "
        "an unbiased target for kl, in bytes that do not grow with teachers "
        "(all: dense bf16 911,616 B, hidden bf16 6,144 B, top-64 960 B, "
        "12 own draws 114 B, 12 shared draws 36 B; heads 933.5 MFLOP); "
        "an epoch takes 36.0 MB and the store keeps 10, so later epochs ask again"
    )
    hidden = plan(auto(2), job(objectives=JSD1, student_flop=2.5e9))[0].line
    assert "2,048 B a token" in hidden
    assert "heads 622.3 MFLOP, 25% of the student's training" in hidden
    assert "\n" not in line + hidden


def test_the_expected_rate_is_the_smaller_of_link_and_teacher() -> None:
    facts = [TeacherFacts("slow", 10, None, positions_s=50), TeacherFacts("quick", 10, None, positions_s=1e9)]
    slow, quick = plan(facts, job(task="sequence-classification", link_mb_s=8))
    assert (slow.positions_s, slow.limit) == (50, "teacher")
    assert (quick.positions_s, quick.limit) == (100_000, "link")  # 8 MB/s over 2 x 40 B
    assert plan(auto(1), job())[0].positions_s is None


def test_the_store_is_said_to_keep_an_epoch_where_it_does() -> None:
    line = plan(auto(3), job(objectives=KL1, positions=10**6, epochs=3, store_mb=40))[0].line
    assert line.endswith("; the store keeps an epoch in 36.0 MB")
    assert "epoch" not in plan(auto(3), job(positions=10**6, epochs=1, store_mb=10))[0].line


@pytest.mark.parametrize("width", [300, 70_000])
def test_planned_bytes_are_those_that_teachers_send(width: int) -> None:
    """To the byte, over all teachers together."""
    weighted = Weighted(type="weighted", weights={"t0": 1, "t1": 3, "t2": 2})
    chosen: list[list[Payload]] = [
        [AutoPayload()] * 3,
        [
            SampledPayload(type="sampled", mixture="no"),
            TopKPayload(type="topk", k=5),
            DensePayload(type="dense"),
        ],
        [
            DensePayload(type="dense", dtype="int8"),
            DensePayload(type="dense", dtype="bf16"),
            HiddenPayload(type="hidden"),
        ],
    ]
    for payloads in chosen:
        found = plan(teachers(*payloads, width=width, hidden=32), job(combiner=weighted))
        sent = 0
        for one in found:
            asked = request(one.spec, [7, 4], (1 / 6, 1 / 2, 1 / 3))
            sent += encode(one.spec, rows(one.spec, 11), np.array([7, 4], np.int32), asked).nbytes
        assert sent == pytest.approx(11 * sum(one.position_bytes for one in found), abs=1e-6)


def test_the_table_of_bytes_in_the_docs_is_what_the_code_computes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "payloads.md").read_text()
    assert arithmetic() in page


def test_planning_loads_no_torch() -> None:
    code = "import sys, tutelage.signals.planner; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""Which teachers share a process, and what a process with several of them does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.host import Plan, TeacherHost, shared
from actors.teacher import Teacher, TeacherSpec
from tests.unit.stream_samples import digest, logits
from tutelage.config.models import TeacherConfig
from tutelage.config.task import CausalLM, SequenceClassification
from tutelage.errors import ModelError
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.spec import PayloadSpec
from tutelage.testing import LABELS, tiny_classifier, tiny_model

pytestmark = pytest.mark.unit


def spec(name: str, model: str = "folder", threads: int = 1) -> TeacherSpec:
    return TeacherSpec(
        name, model, model, (), 24, threads, "0" * 16, SequenceClassification(labels=list(LABELS))
    )


def plan(name: str, threads: int = 1, **keys: Any) -> Plan:
    return spec(name, threads=threads), TeacherConfig.model_validate(
        {"name": name, "model": "folder", **keys}
    )


def names(plans: list[Plan]) -> list[list[str]]:
    return [[spec.name for spec, _ in group] for group in shared(plans)]


def test_teachers_share_a_process_while_they_fit_one_cpu() -> None:
    """Five fifths fit, to the last digit; a sixth opens another process, and shares it with a seventh."""
    five = [plan(f"t{n}", num_cpus=0.2) for n in range(5)]
    assert names(five) == [["t0", "t1", "t2", "t3", "t4"]]
    assert names([*five, plan("t5", num_cpus=0.2)]) == [["t0", "t1", "t2", "t3", "t4"]]
    seven = [*five, plan("t5", num_cpus=0.2), plan("t6", num_cpus=0.2)]
    assert names(seven) == [["t0", "t1", "t2", "t3", "t4"], ["t5", "t6"]]


@pytest.mark.parametrize(
    "other",
    [
        {"num_cpus": 1},
        {"num_cpus": 0.9},
        {"num_cpus": 0.1, "num_gpus": 1},
        {"num_cpus": 0.1, "num_gpus": 0.25},
        {"num_cpus": 0.1, "threads": 2},
        {"num_cpus": 0.1, "share_process": False},
    ],
    ids=["whole CPU", "too much together", "whole GPU", "sees a GPU", "other threads", "not wanted"],
)
def test_who_needs_something_else_lives_alone(other: dict[str, Any]) -> None:
    threads = other.pop("threads", 1)
    assert names([plan("small", num_cpus=0.2), plan("other", threads, **other)]) == []


def test_fractions_of_a_gpu_share_one_context() -> None:
    quarters = [plan(f"t{n}", num_cpus=0.1, num_gpus=0.25) for n in range(5)]
    assert names(quarters) == [["t0", "t1", "t2", "t3"]]


def test_a_job_may_ask_for_it() -> None:
    whole = [plan(name, num_cpus=1, share_process=True) for name in ("a", "b")]
    assert names(whole) == [["a", "b"]]


def test_each_teacher_answers_as_it_does_alone(tmp_path: Path) -> None:
    """To the bit; one that cannot be loaded says why, and the others stay."""
    specs = [spec(name, tiny_classifier(tmp_path / name, seed=n)) for n, name in enumerate(("one", "two"))]
    texts = ["a fine book", "not worth the paper"]
    digests = [digest(text) for text in texts]
    ones = np.ones(len(texts), np.int32)
    request = Request(batch_digest(digests), digests, ones, PayloadSpec("dense", 2), texts=texts)
    host = TeacherHost()
    cards = [host.load(each, f"{each.name}-0") for each in specs]
    assert [card["replica"] for card in cards] == ["one-0", "two-0"]
    # Random models have nothing in common; the third is the first one with another head.
    specs.append(spec("three", _other_head(specs[0].model, tmp_path / "three")))
    assert ["shared_layers" in card for card in cards] == [False, False]
    assert host.load(specs[2], "three-0")["shared_layers"] == "2"
    with pytest.raises(ModelError, match="nothing"):
        host.load(spec("four", str(tmp_path / "nothing")), "four-0")
    for each in specs:
        reply = host.score(each.name, request)
        assert logits(reply.packet).tobytes() == logits(Teacher(each).score(request).packet).tobytes()
        assert (reply.teacher, reply.replica) == (each.name, f"{each.name}-0")


def test_decoders_share_too(tmp_path: Path) -> None:
    """Teachers are asked without a cache of keys, which no other model could use."""
    model = tiny_model(tmp_path / "one", "causal-lm")
    specs = [
        TeacherSpec(name, model, model, (), 24, 1, "0" * 16, CausalLM(type="causal-lm"))
        for name in ("one", "two")
    ]
    ids = [np.array([4, 5, 6, 7], np.int32)]
    digests = [digest("a")]
    request = Request(
        batch_digest(digests), digests, np.array([3], np.int32), PayloadSpec("hidden", 16, "fp32"), ids=ids
    )
    host = TeacherHost()
    for each in specs:
        host.load(each, f"{each.name}-0")
    packets = [host.score(each.name, request).packet for each in specs]
    alone = Teacher(specs[0]).score(request).packet
    for packet in packets:
        assert packet.columns["hidden"].values.tobytes() == alone.columns["hidden"].values.tobytes()
    layers: Any = host._layers
    assert layers.recalled == layers.computed == 2


def _other_head(folder: str, target: Path) -> str:
    model = load_classifier(folder)
    model.classifier.bias.data += 1
    model.save_pretrained(target)
    load_tokenizer(folder).save_pretrained(target)
    return str(target)

"""Streams of increments: from --data, from a file, and what a scenario means for classes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.cli.update_order import job_of_stream
from tutelage.cli.update_stream import increments_of, merged
from tutelage.config.objectives import CrossEntropy
from tutelage.config.overrides import parse_override
from tutelage.config.update import Distil, UpdateConfig
from tutelage.config.update_stream import read_stream
from tutelage.continual.state import About, Learned
from tutelage.errors import ConfigError
from tutelage.objectives import Dense, Evidence, build_terms
from tutelage.objectives.competing import own_classes, spans
from tutelage.objectives.retain import RetainTerm

pytestmark = pytest.mark.unit

EXAMPLE = Path(__file__).parents[2] / "examples" / "streams" / "reviews.yaml"


def written(folder: Path, text: str) -> Path:
    path = folder / "stream.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_is_two_increments_with_their_own_keys() -> None:
    nyt, tweets = increments_of([], None, EXAMPLE)
    assert (nyt.name, tweets.name) == ("nyt", "tweets")
    assert "update.grow=false" in nyt.settings
    assert 'data.sources.nyt.splits={"train": 1200, "validation": 150, "test": 500}' in nyt.settings
    assert "update.train.lr=0.0001" in tweets.settings
    assert not any("lr" in word for word in nyt.settings)


def test_settings_are_read_back_as_they_were_meant(tmp_path: Path) -> None:
    text = "increments: [{data: a.csv, set: {update.train.lr: 1e-05, update.distil: null, name: 'a: b'}}]"
    (step,) = increments_of([], None, written(tmp_path, text))
    by_key = {one.key: one.value for one in map(parse_override, step.settings)}
    assert by_key["update.train.lr"] == 1e-5
    assert by_key["update.distil"] is None
    assert by_key["name"] == "a: b"


@pytest.mark.parametrize(
    ("scenario", "grow", "compete"),
    [("domain", "false", '"all"'), ("class", "true", '"all"'), ("task", "true", '"own"')],
)
def test_a_scenario_says_which_classes_come_and_compete(
    tmp_path: Path, scenario: str, grow: str, compete: str
) -> None:
    text = f"scenario: {scenario}\nincrements: [{{data: a.csv}}]"
    (step,) = increments_of([], None, written(tmp_path, text))
    assert {f"update.grow={grow}", f"update.compete={compete}"} <= set(step.settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("increments: []", "increments"),
        ("scenario: tasks\nincrements: [{data: a.csv}]", "scenario"),
        ("increments: [{dat: a.csv}]", "did you mean 'data'"),
        ("set: {update.grow: true}\nincrements: [{data: a.csv}]", "update.grow is what `scenario` says"),
        ("increments: [{data: a/x.csv}, {data: b/x.csv}]", "two are called 'x'"),
        ("set: {update: {grow: false}}\nincrements: [{data: a.csv}]", "update.grow is what `scenario` says"),
        ("increments: [", "stream.yaml"),
        ("", "stream.yaml"),
    ],
)
def test_what_is_wrong_in_a_stream_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        increments_of([], None, written(tmp_path, text))
    assert words in str(caught.value)


def test_later_layers_replace_what_earlier_ones_say_of_a_key_and_below_it() -> None:
    file, step = ["a.b=1", "a.c=2", "d=3"], ["a={b: 5}", "e.f=6"]
    assert merged(file, step) == ["d=3", "a={b: 5}", "e.f=6"]
    assert merged(merged(file, step), ["e=null", "a.b=7"]) == ["d=3", "a={b: 5}", "e=null", "a.b=7"]


def test_a_key_of_the_command_counts_more_than_one_of_the_file(tmp_path: Path) -> None:
    text = (
        "set: {update.train.epochs: 9, update.replay.kilobytes: 20}\n"
        "increments: [{data: a.csv, name: v1.5, set: {update.train: {lr: 0.1}, data.sources.NAME.limit: 7}}]"
    )
    (step,) = increments_of([], None, written(tmp_path, text))
    words = step.with_own(["update.replay=null"])
    assert not any("epochs" in word or "kilobytes" in word for word in words)
    (limit,) = [parse_override(word) for word in words if word.endswith("limit=7")]
    assert limit.words == ("data", "sources", "v1.5", "limit")


def test_what_was_set_for_one_increment_is_not_for_the_next() -> None:
    began: dict[str, Any] = {
        "data": {"max_tokens": 24, "sources": {"books": {}}},
        "student": {"model": "m", "data": {"books": {}}},
        "task": {"labels": ["a"]},
        "teachers": [{"name": "one"}],
        "update": {"train": {"lr": 0.1}},
    }
    newest = copy.deepcopy(began)
    newest["data"] = {"max_tokens": 99, "sources": {"books": {}, "music": {"limit": 7}}}
    newest["student"]["data"]["music"] = {}
    newest["task"]["labels"] = ["a", "b"]
    newest["update"]["train"]["lr"] = 5.0
    job = job_of_stream(began, newest)
    assert job["data"] == {"max_tokens": 24, "sources": newest["data"]["sources"]}
    assert job["student"]["data"] == {"books": {}, "music": {}}
    assert job["task"]["labels"] == ["a", "b"]
    assert job["update"]["train"]["lr"] == 0.1


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "stream.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_stream(tmp_path / "stream.yaml")


def test_smoothing_would_give_closed_classes_a_share() -> None:
    with pytest.raises(ValueError, match="they are closed"):
        build_terms([CrossEntropy(type="cross-entropy", label_smoothing=0.1)], (0, 1))


def test_data_and_stream_are_one_or_the_other(tmp_path: Path) -> None:
    for data, stream in (([], None), (["a.csv"], EXAMPLE)):
        with pytest.raises(ConfigError, match="either --data or --stream"):
            increments_of(data, None, stream)
    with pytest.raises(ConfigError, match="for one --data"):
        increments_of(["a.csv", "b.csv"], "x", None)
    with pytest.raises(ConfigError, match="No such file"):
        read_stream(tmp_path / "none.yaml")


def test_classes_of_another_group_have_no_part_in_the_cross_entropy() -> None:
    torch.manual_seed(1)
    student, groups = torch.randn(4, 5, requires_grad=True), (0, 0, 1, 1, 1)
    labels = torch.tensor([0, 3, 4, -1])
    (term,) = build_terms([CrossEntropy(type="cross-entropy")], groups)
    loss = term.per_position(Evidence(student, labels))
    for row, (label, part) in enumerate([(0, slice(0, 2)), (1, slice(2, 5)), (2, slice(2, 5))]):
        truth = -torch.log_softmax(student[row, part], -1)[label]
        torch.testing.assert_close(loss[row], truth)
    assert loss[3] == 0
    (slope,) = torch.autograd.grad(loss.sum(), student)
    assert (slope[0, 2:] == 0).all()
    assert (slope[1:3, :2] == 0).all()
    assert (slope[0, :2] != 0).all()


def test_an_answer_is_of_the_group_of_its_row() -> None:
    logits = torch.tensor([[1.0, 2.0, 9.0], [1.0, 2.0, -9.0], [1.0, 2.0, 9.0]])
    labels = torch.tensor([0, 2, -1])
    assert own_classes(logits, labels, (0, 0, 1)).argmax(-1).tolist() == [1, 2, 2]
    assert own_classes(logits, labels, ()) is logits
    assert spans((0, 0, 1, 2), 3) == [[0, 1], [2]]
    assert spans((), 3) == [[0, 1, 2]]


def test_the_champion_teaches_each_group_by_itself() -> None:
    torch.manual_seed(2)
    student, taught = torch.randn(3, 5), torch.randn(3, 4)
    labels = torch.full((3,), -1)
    term = RetainTerm(Distil(temperature=2.0), (0, 0, 1, 1, 2))
    found = term.per_position(Evidence(student, labels, champion=Dense(taught)))
    each = [
        RetainTerm(Distil(temperature=2.0)).per_position(
            Evidence(student[:, part], labels, champion=Dense(taught[:, part]))
        )
        for part in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(found, (each[0] + each[1]) / 2)


def test_new_classes_are_of_the_next_group() -> None:
    history = [Learned("one", ["a"], {}), Learned("two", ["b"], {})]
    about = About("digest", ["x", "y", "z"], 1, None, history=history, groups=[0, 0, 1])
    assert about.groups_of(["x", "y", "z"]) == (0, 0, 1)
    assert about.groups_of(["x", "y", "z", "u", "v"]) == (0, 0, 1, 2, 2)
    before = About("digest", ["x", "y"], 1, None, history=history[:1])
    assert before.groups_of(["x", "y", "z"]) == (0, 0, 1)


def test_teachers_know_no_groups() -> None:
    with pytest.raises(ValueError, match="they know no groups"):
        UpdateConfig.model_validate({"compete": "own", "teachers": [{"name": "a", "model": "b"}]})

"""An update before and beside its trainings: what it is made of, what names its run, how lambda is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pyarrow import parquet

from actors.evaluate import student_examples
from actors.tally import Scores
from actors.update import run as running
from actors.update.judge import judge, with_nearest_mean
from actors.update.memory import Trained, first_state
from actors.update.opened import Update, open_update
from actors.update.remarks import remarks, unmeasured
from actors.update.run import run_update
from actors.update.training import plain_training, training
from actors.workspace import open_workspace
from tutelage.config import JobConfig
from tutelage.config.data import FileSource
from tutelage.config.update import L2, UpdateConfig
from tutelage.continual.forget import forget
from tutelage.continual.gate import judge_forgetting
from tutelage.continual.heads import last_layer
from tutelage.continual.replay import load as load_buffer
from tutelage.continual.state import State
from tutelage.errors import ConfigError, DataError, DivergedError
from tutelage.models.load import load_classifier
from tutelage.progress import Silent
from tutelage.testing import LABELS, tiny_classifier, tiny_rows

pytestmark = pytest.mark.unit

SECTION: dict[str, Any] = {"regulariser": {"type": "l2", "strength": 5.0}, "replay": {"kilobytes": 20}}


class Made:
    """A version with a state that needed no Ray, and new data."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        files = tiny_rows(folder / "rows", 60, ["books", "music"])
        self.new = files["music"]
        model = tiny_classifier(folder / "model", layers=1, hidden=8, seed=1)
        splits = {"validation": 10, "test": 10}
        self.job = JobConfig.model_validate(
            {
                "name": "tiny",
                "task": {"labels": list(LABELS)},
                "data": {"max_tokens": 16, "sources": {"books": {"path": files["books"], "splits": splits}}},
                "student": {"model": model},
                "objectives": [{"type": "cross-entropy"}],
                "update": SECTION,
            }
        )
        self.version = folder / "version"
        shutil.copytree(model, self.version)
        space = open_workspace(self.job, self.home, Silent())
        trained = Trained.of(
            space, "first", Path(model), student_examples(space), None, Scores({"books": 0.5}, 0.5, 10)
        )
        assert self.job.update is not None
        with Silent().stage("remember") as stage:
            first_state(trained, self.job.update, self.version, folder, stage)

    def open(
        self, version: Path | None = None, section: dict[str, Any] | None = None, **source: Any
    ) -> Update:
        place = version or self.version
        state = State.read(place)
        assert state is not None
        one = FileSource.model_validate({"path": self.new, "splits": {"validation": 10, "test": 10}} | source)
        config = UpdateConfig.model_validate(SECTION | (section or {}))
        return open_update(self.job, config, place, state, {"music": one}, self.home, Silent())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("update"))


def test_a_training_has_penalty_champion_and_replay(made: Made) -> None:
    update = made.open()
    found = training(update, 5.0, "storage")
    increment = found.increment
    assert increment is not None
    assert isinstance(increment.regulariser, L2)
    assert increment.strength == 5.0
    assert Path(increment.anchors) == update.state.anchors
    assert Path(increment.anchors).exists()
    assert Path(increment.stored).exists()
    assert list(found.payloads) == ["champion"]
    assert (increment.share, increment.logits_weight) == (0.5, 0.5)
    names = set(update.examples.sources_of(update.examples.select("train").rows))
    assert names == {"music", *increment.replayed}
    assert len(increment.replayed) == 1
    assert found.run != training(update, 1.0, "storage").run
    # Rows that forgetting is measured on are in no training.
    heldout = set(update.examples.digests(update.examples.select("test").rows))
    assert len(heldout) == 20
    assert not heldout & set(update.examples.digests(update.examples.select("train").rows))


def test_what_is_switched_off_is_in_no_training(made: Made) -> None:
    bare = made.open(section={"regulariser": None, "distil": None, "replay": None})
    increment = training(bare, 0.0, "").increment
    assert increment is not None
    assert (increment.regulariser, increment.distil, increment.replayed, increment.stored) == (
        None,
        None,
        (),
        "",
    )
    assert training(bare, 0.0, "").payloads == {}
    plain = plain_training(made.open(), "")
    assert plain.increment is None
    assert plain.payloads == {}
    assert set(plain.picks or {}) == {"music"}


def test_a_run_is_named_by_all_that_decides_it(made: Made, tmp_path: Path) -> None:
    first = made.open().run
    assert made.open().run == first
    others = [
        made.open(limit=40).run,
        made.open(labels={"negative": "positive"}).run,
        made.open(section={"distil": None}).run,
        made.open(section={"labels": 0.5}).run,
    ]
    # The same weights, with one example forgotten: other replay, another run.
    item = next(iter(load_buffer(made.version / "state" / "replay")))
    forget(made.version, tmp_path / "forgotten", [item.id])
    others.append(made.open(version=tmp_path / "forgotten").run)
    assert len({first, *others}) == 6


def test_where_an_update_runs_leaves_its_run(made: Made) -> None:
    """Its own cores and patience, and those of its teachers' replicas."""
    teacher = {"name": "critic", "model": str(made.version)}
    update = made.open(section={"teachers": [teacher]})
    train = {"cpus_per_worker": 2.0, "gpus_per_worker": 0.5, "threads": 3, "max_failures": 7}
    moved = {
        "train": update.config.train.model_copy(update=train),
        "teachers": [update.config.teachers[0].model_copy(update={"num_cpus": 3.0, "max_replicas": 2})],
    }
    assert replace(update, config=update.config.model_copy(update=moved)).run == update.run
    decides = {"train": update.config.train.model_copy(update={"lr": 0.5})}
    assert replace(update, config=update.config.model_copy(update=decides)).run != update.run


def test_a_copy_of_the_version_elsewhere_gives_the_same_run(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.version, tmp_path / "copy")
    assert made.open(version=tmp_path / "copy").run == made.open().run


def test_a_state_of_another_regulariser_is_refused(made: Made) -> None:
    with pytest.raises(ConfigError, match="'online-ewc', and the version's state was kept for 'l2'"):
        made.open(section={"regulariser": {"type": "online-ewc"}})


def test_names_of_the_versions_own_rows_are_not_for_new_data(made: Made) -> None:
    state = State.read(made.version)
    assert state is not None
    one = FileSource(path=made.new)
    config = UpdateConfig.model_validate(SECTION)
    for name in ("replay-0", "heldout-0"):
        with pytest.raises(ConfigError, match="the version's own rows"):
            open_update(made.job, config, made.version, state, {name: one}, made.home, Silent())


def test_the_nearest_mean_takes_the_place_of_the_head(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.version, tmp_path / "model")
    folder = with_nearest_mean(made.open(), tmp_path / "model")
    _, before = last_layer(load_classifier(made.version))
    _, after = last_layer(load_classifier(folder))
    assert not torch.equal(before.weight, after.weight)
    torch.testing.assert_close(after.bias, -after.weight.square().sum(1) / 2)
    assert set(judge(made.open(), folder).by_slice) == {"books", "music"}


def test_classes_that_do_not_compete_are_trained_and_judged_apart(made: Made) -> None:
    """With a group for each of two classes every answer is right; plain fine-tuning has the groups too."""
    opened = made.open(section={"compete": "own"})
    about = replace(opened.state.about, groups=[0, 1])
    update = replace(opened, state=replace(opened.state, about=about))
    assert update.groups == (0, 1)
    assert plain_training(update, "").groups == training(update, 1.0, "").groups == (0, 1)
    assert judge(update, made.version).mean == 1.0
    together = made.open()
    assert together.groups == plain_training(together, "").groups == ()
    assert judge(together, made.version).mean < 1.0


@pytest.mark.parametrize(
    ("accuracies", "tried", "taken"),
    [
        ({1000: 0.5, 100: 0.79, 10: 0.9}, [1000, 100], 100),  # 0.79 is within 0.02 of plain fine-tuning
        ({1000: 0.80}, [1000], 1000),
        ({1000: 0.1, 100: 0.2, 10: 0.3}, [1000, 100, 10], 10),  # none is good enough: the softest
        ({1000: None, 100: 0.79}, [1000, 100], 100),  # the penalty of the stiffest diverges
    ],
)
def test_lambda_starts_stiff_and_relaxes(
    made: Made,
    monkeypatch: pytest.MonkeyPatch,
    accuracies: dict[int, float | None],
    tried: list[int],
    taken: int,
) -> None:
    seen: list[str] = []

    class Fleet:
        def __init__(self, update: Update) -> None:
            pass

        def train(self, asked: Any, stage: Any) -> dict[str, Any]:
            seen.append(asked.run.rpartition("-")[2])
            increment = asked.increment
            found = 0.8 if increment is None else accuracies[int(increment.strength)]
            if found is None:
                raise DivergedError("the penalty diverges")
            # The last accuracy is of weights that were not kept.
            return {"points": [{"accuracy": 0.99}], "chosen": {"accuracy": found}, "stopped_early": False}

        def stop(self) -> None:
            pass

    monkeypatch.setattr(running, "_Fleet", Fleet)
    monkeypatch.setattr(running, "judge", lambda update, folder: Scores({"books": 0.5}, 0.5, 10))
    update = made.open(section={"regulariser": {"type": "l2", "strength": "auto", "attempts": 3}})
    found = run_update(update, Silent(), storage="")
    assert found.attempts == [(lam, accuracies[lam]) for lam in tried]
    assert found.strength == taken
    assert found.plain == 0.8
    # What is taken is the training of the last attempt: it is finished, and known.
    assert seen == ["plain", *(f"l{lam}" for lam in tried), f"l{taken}"]


@pytest.mark.parametrize("passed", [True, False])
def test_the_quickstart_serves_no_candidate_that_its_gate_stopped(
    monkeypatch: pytest.MonkeyPatch, passed: bool
) -> None:
    from tutelage.cli import quickstart, update, update_order

    served: list[tuple[str, str]] = []
    version = SimpleNamespace(ref="tiny:1")
    candidate: Any = SimpleNamespace(
        version=version, verdict=SimpleNamespace(passed=passed, problems=("fell",))
    )

    @contextmanager
    def nothing(*_: Any) -> Iterator[Any]:
        yield SimpleNamespace(count=1, failed=0, note=lambda text: None)

    monkeypatch.setattr(update_order, "open_order", lambda *_: SimpleNamespace(version=version, source="nyt"))
    monkeypatch.setattr(update, "state_of", lambda *_, **__: None)
    monkeypatch.setattr(update, "open_increment", lambda *_: None)
    words: list[str] = []
    monkeypatch.setattr(update, "make_candidate", lambda o, u, s, said: words.append(said) or candidate)
    monkeypatch.setattr("serve_apps.client.asking", nothing)
    monkeypatch.setattr(quickstart, "_deploy", lambda job, one, name: served.append((one.ref, name)))
    console: Any = SimpleNamespace(stage=nothing, warn=lambda text: None)
    job: Any = SimpleNamespace(console=console)
    exported: Any = SimpleNamespace(version=version)
    running_at: Any = SimpleNamespace(url="http://here")
    session: Any = None
    found = quickstart._learn(job, exported, running_at, "shop", session, "catalog:reviews/nyt", ["a.b=1"])
    assert found is candidate
    assert served == ([("tiny:1", "shop")] if passed else [])
    assert words == ["tutelage update tiny:1 --data catalog:reviews/nyt --name nyt a.b=1"]


# What is said of new data


def rows_file(folder: Path, rows: list[dict[str, str]]) -> str:
    path = folder / "new.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_one_text_many_times_is_said_to_be_one_text(made: Made, tmp_path: Path) -> None:
    """It has a label; that there is nothing to measure is not for want of labels."""
    update = made.open(path=rows_file(tmp_path, [{"text": "a positive thing", "label": "positive"}] * 300))
    assert remarks(update) == ["the new data is one text, 300 times"]
    why = unmeasured(update)
    assert why == "the new data is one text, 300 times, so none is held out to measure a gain on"
    found = judge_forgetting(update.config.gate, {}, {}, ["music"], why)
    assert found.words.startswith("the new data is one text, 300 times")


def test_new_data_without_labels_is_said_to_have_none(made: Made) -> None:
    section = {"teachers": [{"name": "t", "model": str(made.version)}]}
    update = made.open(section=section, columns={"label": None})
    assert unmeasured(update) == "the new data has no labels to measure"


def test_new_data_of_which_nothing_is_held_out_says_so(made: Made) -> None:
    update = made.open(splits={"validation": 0, "test": 0})
    assert unmeasured(update) == "none of the new data's 60 texts is a test row to measure a gain on"
    assert remarks(update) == []


def test_data_that_is_all_known_is_said_to_be(made: Made, tmp_path: Path) -> None:
    """Texts of the version's own replay, and of the rows that it holds out, under another name."""
    state = State.read(made.version)
    assert state is not None
    replayed = [
        {"text": item.columns["text"], "label": item.label}
        for item in load_buffer(state.replay)
        if item.label is not None
    ]
    texts = len({row["text"] for row in replayed})
    update = made.open(path=rows_file(tmp_path, replayed), splits={"validation": 2, "test": 2})
    (said,) = remarks(update)
    assert said.startswith(f"all {texts} texts of the new data are known already")
    rows = [json.loads(line) for line in Path(made.new).read_text().splitlines()]
    mixed = [*replayed, *({"text": row["text"], "label": row["label"]} for row in rows[: len(replayed) // 2])]
    (said,) = remarks(made.open(path=rows_file(tmp_path, mixed), splits={"validation": 2, "test": 2}))
    assert " texts of the new data are known already" in said
    assert not said.startswith("all")


def test_data_that_the_version_holds_out_is_known_and_no_row_to_train_on(made: Made, tmp_path: Path) -> None:
    state = State.read(made.version)
    assert state is not None
    held = [
        {"text": text, "label": "positive"}
        for path in sorted(state.heldout.glob("*.parquet"))
        for text in parquet.read_table(path).column("text").to_pylist()
    ]
    with pytest.raises(DataError, match="all rows of the new data are known already"):
        made.open(path=rows_file(tmp_path, held), split="train")

"""An update of a version: the version before beside a new class, stored logits, replayed rows.

The champion knows 2 classes, the student 3. `books` is replayed, `shop` is new.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.channel import TeacherChannel
from actors.engine import inputs_of
from actors.losses import asker
from actors.replica import LocalReplica
from actors.stream import SignalStream
from actors.tally import Scores
from actors.teacher import ScriptedTeacher
from actors.trainer import Trainer
from actors.training import Increment, Training
from actors.update.run import Dip, Updated
from actors.world import Solo
from tests.unit.tolerances import SUMMED
from tests.unit.torch_engine import TorchEngine
from tests.unit.training_samples import DENSE, HARD, SOFT, Kept, Session, Tiny, opinion, training
from tutelage.config.objectives import Confidence
from tutelage.config.task import SequenceClassification
from tutelage.config.train import TrainConfig
from tutelage.config.update import CHAMPION, Distil
from tutelage.continual.heads import grow
from tutelage.continual.replay.logits import write_logits
from tutelage.data.examples import Examples
from tutelage.errors import DivergedError, TrainError
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import MemoryStore
from tutelage.testing import LABELS

pytestmark = pytest.mark.unit

CLASSES = [*LABELS, "mixed"]
WIDE = PayloadSpec("dense", len(CLASSES))
STEPS = 2 * 5  # 18 new rows, 18 replayed ones, batches of 8


@cache
def stored(tiny: Tiny, folder: Path) -> str:
    """Logits of two classes for every second replayed row."""
    examples = Examples.open(tiny.examples)
    rows = examples.select("train", sources=["books"]).rows[::2]
    texts = examples.texts(rows)
    pairs = zip(examples.digests(rows), [opinion(text, 0.7) for text in texts], strict=True)
    write_logits(folder / "stored.arrow", pairs)
    return str(folder / "stored.arrow")


def increment(file: str, **changes: Any) -> Increment:
    whole = Increment(
        distil=Distil(weight=0.5, temperature=2.0),
        replayed=("books",),
        share=0.5,
        logits_weight=0.3,
        stored=file,
    )
    return replace(whole, **changes)


def update(
    tiny: Tiny,
    file: str,
    *,
    champion: Any = opinion,
    others: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    about: dict[str, Any] | None = None,
    **changes: Any,
) -> Session:
    """A trainer of the grown student; `about` changes the increment."""
    section = TrainConfig(**({"batch_size": 8, "lr": 1e-3, "epochs": 2} | (train or {})))
    teachers = {CHAMPION: (champion, DENSE)} | {n: (rule, WIDE) for n, rule in (others or {}).items()}
    plan: Training = training(
        tiny, train=section, payloads={name: spec for name, (_, spec) in teachers.items()},
        task=SequenceClassification(labels=CLASSES), increment=increment(file, **(about or {})), **changes,
    )  # fmt: skip
    channels = [
        TeacherChannel(name, [LocalReplica(ScriptedTeacher(rule, name))], spec, plan.stream)
        for name, (rule, spec) in teachers.items()
    ]
    examples = Examples.open(tiny.examples)
    stream = SignalStream(
        channels, {name: MemoryStore() for name in teachers}, plan.stream, asker(plan, examples)
    )
    model = tiny.model()
    grow(model, CLASSES)
    engine: Any = TorchEngine(model, section)
    kept = Kept(engine)
    return Session(Trainer(plan, engine, examples, stream, Solo(), kept, pad_id=0), engine, kept, stream)


@pytest.fixture(scope="module")
def file(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> str:
    return stored(tiny, tmp_path_factory.mktemp("stored"))


@cache
def whole(tiny: Tiny, file: str) -> Session:
    """The update that others are compared with: whole batches, a checkpoint after each step."""
    one = update(tiny, file, train={"checkpoint_every": 1})
    one.run()
    return one


def parts(one: Session, name: str) -> list[float]:
    return [point["parts"][name] for point in one.state.points]


def wide(text: str) -> list[float]:
    return [*opinion(text, 0.5), 1.0]


def test_an_update_learns_from_labels_the_version_before_and_stored_logits(tiny: Tiny, file: str) -> None:
    """The loss of a step is its weighted parts."""
    one = whole(tiny, file)
    assert len(one.losses) == STEPS
    for point in one.state.points:
        assert list(point["parts"]) == ["cross-entropy", "retain", "stored-logits"]
        ce, retained, logits = point["parts"].values()
        assert point["loss"] == pytest.approx(ce + 0.5 * retained + 0.3 * logits, rel=1e-5)
        assert retained > 0
    assert sum(parts(one, "stored-logits")) > 0


def test_an_update_gets_better_at_labels_and_at_what_the_version_before_says(tiny: Tiny, file: str) -> None:
    """Thirty epochs: labels and the version before agree, and both losses fall far.

    Stored logits are of a less sure model, so what they ask for is not what the others do.
    """
    one = update(tiny, file, train={"epochs": 30, "lr": 1e-2})
    one.run()
    for name in ("cross-entropy", "retain"):
        assert sum(parts(one, name)[-5:]) < 0.3 * sum(parts(one, name)[:5]), name


def test_the_parts_of_a_step_are_those_computed_by_hand(tiny: Tiny, file: str) -> None:
    one = update(tiny, file, train={"max_steps": 1})
    one.run()
    examples = Examples.open(tiny.examples)
    chosen = examples.select("train")
    batch = one.trainer._plan.epoch(0)[0]
    rows = examples.batch(chosen.rows[batch], chosen.labelled[batch], 0)
    model = tiny.model()
    grow(model, CLASSES)
    with torch.no_grad():
        z = model(
            torch.from_numpy(rows.input_ids_BT), torch.from_numpy(rows.attention_mask_BT)
        ).logits.double()
    texts, sources = examples.texts(rows.rows), examples.sources_of(rows.rows)
    old = examples.select("train", sources=["books"]).rows[::2].tolist()
    retained = logits = ce = 0.0
    for n, text in enumerate(texts):
        p = torch.softmax(torch.tensor(opinion(text)).double() / 2, -1)
        retained += 4 * float((p * (p.log() - torch.log_softmax(z[n, :2] / 2, -1))).sum())
        if int(rows.rows[n]) in old:
            logits += float((z[n, :2] - torch.tensor(opinion(text, 0.7))).square().mean())
        if sources[n] == "books":
            ce -= float(torch.log_softmax(z[n], -1)[int(rows.labels_B[n])])
    (point,) = one.state.points
    assert list(point["parts"].values()) == pytest.approx([ce / 8, retained / 8, logits / 8], rel=1e-4)


@pytest.mark.parametrize("micro", [4, 2, 1])
def test_the_loss_trajectory_does_not_depend_on_the_micro_batch_size(
    tiny: Tiny, file: str, micro: int
) -> None:
    one, cut = whole(tiny, file), update(tiny, file, train={"micro_batch_size": micro})
    cut.run()
    assert cut.losses == pytest.approx(one.losses, rel=SUMMED)
    assert cut.engine.norms == pytest.approx(one.engine.norms, rel=SUMMED)
    for name in ("retain", "stored-logits"):
        assert parts(cut, name) == pytest.approx(parts(one, name), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("step", [1, 5, 7])
def test_a_resumed_update_gives_the_bit_identical_rest(tiny: Tiny, file: str, step: int) -> None:
    """Inside an epoch and at its end: which rows are replayed is drawn alike."""
    one = whole(tiny, file)
    state, best, engine_state = one.kept.checkpoints[step - 1]
    assert state.step == step
    again = update(tiny, file, train={"checkpoint_every": 1})
    again.engine.take_up(engine_state)
    again.state = copy.deepcopy(state)
    again.trainer.run(again.state, copy.deepcopy(best))
    assert again.losses == one.losses
    assert all(torch.equal(again.engine.weights()[n], value) for n, value in one.engine.weights().items())


def test_each_epoch_has_all_new_rows_and_as_many_replayed_ones(tiny: Tiny, file: str) -> None:
    trainer = whole(tiny, file).trainer
    names = np.array(trainer._examples.sources_of(trainer._chosen.rows))
    for epoch in range(2):
        rows = np.concatenate(trainer._plan.epoch(epoch))
        assert sorted(rows[names[rows] == "shop"]) == np.flatnonzero(names == "shop").tolist()
        assert int((names[rows] == "books").sum()) == 18


class Spy:
    """A combiner that remembers what it was shown."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.shown = inner, set[tuple[int, ...]]()

    def shares(self, slices_B: Any) -> Any:
        return self.inner.shares(slices_B)

    def weights(self, signals: Any, slices_B: Any, examples_P: Any) -> Any:
        self.shown.add(tuple(signal.logits_PV.shape[-1] for signal in signals))
        return self.inner.weights(signals, slices_B, examples_P)


def test_the_version_before_never_reaches_the_combiner(tiny: Tiny, file: str) -> None:
    """Another champion changes what is retained in the first step, and not a bit of the rest.

    The combiner sees two teachers of 3 classes, never the champion's 2.
    """
    firsts = []
    for champion in (opinion, lambda text: [0.0, 9.0]):
        others = {"one": wide, "two": lambda text: [0.0, 0.0, 1.0]}
        combiner = Confidence(type="confidence")
        one = update(tiny, file, champion=champion, others=others, objectives=SOFT, combiner=combiner)
        assert one.trainer._losses._combined == ["one", "two"]
        spy = Spy(one.trainer._losses._combiner)
        one.trainer._losses._combiner = spy
        one.run()
        assert spy.shown == {(3, 3)}
        firsts.append(one.state.points[0]["parts"])
    assert list(firsts[0]) == ["kl", "cross-entropy", "retain", "stored-logits"]
    assert firsts[0].pop("retain") != firsts[1].pop("retain")
    assert firsts[0] == firsts[1]


def test_with_the_champion_alone_the_combiner_is_not_asked(tiny: Tiny, file: str) -> None:
    one = update(tiny, file, train={"max_steps": 2})
    spy = Spy(one.trainer._losses._combiner)
    one.trainer._losses._combiner = spy
    one.run()
    assert spy.shown == set()


def test_terms_of_weight_0_are_left_out(tiny: Tiny, file: str) -> None:
    one = update(
        tiny, file, about={"logits_weight": 0.0, "distil": Distil(weight=0.0)}, train={"max_steps": 1}
    )
    one.run()
    assert list(one.state.points[0]["parts"]) == ["cross-entropy"]


def test_an_update_that_replays_everything_has_nothing_new(tiny: Tiny, file: str) -> None:
    with pytest.raises(TrainError, match="no new rows to train on"):
        update(tiny, file, about={"replayed": ("books", "shop")}, objectives=HARD)


def test_a_share_of_0_trains_on_the_new_rows_alone(tiny: Tiny, file: str) -> None:
    one = update(tiny, file, about={"share": 0.0}, train={"epochs": 1})
    one.run()
    assert len(one.losses) == 3  # 18 rows in batches of 8
    assert parts(one, "stored-logits") == [0.0] * 3
    assert parts(one, "cross-entropy") == [0.0] * 3  # new rows have no label here
    assert min(parts(one, "retain")) > 0


@pytest.mark.parametrize("energy", [1e4, float("inf"), float("nan")])
def test_a_penalty_that_takes_over_ends_the_training_at_its_last_good_state(
    tiny: Tiny, file: str, energy: float
) -> None:
    """It is looked at before a checkpoint, so no checkpoint is of a bad state."""
    one = update(tiny, file, train={"checkpoint_every": 3}, about={"strength": 1e9})
    keep = one.kept.checkpoint

    def kept(state: Any, best: Any) -> None:
        keep(state, best)
        one.engine.energy = torch.tensor(energy)

    one.kept.checkpoint = kept  # type: ignore[method-assign]
    end = 6 if not math.isfinite(energy) else STEPS
    with pytest.raises(DivergedError, match=rf"lambda 1e\+09 diverges: .* at step {end}, ") as caught:
        one.run()
    assert "step=proximal" in caught.value.fix
    assert [state.step for state, _, _ in one.kept.checkpoints] == [3]


def test_a_penalty_that_stays_too_large_ends_the_training_after_two_more_looks(tiny: Tiny, file: str) -> None:
    one = update(tiny, file, train={"epochs": 12, "checkpoint_every": 1000, "evaluate_every": 1000})
    one.engine.energy = torch.tensor(1e6)
    one.trainer._held.penalty = lambda: 1e6 if one.state.step else 0.0  # type: ignore[method-assign]
    with pytest.raises(DivergedError, match="at step 30, "):
        one.run()


def test_a_penalty_that_comes_back_is_no_divergence(tiny: Tiny, file: str) -> None:
    """Under Adam all weights overshoot together at first."""
    one = update(tiny, file, train={"epochs": 8, "checkpoint_every": 10})
    one.trainer._held.penalty = lambda: 1e6 if one.state.step in (10, 20) else 0.1  # type: ignore[method-assign]
    one.run()
    assert [state.step for state, _, _ in one.kept.checkpoints] == [30, 40]


def test_accuracy_on_the_way_is_among_the_classes_that_compete(tiny: Tiny, file: str) -> None:
    one = update(tiny, file, groups=(0, 0, 1), train={"max_steps": 1})
    with torch.no_grad():
        one.engine.model.classifier.bias[2] = 1e3  # all would be 'mixed', which is of another group
    one.run()
    assert one.state.points[-1]["accuracy"] > 0.3


def test_a_penalty_as_large_as_the_loss_is_no_divergence(tiny: Tiny, file: str) -> None:
    one = update(tiny, file)
    one.engine.energy = torch.tensor(1.0)
    one.run()
    assert one.state.start_loss == pytest.approx(one.losses[0])


def test_a_penalty_that_was_there_at_the_start_is_no_divergence(tiny: Tiny, file: str) -> None:
    """Weights are held at the middle of several trainings, and begin where the last one left them."""
    one = update(tiny, file)
    one.engine.energy = torch.tensor(1e6)
    one.run()
    assert one.state.start_penalty == 1e6


def test_watched_rows_are_looked_at_and_decide_nothing(tiny: Tiny, file: str) -> None:
    """At the start and at each evaluation; the training itself is that of an update that watches nothing."""
    examples = Examples.open(tiny.examples)
    chosen = examples.select("validation")
    rows = tuple(chosen.rows[chosen.labelled].tolist())
    train = {"evaluate_every": 4}
    one, other = update(tiny, file, train=train, watched=rows), update(tiny, file, train=train)
    weights, same = one.run(), other.run()
    assert one.losses == other.losses
    assert all(torch.equal(weights[name], same[name]) for name in same)
    assert other.state.kept == []
    assert [look["step"] for look in one.state.kept] == [0, 4, 8, STEPS]
    assert set(one.state.kept[0]["accuracy"]) == set(examples.slices(np.array(rows)))
    model = one.engine.model.eval()
    batch = examples.batch(np.array(rows), np.ones(len(rows), bool), 0)
    with torch.no_grad():
        right = model(**inputs_of(batch, model)).logits.argmax(-1) == torch.from_numpy(batch.labels_B)
    slices = np.array(examples.slices(np.array(rows)))
    for name, share in one.state.kept[-1]["accuracy"].items():
        assert share == pytest.approx(float(right[torch.from_numpy(slices == name)].float().mean()))


def test_the_lowest_look_at_each_slice_is_its_dip() -> None:
    looks = [(0, 0.9, 0.8), (5, 0.6, 0.85), (10, 0.7, 0.9)]
    kept = [{"step": step, "accuracy": {"a": a, "b": b}} for step, a, b in looks]
    scores = Scores({}, None, 0)
    made: Any = Updated(None, Path(), {"kept": kept}, scores, scores, 1.0, [], None)  # type: ignore[arg-type]
    assert made.dips == {"a": Dip(0.9, 0.6, 5), "b": Dip(0.8, 0.8, 0)}

"""Makes what a version remembers: importance of its weights, earlier texts, rows to measure forgetting by.

Shapes: N rows, C classes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pyarrow import parquet

from actors.engine import inputs_of
from actors.evaluate import labelled_rows
from actors.student import PATH_FILE
from actors.tally import Scores
from actors.update.importance import Measurement, chosen_rows, measure_importance, mode_of
from actors.update.run import Updated
from actors.workspace import Workspace
from tutelage.config.data import Pick
from tutelage.config.task import Task
from tutelage.config.update import EWC, KFAC, L2, SI, OnlineEWC, Replay, UpdateConfig
from tutelage.continual.anchors import Anchors, grown
from tutelage.continual.importance import Importance, read_tensors
from tutelage.continual.kfac import Blocks, split_sums
from tutelage.continual.replay import Buffer, Item, load, save
from tutelage.continual.state import WEIGHTS, About, Learned, State
from tutelage.data.examples import Examples
from tutelage.data.labels import UNLABELLED
from tutelage.errors import ConfigError
from tutelage.files import digest_file
from tutelage.models.head import read_config
from tutelage.models.load import load_tokenizer
from tutelage.models.padding import padding_token, settle_padding
from tutelage.objectives.competing import own_classes
from tutelage.progress import Stage
from tutelage.tasks import build_task

BATCH = 32
HELD_OUT = ("test", "validation")
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Trained:
    """A training that has just ended, as its state is made from it."""

    run: str
    model: Path
    """Folder with the trained weights."""
    task: Task
    examples: str
    """Arrow file of the tokenised rows that it read."""
    new: Rows
    """Training rows that were new in it."""
    heldout: Mapping[str, Rows]
    """Labelled rows by split that no training saw."""
    accuracy: Mapping[str, float]
    """On the held-out test rows, by slice."""
    seed: int
    before: Mapping[str, float] = field(default_factory=dict)
    """On the new slices before it, for forward transfer."""

    @classmethod
    def of(
        cls, space: Workspace, run: str, model: Path, examples: Examples, picks: dict[str, Pick] | None,
        scores: Scores,
    ) -> Trained:  # fmt: skip
        """The first training of a version: all that its student read was new, and its slices are held out."""
        new = examples.select("train", picks).rows
        slices = set(examples.slices(new))
        heldout = {}
        for split in HELD_OUT:
            rows = labelled_rows(examples, split)
            heldout[split] = rows[[part in slices for part in examples.slices(rows)]]
        accuracy = {part: value for part, value in scores.by_slice.items() if part in slices}
        return cls(run, model, space.job.task, str(examples.path), new, heldout, accuracy, space.job.seed)


@dataclass(frozen=True)
class Held:
    """What holds the next update."""

    anchors: Anchors | None
    measured: dict[str, Any]
    blocks: Blocks | None = None


def trained_by(updated: Updated) -> Trained:
    """The training of an update, as the next state is made from it."""
    update = updated.update
    examples, known = update.examples, updated.before.by_slice
    return Trained(
        run=update.run,
        model=updated.folder,
        task=update.space.job.task,
        examples=str(examples.path),
        new=update.new_rows,
        heldout={split: labelled_rows(examples, split) for split in HELD_OUT},
        accuracy=updated.after.by_slice,
        seed=update.space.job.seed,
        before={name: known[name] for name in updated.new_slices if name in known},
    )


def first_state(
    trained: Trained, config: UpdateConfig, version: Path, scratch: Path, stage: Stage,
    groups: tuple[int, ...] | None = None,
) -> State:  # fmt: skip
    """Make an export folder a version that can be updated: its weights, and what it remembers.

    Args:
        groups: of its labels, where they came with several trainings.
    """
    shutil.copyfile(trained.model / WEIGHTS, version / WEIGHTS)
    return make_state(trained, config, None, version, scratch, stage, groups)


def make_state(
    trained: Trained, config: UpdateConfig, before: State | None, version: Path, scratch: Path, stage: Stage,
    groups: tuple[int, ...] | None = None,
) -> State:  # fmt: skip
    """Write the state folder of a version. Needs a connected Ray where importance is measured.

    Args:
        before: the state that the training started from; None for the first one.
        version: the version's folder, which holds its weights.
        scratch: for parts of the importance; a folder that every node sees.
        groups: of the labels; what follows from the state before when None.
    """
    examples = Examples.open(trained.examples)
    history = [] if before is None else before.about.history
    slices = list(dict.fromkeys(examples.slices(trained.new)))
    held = config.regulariser
    labels = trained.task.labels
    if groups is None:
        groups = (0,) * len(labels) if before is None else before.about.groups_of(labels)
    compete = groups if config.compete == "own" else ()
    found = _anchors(trained, config, before, scratch, stage, compete)
    about = About(
        model=digest_file(version / WEIGHTS),
        labels=labels,
        seed=trained.seed if before is None else before.about.seed,
        held=None if held is None else held.model_dump(mode="json"),
        measured=found.measured,
        history=[*history, Learned(trained.run, slices, dict(trained.accuracy), dict(trained.before))],
        groups=list(groups),
    )
    state = State.begin(version, about)
    if found.anchors is not None:
        found.anchors.save(state.anchors)
    if found.blocks is not None:
        found.blocks.save(state.blocks)
    if config.replay is not None:
        buffer = _buffer(trained, config.replay, before, examples, about.seed, stage, compete)
        save(buffer, state.replay)
    _hold_out(trained, config.holdout, before, examples, state.heldout)
    state.close()
    return state


def _anchors(
    trained: Trained, config: UpdateConfig, before: State | None, scratch: Path, stage: Stage,
    groups: tuple[int, ...],
) -> Held:  # fmt: skip
    """Where the next update holds the weights, and how importance was measured."""
    held = config.regulariser
    if held is None:
        return Held(None, {})
    weights = _weights(trained)
    kept = Anchors.empty() if before is None or not before.anchors.exists() else Anchors.load(before.anchors)
    if isinstance(held, L2):
        ones = {name: torch.ones_like(value) for name, value in weights.items()}
        return Held(Anchors.empty().add(ones, weights), {"kind": "l2"})
    path = trained.model / PATH_FILE
    if isinstance(held, SI) and path.exists():
        omega, _ = read_tensors(path)
        whole = {name: _grown(omega.get(name), value) for name, value in weights.items()}
        # One centre, the newest weights: what a path gave is added up (arXiv:1703.04200, equation 5).
        return Held(kept.decay_to(_with_mean_1(whole), weights, 1.0), {"kind": "path"})
    kind, mode = mode_of(held, trained.task)
    rows = trained.new
    if mode == "empirical":
        rows = rows[Examples.open(trained.examples).labels(rows) != UNLABELLED]
        if not len(rows):
            raise ConfigError(
                "update.regulariser.fisher is empirical, and no new row has a label to measure it by",
                fix="update.regulariser.fisher=exact or sampled, which look at no labels",
            )
    what = Measurement(
        model=str(trained.model),
        digest=digest_file(trained.model / WEIGHTS),
        task=trained.task,
        examples=trained.examples,
        rows=chosen_rows(rows, held.examples, trained.seed),
        kind=kind,
        mode=mode,
        seed=trained.seed,
        pad_id=padding_token(read_config(trained.model), load_tokenizer(trained.model)),
        groups=groups,
    )
    found = measure_importance(what, scratch, stage)
    measured = {**found.stamp, "examples": found.examples}
    diagonals, blocks = split_sums(found.sums)
    mean = Importance(diagonals, found.examples).mean()
    if isinstance(held, EWC):
        return Held(kept.add(mean, weights), measured)
    if isinstance(held, SI):
        mean = _with_mean_1(mean)
    gamma = held.gamma if isinstance(held, OnlineEWC | KFAC) else 1.0
    anchors = kept.decay_to(mean, weights, gamma)
    if not isinstance(held, KFAC):
        return Held(anchors, measured)
    own = Blocks.of(blocks, found.examples)
    old = None if before is None or not before.blocks.exists() else Blocks.load(before.blocks)
    return Held(anchors, measured, own if old is None else old.after(own, gamma))


def _with_mean_1(importance: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """So that what a path gave and what the Fisher information says can be added."""
    numbers = sum(value.numel() for value in importance.values())
    mean = sum(float(value.double().sum()) for value in importance.values()) / max(1, numbers)
    return {name: value / mean if mean > 0 else value for name, value in importance.items()}


def _weights(trained: Trained) -> dict[str, torch.Tensor]:
    model = build_task(trained.task).load(str(trained.model))
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _grown(old: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if old is None else grown(old, like.shape)


def _buffer(
    trained: Trained, config: Replay, before: State | None, examples: Examples, seed: int, stage: Stage,
    groups: tuple[int, ...],
) -> Buffer:  # fmt: skip
    """The texts of the version before and those that are new, with what the new model says of them."""
    buffer = Buffer(1000 * config.kilobytes, config.type, seed)
    if before is not None and before.replay.exists():
        kept = load(before.replay)
        same = (kept.kind, kept.seed, kept.budget_bytes) == (buffer.kind, buffer.seed, buffer.budget_bytes)
        if same:
            buffer = kept
        else:
            buffer.add(kept)
    offered = list(_items(trained, examples, config))
    if config.type != "loss-aware":
        # Who stays is known without the model's word; only those are scored.
        trial = _copy(buffer)
        trial.add(item for item, _ in offered)
        stays = {item.id for item in trial}
        offered = [(item, row) for item, row in offered if item.id in stays]
    buffer.add(_scored(trained, examples, offered, config, stage, groups))
    return buffer


def _copy(buffer: Buffer) -> Buffer:
    return Buffer.restore(buffer.state(), list(buffer))


def _items(trained: Trained, examples: Examples, config: Replay) -> Iterator[tuple[Item, int]]:
    rows, labels = trained.new, trained.task.labels
    width = len(labels) if config.logits else 0
    parts = (
        examples.digests(rows),
        examples.slices(rows),
        examples.texts(rows),
        examples.labels(rows).tolist(),
    )
    for row, digest, part, text, label in zip(rows.tolist(), *parts, strict=True):
        name = None if label == UNLABELLED else labels[label]
        # Space for the logits is counted before they are known.
        logits = [0.0] * width if width else None
        by = trained.run if width else None
        yield Item(digest, part, {"text": text}, label=name, logits=logits, logits_by=by), row


def _scored(
    trained: Trained, examples: Examples, offered: list[tuple[Item, int]], config: Replay, stage: Stage,
    groups: tuple[int, ...],
) -> Iterator[Item]:  # fmt: skip
    """The items with the model's logits and loss."""
    if not config.logits and config.type != "loss-aware":
        yield from (item for item, _ in offered)
        return
    model = build_task(trained.task).load(str(trained.model))
    pad_id = settle_padding(model, load_tokenizer(trained.model))
    rows = np.array([row for _, row in offered], np.int64)
    order = np.argsort(examples.lengths(rows), kind="stable") if len(rows) else rows
    for start in range(0, len(order), BATCH):
        some = order[start : start + BATCH]
        batch = examples.batch(rows[some], np.ones(len(some), bool), pad_id)
        with torch.inference_mode():
            logits_BC = model(**inputs_of(batch, model)).logits.float()
        labels_B = torch.from_numpy(batch.labels_B)
        competing_BC = own_classes(logits_BC, labels_B, groups)
        loss_B = F.cross_entropy(competing_BC, labels_B, ignore_index=UNLABELLED, reduction="none")
        for n, at in enumerate(some.tolist()):
            loss = float(loss_B[n]) if int(labels_B[n]) != UNLABELLED else None
            logits = logits_BC[n].tolist() if config.logits else None
            yield replace(offered[at][0], logits=logits, loss=loss)
        stage.update(start + len(some), len(order), texts=len(order))


def _hold_out(trained: Trained, most: int, before: State | None, examples: Examples, folder: Path) -> None:
    """One parquet file for each slice and split, with columns text and label; those of before stay."""
    if before is not None:
        for path in sorted(before.heldout.glob("*.parquet")):
            shutil.copyfile(path, folder / path.name)
    for split, rows in trained.heldout.items():
        slices = np.array(examples.slices(rows))
        for part in dict.fromkeys(slices.tolist()):
            path = folder / f"{part}.{split}.parquet"
            if path.exists():
                continue
            own = rows[slices == part][:most]
            labels = [trained.task.labels[index] for index in examples.labels(own).tolist()]
            parquet.write_table(pa.table({"text": examples.texts(own), "label": labels}), path)

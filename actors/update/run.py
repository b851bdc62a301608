"""Runs an update: how stiff the penalty may be, the training itself, and what was gained and forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.board import RayBoard
from actors.distill import show_training
from actors.fleet import Fleet
from actors.student import fit_all
from actors.tally import Scores
from actors.teacher import TeacherSpec
from actors.training import Training, kept_accuracy
from actors.update.judge import judge, with_nearest_mean
from actors.update.opened import Update
from actors.update.training import champion_of, plain_training, specs_of, training
from actors.workspace import finished, forget
from tutelage.config.update import CHAMPION
from tutelage.errors import DivergedError
from tutelage.holder import Fence
from tutelage.progress import Progress, Stage


@dataclass(frozen=True)
class Dip:
    """The stability gap of one slice (De Lange et al. 2023, arXiv:2205.13452)."""

    start: float
    """Accuracy before the first step."""
    lowest: float
    """At the worst evaluation."""
    step: int
    """When that was."""


@dataclass(frozen=True)
class Updated:
    """A trained candidate beside the version it came from."""

    update: Update
    folder: Path
    """Its model."""
    result: dict[str, Any]
    before: Scores
    after: Scores
    strength: float
    """Lambda that was taken."""
    attempts: list[tuple[float, float | None]]
    """`auto`: lambda and accuracy on the new validation rows, in the order of the attempts; None where the
    penalty diverged."""
    plain: float | None
    """`auto`: the accuracy of plain fine-tuning there."""

    @property
    def new_slices(self) -> list[str]:
        """The slices that the new data is shown under."""
        sources = self.update.space.job.data.sources
        return list(dict.fromkeys(sources[name].slice or name for name in self.update.new))

    @property
    def dips(self) -> dict[str, Dip]:
        """How deep each earlier slice fell on the way, on its watched rows."""
        looks = self.result.get("kept", [])
        found = {}
        for name in looks[0]["accuracy"] if looks else ():
            low = min(looks, key=lambda look: look["accuracy"][name])
            found[name] = Dip(looks[0]["accuracy"][name], low["accuracy"][name], low["step"])
        return found

    @property
    def teachers(self) -> list[TeacherSpec]:
        """Who was listened to."""
        return specs_of(self.update)


def run_update(update: Update, ui: Progress, *, storage: str, fresh: bool = False) -> Updated:
    """Train the candidate, or go on where an interrupted update stopped, and judge it.

    Needs a connected Ray. Raises TeacherError or TrainError.
    """
    if fresh:
        for path in update.space.runs.glob(f"{update.run}*"):
            forget(update.space, path.name)
    fleet = _Fleet(update)
    try:
        plain: float | None = None
        attempts: list[tuple[float, float | None]] = []
        section = update.config.regulariser
        if section is None or section.strength != "auto":
            strength = 0.0 if section is None else float(section.strength)
        elif not len(_new_validation(update)):
            strength = 1.0
            with ui.stage("update") as stage:
                stage.note("no labelled validation rows of the new data to choose lambda by: it is 1")
        else:
            with ui.stage("plain") as stage:
                plain = kept_accuracy(fleet.train(plain_training(update, storage), stage))
            strength = section.stiffest
            for number in range(section.attempts):
                last = number + 1 == section.attempts
                found: float | None = None
                with ui.stage(f"lambda {strength:g}") as stage:
                    try:
                        found = kept_accuracy(fleet.train(training(update, strength, storage), stage))
                        stage.note(f"{_said(found)} on new validation rows, plain fine-tuning {_said(plain)}")
                    except DivergedError as problem:
                        if last:
                            raise
                        stage.note(problem.problem)
                attempts.append((strength, found))
                if last or (found is not None and plain is not None and found >= plain - section.tolerance):
                    break
                strength *= section.relax
        with ui.stage("update") as stage:
            chosen = training(update, strength, storage)
            result = fleet.train(chosen, stage)
    finally:
        fleet.stop()
    folder = Path(chosen.output)
    with ui.stage("judge") as stage:
        if update.config.head == "nearest-mean":
            folder = with_nearest_mean(update, folder)
        before, after = judge(update, update.champion), judge(update, folder)
        stage.note(f"mean accuracy {_said(before.mean)} -> {_said(after.mean)}")
    return Updated(update, folder, result, before, after, strength, attempts, plain)


class _Fleet:
    """The teachers of an update, started when a training is not done yet."""

    def __init__(self, update: Update) -> None:
        self._update = update
        self._fleet: Fleet | None = None

    def train(self, training: Training, stage: Stage) -> dict[str, Any]:
        """The result of a training, known or made."""
        known = finished(self._update.space, training.run)
        if known is not None:
            return known
        training = replace(training, fence=Fence.of(self._update.space.runs, self._update.run))
        specs = specs_of(self._update)
        if self._fleet is None and training.payloads:
            configs = {one.name: one for one in self._update.space.job.teachers} | {
                CHAMPION: champion_of(self._update)
            }
            pairs = [(spec, configs[spec.name]) for spec in specs]
            self._fleet = Fleet(pairs, self._update.space.job.stream)
        members = {} if self._fleet is None else self._fleet.members
        board = RayBoard.start()
        try:
            with board.watch(lambda posts: show_training(stage, training, posts)):
                patience_s = self._update.space.job.ray.patience_s
                found = fit_all({training.run: training}, members, board, stage, patience_s)
                result = found[training.run]
        finally:
            board.stop()
        stage.note(f"{result['steps']} steps in {result['seconds']:.0f} s, {result['precision']}")
        return result

    def stop(self) -> None:
        if self._fleet is not None:
            self._fleet.stop()


def _new_validation(update: Update) -> NDArray[np.int64]:
    chosen = update.examples.select("validation", sources=update.new)
    rows: NDArray[np.int64] = chosen.rows[chosen.labelled]
    return rows


def _said(accuracy: float | None) -> str:
    return "nothing measured" if accuracy is None else f"{accuracy:.4f}"

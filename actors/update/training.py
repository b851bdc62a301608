"""The trainings of an update: with a lambda, and plain fine-tuning to compare with."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from actors.distill import teacher_specs
from actors.fleet import threads_of
from actors.payloads import planned, signal_folders
from actors.teacher import TeacherSpec
from actors.training import Increment, Training
from actors.update.opened import HELD, Update
from tutelage.config.data import Pick
from tutelage.config.models import TeacherConfig
from tutelage.config.task import SequenceClassification
from tutelage.config.update import CHAMPION
from tutelage.continual.replay import load as load_buffer
from tutelage.continual.replay.logits import write_logits
from tutelage.models.fingerprint import fingerprint
from tutelage.signals.spec import PayloadSpec


def specs_of(update: Update) -> list[TeacherSpec]:
    """The champion, where it is listened to, then the teachers for the new data."""
    others = teacher_specs(update.space, {})
    distil = update.config.distil
    if distil is None or distil.weight == 0:
        return others
    folder, order = str(update.champion), tuple(range(len(update.known)))
    max_tokens = update.space.job.data.max_tokens
    champion = TeacherSpec(
        name=CHAMPION,
        model=folder,
        tokenizer=folder,
        label_order=order,
        max_tokens=max_tokens,
        threads=threads_of(champion_of(update)),
        fingerprint=fingerprint(folder, folder, order, max_tokens),
        task=SequenceClassification(labels=update.known),
    )
    return [champion, *others]


def champion_of(update: Update) -> TeacherConfig:
    """How the version before is hosted: one replica on a share of a core, beside the student."""
    return TeacherConfig(name=CHAMPION, model=str(update.champion), num_cpus=0.25, threads=1)


def training(update: Update, strength: float, storage: str) -> Training:
    """The training of the candidate with this lambda."""
    space, config = update.space, update.config
    specs = specs_of(update)
    plain = plain_training(update, storage)
    payloads = plain.payloads
    if specs and specs[0].name == CHAMPION:
        payloads = {CHAMPION: PayloadSpec("dense", len(update.known)), **payloads}
    held = config.regulariser if strength > 0 else None
    increment = Increment(
        regulariser=held,
        strength=strength,
        anchors=str(update.state.anchors) if held is not None else "",
        blocks=str(update.state.blocks) if held is not None and held.type == "kfac" else "",
        distil=config.distil,
        replayed=update.replayed,
        share=config.replay.share if config.replay else 0.0,
        logits_weight=config.replay.logits if config.replay else 0.0,
        stored=_stored(update),
    )
    run = f"{update.run}-l{strength:g}"
    return replace(
        plain,
        run=run,
        picks=None,
        increment=increment,
        watched=_watched(update),
        payloads=payloads,
        stores=signal_folders(space.signals, specs, payloads),
        output=str(space.runs / run / "model"),
    )


def plain_training(update: Update, storage: str) -> Training:
    """Fine-tuning on the new data and by its teachers alone, judged by its validation rows."""
    space, run = update.space, f"{update.run}-plain"
    job = space.job
    tokenizer = str(update.champion)
    payloads = {one.teacher: one.spec for one in planned(space, {})} if update.config.teachers else {}
    return Training(
        run=run,
        base=job.student.model,
        tokenizer=tokenizer,
        task=job.task,
        layers=None,
        method=job.student.method,
        train=job.train,
        objectives=job.objectives,
        payloads=payloads,
        stores=signal_folders(space.signals, teacher_specs(space, {}), payloads),
        combiner=job.combiner,
        stream=job.stream,
        examples=str(update.examples.path),
        picks={name: Pick() for name in update.new},
        slices=update.new,
        seed=job.seed,
        groups=update.groups,
        storage=f"{storage}/runs",
        output=str(space.runs / run / "model"),
    )


def _watched(update: Update) -> tuple[int, ...]:
    """The first labelled validation rows of each earlier slice."""
    examples, most = update.examples, update.config.watch
    if not most:
        return ()
    held = [name for name in update.space.job.data.sources if name.startswith(HELD)]
    chosen = examples.select("validation", sources=held)
    rows = chosen.rows[chosen.labelled]
    seen: Counter[str] = Counter()
    found = []
    for row, part in zip(rows.tolist(), examples.slices(rows), strict=True):
        seen[part] += 1
        if seen[part] <= most:
            found.append(row)
    return tuple(found)


def _stored(update: Update) -> str:
    """File of the logits that came with replayed texts; empty when there are none."""
    config = update.config.replay
    if config is None or config.logits == 0 or not update.state.replay.exists():
        return ""
    path = update.space.runs / update.run / "stored.arrow"
    if not path.exists():
        rows = ((i.digest, i.logits) for i in load_buffer(update.state.replay) if i.logits is not None)
        write_logits(path, rows)
    return str(path)

"""Which payload serves each teacher at the lowest cost, and why. Loads no torch.

Shapes: V classes or vocabulary, H hidden, K teachers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from blake3 import blake3

from tutelage.config.objectives import Combiner, Confidence, Weighted
from tutelage.config.payload import (
    AutoPayload,
    DensePayload,
    HiddenPayload,
    Payload,
    SampledPayload,
    TopKPayload,
)
from tutelage.errors import ConfigError
from tutelage.signals.planned import JobFacts, Planned, TeacherFacts, alternatives
from tutelage.signals.refusals import check
from tutelage.signals.sizes import position_bytes
from tutelage.signals.spec import PayloadSpec

__all__ = ["JobFacts", "Planned", "TeacherFacts", "mixture_name", "plan"]

HEAD_BUDGET = 0.5
"""The heads of all teachers may cost the student this share of its own training FLOP."""


def plan(teachers: Sequence[TeacherFacts], job: JobFacts) -> list[Planned]:
    """One payload for each teacher, in their order.

    Raises ConfigError for what `refusals.check` refuses, and for hidden without a linear head.
    """
    if not teachers:
        return []
    picks = [_pick(teacher, len(teachers), job) for teacher in teachers]
    name = _mixture(teachers, picks, job)
    specs = [
        _spec(teacher, pick, job, name, member)
        for member, (teacher, pick) in enumerate(zip(teachers, picks, strict=True))
    ]
    by_name = {teacher.name: spec for teacher, spec in zip(teachers, specs, strict=True)}
    check(by_name, task=job.task, combiner=job.combiner, objectives=job.objectives)
    sizes = [
        position_bytes(spec, share)
        for spec, share in zip(specs, _shares(teachers, job.combiner), strict=True)
    ]
    return [
        _planned(teacher, spec, size, sum(sizes), len(teachers), job)
        for teacher, spec, size in zip(teachers, specs, sizes, strict=True)
    ]


def mixture_name(
    combiner: Combiner,
    teachers: Sequence[str],
    measured: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """A short name for all that decides the shares of a mixture: other weights are other draws."""
    facts = [combiner.model_dump(mode="json"), list(teachers), measured]
    return blake3(json.dumps(facts, sort_keys=True).encode()).hexdigest(6)


def _pick(teacher: TeacherFacts, teachers: int, job: JobFacts) -> Payload:
    """What the job file names, or the planner's choice."""
    if isinstance(teacher.payload, HiddenPayload) and job.task == "causal-lm" and not teacher.hidden:
        raise ConfigError(
            f"teachers.{teacher.name}.payload: type hidden needs a vocabulary head that is one linear layer "
            "without bias, which this model lacks",
            fix="use type dense with dtype bf16, or type auto",
        )
    if not isinstance(teacher.payload, AutoPayload):
        return teacher.payload
    if job.task != "causal-lm":
        return DensePayload(type="dense")
    if not job.needs_every_label:
        return _few_labels(teacher, job)
    if teacher.hidden and teacher.hidden < teacher.width and _heads_fit(teacher, teachers, job):
        return HiddenPayload(type="hidden")
    return DensePayload(type="dense", dtype="bf16")


def _few_labels(teacher: TeacherFacts, job: JobFacts) -> Payload:
    """Draws; at a raised temperature top-k with a tail, since few draws see little of a flat distribution."""
    pick = TopKPayload(type="topk")
    flat = job.temperature > 1 and teacher.width > pick.k and not isinstance(job.combiner, Confidence)
    return pick if flat else SampledPayload(type="sampled")


def _heads_fit(teacher: TeacherFacts, teachers: int, job: JobFacts) -> bool:
    """Whether the student can afford heads like this one. An unknown student is taken for large enough."""
    flop = 2.0 * teachers * (teacher.hidden or 0) * teacher.width
    return job.student_flop is None or flop <= HEAD_BUDGET * job.student_flop


def _mixture(teachers: Sequence[TeacherFacts], picks: Sequence[Payload], job: JobFacts) -> str:
    """Name of the mixture that the teachers draw from together; empty when each draws for itself.

    A mixture that was asked for by `yes` is named even if it cannot be, so that `check` says why.
    """
    sampled = [pick for pick in picks if isinstance(pick, SampledPayload)]
    asked = any(pick.mixture == "yes" for pick in sampled)
    possible = (
        len(sampled) == len(picks)
        and len({pick.draws for pick in sampled}) == 1
        and all(pick.mixture != "no" for pick in sampled)
        and not isinstance(job.combiner, Confidence)
    )
    if not asked and not possible:
        return ""
    return mixture_name(job.combiner, [teacher.name for teacher in teachers], job.measured)


def _spec(teacher: TeacherFacts, pick: Payload, job: JobFacts, mixture: str, member: int) -> PayloadSpec:
    match pick:
        case HiddenPayload():
            return PayloadSpec("hidden", teacher.hidden or 0, pick.dtype)
        case TopKPayload():
            return PayloadSpec("topk", teacher.width, pick.dtype, pick.k, job.temperature)
        case SampledPayload() if mixture and pick.mixture != "no":
            return PayloadSpec(
                "sampled",
                teacher.width,
                entries=pick.draws,
                temperature=job.temperature,
                seed=job.seed,
                mixture=mixture,
                member=member,
            )
        case SampledPayload():
            # Teachers with one seed would draw at the same points, and so err alike.
            own = blake3(f"{job.seed}:{teacher.name}".encode()).digest(4)
            return PayloadSpec(
                "sampled",
                teacher.width,
                entries=pick.draws,
                temperature=job.temperature,
                seed=int.from_bytes(own, "little"),
            )
        case DensePayload():
            return PayloadSpec("dense", teacher.width, pick.dtype)
        case _:
            raise ValueError(f"no payload of type {pick.type}")


def _shares(teachers: Sequence[TeacherFacts], combiner: Combiner) -> list[float]:
    """Each teacher's share of shared draws, as far as the job file tells; else equal shares."""
    if isinstance(combiner, Weighted):
        total = sum(combiner.weights.values())
        return [combiner.weights[teacher.name] / total for teacher in teachers]
    return [1 / len(teachers)] * len(teachers)


def _planned(
    teacher: TeacherFacts, spec: PayloadSpec, size: float, total: float, teachers: int, job: JobFacts
) -> Planned:
    bounds: list[tuple[float, Literal["link", "teacher"]]] = []
    if job.link_mb_s:
        # A student's position needs the signals of all teachers, over one link.
        bounds.append((job.link_mb_s * 1e6 / total, "link"))
    if teacher.positions_s:
        bounds.append((teacher.positions_s, "teacher"))
    positions_s, limit = min(bounds) if bounds else (None, None)
    return Planned(
        teacher=teacher.name,
        spec=spec,
        position_bytes=size,
        head_flop=2 * (teacher.hidden or 0) * teacher.width if spec.kind == "hidden" else 0,
        positions_s=positions_s,
        limit=limit,
        unit=job.unit,
        reason=_reason(teacher, spec, total, teachers, job),
    )


def _reason(teacher: TeacherFacts, spec: PayloadSpec, total: float, teachers: int, job: JobFacts) -> str:
    """Why, with the figures that decided."""
    if not isinstance(teacher.payload, AutoPayload):
        why = "as the job file says"
    elif job.task != "causal-lm":
        return f"exact, and {teacher.width} classes are few{_store(total, job)}"
    elif spec.kind == "topk":
        why = f"kl at temperature {spec.temperature:g}, where few draws see too little of a flat distribution"
    elif not job.needs_every_label:
        size = (
            "in bytes that do not grow with teachers" if spec.mixture else "weighted when all have answered"
        )
        why = f"an unbiased target for kl, {size}"
        if spec.temperature > 1:
            why += f", though far noisier at temperature {spec.temperature:g} than at 1"
    elif spec.kind == "hidden":
        why = f"{job.needs_every_label}, and the student can afford the heads"
    elif teacher.hidden and teacher.hidden < teacher.width:
        why = f"{job.needs_every_label}, and the heads would cost the student too much"
    else:
        why = f"{job.needs_every_label}, and the model has no linear head that is narrower"
    return f"{why} ({alternatives(teacher, job, teachers)}){_store(total, job)}"


def _store(total: float, job: JobFacts) -> str:
    """Whether an epoch's signals of all teachers can be kept for the next."""
    if job.store_mb is None or job.positions is None or job.epochs < 2:
        return ""
    need = total * job.positions / 1e6
    if need <= job.store_mb:
        return f"; the store keeps an epoch in {need:,.1f} MB"
    return (
        f"; an epoch takes {need:,.1f} MB and the store keeps {job.store_mb:,.0f}, so later epochs ask again"
    )

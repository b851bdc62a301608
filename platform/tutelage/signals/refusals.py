"""Combinations of payload, objective, combiner and task that would be biased, silent or impossible.

Looked for at setup, before anything is loaded. Loads no torch.

Shapes: V classes or vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tutelage.config import objectives as config
from tutelage.config.schedule import is_constant, peak, say, value_at
from tutelage.errors import ConfigError
from tutelage.signals.spec import PayloadSpec

EVERY_LABEL = "use type dense or hidden"


def check(
    specs: Mapping[str, PayloadSpec],
    *,
    task: str,
    combiner: config.Combiner,
    objectives: Sequence[config.Objective],
) -> None:
    """Raise ConfigError, with the reason, for payloads that cannot serve the job.

    `specs` are by teacher, in the order of the job; `task` is the type of the task.
    """
    heard = [objective for objective in objectives if peak(objective.weight) > 0]
    for name, spec in specs.items():
        key = f"teachers.{name}.payload"
        _check_alone(key, spec, task)
        for objective in heard:
            _check_objective(key, spec, objective)
        _check_combiner(key, spec, combiner)
    _check_mixture(specs)
    if isinstance(combiner, config.Weighted):
        silent = [name for name in specs if combiner.weights.get(name, 0) == 0]
        if silent:
            raise ConfigError(
                f"combiner.weights.{silent[0]} is 0: the teacher would be asked and never heard",
                fix="give it a weight above 0, or remove it from teachers and combiner.weights",
            )


def _check_alone(key: str, spec: PayloadSpec, task: str) -> None:
    if spec.kind == "hidden" and task != "causal-lm":
        raise ConfigError(
            f"{key}: type hidden is for causal-lm, whose head is one matrix; task.type is {task}",
            fix="use type dense, which a classifier sends in fewer bytes than its hidden state",
        )
    if spec.kind != "dense" and task == "question-answering":
        raise ConfigError(
            f"{key}: type {spec.kind} with question-answering, whose classes are the words of each text",
            fix="use type dense",
        )
    if spec.kind == "topk" and not 0 < spec.entries < spec.width:
        raise ConfigError(
            f"{key}.k is {spec.entries} of {spec.width} classes; allowed is 1 to {spec.width - 1}",
            fix="use type dense, which is exact and no larger",
        )
    if spec.kind == "sampled" and spec.entries < 1:
        raise ConfigError(f"{key}.draws is {spec.entries}; allowed is 1 and more", fix="draw 12")
    if spec.dtype == "int8" and spec.kind != "dense":
        raise ConfigError(
            f"{key}.dtype is int8 with type {spec.kind}; only dense has the scales that int8 needs",
            fix="use bf16, or fp16 with type topk",
        )


def _check_objective(key: str, spec: PayloadSpec, objective: config.Objective) -> None:
    if spec.kind not in ("topk", "sampled") or isinstance(objective, config.CrossEntropy):
        return
    if isinstance(objective, config.JSD):
        reason = {
            "topk": "the tail's labels are not told apart, and reverse KL and JSD weigh each of them",
            "sampled": "reverse KL and JSD are not linear in the teacher's distribution, so draws bias them",
        }[spec.kind]
        raise ConfigError(
            f"{key}: type {spec.kind} with objective jsd; {reason}", fix=f"{EVERY_LABEL}, or objective kl"
        )
    if not is_constant(objective.temperature):
        raise ConfigError(
            f"{key}: type {spec.kind}, and objectives.kl.temperature is a schedule "
            f"({say(objective.temperature)}); what was drawn or cut at one temperature is biased at another",
            fix=f"{EVERY_LABEL}, which suit any temperature, or set objectives.kl.temperature to a number",
        )
    temperature = value_at(objective.temperature, 0.0)
    if spec.temperature != temperature:
        raise ConfigError(
            f"{key}: type {spec.kind} at temperature {spec.temperature:g}, and objectives.kl.temperature is "
            f"{temperature:g}; what was drawn or cut at one temperature is biased at another",
            fix=f"plan the payload at {temperature:g}, or {EVERY_LABEL}, which suit any",
        )


def _check_combiner(key: str, spec: PayloadSpec, combiner: config.Combiner) -> None:
    if not isinstance(combiner, config.Confidence):
        return
    if spec.kind == "topk":
        raise ConfigError(
            f"{key}: type topk with combiner confidence, which goes by the entropy over all classes",
            fix=f"{EVERY_LABEL}, or sampled, which sends each teacher's entropy; or another combiner",
        )
    if spec.kind == "sampled" and spec.mixture:
        raise ConfigError(
            f"{key}.mixture is yes, and combiner confidence knows its weights only from the replies",
            fix="set mixture to auto or no, or take a combiner that knows its weights beforehand",
        )


def _check_mixture(specs: Mapping[str, PayloadSpec]) -> None:
    """All teachers of a mixture share its draws, so all must be in it, each in a place of its own."""
    mixed = {name: spec for name, spec in specs.items() if spec.mixture}
    if not mixed:
        return
    for name, spec in specs.items():
        if not spec.mixture or spec.kind != "sampled":
            raise ConfigError(
                f"teachers.{name}.payload: {spec.kind} of its own beside a mixture of {', '.join(mixed)}; "
                "its share of the draws would be missing from every position",
                fix="use type sampled for all teachers, or mixture: no for the others",
            )
    shared = {(s.entries, s.temperature, s.seed, s.mixture, s.width) for s in mixed.values()}
    members = sorted(spec.member for spec in mixed.values())
    if len(shared) > 1 or members != list(range(len(mixed))):
        raise ConfigError(
            f"teachers {', '.join(mixed)}: payloads of one mixture that differ in draws, temperature, seed, "
            "weights or classes",
            fix="give all of them the same payload.draws, or mixture: no",
        )

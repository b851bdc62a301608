"""What is decided of a point before a trial is spent on it: whether it can be trained, and may be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from actors.fitting import check_shape
from actors.payloads import planned
from actors.workspace import Workspace
from tune_spaces.search.asking import Labels, Verdict
from tune_spaces.search.trial import trial_job
from tune_spaces.space import Space
from tutelage.config import JobConfig
from tutelage.errors import ConfigError, TutelageError
from tutelage.signals.spec import PayloadSpec

SHARED = ("name", "seed", "task", "data", "teachers", "stream", "export", "serve", "search", "ray")
"""Sections that all trials have in common; of `teachers` the payloads may be searched."""
MEASURED = ("sequence-classification", "token-classification")
"""Tasks whose students are exported, and so have a latency."""


def check_payloads(payloads: Mapping[str, PayloadSpec]) -> None:
    """Raise ConfigError for a payload that needs its teacher beside the store."""
    name = next((name for name, spec in payloads.items() if spec.kind == "hidden"), None)
    if name is not None:
        raise ConfigError(
            f"teachers.{name}.payload: hidden states need their teacher's output layer, and trials ask none",
            fix=f"teachers.{name}.payload={{type: dense, dtype: bf16}}",
        )


class Gate:
    """Refuses points with a reason; keeps the nearest one that limits refused."""

    def __init__(self, space: Workspace, searched: Space, measured: dict[str, dict[str, float]]) -> None:
        self._space, self._searched, self._measured = space, searched, measured
        search = space.job.search
        self.limits = {
            key: value
            for key, value in (("latency_ms", search.limits.latency_ms), ("size_mb", search.limits.size_mb))
            if value is not None
        }
        self.measures = bool(self.limits) or any(goal in ("latency_ms", "size_mb") for goal in search.goals)
        self.near_miss: tuple[float, Labels, dict[str, float]] | None = None
        """How many times over the limits, the point, its measures."""

    def __call__(self, labels: Labels) -> Verdict:
        """Whether this point can be trained; with limits or such goals its student is measured here."""
        try:
            job = trial_job(self._space.job, self._searched, self._searched.point(labels))
            check_shape(job, self._space.student)
            plans = planned(replace(self._space, job=job), self._measured)
            check_payloads({plan.teacher: plan.spec for plan in plans})
            found = self.cost(job) if self.measures else {}
        except TutelageError as error:
            return Verdict(error.problem.removeprefix("the search: "))
        over = {key: found[key] / most for key, most in self.limits.items() if found[key] > most}
        if not over:
            return Verdict(measures=found)
        worst = max(over.values())
        if self.near_miss is None or worst < self.near_miss[0]:
            self.near_miss = (worst, labels, found)
        return Verdict(
            ", ".join(f"{key} is {found[key]:.3g}, the limit is {self.limits[key]:.3g}" for key in over)
        )

    def cost(self, job: JobConfig, *, again: bool = False) -> dict[str, float]:
        """`latency_ms`, `size_mb` and `weights` of the job's student on its device. Raises ModelError.

        With `again` it is measured once more, and the lower latency is kept.
        """
        from tutelage.export.cost import measure_cost

        device = job.search.device
        found = measure_cost(
            self._space.home,
            job.task,
            self._space.student.folder,
            architecture=job.student.architecture,
            layers=job.student.layers,
            variant=job.serve.variant,
            batch=device.batch,
            tokens=device.tokens or job.data.max_tokens,
            threads=device.threads or job.serve.threads,
            again=again,
        )
        return {"latency_ms": found.latency_ms, "size_mb": found.size_mb, "weights": float(found.weights)}

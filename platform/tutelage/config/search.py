"""A search: what is looked for, where, by whom, and when a trial is given up."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, model_validator

from tutelage.config.base import DefaultType, Fraction, Positive, Section

Goal = Literal["accuracy", "loss", "latency_ms", "size_mb"]
"""What a trial is measured by: the first two on the validation rows, the others by its student alone."""

SMALLER_IS_BETTER = ("loss", "latency_ms", "size_mb")


class FloatRange(Section):
    """Any number between two."""

    type: Literal["float"]
    low: float
    """The smallest value that is tried."""
    high: float
    """The largest value that is tried."""
    log: bool = False
    """Spread trials evenly over the logarithm."""

    @model_validator(mode="after")
    def _has_room(self) -> FloatRange:
        _check_range(self.low, self.high, log=self.log)
        return self


class IntRange(Section):
    """Any whole number between two, both included."""

    type: Literal["int"]
    low: int
    """The smallest value that is tried."""
    high: int
    """The largest value that is tried."""
    log: bool = False
    """Spread trials evenly over the logarithm."""

    @model_validator(mode="after")
    def _has_room(self) -> IntRange:
        _check_range(self.low, self.high, log=self.log)
        return self


class Choice(Section):
    """One of a few values; a value may be a list or a whole section."""

    type: Literal["choice"]
    values: list[JsonValue] = Field(min_length=1)
    """At least two different ones."""

    @model_validator(mode="after")
    def _differ(self) -> Choice:
        texts = [json.dumps(value, sort_keys=True) for value in self.values]
        twice = next((text for n, text in enumerate(texts) if text in texts[:n]), None)
        if twice is not None:
            raise ValueError(f"values holds {twice} twice")
        if len(texts) < 2:
            raise ValueError("values holds one value, so there is nothing to search; set the key itself")
        return self


Searched = Annotated[FloatRange | IntRange | Choice, Field(discriminator="type")]


class RandomSearch(Section):
    """Draw every trial by itself."""

    type: Literal["random"]


class GridSearch(Section):
    """Try all combinations, in order; ranges are cut into a few points."""

    type: Literal["grid"]
    points: Annotated[int, Field(ge=2)] = 3
    """Points of a range, its ends included."""


class TPESearch(Section):
    """Optuna's tree-structured Parzen estimator, which goes by the trials so far (NeurIPS 2011)."""

    type: Literal["tpe"] = "tpe"
    startup: Positive = 8
    """Trials that are drawn at random first."""


Searcher = Annotated[RandomSearch | GridSearch | TPESearch, Field(discriminator="type"), DefaultType("tpe")]


class NoScheduler(Section):
    """Every trial runs to its end."""

    type: Literal["none"]


class ASHA(Section):
    """Asynchronous successive halving: only the better share goes on at each rung (arXiv:1810.05934)."""

    type: Literal["asha"] = "asha"
    grace: Fraction = 0.25
    """Share of its budget that every trial gets."""
    reduction: Annotated[float, Field(gt=1)] = 3
    """One of so many goes on at a rung."""


class Fidelity(Section):
    """Stop a trial whose student follows the teachers worse than the median trial did at the same progress.

    Compared is the KL from the combined teachers to the student on the validation rows, at temperature 1.
    It needs no labels, means the same at every searched temperature and weight, and scatters less than the
    accuracy on few rows.
    """

    type: Literal["fidelity"]
    grace: Fraction = 0.25
    """Share of its budget that every trial gets."""
    least: Annotated[int, Field(ge=2)] = 3
    """Trials that must have come as far before one is compared with them."""


class PBT(Section):
    """Population-based training: the worst take weights and values of the best (arXiv:1711.09846).

    For values that may change while a training runs: train.lr, weights and temperatures of objectives.
    """

    type: Literal["pbt"]
    interval: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the budget between two looks at the population."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share of the population that is replaced, and that is copied."""
    resample: Fraction = 0.25
    """How often a copied value is drawn anew; else it is moved by a fifth."""


class PB2(Section):
    """As `pbt`, but a Gaussian process proposes the next values (arXiv:2002.02518); for ranges alone."""

    type: Literal["pb2"]
    interval: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the budget between two looks at the population."""
    quantile: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Share of the population that is replaced, and that is copied."""


Scheduler = Annotated[NoScheduler | ASHA | Fidelity | PBT | PB2, Field(discriminator="type")]


class Limits(Section):
    """What a student must keep to; latency and size are measured before it is trained."""

    latency_ms: float | None = Field(default=None, gt=0)
    """Median time of one ONNX Runtime call at `search.device`."""
    size_mb: float | None = Field(default=None, gt=0)
    """Size of the ONNX file that serves, in megabytes (1e6 bytes)."""
    accuracy_min: Fraction | None = None
    """Smallest validation accuracy of a winner."""


class Device(Section):
    """Where and how students will answer; latency is measured so, on the machine that runs the command."""

    batch: Positive = 1
    """Texts a call."""
    tokens: Positive | None = None
    """Tokens a text; data.max_tokens when null."""
    threads: Positive | None = None
    """ONNX Runtime intra-op threads; serve.threads when null."""


class Budget(Section):
    """What one trial gets; the winner gets what `train` says."""

    epochs: Positive | None = None
    """train.epochs when null."""
    max_steps: Positive | None = None
    """train.max_steps when null."""


class SearchConfig(Section):
    """`tutelage tune`: trials of other values for keys of this job."""

    spaces: list[str] = Field(default=[])
    """Ready-made spaces by name, see docs/search.md; schedules and optimiser where `space` is empty too."""
    space: dict[str, Searched] = Field(default={})
    """Key of this job, as in an override -> the values that are tried; it goes before `spaces`."""
    trials: Positive = 16
    """Trainings, the job as it is among them."""
    concurrent: Positive | None = None
    """Trials at a time; as many as the cluster's CPUs and GPUs hold when null."""
    cpus_per_trial: float = Field(default=1, gt=0)
    """CPUs that Ray reserves for a trial; it computes with so many threads."""
    gpus_per_trial: float = Field(default=0, ge=0)
    """GPUs that Ray reserves for a trial; fractions share one."""
    goals: list[Goal] = Field(default=["accuracy"], min_length=1)
    """The first decides; with several, trials are drawn towards their Pareto front and none is stopped."""
    searcher: Searcher = TPESearch()
    scheduler: Scheduler | None = None
    """`asha` with one goal, `none` with several, when null."""
    reports: Annotated[int, Field(ge=1, le=100)] = 4
    """Evaluations on the validation rows a trial; it is stopped, copied and resumed at these."""
    budget: Budget = Budget()
    limits: Limits = Limits()
    device: Device = Device()
    warm_start: bool = True
    """Begin with what earlier searches for the same task and data found."""
    sinks: list[Literal["tensorboard", "mlflow"]] = Field(default=[])
    """Where trials are logged too; a sink that fails is left out, and the search goes on."""
    mlflow_uri: str | None = None
    """Tracking server; a file database in the search's folder when null."""

    @model_validator(mode="after")
    def _parts_agree(self) -> SearchConfig:
        if len(set(self.goals)) < len(self.goals):
            raise ValueError(f"goals: one stands twice in {self.goals}")
        if self.goals[0] not in ("accuracy", "loss"):
            raise ValueError(f"goals: the first decides, and {self.goals[0]} alone would train nothing well")
        scheduler = self.scheduler
        if scheduler is None or isinstance(scheduler, NoScheduler):
            return self
        if len(self.goals) > 1:
            raise ValueError(
                f"scheduler {scheduler.type} compares trials by one goal, and goals has {len(self.goals)}; "
                "use type none"
            )
        if isinstance(scheduler, PBT | PB2) and not isinstance(self.searcher, RandomSearch | TPESearch):
            raise ValueError(f"scheduler {scheduler.type} draws its population; searcher grid cannot")
        if isinstance(scheduler, PB2):
            closed = next((key for key, one in self.space.items() if isinstance(one, Choice)), None)
            if closed is not None:
                raise ValueError(f"scheduler pb2 needs ranges, and space.{closed} is a choice; use pbt")
        if isinstance(scheduler, PBT | PB2) and self.reports < 2:
            raise ValueError(f"scheduler {scheduler.type} needs reports of 2 or more")
        return self

    @property
    def stops_by(self) -> Scheduler:
        """The scheduler, or its default."""
        if self.scheduler is not None:
            return self.scheduler
        return ASHA() if len(self.goals) == 1 else NoScheduler(type="none")


def _check_range(low: float, high: float, *, log: bool) -> None:
    if low >= high:
        raise ValueError(f"low {low:g} is not below high {high:g}; there is nothing to search between them")
    if log and low <= 0:
        raise ValueError(f"low is {low:g}: a logarithmic range begins above 0")


def plain(value: Any) -> str:
    """A searched value as one short text."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)

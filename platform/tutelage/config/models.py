"""Teachers and the student."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.config.architecture import Architecture
from tutelage.config.base import Positive, Section, Slug
from tutelage.config.data import Pick
from tutelage.config.payload import AutoPayload, Payload
from tutelage.config.remote import Remote
from tutelage.config.train import TrainConfig


class FullFinetune(Section):
    """Train every weight."""

    type: Literal["full"] = "full"


class PartialFinetune(Section):
    """Train the upper part; embeddings and the lowest layers stay as they are."""

    type: Literal["partial"]
    freeze_layers: int = Field(default=0, ge=0)
    """The lowest so many encoder layers are frozen."""
    freeze_embeddings: bool = True
    """Token and position embeddings stay as they are."""


class LoraFinetune(Section):
    """Train low-rank adapters (arXiv:2106.09685) by peft, merged into the weights on export."""

    type: Literal["lora"]
    rank: Positive = 8
    """Rank of the two factors of each adapter."""
    alpha: Positive = 16
    """Adapters are scaled by alpha / rank."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that is dropped in training."""
    target_modules: list[str] | None = None
    """Names of the layers that get an adapter; peft's choice for the architecture when null."""


Method = Annotated[FullFinetune | PartialFinetune | LoraFinetune, Field(discriminator="type")]


class FinetuneConfig(Section):
    """How a teacher is made from its base model."""

    data: dict[Slug, Pick] = Field(min_length=1)
    """Labelled sources that the teacher learns from."""
    method: Method = FullFinetune()
    """Which weights are trained."""
    train: TrainConfig = TrainConfig()


class TeacherConfig(Section):
    """One teacher: a model, how it was or will be trained, and the replicas that serve it."""

    name: Slug
    """What the teacher is called in overrides, weights, logs and reports."""
    model: str
    """A folder, an fsspec URL, a hub name, or `catalog:NAME`; with `finetune`, the base model."""
    tokenizer: str | None = None
    """The model's own when null. Teachers may have another vocabulary than the student."""
    labels: list[str] | None = None
    """The model's classes in its own order; read from its config.json when null."""
    finetune: FinetuneConfig | None = None
    """Train this teacher first; null when the model already does the task."""
    remote: Remote | None = None
    """An HTTP server that is this teacher; `model` is then its name there. See docs/remote-teachers.md."""
    payload: Payload = AutoPayload()
    """How its signals travel."""
    max_tokens: Positive | None = None
    """data.max_tokens when null."""
    min_replicas: Positive = 1
    """Ray actors that score side by side at all times."""
    max_replicas: Positive | None = None
    """As many there may be while students wait for this teacher; min_replicas when null."""
    batch_tokens: Positive | None = None
    """Questions of more tokens are cut into parts, which go to different replicas; never cut when null."""
    num_cpus: float = Field(default=1, ge=0)
    """CPUs that Ray reserves for one replica; fractions share a core."""
    num_gpus: float = Field(default=0, ge=0)
    """GPUs that Ray reserves for one replica; fractions share a GPU."""
    threads: Positive | None = None
    """Intra-op threads a replica on CPU; num_cpus, rounded up, when null."""
    share_process: bool | None = None
    """Its first replica lives in one process with those of other teachers; when null, where each takes less
    than one CPU and less than one GPU, and all together no more than one."""

    @property
    def most_replicas(self) -> int:
        """The largest number of replicas."""
        return self.max_replicas or self.min_replicas

    @model_validator(mode="after")
    def _replicas_agree(self) -> TeacherConfig:
        if self.most_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas is {self.max_replicas}, below min_replicas ({self.min_replicas}); "
                "raise it, or write null for a fixed number"
            )
        return self


class StudentConfig(Section):
    """The small model: layers taken from a larger one, a model as it is, or one built anew."""

    model: str
    """A folder, an fsspec URL, a hub name, or `catalog:NAME`."""
    tokenizer: str | None = None
    """The model's own when null."""
    layers: list[int] | None = Field(default=None, min_length=1)
    """Encoder layers to keep, by index from 0; all when null."""
    architecture: Architecture | None = None
    """Built anew instead of taken from `model`, which gives vocabulary, positions and the first weights."""
    method: Method = FullFinetune()
    """Which weights are trained."""
    data: dict[Slug, Pick] | None = None
    """What the student reads; every source in full when null."""

    @model_validator(mode="after")
    def _layers_rise(self) -> StudentConfig:
        if self.layers and (sorted(set(self.layers)) != self.layers or self.layers[0] < 0):
            raise ValueError(f"layers must rise from 0 and stand once each, not {self.layers}")
        return self

    @model_validator(mode="after")
    def _one_way_to_make_it(self) -> StudentConfig:
        if self.layers and self.architecture:
            raise ValueError(
                f"layers {self.layers} keeps layers of the model, architecture builds others; "
                "leave out one of them"
            )
        return self

"""One training: of a teacher (`finetune`) or of the student (`distill`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tutelage.config.base import Fraction, Positive, Section
from tutelage.config.schedule import Rate

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class EarlyStop(Section):
    """Stop when the validation metric has not improved for a while; the best weights are kept."""

    metric: Literal["accuracy", "loss"] = "accuracy"
    """Measured on the validation split: accuracy must rise, or loss must fall."""
    patience: Positive = 2
    """Evaluations without improvement before the training stops."""
    min_delta: float = Field(default=0.0, ge=0)
    """A smaller change is no improvement."""


class TrainConfig(Section):
    """Optimiser, precision, workers and checkpoints of one training."""

    epochs: Positive = 3
    """Passes over the train split."""
    max_steps: Positive | None = None
    """Stop after this many optimiser steps, even inside an epoch."""
    batch_size: Positive = 32
    """Examples an optimiser step over all workers (B)."""
    micro_batch_size: Positive | None = None
    """Examples a forward pass on one worker; smaller than batch_size / workers accumulates gradients."""
    lr: Rate = 5e-5
    """Largest learning rate of AdamW, or a schedule of it; warm-up and `lr_schedule` shape it."""
    lr_schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after the warm-up: to 0, or not at all."""
    warmup: Fraction = 0.1
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of AdamW."""
    clip: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 switches clipping off."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout of the trained model; the model's own when null."""
    precision: Precision = "auto"
    """`auto`: bf16 where the hardware multiplies it, else fp32. fp16 needs a GPU."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed ZeRO: 1 shards optimiser state, 2 gradients too, 3 weights too."""
    workers: Positive = 1
    """Ray Train workers; each holds a copy (or, with ZeRO, a part) of the model."""
    cpus_per_worker: float = Field(default=1, gt=0)
    """CPUs that Ray reserves for one worker."""
    gpus_per_worker: float = Field(default=0, ge=0)
    """GPUs that Ray reserves for one worker."""
    threads: Positive | None = None
    """Intra-op threads a worker on CPU; cpus_per_worker, rounded up, when null."""
    evaluate_every: Positive | None = None
    """Steps between evaluations on the validation split; an epoch when null."""
    checkpoint_every: Positive | None = None
    """Steps between checkpoints; an epoch when null."""
    early_stop: EarlyStop | None = None
    max_failures: int = Field(default=2, ge=0)
    """Worker losses that are survived by going on from the last checkpoint."""

    @model_validator(mode="after")
    def _batch_fits_workers(self) -> TrainConfig:
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size {self.batch_size} does not divide by workers {self.workers}; "
                f"use {self.workers * max(1, round(self.batch_size / self.workers))}"
            )
        per_worker = self.batch_size // self.workers
        if self.micro_batch_size and per_worker % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide "
                f"batch_size / workers = {per_worker}"
            )
        return self

    @model_validator(mode="after")
    def _fp16_has_a_gpu(self) -> TrainConfig:
        if self.precision == "fp16" and not self.gpus_per_worker:
            raise ValueError("precision fp16 needs gpus_per_worker above 0; on a CPU use fp32 or auto")
        return self

    @property
    def micro_batch(self) -> int:
        """Examples a forward pass on one worker."""
        return self.micro_batch_size or self.batch_size // self.workers

    @property
    def accumulation(self) -> int:
        """Forward passes a worker makes for one optimiser step."""
        return self.batch_size // (self.workers * self.micro_batch)

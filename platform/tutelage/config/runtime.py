"""The stream, the export, the endpoint and Ray: what surrounds a training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tutelage.config.base import Positive, Section
from tutelage.config.payload import PlannerConfig
from tutelage.config.store import StoreConfig


class StreamConfig(Section):
    """How teachers' signals reach the student."""

    window: Positive = 8
    """Batches in flight a student worker; memory is bounded by it."""
    deadline_s: float = Field(default=120, gt=0)
    """A reply that takes longer is given up and asked elsewhere; a replica silent for so long is replaced."""
    retries: int = Field(default=3, ge=0)
    """Attempts after the first, for one batch."""
    on_loss: Literal["fail", "degrade"] = "fail"
    """When a teacher cannot answer: end the run, or go on with the other teachers' weights scaled up."""
    hedge_after: float | None = Field(default=4, gt=1)
    """A reply that takes so many median reply times is also asked of a second replica; never when null."""
    hedge_min_s: float = Field(default=1, ge=0)
    """Replies are waited for at least so long before a second replica is asked."""
    start_s: float = Field(default=300, gt=0)
    """Time for a replica to load; a student waits no longer for a teacher without replicas."""
    backoff_s: float = Field(default=1, gt=0)
    """Pause before a lost replica is started a second time; it doubles with each loss."""
    backoff_max_s: float = Field(default=30, gt=0)
    """Longest such pause; replicas that live longer are taken for healthy, and the pauses start anew."""
    target_wait_s: float = Field(default=0.5, gt=0)
    """Questions that wait longer than this for a replica to begin, over seconds, bring another replica."""
    idle_s: float = Field(default=30, gt=0)
    """A replica above min_replicas that could be done without for so long is ended."""
    planner: PlannerConfig = PlannerConfig()
    """What the planner of payloads goes by."""
    store: StoreConfig = StoreConfig()
    """Where signals are kept."""


class ExportConfig(Section):
    """ONNX files and how closely they must agree with the torch student."""

    opset: int = Field(default=20, ge=17, le=23)
    """ONNX operator set."""
    int8: bool = True
    """Also write a dynamically quantised model."""
    min_agreement: float = Field(default=0.97, ge=0, le=1)
    """Smallest share of validation texts on which int8 must predict what torch predicts."""
    max_score_difference: float = Field(default=0.05, gt=0, le=1)
    """How far int8 may move the scores: the mean, over validation texts, of a text's most moved score."""
    target: Literal["here", "any"] = "any"
    """Which processors the int8 file is for. `any` writes unsigned 8-bit weights, which every runtime and
    processor multiplies exactly. `here` writes signed ones where this processor multiplies them exactly
    (VNNI): other runtimes are faster with them here, and wrong on processors that let them saturate.
    tutelage's own endpoint takes whichever form is right where it runs, from either file."""
    max_fp32_difference: float = Field(default=1e-3, gt=0)
    """Largest absolute difference of any fp32 ONNX logit from torch."""


MOST_BODY_BYTES = 256 * 2**20
"""Bytes of request bodies that the endpoint's proxy holds, all requests together."""


class ServeConfig(Section):
    """The endpoint. It listens on loopback unless the host says otherwise."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` opens the endpoint to the network, without authentication."""
    port: int = Field(default=8000, ge=0, le=65535)
    """0 takes a free port."""
    variant: Literal["int8", "fp32"] = "int8"
    """Which ONNX file answers."""
    replicas: Positive | None = None
    """Processes side by side; null: 2 where CPUs for them and their successors are free, else 1."""
    cpus_per_replica: float = Field(default=1, gt=0)
    """CPUs that Ray reserves for one replica."""
    threads: Positive = 1
    """ONNX Runtime intra-op threads a replica."""
    max_batch: Positive = 16
    """Requests of one turn of the model."""
    batch_wait_ms: float = Field(default=0.0, ge=0)
    """How long the first request of a turn waits for others; 0 takes those that came during the last one."""
    max_texts: Positive = 64
    """Texts one request may carry; more is a 413."""
    max_chars: Positive = 20_000
    """Characters one text may have; more is a 413."""
    max_queued: Positive = 256
    """Waiting requests a replica takes before it answers 503."""

    @property
    def body_bytes(self) -> int:
        """Bytes of the largest request within the limits: JSON may write a character as 6 (or two as 12)."""
        return self.max_texts * (self.max_chars * 6 + 8) + 1024

    @model_validator(mode="after")
    def _one_request_fits(self) -> ServeConfig:
        if self.body_bytes > MOST_BODY_BYTES:
            chars = ((MOST_BODY_BYTES - 1024) // self.max_texts - 8) // 6
            advice = f"use max_chars {chars} or less" if chars > 0 else "use a smaller max_texts"
            raise ValueError(
                f"max_texts {self.max_texts} of max_chars {self.max_chars} may be one request of "
                f"{self.body_bytes // 2**20} MiB, the endpoint holds {MOST_BODY_BYTES // 2**20}; {advice}"
            )
        return self


class RayConfig(Section):
    """Where the job runs. Nothing but these numbers changes between a laptop and a cluster."""

    address: str | None = None
    """`auto`, `ray://host:port` or `host:port`; started in-process when null and RAY_ADDRESS is unset."""
    num_cpus: Positive | None = None
    """CPUs of the in-process Ray; those of the machine when null."""
    object_store_mb: int | None = Field(default=None, ge=80)
    """Shared memory of the in-process Ray; Ray's own choice when null."""
    patience_s: float = Field(default=900, gt=0)
    """Work that waits for CPUs or gives no sign of life for so long is ended, with what it lacked."""
    storage: str | None = None
    """Folder or fsspec URL that every node sees, for checkpoints; $TUTELAGE_HOME when null."""
    dashboard: Literal["auto", "on", "off"] = "auto"
    """`auto` starts it only where something needs it."""

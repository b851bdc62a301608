"""What a version says of itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Lineage(BaseModel):
    """Where a version comes from; part of its identity."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str
    job_digest: str
    config_yaml: str
    data_fingerprint: str
    teachers: dict[str, str] = {}
    """Fingerprint of each teacher by its name."""
    base_model: str
    packages: dict[str, str] = {}
    git_commit: str | None = None
    seed: int
    parent: str | None = None
    """The version that an update started from, `name:id`."""
    search: str | None = None
    """The search that chose the job, and the trial of it."""
    trial: str | None = None


class VersionCard(BaseModel):
    """The card of a version. Metrics and sizes describe it; only the lineage identifies it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    labels: list[str] = Field(min_length=1)
    metrics: dict[str, JsonValue] = {}
    """Figures by name, nested as deep as they are (`accuracy: {movies: 0.81}`)."""
    sizes: dict[str, int] = {}
    """Bytes of each file that answers (`fp32`, `int8`)."""
    lineage: Lineage

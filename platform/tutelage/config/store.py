"""Where the teachers' signals are kept."""

from __future__ import annotations

from pydantic import Field, field_validator

from tutelage.config.base import Section


class StoreConfig(Section):
    """Signals are kept below `$TUTELAGE_HOME/signals`, for later epochs, runs and trials."""

    enabled: bool = True
    """False keeps signals in memory, for one run: nothing is read from the disk or written to it."""
    url: str | None = None
    """An fsspec URL (`s3://bucket/signals`) that machines share; signals are uploaded at each flush and
    fetched when a run starts or looks again. Only this machine when null."""
    max_gb: float | None = Field(default=50, gt=0)
    """Size of all signals on this machine (1e9 bytes); the least recently used files go first, never those of
    the running process. No limit when null."""
    flush_mb: float = Field(default=16, ge=1, le=1024)
    """Signals that wait in memory are written once they take so much (1e6 bytes); a killed worker loses
    at most these."""

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, url: str | None) -> str | None:
        protocol, colon, path = (url or "").partition("://")
        if url is not None and not (protocol and colon and path.strip("/")):
            raise ValueError(
                f"'{url}' is not an fsspec URL such as s3://bucket/signals or file:///mnt/signals"
            )
        return url

"""The job file: pydantic sections, loading with overrides, JSON Schema. Loads neither ray nor torch."""

from tutelage.config.job import JobConfig

__all__ = ["JobConfig"]

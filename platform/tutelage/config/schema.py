"""The JSON Schema of a job file, for editors and other languages."""

from __future__ import annotations

from typing import Any

from tutelage.config.job import JobConfig


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of JobConfig; descriptions are the docstrings of the sections."""
    schema = JobConfig.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "tutelage job"}

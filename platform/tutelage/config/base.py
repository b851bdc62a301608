"""The base of every config section: frozen, closed, and with an answer for a mistyped key."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""A name that is safe as a folder, an actor, and a part of a URL."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True)
class DefaultType:
    """Beside a discriminated union: the variant of a mapping that writes no `type`."""

    tag: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def fill(value: Any) -> Any:
            return {"type": self.tag, **value} if isinstance(value, dict) else value

        return core_schema.no_info_before_validator_function(fill, handler(source))


class Section(BaseModel):
    """One section of a job file. Attribute docstrings become the config reference."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _suggest_known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = [key for key in data if key not in cls.model_fields]
            if unknown:
                raise ValueError(unknown_key(str(unknown[0]), cls.model_fields))
        return data


def unknown_key(key: str, known: Any) -> str:
    """The sentence for a key that no section has: the nearest known one, or else all of them."""
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}"
    return f"unknown key '{key}'; {hint}"

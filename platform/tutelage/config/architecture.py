"""The shape of a student that is built anew."""

from __future__ import annotations

from pydantic import Field, model_validator

from tutelage.config.base import Positive, Section


class Architecture(Section):
    """A student of this shape, built anew: docs/architectures.md says how its weights start."""

    family: str = Field(min_length=1)
    """The `model_type` of transformers: bert, distilbert, albert, electra, mobilebert, ..."""
    depth: Positive
    """Layers."""
    width: Positive
    """Hidden size; a multiple of heads."""
    heads: Positive
    """Attention heads a layer."""
    feed_forward: Positive | None = None
    """Width of the feed-forward block; four times the width that the layer works in when null."""
    embedding: Positive | None = None
    """Rank of factorised token embeddings, where the family has them; the family's own when null."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Other values of the family's config in transformers, by its names."""

    @model_validator(mode="after")
    def _sizes_agree(self) -> Architecture:
        if self.width % self.heads:
            near = [n for n in range(1, self.width + 1) if self.width % n == 0]
            best = min(near, key=lambda n: abs(n - self.heads))
            up = self.heads * -(-self.width // self.heads)
            raise ValueError(
                f"width {self.width} does not divide by heads {self.heads}; use heads {best} or width {up}"
            )
        if self.embedding is not None and self.embedding > self.width:
            raise ValueError(
                f"embedding is {self.embedding}, above width ({self.width}); "
                f"use {self.width} or less, or leave it out"
            )
        return self

"""Learning from the student's own texts."""

from __future__ import annotations

from pydantic import Field

from tutelage.config.base import Fraction, Positive, Section


class OnPolicy(Section):
    """Causal-lm: the student completes prompts, and the teachers score what it wrote (arXiv:2306.13649)."""

    fraction: Fraction = 0.5
    """Share of the steps that learn from the student's own texts; the others read the data."""
    max_new_tokens: Positive = 64
    """Longest completion, in tokens."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """Of the student's sampling."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the most probable tokens that together have this mass."""
    prompt_tokens: Positive = 16
    """Where a row has no prompt of its own, its first so many tokens are the prompt."""

"""What a payload is: everything that decides the bytes a teacher sends for one example.

Shapes: V classes or vocabulary, H hidden, K teachers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["dense", "hidden", "topk", "sampled"]
WireType = Literal["fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True)
class PayloadSpec:
    """One teacher's payload. Two equal specs give equal bytes for the same teacher and example."""

    kind: Kind
    width: int
    """V: values in a row of logits. For hidden, H."""
    dtype: WireType = "fp32"
    """How numbers travel; drawn labels are integers and ignore it."""
    entries: int = 0
    """k of top-k; labels drawn a position (N draws) for sampled."""
    temperature: float = 1.0
    """Top-k masses and draws belong to softmax(z / T); dense and hidden serve every temperature."""
    seed: int = 0
    """Of the draws, which also depend on the example's digest."""
    mixture: str = ""
    """Sampled: digest of the weights by which draws are shared among teachers; empty when every teacher
    makes all the draws and the student weights them."""
    member: int = 0
    """Sampled from a mixture: this teacher's column in Request.shares_NK."""

    @property
    def key(self) -> str:
        """A short name that is safe as a folder; different for specs that give different bytes."""
        parts = [self.kind, self.dtype, f"v{self.width}"]
        if self.kind == "sampled":
            parts = [self.kind, f"n{self.entries}", f"v{self.width}", f"t{self.temperature!r}"]
            parts += [f"s{self.seed}"]
            parts += [f"m{self.mixture}", f"k{self.member}"] if self.mixture else []
        elif self.kind == "topk":
            parts = [self.kind, f"k{self.entries}", *parts[1:], f"t{self.temperature!r}"]
        return "-".join(parts)

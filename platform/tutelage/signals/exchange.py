"""One question to a teacher and its answer, tied together by the batch digest.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """Texts to be scored by one teacher."""

    texts: list[str]
    digest: bytes
    """batch_digest of the examples, which the reply must echo."""


@dataclass(frozen=True)
class Reply:
    """A teacher's logits for one request."""

    digest: bytes
    logits_BC: Logits
    """In the order of task.labels, whatever the teacher's own order is."""
    teacher: str
    replica: str
    seconds: float
    """Time the teacher worked, without waiting."""


def batch_digest(examples: Sequence[bytes]) -> bytes:
    """16 bytes over the digests of a batch's examples, in order."""
    return blake3(b"".join(examples)).digest(16)


def fault(request: Request, reply: Reply, classes: int) -> str | None:
    """What is wrong with a reply, in words; None when it can be trusted."""
    if reply.digest != request.digest:
        return f"digest {reply.digest.hex()} answers another batch than {request.digest.hex()}"
    expected = (len(request.texts), classes)
    if reply.logits_BC.shape != expected:
        return f"logits have shape {reply.logits_BC.shape}, expected {expected}"
    if not np.isfinite(reply.logits_BC).all():
        return "logits hold NaN or infinity"
    return None

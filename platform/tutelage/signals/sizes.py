"""How many bytes each payload takes. Loads no torch: the planner and `--plan` use it.

Shapes: V classes or vocabulary, H hidden, K teachers.
"""

from __future__ import annotations

from tutelage.signals.spec import PayloadSpec

FLOAT_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1}

INT8_EXTRA = 8
"""Scale and offset of a row, fp32 each."""

DOUBT_BYTES = 2
"""A teacher's entropy beside its own draws, fp16."""


def id_bytes(width: int) -> int:
    """Whole bytes of one label in [0, width): 2, 3 or 4."""
    return 2 if width <= 1 << 16 else 3 if width <= 1 << 24 else 4


def position_bytes(spec: PayloadSpec, share: float = 1.0) -> float:
    """Bytes of one position's values, as `Packet.nbytes` counts them.

    `share` is the teacher's weight where draws come from the mixture; there the result is the expected
    number, and the sum over teachers is exact.
    """
    match spec.kind:
        case "dense" | "hidden":
            return spec.width * FLOAT_BYTES[spec.dtype] + (INT8_EXTRA if spec.dtype == "int8" else 0)
        case "topk":
            return spec.entries * (id_bytes(spec.width) + FLOAT_BYTES[spec.dtype])
        case "sampled":
            own = spec.entries * id_bytes(spec.width)
            return share * own if spec.mixture else own + DOUBT_BYTES

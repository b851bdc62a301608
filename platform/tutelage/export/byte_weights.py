"""The same 8-bit weights, signed or unsigned: which form is fast and exact differs between processors.

A symmetric weight w in -127..127 with zero point 0 is w + 128 with zero point 128. Both give the same integer
product sum_k (a_k - zero_a)(w_k - zero_w), so a graph answers the same bits in either form wherever the
processor's products are exact (see `processor`).

Legend: K inputs and M outputs of a matrix.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["signed", "unsigned"]
_MIDDLE = 128


def to_form(model: Any, form: Form) -> bool:
    """Store every integer matrix of the ONNX graph `model` in `form`, in place; True when anything changed.

    Unsigned weights whose zero points are not all 128 have no signed form and stay as they are.
    """
    from onnx import numpy_helper

    changed = False
    for weights, zero in _matrices(model):
        moved = _moved(numpy_helper.to_array(weights), numpy_helper.to_array(zero), form)
        if moved is not None:
            weights.CopyFrom(numpy_helper.from_array(moved[0], weights.name))
            zero.CopyFrom(numpy_helper.from_array(moved[1], zero.name))
            changed = True
    return changed


def _matrices(model: Any) -> list[tuple[Any, Any]]:
    """(weights, zero points) of the products with a constant matrix, each matrix once."""
    constants = {one.name: one for one in model.graph.initializer}
    # A product without zero points has signed weights around 0 or unsigned ones from 0: onnxruntime's
    # quantizer writes none of these.
    inputs = {
        node.input[1]: node.input[3]
        for node in model.graph.node
        if node.op_type == "MatMulInteger" and len(node.input) == 4
    }
    return [
        (constants[weights], constants[zero])
        for weights, zero in inputs.items()
        if weights in constants and zero in constants
    ]


def _moved(w_KM: NDArray[Any], zero_M: NDArray[Any], form: Form) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Both arrays in `form`, or None where they are so already or cannot be."""
    if form == "unsigned" and w_KM.dtype == np.int8:
        return _shifted(w_KM, _MIDDLE, np.uint8), _shifted(zero_M, _MIDDLE, np.uint8)
    if form == "signed" and w_KM.dtype == np.uint8 and (zero_M == _MIDDLE).all():
        return _shifted(w_KM, -_MIDDLE, np.int8), _shifted(zero_M, -_MIDDLE, np.int8)
    return None


def _shifted(values: NDArray[Any], by: int, kind: Any) -> NDArray[Any]:
    moved: NDArray[Any] = (values.astype(np.int16) + by).astype(kind)
    return moved

"""What the processor at hand does with 8-bit integers, by trying it.

Processors with AVX2 or AVX512 and without VNNI add two products of unsigned and signed bytes in 16 bits:
above 32,767 the sum saturates, and ONNX Runtime's signed int8 answers are wrong there without a word.
Unsigned weights take another way that is exact everywhere. Which of the two a machine does is asked of the
runtime itself, since the runtime decides by more than a flag of the processor.

Source: onnxruntime.ai, "Quantize ONNX models", section on U8S8 and U8U8; Intel's VPMADDUBSW.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")
"""Flags that decide which 8-bit kernels a runtime takes (Linux's names)."""
_PRODUCTS = 64
"""Length of the products that are tried: a few registers of every width."""

SignedProducts = Literal["exact", "saturate"]


class Processor(BaseModel):
    """Where figures were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machine: str
    """The architecture: x86_64, aarch64."""
    features: list[str]
    """Those of its features that 8-bit kernels use; empty where the system does not tell."""
    signed_int8: SignedProducts
    """What ONNX Runtime makes of unsigned activations times signed weights here."""

    def __str__(self) -> str:
        return f"{self.machine} {' '.join(self.features)}, signed int8 products {self.signed_int8}"


def this_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """The processor that runs this, as ONNX Runtime uses it."""
    return Processor(machine=platform.machine(), features=_features(cpuinfo), signed_int8=signed_products())


@cache
def signed_products() -> SignedProducts:
    """Multiply the largest bytes that there are, and see what comes back."""
    activations_BK = np.full((4, _PRODUCTS), 255, np.uint8)
    weights_KM = np.full((_PRODUCTS, 32), 127, np.int8)
    session = _product()
    found = [
        session.run(None, {"a": rows, "w": weights_KM})[0] for rows in (activations_BK, activations_BK[:1])
    ]
    exact = all((one == 255 * 127 * _PRODUCTS).all() for one in found)
    return "exact" if exact else "saturate"


def _product() -> Any:
    import onnxruntime
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "w"], ["y"])],
        "product",
        [value("a", TensorProto.UINT8, ["B", _PRODUCTS]), value("w", TensorProto.INT8, [_PRODUCTS, 32])],
        [value("y", TensorProto.INT32, ["B", 32])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = model.SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _features(cpuinfo: Path) -> list[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    flags = next((line for line in lines if line.split(":")[0].strip() in ("flags", "Features")), "")
    known = set(flags.split())
    return [name for name in _FEATURES if name in known]

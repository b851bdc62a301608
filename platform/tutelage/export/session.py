"""The session that answers: ONNX Runtime and numpy, nothing else.

Legend: B batch, T tokens, C classes.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import ModelError
from tutelage.export.byte_weights import Form, to_form
from tutelage.export.processor import signed_products

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "logits"


class Classifier(Protocol):
    """Anything that turns tokens into logits."""

    def logits(self, input_ids_BT: NDArray[Any], attention_mask_BT: NDArray[Any]) -> NDArray[np.float32]:
        """float32[B, C]."""
        ...


class OnnxClassifier:
    """A classifier read from one ONNX file. Safe to call from several threads.

    A text's logits do not depend on its neighbours, but for the order of fp32 sums. A graph with dynamic int8
    has one activation scale for all that one call holds, so its texts are answered one by one, without
    padding. On a CPU this costs nothing (docs/serving.md has the figures).

    8-bit weights are taken in the form, signed or unsigned, that this processor multiplies exactly, and fast.

    Args:
        path: the `.onnx` file.
        threads: intra-op threads. They are set here because ONNX Runtime ignores OMP_NUM_THREADS.
        cuda: use the GPU where onnxruntime has its CUDA provider; the CPU otherwise.
        form: of 8-bit weights; by default what `signed_products()` says of this processor.

    Raises:
        ModelError: no such file, not an ONNX model, or one with other inputs and outputs.
    """

    def __init__(self, path: Path, threads: int = 1, *, cuda: bool = False, form: Form | None = None) -> None:
        import onnxruntime

        if threads < 1:
            raise ValueError(f"threads is {threads}; it must be 1 or more")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Waiting threads that spin take the cores from the other replicas of the machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # A memory pattern is kept for every input shape; texts of free length make thousands of them.
        options.enable_mem_pattern = False
        available = onnxruntime.get_available_providers()
        wanted = ["CUDAExecutionProvider"] if cuda and "CUDAExecutionProvider" in available else []
        try:
            self._one_by_one = _has(path, b"DynamicQuantizeLinear")
            self._session = onnxruntime.InferenceSession(
                _fitting(path, form), options, providers=[*wanted, "CPUExecutionProvider"]
            )
        except Exception as problem:  # onnxruntime's own exceptions share no base class but this one
            raise ModelError(
                f"{path} cannot be opened by onnxruntime: {str(problem).splitlines()[0]}",
                fix="run the export again",
            ) from problem
        self._check_names(path)
        self.path = path
        self.threads = threads
        self.providers: list[str] = list(self._session.get_providers())

    def logits(self, input_ids_BT: NDArray[Any], attention_mask_BT: NDArray[Any]) -> NDArray[np.float32]:
        """float32[B, C] for token ids and a mask that is 1 on tokens and 0 on padding.

        Raises:
            ValueError: arrays that are not two matrices of the same shape.
        """
        if input_ids_BT.ndim != 2 or input_ids_BT.shape != attention_mask_BT.shape:
            raise ValueError(
                f"input_ids {input_ids_BT.shape} and attention_mask {attention_mask_BT.shape} "
                "must be matrices of the same shape B x T"
            )
        if not self._one_by_one or not len(input_ids_BT):
            return self._run(input_ids_BT, attention_mask_BT)
        tokens = attention_mask_BT.shape[1]
        ends_B = tokens - np.argmax(attention_mask_BT[:, ::-1] != 0, axis=1)
        return np.concatenate(
            [
                self._run(input_ids_BT[b : b + 1, :end], attention_mask_BT[b : b + 1, :end])
                for b, end in enumerate(ends_B)
            ]
        )

    def _run(self, input_ids_BT: NDArray[Any], attention_mask_BT: NDArray[Any]) -> NDArray[np.float32]:
        feed = {
            "input_ids": np.ascontiguousarray(input_ids_BT, dtype=np.int64),
            "attention_mask": np.ascontiguousarray(attention_mask_BT, dtype=np.int64),
        }
        output: NDArray[np.float32] = self._session.run([OUTPUT], feed)[0]
        return output

    def _check_names(self, path: Path) -> None:
        inputs = tuple(sorted(i.name for i in self._session.get_inputs()))
        outputs = [o.name for o in self._session.get_outputs()]
        if inputs != tuple(sorted(INPUTS)) or OUTPUT not in outputs:
            raise ModelError(
                f"{path} has inputs {list(inputs)} and outputs {outputs}, "
                f"a classifier has {list(INPUTS)} and {OUTPUT}",
                fix="export the model with `tutelage export`",
            )


def softmax(logits_BC: NDArray[Any]) -> NDArray[np.float64]:
    """exp(x) / sum exp(x) over C, in float64, shifted by the largest logit so that nothing overflows."""
    with np.errstate(invalid="ignore"):  # what is not finite stays so, and is judged by who asked
        shifted = logits_BC.astype(np.float64) - logits_BC.max(axis=1, keepdims=True)
        exponents = np.exp(shifted)
        probabilities: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids [B, T] and their mask, padded on the right to the longest row, T at least 1."""
    longest = max(1, *(len(row) for row in rows))
    ids_BT = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(ids_BT)
    for b, row in enumerate(rows):
        ids_BT[b, : len(row)] = row
        mask_BT[b, : len(row)] = 1
    return ids_BT, mask_BT


def score_of(classifier: Classifier, pad_id: int = 0) -> Callable[[Sequence[int]], NDArray[np.float64]]:
    """How one text is scored by itself: token ids in, the probability of each label, float64[C], out."""

    def score(ids: Sequence[int]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = softmax(classifier.logits(*padded([ids], pad_id)))[0]
        return found

    return score


def _has(path: Path, operator: bytes) -> bool:
    """Whether the graph uses an operator. Its name stands in the file as it is, also where weights do not."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(operator) >= 0


def _fitting(path: Path, form: Form | None) -> str | bytes:
    """What ONNX Runtime reads: the file as it stands, or its bytes with 8-bit weights in another form."""
    if not _has(path, b"MatMulInteger"):
        return str(path)
    import onnx

    form = form or ("signed" if signed_products() == "exact" else "unsigned")
    model = onnx.load(str(path))
    return model.SerializeToString() if to_form(model, form) else str(path)

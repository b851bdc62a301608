"""Texts in, probabilities out: the tokenizer and the ONNX file of one version. Loads no torch and no Ray.

Legend: B batch, T tokens, C classes, N texts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve_apps.schemas import Prediction
from tutelage.errors import ModelError
from tutelage.export.session import Classifier, OnnxClassifier
from tutelage.export.spec import ModelSpec, Variant

ROWS = 32
"""Texts in one forward pass; more are answered in several, so that memory stays bounded."""


class Predictor:
    """One exported version, ready to answer. Safe to call from several threads.

    Args:
        folder: an export folder (`tutelage.json`, `tokenizer.json`, the ONNX files).
        variant: `int8` or `fp32`.
        threads: ONNX Runtime intra-op threads.
        classifier: answers instead of the ONNX file, for tests.

    Raises:
        ModelError: a file is missing, broken, or does not fit the others.
    """

    def __init__(
        self,
        folder: Path,
        variant: Variant = "int8",
        threads: int = 1,
        *,
        classifier: Classifier | None = None,
    ) -> None:
        self.spec = ModelSpec.read(folder)
        self.variant = variant
        self._tokenizer = _tokenizer(folder, self.spec.max_tokens)
        self._pad_id = _pad_id(folder, self._tokenizer)
        self._classifier = classifier or OnnxClassifier(self.spec.file(folder, variant), threads)
        self._warm_up(folder)

    def _warm_up(self, folder: Path) -> None:
        ids_BT = np.full((1, self.spec.max_tokens), self._pad_id, dtype=np.int64)
        classes = self._classifier.logits(ids_BT, np.ones_like(ids_BT)).shape[1]
        if classes != len(self.spec.labels):
            raise ModelError(
                f"{folder}: the model gives {classes} logits for {len(self.spec.labels)} labels",
                fix="export the version again",
            )

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction for each text, in their order.

        A text's answer does not depend on its neighbours: each pass holds texts of similar length, and
        padding is masked.
        """
        encodings = self._tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda n: len(encodings[n].ids))
        probabilities_NC = np.empty((len(texts), len(self.spec.labels)))
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            ids_BT, mask_BT = _pad([encodings[n].ids for n in rows], self._pad_id)
            probabilities_NC[rows] = softmax(self._classifier.logits(ids_BT, mask_BT))
        return [
            self._prediction(probabilities_C, truncated=bool(encoding.overflowing))
            for probabilities_C, encoding in zip(probabilities_NC, encodings, strict=True)
        ]

    def _prediction(self, probabilities_C: NDArray[np.float64], *, truncated: bool) -> Prediction:
        scores = {label: float(p) for label, p in zip(self.spec.labels, probabilities_C, strict=True)}
        label = self.spec.labels[int(probabilities_C.argmax())]
        return Prediction(label=label, score=scores[label], scores=scores, truncated=truncated)


def softmax(logits_BC: NDArray[Any]) -> NDArray[np.float64]:
    """exp(x) / sum exp(x) over C, in float64, shifted by the largest logit so that nothing overflows."""
    shifted = logits_BC.astype(np.float64) - logits_BC.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    probabilities: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities


def _pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    longest = max(1, *(len(row) for row in rows))
    ids_BT = np.full((len(rows), longest), pad_id, dtype=np.int64)
    mask_BT = np.zeros_like(ids_BT)
    for b, row in enumerate(rows):
        ids_BT[b, : len(row)] = row
        mask_BT[b, : len(row)] = 1
    return ids_BT, mask_BT


def _tokenizer(folder: Path, max_tokens: int) -> Any:
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise ModelError(
            f"{folder} holds no tokenizer.json",
            fix="export a student whose tokenizer is a fast one (`tokenizer.json` in its folder)",
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as problem:  # tokenizers raises bare Exception for a broken file
        raise ModelError(f"{file} is not a tokenizer: {problem}", fix="export the version again") from problem
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens)
    return tokenizer


def _pad_id(folder: Path, tokenizer: Any) -> int:
    """The id that the model knows as padding: some models derive positions from it, mask or not."""
    try:
        known = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id")
    except (OSError, ValueError):
        known = None
    if known is None:
        known = tokenizer.token_to_id("[PAD]")
    return int(known or 0)

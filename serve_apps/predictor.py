"""Texts in, probabilities out: the tokenizer and the ONNX file of one version. Loads no torch and no Ray.

Legend: B batch, T tokens, C classes, N texts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serve_apps.reading import Reader, passes
from serve_apps.schemas import Prediction
from tutelage.errors import ModelError
from tutelage.export.probes import Probes, ScoresDifferError, check_labels, check_reading, check_scores
from tutelage.export.processor import this_processor
from tutelage.export.session import Classifier, OnnxClassifier, padded, score_of, softmax
from tutelage.export.spec import ModelSpec, Variant
from tutelage.export.tokenizer import read_pad_id
from tutelage.tokenizer import read_file

ROWS = 32
"""Texts in one forward pass; more are answered in several, so that memory stays bounded."""
PASS_TOKENS = 2048
"""Tokens in one forward pass, padding included; one text may have more."""

_LONG = "a quiet little wonder of a film, and then some more of it "
_log = logging.getLogger(__name__)


class Predictor:
    """One exported version, ready to answer. Safe to call from several threads.

    Args:
        folder: an export folder (`tutelage.json`, `tokenizer.json`, the ONNX files).
        variant: `int8` or `fp32`. Where int8 scores the probes otherwise than at export and the processor is
            another one, fp32 answers, `answers_with` says so, and a warning is logged. On a processor like
            that of the export the file is to blame, and refused.
        threads: ONNX Runtime intra-op threads.
        classifier: answers instead of the ONNX file, for tests.

    Raises:
        ModelError: a file is missing, broken, or does not fit the others; or a probe of the version is read
            or scored otherwise than where it was exported.
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
        self._tokenizer = read_file(folder, self.spec.max_tokens)
        self._reader = Reader(self._tokenizer, self.spec.max_tokens)
        self._pad_id = read_pad_id(folder, self._tokenizer)
        probes = Probes.read(folder)
        if probes is None:
            _log.warning("%s keeps no probes: what it answers is not compared with its export", folder)
        else:
            check_labels(probes, self.spec.labels, self.spec.max_tokens)
            check_reading(probes, self._encode)

        def opened(one: Variant) -> Classifier:
            found = classifier or OnnxClassifier(self.spec.file(folder, one), threads)
            if probes is not None:
                check_scores(probes, one, score_of(found, self._pad_id))
            return found

        self.answers_with: Variant = variant
        try:
            self._classifier = opened(variant)
        except ScoresDifferError as problem:
            if variant == "fp32" or classifier is not None or self.spec.processor == this_processor():
                raise
            self._classifier, self.answers_with = opened("fp32"), "fp32"
            _log.warning("%s answers with fp32: %s", folder, problem.problem)
        self._warm_up(self._encode(_LONG) if probes is None else probes.longest.ids)

    def _encode(self, text: str) -> list[int]:
        return list(self._reader.read(text).ids)

    def _warm_up(self, ids: Sequence[int]) -> None:
        """A full pass of the longest texts that the model reads, the tokenizer's last token among theirs.

        Args:
            ids: of a real text, repeated until there are max_tokens of them.
        """
        full = np.resize(np.array(ids or [self._pad_id], np.int64), self.spec.max_tokens)
        full[len(full) // 2] = max(self._tokenizer.get_vocab().values())
        rows = min(ROWS, max(1, PASS_TOKENS // len(full)))
        try:
            logits_BC = self._classifier.logits(*padded([full.tolist()] * rows, self._pad_id))
        except Exception as problem:  # onnxruntime's own exceptions share no base class but this one
            raise ModelError(
                f"the model cannot answer {rows} texts of {self.spec.max_tokens} tokens, token "
                f"{full[len(full) // 2]} among them: {(str(problem).splitlines() or [''])[0]}",
                fix="it has fewer positions or tokens than its tokenizer gives it: export the version again",
            ) from problem
        if logits_BC.shape[1] != len(self.spec.labels):
            raise ModelError(
                f"the model gives {logits_BC.shape[1]} logits for {len(self.spec.labels)} labels",
                fix="export the version again",
            )
        _check_finite(softmax(logits_BC))

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """One prediction for each text, in their order.

        A text's answer does not depend on its neighbours: each pass holds texts of similar length, and
        padding is masked. Raises ModelError when a score is not finite.
        """
        read = [self._reader.read(text) for text in texts]
        probabilities_NC = np.empty((len(texts), len(self.spec.labels)))
        for rows in passes([len(one.ids) for one in read], PASS_TOKENS, ROWS):
            ids_BT, mask_BT = padded([read[n].ids for n in rows], self._pad_id)
            probabilities_NC[rows] = softmax(self._classifier.logits(ids_BT, mask_BT))
        _check_finite(probabilities_NC)
        return [
            self._prediction(probabilities_C, truncated=one.truncated)
            for probabilities_C, one in zip(probabilities_NC, read, strict=True)
        ]

    def _prediction(self, probabilities_C: NDArray[np.float64], *, truncated: bool) -> Prediction:
        scores = {label: float(p) for label, p in zip(self.spec.labels, probabilities_C, strict=True)}
        label = self.spec.labels[int(probabilities_C.argmax())]
        return Prediction(label=label, score=scores[label], scores=scores, truncated=truncated)


def _check_finite(probabilities_NC: NDArray[np.float64]) -> None:
    if not np.isfinite(probabilities_NC).all():
        raise ModelError("the model gives a score that is not finite", fix="deploy another version")

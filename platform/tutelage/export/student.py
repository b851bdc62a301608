"""The whole export of a student: ONNX fp32, the check against torch, int8, what serving needs beside them.

Legend: B batch, T tokens, C classes, N examples.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.config.runtime import ExportConfig
from tutelage.data.folders import whole_folder
from tutelage.errors import GateError
from tutelage.export.agreement import Agreement, agreement
from tutelage.export.latency import SHAPES, Latency, measure
from tutelage.export.onnx import OnnxFile, export_model
from tutelage.export.probe_texts import record_probes
from tutelage.export.processor import Processor, this_processor
from tutelage.export.quantise import NoRecipeError, Quantised, Recipe, Tried, describe, quantise
from tutelage.export.session import Classifier, OnnxClassifier
from tutelage.export.spec import ModelSpec, Variant
from tutelage.progress import Stage

FP32_FILE, INT8_FILE = "model.onnx", "model.int8.onnx"
TOKENIZER_FILES = (
    "config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
)
_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Probe:
    """What the files are checked on: validation batches and torch's logits for them."""

    batches: Sequence[tuple[NDArray[Any], NDArray[Any]]]
    """(input_ids[B, T], attention_mask[B, T]) each; together N examples, in the order of `logits_NC`."""
    logits_NC: NDArray[np.float32]
    labels: list[str]
    max_tokens: int
    texts: Sequence[str] = ()
    """The N texts, in the same order; without them the version keeps no probes."""

    @property
    def ids(self) -> list[list[int]]:
        """Of each text, without padding."""
        pairs = (pair for batch in self.batches for pair in zip(*batch, strict=True))
        return [ids_T[mask_T == 1].tolist() for ids_T, mask_T in pairs]


@dataclass(frozen=True)
class ExportResult:
    """A finished folder and what was measured of it."""

    folder: Path
    fp32: Path
    fp32_bytes: int
    fp32_agreement: Agreement
    processor: Processor
    """Where all this was measured."""
    int8: Path | None = None
    int8_bytes: int | None = None
    int8_agreement: Agreement | None = None
    recipe: Recipe | None = None
    tried: tuple[Tried, ...] = ()
    """Every int8 recipe that was tried, the accepted one last."""
    latencies: dict[str, list[Latency]] = field(default_factory=dict)
    """By runtime (torch, fp32, int8), one entry for each of `latency.SHAPES`; one thread."""


def export_student(
    model_folder: Path,
    out: Path,
    config: ExportConfig,
    probe: Probe,
    stage: Stage | None = None,
    *,
    latency_runs: int = 20,
    shapes: Sequence[tuple[int, int]] = SHAPES,
) -> ExportResult:
    """Export the classifier in `model_folder` into the folder `out`, which appears when it is whole.

    `out` gets model.onnx, model.int8.onnx, the tokenizer's files, config.json, tutelage.json and probes.json.
    An `out` that exists is replaced. `latency_runs` 0 measures no times.

    Raises:
        GateError: fp32 differs from torch by more than config.max_fp32_difference; then `out` is not made.
            Or no int8 recipe reaches config.min_agreement; then `out` holds fp32 alone and can be served.
        ModelError: the folder holds no classifier, or one that cannot be exported; or its tokenizer reads a
            text otherwise than the training did.
    """
    from tutelage.models.load import load_classifier

    _check(probe)
    model = load_classifier(model_folder)
    failed: NoRecipeError | None = None
    times: dict[str, list[Latency]] = {}
    with whole_folder(out, replace=True) as folder:
        clock = _Latencies(int(model.config.vocab_size), latency_runs, shapes, probe.max_tokens, times)
        clock.torch(model)
        _tell(stage, 1, "torch to ONNX")
        file = export_model(model, folder / FP32_FILE, config)
        _tell(stage, 2, "check fp32")
        fp32 = _score(probe)(file.path)
        _gate_fp32(fp32, config)
        clock.onnx("fp32", file.path)
        int8: Quantised | None = None
        if config.int8:
            _tell(stage, 3, "int8")
            try:
                int8 = quantise(file.path, folder / INT8_FILE, config, _score(probe))
                clock.onnx("int8", int8.path)
            except NoRecipeError as problem:
                failed = problem
        for path in _beside(model_folder):
            shutil.copy2(path, folder / path.name)
        spec = _spec(probe, file, int8, config)
        spec.write(folder)
        if probe.texts:
            record_probes(folder, spec, probe.texts, probe.ids)
    if failed is not None:
        raise failed
    _tell(stage, 4, "done")
    return _result(out, file, fp32, int8, times)


def _check(probe: Probe) -> None:
    rows = sum(len(ids_BT) for ids_BT, _ in probe.batches)
    wrong = probe.texts and len(probe.texts) != rows
    if wrong or rows != len(probe.logits_NC) or probe.logits_NC.shape[1:] != (len(probe.labels),):
        raise ValueError(
            f"the probe has {rows} texts and {len(probe.labels)} labels, "
            f"and logits of shape {probe.logits_NC.shape}"
        )


def _score(probe: Probe) -> Callable[[Path], Agreement]:
    import torch

    threads = torch.get_num_threads()

    def score(path: Path) -> Agreement:
        session = OnnxClassifier(path, threads=threads)
        parts = [session.logits(ids_BT, mask_BT) for ids_BT, mask_BT in probe.batches]
        return agreement(probe.logits_NC, np.concatenate(parts))

    return score


def _gate_fp32(found: Agreement, config: ExportConfig) -> None:
    if not found.max_abs_diff <= config.max_fp32_difference:
        raise GateError(
            f"a logit of the fp32 ONNX file differs from torch by {found.max_abs_diff:.3g}, "
            f"export.max_fp32_difference allows {config.max_fp32_difference:.3g} "
            f"({found.share_same_label:.1%} of {found.examples} texts get the same label)",
            fix="try another export.opset, or raise export.max_fp32_difference if the labels agree",
        )


def _beside(model_folder: Path) -> list[Path]:
    return sorted(
        {path for pattern in TOKENIZER_FILES for path in model_folder.glob(pattern) if path.is_file()}
    )


def _spec(probe: Probe, file: OnnxFile, int8: Quantised | None, config: ExportConfig) -> ModelSpec:
    files: dict[Variant, str] = {"fp32": FP32_FILE}
    if int8 is not None:
        files["int8"] = INT8_FILE
    return ModelSpec(
        labels=probe.labels,
        max_tokens=probe.max_tokens,
        opset=file.opset,
        files=files,
        recipe=describe(int8.recipe) if int8 else None,
        processor=this_processor(),
        packages={name: version(name) for name in _PACKAGES},
    )


def _result(
    out: Path, file: OnnxFile, fp32: Agreement, int8: Quantised | None, times: dict[str, list[Latency]]
) -> ExportResult:
    return ExportResult(
        folder=out,
        fp32=out / FP32_FILE,
        fp32_bytes=file.bytes,
        fp32_agreement=fp32,
        processor=this_processor(),
        int8=out / INT8_FILE if int8 else None,
        int8_bytes=int8.bytes if int8 else None,
        int8_agreement=int8.agreement if int8 else None,
        recipe=int8.recipe if int8 else None,
        tried=int8.tried if int8 else (),
        latencies=times,
    )


def _tell(stage: Stage | None, done: int, step: str) -> None:
    if stage:
        stage.update(done, 4, step=step)


class _Latencies:
    """Measures each runtime on one thread, as a serving replica has it."""

    def __init__(
        self,
        vocab: int,
        runs: int,
        shapes: Sequence[tuple[int, int]],
        max_tokens: int,
        into: dict[str, list[Latency]],
    ) -> None:
        self._vocab, self._runs, self._into = vocab, runs, into
        self._shapes = list(dict.fromkeys((batch, min(tokens, max_tokens)) for batch, tokens in shapes))

    def onnx(self, name: str, path: Path) -> None:
        if self._runs:
            self._add(name, OnnxClassifier(path, threads=1))

    def torch(self, model: Any) -> None:
        if not self._runs:
            return
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._add("torch", TorchClassifier(model))
        finally:
            torch.set_num_threads(threads)

    def _add(self, name: str, session: Classifier) -> None:
        self._into[name] = [
            measure(session, batch, tokens, self._vocab, max(3, self._runs // batch))
            for batch, tokens in self._shapes
        ]


class TorchClassifier:
    """The torch student behind the interface of `OnnxClassifier`."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def logits(self, input_ids_BT: NDArray[Any], attention_mask_BT: NDArray[Any]) -> NDArray[np.float32]:
        """float32[B, C]."""
        import torch

        with torch.inference_mode():
            found = self._model(
                input_ids=torch.from_numpy(np.ascontiguousarray(input_ids_BT, dtype=np.int64)),
                attention_mask=torch.from_numpy(np.ascontiguousarray(attention_mask_BT, dtype=np.int64)),
            )
        logits: NDArray[np.float32] = found.logits.float().numpy()
        return logits

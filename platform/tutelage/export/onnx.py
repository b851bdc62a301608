"""A torch classifier as a standard ONNX graph, by torch's own exporter.

The graph is exported with eager attention and holds only operators of the ONNX standard, so any runtime
reads it. Gelu, layer normalisation and skip connections are fused by ONNX Runtime when it opens the file.

Legend: B batch, T tokens, C classes.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.config.runtime import ExportConfig
from tutelage.errors import ModelError
from tutelage.export.session import INPUTS, OUTPUT
from tutelage.models.exportable import export_fault
from tutelage.progress import Stage

_PROTOBUF_LIMIT = 1_900_000_000
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_NOISY = ("torch.onnx", "onnxscript", "torch.export", "onnx_ir")


@dataclass(frozen=True)
class OnnxFile:
    """A written graph."""

    path: Path
    bytes: int
    """Weights beside the file included."""
    opset: int
    single_file: bool


def export_onnx(model_folder: Path, out: Path, config: ExportConfig, stage: Stage | None = None) -> OnnxFile:
    """Write the classifier in `model_folder` to the file `out`; see `export_model`."""
    from tutelage.models.load import load_classifier

    return export_model(load_classifier(model_folder), out, config, stage)


def export_model(model: Any, out: Path, config: ExportConfig, stage: Stage | None = None) -> OnnxFile:
    """Write a classifier in eval mode to the file `out`, fp32, weights in the same file below 1.9 GB.

    Inputs input_ids and attention_mask are int64[B, T], output logits is float32[B, C]; B and T are free.
    Segment ids, where the model has them, are zero.

    Raises:
        ModelError: torch cannot trace the architecture.
    """
    import torch

    fault = export_fault("sequence-classification", str(model.config.model_type))
    if fault:
        raise ModelError(fault, fix="take a student of another family")
    classifier = _logits_module(model)
    ids_BT = torch.arange(14).reshape(2, 7) % 5 + 2
    mask_BT = torch.ones(2, 7, dtype=torch.long)
    mask_BT[1, 5:] = 0
    free = {0: "batch", 1: "tokens"}
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    if stage:
        stage.update(0, 1, architecture=str(model.config.model_type))
    with _eager_attention(model), _quiet():
        try:
            program = torch.onnx.export(
                classifier,
                (ids_BT, mask_BT),
                input_names=list(INPUTS),
                output_names=[OUTPUT],
                dynamic_shapes=(free, free),
                opset_version=config.opset,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
            assert program is not None  # the type also covers the exporter before dynamo
            out.parent.mkdir(parents=True, exist_ok=True)
            program.save(str(out), external_data=weights > _PROTOBUF_LIMIT)
        except torch.onnx.errors.OnnxExporterError as problem:
            raise ModelError(
                f"torch.onnx cannot export the architecture '{model.config.model_type}': "
                f"{_COLOURS.sub('', str(problem)).strip().splitlines()[0]}",
                fix="take a student of another family",
            ) from problem
    if stage:
        stage.update(1, 1)
    beside = out.with_name(out.name + ".data")
    parts = [path for path in (out, beside) if path.exists()]
    return OnnxFile(out, sum(path.stat().st_size for path in parts), config.opset, len(parts) == 1)


def _logits_module(model: Any) -> Any:
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    return Logits().eval()


@contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """Plain matrix products instead of sdpa, whose exported graph guards every softmax against NaN."""
    before = getattr(model.config, "_attn_implementation", None)
    try:
        model.set_attn_implementation("eager")
    except (AttributeError, ValueError):
        before = None
    try:
        yield
    finally:
        if before not in (None, "eager"):
            model.set_attn_implementation(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports missing torchvision and its own deprecations; none of it is the user's matter."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

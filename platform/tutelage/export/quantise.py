"""Dynamic int8: weights are stored as 8-bit integers, activations are quantised as they come.

A list of recipes is tried in order and the first that agrees with torch, in labels and in scores, is taken.
`reduce_range` and one scale for a whole matrix are in none of them: where they were tried they cost labels
and won no time. In which form the weights of a recipe are stored is `export.target`'s matter.
Source: onnxruntime.quantization.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tutelage.config.runtime import ExportConfig
from tutelage.errors import GateError
from tutelage.export.agreement import Agreement
from tutelage.export.byte_weights import Form, to_form
from tutelage.export.graph import fold_transposes, narrowing_matrices, quantise_tables
from tutelage.export.processor import signed_products
from tutelage.progress import Stage


@dataclass(frozen=True)
class Recipe:
    """One way to quantise."""

    name: str
    weights: Literal["symmetric", "ranged"] = "symmetric"
    """Each column of a matrix has its own scale: 255 steps around zero, or 256 from its least to its largest
    value."""
    tables: bool = True
    """Embedding tables as int8, each row with its own scale: most of the size of a small student."""
    narrowing: bool = True
    """Also the matrices with more inputs than outputs: second feed-forward matrix and classifier."""


RECIPES = (
    Recipe("symmetric"),
    Recipe("symmetric-narrowing-fp32", narrowing=False),
    Recipe("ranged", weights="ranged"),
    Recipe("ranged-narrowing-fp32", weights="ranged", narrowing=False),
    Recipe("ranged-narrowing-tables-fp32", weights="ranged", narrowing=False, tables=False),
)


@dataclass(frozen=True)
class Tried:
    """A recipe and what came of it."""

    recipe: Recipe
    agreement: Agreement
    bytes: int


@dataclass(frozen=True)
class Quantised:
    """The file that passed, and every recipe that was tried before and with it."""

    path: Path
    bytes: int
    recipe: Recipe
    agreement: Agreement
    tried: tuple[Tried, ...]


class NoRecipeError(GateError):
    """No recipe agrees well enough; `tried` says how well each did."""

    def __init__(self, problem: str, *, fix: str, tried: tuple[Tried, ...]) -> None:
        super().__init__(problem, fix=fix)
        self.tried = tried


def quantise(
    fp32: Path,
    out: Path,
    config: ExportConfig,
    score: Callable[[Path], Agreement],
    *,
    stage: Stage | None = None,
    recipes: tuple[Recipe, ...] = RECIPES,
) -> Quantised:
    """Write `out` by the first recipe whose `score(out)` passes `config`.

    It passes with `share_same_label` of config.min_agreement or more, and a `mean_score_diff` of
    config.max_score_difference or less.

    Raises:
        NoRecipeError (a GateError): none passes; `out` is not left behind, `fp32` is as it was.
    """
    form = _form(config)
    tried: list[Tried] = []
    for done, recipe in enumerate(recipes):
        apply_recipe(fp32, out, recipe, form)
        size = _size(out)
        found = score(out)
        tried.append(Tried(recipe, found, size))
        if stage:
            stage.update(done + 1, len(recipes), recipe=recipe.name, agreement=found.share_same_label)
        if _passes(found, config):
            return Quantised(out, size, recipe, found, tuple(tried))
    _remove(out)
    raise NoRecipeError(
        f"int8 falls short of torch ({len(tried)} recipes tried): {_shortfall(tried, config)}",
        fix="serve the fp32 file (serve.variant: fp32, export.int8: false), or allow more",
        tried=tuple(tried),
    )


def _passes(found: Agreement, config: ExportConfig) -> bool:
    return (
        found.share_same_label >= config.min_agreement
        and found.mean_score_diff <= config.max_score_difference
    )


def _shortfall(tried: list[Tried], config: ExportConfig) -> str:
    """What the best recipe missed, by how much, and which key asks for it."""
    best = max(tried, key=lambda one: (one.agreement.share_same_label, -one.agreement.mean_score_diff))
    found, missed = best.agreement, []
    if found.share_same_label < config.min_agreement:
        missed.append(
            f"it predicts what torch predicts on {found.share_same_label:.1%} of {found.examples} texts, "
            f"export.min_agreement asks for {config.min_agreement:.1%}"
        )
    if found.mean_score_diff > config.max_score_difference:
        missed.append(
            f"scores move by {found.mean_score_diff:.3f} on average, "
            f"export.max_score_difference allows {config.max_score_difference:g}"
        )
    return f"at best (recipe {best.recipe.name}) " + "; ".join(missed)


def _form(config: ExportConfig) -> Form:
    exact = config.target == "here" and signed_products() == "exact"
    return "signed" if exact else "unsigned"


def apply_recipe(fp32: Path, out: Path, recipe: Recipe, form: Form = "unsigned") -> None:
    """Write `out`, the graph of `fp32` quantised by one recipe, symmetric weights stored in `form`."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(str(fp32))
    fold_transposes(model)
    keep = [] if recipe.narrowing else narrowing_matrices(model)
    if recipe.tables:
        quantise_tables(model)
    external = fp32.with_name(fp32.name + ".data").exists()
    _remove(out)  # weights beside a file are appended to those that are there
    with _quiet():
        quantize_dynamic(
            model,
            str(out),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8 if recipe.weights == "symmetric" else QuantType.QUInt8,
            # The quantizer turns a Gemm into a MatMul of this name before it looks for names.
            nodes_to_exclude=[*keep, *(f"{name}_MatMul" for name in keep)],
            use_external_data_format=external,
            # Tensors behind operators that shape inference does not know are float; without this it raises.
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )
    written = onnx.load(str(out))
    if to_form(written, form):
        _remove(out)
        onnx.save(written, str(out), save_as_external_data=external, location=f"{out.name}.data")


def describe(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain data."""
    return asdict(recipe)


def _remove(path: Path) -> None:
    for one in (path, path.with_name(path.name + ".data")):
        one.unlink(missing_ok=True)


def _size(path: Path) -> int:
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises every caller on the root logger to pre-process the model."""
    root = logging.getLogger()
    drop = _Below(logging.ERROR)
    handlers = list(root.handlers)
    root.addFilter(drop)
    try:
        yield
    finally:
        root.removeFilter(drop)
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)


class _Below(logging.Filter):
    def __init__(self, level: int) -> None:
        super().__init__()
        self._least = level

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= self._least

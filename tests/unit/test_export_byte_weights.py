"""8-bit weights: signed or unsigned they are the same numbers, and a text's answer is its own.

Shapes: B batch, T tokens, C classes, K inputs and M outputs of a matrix.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.export_samples import by_hand, texts
from tutelage.export import OnnxClassifier
from tutelage.export.byte_weights import to_form
from tutelage.export.processor import Processor, signed_products, this_processor
from tutelage.export.quantise import RECIPES, apply_recipe

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module", params=[RECIPES[0], RECIPES[2]], ids=lambda recipe: recipe.name)
def int8(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    apply_recipe(by_hand(folder / "fp32.onnx"), folder / "int8.onnx", request.param, "signed")
    return folder / "int8.onnx"


def by_integers(path: Path, ids_BT: np.ndarray, mask_BT: np.ndarray) -> np.ndarray:
    """The graph of `by_hand` quantised, text by text, every product in exact integers: float32[B, C]."""
    import onnx
    from onnx import numpy_helper

    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load(str(path)).graph.initializer}
    rows = []
    for ids_T, mask_T in zip(ids_BT, mask_BT, strict=True):
        kept = ids_T[: mask_T.sum()]
        x_K = (stored["table.int8"][kept] * stored["table.scale"][kept]).mean(axis=0)
        for name in ("wide", "narrow"):
            low, high = min(float(x_K.min()), 0.0), max(float(x_K.max()), 0.0)
            scale = (high - low) / 255
            zero = round(-low / scale)
            a_K = np.clip(np.rint(x_K / scale) + zero, 0, 255).astype(np.int64) - zero
            zero_M = stored[f"{name}_zero_point"].astype(np.int64)
            x_K = (a_K @ (stored[f"{name}_quantized"].astype(np.int64) - zero_M)) * (
                scale * stored[f"{name}_scale"]
            )
        rows.append(x_K)
    return np.array(rows, np.float32)


def test_products_are_exact_on_every_processor(int8: Path) -> None:
    """Signed weights as they stand fail here on AVX2 and AVX512 without VNNI: their sums saturate."""
    (batch,) = texts(5, (24, 9))
    wanted = by_integers(int8, *batch)
    # A value half-way between two steps may go either way: one step of one activation.
    np.testing.assert_allclose(OnnxClassifier(int8).logits(*batch), wanted, atol=0.02 * np.abs(wanted).max())


def test_both_forms_answer_the_same_bits_where_both_are_exact(int8: Path) -> None:
    (batch,) = texts(6, (8, 7))
    unsigned = OnnxClassifier(int8, form="unsigned").logits(*batch)
    np.testing.assert_array_equal(OnnxClassifier(int8).logits(*batch), unsigned)
    if signed_products() == "exact":
        np.testing.assert_array_equal(OnnxClassifier(int8, form="signed").logits(*batch), unsigned)


def test_a_form_and_back_are_the_weights_that_were_and_ranged_weights_have_no_signed_form(int8: Path) -> None:
    import onnx
    from onnx import numpy_helper

    before, model = onnx.load(str(int8)), onnx.load(str(int8))
    symmetric = to_form(model, "unsigned")
    assert not to_form(model, "unsigned")
    assert to_form(model, "signed") is symmetric
    for one, other in zip(before.graph.initializer, model.graph.initializer, strict=True):
        assert (one.name, one.data_type) == (other.name, other.data_type)
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), batch=st.integers(1, 9), tokens=st.integers(1, 12))
def test_a_text_has_the_same_logits_alone_and_among_others(
    int8: Path, seed: int, batch: int, tokens: int
) -> None:
    """Dynamic int8 in one call scales all texts by the largest; row 3 of the table is 100 times larger."""
    (pair,) = texts(seed, (batch, tokens))
    session = OnnxClassifier(int8)
    together_BC = session.logits(*pair)
    for b in range(batch):
        ids_T, mask_T = (part[b : b + 1] for part in pair)
        end = max(1, int(mask_T.sum()))
        for width in (end, tokens):
            np.testing.assert_array_equal(
                session.logits(ids_T[:, :width], mask_T[:, :width])[0], together_BC[b]
            )


def test_a_text_without_a_token_is_answered(int8: Path) -> None:
    nothing = np.zeros((2, 3), np.int64)
    assert OnnxClassifier(int8).logits(nothing, nothing).shape == (2, 2)
    assert OnnxClassifier(int8).logits(nothing[:0], nothing[:0]).shape == (0, 2)


def test_a_processor_says_its_features_and_what_it_does_with_signed_bytes(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni avx2x\n")
    found = this_processor(info)
    assert found.features == ["avx2", "avx512f", "avx512_vnni"]
    assert found.signed_int8 in ("exact", "saturate")
    assert this_processor(tmp_path / "none").features == []
    assert Processor.model_validate_json(found.model_dump_json()) == found

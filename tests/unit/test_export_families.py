"""Students of every family as ONNX files: fp32 answers as torch does, int8 nearly so, nothing left out.

Shapes: B batch, T tokens, K inputs and M outputs of a matrix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.export_samples import texts
from tutelage.config.architecture import Architecture
from tutelage.config.models import FullFinetune
from tutelage.config.runtime import ExportConfig
from tutelage.config.task import SequenceClassification
from tutelage.export import OnnxClassifier
from tutelage.export.graph import fold_transposes
from tutelage.export.onnx import export_model
from tutelage.export.quantise import RECIPES, apply_recipe
from tutelage.models.initial import new_student
from tutelage.models.load import load_classifier
from tutelage.testing import LABELS, tiny_classifier

pytestmark = pytest.mark.unit

FAMILIES = ("bert", "distilbert", "albert", "electra", "mobilebert")
SHARED = 1024
"""ALBERT's feed-forward width: a shared matrix of 8192 numbers or less is folded by the exporter itself."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_classifier(tmp_path_factory.mktemp("families") / "base", hidden=32, seed=2)


def trained(base: str, family: str, folder: Path) -> Any:
    """A student of two layers as a training leaves it: saved, and its weights moved from their start."""
    feed = SHARED if family == "albert" else None
    shape = Architecture(family=family, depth=2, width=16, heads=2, feed_forward=feed)
    task = SequenceClassification(labels=list(LABELS))
    model = new_student(task, base, None, shape, FullFinetune())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    return load_classifier(folder)


def float_matrices(path: Path) -> list[str]:
    """Constant fp32 matrices [K, M] that the graph multiplies with, transposed on the way or not."""
    import onnx

    graph = onnx.load(str(path)).graph
    shapes = {
        one.name: tuple(one.dims) for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT
    }
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    read = [node.input[1] for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    return [name for name in (turned.get(one, one) for one in read) if len(shapes.get(name, ())) == 2]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_of_every_family_answers_from_its_files_as_in_torch(
    base: str, family: str, tmp_path: Path
) -> None:
    model = trained(base, family, tmp_path / "model")
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_model(model, fp32, ExportConfig())
    apply_recipe(fp32, int8, RECIPES[0])
    vocabulary = model.config.vocab_size
    for any_BT, mask_BT in texts(3, (1, 3), (8, 11)):
        ids_BT = any_BT % vocabulary
        with torch.no_grad():
            wanted = model(torch.from_numpy(ids_BT), attention_mask=torch.from_numpy(mask_BT)).logits.numpy()
        np.testing.assert_allclose(OnnxClassifier(fp32).logits(ids_BT, mask_BT), wanted, atol=1e-4)
        spread = float(np.abs(wanted).max())
        np.testing.assert_allclose(OnnxClassifier(int8).logits(ids_BT, mask_BT), wanted, atol=0.15 * spread)
    assert float_matrices(fp32)
    assert float_matrices(int8) == []


def test_a_matrix_that_is_transposed_for_several_products_is_stored_as_they_read_it() -> None:
    from onnx import TensorProto, helper, numpy_helper

    shared_MK = np.arange(6, dtype=np.float32).reshape(2, 3)
    nodes = [
        helper.make_node("Transpose", ["shared"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["first"]),
        helper.make_node("MatMul", ["x", "turned"], ["second"]),
        helper.make_node("Transpose", ["first"], ["kept"], perm=[1, 0]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "shared",
        [value("x", TensorProto.FLOAT, [1, 3])],
        [value("second", TensorProto.FLOAT, [1, 2]), value("kept", TensorProto.FLOAT, [2, 1])],
        [numpy_helper.from_array(shared_MK, "shared")],
    )
    model = helper.make_model(graph)
    fold_transposes(model)
    assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMul", "Transpose"]
    (stored,) = model.graph.initializer
    assert stored.name == "turned"
    np.testing.assert_array_equal(numpy_helper.to_array(stored), shared_MK.T)

"""int8: the recipes, their order, and the graph they work on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.unit.export_samples import by_hand, texts
from tutelage.config.runtime import ExportConfig
from tutelage.errors import GateError
from tutelage.export import Agreement, OnnxClassifier
from tutelage.export.graph import narrowing_matrices, quantise_tables
from tutelage.export.quantise import RECIPES, NoRecipeError, Recipe, apply_recipe, quantise

pytestmark = pytest.mark.unit


@pytest.fixture
def fp32(tmp_path: Path) -> Path:
    return by_hand(tmp_path / "fp32.onnx")


def scores(*shares: float, moved: float = 0.01) -> Iterator[Agreement]:
    return (Agreement(share, 0.1, 0.01, moved, 2 * moved, 100) for share in shares)


def kinds(path: Path) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(str(path)).graph.node]


def test_the_first_recipe_that_agrees_is_taken_and_all_tried_are_told(fp32: Path, tmp_path: Path) -> None:
    given = scores(0.90, 0.96, 0.97, 1.0)
    found = quantise(fp32, tmp_path / "int8.onnx", ExportConfig(min_agreement=0.97), lambda _: next(given))
    assert found.recipe == RECIPES[2]
    assert [one.agreement.share_same_label for one in found.tried] == [0.90, 0.96, 0.97]
    assert found.bytes == found.path.stat().st_size == found.tried[-1].bytes


def test_without_a_recipe_the_gate_names_the_best_figure_and_leaves_no_file(
    fp32: Path, tmp_path: Path
) -> None:
    given = scores(0.90, 0.96, 0.91, 0.5, 0.5)
    with pytest.raises(GateError) as caught:
        quantise(fp32, tmp_path / "int8.onnx", ExportConfig(min_agreement=0.97), lambda _: next(given))
    assert "(5 recipes tried): at best (recipe symmetric-narrowing-fp32)" in caught.value.problem
    assert "on 96.0% of 100 texts, export.min_agreement asks for 97.0%" in caught.value.problem
    assert "max_score_difference" not in caught.value.problem
    assert "serve.variant: fp32" in caught.value.fix
    assert isinstance(caught.value, NoRecipeError)
    assert len(caught.value.tried) == 5
    assert (fp32.exists(), (tmp_path / "int8.onnx").exists()) == (True, False)


def test_labels_that_agree_do_not_pass_with_scores_that_move(fp32: Path, tmp_path: Path) -> None:
    given = scores(*[1.0] * len(RECIPES), moved=0.2)
    with pytest.raises(GateError, match=r"by 0\.200 on average, export\.max_score_difference allows 0\.05"):
        quantise(fp32, tmp_path / "int8.onnx", ExportConfig(), lambda _: next(given))


def byte_types(path: Path) -> set[int]:
    """Data types of the matrices that MatMulInteger multiplies with."""
    import onnx

    graph = onnx.load(str(path)).graph
    types = {one.name: one.data_type for one in graph.initializer}
    return {types[node.input[1]] for node in graph.node if node.op_type == "MatMulInteger"}


@pytest.mark.parametrize(
    ("target", "products", "unsigned"),
    [("any", "exact", True), ("any", "saturate", True), ("here", "exact", False), ("here", "saturate", True)],
)
def test_signed_weights_are_written_only_for_a_processor_that_multiplies_them_exactly(
    fp32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, products: str, unsigned: bool
) -> None:
    from onnx import TensorProto

    monkeypatch.setattr("tutelage.export.quantise.signed_products", lambda: products)
    config = ExportConfig.model_validate({"target": target})
    quantise(fp32, tmp_path / "int8.onnx", config, lambda _: next(scores(1.0)))
    assert byte_types(tmp_path / "int8.onnx") == {TensorProto.UINT8 if unsigned else TensorProto.INT8}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_recipe_answers_almost_as_fp32(fp32: Path, tmp_path: Path, recipe: Recipe) -> None:
    apply_recipe(fp32, tmp_path / "q.onnx", recipe)
    (batch,) = texts(2, (32, 12))
    exact = OnnxClassifier(fp32).logits(*batch)
    found = OnnxClassifier(tmp_path / "q.onnx").logits(*batch)
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
    assert not np.array_equal(found, exact)


def test_weights_beside_the_file_are_those_of_the_last_recipe_alone(tmp_path: Path) -> None:
    """Large students: ONNX appends to a data file that is there already, and versions would carry it."""
    import onnx

    fp32, beside = by_hand(tmp_path / "fp32.onnx", width=64), tmp_path / "beside.onnx"
    onnx.save(
        *(onnx.load(str(fp32)), str(beside)),
        **{"save_as_external_data": True, "location": "beside.onnx.data", "size_threshold": 0},
    )
    data = tmp_path / "int8.onnx.data"
    sizes, answers = [], []
    for _ in range(3):
        apply_recipe(beside, tmp_path / "int8.onnx", RECIPES[0])
        sizes.append(data.stat().st_size)
        answers.append(OnnxClassifier(tmp_path / "int8.onnx").logits(*texts(2, (4, 5))[0]))
    assert len(set(sizes)) == 1
    np.testing.assert_array_equal(answers[0], answers[2])


def test_narrowing_matrices_stay_as_they_are_when_the_recipe_says_so(fp32: Path, tmp_path: Path) -> None:
    apply_recipe(fp32, tmp_path / "all.onnx", Recipe("all"))
    apply_recipe(fp32, tmp_path / "some.onnx", Recipe("some", narrowing=False))
    assert kinds(tmp_path / "all.onnx").count("MatMulInteger") == 2
    assert "MatMul" not in kinds(tmp_path / "all.onnx")
    assert kinds(tmp_path / "some.onnx").count("MatMulInteger") == 1
    assert kinds(tmp_path / "some.onnx").count("MatMul") == 1


def test_a_matrix_narrows_by_its_shape_also_when_it_is_transposed() -> None:
    from onnx import helper, numpy_helper

    weight = numpy_helper.from_array(np.zeros((2, 8), np.float32), "w")
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["a"], "transposed", transB=1),
        helper.make_node("Gemm", ["x", "w"], ["b"], "plain"),
        helper.make_node("MatMul", ["a", "b"], ["c"], "no-constant"),
    ]
    graph = helper.make_graph(nodes, "g", [], [], [weight])
    assert narrowing_matrices(helper.make_model(graph)) == ["transposed"]


def test_a_table_keeps_each_row_to_half_a_step_of_its_own_scale(fp32: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(fp32))
    exact = numpy_helper.to_array(next(one for one in model.graph.initializer if one.name == "table"))
    quantise_tables(model)
    onnx.checker.check_model(model)
    stored = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    assert "table" not in stored
    assert (stored["table.int8"].dtype, stored["table.scale"].shape) == (np.int8, (50, 1))
    again = stored["table.int8"] * stored["table.scale"]
    step = np.abs(exact).max(axis=1, keepdims=True) / 127
    assert (np.abs(again - exact) <= step / 2 * 1.001).all()


def test_the_quantizer_says_nothing(
    fp32: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    apply_recipe(fp32, tmp_path / "q.onnx", RECIPES[0])
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")

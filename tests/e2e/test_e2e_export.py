"""The whole export of tiny encoders: torch's numbers, free shapes, finished folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.export_samples import texts, tiny_encoder
from tutelage.config.runtime import ExportConfig
from tutelage.errors import GateError, ModelError
from tutelage.export import ExportResult, ModelSpec, OnnxClassifier, Probe, export_student
from tutelage.export.student import TorchClassifier

pytestmark = pytest.mark.e2e

LABELS = ["bad", "fair", "good"]
CONFIG = ExportConfig(min_agreement=0.5)


def probe(model: object, *, shift: float = 0.0) -> Probe:
    batches = texts(5, (8, 7), (8, 12))
    logits = np.concatenate([TorchClassifier(model).logits(*batch) for batch in batches])
    return Probe(batches, logits + np.float32(shift), LABELS, max_tokens=32)


class Exported:
    def __init__(self, folder: Path, architecture: str) -> None:
        self.source, self.out = folder / "model", folder / "out"
        self.model = tiny_encoder(self.source, architecture)
        self.probe = probe(self.model)
        self.result: ExportResult = export_student(
            self.source, self.out, CONFIG, self.probe, latency_runs=2, shapes=((1, 4), (2, 48))
        )


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp(request.param), request.param)


def test_fp32_gives_torchs_logits_for_shapes_that_the_export_never_saw(exported: Exported) -> None:
    session, torch = OnnxClassifier(exported.result.fp32), TorchClassifier(exported.model)
    for batch in texts(6, (1, 8), (3, 17), (1, 17), (3, 8), (1, 1), (2, 64)):
        exact = torch.logits(*batch)
        assert np.abs(exact).max() > 0.1
        np.testing.assert_allclose(session.logits(*batch), exact, atol=1e-4)


def test_padding_does_not_change_an_answer(exported: Exported) -> None:
    session = OnnxClassifier(exported.result.fp32)
    ((ids, mask),) = texts(7, (1, 6))
    padded_ids, padded_mask = np.pad(ids, ((0, 0), (0, 9))), np.pad(mask, ((0, 0), (0, 9)))
    np.testing.assert_allclose(session.logits(padded_ids, padded_mask), session.logits(ids, mask), atol=1e-5)


def test_int8_is_smaller_and_near(exported: Exported) -> None:
    result = exported.result
    assert result.int8 is not None
    assert result.int8_agreement is not None
    assert result.int8_agreement.max_abs_diff > 0
    assert result.int8_agreement.share_same_label >= 0.5
    assert result.int8_bytes == result.int8.stat().st_size
    assert result.recipe == result.tried[-1].recipe
    assert (result.fp32_agreement.share_same_label, result.fp32_agreement.examples) == (1.0, 16)


def test_the_folder_holds_what_a_server_needs_and_nothing_else(exported: Exported) -> None:
    names = {path.name for path in exported.out.iterdir()}
    assert names == {"model.onnx", "model.int8.onnx", "config.json", "vocab.txt", "tutelage.json"}
    spec = ModelSpec.read(exported.out)
    assert (spec.labels, spec.max_tokens, spec.opset) == (LABELS, 32, 20)
    assert spec.files == {"fp32": "model.onnx", "int8": "model.int8.onnx"}
    assert spec.recipe is not None
    assert spec.recipe["name"] == exported.result.tried[-1].recipe.name
    assert set(spec.packages) == {"torch", "transformers", "onnx", "onnxruntime"}
    assert [path.name for path in exported.out.parent.iterdir() if path.name.startswith(".")] == []


def test_the_graph_is_standard_onnx_with_its_weights_inside(exported: Exported) -> None:
    import onnx

    model = onnx.load(str(exported.result.fp32))
    assert {node.domain for node in model.graph.node} == {""}
    assert [one.domain for one in model.opset_import] == [""]
    onnx.checker.check_model(model, full_check=True)


def test_latencies_are_measured_for_each_runtime_up_to_the_longest_text(exported: Exported) -> None:
    shapes = {
        name: [(one.batch, one.tokens) for one in times] for name, times in exported.result.latencies.items()
    }
    assert shapes == {name: [(1, 4), (2, 32)] for name in ("torch", "fp32", "int8")}
    assert all(one.p50_ms > 0 for times in exported.result.latencies.values() for one in times)


@pytest.fixture
def source(exported: Exported) -> Exported:
    """Exporting again would cost seconds; only its folder and model are used."""
    return exported


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, source: Exported) -> Exported:
    """The exporter gives the file that it made before."""
    import shutil

    from tutelage.export import onnx, student

    def copied(_model: object, out: Path, config: ExportConfig, stage: object = None) -> onnx.OnnxFile:
        shutil.copyfile(source.result.fp32, out)
        return onnx.OnnxFile(out, out.stat().st_size, config.opset, True)

    monkeypatch.setattr(student, "export_model", copied)
    return source


def test_an_fp32_file_that_differs_from_torch_is_not_kept(quick: Exported, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"differs from torch by 0\.5.*allows 0\.001"):
        export_student(quick.source, tmp_path / "out", CONFIG, probe(quick.model, shift=0.5), latency_runs=0)
    assert list(tmp_path.iterdir()) == []


def test_when_int8_fails_fp32_stays_and_can_be_served(
    quick: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.export import quantise, student

    def never(*_: object, **__: object) -> object:
        raise quantise.NoRecipeError("int8 is not good enough", fix="", tried=())

    monkeypatch.setattr(student, "quantise", never)
    with pytest.raises(GateError, match="not good enough"):
        export_student(quick.source, tmp_path / "out", CONFIG, quick.probe, latency_runs=0)
    spec = ModelSpec.read(tmp_path / "out")
    assert (spec.files, spec.recipe) == ({"fp32": "model.onnx"}, None)
    OnnxClassifier(spec.file(tmp_path / "out", "fp32"))


def test_int8_can_be_left_out_and_an_older_folder_is_replaced(quick: Exported, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    result = export_student(
        quick.source, tmp_path / "out", ExportConfig(int8=False), quick.probe, latency_runs=0
    )
    assert (result.int8, result.tried, result.latencies) == (None, (), {})
    assert not (tmp_path / "out" / "old").exists()
    assert not (tmp_path / "out" / "model.int8.onnx").exists()


def test_a_probe_that_does_not_fit_itself_is_refused(source: Exported, tmp_path: Path) -> None:
    wrong = Probe(source.probe.batches, source.probe.logits_NC[:-1], LABELS, 32)
    with pytest.raises(ValueError, match="16 texts and 3 labels"):
        export_student(source.source, tmp_path / "out", CONFIG, wrong)


def test_a_folder_without_a_model_is_named(source: Exported, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="empty"):
        export_student(tmp_path / "empty", tmp_path / "out", CONFIG, source.probe)
    assert not (tmp_path / "out").exists()


def test_weights_beyond_the_limit_of_one_file_stand_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tutelage.export import onnx
    from tutelage.export.quantise import RECIPES, apply_recipe

    monkeypatch.setattr(onnx, "_PROTOBUF_LIMIT", 0)
    model = tiny_encoder(tmp_path / "model", "distilbert")
    file = onnx.export_model(model, tmp_path / "out" / "m.onnx", CONFIG)
    names = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert (file.single_file, set(names), file.bytes) == (
        False,
        {"m.onnx", "m.onnx.data"},
        sum(names.values()),
    )
    apply_recipe(file.path, tmp_path / "out" / "q.onnx", RECIPES[0])
    (batch,) = texts(8, (4, 9))
    exact = TorchClassifier(model).logits(*batch)
    np.testing.assert_allclose(OnnxClassifier(file.path).logits(*batch), exact, atol=1e-4)
    np.testing.assert_allclose(OnnxClassifier(tmp_path / "out" / "q.onnx").logits(*batch), exact, atol=0.5)

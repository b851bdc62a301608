"""The session that answers, and the file that describes it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.unit.export_samples import by_hand, texts
from tutelage.errors import ModelError
from tutelage.export import ModelSpec, OnnxClassifier

pytestmark = pytest.mark.unit


@pytest.fixture
def session(tmp_path: Path) -> OnnxClassifier:
    return OnnxClassifier(by_hand(tmp_path / "m.onnx"))


def test_batch_and_tokens_are_free_and_integers_of_any_width_are_taken(session: OnnxClassifier) -> None:
    for ids, mask in texts(0, (1, 1), (3, 17), (16, 5)):
        wide = session.logits(ids, mask)
        assert (wide.shape, wide.dtype) == ((len(ids), 2), np.float32)
        narrow = session.logits(np.asfortranarray(ids.astype(np.int32)), mask.astype(bool))
        np.testing.assert_array_equal(narrow, wide)


def test_one_thread_and_several_answer_alike(tmp_path: Path) -> None:
    path = by_hand(tmp_path / "m.onnx")
    (batch,) = texts(1, (4, 9))
    one, two = OnnxClassifier(path, threads=1), OnnxClassifier(path, threads=2, cuda=True)
    np.testing.assert_allclose(one.logits(*batch), two.logits(*batch), rtol=1e-5)
    assert "CPUExecutionProvider" in two.providers


@pytest.mark.parametrize(("ids", "mask"), [((4,), (4,)), ((1, 4), (1, 5)), ((2, 4), (1, 4))])
def test_shapes_that_do_not_fit_are_refused(
    session: OnnxClassifier, ids: tuple[int, ...], mask: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="matrices of the same shape"):
        session.logits(np.zeros(ids, np.int64), np.zeros(mask, np.int64))


def test_no_threads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="threads is 0"):
        OnnxClassifier(by_hand(tmp_path / "m.onnx"), threads=0)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    for path in (tmp_path / "text.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(ModelError, match=path.name):
            OnnxClassifier(path)


def test_a_model_with_other_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"outputs \['scores'\]"):
        OnnxClassifier(by_hand(tmp_path / "m.onnx", output="scores"))


def test_the_session_needs_neither_torch_nor_transformers_nor_ray(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tutelage.export.session import OnnxClassifier;"
        "import tutelage.export.spec; OnnxClassifier(Path(sys.argv[1]));"
        "print([m for m in ('torch', 'transformers', 'ray', 'onnx', 'sqlalchemy') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(by_hand(tmp_path / "m.onnx"))],
        env={"PYTHONPATH": str(root / "platform")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def spec(**changed: object) -> ModelSpec:
    fields = {"labels": ["no", "yes"], "max_tokens": 8, "opset": 20, "files": {"fp32": "model.onnx"}}
    return ModelSpec.model_validate(fields | changed)


def test_a_spec_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = spec(recipe={"name": "int8"}, packages={"torch": "2.13"})
    written.write(tmp_path)
    assert ModelSpec.read(tmp_path) == written
    assert written.file(tmp_path, "fp32") == tmp_path / "model.onnx"


def test_a_variant_that_was_not_exported_says_which_was(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no int8 file, only fp32") as caught:
        spec().file(tmp_path, "int8")
    assert "serve.variant to fp32" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "holds no tutelage.json"),
        ("{", "Invalid JSON"),
        ('{"labels": ["a", "b"], "max_tokens": 8, "opset": 20}', "files: Field required"),
        ('{"format": 2, "labels": ["a", "b"], "max_tokens": 8, "opset": 20, "files": {}}', "format: Input"),
    ],
)
def test_a_spec_that_cannot_be_read_says_where(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "tutelage.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        ModelSpec.read(tmp_path)
    assert says in caught.value.problem

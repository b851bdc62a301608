"""The predictor: numbers, order, padding, truncation, broken folders."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from serve_apps.predictor import PASS_TOKENS, ROWS, Predictor
from tests.unit.serve_samples import VECTORS_VC, version_folder
from tutelage.errors import ModelError
from tutelage.export.session import softmax

pytestmark = pytest.mark.unit

GOOD, BAD, FILM, UNKNOWN = 2, 3, 4, 1


class Counting:
    """Answers from the same table as the ONNX file and keeps the shapes it was asked with."""

    def __init__(self, classes: int = 2) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.classes = classes

    def logits(self, ids_BT: Any, mask_BT: Any) -> Any:
        self.shapes.append(ids_BT.shape)
        summed_BC = (VECTORS_VC[ids_BT] * mask_BT[..., None]).sum(axis=1)
        return np.resize(summed_BC, (len(ids_BT), self.classes)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return version_folder(tmp_path / "version")


def positive(*words: int) -> float:
    """P(positive) of a text of these words, by hand: the difference of two logits through a sigmoid."""
    negative_logit, positive_logit = VECTORS_VC[list(words)].sum(axis=0)
    return 1 / (1 + math.exp(negative_logit - positive_logit))


def test_scores_are_the_softmax_of_the_logits(folder: Path) -> None:
    """Each label has its probability, they sum to 1, and `score` is the label's own."""
    [found] = Predictor(folder).predict(["Good good film"])
    assert found.label == "positive"
    assert found.scores["positive"] == pytest.approx(positive(GOOD, GOOD, FILM), abs=1e-6)
    assert sum(found.scores.values()) == pytest.approx(1, abs=1e-12)
    assert found.score == found.scores["positive"]


def test_answers_come_in_the_order_of_the_texts(folder: Path) -> None:
    """Sorting by length inside does not show outside, over several passes too."""
    texts = [" ".join(["good"] * (n % 7) + ["bad"] * (3 - n % 4) + ["film"]) for n in range(3 * ROWS + 5)]
    predictor = Predictor(folder)
    together = predictor.predict(texts)
    alone = [predictor.predict([text])[0] for text in texts]
    assert together == alone


def test_padding_does_not_change_an_answer(folder: Path) -> None:
    """The pad word would push any answer to 0 or 1; beside a long text the short one keeps its own."""
    short, _ = Predictor(folder).predict(["good", "bad bad bad bad bad bad"])
    assert short.scores["positive"] == pytest.approx(positive(GOOD), abs=1e-6)


def test_a_pass_holds_texts_of_similar_length(folder: Path) -> None:
    """One long text among many short ones costs one wide pass, not all of them wide."""
    counting = Counting()
    predictor = Predictor(folder, classifier=counting)
    counting.shapes.clear()
    predictor.predict(["good " * 8] + ["bad"] * (2 * ROWS - 1))
    assert counting.shapes == [(ROWS, 1), (ROWS, 8)]


def test_a_pass_of_long_texts_holds_fewer_of_them(tmp_path: Path) -> None:
    """Rows times tokens is bounded: attention over 32 texts of 512 tokens would take gigabytes."""
    counting = Counting()
    predictor = Predictor(version_folder(tmp_path / "long", max_tokens=512), classifier=counting)
    counting.shapes.clear()
    predictor.predict(["good " * 600] * ROWS)
    assert max(rows * tokens for rows, tokens in counting.shapes) == PASS_TOKENS


def test_a_long_text_is_cut_and_says_so(folder: Path) -> None:
    """Only the first max_tokens words count."""
    cut, whole = Predictor(folder).predict(["good " * 8 + "bad " * 50, "good " * 8])
    assert (cut.truncated, whole.truncated) == (True, False)
    assert cut.scores == whole.scores


@pytest.mark.parametrize(
    "text", ["Привет, мир", "好き", "🙂🙃", "a\u0000b", "e\u0301", "\u202eright to left", "x" * 20_000]
)
def test_any_text_gets_an_answer(folder: Path, text: str) -> None:
    """Scripts, emoji, control characters and a word without end are unknown words, not errors."""
    [found] = Predictor(folder).predict([text])
    assert found.scores["positive"] == pytest.approx(0.5, abs=1e-6)


def test_a_text_without_any_token_gets_an_answer(folder: Path) -> None:
    """A tokenizer that makes nothing of a text leaves an empty row, which is padded."""
    [found] = Predictor(folder).predict(["   "])
    assert sum(found.scores.values()) == pytest.approx(1)


def test_softmax_survives_large_logits() -> None:
    """exp(1000) overflows; its softmax is 1."""
    assert softmax(np.array([[1000.0, 0.0], [-1000.0, -1000.0]])).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_threads_may_share_a_predictor(folder: Path) -> None:
    """Four threads with their own texts get their own answers."""
    predictor = Predictor(folder)
    wanted = {word: predictor.predict([word])[0] for word in ("good", "bad", "film", "good film")}
    found: dict[str, list[Any]] = {word: [] for word in wanted}

    def ask(word: str) -> None:
        for _ in range(50):
            found[word] += predictor.predict([word])

    threads = [Thread(target=ask, args=(word,)) for word in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {word: [prediction] * 50 for word, prediction in wanted.items()}


def test_both_variants_answer(folder: Path) -> None:
    """fp32 and int8 are two files of one folder."""
    assert Predictor(folder, "fp32").predict(["good"]) == Predictor(folder, "int8").predict(["good"])


def _without(name: str) -> Any:
    return lambda folder: (folder / name).unlink()


def _with(name: str, text: str) -> Any:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_without("tutelage.json"), "holds no tutelage.json"),
        (_without("tokenizer.json"), "holds no tokenizer.json"),
        (_with("tokenizer.json", "{}"), "is not a tokenizer"),
        (_without("model.int8.onnx"), "cannot be opened by onnxruntime"),
        (_with("model.int8.onnx", "text"), "cannot be opened by onnxruntime"),
    ],
)
def test_a_broken_folder_is_refused_at_load(folder: Path, harm: Any, says: str) -> None:
    """Each missing or broken file is named before the first request."""
    harm(folder)
    with pytest.raises(ModelError, match=says):
        Predictor(folder)


def test_a_variant_that_was_not_exported_is_refused(folder: Path) -> None:
    """The message says which there are."""
    spec = json.loads((folder / "tutelage.json").read_text())
    del spec["files"]["int8"]
    (folder / "tutelage.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match="has no int8 file, only fp32"):
        Predictor(folder, "int8")


def test_labels_and_logits_must_be_as_many(folder: Path) -> None:
    """A model with three classes and two labels would answer with the wrong words."""
    with pytest.raises(ModelError, match="3 logits for 2 labels"):
        Predictor(folder, classifier=Counting(classes=3))


def test_the_pad_id_is_the_models_own(folder: Path) -> None:
    """config.json decides; without it the tokenizer's [PAD] does."""
    (folder / "config.json").write_text('{"pad_token_id": 4}')
    assert Predictor(folder)._pad_id == FILM
    (folder / "config.json").unlink()
    assert Predictor(folder)._pad_id == 0


def test_answering_loads_no_torch_and_no_ray(folder: Path) -> None:
    """A fresh process that predicts and builds the app has onnxruntime and neither of the heavy ones."""
    code = (
        "import sys; from pathlib import Path\n"
        "from serve_apps.predictor import Predictor; import serve_apps.app\n"
        f"print(Predictor(Path({str(folder)!r})).predict(['good'])[0].label)\n"
        "heavy = {'torch', 'transformers', 'ray', 'onnx', 'pandas', 'pyarrow', 'matplotlib', 'deepspeed'}\n"
        "print(sorted(heavy & set(sys.modules)), 'onnxruntime' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{root}:{root / 'platform'}", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["positive", "[] True"]

"""Probes: a version that reads or answers otherwise than where it was exported is refused at load."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.predictor import Predictor
from tests.unit.serve_samples import (
    ROWS,
    VECTORS_VC,
    WORDS,
    probed_folder,
    read_ids,
    version_folder,
    word_tokenizer,
    write_onnx,
)
from tutelage.errors import ModelError
from tutelage.export import probe_texts
from tutelage.export.probe_texts import choose_rows, odd_texts, record_probes
from tutelage.export.probes import FILE, Probes, largest_difference
from tutelage.export.processor import this_processor
from tutelage.export.spec import ModelSpec

pytestmark = pytest.mark.unit

Harm = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return probed_folder(tmp_path / "version")


def spec_with(**changed: Any) -> Harm:
    def harm(folder: Path) -> None:
        spec = json.loads((folder / "tutelage.json").read_text())
        (folder / "tutelage.json").write_text(json.dumps({**spec, **changed}))

    return harm


def probes_with(change: Callable[[dict[str, Any]], object]) -> Harm:
    def harm(folder: Path) -> None:
        probes = json.loads((folder / FILE).read_text())
        change(probes)
        (folder / FILE).write_text(json.dumps(probes))

    return harm


def both_files(vectors_VC: np.ndarray) -> Harm:
    def harm(folder: Path) -> None:
        for name in ("model.onnx", "model.int8.onnx"):
            write_onnx(folder / name, vectors_VC)

    return harm


def tokenizer_with(words: list[str], **changed: bool) -> Harm:
    return lambda folder: word_tokenizer(words, **changed).save(str(folder / "tokenizer.json"))


NAN = np.full_like(VECTORS_VC, np.nan)
LARGER = ["[PAD]", "[UNK]", "fine", "poor", "good", "bad", "film"]


def test_a_version_as_it_was_exported_loads(folder: Path) -> None:
    """Both files answer every probe as they did, and the largest difference is none."""
    for variant in ("fp32", "int8"):
        assert Predictor(folder, variant).predict(["good"])[0].label == "positive"
    probes = Probes.read(folder)
    assert probes is not None
    kinds = {probe.what for probe in probes.texts}
    assert kinds >= {"empty", "full length", "upper case", "accents", "scripts"}
    assert {tuple(probe.scores) for probe in probes.texts} == {("fp32", "int8")}
    assert len(probes.longest.ids) == 8


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (both_files(NAN), r"probe 'row \d+' .* scores nan for 'negative'"),
        (both_files(VECTORS_VC[:, ::-1].copy()), r"probe .* for '(negative|positive)', and .* at export"),
        (both_files(VECTORS_VC * 1.5), r"probe .*: the fp32 file may differ by"),
        (both_files(VECTORS_VC[:3]), r"probe .* cannot be answered: "),
        (spec_with(labels=["positive", "negative"]), r"labels are \['positive', .* and \['negative'"),
        (spec_with(max_tokens=7), "max_tokens is 7, and 8 at export"),
        (tokenizer_with(WORDS, lower=False), r"probe '.*' .* is read as .* tokens"),
        (tokenizer_with(LARGER), "the tokenizer is another one"),
        (probes_with(lambda probes: probes.update(format=2)), r"probes\.json: format: "),
        (probes_with(lambda probes: probes["texts"][0].update(ids=None)), r"probes\.json: texts\.0"),
        (lambda folder: (folder / FILE).write_text("{"), r"probes\.json: the file: Invalid JSON"),
    ],
)  # fmt: skip
def test_a_version_that_answers_otherwise_is_refused(folder: Path, harm: Harm, says: str) -> None:
    """NaN weights, swapped labels or tokenizer: the message says which probe differs, and how."""
    harm(folder)
    with pytest.raises(ModelError, match=says) as caught:
        Predictor(folder)
    assert "export" in caught.value.fix


def test_fp32_answers_where_int8_computes_otherwise_than_at_export(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An int8 file that saturates here is no reason to answer wrongly, or not at all; a warning says so."""
    right = Predictor(folder).predict(["good"])
    write_onnx(folder / "model.int8.onnx", VECTORS_VC * 2)
    found = Predictor(folder)
    assert (found.variant, found.answers_with) == ("int8", "fp32")
    assert found.predict(["good"]) == right
    assert "answers with fp32: probe" in caplog.text


def test_on_a_processor_like_that_of_the_export_another_int8_file_is_no_matter_of_the_processor(
    folder: Path,
) -> None:
    """Nobody else's file is served in fp32 under its name."""
    spec_with(processor=this_processor().model_dump())(folder)
    write_onnx(folder / "model.int8.onnx", VECTORS_VC * 2)
    with pytest.raises(ModelError, match="the int8 file may differ by"):
        Predictor(folder)


def test_an_int8_file_that_gives_no_finite_score_is_damaged_and_not_replaced(folder: Path) -> None:
    write_onnx(folder / "model.int8.onnx", VECTORS_VC * np.nan)
    with pytest.raises(ModelError, match="nan"):
        Predictor(folder)


def test_a_difference_within_the_tolerance_is_told_and_kept(folder: Path) -> None:
    """`largest_difference` names the probe, the label and both scores."""
    probes = Probes.read(folder)
    assert probes is not None
    recorded = {tuple(probe.ids): np.array(probe.scores["int8"]) for probe in probes.texts}
    longest = tuple(probes.longest.ids)

    def nearly(ids: Any) -> Any:
        return recorded[tuple(ids)] + (0.01 if tuple(ids) == longest else 0)

    worst = largest_difference(probes, "int8", nearly)
    assert worst is not None
    assert (tuple(worst.probe.ids), worst.value) == (longest, pytest.approx(0.01))
    assert largest_difference(probes, "another", nearly) is None


def test_a_version_without_probes_loads_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Versions from before there were probes are served."""
    with caplog.at_level(logging.WARNING):
        Predictor(version_folder(tmp_path / "old"))
    assert "keeps no probes" in caplog.text


class Short:
    """A model of six positions."""

    def logits(self, ids_BT: Any, mask_BT: Any) -> Any:
        if ids_BT.shape[1] > 6:
            raise RuntimeError("idx=6 must be within the inclusive range [-6,5]\nand more")
        return np.zeros((len(ids_BT), 2), np.float32)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (both_files(NAN), "a score that is not finite"),
        (tokenizer_with(LARGER), "token 6 among them"),
    ],
)
def test_the_warm_up_alone_finds_what_no_request_could_survive(tmp_path: Path, harm: Harm, says: str) -> None:
    """Without probes too: weights that are not finite, and a tokenizer with more words than the model."""
    folder = version_folder(tmp_path / "old")
    harm(folder)
    with pytest.raises(ModelError, match=says):
        Predictor(folder)


def test_a_model_with_too_few_positions_is_found_by_the_warm_up(tmp_path: Path) -> None:
    """The warm-up has max_tokens real ids, where padding would have no position of its own."""
    with pytest.raises(ModelError, match=r"32 texts of 8 tokens.* idx=6 must be within"):
        Predictor(version_folder(tmp_path / "old"), classifier=Short())


def test_the_warm_up_is_a_full_pass_of_real_ids(folder: Path) -> None:
    """As many texts and tokens as a pass may have; no padding, the last word of the tokenizer among them."""
    seen = []

    class Watching:
        def logits(self, ids_BT: Any, mask_BT: Any) -> Any:
            seen.append((ids_BT, mask_BT))
            return (VECTORS_VC[ids_BT] * mask_BT[..., None]).sum(axis=1)

    Predictor(folder, classifier=Watching())
    ids_BT, mask_BT = seen[-1]
    assert ids_BT.shape == (32, 8)
    assert mask_BT.all()
    assert (ids_BT != 0).all()
    assert ids_BT.max() == len(WORDS) - 1


def test_a_score_that_is_not_finite_is_no_answer(folder: Path) -> None:
    """A model that breaks later raises, and gives no label."""

    class Breaking:
        broken = False

        def logits(self, ids_BT: Any, mask_BT: Any) -> Any:
            found = (VECTORS_VC[ids_BT] * mask_BT[..., None]).sum(axis=1)
            return found * np.nan if self.broken else found

    model = Breaking()
    predictor = Predictor(folder, classifier=model)
    model.broken = True
    with pytest.raises(ModelError, match="a score that is not finite"):
        predictor.predict(["good"])


def test_an_export_whose_tokenizer_is_not_the_trainings_is_refused(tmp_path: Path) -> None:
    """The ids of the rows are those that the training read; the folder's tokenizer must give the same."""
    folder = version_folder(tmp_path / "version")
    tokenizer_with(WORDS, lower=False)(folder)
    with pytest.raises(ModelError, match=r"probe 'row \d+' .* in training"):
        record_probes(folder, ModelSpec.read(folder), ROWS, read_ids(ROWS))
    assert not (folder / FILE).exists()


def test_a_text_that_a_model_has_no_answer_to_is_no_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0/0 for a text without a token is the model's own; it is left out, and every row stays."""

    class Mean:
        def __init__(self, _path: Path) -> None: ...

        def logits(self, ids_BT: Any, mask_BT: Any) -> Any:
            with np.errstate(invalid="ignore"):
                return (VECTORS_VC[ids_BT] * mask_BT[..., None]).sum(axis=1) / mask_BT.sum(1, keepdims=True)

    monkeypatch.setattr(probe_texts, "OnnxClassifier", Mean)
    folder = version_folder(tmp_path / "version")
    kinds = [p.what for p in record_probes(folder, ModelSpec.read(folder), ROWS, read_ids(ROWS)).texts]
    assert "empty" not in kinds
    assert sum(kind.startswith("row") for kind in kinds) == len(ROWS)


TEXTS = st.lists(st.text(alphabet="aB \u00e9\u4f60", max_size=12), min_size=1, max_size=40)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 20))
def test_rows_are_chosen_once_and_over_all_lengths(texts: list[str], count: int) -> None:
    """As many as wanted or there are, none twice; shortest and longest, another script where there is one."""
    chosen = choose_rows(texts, [len(text) for text in texts], count)
    assert len(set(chosen)) == len(chosen) == min(count, len(texts))
    if not all(text.isascii() for text in texts):
        assert not all(texts[n].isascii() for n in chosen)
    if count >= 4:
        found = {len(texts[n]) for n in chosen}
        assert {min(map(len, texts)), max(map(len, texts))} <= found


def test_a_row_of_any_size_is_not_kept(tmp_path: Path) -> None:
    """The row in the middle is the longest: neither it nor what is made of it travels with a version."""
    rows = ["good film", "bad " * 100_000, "good"]
    record_probes(version_folder(tmp_path / "v"), ModelSpec.read(tmp_path / "v"), rows, read_ids(rows))
    assert (tmp_path / "v" / FILE).stat().st_size < 50_000


@settings(deadline=None)
@given(TEXTS, st.integers(1, 300), st.sampled_from([1, 3, 1000]))
def test_the_longest_text_is_longer_than_the_model_reads(texts: list[str], wanted: int, chars: int) -> None:
    """For a token of one, three or a thousand characters; the search ends where there are none so long."""
    text = odd_texts(texts, lambda text: min(wanted, len(text) // chars), wanted)["full length"]
    assert len(text) // chars >= wanted or len(text) > 64 * wanted
    assert len(text) < 64 * wanted * 8 + 2000

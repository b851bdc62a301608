"""A folder has one tokenizer: training, teachers, judge and endpoint read the same ids of every text.

Shapes: T tokens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tutelage.errors import DataError, ModelError
from tutelage.testing import each_config, sentences, small_tokenizer, tiny_family
from tutelage.testing.tokenizers import Kind
from tutelage.tokenizer import PROBE_TEXTS, id_reader, identity, load_tokenizer, read_file, read_texts

pytestmark = pytest.mark.unit

KINDS: list[Kind] = [
    "wordpiece", "wordpiece-cased", "bytes", "bytes-decoder", "unigram", "unigram-end", "unigram-last"
]  # fmt: skip
TEXTS = [*PROBE_TEXTS, *sentences(5), "[SEP] in </s> the text <pad>", ""]


def edit(folder: Path, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A folder whose config names BertTokenizer, which transformers build anew of vocabulary and config."""
    return Path(tiny_family("bert", tmp_path / "bert"))


@pytest.mark.parametrize("name", each_config())
def test_every_reader_of_a_folder_reads_the_same_ids_and_so_do_those_of_what_is_made_from_it(
    name: str, tmp_path: Path
) -> None:
    folder = tiny_family(name, tmp_path / "base")
    tokenizer = load_tokenizer(folder)
    tokenizer.save_pretrained(tmp_path / "student")
    shutil.copy2(Path(folder) / "config.json", tmp_path / "student")
    expected = [list(tokens.ids) for tokens in read_texts(tokenizer, TEXTS, 24)]
    for place in (Path(folder), tmp_path / "student"):
        assert id_reader(load_tokenizer(place), 24)(TEXTS) == expected
        assert [one.ids for one in read_file(place, 24).encode_batch(TEXTS)] == expected
    assert identity(load_tokenizer(tmp_path / "student")) == identity(load_tokenizer(folder))


def lower(value: bool) -> Callable[[dict[str, Any]], None]:
    return lambda file: file["normalizer"].update(lowercase=value)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer.json", lower(False)),
        ("tokenizer.json", lambda file: file["normalizer"].update(strip_accents=False)),
        ("tokenizer.json", lambda file: file["normalizer"].update(handle_chinese_chars=False)),
        ("tokenizer.json", lambda file: file.update(pre_tokenizer={"type": "WhitespaceSplit"})),
        ("tokenizer.json", lambda file: file.update(post_processor=None)),
        ("tokenizer_config.json", lambda config: config.update(do_lower_case=False)),
    ],
    ids=["case", "accents", "Chinese", "spaces", "special tokens", "case in the config"],
)
def test_a_folder_whose_two_tokenizers_differ_is_refused_and_both_pieces_of_advice_help(
    bert: Path, tmp_path: Path, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    edit(bert, name, change)
    with pytest.raises(ModelError, match=r"holds two tokenizers.*BertTokenizer"):
        load_tokenizer(bert)
    for advice in (_take_the_file, _save_anew):
        copy = tmp_path / advice.__name__
        shutil.copytree(bert, copy)
        expected = advice(copy)
        assert id_reader(load_tokenizer(copy), 500)(TEXTS) == expected
        assert [one.ids for one in read_file(copy).encode_batch(TEXTS)] == expected


def _take_the_file(folder: Path) -> list[list[int]]:
    written = [one.ids for one in read_file(folder).encode_batch(TEXTS)]
    edit(
        folder,
        "tokenizer_config.json",
        lambda config: config.update(tokenizer_class="PreTrainedTokenizerFast"),
    )
    return written


def _save_anew(folder: Path) -> list[list[int]]:
    auto: Any = AutoTokenizer
    made = auto.from_pretrained(folder)
    expected: list[list[int]] = made(TEXTS)["input_ids"]
    made.save_pretrained(folder)
    return expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_long_texts_are_cut_at_the_side_that_the_folder_says(kind: Kind, side: str, tmp_path: Path) -> None:
    small_tokenizer(kind).save_pretrained(tmp_path)
    edit(tmp_path, "tokenizer_config.json", lambda config: config.update(truncation_side=side))
    text = " ".join(sentences(6))
    whole = read_file(tmp_path).encode(text).ids
    tokenizer = load_tokenizer(tmp_path)
    found = read_file(tmp_path, 9).encode(text).ids
    assert list(read_texts(tokenizer, [text], 9)[0].ids) == found == id_reader(tokenizer, 9)([text])[0]
    special = tokenizer.num_special_tokens_to_add()
    kept = [number for number in found if number not in tokenizer.all_special_ids]
    plain = [number for number in whole if number not in tokenizer.all_special_ids]
    assert kept == (plain[-len(kept) :] if side == "left" else plain[: len(kept)])
    assert len(kept) == 9 - special


def test_signs_in_a_text_are_special_tokens_unless_the_config_says_that_they_are_not(bert: Path) -> None:
    for split in (False, True):
        said = {"split_special_tokens": split}
        edit(bert, "tokenizer_config.json", lambda config, said=said: config.update(said))
        tokenizer, texts = load_tokenizer(bert), ["[SEP] good"]
        read = list(read_texts(tokenizer, texts, 20)[0].ids)
        assert read == read_file(bert).encode(texts[0]).ids == id_reader(tokenizer, 20)(texts)[0]
        assert (read[:2] == [2, 3]) == (not split)


def test_what_a_file_says_of_padding_and_length_is_not_taken(bert: Path) -> None:
    """Files are often saved with the settings of their training."""
    before = read_file(bert, 30).encode_batch(TEXTS)
    edit(
        bert,
        "tokenizer.json",
        lambda file: file.update(
            truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
            padding={
                **{"strategy": {"Fixed": 40}, "direction": "Right", "pad_to_multiple_of": 8},
                **{"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
            },
        ),
    )
    expected = [one.ids for one in before]
    assert [one.ids for one in read_file(bert, 30).encode_batch(TEXTS)] == expected
    assert id_reader(load_tokenizer(bert), 30)(TEXTS) == expected


def test_a_folder_without_the_file_gets_it_in_what_is_made_from_it(bert: Path, tmp_path: Path) -> None:
    """Of a vocabulary alone transformers build a tokenizer, and that one counts."""
    vocabulary = json.loads((bert / "tokenizer.json").read_text())["model"]["vocab"]
    (bert / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    (bert / "tokenizer.json").unlink()
    tokenizer = load_tokenizer(bert)
    tokenizer.save_pretrained(tmp_path / "made")
    expected = [list(tokens.ids) for tokens in read_texts(tokenizer, TEXTS, 24)]
    assert [one.ids for one in read_file(tmp_path / "made", 24).encode_batch(TEXTS)] == expected


def test_a_role_whose_sign_the_file_does_not_know_makes_no_new_token(tmp_path: Path) -> None:
    """A token beyond the embedding would break every batch that holds it."""
    folder = Path(tiny_family("bert", tmp_path / "bert"))
    before = read_file(folder).get_vocab_size()
    edit(
        folder,
        "tokenizer_config.json",
        lambda config: config.update(tokenizer_class="PreTrainedTokenizerFast", bos_token="<new>"),
    )
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == before
    assert tokenizer.bos_token is None


def test_what_a_tokenizer_knows_beside_its_ids_is_kept(tmp_path: Path) -> None:
    """A student that writes is spoken to by the template of its base."""
    made = small_tokenizer("bytes-decoder")
    made.add_special_tokens({"extra_special_tokens": ["<|user|>"]})
    made.chat_template = "{{ messages[0]['content'] }}"
    made.save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    tokenizer.save_pretrained(tmp_path / "student")
    for one in (tokenizer, load_tokenizer(tmp_path / "student")):
        assert one.chat_template == made.chat_template
        assert one.decode(one("<|user|>good")["input_ids"], skip_special_tokens=True) == "good"
        assert one.all_special_tokens == made.all_special_tokens


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {}}'])
def test_a_broken_file_is_an_error_that_names_it(bert: Path, content: str) -> None:
    (bert / "tokenizer.json").write_text(content)
    for read in (read_file, load_tokenizer):
        with pytest.raises(ModelError, match="bert"):
            read(bert)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=6), limit=st.integers(4, 40))
def test_any_text_is_read_alike_by_the_fast_way_and_the_other(
    cased: Any, texts: list[str], limit: int
) -> None:
    tokenizer, file = cased
    expected = [list(tokens.ids) for tokens in read_texts(tokenizer, texts, limit)]
    assert id_reader(tokenizer, limit)(texts) == expected
    file.enable_truncation(max_length=limit)
    assert [one.ids for one in file.encode_batch(texts)] == expected


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = Path(tiny_family("bert-cased", tmp_path_factory.mktemp("cased") / "m"))
    return load_tokenizer(folder), read_file(folder)


def test_a_limit_without_room_is_refused_by_the_fast_way_too(bert: Path) -> None:
    with pytest.raises(DataError, match="special tokens alone take 2"):
        id_reader(load_tokenizer(bert), 2)

"""The one way to make a tokenizer, and to read texts as its tokens.

A folder can hold two tokenizers: the file `tokenizer.json`, and what transformers build of vocabulary and
`tokenizer_config.json`, which may treat case, accents, spaces or special tokens otherwise. The file counts,
as it stands: it is what the training of a model wrote, what other runtimes read, and what an endpoint reads
without transformers, which only give the roles of special tokens. A folder whose two tokenizers read a text
differently is refused, since nobody can tell which of them its model was trained with; unless its config
names the class of all tokenizer files, which says that the file is meant. Without the file, what transformers
build counts, and is written as the file of every model that is made from it.

Legend: T tokens of one text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tutelage.errors import DataError, ModelError
from tutelage.files import digest_text

Ints = NDArray[np.int32]
Side = Literal["left", "right"]

FILE, CONFIG_FILE = "tokenizer.json", "tokenizer_config.json"
PROBE_TEXTS = (
    "A plain sentence.",
    "UPPER and lower Case, iPhone 12 PRO",
    "naïve café ÜBER Straße İstanbul Čapek",
    "e\u0301 and é, ﬁne ２０ ½ — “quotes” ‘single’ … don't they're",
    "  two  spaces\tand\nlines ",
    "日本語とカタカナ 中文 한국어 ไทย العربية हिन्दी",
    "\U0001f600 emoji \U0001f469\u200d\U0001f469\u200d\U0001f467 snake_case http://a.b/c?d=1&e=2 @user #tag",
    "1234567890 3.14 -7% 1,000,000 C++ x=y*z",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "zero\u200bwidth non\u00a0breaking soft\u00adhyphen",
)
"""Texts in which tokenizers differ: case, accents, forms of Unicode, spaces, scripts, signs, long words."""
_ANY = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""What a config calls the class of a tokenizer that is no family's own."""
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def load_tokenizer(folder: str | Path) -> Any:
    """The folder's tokenizer as one of transformers, which reads texts as its tokenizer.json says.

    Raises:
        ModelError: there is none, one that knows no word, or two that differ.
    """
    if not (Path(folder) / FILE).is_file():
        return _made_by_transformers(folder)
    written = read_file(folder)
    made = _made_by_transformers(folder)
    _check_same(folder, written, made)
    return _with_roles(written, made)


def read_file(folder: str | Path, max_tokens: int | None = None) -> Any:
    """tokenizer.json as it stands, a `tokenizers.Tokenizer` without padding; loads no transformers.

    Args:
        folder: that holds it.
        max_tokens: longer texts are cut here, at the side that the folder says; None cuts none.

    Raises:
        ModelError: no such file, or one that is no tokenizer.
    """
    from tokenizers import Tokenizer

    file = Path(folder) / FILE
    if not file.is_file():
        raise ModelError(
            f"{folder} holds no {FILE}", fix="save a fast tokenizer there (`tokenizer.save_pretrained`)"
        )
    try:
        tokenizer: Any = Tokenizer.from_file(str(file))
    except Exception as problem:  # tokenizers raise a bare Exception for a broken file
        raise ModelError(
            f"{file} is not a tokenizer: {problem}", fix="copy the model's tokenizer files again"
        ) from problem
    side = cut_side(folder, tokenizer)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # The one setting of a config that has no place in the file: signs in a text are no special tokens.
    tokenizer.encode_special_tokens = bool(_config(folder).get("split_special_tokens"))
    if max_tokens is not None:
        tokenizer.enable_truncation(max_length=max_tokens, direction=side)
    return tokenizer


def cut_side(folder: str | Path, tokenizer: Any) -> Side:
    """The side at which long texts lose tokens: by tokenizer_config.json, else by tokenizer.json."""
    known = _config(folder).get("truncation_side")
    written = tokenizer.truncation
    return "left" if (known or (written or {}).get("direction")) == "left" else "right"


@dataclass(frozen=True, eq=False)
class Tokens:
    """One text, special tokens included."""

    ids: Ints
    types: Ints | None
    """Token types; None where the tokenizer's model takes none."""


def read_texts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[Tokens]:
    """Each text in at most `max_tokens` tokens. Raises DataError where special tokens leave no room.

    The limit is given without padding: a tokenizer that rounds both at once refuses every limit that is no
    multiple of what it rounds to.
    """
    check_room(tokenizer, max_tokens)
    found = tokenizer(list(texts), truncation=True, max_length=max_tokens, padding=False)
    types = found.get("token_type_ids") or [None] * len(texts)
    return [
        Tokens(np.array(ids, np.int32), None if own is None else np.array(own, np.int32))
        for ids, own in zip(found["input_ids"], types, strict=True)
    ]


def id_reader(tokenizer: Any, max_tokens: int) -> Callable[[list[str]], list[list[int]]]:
    """A function from texts to the ids of each, at most `max_tokens`: what `read_texts` gives, much faster.

    Raises:
        DataError: special tokens leave no room.
        ModelError: no fast tokenizer.
    """
    check_room(tokenizer, max_tokens)
    check_fast(tokenizer, str(getattr(tokenizer, "name_or_path", "")) or "tokenizer")
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(max_length=max_tokens, direction=tokenizer.truncation_side)
    return lambda texts: [encoding.ids for encoding in backend.encode_batch_fast(texts)]


def identity(tokenizer: Any) -> str:
    """A digest of what decides the ids of a text: the pipeline, and the side at which it is cut."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    return digest_text(backend.to_str(), tokenizer.truncation_side)


def check_room(tokenizer: Any, max_tokens: int, *, pair: bool = False) -> int:
    """How many tokens of text, or of question and text, there is room for beside the special ones.

    Raises:
        DataError: none. A tokenizer would cut nothing at all then, without a word.
    """
    room = max_tokens - int(tokenizer.num_special_tokens_to_add(pair=pair))
    if room < 1 + pair:
        raise DataError(
            f"data.max_tokens is {max_tokens}, and special tokens alone take {max_tokens - room}",
            fix=f"data.max_tokens={max_tokens - room + 16} or more",
        )
    return room


def check_fast(tokenizer: Any, key: str) -> None:
    """Raise ModelError for a tokenizer that is not one of the library tokenizers.

    Such a one does not say where in the text its tokens stand, and no endpoint can read it.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{key}: a {type(tokenizer).__name__} does not say where in the text its tokens stand",
            fix=f"name a folder with {FILE}",
        )


def _made_by_transformers(folder: str | Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind: Any = PreTrainedTokenizerFast if _names_no_class(folder) else AutoTokenizer
    advice = "save the tokenizer beside the model, or name a folder that holds it in `tokenizer:`"
    try:
        tokenizer: Any = kind.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # converters of every old format have errors of their own
        raise ModelError(f"{folder}: no tokenizer ({_first_line(error)})", fix=advice) from error
    # transformers make a tokenizer of special tokens alone where the files are missing.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{folder}: no tokenizer (no file with its words)", fix=advice)
    return tokenizer


def _names_no_class(folder: str | Path) -> bool:
    """Whether the folder says that its file is the tokenizer.

    AutoTokenizer takes another class for some families all the same.
    """
    place = Path(folder)
    own = _config(folder).get("tokenizer_class")
    alone = own is None and not (place / "config.json").is_file()
    return (place / FILE).is_file() and (alone or own in _ANY)


def _config(folder: str | Path) -> dict[str, Any]:
    try:
        found = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_same(folder: str | Path, written: Any, made: Any) -> None:
    special = " ".join(token.content for token in written.get_added_tokens_decoder().values())
    for text in (*PROBE_TEXTS, f"a {special} b", ""):
        ids, other = written.encode(text).ids, list(made(text)["input_ids"])
        if ids == other:
            continue
        at = next((n for n, pair in enumerate(zip(ids, other, strict=False)) if pair[0] != pair[1]), -1)
        anew = f"save it anew: {type(made).__name__}.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        raise ModelError(
            f"{folder} holds two tokenizers: of {text[:40]!r} {FILE} makes {_around(ids, at)}, and "
            f"transformers make {_around(other, at)} by {CONFIG_FILE} ({type(made).__name__})",
            fix=f"where transformers are right, {anew}"
            if _names_no_class(folder)
            else f'where {FILE} is right, write "tokenizer_class": "{_ANY[0]}" into {CONFIG_FILE}; '
            f"where transformers are right, {anew}",
        )


def _around(ids: list[int], at: int) -> str:
    start = max(0, at - 2)
    shown = ", ".join(map(str, ids[start : start + 6]))
    return f"[{'..., ' if start else ''}{shown}{', ...' if len(ids) > start + 6 else ''}]"


def _with_roles(written: Any, made: Any) -> Any:
    """The written tokenizer with the roles of special tokens that transformers know, where it has them."""
    from transformers import PreTrainedTokenizerFast

    signs = {role: getattr(made, role, None) for role in _ROLES}
    more = [sign for sign in made.extra_special_tokens if written.token_to_id(str(sign)) is not None]
    kind: Any = PreTrainedTokenizerFast
    tokenizer = kind(
        tokenizer_object=written,
        model_max_length=made.model_max_length,
        model_input_names=list(made.model_input_names),
        padding_side=made.padding_side,
        truncation_side=made.truncation_side,
        split_special_tokens=written.encode_special_tokens,
        clean_up_tokenization_spaces=made.clean_up_tokenization_spaces,
        extra_special_tokens=more,
        **{role: sign for role, sign in signs.items() if sign and written.token_to_id(str(sign)) is not None},
    )
    tokenizer.name_or_path, tokenizer.chat_template = made.name_or_path, made.chat_template
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

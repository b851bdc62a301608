"""Which texts a version is probed with: rows of its job, and texts that tokenizers disagree about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tutelage.export.probes import Probes, ProbeText, Score, check_reading
from tutelage.export.session import OnnxClassifier, score_of
from tutelage.export.spec import ModelSpec
from tutelage.export.tokenizer import read_pad_id
from tutelage.tokenizer import read_file

ROWS = 16
"""Rows that are kept with a version."""
MAX_CHARS = 20_000
"""Longer rows are not kept."""

ODD = {
    "empty": "",
    "white space": " \t two  spaces\n\nand a line ",
    "accents": "Cr\u00e8me br\u00fbl\u00e9e, na\u00efve \u00c5ngstr\u00f6m: Stra\u00dfe, \u0130stanbul",
    "accents apart": "Cre\u0300me bru\u0302le\u0301e, nai\u0308ve",
    "scripts": "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440. \u4f60\u597d\uff0c\u4e16\u754c "
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0645\u0631\u062d\u0628\u0627 \ud55c\uad6d\uc5b4",
    "signs": "\U0001f642 \u00bd \ufb01 \uff21\uff22 a\u200bb a\u00a0b \u201cquoted\u201d \u2014 \u2026",
    "numbers": "$1,234.56 -- don't (http://a.b/c?d=e&f) #x @y 2026-11-25 [UNK] </s>",
}
"""Normalisation, pre-tokenisation and special tokens each show in one of them."""


def choose_rows(texts: Sequence[str], lengths: Sequence[int], count: int = ROWS) -> list[int]:
    """Numbers of at most `count` rows, short to long: some with capitals and other letters, if there are.

    Args:
        texts: the rows.
        lengths: tokens of each.
        count: how many are wanted.
    """
    usable = sorted((n for n in range(len(texts)) if len(texts[n]) <= MAX_CHARS), key=lambda n: lengths[n])
    special: list[Callable[[str], bool]] = [lambda t: not t.isascii(), lambda t: t != t.lower()]
    first = (next((n for n in usable if is_such(texts[n])), None) for is_such in special)
    chosen = list(dict.fromkeys(n for n in first if n is not None))[:count]
    rest = [n for n in usable if n not in chosen]
    room = min(count - len(chosen), len(rest))
    spread = [rest[(n * (len(rest) - 1)) // max(1, room - 1)] for n in range(room)]
    return sorted(chosen + spread, key=lambda n: lengths[n])


def odd_texts(rows: Sequence[str], tokens: Callable[[str], int], max_tokens: int) -> dict[str, str]:
    """Text by why it is asked. Case is probed on a row, whose words the model knows.

    Args:
        rows: texts of the job, at least one.
        tokens: counts those of a text.
        max_tokens: the last text has so many tokens and more.
    """
    sample = rows[len(rows) // 2]
    return {
        **ODD,
        "lower case": sample.lower(),
        "upper case": sample.upper(),
        "full length": _long(rows, tokens, max_tokens),
    }


def _long(rows: Sequence[str], tokens: Callable[[str], int], max_tokens: int) -> str:
    """Rows one after another, numbered: it tells where it was cut."""
    count = 1
    while True:
        whole = " ".join(f"{n} {rows[n % len(rows)][:200]}" for n in range(2 * count))
        half = whole[: len(whole) // 2]
        # A tokenizer may take a whole line for one unknown word; it has no text of that length.
        if tokens(half) >= max_tokens or len(half) > 64 * max_tokens:
            return whole
        count *= 2


def record_probes(
    folder: Path, spec: ModelSpec, texts: Sequence[str], ids: Sequence[Sequence[int]]
) -> Probes:
    """Write `probes.json` into a folder that holds tokenizer and ONNX files, and is read by nobody yet.

    Args:
        folder: gets the file.
        spec: names the ONNX files, each of which is asked.
        texts: rows of the job, at least one.
        ids: of each row, as the training reads it.

    Raises:
        ModelError: the folder's tokenizer reads a row otherwise than the training did.
    """
    tokenizer = read_file(folder, spec.max_tokens)

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text).ids)

    chosen = choose_rows(texts, [len(row) for row in ids])
    rows = [ProbeText(what=f"row {n}", text=texts[n], ids=list(map(int, ids[n]))) for n in chosen]
    few = [texts[n] for n in chosen] or [texts[0][:MAX_CHARS]]
    odd = odd_texts(few, lambda text: len(encode(text)), spec.max_tokens)
    found = Probes(
        labels=spec.labels,
        max_tokens=spec.max_tokens,
        texts=[*rows, *(ProbeText(what=what, text=text, ids=encode(text)) for what, text in odd.items())],
    )
    check_reading(found, encode)
    pad_id = read_pad_id(folder, tokenizer)
    files: dict[str, Score] = {
        name: score_of(OnnxClassifier(folder / file), pad_id) for name, file in spec.files.items()
    }
    scored = found.scored(files)
    scored.write(folder)
    return scored

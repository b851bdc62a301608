"""Which encoding bytes are written in, told from the bytes themselves: named to people, never assumed."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8"),
)
"""Byte order marks; that of UTF-32 begins like that of UTF-16."""
ZEROS = 0.02
"""Share of characters with a zero byte from which a text is UTF-16 without a mark."""
ONE_SIDE = 0.95
"""Share of these zeros that stand at places of one kind, even or odd."""
SURE = 0.6
"""A guess is worth saying when so many of the characters are those of its script."""
Belongs = Callable[[str, bytes, int], float]
"""What a character counts, its bytes, and how many such characters stand in a row."""
_TYPOGRAPHY = "‘’“”–—…•€£©®™°«»§¿¡´·"


def marked(head: bytes) -> str | None:
    """The encoding that a byte order mark, or the zeros between letters, give away."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    zeros = head.count(0)
    if len(head) >= 4 and zeros > 1 + ZEROS * len(head) / 2:
        for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
            if head[first::2].count(0) >= ONE_SIDE * zeros:
                return name
    return None


def other_encoding(head: bytes) -> str | None:
    """What bytes that are no UTF-8 are written in; None where they are UTF-8, whole or with damaged lines."""
    whole, broken = _lines(head)
    if broken <= whole:
        return None
    sample = head[: head.rfind(b"\n") + 1] or head
    scores = {name: _score(sample, name, belongs) for name, belongs in SCRIPTS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= SURE else None


def _lines(head: bytes) -> tuple[int, int]:
    """Lines with characters beyond ASCII that are UTF-8, and lines that are not; the last may be cut."""
    whole = broken = 0
    lines = head.splitlines()
    for line in lines[:-1] if len(lines) > 1 and not head.endswith((b"\n", b"\r")) else lines:
        if line.isascii():
            continue
        try:
            line.decode()
            whole += 1
        except UnicodeDecodeError:
            broken += 1
    return whole, broken


def _score(sample: bytes, name: str, belongs: Belongs) -> float:
    """Mean of what each character beyond ASCII counts for the script; 0 where the bytes do not decode."""
    try:
        text = sample.decode(name)
    except UnicodeDecodeError:
        return 0.0
    runs = re.findall(r"[^\x00-\x7f]+", text)
    worth = sum(belongs(sign, sign.encode(name), len(run)) for run in runs for sign in run)
    return worth / max(1, sum(map(len, runs)))


def _between(sign: str, *ranges: tuple[str, str]) -> bool:
    return any(first <= sign <= last for first, last in ranges)


def _wide(sign: str) -> bool:
    """Punctuation and letters as East Asian texts write them."""
    return _between(sign, ("\u3000", "\u303f"), ("\uff01", "\uff5e"))


def _korean(sign: str, code: bytes, _: int) -> float:
    # Chinese bytes read as Korean are half Hangul, half Han: the penalty keeps these apart.
    if _between(sign, ("\uac00", "\ud7a3")):
        return float(0xB0 <= code[0] <= 0xC8 and code[1] >= 0xA1)
    return 1.0 if _wide(sign) else -1.0


def _japanese(sign: str, _: bytes, __: int) -> float:
    if _between(sign, ("\uff61", "\uff9f")):
        return 0.0
    return 1.0 if _between(sign, ("\u3040", "\u30ff")) or _wide(sign) else 0.7 * _han(sign)


def _han(sign: str) -> bool:
    return _between(sign, ("\u4e00", "\u9fff"))


def _simplified(sign: str, code: bytes, _: int) -> float:
    frequent = _han(sign) and 0xB0 <= code[0] <= 0xD7 and code[1] >= 0xA1
    return 0.95 if frequent or _wide(sign) else 0.0


def _traditional(sign: str, code: bytes, _: int) -> float:
    frequent = _han(sign) and 0xA4 <= code[0] <= 0xC6
    return 0.94 if frequent or _wide(sign) else 0.0


def _cyrillic(sign: str, _: bytes, row: int) -> float:
    # Whole words, where western letters stand among those of ASCII.
    if row < 3:
        return 0.3
    # Two of the encodings differ by case alone: running text is mostly small letters.
    if _between(sign, ("а", "я")) or sign == "ё":
        return 0.93
    return 0.6 if _between(sign, ("А", "Я")) or sign in "Ё«»–—№" else 0.0


def _western(sign: str, _: bytes, row: int) -> float:
    if row > 3:
        return 0.0
    if _between(sign, ("ß", "ö"), ("ø", "ÿ")):
        return 0.85
    return 0.75 if _between(sign, ("À", "Ö"), ("Ø", "Þ")) or sign in _TYPOGRAPHY else 0.0


SCRIPTS: dict[str, Belongs] = {
    "cp949": _korean,
    "cp932": _japanese,
    "gb18030": _simplified,
    "big5": _traditional,
    "cp1251": _cyrillic,
    "koi8-r": _cyrillic,
    "cp1252": _western,
}
"""Encodings that files of rows still come in, and what a character counts there (see `_score`)."""

"""The words of a text: the units between which an answer begins and ends.

A word is a run of letters and digits, one character of a script that is written without spaces, or one
sign. Combining marks and joiners stay with the character before them. Thai, Lao and Khmer are not split:
a run of letters there is a phrase.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

_ONE_BY_ONE = (
    "\u3005-\u3007\u3041-\u3096\u30a1-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9d\U00020000-\U0003ffff"
)
"""Kana and Han."""
_JOINER = "\u200d"


@lru_cache(maxsize=256)
def words_of(text: str) -> NDArray[np.int32]:
    """int32[n, 2]: code points where each word begins and ends. Kept for texts that come again."""
    found = [match.span() for match in _pattern().finditer(text)]
    words = np.array(found, np.int32).reshape(-1, 2)
    words.flags.writeable = False
    return words


def split_words(text: str) -> list[str]:
    """The text split at white space, and further where a script is written without it."""
    found: list[str] = []
    for piece in text.split():
        if _single().search(piece):
            found += [piece[begin:end] for begin, end in words_of(piece)]
        else:
            found.append(piece)
    return found


@cache
def _single() -> re.Pattern[str]:
    return re.compile(f"[{_ONE_BY_ONE}]")


@cache
def _pattern() -> re.Pattern[str]:
    marks = _ranges([n for n in range(sys.maxunicode + 1) if unicodedata.category(chr(n)).startswith("M")])
    tail = f"[{marks}]*"
    single = f"[{_ONE_BY_ONE}]{tail}"
    letters = f"(?:(?![{_ONE_BY_ONE}])\\w{tail})+"
    sign = f"\\S{tail}(?:{_JOINER}\\S{tail})*{_JOINER}?"
    return re.compile(f"{single}|{letters}|{sign}")


def _ranges(numbers: list[int]) -> str:
    """A character class of rising code points."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in parts)

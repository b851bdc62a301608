"""Named chunks in a row of tags, by the rules of the CoNLL-2000 evaluation (Tjong Kim Sang and Buchholz).

Tags are O, or a place and a kind: B-PER. Places are B, I; with E and S, or L and U, for the last word and
the only word of a chunk. An I that follows nothing of its kind begins a chunk.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_TAG = re.compile(r"^[BIESLU]-.+$")
_OUTSIDE = ("O", "")

Chunk = tuple[str, int, int]
"""Kind, first word, last word."""


def is_chunked(labels: Sequence[str]) -> bool:
    """Whether the labels say O, B-X, I-X."""
    others = [label for label in labels if label != "O"]
    return "O" in labels and all(_TAG.match(label) for label in others)


def chunks_of(tags: Sequence[str]) -> set[Chunk]:
    """All chunks of one text."""
    found: set[Chunk] = set()
    begun = 0
    before = _OUTSIDE
    for index, tag in enumerate([*tags, "O"]):
        here = _parts(tag)
        if _ends(before, here):
            found.add((before[1], begun, index - 1))
        if _begins(before, here):
            begun = index
        before = here
    return found


def _parts(tag: str) -> tuple[str, str]:
    if tag == "O":
        return _OUTSIDE
    place, _, kind = tag.partition("-")
    return {"L": "E", "U": "S"}.get(place, place), kind


def _begins(before: tuple[str, str], here: tuple[str, str]) -> bool:
    return here[0] != "O" and (here[0] in "BS" or before[0] in "ESO" or before[1] != here[1])


def _ends(before: tuple[str, str], here: tuple[str, str]) -> bool:
    return before[0] != "O" and (before[0] in "ES" or here[0] in "BSO" or before[1] != here[1])

"""A question: what its digest depends on, what it weighs, and what a part of it is.

What makes a reply one that can be trusted is in test_payloads_faults.
"""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.signals.exchange import Request, batch_digest
from tutelage.signals.spec import PayloadSpec

pytestmark = pytest.mark.unit

A, B, C = (letter * 16 for letter in (b"a", b"b", b"c"))


def request(**parts: object) -> Request:
    """Three examples with every optional part."""
    given: dict[str, object] = {
        "digest": batch_digest([A, B, C]),
        "examples": [A, B, C],
        "positions_N": np.array([1, 2, 3], np.int32),
        "spec": PayloadSpec("dense", 2),
        "texts": ["one", "two, longer", ""],
        "pairs": ["why?", "", "how long is this question"],
        "spans": [np.full((n, 2), n, np.int32) for n in (1, 2, 3)],
        "shares_NK": np.arange(6, dtype=np.float32).reshape(3, 2),
    }
    return Request(**{**given, **parts})  # type: ignore[arg-type]


def test_the_batch_digest_depends_on_the_examples_and_their_order() -> None:
    assert len(batch_digest([A])) == 16
    assert len({batch_digest(examples) for examples in ([A, B], [B, A], [A], [])}) == 4
    assert batch_digest([A, B]) == batch_digest((A, B))


def test_a_part_has_its_own_digest_and_every_column_in_the_order_asked() -> None:
    part = request(ids=[np.full(n, n, np.int32) for n in (4, 5, 6)]).select([2, 0])
    assert part.digest == batch_digest([C, A])
    assert (part.examples, part.texts, part.pairs) == (
        [C, A],
        ["", "one"],
        ["how long is this question", "why?"],
    )
    assert part.positions_N.tolist() == [3, 1]
    assert [len(spans) for spans in part.spans or []] == [3, 1]
    assert [ids.tolist() for ids in part.ids or []] == [[6] * 6, [4] * 4]
    assert part.shares_NK is not None
    assert part.shares_NK.tolist() == [[4, 5], [0, 1]]


def test_parts_weigh_together_what_the_whole_weighs() -> None:
    whole = request()
    assert whole.weights == [(0 + 2) + (1 + 2), (2 + 2) + (0 + 2), (0 + 2) + (6 + 2)]
    assert whole.weight == sum(whole.weights) == sum(whole.select([n]).weight for n in range(3))
    assert request(pairs=None).weights == [2, 4, 2]


def test_token_ids_weigh_what_they_are() -> None:
    assert request(texts=[], pairs=None, ids=[np.zeros(n, np.int32) for n in (7, 0, 2)]).weights == [7, 0, 2]


def test_bytes_are_those_of_texts_arrays_and_digests() -> None:
    whole = request(texts=["é", "", ""], pairs=None)
    assert whole.nbytes == 2 + 8 * (1 + 2 + 3) + 3 * 16 + 24

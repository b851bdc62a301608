"""A reply is trusted only when it answers this batch, in shape and in numbers."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.signals.exchange import Reply, Request, batch_digest, fault

pytestmark = pytest.mark.unit

REQUEST = Request(["one", "two"], batch_digest([b"a" * 16, b"b" * 16]))


def reply(logits: list[list[float]], digest: bytes = REQUEST.digest) -> Reply:
    return Reply(digest, np.array(logits, dtype=np.float32), "teacher", "teacher-0", 0.0)


def test_a_reply_that_fits_has_no_fault() -> None:
    assert fault(REQUEST, reply([[1, 2, 3], [4, 5, 6]]), classes=3) is None


def test_the_digest_of_another_batch_is_a_fault_that_names_both() -> None:
    other = batch_digest([b"b" * 16, b"a" * 16])
    problem = fault(REQUEST, reply([[1, 2], [3, 4]], digest=other), classes=2)
    assert problem is not None
    assert other.hex() in problem
    assert REQUEST.digest.hex() in problem


@pytest.mark.parametrize(
    "logits",
    [[[1, 2]], [[1, 2], [3, 4], [5, 6]], [[1], [2]], [[1, 2, 3], [4, 5, 6]], []],
    ids=["a row short", "a row more", "a class short", "a class more", "nothing"],
)
def test_a_wrong_shape_is_a_fault_that_names_the_right_one(logits: list[list[float]]) -> None:
    problem = fault(REQUEST, reply(logits), classes=2)
    assert problem is not None
    assert "expected (2, 2)" in problem


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_one_value_that_is_no_number_is_a_fault(value: float) -> None:
    assert fault(REQUEST, reply([[1, 2], [3, value]]), classes=2) == "logits hold NaN or infinity"


def test_the_batch_digest_depends_on_the_examples_and_their_order() -> None:
    first, second = b"a" * 16, b"b" * 16
    assert len(batch_digest([first])) == 16
    found = {batch_digest(examples) for examples in ([first, second], [second, first], [first], [])}
    assert len(found) == 4
    assert batch_digest([first, second]) == REQUEST.digest

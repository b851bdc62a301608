"""The board keeps the newest post of each topic."""

from __future__ import annotations

import pytest

from actors.board import Board, NoBoard

pytestmark = pytest.mark.unit


def test_a_new_post_replaces_the_old_one_of_its_topic_alone() -> None:
    board = Board()
    board.post("one", {"step": 1})
    board.post("two", {"step": 5})
    board.post("one", {"step": 2})
    assert board.read() == {"one": {"step": 2}, "two": {"step": 5}}


def test_what_was_read_does_not_change_when_more_is_posted() -> None:
    board = Board()
    board.post("one", {"step": 1})
    read = board.read()
    board.post("two", {"step": 1})
    assert read == {"one": {"step": 1}}


def test_the_twin_takes_every_post() -> None:
    assert NoBoard().post("one", {"step": 1}) is None

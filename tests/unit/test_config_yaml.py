"""YAML with positions: YAML 1.2 scalars, merge keys, and errors that name line and column."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.config.dump import to_yaml
from tutelage.config.yaml_source import parse_yaml
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit


def read(text: str) -> object:
    return parse_yaml(text, "job.yaml").data


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-5", 3e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("12", 12),
        ("0x1f", 31),
        ("0o17", 15),
        ("010", 10),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("'3e-5'", "3e-5"),
        ("=", "="),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """A label `no` stays text and a learning rate `3e-5` is a number."""
    found = read(f"x: {text}")
    assert found == {"x": value}
    assert type(found["x"]) is type(value)


def test_keys_are_always_text() -> None:
    assert read("{1: a, true: b, null: c}") == {"1": "a", "true": "b", "null": "c"}


def test_lines_are_those_of_the_keys() -> None:
    document = parse_yaml("a: 1\nb:\n  c: [1,\n    2]\n  d: {e: 3}\n", "job.yaml")
    assert document.lines == {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", 0): 3,
        ("b", "c", 1): 4,
        ("b", "d"): 5,
        ("b", "d", "e"): 5,
    }


def test_merge_keys_give_way_to_explicit_ones_wherever_they_stand() -> None:
    text = "base: &b {x: 1, y: 2}\nbefore: {<<: *b, x: 3}\nafter: {x: 3, <<: *b}\n"
    data = read(text)
    assert data["before"] == data["after"] == {"x": 3, "y": 2}


def test_of_several_merged_maps_the_first_wins_and_lines_follow() -> None:
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: [*a, *b]\n"
    document = parse_yaml(text, "job.yaml")
    assert document.data["c"] == {"x": 1, "y": 2}
    assert document.lines[("c", "x")] == 1
    assert document.lines[("c", "y")] == 2


def test_a_replaced_merged_section_leaves_no_stale_lines() -> None:
    text = "a: &a\n  data: {old: 1}\nb: {<<: *a, data: {new: 2}}\n"
    assert ("b", "data", "old") not in parse_yaml(text, "job.yaml").lines


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "job.yaml:3:1", "'a' stands twice"),
        ("a:\n\tb: 1\n", "job.yaml:2:1", "a tab"),
        ("a: [1, 2\nb: 3\n", "job.yaml:2", "expected"),
        ("a: *nowhere\n", "job.yaml:1:4", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "job.yaml:2:1", "second document"),
        ("a: !!python/object/apply:os.system [echo]\n", "job.yaml:1:4", "python/object"),
        ("a: !!python/name:os.system\n", "job.yaml:1:4", "python/name"),
        ("a: !!int x\n", "job.yaml:1:4", "x"),
        ("a: " + "[" * 1000, "job.yaml", "nested too deep"),
        ("a: !custom x\n", "job.yaml:1:4", "!custom"),
        ("a: &x [*x]\n", "job.yaml:1", "contains itself"),
        ("? [1, 2]\n: 3\n", "job.yaml:1", "a key must be a word"),
        ("a: {<<: 3}\n", "job.yaml:1", "'<<' wants a mapping"),
        ("b: 1\na: \x07\n", "job.yaml:2", "'\\x07'"),
    ],
)
def test_errors_name_the_place_and_the_fix(text: str, where: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert where in caught.value.problem
    assert words in caught.value.problem
    assert caught.value.fix


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    with pytest.raises(ConfigError, match="more than 100000 values"):
        read("\n".join(lines))


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_scalar = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _text
_tree = st.dictionaries(
    _text,
    st.recursive(
        _scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4)
    ),
)


@settings(max_examples=40, deadline=None)
@given(_tree)
def test_what_is_written_reads_back_equal(data: dict[str, object]) -> None:
    """Labels such as `no`, `1e5`, a newline or an emoji survive."""
    assert read(to_yaml(data)) == (data or None)

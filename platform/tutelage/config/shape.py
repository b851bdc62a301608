"""What the models say about a key: its type, its variants, and a phrase for what is allowed."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from tutelage.config.base import DefaultType, Section
from tutelage.config.yaml_source import KeyPath

SLUG_WORDS = "a name of a-z, 0-9, '.', '_' and '-' (at most 63)"

_BOUNDS = (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
_PLAIN = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def field_type(field: FieldInfo) -> Any:
    """The annotation of a field with its constraints back in place."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


def unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    """An annotation without `Annotated`, and the constraints that stood there."""
    constraints: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        for item in extra:
            constraints += item.metadata if isinstance(item, FieldInfo) else [item]
    return annotation, constraints


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union, or the annotation itself; None is left out."""
    bare, constraints = unwrap(annotation)
    if get_origin(bare) in (Union, types.UnionType):
        members = get_args(bare)
        return [
            part for m in members for part in alternatives(Annotated[m, *constraints] if constraints else m)
        ]
    if bare is type(None):
        return []
    return [Annotated[bare, *constraints] if constraints else bare]


def allows_null(annotation: Any) -> bool:
    """Whether `null` may be written."""
    bare, _ = unwrap(annotation)
    return bare is type(None) or (
        get_origin(bare) in (Union, types.UnionType) and any(allows_null(m) for m in get_args(bare))
    )


def variants(annotation: Any) -> list[type[Section]]:
    """The sections that may stand here; several for a discriminated union."""
    bare = [unwrap(part)[0] for part in alternatives(annotation)]
    return [part for part in bare if isinstance(part, type) and issubclass(part, Section)]


def tag_of(section: type[Section]) -> str | None:
    """The value of `type` that selects this section; None when it has no `type`."""
    field = section.model_fields.get("type")
    return str(get_args(field.annotation)[0]) if field else None


def variant(annotation: Any, value: Any) -> type[Section] | None:
    """The section that `value` is meant for; None when that cannot be said."""
    found = variants(annotation)
    if len(found) <= 1:
        return found[0] if found else None
    default = next((c.tag for c in unwrap(annotation)[1] if isinstance(c, DefaultType)), None)
    tag = value.get("type", default) if isinstance(value, dict) else None
    return next((section for section in found if tag_of(section) == tag), None)


def child_type(annotation: Any, value: Any, key: str | int) -> Any:
    """The annotation one step further down `value`; None where the models say nothing."""
    section = variant(annotation, value)
    if section is not None:
        field = section.model_fields.get(str(key))
        return field_type(field) if field else None
    for part in alternatives(annotation):
        bare, _ = unwrap(part)
        if get_origin(bare) is list and isinstance(key, int):
            return get_args(bare)[0]
        if get_origin(bare) is dict:
            return get_args(bare)[1]
    return None


def type_at(path: KeyPath, annotation: Any, value: Any) -> Any:
    """The annotation of the key at `path` below `value`; None where the models say nothing."""
    for key in path:
        annotation = child_type(annotation, value, key)
        if annotation is None:
            return None
        value = step(value, key)
    return annotation


def step(value: Any, key: str | int) -> Any:
    """`value[key]`, or None where there is no such thing."""
    if isinstance(value, dict):
        return value.get(key)
    if isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
        return value[key]
    return None


def walk(value: Any, annotation: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any, Any]]:
    """Every node below `value` that the models know, with its annotation, from the top down."""
    yield path, value, annotation
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        below = child_type(annotation, value, key)
        if below is not None and (not isinstance(value, dict) or key in value):
            yield from walk(value[key], below, (*path, key))


def item_key(item: Any, index: int, siblings: list[Any]) -> str | int:
    """How a list item is called in a dotted key: its name, else its type, else its position."""
    for field in ("name", "type"):
        if isinstance(item, dict) and isinstance(item.get(field), str):
            mine = item[field]
            if sum(isinstance(other, dict) and other.get(field) == mine for other in siblings) == 1:
                return str(mine)
            return index
    return index


def dotted(path: KeyPath, data: Any) -> str:
    """`('teachers', 0, 'lr')` as `teachers.movies.lr`; a key that holds a dot is quoted."""
    words: list[str] = []
    for key in path:
        word = item_key(data[key], key, data) if isinstance(data, list) and isinstance(key, int) else key
        words.append(f'"{word}"' if "." in str(word) else str(word))
        data = step(data, key)
    return ".".join(words)


def describe(annotation: Any) -> str:
    """What may be written here, as a phrase: `a whole number above 0, or null`."""
    phrases = [_describe_one(part) for part in _without_section_unions(annotation)]
    found = variants(annotation)
    if len(found) > 1:
        phrases.append("a mapping with type " + any_of([str(tag_of(section)) for section in found]))
    elif found:
        phrases.append("a mapping")
    if allows_null(annotation):
        phrases.append("null")
    return ", or ".join(phrases)


def any_of(words: list[str]) -> str:
    """`a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _without_section_unions(annotation: Any) -> list[Any]:
    sections = variants(annotation)
    return [part for part in alternatives(annotation) if unwrap(part)[0] not in sections]


def _describe_one(annotation: Any) -> str:
    bare, constraints = unwrap(annotation)
    origin = get_origin(bare)
    if origin is Literal:
        return any_of([_word(choice) for choice in get_args(bare)])
    least = next((c.min_length for c in constraints if getattr(c, "min_length", None)), 0)
    count = f" (at least {least})" if least else ""
    if origin is list:
        return f"a list of {plural(describe(get_args(bare)[0]))}{count}"
    if origin is dict:
        return f"a mapping from names to {plural(describe(get_args(bare)[1]))}{count}"
    if any(getattr(constraint, "pattern", None) for constraint in constraints):
        return SLUG_WORDS
    bounds = [
        f"{word} {_number(getattr(constraint, attribute))}"
        for attribute, word in _BOUNDS
        for constraint in constraints
        if getattr(constraint, attribute, None) is not None
    ]
    return " ".join([_PLAIN.get(bare, str(bare)), " and ".join(bounds)]).strip()


def plural(phrase: str) -> str:
    """`a number above 0` as `numbers above 0`."""
    for one, many in (
        ("a whole number", "whole numbers"),
        ("a number", "numbers"),
        ("a mapping", "mappings"),
        ("a name", "names"),
        ("text", "texts"),
    ):
        if phrase.startswith(one):
            return many + phrase[len(one) :]
    return phrase


def _word(choice: Any) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)


def _number(bound: float) -> str:
    return f"{bound:g}" if abs(bound) < 1e6 else str(int(bound))

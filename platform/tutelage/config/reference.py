"""The config reference as Markdown, written from the models.

`python -m tutelage.config.reference` writes docs/config.md; `--check` compares and ends with 1 when the
file is not what would be written.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tutelage.config.base import Section
from tutelage.config.dump import inline
from tutelage.config.job import JobConfig
from tutelage.config.shape import alternatives, describe, field_type, tag_of, unwrap, variants

DEFAULT_PATH = Path("docs") / "config.md"

_INTRO = """\
# Config reference

Written from the models by `python -m tutelage.config.reference`; a test compares this page with them.

A job is one YAML file. A value is taken from the last of these that sets it:

1. the default below,
2. the job file,
3. the environment: `TUTELAGE__TRAIN__LR=3e-5`,
4. the command line: `tutelage distill job.yaml train.lr=3e-5`.

Values from outside the file are YAML: `train.early_stop=null`, `task.labels=[no, yes]`,
`combiner={type: uniform}`. A mapping replaces the whole section. Items of lists are called by position, by
`name`, or by `type` where they have no name: `teachers.movies.min_replicas=2`,
`objectives.kl.temperature=3`. A key that holds a dot stands in quotes:
`'data.sources."my.data".limit=10'`. Setting `type` to another variant drops the keys that the new variant
does not have. Within the environment, and within the command line, short keys are set before long ones, and
of two settings of one key the later wins.

YAML is read as version 1.2: `no`, `off` and dates are text, `3e-5` is a number. Keys are always text. Anchors
and merge keys (`<<: *base`) work; a key that stands twice is an error. `tutelage config show JOB --origin`
prints the whole job with the origin of each value; `tutelage config schema` prints the JSON Schema.
"""


Places = dict[type[Section], list[str]]
"""Every key under which a section may stand, the shortest first."""


def reference() -> str:
    """The whole page."""
    places = _places()
    written: set[type[Section]] = set()
    return "\n".join([_INTRO, *_section("", JobConfig, places, written)]).rstrip() + "\n"


def _places() -> Places:
    """All sections by breadth, so that a section is explained where its key is shortest."""
    places: Places = {JobConfig: [""]}
    queue: list[tuple[str, type[Section]]] = [("", JobConfig)]
    while queue:
        key, section = queue.pop(0)
        for name, field in section.model_fields.items():
            for inner_key, inner in _inner(f"{key}.{name}".lstrip("."), field_type(field)):
                known = places.setdefault(inner, [])
                if inner_key not in known:  # the variants of a list's items share their keys
                    known.append(inner_key)
                queue.append((inner_key, inner))
    return places


def _section(key: str, section: type[Section], places: Places, written: set[type[Section]]) -> Iterator[str]:
    """The heading, table and inner sections of one section, at its first place only."""
    if section in written or places[section][0] != key:
        return
    written.add(section)
    yield f"{'##' if key.count('.') == 0 else '###'} {_title(section, places)}\n"
    yield inspect.cleandoc(section.__doc__ or "") + "\n"
    if places[section][1:]:
        yield "Also: " + ", ".join(f"`{place}`" for place in places[section][1:]) + ".\n"
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for name, field in section.model_fields.items():
        cells = (f"`{name}`", describe(field_type(field)), _default(field), meaning(name, field, places))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for name, field in section.model_fields.items():
        for inner_key, inner in _inner(f"{key}.{name}".lstrip("."), field_type(field)):
            yield from _section(inner_key, inner, places, written)


def _title(section: type[Section], places: Places) -> str:
    if section is JobConfig:
        return "The job"
    tag = tag_of(section)
    return f"`{places[section][0]}`" + (f", type `{tag}`" if tag else "")


def _link(section: type[Section], places: Places) -> str:
    """A link to the heading of a section, by the rules for Markdown anchors."""
    title = _title(section, places)
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    return f"[{tag_of(section) or places[section][0]}](#{anchor})"


def meaning(name: str, field: FieldInfo, places: Places | None = None) -> str:
    """What a key means: its own docstring, or that of the section below it; empty when nobody says."""
    text = " ".join((field.description or "").split())
    below = [section for _, section in _inner(name, field_type(field))]
    if not text and name == "type":
        return "Selects this variant."
    if not text and len(below) == 1:
        text = inspect.cleandoc(below[0].__doc__ or "").split("\n\n")[0].replace("\n", " ")
    if not text and below:
        text = "One of these variants."
    if below and places:
        text += " Keys: " + ", ".join(_link(section, places) for section in below) + "."
    return text


def _inner(key: str, annotation: Any) -> Iterator[tuple[str, type[Section]]]:
    """The sections that may stand at a key or in its items."""
    for section in variants(annotation):
        yield key, section
    for part in alternatives(annotation):
        bare, _ = unwrap(part)
        if get_origin(bare) is list:
            yield from _inner(f"{key}[]", get_args(bare)[0])
        elif get_origin(bare) is dict:
            yield from _inner(f"{key}.NAME", get_args(bare)[1])


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    value = field.default
    if isinstance(value, Section):
        value = value.model_dump(mode="json", exclude_defaults=True)
        if not value and "type" in type(field.default).model_fields:
            value = {"type": tag_of(type(field.default))}
        return f"`{inline(value)}`" if value else "its defaults"
    return f"`{inline(value)}`"


def main(arguments: Sequence[str]) -> int:
    """Write or compare; gives the exit code."""
    check = "--check" in arguments
    names = [argument for argument in arguments if argument != "--check"]
    path = Path(names[0]) if names else DEFAULT_PATH
    text = reference()
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write(f"{path} differs from the models\n  fix: python -m tutelage.config.reference\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

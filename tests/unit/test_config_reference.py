"""The schema and the reference say what the models say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.unit import config_sample as sample
from tutelage.config.base import Section
from tutelage.config.load import load_job
from tutelage.config.reference import _places, main, meaning, reference
from tutelage.config.schema import json_schema
from tutelage.config.shape import describe
from tutelage.config.yaml_source import parse_yaml

pytestmark = pytest.mark.unit


def valid(text: str) -> bool:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return bool(jsonschema.Draft202012Validator(schema).is_valid(parse_yaml(text, "job.yaml").data))


@pytest.mark.parametrize(
    ("old", "new", "ok"),
    [
        ("", "", True),
        ("epochs: 2", "epochs: 0", False),
        ("epochs: 2", "epochz: 2", False),
        ("type: confidence", "type: sure", False),
        ("{path: movies.csv}", "{type: files}", False),
        ("name: small", "name: Not A Name", False),
        ("model: some/small", "layers: [0]", False),
    ],
)
def test_the_schema_takes_what_the_loader_takes(tmp_path: Path, old: str, new: str, ok: bool) -> None:
    text = sample.SMALL.replace(old, new) if old else sample.SMALL
    assert valid(text) is ok
    try:
        load_job(sample.write(tmp_path, text), [], {})
        loaded = True
    except Exception:
        loaded = False
    assert loaded is ok


def test_the_schema_describes_keys_by_their_docstrings() -> None:
    train = json_schema()["$defs"]["TrainConfig"]["properties"]
    assert train["warmup"]["description"] == "Share of the steps in which the learning rate rises from 0."
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_key_has_a_meaning() -> None:
    places = _places()
    assert [
        f"{section.__name__}.{name}"
        for section in places
        for name, field in section.model_fields.items()
        if not meaning(name, field, places)
    ] == []


def test_every_section_stands_once_and_every_link_has_its_heading() -> None:
    import re

    text = reference()
    headings = re.findall(r"^#{2,3} (.*)$", text, re.MULTILINE)
    assert len(headings) == len(set(headings)) == len(_places())
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors


def test_a_section_is_explained_at_its_shortest_key() -> None:
    assert "## `train`\n" in reference()
    assert "Also: `update.train`, `teachers[].finetune.train`" in reference()


def test_check_compares_and_writing_mends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.md"
    assert main(["--check", str(path)]) == 1
    assert "fix: python -m tutelage.config.reference" in capsys.readouterr().err
    assert main([str(path)]) == 0
    assert main(["--check", str(path)]) == 0
    path.write_text(path.read_text() + "x")
    assert main(["--check", str(path)]) == 1


@pytest.mark.parametrize(
    ("section", "key", "phrase"),
    [
        ("TrainConfig", "warmup", "a number at least 0 and at most 1"),
        ("TrainConfig", "max_steps", "a whole number above 0, or null"),
        ("Pick", "labels", "a whole number at least 0, or null"),
        ("StudentConfig", "layers", "a list of whole numbers (at least 1), or null"),
        ("FileSource", "labels", "a mapping from names to texts"),
        ("JobConfig", "combiner", "a mapping with type uniform, weighted, confidence or validated"),
        ("ExportConfig", "int8", "true or false"),
    ],
)
def test_what_is_allowed_is_said_in_words(section: str, key: str, phrase: str) -> None:
    from tutelage.config.shape import field_type

    models: dict[str, type[Section]] = {model.__name__: model for model in _places()}
    annotation: Any = field_type(models[section].model_fields[key])
    assert describe(annotation) == phrase

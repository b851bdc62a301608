"""The page of an update: self-contained, escaped, whole with any part missing, and true to its figures."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.test_report_html import EVIL, Page, assert_escaped
from tests.unit.test_report_write import Answers
from tests.unit.update_report_sample import auto, one, stopped, stream
from tutelage.cli.report import find_report
from tutelage.cli.report import report as verb
from tutelage.cli.update_report import memory_of
from tutelage.continual.metrics import summary
from tutelage.continual.replay import Buffer, Item, save
from tutelage.errors import StoreError
from tutelage.report.files import to_json
from tutelage.report.numbers import MINUS, significant
from tutelage.report.update.figures import Choice, Dip, SliceFigure, UpdateReport
from tutelage.report.update.html import render
from tutelage.report.update.noise import change_error, error, interval, mean_error, weight
from tutelage.report.update.summary import checks, outcome
from tutelage.report.update.write import read_update_report, write_update_report

pytestmark = pytest.mark.unit

SAMPLES = {"one": one, "stream": stream, "stopped": stopped, "auto": auto}
OPTIONAL = sorted(name for name, field in UpdateReport.model_fields.items() if not field.is_required())
MAPS = {"accuracy", "before", "digests", "packages"}


def words(report: UpdateReport) -> str:
    """The text of the page; every drawing in it is whole, and no number is without an end."""
    text = render(report)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        tree = ET.fromstring(drawing)  # noqa: S314
        assert tree.get("aria-hidden") == "true" or all(tree.findtext(tag) for tag in ("title", "desc"))
        assert not re.search(r"[\s,\"LMHVhv-](nan|inf)\b", drawing)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    return Page(text).words()


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every figure and text of some JSON with the key it stands under."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, name if not key else f"{key}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, key)
    elif value is not None and not isinstance(value, bool):
        yield key, value


def ways(key: str, value: Any) -> set[str]:
    """How a figure may be written on the page."""
    if isinstance(value, str):
        return {value}
    if key.endswith("_bytes"):
        return {f"{value / 1000:,.1f}", f"{value / 1000:,.0f}"}
    plain = {
        significant(value),
        f"{value:,}",
        f"{value:g}",
        f"{100 * value:.1f}",
        f"{100 * value:.1f} %",
        f"{100 * value:+.1f}",
    }
    if "seconds" in key:
        plain |= {f"{value:.1f}", f"{int(value) // 60}:{int(value) % 60:02d}"}
    return {text.replace("-", MINUS) for text in plain}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_figure_of_the_json_is_on_the_page(name: str):
    """Each accuracy, count, digest, and name; nothing but the date is written another way."""
    made = SAMPLES[name]()
    found = words(made).replace("kB", "").lower()
    trainings = len(made.history)
    for key, value in leaves(json.loads(to_json(made))):
        if key == "created" or (
            trainings < 3 and key.startswith(("matrix", "summary", "holdout", "history."))
        ):
            continue
        texts = {re.sub(r"\s+", " ", text).lower() for text in ways(key, value)}
        assert any(re.search(rf"(?<![\d.]){re.escape(text)}(?![\d])", found) for text in texts), (key, value)


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_loaded_and_the_same_figures_give_the_same_bytes(name: str):
    """No script, no reference, a policy that forbids them; a round trip through JSON changes nothing."""
    made = SAMPLES[name]()
    page = render(made)
    assert render(UpdateReport.model_validate_json(to_json(made))) == page
    tags = Page(page).tags
    assert not {"script", "link", "iframe", "object", "img", "base"} & {tag for tag, _ in tags}
    assert not {"src", "href", "srcset", "action"} & {attr for _, attributes in tags for attr in attributes}
    assert "url(" not in page
    assert "http://" not in page
    assert "https://" not in page
    policy = next(a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def hostile(value: Any, name: str = "") -> Any:
    """The same data with markup behind every text, keys of free mappings among them."""
    if isinstance(value, str):
        return value + EVIL
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        free = name in MAPS and not {"slices", "run"} & set(value)
        return {key + EVIL if free else key: hostile(item, key) for key, item in value.items()}
    return value


@pytest.mark.parametrize("name", SAMPLES)
def test_every_text_is_escaped(name: str):
    """With markup in every text the page has the same tags; a cut name may add its whole as a tooltip."""
    made = SAMPLES[name]()
    evil = render(UpdateReport.model_validate(hostile(made.model_dump())))
    assert_escaped(evil, render(made) + '<p title="x"></p>')


@pytest.mark.parametrize("part", OPTIONAL)
def test_each_part_may_be_absent_or_the_only_one(part: str):
    """Without one part, and with that part alone."""
    for report in (stream(), auto()):
        data = report.model_dump()
        words(UpdateReport.model_validate({key: value for key, value in data.items() if key != part}))
        kept = {key: value for key, value in data.items() if key == part or key not in OPTIONAL}
        words(UpdateReport.model_validate(kept))


def test_the_sentence_has_gain_fall_limit_verdict_and_names():
    """Figures as printed below it, and what is within noise is said to be."""
    assert outcome(one()) == (
        "Accuracy on the new data nyt rose from 73.2 to 79.8\u00a0% (+6.6 points); the largest fall on an "
        "earlier slice is 0.7 points, on movies, within noise; the gate allows a fall of 2.5 points. "
        "reviews:9def5f72d60d, made from reviews:2f820ea5b859, passed the gate and is called challenger."
    )
    assert "was stopped by the gate and is called rejected" in outcome(stopped())
    assert "(+0.3 points, within noise)" in outcome(stopped())
    unlabelled = [SliceFigure(name="nyt", new=True), *one().slices[:3]]
    assert "nyt has no labelled test rows" in outcome(one(slices=unlabelled, gained=None))


def test_a_gate_that_stopped_says_which_slices_and_what_helps():
    """Both slices that fell and the gain that was missed fail; the marks and the rows say it too."""
    assert [(check.ok, check.text) for check in checks(stopped())] == [
        (False, "movies fell by 11.0 points and tweets fell by 3.0 points"),
        (False, "+0.3 points"),
    ]
    assert all(check.ok for check in checks(one()))
    found = words(stopped())
    assert found.count("fell too far") == 3  # two rows and the key
    assert "What helps: raise update.replay.share." in found
    assert "fell too far" not in words(one())
    assert render(stopped()).count('class="mark fallen"') == 5  # two dots in two widths, and the key


def test_without_old_slices_nothing_is_said_of_forgetting():
    """The sentence says why; the plot has no limit and its key none."""
    report = one(slices=[one().slices[-1]], history=[one().history[-1]])
    found = words(report)
    assert "no earlier slice has held-out rows to measure forgetting on" in found
    assert "No earlier slice was measured, so no limit is drawn" in found
    assert "gate's limit" not in found
    assert 'class="limit"' not in render(report)
    assert "a fall of 100.0 points, is outside of the axis" in words(one(max_forgetting=1.0))


def test_a_stream_is_drawn_by_slice_and_its_numbers_are_those_of_its_matrix():
    """Lines, both tables, and four numbers with meaning and source; two trainings have no such section."""
    report = stream()
    page = render(report)
    assert page.count("Accuracy of each slice after each training") == 2
    matrix = [[math.nan if value is None else value for value in row] for row in report.matrix]
    true = summary(matrix)
    assert (report.summary.accuracy, report.summary.backward) == pytest.approx((true.accuracy, true.backward))
    found = words(report)
    for text in ("ACC", "BWT", "arXiv:1706.08840", "arXiv:1801.10112", "arXiv:2205.13452", "brought by 5"):
        assert text in found
    assert 'id="history"' not in render(one())
    alone = [report.history[0].model_copy(update={"slices": ["movies"]}), *report.history[1:]]
    assert "The accuracy matrix" not in words(stream(history=alone))  # it is the table by slice


def test_how_deep_slices_fell_on_the_way():
    dips = [Dip(slice="movies", start=0.73, lowest=0.645, step=25)]
    found = words(one(dips=dips, watched=100))
    for text in ("73.0", "64.5", "25", "−8.5", "at most 100 validation rows"):
        assert text in found
    assert "On the way" not in words(one())


def test_lambda_that_was_looked_for():
    """Too stiff twice, then taken; with no validation rows the page says why it is 1."""
    found = words(auto())
    assert "too stiff, uncertain" in found
    assert "taken, within noise" in found
    assert "found by 3 attempts" in found
    choice = auto().choice
    assert choice is not None
    first, *others = choice.attempts
    lost = choice.model_copy(update={"attempts": [first.model_copy(update={"accuracy": None}), *others]})
    assert "the penalty diverged" in words(one(choice=lost))
    assert "so it is 1" in words(one(choice=Choice()))


def test_ten_slices_with_long_names_stay_readable():
    """Names are cut in the drawings, and whole in the tables."""
    names = [f"{'very-' * 8}long-name-of-slice-{n}" for n in range(7)]
    found = words(stream(names))
    assert all(name in found for name in names)
    drawings = re.findall(r'class="name[^"]*"[^>]*>([^<]*)<', render(stream(names)))
    assert max(map(len, drawings)) <= 26


def test_intervals_and_errors():
    """Wilson's interval against its textbook figures; noise by the standard error of two shares."""
    assert interval(0.9, 100) == pytest.approx((0.82563, 0.94477), abs=1e-4)
    assert interval(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)
    assert interval(0.4, 0) == (0.4, 0.4)
    assert error(0.5, 400) == pytest.approx(0.025)
    assert error(1.0, 400) > 0
    both = change_error(0.5, 0.5, 400)
    assert both == pytest.approx(0.025 * math.sqrt(2))
    assert change_error(0.5, 0.5, 0) is None
    assert mean_error([0.03, 0.04]) == pytest.approx(0.025)
    assert mean_error([0.03, None]) is None
    said = [weight(change, 0.01) for change in (0.0, -0.0099, 0.015, -0.02)]
    assert said == ["no change", "within noise", "uncertain", "clear"]
    assert weight(0.1, None) == ""


def test_the_memory_is_counted_by_slice(tmp_path: Path):
    """Texts and bytes add up to those of the buffer."""
    buffer = Buffer(10_000)
    buffer.add(Item(bytes([n] * 16), "ab"[n % 2], {"text": "x" * n}, label="yes") for n in range(7))
    save(buffer, tmp_path / "replay")
    found = memory_of(tmp_path / "replay")
    assert {part.slice: part.texts for part in found} == {"a": 4, "b": 3}
    assert sum(part.size_bytes for part in found) == buffer.bytes
    assert memory_of(tmp_path / "none") == []


def test_both_files_are_written_read_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`tutelage report RUN` writes a deleted page again; what is no update is told with its file."""
    folder = tmp_path / "runs" / "u1"
    path = write_update_report(one(), folder)
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "update.json"]
    assert read_update_report(folder) == one()
    assert find_report(None, tmp_path / "runs") == folder
    path.unlink()
    monkeypatch.setenv("TUTELAGE_HOME", str(tmp_path))
    console = Answers()
    verb(SimpleNamespace(obj=console), "u1")  # type: ignore[arg-type]
    assert (console.human, console.data) == (str(path), json.loads(to_json(one())))
    assert path.read_text(encoding="utf-8") == render(one())
    (folder / "update.json").write_text('{"run": 3}')
    with pytest.raises(StoreError, match=r"update\.json"):
        read_update_report(folder)

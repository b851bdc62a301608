"""The page of a search: self-contained, escaped, whole with any part missing, and true to its figures."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.unit.search_sample import KEYS, sample, trial
from tests.unit.test_report_html import EVIL, Page, assert_escaped
from tutelage.errors import StoreError
from tutelage.report.files import to_json
from tutelage.report.numbers import percent
from tutelage.report.search.figures import Baseline, SearchedKey, SearchReport, TrialFigures, Winner
from tutelage.report.search.html import render
from tutelage.report.search.summary import asked, misses
from tutelage.report.search.write import read_search_report, write_search_report

pytestmark = pytest.mark.unit

FIXED = {"done", "stopped", "failed", "out-of-memory", "refused", "float", "log", "int", "choice"}
FIXED |= {"accuracy", "loss", "max", "min", "latency_ms"}
MAPS = {"values", "machine", "teacher_calls", "texts_scored"}
OPTIONAL = sorted(name for name, field in SearchReport.model_fields.items() if not field.is_required())


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample())


def bare(**parts: Any) -> SearchReport:
    """A search with nothing but what every one has, and the given parts."""
    needed = {"search": "s", "job": "j", "created": "2026-01-01T00:00:00", "command": "c", "seconds": 12.0}
    return SearchReport.model_validate(needed | parts)


def words(report: SearchReport) -> str:
    """The text of the page; every drawing in it is whole, and no number is without an end."""
    text = render(report)
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        tree = ET.fromstring(drawing)  # noqa: S314
        assert tree.get("aria-hidden") == "true" or all(tree.findtext(tag) for tag in ("title", "desc"))
        assert not re.search(r"[\s,\"LMHVhv-](nan|inf)\b", drawing)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    return Page(text).words()


def hostile(value: Any, name: str = "") -> Any:
    """The same data with markup behind every text, keys of free mappings among them."""
    if isinstance(value, str):
        return value if value in FIXED else value + EVIL
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        return {key + EVIL if name in MAPS else key: hostile(item, key) for key, item in value.items()}
    return value


def test_the_same_figures_give_the_same_bytes(page: str):
    """Rendering twice, also after a round trip through JSON, changes nothing."""
    assert SearchReport.model_validate_json(to_json(sample())) == sample()
    assert render(SearchReport.model_validate_json(to_json(sample()))) == page


def test_nothing_is_loaded_and_every_drawing_is_described(page: str):
    """No script and no reference; four drawings in two widths, each with a title and a description."""
    tags = Page(page).tags
    assert not {"script", "link", "iframe", "object", "img", "base"} & {tag for tag, _ in tags}
    assert not {"src", "href"} & {name for _, attributes in tags for name in attributes}
    policy = next(a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert page.count('role="img"') == 8
    assert "24 trials in 6 min 12 s" in words(sample())


def test_every_text_is_escaped(page: str):
    """With markup in every text the page has the same tags and no new attribute."""
    data = hostile(sample().model_dump())
    data["near_miss"], data["best"] = "none" + EVIL, None
    evil = render(SearchReport.model_validate(data))
    assert_escaped(evil, page)


@pytest.mark.parametrize("part", OPTIONAL)
def test_each_part_may_be_absent_or_the_only_one(part: str):
    """Without one part, and with that part alone."""
    data = sample().model_dump()
    words(SearchReport.model_validate({key: value for key, value in data.items() if key != part}))
    words(bare(**{part: data[part]}))


def test_no_trial_at_all():
    """The time and how to get it again, and no empty section."""
    report = bare(keys=[])
    assert "No trial ran in 12.0 s." in words(report)
    headings = [attributes.get("id") for tag, attributes in Page(render(report)).tags if tag == "h2"]
    assert headings == ["origin"]


def test_one_trial():
    """One trial is drawn, listed and best."""
    only = trial(1)
    found = words(bare(trials=[only], best=only.id, front=[only.id], keys=KEYS))
    assert f"1 trial in 12.0 s: best {percent(only.metric)} % at" in found


def test_all_trials_failed():
    """No plot of results; each reason is told once in the table of what went wrong."""
    failed = [trial(9).model_copy(update={"number": n, "id": f"f{n}"}) for n in range(1, 4)]
    report = bare(trials=failed, keys=KEYS)
    found = words(report)
    assert "3 trials in 12.0 s: none of them finished (3 failed)." in found
    assert found.count("is not a finite number at step 31") == 3
    assert 'id="outcome"' not in render(report)


def test_without_latency_the_trials_are_drawn_in_their_order():
    """The running best takes the place of the front."""
    trials = [one.model_copy(update={"latency_ms": None, "size_mb": None}) for one in sample().trials]
    report = sample().model_copy(update={"trials": trials, "limits": {}, "objectives": ["accuracy"]})
    assert "The line is the best so far." in words(report)
    assert "latency, ms" not in words(report)


def test_a_metric_that_is_no_number_is_no_rank():
    """It is a dash in the table and stands behind all others."""
    lost = trial(1).model_copy(update={"id": "lost", "number": 99})
    data = lost.model_dump() | {"metric": math.nan, "accuracy": math.nan, "latency_ms": math.inf}
    report = bare(trials=[data, trial(2), trial(3)], keys=KEYS)
    assert [one.number for one in report.ranked() + report.unranked()][-1] == 99
    words(report)


def test_a_loss_is_best_where_it_is_lowest():
    """With mode min the lowest comes first, and the plots say so."""
    trials = [one.model_copy(update={"metric": one.loss}) for one in sample().trials]
    report = sample().model_copy(
        update={"trials": trials, "metric": "loss", "mode": "min", "best": trials[4].id, "limits": {}}
    )
    ranked = [one.metric for one in report.ranked()]
    assert ranked == sorted(ranked)
    found = words(report)
    assert f"best loss {trials[4].loss:.3f}" in found
    assert "Lower left is better" in found
    assert "job as it is: 0.447" in found


def test_two_hundred_trials_with_long_names_stay_readable_and_small():
    """Fifty rows, faded lines, cut names; far below a megabyte."""
    name = "objectives." + "very_" * 30 + "long"
    keys = [SearchedKey(key=f"{name}{n}", kind="float", low=0, high=1) for n in range(12)]
    trials = [
        trial(n).model_copy(update={"values": {key.key: (n * 7 + i) % 11 / 11 for i, key in enumerate(keys)}})
        for n in range(1, 201)
    ]
    report = bare(trials=trials, keys=keys, best="t001")
    found = words(report)
    assert "The first 50 of 200 by validation accuracy" in found
    assert "Shown are 8 of the 12 keys" in found
    text = render(report)
    assert 'class="curve q4 many"' in text
    assert len(text.encode()) < 900_000


def test_values_of_any_kind_are_drawn_and_shortened():
    """Nested, missing, of another type than the others, out of range, equal everywhere, not above 0."""
    keys = [
        SearchedKey(key="a.type", kind="choice", values=[{"b": list(range(30))}, None, True]),
        SearchedKey(key="c.type", kind="log", low=1e-4, high=1e-2),
        SearchedKey(key="d", kind="int"),
        SearchedKey(key="e", kind="float", low=2, high=2),
        SearchedKey(key="f", kind="log", low=0, high=1),
    ]
    values: list[dict[str, Any]] = [
        {"a.type": {"b": list(range(30))}, "c.type": 5.0, "d": 1, "e": 2, "f": 0.0},
        {"a.type": None, "c.type": "text", "d": True},
        {"a.type": True, "c.type": math.nan, "d": [1], "e": math.inf, "f": -1},
        {},
    ]
    data = [trial(1).model_dump() | {"id": f"v{n}", "number": n, "values": v} for n, v in enumerate(values)]
    report = bare(trials=data, keys=keys, best="v0")
    assert report == SearchReport.model_validate_json(to_json(report))
    found = words(report)
    assert "a.type" in found
    assert "[0, 1, 2, 3, 4, 5, 6," not in render(report).partition('id="trials"')[2].partition("title=")[0]


def test_the_numbers_on_the_page_are_those_of_the_figures():
    """Outcome, tiles, rows of the table, the winner and the limit."""
    report = sample()
    best, base = report.trial(report.best), report.baseline
    assert best is not None
    assert base is not None
    found = words(report)
    assert f"best {percent(best.metric)} % at layers [0, 2, 5]" in found
    assert f"job as it is: {percent(base.accuracy)} %" in found
    assert "566" in found
    assert "latency ≤ 2.2 ms" in found
    assert "test accuracy 83.6 %" in re.sub(r"\s+", " ", found)
    table = render(report).partition('id="trials"')[2].partition('id="failures"')[0]
    rows = re.findall(r'<th scope="row" class="n">(\d+).*?</tr>', table, re.S)
    assert [int(number) for number in rows] == [one.number for one in report.ranked() + report.unranked()]
    for one in report.ranked():
        row = re.search(rf'class="n">{one.number}\b.*?</tr>', table, re.S)
        assert row is not None
        cells = re.findall(r'<td class="n known">([^<]*)</td>', row.group())
        assert cells[0] == percent(one.accuracy)
        assert float(cells[1]) == pytest.approx(one.latency_ms, abs=0.006)


def test_a_job_that_stays_better_is_said_to_stay_better():
    """The baseline is compared as printed."""
    report = sample().model_copy(update={"baseline": Baseline(accuracy=0.91)})
    assert "; the job as it is stays better: 91.0 %." in words(report)
    best = report.trial(report.best)
    assert best is not None
    report = sample().model_copy(update={"baseline": Baseline(accuracy=best.metric)})
    assert "; the job as it is reaches the same." in words(report)


def test_what_was_saved_is_what_the_trials_ran():
    """Two whole trials and a half one over 100 texts would have asked for 250; 100 were scored."""
    trials = [
        TrialFigures(id=str(n), number=n, status="done", metric=0.5, progress=p)
        for n, p in enumerate((1, 1, 0.5))
    ]
    report = bare(trials=trials, texts=100, teacher_calls={"a": 4, "b": 8}, texts_scored={"a": 100, "b": 300})
    rows = {row.teacher: row for row in asked(report)}
    assert (rows["a"].alone, rows["a"].factor) == (250, 2.5)
    assert rows["b"].factor is None
    assert "100 saved" in words(report) or "times fewer" in words(report)


def test_a_near_miss_says_what_it_lacks():
    """Met and missed limits; a text that names no trial stands as it is."""
    near = trial(1).model_copy(update={"latency_ms": 2.5, "size_mb": 10.0})
    limits = {"latency_ms": 2.0, "size_mb": 12.0, "weights": 1e6}
    report = bare(trials=[near], keys=KEYS, limits=limits, near_miss=near.id)
    assert misses(report)[:2] == [
        "latency 2.5\u00a0ms, limit 2\u00a0ms: 25 % off",
        "size 10\u00a0MB, limit 12\u00a0MB: met",
    ]
    assert "none met the limits (latency ≤ 2 ms, size ≤ 12 MB, weights ≤ 1.00 million)" in words(report)
    assert misses(bare(near_miss="nothing came near")) == ["nothing came near"]


def test_a_winner_of_an_unknown_trial_is_shown():
    """The figures are those of the run, whatever the trials are."""
    winner = Winner(run="r1", trial="gone", accuracy=0.8)
    found = words(bare(winner=winner, baseline=Baseline(accuracy=0.75), trials=[trial(1), trial(2)]))
    assert "+5.0 points" in found
    assert "it was not measured on the test split" in found


def test_both_files_are_written_and_read(tmp_path: Path):
    """The folder is made; what is no search is told with its file and its key."""
    path = write_search_report(sample(), tmp_path / "new")
    assert sorted(file.name for file in path.parent.iterdir()) == ["search.html", "search.json"]
    assert path.read_text(encoding="utf-8") == render(sample())
    assert read_search_report(path.parent) == sample()
    with pytest.raises(StoreError, match="No such file"):
        read_search_report(tmp_path)
    (tmp_path / "search.json").write_text('{"search": 3}')
    with pytest.raises(StoreError, match=r"search\.json"):
        read_search_report(tmp_path)
    (tmp_path / "taken").write_text("x")
    with pytest.raises(StoreError, match="taken"):
        write_search_report(sample(), tmp_path / "taken")

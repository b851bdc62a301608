"""The page: self-contained, escaped, complete without any optional part, the same bytes each time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from tests.unit.report_sample import sample
from tutelage.report.figures import AccuracyRow, Answer, Check, CombinerFigure, Curve, Point, Report
from tutelage.report.html import lost_from, render
from tutelage.report.tables import accuracy_cells, artifacts, bars

pytestmark = pytest.mark.unit

OPTIONAL = sorted(name for name, field in Report.model_fields.items() if not field.is_required())
EVIL = "<script>alert(1)</script>\"'><img src=https://evil.example/x onerror=alert(2)>"
VOID = {"meta", "col", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and fails on a tag that is closed out of order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def words(self) -> str:
        return re.sub(r"[\s\u202f\u00a0]+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample())


def everywhere(value: object, text: str) -> object:
    """The same data with a text appended to each string that is not one of a fixed set of words."""
    fixed = {"teacher", "student", "ensemble", "combiner", "torch", "onnx", "int8"}
    if isinstance(value, str):
        return value if value in fixed else value + text
    if isinstance(value, list):
        return [everywhere(item, text) for item in value]
    if isinstance(value, dict):
        return {key: everywhere(item, text) for key, item in value.items()}
    return value


def assert_escaped(evil: str, page: str) -> None:
    """The page with markup in its texts has no other tag or attribute than the one without, and shows it."""
    assert "<script" not in evil
    found, clean = Page(evil), Page(page)
    assert {tag for tag, _ in found.tags} <= {tag for tag, _ in clean.tags}
    names = {name for _, attributes in clean.tags for name in attributes}
    assert {name for _, attributes in found.tags for name in attributes} <= names
    assert "<script>alert(1)</script>" in found.words()


def test_the_same_report_gives_the_same_bytes(page: str):
    """Rendering twice, also after a round trip through JSON, changes nothing."""
    assert render(Report.model_validate_json(sample().model_dump_json())) == page


def test_nothing_is_loaded_from_anywhere(page: str):
    """No script, no link, no reference but inside the page; the policy of the page forbids the rest."""
    tags = Page(page).tags
    assert not {"script", "link", "iframe", "object", "img", "base"} & {tag for tag, _ in tags}
    for _, attributes in tags:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    style = page.partition("<style>")[2].partition("</style>")[0]
    assert "@import" not in style
    assert "url(" not in page.replace("url(data:", "")
    policy = next(a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_every_text_is_escaped(page: str):
    """With markup in every text of the report, the page has the same tags and no new attribute."""
    data = everywhere(sample().model_dump(), EVIL)
    evil = render(Report.model_validate(data))
    assert_escaped(evil, page)


@pytest.mark.parametrize("part", OPTIONAL)
def test_a_page_without_one_part(part: str):
    """Each optional part may be absent alone."""
    data = sample().model_dump()
    del data[part]
    Page(render(Report.model_validate(data)))


@pytest.mark.parametrize("part", OPTIONAL)
def test_a_page_with_only_one_part(part: str):
    """Each optional part may be the only one."""
    data = {
        name: value for name, value in sample().model_dump().items() if name == part or name not in OPTIONAL
    }
    Page(render(Report.model_validate(data)))


def test_a_bare_page_has_only_its_time():
    """With nothing measured the page says the time and how to get it again, and has no empty section."""
    found = Page(render(Report(title="t", command="c", created="2026-01-01T00:00:00", seconds=12.0)))
    headings = [attributes.get("id") for tag, attributes in found.tags if tag == "h2"]
    assert headings == ["origin"]
    assert "Finished in 12.0 s." in found.words()


def test_the_outcome_adds_up(page: str):
    """The sentence gives the differences of the numbers as printed: 84.8 - 79.2 and 84.8 - 81.8."""
    words = Page(page).words()
    assert "One student of 17.4 million parameters answers 84.8 % of the test texts right" in words
    assert "5.6 points more than the best single teacher" in words
    assert "3.0 points more than the uniform mean of all teachers" in words
    assert "On movies the uniform mean stands 3.0 points below the best teacher there (movies)" in words
    assert "the combiner wins 60 % of it back" in words


def test_a_student_that_loses_is_said_to_lose():
    """Fewer, not more, where the student is below the uniform mean."""
    rows = [
        AccuracyRow(model="a", kind="teacher", by_slice={"x": 0.7}),
        AccuracyRow(model="uniform", kind="ensemble", by_slice={"x": 0.8}),
        AccuracyRow(model="student", kind="student", runtime="torch", by_slice={"x": 0.7}),
    ]
    words = Page(render(Report(title="t", command="c", created="d", seconds=1, accuracy=rows))).words()
    assert "as many as the best single teacher and 10.0 points fewer than the uniform mean" in words


def test_failed_checks_come_first_and_in_words():
    """A failed check is counted, stands first and is told without colour."""
    checks = [Check(name="good", ok=True), Check(name="bad", ok=False, text="0.4 is below 0.5")]
    words = Page(render(sample().model_copy(update={"verdict": checks}))).words()
    assert "1 of 2 checks failed" in words
    assert words.index("failed: bad") < words.index("passed: good")


def test_the_best_of_each_column_is_marked():
    """Ties are all marked; tints go from the lowest to the highest of the column; a gap has a dash."""
    rows = [
        AccuracyRow(model="a", kind="teacher", by_slice={"x": 0.5, "y": 0.9}),
        AccuracyRow(model="b", kind="teacher", by_slice={"x": 0.75, "y": None}),
        AccuracyRow(model="c", kind="teacher", by_slice={"x": 1.0, "y": 0.9}),
    ]
    report = Report(title="t", command="c", created="d", seconds=1, accuracy=rows)
    cells = [cells for _, cells in accuracy_cells(report)]
    assert [[cell.best for cell in line[:2]] for line in cells] == [
        [False, True],
        [False, False],
        [True, True],
    ]
    assert [line[0].tint for line in cells] == [0, 5, 9]
    assert cells[1][1].text == "–"


def test_equal_print_is_equal_rank():
    """Two numbers that print the same are both best, since the reader cannot tell them apart."""
    rows = [
        AccuracyRow(model=name, kind="teacher", by_slice={"x": v})
        for name, v in (("a", 0.848), ("b", 0.8478))
    ]
    report = Report(title="t", command="c", created="d", seconds=1, accuracy=rows)
    assert [cells[0].best for _, cells in accuracy_cells(report)] == [True, True]


def test_bars_follow_each_other_and_fill_the_time():
    """The stages stand one after another; what is between them is a last bar."""
    found = bars(sample())
    assert found[-1].stage.name == "between stages"
    assert found[-1].stage.seconds == pytest.approx(318.4 - 314.63)
    assert found[-1].start + found[-1].width == pytest.approx(100, abs=0.05)
    for left, right in pairwise(found):
        assert right.start == pytest.approx(left.start + left.width, abs=0.02)


def test_artifacts_join_sizes_and_latencies():
    """One row an artifact; the student int8 has its own size and time."""
    rows = {row.name: row for row in artifacts(sample())}
    assert rows["student int8"].texts == ("18", "17.4", "1.4", "1.9", "702")
    assert [name for name, row in rows.items() if row.student] == [
        "student torch",
        "student ONNX",
        "student int8",
    ]


def test_a_diverged_loss_is_drawn_as_far_as_it_goes():
    """The caption names the first step after which no loss was finite."""
    losses = [1.0, float("nan"), 0.8, 0.7, float("inf"), float("nan")]
    points = [Point(step=step, loss=loss) for step, loss in enumerate(losses)]
    report = sample().model_copy(update={"curves": [Curve(name="student", kind="student", points=points)]})
    assert lost_from(report) == 4
    page = render(report)
    assert "From step 4 on the loss is not a finite number." in page
    assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", page)


def test_a_curve_that_is_all_lost_or_empty_has_no_plot():
    """No finite loss, no picture, and no error."""
    curves = [
        Curve(name="a", kind="teacher", points=[Point(step=0, loss=float("nan"))]),
        Curve(name="b", kind="teacher"),
        Curve(name="student", kind="student"),
    ]
    assert 'id="training"' not in render(sample().model_copy(update={"curves": curves}))


def test_one_point_is_a_curve():
    """A training of one logged step still has its picture."""
    curves = [Curve(name="student", kind="student", points=[Point(step=3, loss=0.5, accuracy=0.5)])]
    assert 'id="student-wide-t"' in render(sample().model_copy(update={"curves": curves}))


def test_every_drawing_is_well_formed_and_described(page: str):
    """Each SVG parses as XML, has a title and a description, and ids are unique on the page."""
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len([d for d in drawings if 'role="img"' in d]) == 8
    for drawing in drawings:
        tree = ET.fromstring(drawing)  # noqa: S314
        if tree.get("role") == "img":
            assert all(tree.findtext(tag) for tag in ("title", "desc"))
        else:
            assert tree.get("aria-hidden") == "true"
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_a_long_run_stays_small():
    """Twenty thousand logged steps give a page below 400 kB."""
    points = [Point(step=s, loss=1 / (s + 1), parts={"kl": 0.5, "ce": 0.5}) for s in range(20_000)]
    report = sample().model_copy(update={"curves": [Curve(name="student", kind="student", points=points)]})
    assert len(render(report).encode()) < 400_000


def test_the_sample_is_below_its_size(page: str):
    """The page of the quickstart is far below 400 kB."""
    assert len(page.encode()) < 150_000


def test_a_teacher_known_only_to_the_combiner_has_a_colour():
    """Weights of a teacher without an accuracy row are drawn, zero weights are not."""
    weights = {"x": {"a": 1.0, "b": 0.0, "c": float("nan")}}
    report = Report(
        title="t", command="c", created="d", seconds=1, combiner=CombinerFigure(name="one", weights=weights)
    )
    page = render(report)
    assert 'title="a: 100.0 %"' in page
    assert 'title="b:' not in page
    assert 'title="c:' not in page


def test_a_missing_figure_is_a_dash(page: str):
    """An answer without a score or latency has dashes in its row."""
    assert sample().endpoint is not None
    endpoint = sample().endpoint.model_copy(update={"answers": [Answer(text="silence", label="none")]})
    cells = re.search(
        r"silence</td>(.*?)</tr>", render(sample().model_copy(update={"endpoint": endpoint})), re.S
    )
    assert cells is not None
    assert cells.group(1).count(">–<") == 2


def test_the_page_tells_of_rows_by_class_cut_texts_unknown_tokens_and_leaks(page):
    words = Page(page).words()
    assert "Of 2,000 test texts 3 stand word for word in the training rows, and 21 nearly" in words
    assert "left out 3 empty text" in words
    assert "negative 2,300 290 980" in words
    assert "412 of 41,200" in words

"""What is read of files as people have them: formats x encodings x odd shapes, as a table in Markdown.

Each file holds 40 rows. It is read as the plainest job would; where that is refused, the key that the advice
names is put into the job, and the file is read again. `init` is what the job that `tutelage init` writes
reads. A text or a label that comes back otherwise than it was put in is counted as lost.

    python -m benchmarks.formats
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import yaml

from tutelage.cli.main import main
from tutelage.config import JobConfig
from tutelage.config.load import load_job
from tutelage.data.rows import read_rows
from tutelage.data.table import MappedTable
from tutelage.errors import TutelageError

ROWS = 40
LABELS = ("negative", "positive")
SAMPLES = {
    "utf-8": "Größe und Café, “gut” 这部电影",
    "utf-8-sig": "Größe und Café, “gut” 这部电影",
    "utf-16": "Größe und Café, “gut” 这部电影",
    "utf-16-le": "a plain sentence of words",
    "utf-32": "Größe und Café 这部电影",
    "cp1252": "Größe und Café, “gut” – überall",
    "gb18030": "这部电影非常好看，服务太差了",
    "big5": "這部電影非常好看，服務太差了",
    "cp932": "この映画はとても良かったです",
    "cp949": "영화가 정말 재미있었다",
    "cp1251": "Отличный фильм, советую всем",
}
KEY = re.compile(r"set data\.sources\.s\.([\w.]+): (.+?)(?:; otherwise .*|, or .*)?$")
"""The key and the value of an advice."""


@dataclass(frozen=True)
class Case:
    """A file and what stands in it."""

    what: str
    name: str
    content: bytes
    rows: list[tuple[str, str]]
    keys: dict[str, Any] = field(default_factory=dict)


def rows_of(text: str = "some words of a text") -> list[tuple[str, str]]:
    """Texts that are all different, and labels in turn."""
    return [(f"{text} {i}", LABELS[i % 2]) for i in range(ROWS)]


def table(rows: list[tuple[str, str]], mark: str = ",", end: str = "\n", header: bool = True) -> str:
    """A delimited table as Python's csv module writes it."""
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=mark, lineterminator=end)
    writer.writerows([("text", "label")] * header + rows)
    return sink.getvalue()


def lines(rows: list[tuple[str, Any]], end: str = "\n") -> str:
    """One JSON object a line."""
    return "".join(json.dumps({"text": t, "label": k}, ensure_ascii=False) + end for t, k in rows)


def packed(write: Callable[..., Any], labels: list[Any]) -> bytes:
    """A parquet or Arrow file."""
    sink = io.BytesIO()
    write(pa.table({"text": [text for text, _ in rows_of()], "label": labels}), sink)
    return sink.getvalue()


def encodings() -> Iterator[Case]:
    """Every encoding in every text format."""
    for encoding, text in SAMPLES.items():
        rows = rows_of(text)
        texts = "".join(f"{text}\n" for text, _ in rows)
        yield Case(encoding, "a.csv", table(rows).encode(encoding), rows)
        yield Case(encoding, "a.tsv", table(rows, "\t").encode(encoding), rows)
        yield Case(encoding, "a.jsonl", lines(rows).encode(encoding), rows)
        alone = [(text, "positive") for text, _ in rows]
        yield Case(encoding, "a.txt", texts.encode(encoding), alone, {"label": "positive"})


def shapes() -> Iterator[Case]:
    """Shapes of tables that readers stumble over."""
    rows = rows_of()
    for what, end in (("LF", "\n"), ("CR LF", "\r\n"), ("CR alone", "\r")):
        yield Case(what, "a.csv", table(rows, end=end).encode(), rows)
        yield Case(what, "a.jsonl", lines(rows, end).encode(), rows)
    yield Case("semicolons", "a.csv", table(rows, ";").encode(), rows)
    yield Case("tabs", "a.csv", table(rows, "\t").encode(), rows)
    yield Case("first line `sep=;`", "a.csv", ("sep=;\r\n" + table(rows, ";")).encode(), rows)
    yield Case("no header", "a.csv", table(rows, header=False).encode(), rows)
    yield Case("blank lines before and after", "a.csv", f"\n\n{table(rows)}\n\n".encode(), rows)
    yield Case("two files put together, each with mark and header", "a.csv", _joined(rows), rows)
    yield Case(
        "mark before a quoted header", "a.csv", ('\ufeff"text","label"' + table(rows)[10:]).encode(), rows
    )
    yield Case("gzip", "a.csv.gz", gzip.compress(table(rows).encode()), rows)
    yield Case("gzip", "a.jsonl.gz", gzip.compress(lines(rows).encode()), rows)
    yield Case("two quotes that close nothing", "a.tsv", *_stray("\t"))
    yield Case("two quotes that close nothing", "a.csv", *_stray(","))
    broken = [(text.replace(" of ", ",\nof "), label) for text, label in rows]
    escaped = [(f'{text} \\"so\\", {label}', label) for text, label in rows]
    content = "".join(f'"{text}",{label}\n' for text, label in [("text", "label"), *escaped])
    said = [(text.replace("\\", ""), label) for text, label in escaped]
    yield Case("quotes behind backslashes", "a.csv", content.encode(), said)
    yield Case("line breaks in cells", "a.csv", table(broken).encode(), broken)
    long = [("word " * 60_000 + str(i), label) for i, (_, label) in enumerate(rows)]
    yield Case("cells of 300,000 characters", "a.csv", table(long).encode(), long)


def _joined(rows: list[tuple[str, str]]) -> bytes:
    return b"".join(table(part).encode("utf-8-sig") for part in (rows[:20], rows[20:]))


def _stray(mark: str) -> tuple[bytes, list[tuple[str, str]]]:
    rows = rows_of()
    rows[10] = ('"' + rows[10][0], rows[10][1])
    rows[18] = (rows[18][0] + ' 5"', rows[18][1])
    return "".join(f"{text}{mark}{label}\n" for text, label in [("text", "label"), *rows]).encode(), rows


def columns() -> Iterator[Case]:
    """Label columns of every type."""
    rows = rows_of()
    for what, first, second in (("text", *LABELS), ("booleans", False, True), ("whole numbers", 0, 1)):
        labels = [(first, second)[i % 2] for i in range(ROWS)]
        mapped = {str(first).lower(): "negative", str(second).lower(): "positive"}
        keys = {} if what == "text" else {"labels": mapped}
        yield Case(what, "a.parquet", packed(pa.parquet.write_table, labels), rows, keys)
        yield Case(what, "a.arrow", packed(pa.feather.write_feather, labels), rows, keys)
    halves = {"labels": {"0.5": "negative", "1": "positive"}}
    yield Case("decimals", "a.parquet", packed(pa.parquet.write_table, [0.5, 1.0] * 20), rows, halves)


def others() -> Iterator[Case]:
    """What is no file of rows, whatever its name says."""
    rows = rows_of()
    yield Case("gzip without its ending", "a.csv", gzip.compress(table(rows).encode()), rows)
    yield Case("a spreadsheet", "a.csv", b"PK\x03\x04" + bytes(100), rows)
    yield Case(
        "a JSON array", "a.jsonl", json.dumps([{"text": t, "label": k} for t, k in rows]).encode(), rows
    )
    yield Case(
        "parquet without its ending", "a.csv", packed(pa.parquet.write_table, [k for _, k in rows]), rows
    )


def read(folder: Path, case: Case, keys: dict[str, Any]) -> int:
    """Rows that come back as they were put in. Raises TutelageError."""
    source = {"path": str(folder / case.name), "splits": {"test": 0, "validation": 0}, **case.keys, **keys}
    job = {
        "name": "formats",
        "task": {"labels": list(LABELS)},
        "data": {"sources": {"s": source}},
        "student": {"model": "none"},
        "objectives": [{"type": "cross-entropy"}],
    }
    return _right(JobConfig.model_validate(job), folder, case.rows)


def _right(job: JobConfig, folder: Path, rows: list[tuple[str, str]]) -> int:
    with tempfile.TemporaryDirectory(dir=folder) as home:
        found = MappedTable(read_rows(job, Path(home)).path)
        pairs = [row for batch in found.batches for row in batch.select(["text", "label"]).to_pylist()]
    wanted = dict(rows)
    pairs = [row for row in pairs if row["text"] in wanted]
    # The labels of init's jobs are sorted, and those of all cases sort as these do.
    return sum(LABELS.index(wanted[row["text"]]) == row["label"] for row in pairs)


@dataclass(frozen=True)
class Outcome:
    """How one file was read."""

    plain: str
    key: str
    after: str
    init: str

    @property
    def whole(self) -> bool:
        """Whether all rows came back, at once or with the key that was named."""
        return f"{ROWS} of {ROWS}" in (self.plain, self.after)


def tried(folder: Path, case: Case) -> Outcome:
    """Read a file as it is, with the key that its refusal names, and by the job of init."""
    (folder / case.name).write_bytes(case.content)
    init = by_init(folder, case)
    try:
        given = " ".join(f"`{key}`" for key in case.keys)
        return Outcome(f"{read(folder, case, {})} of {ROWS}", given, "", init)
    except TutelageError as refused:
        text = re.sub(
            r"^(data\.sources\.s: )?(.*cannot be read: |\S+ has )?", "", str(refused).splitlines()[0]
        )
        said = KEY.search(refused.fix or "")
        if said is None:
            return Outcome(f"refused: {text}", str(refused.fix), "", init)
        after = read(folder, case, {said[1]: yaml.safe_load(said[2])})
        return Outcome(f"refused: {text}", f"`{said[1]}: {said[2]}`", f"{after} of {ROWS}", init)


def by_init(folder: Path, case: Case) -> str:
    """Rows that the job of `tutelage init` reads as they were put in."""
    if case.name.endswith(".txt"):
        return ""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        quiet = io.StringIO()
        if main(["init", place, "--data", str(folder / case.name)], stdout=quiet, stderr=io.StringIO()):
            return "refused"
        return f"{_right(load_job(Path(place) / 'job.yaml').job, folder, case.rows)} of {ROWS}"


def cases() -> Iterator[Case]:
    """All files."""
    yield from (*encodings(), *shapes(), *columns(), *others())


def run() -> None:
    """Print the table; files that fared alike share a line."""
    print("| what | files | as it is | key that is named, or was given | with it | by `init` |")
    print("|---|---|---|---|---|---|")
    found: dict[tuple[str, str, str, str], list[tuple[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            one = tried(Path(folder), case)
            alike = found.setdefault((case.what, one.plain, one.key, one.after), [])
            alike.append((case.name[1:], one.init))
    for (what, plain, key, after), files in found.items():
        endings = " ".join(f"`{ending}`" for ending, _ in files)
        init = ", ".join(dict.fromkeys(init for _, init in files if init))
        cells = [what, endings, plain, key, after, init]
        print("| " + " | ".join(cell.replace("|", "\\|").replace("\t", " ") for cell in cells) + " |")


if __name__ == "__main__":
    run()

"""The classes of new data, looked at before its rows are read, so that a head can grow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tutelage.config import JobConfig
from tutelage.config.data import Source
from tutelage.data.checks import as_label
from tutelage.data.labels import label_text
from tutelage.data.sources import open_source


def all_labels(job: JobConfig, sources: Mapping[str, Source], known: list[str], home: Path) -> list[str]:
    """The known classes, then those that the sources bring, sorted. Raises DataError."""
    found: set[str] = set()
    for name, source in sources.items():
        if source.label is not None:
            found.add(source.labels.get(source.label, source.label))
        if source.columns.label is None:
            continue
        for rows in open_source(name, source, home, job.task).read():
            for value in rows.values.get("label", []):
                text = label_text(as_label(value))
                if text is not None:
                    found.add(source.labels.get(text, text))
    return [*known, *sorted(found - set(known))]

"""Data sets of a hub, by name: `type: hub`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from tutelage.config.data import HubSource
from tutelage.data.raw import BATCH_ROWS, RawRows, Wanted
from tutelage.errors import DataError, StoreError
from tutelage.files import digest_text

CLASSES = {"label", "tags"}
"""Keys of `columns` whose values a data set may number."""


def open_hub(
    name: str, source: HubSource, keys: dict[str, str], labels: list[str]
) -> tuple[str, Callable[[], Iterator[RawRows]]]:
    """What changes with the content of a data set, and the reader of its rows.

    Raises:
        DataError: no such data set, or no package that reads it.
        StoreError: a hub that does not answer.
    """
    key = f"data.sources.{name}"
    try:
        import datasets
    except ImportError as problem:
        raise DataError(
            f"{key}: type 'hub' needs the package `datasets`", fix="pip install 'tutelage[hub]'"
        ) from problem
    logging.getLogger("datasets").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        data = datasets.load_dataset(
            source.dataset, source.config, split=source.part, revision=source.revision
        )
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as problem:
        raise DataError(
            f"{key}: the hub has no data set '{source.dataset}' (config {source.config}, "
            f"part '{source.part}'), or it cannot be reached: {problem}",
            fix="check the name, config and part, and that this machine reaches the hub",
        ) from problem
    except OSError as problem:
        raise StoreError(
            f"{key}: the hub does not answer for '{source.dataset}': {problem}",
            fix="check the network, or save the data set as parquet and use `path:`",
        ) from problem
    stamp = digest_text(source.dataset, str(source.config), source.part, str(data._fingerprint))
    wanted = Wanted(name, source.dataset, keys)
    return stamp, lambda: hub_rows(data, source, wanted, labels)


def hub_rows(data: Any, source: HubSource, wanted: Wanted, labels: list[str]) -> Iterator[RawRows]:
    """Rows of a `datasets.Dataset`; classes by their name where the data set names them."""
    wanted.check(list(data.column_names))
    names = {key: _class_names(data, source, wanted.keys[key], labels) for key in CLASSES & set(wanted.keys)}
    data = data.select_columns(wanted.columns)
    for start in range(0, len(data), BATCH_ROWS):
        part = data[start : start + BATCH_ROWS]
        values = {key: list(part[column]) for key, column in wanted.keys.items()}
        for key, known in names.items():
            if known:
                values[key] = [_named(value, known) for value in values[key]]
        rows = list(range(start + 1, start + 1 + len(next(iter(values.values())))))
        yield RawRows(wanted.file, rows, values)
    if not len(data):
        yield wanted.empty()


def _named(value: Any, names: list[str]) -> Any:
    """A class number, or a list of them, by name; -1 is how the hub writes "unlabelled"."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return None if value == -1 else value


def _class_names(data: Any, source: HubSource, column: str, labels: list[str]) -> list[str]:
    """The data set's class names, unless the source's `labels` map the numbers themselves."""
    feature = data.features.get(column)
    feature = getattr(feature, "feature", feature)  # of a list
    names = list(getattr(feature, "names", None) or [])
    by_number = bool(source.labels) and not set(names) & set(source.labels)
    return [] if by_number and not set(names) & set(labels) else names

"""One log a run: what the command says, its workers and its replicas, wherever they are; bounded by rotation.

Lines are JSON in `log/run.jsonl` of the run's folder. Workers and replicas write to their stderr, which Ray
brings to the driver; only the driver writes the file, so it may rotate.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO

FOLDER, FILE = "log", "run.jsonl"
FILE_BYTES, OLD_FILES = 5_000_000, 4
LOOK_S = 0.5
"""Time between two looks of who follows."""
OURS = ("tutelage", "actors", "tune_spaces", "serve_apps")
WORKERS = "tutelage.workers"
"""Where lines of other processes arrive."""
STEPS = "tutelage.steps"
"""Where the console's lines arrive."""


class JsonLines(logging.Formatter):
    """A record as one line: at (UTC), level, who, text."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback is part of the text."""
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        who = getattr(record, "who", "driver")
        at = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "who": who, "text": text}
        return json.dumps(line, ensure_ascii=False)


class _File(RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """A full disk costs lines, never the run; nor does it speak on the terminal."""


class _Terminal(logging.StreamHandler[TextIO]):
    """As Python's handler of last resort, which falls silent where there is another: the file's.

    What the console says itself is on the terminal already.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self.setLevel(level)
        self.addFilter(lambda record: record.name not in (STEPS, WORKERS))


@contextmanager
def run_log(folder: Path) -> Iterator[None]:
    """Write what is logged while the body runs to the log of the run in `folder`, behind what is there."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    path = folder / FOLDER / FILE
    if _size(path) and not path.read_bytes().endswith(b"\n"):  # a kill cut it short
        with path.open("a") as file:
            file.write("\n")
    handler = _File(path, maxBytes=FILE_BYTES, backupCount=OLD_FILES, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    with ExitStack() as stack:
        stack.callback(handler.close)
        for logger in map(logging.getLogger, OURS):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.INFO)
        if not root.handlers:
            terminal = _Terminal(logging.WARNING)
            root.addHandler(terminal)
            stack.callback(root.removeHandler, terminal)
        root.addHandler(handler)
        stack.callback(root.removeHandler, handler)
        yield


def speak() -> None:
    """In a worker: say on stderr what our modules log and others warn of; Ray brings it to the driver."""
    root = logging.getLogger()
    if not any(isinstance(handler, logging.StreamHandler) for handler in root.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)


def heard(lines: list[str], who: str) -> None:
    """Lines that another process has printed."""
    for line in lines:
        if line.strip():
            logging.getLogger(WORKERS).info("%s", line.rstrip(), extra={"who": who})


def has_log(folder: Path) -> bool:
    """Whether a run in this folder has said anything."""
    return (folder / FOLDER / FILE).exists()


@dataclass(frozen=True)
class Place:
    """Between two lines of a log: so many bytes into a file, which a rotation gives another name."""

    at: int
    inode: int | None
    """None before there is a file."""


def whole_lines(folder: Path) -> Place:
    """Behind the last whole line of now."""
    inode, data = _read(folder / FOLDER / FILE)
    return Place(data.rfind(b"\n") + 1, inode)


def lines_of(folder: Path, until: Place | None = None) -> list[dict[str, Any]]:
    """Lines that are kept, oldest first, all or up to a place; one that a kill cut short is left out."""
    found: list[dict[str, Any]] = []
    seen: set[int | None] = {None}
    newer = until is not None
    # Newest first: a file that a rotation renames meanwhile is met twice, never missed.
    for name in (FILE, *(f"{FILE}.{n}" for n in range(1, OLD_FILES + 1))):
        inode, data = _read(folder / FOLDER / name)
        if until is not None and inode is not None and inode == until.inode:
            newer, data = False, data[: until.at]
        if inode not in seen and not newer:
            found[:0] = _parsed(data.decode("utf-8", errors="replace"))
            seen.add(inode)
    return found


def _read(path: Path) -> tuple[int | None, bytes]:
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_ino, file.read()
    except FileNotFoundError:
        return None, b""


def follow(
    folder: Path, since: Place, lives: Callable[[], bool], sleep: Callable[[float], None] = time.sleep
) -> Iterator[dict[str, Any]]:
    """The lines that come after a place, until the run has ended and all is read."""
    path = folder / FOLDER / FILE
    at, file = since.at, since.inode
    while True:
        over = not lives()
        if _inode(path) != file:  # it was rotated: what was left of the old one, then the new one
            yield from _rest(path.with_name(f"{FILE}.1"), at)[1] if file is not None else ()
            at, file = 0, _inode(path)
        read, lines = _rest(path, at)
        at += read
        yield from lines
        if over:
            return
        sleep(LOOK_S)


def _rest(path: Path, at: int) -> tuple[int, list[dict[str, Any]]]:
    """Whole lines from a place on: how many bytes they are, and what they say."""
    try:
        with path.open("rb") as file:
            file.seek(at)
            data = file.read()
    except FileNotFoundError:
        return 0, []
    whole = data[: data.rfind(b"\n") + 1]
    return len(whole), _parsed(whole.decode("utf-8", errors="replace"))


def _parsed(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.split("\n"):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _inode(path: Path) -> int | None:
    return path.stat().st_ino if path.exists() else None

"""What is known of every trial, in memory for the live table and line by line on disk for the next start."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tune_spaces.search.trial import status_of
from tutelage.config.search import SMALLER_IS_BETTER

FINAL = ("done", "stopped", "failed", "out-of-memory")


@dataclass
class Record:
    """One trial so far."""

    id: str
    number: int
    labels: dict[str, Any]
    measures: dict[str, float] = field(default_factory=dict)
    """What was measured of its student before it was trained."""
    status: str = "waiting"
    curve: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    began: float | None = None
    ended: float | None = None

    @property
    def last(self) -> dict[str, Any]:
        """The newest report; empty before the first."""
        return self.curve[-1] if self.curve else {}

    def value(self, goal: str) -> float | None:
        """What it reached, by one goal; None where it reached nothing."""
        if self.status in ("failed", "out-of-memory"):
            return None
        found = self.measures.get(goal, self.last.get(goal))
        return None if found is None or not math.isfinite(found) else float(found)

    def take(self, result: dict[str, Any]) -> None:
        """A report. One that a resumed trial makes again replaces the first."""
        if result.get("status", "ran") != "ran":
            self.status, self.error = str(result["status"]), str(result.get("error", ""))
            return
        self.status = "running"
        step = result["step"]
        self.curve = [point for point in self.curve if point["step"] < step]
        self.curve.append(result)

    def end(self, error: str = "") -> None:
        """It is over: it has failed, or has run to its end, or was stopped."""
        if self.status in ("failed", "out-of-memory"):
            return
        if error:
            self.status, self.error = status_of(RuntimeError(error)), error
        else:
            self.status = "done" if self.last.get("progress", 0) >= 100 else "stopped"


class Book:
    """All trials of a search. Every change is a line of a file, so a killed search is read back whole."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path, self._clock = path, clock
        self.records: dict[str, Record] = {}
        self.calls: dict[str, int] = {}
        """Questions to each teacher, in all starts of the search."""
        self.texts: dict[str, int] = {}
        """Texts that each teacher scored, in all starts of the search."""
        self.refused: list[tuple[dict[str, Any], str]] = []
        """Points that were no trials, and why."""
        self.notes: list[str] = []
        self.closed = False
        """Whether the search has come to its end."""
        self._starts: list[list[float]] = []
        self.lost = 0
        """Damaged last lines, of a write that was cut short."""
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    self._apply(json.loads(line))
                except (ValueError, KeyError):
                    self.lost += 1

    @property
    def seconds(self) -> float:
        """Time of all starts of the search, each to the last that is known of it."""
        return sum(last - first for first, last in self._starts)

    def start(self) -> None:
        """The search begins, or goes on."""
        self._write({"event": "start"})

    def asked(self, calls: dict[str, int], texts: dict[str, int]) -> None:
        """What the teachers were asked."""
        self._write({"event": "asked", "calls": calls, "texts": texts})

    def measure(self, trial: str, measures: dict[str, float]) -> None:
        """What was measured of a trial's student once more."""
        self._write({"event": "measure", "trial": trial, "measures": measures})

    def drop(self, trial: str) -> None:
        """A trial that nobody goes on with; another one takes its place."""
        self._write({"event": "drop", "trial": trial})

    def close(self, refused: list[tuple[dict[str, Any], str]], notes: list[str]) -> None:
        """The search is over."""
        self._write({"event": "close", "refused": refused, "notes": notes})

    def begin(self, trial: str, labels: dict[str, Any], measures: dict[str, float]) -> None:
        """A trial starts, or goes on."""
        self._write({"event": "begin", "trial": trial, "labels": labels, "measures": measures})

    def report(self, trial: str, result: dict[str, Any]) -> None:
        """A trial says how it goes."""
        self._write({"event": "report", "trial": trial, "result": result})

    def end(self, trial: str, error: str = "") -> None:
        """A trial is over."""
        self._write({"event": "end", "trial": trial, "error": error})

    def _write(self, event: dict[str, Any]) -> None:
        event["at"] = self._clock()
        self._apply(event)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(event) + "\n")

    def _apply(self, event: dict[str, Any]) -> None:
        kind, name = event["event"], event.get("trial", "")
        if kind == "start":
            self._starts.append([event["at"], event["at"]])
        if self._starts:
            self._starts[-1][1] = event["at"]
        match kind:
            case "asked":
                for total, more in ((self.calls, event["calls"]), (self.texts, event["texts"])):
                    for teacher, count in more.items():
                        total[teacher] = total.get(teacher, 0) + count
            case "measure":
                self.records[name].measures = event["measures"]
            case "drop":
                self.records.pop(name, None)
            case "close":
                self.closed, self.notes = True, event["notes"]
                self.refused = [(labels, why) for labels, why in event["refused"]]
            case "begin":
                known = self.records.get(name)
                if known is None:
                    known = self.records[name] = Record(name, len(self.records) + 1, event["labels"])
                    known.began = event["at"]
                known.labels, known.measures = event["labels"], event["measures"]
                known.status = "running"
            case "report":
                self.records[name].take(event["result"])
            case "end":
                self.records[name].end(event["error"])
                self.records[name].ended = event["at"]

    def ranked(self, goal: str) -> list[Record]:
        """Trials with a value, the best first; a trial that ran to its end goes before an equal one."""
        sign = 1 if goal in SMALLER_IS_BETTER else -1
        valued = [(value, r) for r in self.records.values() if (value := r.value(goal)) is not None]
        return [r for _, r in sorted(valued, key=lambda p: (sign * p[0], p[1].status != "done", p[1].number))]


def front(records: Sequence[Record], goals: Sequence[str]) -> list[Record]:
    """The trials that no other one beats in every goal, in the order of the first goal."""
    signs = [1 if goal in SMALLER_IS_BETTER else -1 for goal in goals]
    rated = []
    for record in records:
        values = [value for goal in goals if (value := record.value(goal)) is not None]
        if record.status == "done" and len(values) == len(goals):
            rated.append((tuple(s * v for s, v in zip(signs, values, strict=True)), record))
    kept = [(costs, record) for costs, record in rated if not any(_beats(other, costs) for other, _ in rated)]
    return [record for _, record in sorted(kept, key=lambda pair: (pair[0], pair[1].number))]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))

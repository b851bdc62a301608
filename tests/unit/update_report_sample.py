"""Made-up figures of updates: one, a stream of four, one that was stopped, one that looked for lambda."""

from __future__ import annotations

from typing import Any

from tutelage.report.figures import Machine
from tutelage.report.update.figures import (
    Attempt,
    Choice,
    Kept,
    MemoryFigure,
    SliceFigure,
    StreamSummary,
    TeacherShare,
    Training,
    TrainingCost,
    UpdateReport,
)

FIRST = Training(
    run="reviews-distill-10fb1d77",
    slices=["movies", "amazon", "tweets"],
    accuracy={"movies": 0.732, "amazon": 0.84, "tweets": 0.94},
)
KEPT = Kept(
    regulariser="online-ewc",
    strength=1.25,
    step="proximal",
    measured="fisher, exact, on 1,111 texts",
    distil_weight=0.75,
    temperature=2.5,
    replay="reservoir",
    budget_bytes=512_000,
    share=0.45,
    logits=0.55,
    memory=[
        MemoryFigure(slice="movies", texts=557, size_bytes=141_300),
        MemoryFigure(slice="nyt", texts=429, size_bytes=98_700),
    ],
    teachers=[TeacherShare(name="champion", fingerprint="3e23c8560f75", calls=76, texts=2383, cached=17)],
)


def one(**parts: Any) -> UpdateReport:
    """The second training of a version: one new slice, all within the gate."""
    figures: dict[str, Any] = {
        "run": "reviews-update-3c00ec56",
        "job": "reviews",
        "version": "reviews:9def5f72d60d",
        "parent": "reviews:2f820ea5b859",
        "alias": "challenger",
        "created": "2026-11-24T21:09:12+00:00",
        "command": "tutelage update reviews:2f820ea5b859 --data catalog:reviews/nyt --name nyt",
        "seconds": 98.0,
        "passed": True,
        "gained": 0.066,
        "max_forgetting": 0.025,
        "min_gain": 0.005,
        "holdout": 512,
        "slices": [
            SliceFigure(name="movies", rows=501, before=0.732, after=0.725),
            SliceFigure(name="amazon", rows=502, before=0.84, after=0.842),
            SliceFigure(name="tweets", rows=503, before=0.94, after=0.94),
            SliceFigure(name="nyt", new=True, rows=504, before=0.732, after=0.798),
        ],
        "history": [
            FIRST,
            Training(
                run="reviews-update-3c00ec56",
                slices=["nyt"],
                accuracy={"movies": 0.725, "amazon": 0.842, "tweets": 0.94, "nyt": 0.798},
                before={"nyt": 0.732},
            ),
        ],
        "matrix": [[0.837333, None], [0.835667, 0.798]],
        "summary": StreamSummary(
            accuracy=0.816833, backward=-0.001667, forgetting=0.001667, minimum=0.835667
        ),
        "kept": KEPT,
        "training": TrainingCost(steps=75, seconds=25.9, precision="fp32", workers=1, new_texts=1199),
        "digests": {"data and settings": "5f0a77", "weights": "cec8137c", "weights before": "3e23c856"},
        "machine": Machine(cpu="a processor", cores=2, memory_gb=7.8, os="Linux"),
        "packages": {"tutelage": "0.1", "torch": "2.13"},
        "config_yaml": "name: reviews\n",
        "next_command": "tutelage deploy reviews:9def5f72d60d",
    }
    return UpdateReport.model_validate(figures | parts)


def stream(names: list[str] | None = None, **parts: Any) -> UpdateReport:
    """A version with a first training and an update for each name; what is old fades a little each time."""
    names = names or ["nyt", "hotels", "games", "recipes"]
    born = dict.fromkeys(FIRST.slices, 0)
    first = {part: 0.9 - 0.021 * index for index, part in enumerate(born)}
    history = [FIRST.model_copy(update={"accuracy": first})]
    for number, name in enumerate(names, 1):
        born[name] = number
        accuracy = {
            part: round(0.9 - 0.021 * index + 0.006 * ((index + number) % 3) - 0.005 * (number - at), 4)
            for index, (part, at) in enumerate(born.items())
        }
        before = {name: round(accuracy[name] - 0.083, 4)}
        history.append(
            Training(run=f"reviews-update-{number:08x}", slices=[name], accuracy=accuracy, before=before)
        )
    last, earlier = history[-1].accuracy, history[-2].accuracy
    slices = [
        SliceFigure(
            name=part,
            new=part == names[-1],
            rows=500,
            before=earlier.get(part, history[-1].before.get(part)),
            after=value,
        )
        for part, value in last.items()
    ]
    size = len(history)
    matrix = [[_mean(one_of.accuracy, brought.slices) for brought in history] for one_of in history]
    diagonal = [matrix[n][n] for n in range(size)]
    ends = [(end, start) for end, start in zip(matrix[-1], diagonal, strict=True) if end and start]
    figures = {
        "slices": slices,
        "history": history,
        "matrix": matrix,
        "gained": 0.083,
        "summary": StreamSummary(
            accuracy=sum(end for end, _ in ends) / size,
            backward=sum(end - start for end, start in ends[:-1]) / (size - 1),
            forgetting=0.0223,
            minimum=0.8412,
        ),
    }
    return one(**(figures | parts))


def _mean(accuracy: dict[str, float | None], names: list[str]) -> float | None:
    known = [value for name in names if (value := accuracy.get(name)) is not None]
    return sum(known) / len(known) if known else None


def stopped() -> UpdateReport:
    """One earlier slice fell by more than the gate allows."""
    slices = [
        SliceFigure(name="movies", rows=501, before=0.732, after=0.622),
        SliceFigure(name="tweets", rows=503, before=0.94, after=0.91),
        SliceFigure(name="nyt", new=True, rows=504, before=0.732, after=0.735),
    ]
    problems = [
        "'movies' fell from 0.732 to 0.622, update.gate.max_forgetting allows 0.025",
        "'tweets' fell from 0.940 to 0.910, update.gate.max_forgetting allows 0.025",
        "the new data gained +0.003, update.gate.min_gain asks for +0.005",
    ]
    parts: dict[str, Any] = {"problems": problems, "fix": "raise update.replay.share", "slices": slices}
    return one(passed=False, alias="rejected", gained=0.003, **parts)


def auto() -> UpdateReport:
    """Three attempts for lambda."""
    attempts = [(1000.0, 0.751), (100.0, 0.782), (10.0, 0.806)]
    choice = Choice(
        rows=150,
        plain=0.818,
        tolerance=0.015,
        attempts=[Attempt(strength=lam, accuracy=value) for lam, value in attempts],
    )
    return one(choice=choice, kept=KEPT.model_copy(update={"strength": 10.0}))

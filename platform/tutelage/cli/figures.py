"""Puts what the steps gave into one report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.cli.data_figures import data_figures
from tutelage.cli.stream_figures import parity_figure, teacher_figures
from tutelage.report.figures import (
    AccuracyRow,
    Check,
    CombinerFigure,
    Curve,
    EndpointFigure,
    LatencyRow,
    Point,
    Report,
    SizeRow,
    StageFigure,
)
from tutelage.signals.planned import UNITS

if TYPE_CHECKING:
    from actors.distill import Distilled
    from actors.evaluate import Judgement
    from actors.finetune import Finetuned
    from actors.tally import Scores
    from actors.workspace import Workspace
    from tutelage.cli.steps import Exported, Job
    from tutelage.report.figures import ModelKind, Runtime

RUNTIMES: dict[str, Runtime] = {"torch": "torch", "fp32": "onnx", "int8": "int8"}


def write_figures(
    job: Job,
    space: Workspace,
    teachers: dict[str, Finetuned],
    student: Distilled,
    *,
    exported: Exported | None = None,
    endpoint: EndpointFigure | None = None,
    command: str,
    began: float,
    next_command: str,
) -> tuple[Report, Path]:
    """The report of a command that began at this reading of time.monotonic, and the page it is written to."""
    from tutelage.report.write import write_report

    report = _assemble(job, space, teachers, student, exported, endpoint)
    report = report.model_copy(
        update={
            "command": command,
            "seconds": time.monotonic() - began,
            "next_command": next_command,
            "verdict": _verdict(report, exported),
        }
    )
    return report, write_report(report, space.runs / student.run)


def surroundings(title: str) -> dict[str, Any]:
    """What every report says of its command's machine and time; command and seconds are put in at its end."""
    from tutelage.cli.surroundings import machine, package_versions

    return {
        "title": title,
        "command": "",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "machine": machine(),
        "versions": package_versions(),
    }


def _assemble(
    job: Job,
    space: Workspace,
    teachers: dict[str, Finetuned],
    student: Distilled,
    exported: Exported | None,
    endpoint: EndpointFigure | None,
) -> Report:
    from tutelage.config.load import job_digest

    title = f"{space.job.name}: {len(student.teachers)} teachers, one student"
    return Report(
        **surroundings(title),
        run=student.run,
        version=exported.version.ref if exported else None,
        stages=[
            StageFigure(name=s["name"], seconds=s["seconds"])
            for s in job.console.stages
            if "/" not in s["name"]
        ],
        **data_figures(space),
        curves=_curves(teachers, student),
        metric=_metric(student.judgement, exported),
        unit=UNITS.get(space.job.task.type, "text"),
        accuracy=_accuracy(space, student, exported),
        not_measured=_not_measured(student),
        combiner=CombinerFigure(name=space.job.combiner.type, weights=student.judgement.weights)
        if student.judgement.weights
        else None,
        sizes=_sizes(student, exported),
        latency=_latency(exported),
        teachers=teacher_figures(space, student),
        parity=parity_figure(student),
        endpoint=endpoint,
        lineage={
            "run": student.run,
            "job digest": job_digest(space.job)[:16],
            "data": space.rows.fingerprint,
            "teachers": {spec.name: spec.fingerprint for spec in student.teachers},
            "base model": space.job.student.model,
            "precision": student.result["precision"],
            "seed": space.job.seed,
        },
        config_yaml=job.yaml,
        next_command="",
    )


def _curves(teachers: dict[str, Finetuned], student: Distilled) -> list[Curve]:
    curves = [Curve(name=name, kind="teacher", points=_points(t.result)) for name, t in teachers.items()]
    return [*curves, Curve(name="student", kind="student", points=_points(student.result))]


def _points(result: dict[str, Any]) -> list[Point]:
    return [
        Point(step=p["step"], loss=p["loss"], parts=p["parts"], lr=p["lr"], accuracy=p.get("accuracy"))
        for p in result["points"]
    ]


def _accuracy(space: Workspace, student: Distilled, exported: Exported | None) -> list[AccuracyRow]:
    judged = student.judgement
    rows = [_row(name, "teacher", found) for name, found in judged.teachers.items()]
    if judged.uniform:
        rows.append(_row("uniform ensemble", "ensemble", judged.uniform))
    if judged.combined:
        rows.append(_row(f"{space.job.combiner.type} combiner", "combiner", judged.combined))
    if exported:
        rows += [_row("student", "student", found, RUNTIMES[name]) for name, found in exported.scores.items()]
    elif judged.student:
        rows.append(_row("student", "student", judged.student, "torch"))
    return rows


def _not_measured(student: Distilled) -> list[str]:
    """Why a model has no accuracy."""
    judged = student.judgement
    if judged.student is not None and judged.student.mean is None:
        return ["no test row has a label, so no model's accuracy was measured"]
    silent = [spec.name for spec in student.teachers if spec.name not in judged.teachers]
    found = [f"teacher {name} was not measured: its server gives the largest logits alone" for name in silent]
    return found + (["ensembles were not measured: they need all teachers"] if found else [])


def _metric(judged: Judgement, exported: Exported | None) -> str:
    """The main metric of the task, as the scores name it."""
    scores = [*judged.teachers.values(), *(exported.scores.values() if exported else [])]
    scores += [judged.student] if judged.student and judged.student.examples else []
    return scores[0].metric if scores else "accuracy"


def _row(model: str, kind: ModelKind, found: Scores, runtime: Runtime | None = None) -> AccuracyRow:
    return AccuracyRow(
        model=model,
        kind=kind,
        runtime=runtime,
        by_slice=dict(found.by_slice),
        mean=found.mean,
        low=None if found.interval is None else found.interval[0],
        high=None if found.interval is None else found.interval[1],
        examples=found.examples,
    )


def _sizes(student: Distilled, exported: Exported | None) -> list[SizeRow]:
    here = [spec for spec in student.teachers if spec.remote is None]
    rows = [_size(f"teacher {spec.name}", Path(spec.model), "teacher") for spec in here]
    torch = _size("student torch", student.folder, "student")
    rows.append(torch)
    if exported:
        found = exported.result
        rows.append(
            SizeRow(name="student onnx", bytes=found.fp32_bytes, parameters=torch.parameters, kind="student")
        )
        if found.int8_bytes:
            int8 = SizeRow(
                name="student int8", bytes=found.int8_bytes, parameters=torch.parameters, kind="student"
            )
            rows.append(int8)
    return rows


def _size(name: str, folder: Path, kind: str) -> SizeRow:
    from tutelage.models.describe import count_weights

    files = sorted(folder.glob("*.safetensors"))
    return SizeRow(
        name=name,
        bytes=sum(file.stat().st_size for file in files),
        parameters=sum(count_weights(file) for file in files),
        kind=kind,
    )


def _latency(exported: Exported | None) -> list[LatencyRow]:
    if exported is None:
        return []
    return [
        LatencyRow(
            name=f"student {RUNTIMES[runtime]}",
            batch=found.batch,
            tokens=found.tokens,
            p50_ms=found.p50_ms,
            p95_ms=found.p95_ms,
            texts_per_s=found.texts_per_s,
        )
        for runtime, times in exported.result.latencies.items()
        for found in times
    ]


def _verdict(report: Report, exported: Exported | None) -> Sequence[Check]:
    from tutelage.report.claims import claims

    found = claims(report)
    checks = []
    for name, ok, over in (
        ("beats the best single teacher", found.beats_best_teacher, found.student_over_best_teacher),
        ("beats the uniform ensemble", found.beats_uniform, found.student_over_uniform),
    ):
        if ok is not None and over is not None:
            checks.append(Check(name=name, ok=ok, text=f"mean {report.measure} {over:+.3f}"))
    if report.parity is not None:
        text = f"largest logit difference {report.parity.max_abs_diff:.1e} on {report.parity.examples} texts"
        checks.append(Check(name="streamed signals equal local ones", ok=report.parity.ok, text=text))
    if exported is not None:
        result = exported.result
        text = f"largest logit difference {result.fp32_agreement.max_abs_diff:.1e}"
        checks.append(Check(name="ONNX fp32 equals torch", ok=True, text=text))
        if result.int8_agreement:
            int8 = result.int8_agreement
            text = f"same label on {int8.share_same_label:.1%}, scores moved by {int8.mean_score_diff:.3f}"
            checks.append(Check(name="int8 agrees with torch", ok=True, text=text))
    return checks

"""A realistic report: three teachers, four domains of reviews, one student, every part filled in."""

from __future__ import annotations

import math

from tutelage.report.figures import (
    AccuracyRow,
    Answer,
    Check,
    ClassFigure,
    CombinerFigure,
    Curve,
    EndpointFigure,
    LatencyRow,
    LeakFigure,
    Machine,
    ModelKind,
    Parity,
    Point,
    Report,
    Runtime,
    SizeRow,
    SourceFigure,
    StageFigure,
    TeacherFigure,
)

DOMAINS = ("movies", "amazon", "nyt", "tweets")
TEST_TEXTS = 2000
ACCURACY: tuple[tuple[str, ModelKind, Runtime | None, tuple[float, ...]], ...] = (
    ("movies", "teacher", "torch", (0.806, 0.718, 0.744, 0.582)),
    ("amazon", "teacher", "torch", (0.728, 0.846, 0.730, 0.666)),
    ("tweets", "teacher", "torch", (0.656, 0.812, 0.788, 0.912)),
    ("uniform", "ensemble", None, (0.776, 0.852, 0.832, 0.810)),
    ("confidence", "combiner", None, (0.794, 0.842, 0.838, 0.918)),
    ("student", "student", "torch", (0.784, 0.846, 0.844, 0.916)),
    ("student", "student", "onnx", (0.784, 0.846, 0.844, 0.916)),
    ("student", "student", "int8", (0.780, 0.848, 0.836, 0.914)),
)
WEIGHTS = {
    "movies": {"movies": 0.58, "amazon": 0.27, "tweets": 0.15},
    "amazon": {"movies": 0.14, "amazon": 0.55, "tweets": 0.31},
    "nyt": {"movies": 0.33, "amazon": 0.30, "tweets": 0.37},
    "tweets": {"movies": 0.08, "amazon": 0.21, "tweets": 0.71},
}
CONFIG = """\
name: reviews
seed: 1
task: {type: sequence-classification, labels: [negative, positive]}
data:
  max_tokens: 48
  sources:
    movies: {type: catalog, dataset: reviews/movies, splits: {validation: 150, test: 500}}
    amazon: {type: catalog, dataset: reviews/amazon, splits: {validation: 150, test: 500}}
    nyt: {type: catalog, dataset: reviews/nyt, splits: {validation: 150, test: 500}}
    tweets: {type: catalog, dataset: reviews/tweets, splits: {validation: 150, test: 500}}
student: {model: catalog:minilm, layers: [0, 2, 5], method: {type: partial}}
combiner: {type: confidence, sharpness: 4}
objectives:
  - {type: kl, temperature: 2}
  - {type: cross-entropy, weight: 0.2}
train: {epochs: 3, lr: 3.0e-4}
"""


def noise(step: int, seed: int) -> float:
    """Repeatable numbers between -1 and 1 without a random generator."""
    return math.sin(step * 12.9898 + seed * 78.233) * 43758.5453 % 2 - 1


def teacher_curve(name: str, seed: int, floor: float) -> Curve:
    """A fine-tuning of 75 steps that falls from ln 2 to its floor."""
    losses = ((s, floor + (0.69 - floor) * math.exp(-s / 16) + 0.07 * noise(s, seed)) for s in range(75))
    return Curve(name=name, kind="teacher", points=[Point(step=s, loss=max(v, 0.05)) for s, v in losses])


def student_curve() -> Curve:
    """450 steps of distillation with both parts, a warm-up of the learning rate and three validations."""
    points = []
    for step in range(1, 451):
        kl = 0.19 + 0.62 * math.exp(-step / 70) + 0.045 * noise(step, 7)
        cross = 0.2 * (0.33 + 0.36 * math.exp(-step / 90) + 0.09 * noise(step, 11))
        rate = 3e-4 * min(step / 45, (450 - step) / 405)
        accuracy = {150: 0.812, 300: 0.838, 450: 0.845}.get(step)
        points.append(
            Point(
                step=step,
                loss=kl + cross,
                parts={"kl": kl, "cross-entropy": cross},
                lr=rate,
                accuracy=accuracy,
            )
        )
    return Curve(name="student", kind="student", points=points)


def sample() -> Report:
    """The whole report."""
    return Report(
        title="Three review teachers, one student",
        command="tutelage quickstart",
        created="2026-08-14T09:26:53",
        seconds=318.4,
        machine=Machine(cpu="AMD EPYC 7B13", cores=2, memory_gb=16.0, os="Linux 6.1, Python 3.11.9"),
        versions={
            "tutelage": "0.1.0",
            "ray": "2.60.0",
            "torch": "2.13.0",
            "transformers": "5.23.1",
            "onnxruntime": "1.32.0",
        },
        run="reviews-20260814-092653",
        version="reviews:4f1c92ab73d0",
        verdict=_checks(),
        stages=_stages(),
        data=[
            SourceFigure(
                source=name, train=1200, validation=150, test=500, labelled=0 if name == "nyt" else 300
            )
            if name != "tweets"
            else SourceFigure(
                source=name,
                train=1200,
                validation=150,
                test=500,
                labelled=300,
                bad={"empty text": 3, "not a number": 1},
                texts=1850,
                cut=40,
                tokens=41_200,
                unknown=412,
            )
            for name in DOMAINS
        ],
        classes=[
            ClassFigure(label="negative", train=2300, validation=290, test=980),
            ClassFigure(label="<b>positive</b>", train=2500, validation=310, test=1020),
        ],
        leaks=LeakFigure(texts=2000, same=3, near=21, examples=["nyt row 5 = nyt row 18"]),
        data_notes=["tweets: left out 3 empty text, 1 not a number"],
        curves=[
            teacher_curve("movies", 1, 0.44),
            teacher_curve("amazon", 2, 0.37),
            teacher_curve("tweets", 3, 0.27),
            student_curve(),
        ],
        accuracy=[
            AccuracyRow(
                model=model,
                kind=kind,
                runtime=runtime,
                by_slice=dict(zip(DOMAINS, values, strict=True)),
                examples=TEST_TEXTS,
            )
            for model, kind, runtime, values in ACCURACY
        ],
        combiner=CombinerFigure(name="confidence", weights=WEIGHTS),
        sizes=_sizes(),
        latency=_latency(),
        teachers=[
            TeacherFigure(
                name=name,
                replicas=1,
                calls=150,
                examples=4800,
                bytes_sent=1_843_200,
                bytes_received=38_400 + 1200 * i,
                p50_ms=88.4 + 3.1 * i,
                retries=int(i == 2),
                respawns=int(i == 2),
                cache_hits=9600,
                payload="dense fp32",
                reason="two classes: all logits in fp32 are smaller than any other payload",
                bytes_position=8.0 + 0.25 * i,
                max_replicas=3,
                queue_p50_ms=6.2 + i,
                wait_share=0.041 + 0.01 * i,
                hedges=2 * int(i == 1),
                cached_share=2 / 3,
            )
            for i, name in enumerate(("movies", "amazon", "tweets"))
        ],
        parity=Parity(max_abs_diff=0.0, examples=256, same_label=256, tolerance=1e-5, ok=True),
        endpoint=_endpoint(),
        lineage={
            "job": "reviews",
            "seed": 1,
            "student from": "all-MiniLM-L6-v2, layers 0, 2, 5",
            "teachers": ["movies@9a1e", "amazon@77c0", "tweets@d34b"],
            "data": "c5b0e2f49d1877aa",
        },
        config_yaml=CONFIG,
        next_command="tutelage distill reviews.yaml student.layers='[0, 5]'",
    )


def _checks() -> list[Check]:
    return [
        Check(name="Student beats the best single teacher", ok=True, text="84.8 % against 79.2 % (tweets)"),
        Check(name="Student beats the uniform mean", ok=True, text="84.8 % against 81.8 %"),
        Check(name="Streamed signals equal local ones", ok=True, text="largest difference 0 over 256 texts"),
        Check(name="ONNX agrees with torch", ok=True, text="all 2,000 labels, largest difference 4.2e-6"),
        Check(name="int8 keeps the accuracy", ok=True, text="84.5 %, 0.3 points below torch"),
        Check(name="Endpoint answers", ok=True, text="4 of 4 requests, version 4f1c92ab73d0"),
    ]


def _stages() -> list[StageFigure]:
    return [
        StageFigure(name="fetch data and encoder", seconds=6.2, detail="2 files, sha256 checked"),
        StageFigure(
            name="fine-tune teachers", seconds=74.9, detail="3 Ray Train jobs, 1,200 labelled texts each"
        ),
        StageFigure(
            name="distil", seconds=187.3, detail="450 steps, 4,800 texts, 3 epochs; 4,800 scored once"
        ),
        StageFigure(name="export", seconds=11.8, detail="ONNX fp32 and int8, agreement on 2,000 texts"),
        StageFigure(name="evaluate", seconds=21.6, detail="8 models on 2,000 texts"),
        StageFigure(name="record version", seconds=0.42),
        StageFigure(name="deploy and ask", seconds=12.1, detail="Ray Serve, 4 requests"),
        StageFigure(name="write report", seconds=0.31),
    ]


def _sizes() -> list[SizeRow]:
    teachers = [
        SizeRow(name=name, bytes=90_868_376, parameters=22_713_986, kind="teacher")
        for name in ("movies", "amazon", "tweets")
    ]
    return [
        *teachers,
        SizeRow(name="student torch", bytes=69_571_112, parameters=17_390_210, kind="student"),
        SizeRow(name="student ONNX", bytes=69_702_811, parameters=17_390_210, kind="student"),
        SizeRow(name="student int8", bytes=17_612_304, parameters=17_390_210, kind="student"),
    ]


def _latency() -> list[LatencyRow]:
    figures = {
        "movies": (9.8, 12.9, 101),
        "amazon": (9.9, 12.4, 100),
        "tweets": (9.7, 13.2, 102),
        "student torch": (5.4, 7.0, 182),
        "student ONNX": (2.6, 3.1, 379),
        "student int8": (1.4, 1.9, 702),
    }
    return [
        LatencyRow(name=name, batch=1, tokens=48, p50_ms=p50, p95_ms=p95, texts_per_s=rate)
        for name, (p50, p95, rate) in figures.items()
    ]


def _endpoint() -> EndpointFigure:
    return EndpointFigure(
        url="http://127.0.0.1:8000/reviews",
        version="4f1c92ab73d0",
        p50_ms=6.3,
        answers=[
            Answer(
                text="A film that trusts its silence, and earns every minute of it.",
                label="positive",
                score=0.981,
                latency_ms=9.7,
            ),
            Answer(
                text="The strap broke on the second day and nobody answered my mail.",
                label="negative",
                score=0.964,
                latency_ms=5.9,
            ),
            Answer(
                text="The committee postponed the vote for the third time this year.",
                label="negative",
                score=0.612,
                latency_ms=6.3,
            ),
            Answer(
                text="best. concert. ever. my ears are still ringing :)",
                label="positive",
                score=0.993,
                latency_ms=6.1,
            ),
        ],
    )

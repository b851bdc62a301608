"""What a student of a shape costs to serve: weights, size of its file, and how long an answer takes.

The model is built with random weights, exported, quantised where int8 is served, and timed through ONNX
Runtime: none of these depends on what the weights are. Figures are kept, one small file each, under
`<home>/latency/`, by everything they depend on.

Times on a busy machine: rounds of about `ROUND_S` seconds are timed, until the two of the lowest medians
agree within `STABLE` or there are `MOST_ROUNDS`. The figures are those of the round with the lowest median:
other processes can only add time.

Legend: B batch, T tokens.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tutelage.config.architecture import Architecture
from tutelage.config.runtime import ExportConfig
from tutelage.config.task import Task, TaskName
from tutelage.errors import ModelError
from tutelage.export.latency import Latency, measure
from tutelage.export.onnx import export_model
from tutelage.export.processor import signed_products
from tutelage.export.quantise import RECIPES, apply_recipe
from tutelage.export.session import Classifier, OnnxClassifier
from tutelage.export.spec import Variant
from tutelage.files import atomic_write, digest_text
from tutelage.models.architecture import base_config, build, student_config
from tutelage.models.positions import usable_tokens
from tutelage.semantics import LATENCY

ROUND_S = 0.2
LEAST_RUNS, MOST_RUNS = 5, 200
LEAST_ROUNDS, MOST_ROUNDS = 3, 10
STABLE = 0.03
_NO_SHAPE = ("_name_or_path", "transformers_version", "id2label", "label2id", "architectures", "dtype")


@dataclass(frozen=True)
class Cost:
    """What one shape costs on one machine."""

    weights: int
    size_mb: float
    """Of the ONNX file of the variant, in 10^6 bytes."""
    latency_ms: float
    """Median time of one call of B texts of T tokens."""
    p95_ms: float


def measure_cost(
    home: Path,
    task: Task,
    base: str | Path,
    *,
    architecture: Architecture | None = None,
    layers: list[int] | None = None,
    variant: Variant = "int8",
    batch: int = 1,
    tokens: int = 32,
    threads: int = 1,
    again: bool = False,
) -> Cost:
    """The cost of a student of this shape, from `<home>/latency/` where it was measured before.

    Args:
        home: folder of all state.
        task: a classification; decides the head.
        base: model folder of the student, whose config.json alone is read.
        architecture: the shape; null measures the base itself.
        layers: of the base that are kept; all when null.
        variant: the file that is served.
        batch: B.
        tokens: T.
        threads: intra-op threads of ONNX Runtime.
        again: measure also what is known, and keep the lower latency: the first time something else may have
            run on the same cores.

    Raises:
        ModelError: a shape that cannot be built, a task that is not exported, more tokens than positions.
    """
    if task.type not in ("sequence-classification", "token-classification"):
        raise ModelError(
            f"latency of a {task.type} student: only classifiers are exported", fix="leave it out"
        )
    config = _config(task, base, architecture, layers, tokens)
    key = _key(config, task, variant, batch, tokens, threads)
    path = home / "latency" / f"{digest_text(json.dumps(key, sort_keys=True))}.json"
    known = _read(path)
    if known is not None and not again:
        return known
    found = _measure(config, task.type, variant, batch, tokens, threads)
    if known is not None and known.latency_ms <= found.latency_ms:
        return known
    with atomic_write(path) as file:
        json.dump({"of": key, "cost": asdict(found)}, file, indent=1)
    return found


def estimated_flop(
    task: Task,
    base: str | Path,
    *,
    architecture: Architecture | None = None,
    layers: list[int] | None = None,
    batch: int = 1,
    tokens: int = 32,
) -> int:
    """Floating point operations of one forward pass, measuring nothing; multiply and add are two.

    Counted over the matrix products of the traced model, attention's among them: 2 x weights x tokens for
    each matrix as often as it is applied, so ALBERT's shared layer counts once for each layer, and tables not
    at all.
    Raises ModelError as `measure_cost`.
    """
    config = _config(task, base, architecture, layers, tokens)
    try:
        return _counted(config, task.type, batch, tokens, "meta")
    except RuntimeError:  # a forward pass that looks at values, which tensors without data have not
        return _counted(config, task.type, batch, tokens, "cpu")


def steady(session: Classifier, batch: int, tokens: int, vocab: int) -> Latency:
    """The latency of the round with the lowest median; the module says how many rounds there are."""
    ids_BT = np.zeros((batch, tokens), np.int64)
    session.logits(ids_BT, np.ones_like(ids_BT))
    start = time.perf_counter()
    session.logits(ids_BT, np.ones_like(ids_BT))
    once = max(time.perf_counter() - start, 1e-6)
    runs = int(min(MOST_RUNS, max(LEAST_RUNS, ROUND_S / once)))
    rounds: list[Latency] = []
    while len(rounds) < MOST_ROUNDS:
        rounds.append(measure(session, batch, tokens, vocab, runs))
        rounds.sort(key=lambda one: one.p50_ms)
        if len(rounds) >= LEAST_ROUNDS and rounds[1].p50_ms <= rounds[0].p50_ms * (1 + STABLE):
            break
    return rounds[0]


def _config(
    task: Task, base: str | Path, architecture: Architecture | None, layers: list[int] | None, tokens: int
) -> Any:
    """The config of the student. Raises ModelError where it has fewer positions than there are tokens."""
    if architecture is None:
        config = base_config(base, task, layers)
    else:
        config = student_config(architecture, base, task)
    positions = usable_tokens(config)
    if positions is not None and tokens > positions:
        raise ModelError(
            f"latency at {tokens} tokens: the student has {positions} positions",
            fix=f"{positions} tokens or less",
        )
    return config


def _counted(config: Any, task: TaskName, batch: int, tokens: int, device: str) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
        model = build(config, task, attention="eager").eval()
        ids_BT = torch.zeros(batch, tokens, dtype=torch.long)
        # Without a mask every token counts; looking at one is what tensors without data cannot do.
        mask_BT = None if device == "meta" else torch.ones_like(ids_BT)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=ids_BT, attention_mask=mask_BT)
    return int(counter.get_total_flops())


def _measure(config: Any, task: TaskName, variant: Variant, batch: int, tokens: int, threads: int) -> Cost:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(config, task).eval()
    with tempfile.TemporaryDirectory(prefix="tutelage-cost-") as scratch:
        file = Path(scratch) / "fp32.onnx"
        export_model(model, file, ExportConfig())
        if variant == "int8":
            fp32, file = file, Path(scratch) / "int8.onnx"
            apply_recipe(fp32, file, RECIPES[0])
        size = sum(path.stat().st_size for path in Path(scratch).glob(f"{file.name}*"))
        found = steady(OnnxClassifier(file, threads=threads), batch, tokens, int(config.vocab_size))
    weights = sum(parameter.numel() for parameter in model.parameters())
    return Cost(weights, size / 1e6, found.p50_ms, found.p95_ms)


def _key(config: Any, task: Task, variant: Variant, batch: int, tokens: int, threads: int) -> dict[str, Any]:
    """Everything that the figures depend on."""
    shape = {name: value for name, value in config.to_dict().items() if name not in _NO_SHAPE}
    return {
        "task": task.type,
        "labels": len(task.labels),
        "shape": json.loads(json.dumps(shape, default=str)),
        "variant": variant,
        "batch": batch,
        "tokens": tokens,
        "threads": threads,
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, signed products {signed_products()}",
        "semantics": LATENCY,
        **{name: version(name) for name in ("onnxruntime", "torch", "transformers", "onnx")},
    }


def cpu_name(info: Path = Path("/proc/cpuinfo")) -> str:
    """The processor as Linux calls it; its instruction set where it does not say."""
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.machine()


def _read(path: Path) -> Cost | None:
    """A kept figure; None where there is none, or the file is damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["cost"]
        cost = Cost(**{field.name: kept[field.name] for field in fields(Cost)})
        valid = all(isinstance(value, int | float) and value > 0 for value in asdict(cost).values())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cost if valid else None

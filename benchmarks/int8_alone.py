"""Dynamic int8: what a text's neighbours do to its scores, and what it costs to answer every text alone.

    python -m benchmarks.int8_alone MODEL TEXTS

MODEL is the folder of a trained student (`runs/*-distill-*/model` of a home), TEXTS a file with a text a
line. Batches of 16 texts in the order of the file, one thread. `one call` gives a whole padded batch to ONNX
Runtime; `one by one` is what `OnnxClassifier` does with a graph that has dynamic int8. Rounds of all ways in
turn, the median counts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.cli.surroundings import machine
from tutelage.config.runtime import ExportConfig
from tutelage.export.onnx import export_model
from tutelage.export.processor import this_processor
from tutelage.export.quantise import RECIPES, apply_recipe
from tutelage.export.session import OnnxClassifier
from tutelage.models.load import load_classifier

BATCH, TEXTS, MAX_TOKENS, ROUNDS = 16, 480, 64, 5

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]


class OneCall(OnnxClassifier):
    """The whole batch at once, whatever the graph is."""

    def logits(self, input_ids_BT: NDArray[Any], attention_mask_BT: NDArray[Any]) -> NDArray[np.float32]:
        """float32[B, C]."""
        return self._run(input_ids_BT, attention_mask_BT)


def batches(model: Path, texts: list[str]) -> list[Batch]:
    """Token ids and masks, padded to the longest text of each batch."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    found = []
    for start in range(0, len(texts), BATCH):
        rows = [one.ids for one in tokenizer.encode_batch(texts[start : start + BATCH])]
        ids_BT = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask_BT = np.zeros_like(ids_BT)
        for b, row in enumerate(rows):
            ids_BT[b, : len(row)], mask_BT[b, : len(row)] = row, 1
        found.append((ids_BT, mask_BT))
    return found


def scores(session: OnnxClassifier, work: list[Batch]) -> NDArray[np.float64]:
    """float64[N, C]."""
    logits_NC = np.concatenate([session.logits(*one) for one in work]).astype(np.float64)
    exponents_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exponents_NC / exponents_NC.sum(axis=1, keepdims=True)
    return result


def alone(work: list[Batch]) -> list[Batch]:
    """Each text as a batch of its own, without padding."""
    return [
        (ids_BT[b : b + 1, : mask_BT[b].sum()], mask_BT[b : b + 1, : mask_BT[b].sum()])
        for ids_BT, mask_BT in work
        for b in range(len(ids_BT))
    ]


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main() -> None:
    """Print a table."""
    model, file = (Path(one) for one in sys.argv[1:3])
    texts = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()][:TEXTS]
    work = batches(model, texts)
    with tempfile.TemporaryDirectory() as folder:
        fp32, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        export_model(load_classifier(model), fp32, ExportConfig())
        apply_recipe(fp32, int8, RECIPES[0])
        ways = {
            "fp32, one call": OneCall(fp32),
            "int8, one call": OneCall(int8),
            "int8, one by one": OnnxClassifier(int8),
            "int8 signed, one by one": OnnxClassifier(int8, form="signed"),
            "int8 unsigned, one by one": OnnxClassifier(int8, form="unsigned"),
        }
        exact_NC = scores(ways["fp32, one call"], work)
        spent: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, session in ways.items():
                spent[name].append(seconds(lambda session=session: scores(session, work)))  # type: ignore[misc]
        print(f"{machine()}; {this_processor()}")
        print(f"{len(texts)} texts, {np.mean([len(one[0][0]) for one in alone(work)]):.1f} tokens on average")
        print(f"{'':28}texts/s   from fp32: mean  max    alone against batch: mean  max   labels flipped")
        for name, session in ways.items():
            found_NC, single_NC = scores(session, work), scores(session, alone(work))
            far_N = np.abs(found_NC - exact_NC).max(axis=1)
            apart_N = np.abs(found_NC - single_NC).max(axis=1)
            flipped = int((found_NC.argmax(1) != single_NC.argmax(1)).sum())
            rate = len(texts) / median(spent[name])
            print(
                f"{name:28}{rate:7.0f}           {far_N.mean():.4f} {far_N.max():.4f}"
                f"             {apart_N.mean():.4f} {apart_N.max():.4f}   {flipped}"
            )


if __name__ == "__main__":
    main()

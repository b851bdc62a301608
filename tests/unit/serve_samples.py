"""A version folder whose answers can be computed by hand: one word, one number.

The tokenizer knows five words; the ONNX graph sums each word's vector over the tokens that the mask
keeps. So logits("good good bad") = 2 * good + bad, whatever padding stands beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tutelage.export.probe_texts import record_probes
from tutelage.export.spec import ModelSpec

WORDS = ["[PAD]", "[UNK]", "good", "bad", "film"]
VECTORS_VC = np.array([[90.0, -90.0], [0.0, 0.0], [-1.0, 1.0], [1.0, -1.0], [0.25, 0.0]], dtype=np.float32)
LABELS = ["negative", "positive"]
ROWS = [
    "good film",
    "Bad bad film",
    "a film",
    "good good good bad",
    "film film film film film film film good bad",
]


def version_folder(folder: Path, *, max_tokens: int = 8, labels: list[str] | None = None) -> Path:
    """Write tutelage.json, tokenizer.json, config.json, model.onnx and model.int8.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    word_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"pad_token_id": 0}')
    for name in ("model.onnx", "model.int8.onnx"):
        write_onnx(folder / name)
    ModelSpec(
        labels=labels or LABELS,
        max_tokens=max_tokens,
        opset=20,
        files={"fp32": "model.onnx", "int8": "model.int8.onnx"},
    ).write(folder)
    return folder


def probed_folder(folder: Path, **more: Any) -> Path:
    """The same with probes.json, as an export writes it."""
    version_folder(folder, **more)
    record_probes(folder, ModelSpec.read(folder), ROWS, read_ids(ROWS))
    return folder


def read_ids(texts: list[str]) -> list[list[int]]:
    """As the training read them, at most 8 tokens each."""
    return [word_tokenizer().encode(text).ids[:8] for text in texts]


def word_tokenizer(words: list[str] = WORDS, *, lower: bool = True) -> Any:
    """Whole words, lower case unless `lower` is False."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer: Any = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    if lower:
        tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def write_onnx(path: Path, vectors_VC: np.ndarray = VECTORS_VC) -> None:
    """logits[B, 2] = the sum over T of vectors_VC[input_ids] * attention_mask."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    tokens = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["B", "T"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2])
    nodes = [
        helper.make_node("Gather", ["vectors", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["kept", "last"], ["kept_BT1"]),
        helper.make_node("Mul", ["words", "kept_BT1"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "over_T"], ["logits"], keepdims=0),
    ]
    constants = [
        numpy_helper.from_array(vectors_VC.astype(np.float32), "vectors"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "over_T"),
    ]
    graph = helper.make_graph(nodes, "words", [tokens, mask], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(path))

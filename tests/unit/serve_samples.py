"""A version folder whose answers can be computed by hand: one word, one number.

The tokenizer knows five words; the ONNX graph sums each word's vector over the tokens that the mask
keeps. So logits("good good bad") = 2 * good + bad, whatever padding stands beside it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tutelage.export.spec import ModelSpec

WORDS = ["[PAD]", "[UNK]", "good", "bad", "film"]
VECTORS_VC = np.array([[90.0, -90.0], [0.0, 0.0], [-1.0, 1.0], [1.0, -1.0], [0.25, 0.0]], dtype=np.float32)
LABELS = ["negative", "positive"]


def version_folder(folder: Path, *, max_tokens: int = 8, labels: list[str] | None = None) -> Path:
    """Write tutelage.json, tokenizer.json, config.json, model.onnx and model.int8.onnx."""
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"pad_token_id": 0}')
    for name in ("model.onnx", "model.int8.onnx"):
        _write_onnx(folder / name)
    ModelSpec(
        labels=labels or LABELS,
        max_tokens=max_tokens,
        opset=20,
        files={"fp32": "model.onnx", "int8": "model.int8.onnx"},
    ).write(folder)
    return folder


def _tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace

    tokenizer = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def _write_onnx(path: Path) -> None:
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
        numpy_helper.from_array(VECTORS_VC, "vectors"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "over_T"),
    ]
    graph = helper.make_graph(nodes, "words", [tokens, mask], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(path))

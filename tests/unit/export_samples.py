"""A classifier small enough to write by hand, and tiny encoders of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

VOCAB, WIDTH, CLASSES = 50, 8, 2


def by_hand(path: Path, *, output: str = "logits", width: int = WIDTH) -> Path:
    """logits = (mean of table[ids] over the tokens that there are) @ wide @ narrow, as an ONNX file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    table_VH = rng.normal(size=(VOCAB, width)).astype(np.float32)
    table_VH[3] *= 100
    weights = {
        "table": table_VH,
        "wide": rng.normal(size=(width, 4 * width)).astype(np.float32),
        "narrow": rng.normal(size=(4 * width, CLASSES)).astype(np.float32),
        "one": np.array([1], np.int64),
        "least": np.array(1, np.float32),
        "two": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], "embed"),
        helper.make_node("Cast", ["attention_mask"], ["mask"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "two"], ["mask3"], "unsqueeze"),
        helper.make_node("Mul", ["rows", "mask3"], ["kept"], "keep"),
        helper.make_node("ReduceSum", ["kept", "one"], ["sum"], "sum", keepdims=0),
        helper.make_node("ReduceSum", ["mask", "one"], ["tokens"], "count", keepdims=1),
        helper.make_node("Max", ["tokens", "least"], ["some"], "some"),
        helper.make_node("Div", ["sum", "some"], ["mean"], "mean"),
        helper.make_node("MatMul", ["mean", "wide"], ["hidden"], "widen"),
        helper.make_node("MatMul", ["hidden", "narrow"], [output], "head"),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    logits = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", CLASSES])]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "by-hand", ids, logits, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def tiny_encoder(folder: Path, architecture: str) -> Any:
    """A random classifier of two layers with three classes, saved to `folder` with a word list beside it."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes: dict[str, dict[str, Any]] = {
        "bert": {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        },
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture, vocab_size=VOCAB, num_labels=3, max_position_embeddings=64, **sizes[architecture]
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for (
            weight
        ) in model.parameters():  # larger than the initialisation, so that logits differ between texts
            weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(f"w{i}" for i in range(VOCAB)))
    return model


def texts(seed: int, *shapes: tuple[int, int]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Random token ids and masks, every second text padded by a third."""
    rng = np.random.default_rng(seed)
    found = []
    for batch, tokens in shapes:
        ids_BT = rng.integers(1, VOCAB, (batch, tokens), dtype=np.int64)
        mask_BT = np.ones_like(ids_BT)
        mask_BT[1::2, tokens - tokens // 3 :] = 0
        found.append((ids_BT * mask_BT, mask_BT))
    return found

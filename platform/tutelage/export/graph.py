"""What quantisation needs to know and change of an ONNX graph.

Legend: V rows of a table, H its width, K inputs and M outputs of a matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def narrowing_matrices(model: Any) -> list[str]:
    """Names of the nodes that multiply with a constant matrix of more inputs than outputs (K > M).

    In an encoder these are the second matrix of every feed-forward block and the classifier. Their inputs
    come from an activation function and have outliers that one 8-bit scale cannot hold.
    """
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type not in ("MatMul", "Gemm") or len(shapes.get(node.input[1], ())) != 2:
            continue
        inputs, outputs = shapes[node.input[1]]
        if any(one.name == "transB" and one.i for one in node.attribute):
            inputs, outputs = outputs, inputs
        if inputs > outputs:
            names.append(str(node.name))
    return names


def fold_transposes(model: Any) -> None:
    """Store every constant matrix that the graph transposes as it is multiplied, in place.

    torch's exporter does so for a small matrix, and for one of one use. A large one that several layers share
    it leaves to the runtime; the quantizer of onnxruntime then takes it for no constant and passes it by.
    """
    from onnx import numpy_helper

    graph = model.graph
    constants = {one.name: one for one in graph.initializer}
    folded: set[str] = set()
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in constants]:
        order = next((list(one.ints) for one in node.attribute if one.name == "perm"), None)
        turned = np.ascontiguousarray(np.transpose(numpy_helper.to_array(constants[node.input[0]]), order))
        graph.initializer.append(numpy_helper.from_array(turned, node.output[0]))
        folded.add(node.input[0])
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for name in folded - used:
        graph.initializer.remove(constants[name])


def quantise_tables(model: Any) -> None:
    """Store every table that a Gather reads as int8[V, H] with one float scale a row, in place.

    row = scale * int8 with scale = max |row| / 127. The quantizer of onnxruntime has one scale for the whole
    table, which the few rows of large values decide for all others.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    tables = {one.name: one for one in graph.initializer if one.data_type == TensorProto.FLOAT}
    done: set[str] = set()
    for index, node in reversed(list(enumerate(graph.node))):
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if (
            table is None
            or len(table.dims) != 2
            or any(one.name == "axis" and one.i for one in node.attribute)
        ):
            continue
        name = table.name
        if name not in done:
            whole_VH = numpy_helper.to_array(table)
            scale_V1 = np.maximum(np.abs(whole_VH).max(axis=1, keepdims=True), 1e-12) / 127.0
            rows_VH = np.rint(whole_VH / scale_V1).astype(np.int8)
            graph.initializer.append(numpy_helper.from_array(rows_VH, f"{name}.int8"))
            graph.initializer.append(numpy_helper.from_array(scale_V1.astype(np.float32), f"{name}.scale"))
            done.add(name)
        ids, out = node.input[1], node.output[0]
        parts = [
            helper.make_node("Gather", [f"{name}.int8", ids], [f"{out}.int8"], f"{out}.rows"),
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.float"], f"{out}.cast", to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{name}.scale", ids], [f"{out}.scale"], f"{out}.scales"),
            helper.make_node("Mul", [f"{out}.float", f"{out}.scale"], [out], f"{out}.mul"),
        ]
        graph.node.remove(node)
        for part in reversed(parts):
            graph.node.insert(index, part)
    used = {name for node in graph.node for name in node.input}
    for name in done - used:
        graph.initializer.remove(tables[name])

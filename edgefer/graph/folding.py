"""Nodes over constants alone become constants: some exporters leave an Unsqueeze of a slope, or a Transpose of weights.

Whoever reads the graph for a layer's weights then finds them where they belong.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgefer.errors import EdgeferError

_FOLDED = frozenset(
    (
        *("Unsqueeze", "Squeeze", "Reshape", "Flatten", "Transpose", "Concat", "Slice", "Split", "Gather", "Cast"),
        *("Expand", "Tile", "Shape", "Size", "ConstantOfShape", "Range", "Where", "Equal", "Not"),
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Reciprocal", "Min", "Max", "Floor", "Ceil", "Identity"),
    )
)
"""Of these every machine gives the same bits. (De)QuantizeLinear is not among them: INT8 weights stay INT8."""

_LARGEST = 1 << 26
"""Elements that folding may make in all, 256 MiB of floats: a Tile or Expand that makes more stays in the graph."""


def fold_constants(graph: onnx.GraphProto, opsets: list[onnx.OperatorSetIdProto]) -> list[onnx.NodeProto]:
    """Add what constant-only nodes of ``graph`` give to its initialisers; return the nodes that are left.

    Args:
        graph: nodes in the order in which they can run; Constant nodes are initialisers already.
        opsets: of the model.

    Raises:
        EdgeferError: a node cannot be computed; it is named.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    room = _LARGEST
    left: list[onnx.NodeProto] = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if (
            node.op_type not in _FOLDED
            or node.domain not in ("", "ai.onnx")
            or not inputs
            or not all(name in constants for name in inputs)
            or outputs & set(node.output)
        ):
            left.append(node)
            continue
        made = _computed(node, [constants[name] for name in dict.fromkeys(inputs)], opsets, room)
        if made is None:
            left.append(node)
            continue
        for tensor in made:
            room -= _elements(tensor)
            constants[tensor.name] = tensor
            graph.initializer.append(tensor)
    return left


def _computed(
    node: onnx.NodeProto, constants: list[onnx.TensorProto], opsets: list[onnx.OperatorSetIdProto], room: int
) -> list[onnx.TensorProto] | None:
    """What ``node`` gives, or None if that is too much."""
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.output if name]
    if node.op_type in ("Expand", "Tile", "ConstantOfShape", "Range") and _grown(node, constants) > room:
        return None
    graph = helper.make_graph([node], "constants", [], [onnx.ValueInfoProto(name=name) for name in names], constants)
    model = helper.make_model(graph, opset_imports=opsets)
    try:
        values = ReferenceEvaluator(model).run(None, {})
    except Exception as cause:  # its errors share no base class but Exception
        raise EdgeferError(
            f"{node.op_type} '{node.name}' over constants cannot be computed: {(str(cause).splitlines() or [''])[0]}",
            hint="the file is damaged, or its exporter wrote a node that ONNX does not allow",
        ) from cause
    return [_named(value, name) for value, name in zip(values, names, strict=True)]


def _grown(node: onnx.NodeProto, constants: list[onnx.TensorProto]) -> int:
    """At most so many elements come of a node that makes large things of small ones."""
    of_name = {tensor.name: numpy_helper.to_array(tensor) for tensor in constants}
    if node.op_type == "Range":
        start, limit, step = (float(of_name[name]) for name in node.input)
        return int(abs((limit - start) / step)) + 1 if step else _LARGEST + 1
    total = 1 if node.op_type == "ConstantOfShape" else max(1, of_name[node.input[0]].size)
    for factor in of_name[node.input[-1]].ravel().tolist():
        total *= max(1, int(factor))
    return total


def _named(value: object, name: str) -> onnx.TensorProto:
    tensor: onnx.TensorProto = numpy_helper.from_array(np.asarray(value), name)
    return tensor


def _elements(tensor: onnx.TensorProto) -> int:
    total = 1
    for size in tensor.dims:
        total *= size
    return total

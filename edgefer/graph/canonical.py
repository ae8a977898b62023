"""Canonical form of a graph: one order, one spelling of constants, one name for everything.

Calibration tables are keyed by tensor names, and a file's hash is its identity. So names must not hang on which
exporter or simplifier ran, nor on how it numbers things. Here they are made from the graph alone: nodes are put in the
order in which a walk from the output needs them (inputs first, in their order), and tensors are called by the operator
that makes them and its number: the fourth convolution writes ``Conv_3_out`` and has the constants ``Conv_3_weight``,
``Conv_3_bias``, …. A node keeps its own name, which says where it stands in the network that it was exported from, and
nothing is keyed by it; one without a name, or with another's, is called ``Conv_3`` like its tensors.

Nodes over constants alone become constants (some exporters leave an Unsqueeze of a slope, or a Transpose of weights),
so that whoever reads the graph for a layer's weights finds them where they belong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

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
"""Operators whose results have the same bits on every machine, without (De)QuantizeLinear: INT8 weights stay INT8."""

_LARGEST = 1 << 26
"""Elements that folding may make in all, 256 MiB of floats: a Tile or Expand that makes more stays in the graph."""


def fold_constants(graph: onnx.GraphProto, opsets: list[onnx.OperatorSetIdProto]) -> list[onnx.NodeProto]:
    """Add what constant-only nodes of ``graph`` give to its initialisers; return the nodes that are left.

    Args:
        graph: nodes in the order in which they can run; Constant nodes are initialisers already.
        opsets: the model's opset imports.

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
    """Maximum number of elements in the output of a node that makes large constants of small ones."""
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


_CONSTANT_NAMES: Mapping[str, tuple[str, ...]] = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("", "weight"),
    "BatchNormalization": ("", "scale", "bias", "mean", "variance"),
    "PRelu": ("", "slope"),
    "Reshape": ("", "shape"),
    "Clip": ("", "min", "max"),
}


def canonicalise(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` in canonical form; it computes the same.

    Constant nodes and nodes over constants become initialisers, Identity nodes and whatever no output needs go,
    intermediate shape notes are dropped. Nodes, inputs and outputs keep their names. Applying it twice changes nothing.

    Raises:
        EdgeferError: the graph has control flow, functions or a cycle.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    _check_flat(result)
    _constants_to_initialisers(graph)
    _drop_identities(graph)
    _replace_nodes(graph, _in_order(graph))
    _replace_nodes(graph, fold_constants(graph, list(result.opset_import)))
    _rename(graph)
    del graph.value_info[:]
    graph.name = "network"
    graph.doc_string = ""
    result.doc_string = ""
    return result


def _check_flat(model: onnx.ModelProto) -> None:
    if model.functions:
        raise EdgeferError(
            f"the graph has local functions ({model.functions[0].name}, …), which not every runtime takes",
            hint="inline them: onnx.inliner.inline_local_functions(model)",
        )
    for node in model.graph.node:
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            raise EdgeferError(
                f"the graph has control flow ({node.op_type} '{node.name}'), which INT8 engines cannot take",
                hint="write the network without data-dependent branches or loops",
            )


def _constants_to_initialisers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        if node.op_type != "Constant":
            kept.append(node)
            continue
        value = helper.get_attribute_value(node.attribute[0])
        if node.attribute[0].name == "value":
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value)
        else:
            tensor = _from_plain(node.attribute[0].name, value)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    _replace_nodes(graph, kept)


def _from_plain(kind: str, value: Any) -> onnx.TensorProto:
    """``value_float``, ``value_ints`` and their kin of the Constant operator."""
    types = {"value_float": onnx.TensorProto.FLOAT, "value_int": onnx.TensorProto.INT64}
    singular = kind.removesuffix("s")
    if singular not in types:
        raise EdgeferError(f"the graph has a constant of the kind '{kind}', which networks of numbers do not need")
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return helper.make_tensor("", types[singular], [len(values)] if kind.endswith("s") else [], values)


def _drop_identities(graph: onnx.GraphProto) -> None:
    """Let readers of an Identity read its input; one that makes a graph output stays if there is nothing to rename."""
    outputs = {value.name for value in graph.output}
    made = {name for node in graph.node for name in node.output}
    source: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type != "Identity":
            kept.append(node)
        elif node.output[0] not in outputs:
            source[node.output[0]] = node.input[0]
        elif node.input[0] in made and node.input[0] not in outputs:
            source[node.input[0]] = node.output[0]
        else:
            kept.append(node)
    for node in kept:
        for names in (node.input, node.output):
            names[:] = [_resolve(name, source) for name in names]
    _replace_nodes(graph, kept)


def _resolve(name: str, source: Mapping[str, str]) -> str:
    while name in source:
        name = source[name]
    return name


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = onnx.GraphProto()
    copies.node.extend(nodes)  # before the originals, which may be these very objects, are deleted
    del graph.node[:]
    graph.node.extend(copies.node)


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Depth first from the outputs, inputs in their order: independent of how the file lists its nodes."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    state: dict[int, str] = {}
    order: list[int] = []
    stack = [(maker[value.name], False) for value in reversed(graph.output) if value.name in maker]
    while stack:
        index, ready = stack.pop()
        if ready:
            state[index] = "done"
            order.append(index)
        elif state.get(index) == "open":
            raise EdgeferError(f"the graph has a cycle through '{graph.node[index].name}'")
        elif index not in state:
            state[index] = "open"
            stack.append((index, True))
            needed = [maker[name] for name in graph.node[index].input if name in maker]
            stack.extend((other, False) for other in reversed(needed) if state.get(other) != "done")
    return [graph.node[index] for index in order]


def _rename(graph: onnx.GraphProto) -> None:
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]  # before IR 4 constants were inputs too
    new = {value.name: value.name for value in (*inputs, *graph.output)}
    counts: Counter[str] = Counter()
    kept: list[onnx.TensorProto] = []
    _name_nodes(graph)
    for node in graph.node:
        stem = f"{node.op_type}_{counts[node.op_type]}"
        node.doc_string = ""
        counts[node.op_type] += 1
        roles = _CONSTANT_NAMES.get(node.op_type, ())
        for position, name in enumerate(node.input):
            if name in constants and name not in new:
                role = roles[position] if position < len(roles) and roles[position] else f"constant{position}"
                new[name] = f"{stem}_{role}"
                tensor = onnx.TensorProto()
                tensor.CopyFrom(constants[name])
                tensor.name = new[name]
                tensor.doc_string = ""
                kept.append(tensor)
            if name:
                node.input[position] = new[name]
        for position, name in enumerate(node.output):
            if name:
                new.setdefault(name, f"{stem}_out" if position == 0 else f"{stem}_out{position}")
                node.output[position] = new[name]
    del graph.initializer[:], graph.input[:]
    graph.initializer.extend(kept)
    graph.input.extend(inputs)


def _name_nodes(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own: the one that it has, else operator and number."""
    taken: set[str] = set()
    for node in graph.node:
        if node.name in taken:
            node.name = ""
        taken.add(node.name)
    counts: Counter[str] = Counter()
    for node in graph.node:
        number = counts[node.op_type]
        counts[node.op_type] += 1
        while not node.name:
            name = f"{node.op_type}_{number}"
            node.name = "" if name in taken else name
            number += 1
        taken.add(node.name)

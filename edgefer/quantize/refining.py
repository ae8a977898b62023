"""Better weights and biases for the same integers: a float network in, one whose weights lie on INT8 levels out.

The result is float ONNX like the input, so plan, ranges and :func:`~edgefer.quantize.qdq.quantise` stay what they are:
rounding a weight that lies on a level gives that level.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefer.quantize.flavour import Flavour
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.moments import Columns, Moments
from edgefer.quantize.observation import Faces, Runner
from edgefer.quantize.plan import Plan
from edgefer.quantize.qdq import quantise
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.rounding import rounded_levels
from edgefer.quantize.rules import WEIGHTED
from edgefer.quantize.weights import channel_axis, weight_scales

ROUNDING, BIAS = "rounding", "bias"
STEPS = (ROUNDING, BIAS)

MOST_INPUTS = 4608
"""A layer whose outputs are made of more inputs keeps its nearest levels: its K×K moments would not fit the memory."""

STAGES = 32
"""Layers are refined in order, in at most so many groups; a group sees the layers before it as refined.

Within a group each layer makes up for the faults of the others, which they make up for too: eight groups for the 23
layers of mini_xception undid what rounding gains."""

Open = Callable[[bytes], Runner]


@dataclass(frozen=True)
class Refined:
    """The model to quantise, and in how many layers each step changed something."""

    model: onnx.ModelProto
    changes: dict[str, int]


def refine(
    model: onnx.ModelProto,
    plan: Plan,
    flavour: Flavour,
    ranges: Ranges,
    method: str,
    faces: Sequence[Faces],
    run: Open,
    *,
    steps: Collection[str] = STEPS,
    stages: int = STAGES,
    advance: Callable[[int], object] | None = None,
) -> Refined:
    """Move the INT8 layers' weights to the levels, and their biases to the values, with which they answer best.

    Args:
        model: float, as the plan and the ranges were made of.
        plan: says which layers are INT8.
        flavour: of the plan.
        ranges: of the activations.
        method: as in :func:`~edgefer.quantize.qdq.quantise`.
        faces: uint8 N×H×W×C batches, read twice a stage.
        run: opens a serialised model and returns the function that runs it.
        steps: of ``"rounding"`` (see :mod:`~edgefer.quantize.rounding`) and ``"bias"``: the float layer's mean answer
            a channel, after Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2, with measured means.
        stages: see :data:`STAGES`.
        advance: called with 1 after every layer.
    """
    current = onnx.ModelProto()
    current.CopyFrom(model)
    layers = _layers(current, plan)
    changes = dict.fromkeys((step for step in STEPS if step in steps), 0)

    def integer() -> onnx.ModelProto:
        return quantise(current, plan, flavour, ranges, method=method, same_model=False).model

    if not layers:
        return Refined(current, changes)
    for group in np.array_split(np.array(layers, dtype=object), min(stages, len(layers))):
        if ROUNDING in changes:
            changes[ROUNDING] += _round(
                model, current, integer(), [n for n in group if _own(current, n)], flavour, faces, run
            )
        if BIAS in changes:
            changes[BIAS] += _correct(model, current, integer(), list(group), faces, run)
        if advance is not None:
            advance(len(group))
    return Refined(current, changes)


def _layers(model: onnx.ModelProto, plan: Plan) -> list[str]:
    """The INT8 layers with weights that have, or can have, a bias of one dimension; in graph order."""
    view = GraphView(model)
    asked = {p.layer for p in plan.layers if p.asked == "int8"}
    found = []
    for node in view.nodes:
        if node.op_type in WEIGHTED - {"MatMul"} and layer_name(node) in asked:
            bias = view.constant_shape(node.input[2]) if len(node.input) > 2 and node.input[2] else (1,)
            if bias is not None and len(bias) == 1:
                found.append(layer_name(node))
    return found


def _own(model: onnx.ModelProto, layer: str) -> bool:
    """Whether the layer's weights can be rounded: nobody else's, of a kind that can be cut, and not too many."""
    view = GraphView(model)
    node = _node(model, layer)
    shape = view.constant_shape(node.input[1]) or ()
    if len(view.consumers[node.input[1]]) > 1 or not Columns.supported(node, shape):
        return False
    return Columns(node, shape).inputs <= MOST_INPUTS


def _round(
    model: onnx.ModelProto,
    current: onnx.ModelProto,
    integer: onnx.ModelProto,
    group: Sequence[str],
    flavour: Flavour,
    faces: Sequence[Faces],
    run: Open,
) -> int:
    """Round the weights of ``group`` in ``current``, in place, to answer like ``model``; returns how many changed."""
    if not group:
        return 0
    reads = {name: (_node(model, name).input[0], _node(integer, name).input[0]) for name in group}
    view = GraphView(model)
    cuts = {name: Columns(_node(model, name), view.constant_shape(_node(model, name).input[1]) or ()) for name in group}
    moments = {name: Moments.empty(cut.groups, cut.inputs) for name, cut in cuts.items()}
    random = np.random.default_rng(0)
    for in_float, in_int8 in _runs(model, integer, list(reads.values()), faces, run):
        for name, (one, two) in reads.items():
            moments[name].add(*cuts[name].both(in_float[one], in_int8[two], random))
    return sum(_round_one(current, name, flavour, moments[name], _input_scale(integer, name)) for name in group)


def _round_one(model: onnx.ModelProto, layer: str, flavour: Flavour, moments: Moments, input_scale: float) -> bool:
    view, node = GraphView(model), _node(model, layer)
    stored = view.constant(node.input[1])
    assert stored is not None  # the plan looked
    axis, limit = channel_axis(node), flavour.weight_limit
    bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    rows = np.moveaxis(stored, axis, 0).astype(np.float64)
    groups, inputs = moments.int8_sum.shape
    weights = rows.reshape(groups, -1, inputs)
    scales = weight_scales(stored, axis, limit, bias, input_scale).astype(np.float64).reshape(groups, -1)
    levels = rounded_levels(weights, scales, moments, limit)
    nearest = np.clip(np.rint(weights / scales[:, :, None]), -limit, limit)
    moved = np.moveaxis((levels * scales[:, :, None]).reshape(rows.shape), 0, axis)
    _replace(model, node, 1, np.ascontiguousarray(moved, dtype=np.float32))
    return bool(np.any(levels != nearest))


def _correct(
    model: onnx.ModelProto,
    current: onnx.ModelProto,
    integer: onnx.ModelProto,
    group: Sequence[str],
    faces: Sequence[Faces],
    run: Open,
) -> int:
    """Add to biases of ``group`` in ``current``, in place, what their mean answers lack; returns how many changed."""
    written = {name: str(_node(model, name).output[0]) for name in group}
    sums: dict[str, NDArray[np.float64]] = {name: np.zeros(1) for name in group}
    places = dict.fromkeys(group, 0)
    for in_float, in_int8 in _runs(model, integer, [(tensor, tensor) for tensor in written.values()], faces, run):
        for name, tensor in written.items():
            lacking = in_float[tensor].astype(np.float64) - in_int8[tensor]
            axes = (0, *range(2, lacking.ndim))
            sums[name] = sums[name] + lacking.sum(axis=axes)
            places[name] += lacking.size // lacking.shape[1]
    view = GraphView(current)
    for name in group:
        node = _node(current, name)
        bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.float32(0)
        assert bias is not None  # _layers looked
        _replace(current, node, 2, (bias + sums[name] / places[name]).astype(np.float32))
    return sum(bool(np.any(total != 0)) for total in sums.values())


def _runs(
    model: onnx.ModelProto,
    integer: onnx.ModelProto,
    pairs: Sequence[tuple[str, str]],
    faces: Sequence[Faces],
    run: Open,
) -> Any:
    """Yield the tensors of both networks, a batch at a time."""
    runners = [
        run(only_outputs(which, {pair[side] for pair in pairs}).SerializeToString())
        for side, which in enumerate((model, integer))
    ]
    for batch in faces:
        yield tuple(runner(batch) for runner in runners)


def only_outputs(model: onnx.ModelProto, names: Collection[str]) -> onnx.ModelProto:
    """The part of ``model`` that makes the float tensors ``names``; a runtime would compute all that it is given."""
    needed, nodes = set(names), []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
    graph = helper.make_graph(
        nodes[::-1],
        model.graph.name,
        model.graph.input,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in sorted(names)],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _input_scale(integer: onnx.ModelProto, layer: str) -> float:
    view = GraphView(integer)
    scale = view.constant(view.producer[_node(integer, layer).input[0]].input[1])
    assert scale is not None  # quantise wrote it
    return float(scale)


def _node(model: onnx.ModelProto, layer: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if layer_name(node) == layer)
    return found


def _replace(model: onnx.ModelProto, node: onnx.NodeProto, position: int, value: NDArray[np.float32]) -> None:
    """Give ``node`` a constant of its own; the one it had goes where nobody else reads it.

    One constant is written and no other is touched: protobuf frees what a message held only with the message, so a list
    of weights written anew for every layer would all stay.
    """
    while len(node.input) <= position:
        node.input.append("")
    old, name = node.input[position], f"{node.output[0]}_refined{position}"
    node.input[position] = name
    written = [tensor.name for tensor in model.graph.initializer]
    if old in written and (old == name or not any(old in other.input for other in model.graph.node)):
        del model.graph.initializer[written.index(old)]
    model.graph.initializer.append(numpy_helper.from_array(value, name))

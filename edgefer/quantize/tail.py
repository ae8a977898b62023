"""Layers that carry INT8 on to where nothing reads it: rounding for nothing, at the end even of the logits."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import onnx

from edgefer.quantize import rules
from edgefer.quantize.flavour import Flavour
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.plan import Plan, make_plan

_CARRYING = rules.RANGE_KEEPING | rules.POOLING

_REASON = "no INT8 layer reads what it gives"


def plan_to_the_end(model: onnx.ModelProto, flavour: Flavour, *, keep_float: Collection[str] = ()) -> Plan:
    """:func:`~edgefer.quantize.plan.make_plan`, with :func:`idle_layers` left in float as well.

    Raises:
        EdgeferError: as that.
    """
    idle = idle_layers(model, flavour, keep_float)
    plan = make_plan(model, flavour, keep_float=(*keep_float, *idle))
    layers = (replace(layer, reason=_REASON) if layer.layer in idle else layer for layer in plan.layers)
    return replace(plan, layers=tuple(layers))


def idle_layers(model: onnx.ModelProto, flavour: Flavour, keep_float: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the layers that ``flavour`` would make INT8 and that are better left in float, in graph order.

    Pools, reshapes and concatenations that no INT8 layer reads; and where integer kernels write integers, a last
    convolution behind which no layer with weights comes. A network that ends in a convolution and a mean would
    otherwise have its logits rounded to 8 bits.
    """
    view = GraphView(model)
    int8 = {layer.layer for layer in make_plan(model, flavour, keep_float=keep_float).layers if layer.asked == "int8"}
    leading: set[str] = set()  # layers behind which one with weights comes
    idle = []
    for node in reversed(view.nodes):
        name = layer_name(node)
        readers = [reader for output in node.output for reader, _ in view.consumers.get(output, [])]
        if any(reader.op_type in rules.WEIGHTED or layer_name(reader) in leading for reader in readers):
            leading.add(name)
        if name in int8 and _idle(view, node, flavour, int8, last=name not in leading):
            int8.discard(name)
            idle.append(name)
    return tuple(reversed(idle))


def _idle(view: GraphView, node: onnx.NodeProto, flavour: Flavour, int8: Collection[str], *, last: bool) -> bool:
    writes_integers = flavour.placement == "all" and node.op_type in rules.WEIGHTED - rules.FLOAT_RESULT
    if not (node.op_type in _CARRYING or (last and writes_integers)):
        return False
    return not any(layer_name(reader) in int8 for reader, _ in view.consumers.get(view.result(node), []))

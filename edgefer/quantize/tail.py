"""Layers that carry INT8 on to where nothing reads it: rounding for nothing, at the end even of the logits."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from edgefer.quantize import rules
from edgefer.quantize.flavour import Flavour
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.plan import make_plan

_CARRYING = rules.RANGE_KEEPING | rules.POOLING


def idle_layers(model: onnx.ModelProto, flavour: Flavour, keep_float: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the pools, reshapes and concatenations that ``flavour`` would make INT8 and no INT8 layer reads.

    For compilers that fuse, where such a layer is better left to the float end of the layer before it: a network that
    ends in a mean would otherwise have its logits rounded to 8 bits. They are for ``keep_float`` of
    :func:`~edgefer.quantize.plan.make_plan`, beside those that are kept in float already.
    """
    view = GraphView(model)
    int8 = {layer.layer for layer in make_plan(model, flavour, keep_float=keep_float).layers if layer.asked == "int8"}
    idle = []
    for node in reversed(view.nodes):
        name = layer_name(node)
        if node.op_type not in _CARRYING or name not in int8:
            continue
        readers = view.consumers.get(view.result(node), [])
        if not any(layer_name(reader) in int8 for reader, _ in readers):
            int8.discard(name)
            idle.append(name)
    return tuple(reversed(idle))

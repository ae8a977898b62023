"""What a produced graph really holds, layer by layer."""

from __future__ import annotations

import onnx

from edgefer.manifest import LayerPrecision
from edgefer.quantize import rules
from edgefer.quantize.flavour import Flavour
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.plan import Plan


def precision_of(model: onnx.ModelProto, flavour: Flavour) -> dict[str, str]:
    """``"int8"`` or ``"fp32"`` for each node of a quantised graph, by layer name; read from the graph alone.

    INT8 is a layer whose values (and weights) come out of DequantizeLinear and, for the placement ``"all"``, go into
    QuantizeLinear only, unless its integer kernel writes float. In a residual sum of the placement ``"inputs"`` one
    value may stay unrounded.
    """
    view = GraphView(model)
    return {
        layer_name(node): "int8" if _is_int8(view, node, flavour) else "fp32"
        for node in view.nodes
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
    }


def layer_precisions(model: onnx.ModelProto, plan: Plan, flavour: Flavour) -> tuple[LayerPrecision, ...]:
    """The plan's layers with what ``model``, made from it, got."""
    got = precision_of(model, flavour)
    return tuple(LayerPrecision(p.layer, p.op, p.asked, got[p.layer]) for p in plan.layers)


def _is_int8(view: GraphView, node: onnx.NodeProto, flavour: Flavour) -> bool:
    main = view.fused_into(node)
    if main is not None:
        return _is_int8(view, main, flavour)
    if node.op_type not in rules.RULED:
        return False
    read = node.input[:2] if node.op_type in rules.WEIGHTED else node.input
    read = node.input[:1] if node.op_type in rules.RANGE_KEEPING - {"Concat"} else read
    rounded = [_made_by(view, name, "DequantizeLinear") for name in read]
    unrounded_branch = node.op_type in rules.JOINING and flavour.placement == "inputs"
    if not (any(rounded) if unrounded_branch else all(rounded)):
        return False
    if flavour.placement == "inputs" or node.op_type in rules.FLOAT_RESULT:
        return True
    result = view.result(node)
    readers = view.consumers.get(result, [])
    return result not in view.outputs and all(reader.op_type == "QuantizeLinear" for reader, _ in readers)


def _made_by(view: GraphView, tensor: str, op: str) -> bool:
    maker = view.producer.get(tensor)
    return maker is not None and maker.op_type == op

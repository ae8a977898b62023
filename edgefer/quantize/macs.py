"""Multiply-accumulates of layers with weights, from the graph alone."""

from __future__ import annotations

import math

import onnx

from edgefer.quantize.graphview import GraphView, layer_name, of_one_face
from edgefer.quantize.rules import WEIGHTED
from edgefer.quantize.weights import channel_axis


def macs_by_layer(model: onnx.ModelProto) -> dict[str, int]:
    """Of each Conv, Gemm and MatMul with constant weights, for one face: places of the output × its weights.

    An axis of the output whose size shape inference does not find counts once. A graph that asks about a face twice
    (mirror images) counts twice.
    """
    view = GraphView(model)
    inferred = onnx.shape_inference.infer_shapes(of_one_face(model)).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    found = {}
    for node in view.nodes:
        weights = view.constant_shape(node.input[1]) if node.op_type in WEIGHTED else None
        if weights is None:
            continue
        channels = weights[channel_axis(node)]
        sizes = [size for size in shapes.get(node.output[0], []) if size > 0]
        made = math.prod(sizes) if sizes else channels
        found[layer_name(node)] = made * math.prod(weights) // channels
    return found

"""What an ONNX file says of itself: tensors, layers and their types, weights."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto

from edgefer.engines.session import TensorSpec
from edgefer.graph.load import metadata_of
from edgefer.manifest import LayerPrecision
from edgefer.quantize.flavour import FLAVOURS, TENSORRT
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.precision import precision_of
from edgefer.quantize.qdq import QUANTISATION_KEY

_NAMES = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class OnnxFacts:
    """A graph in numbers.

    Attributes:
        inputs, outputs: its tensors.
        opset: of the standard operators.
        producer: what wrote it.
        nodes: how many, constants left out.
        parameters: values in its weights.
        weights: type → bytes.
        layers: each node's precision, Q/DQ left out; what the graph says, not what a runtime makes of it.
        external: whether weights lie in other files.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    producer: str
    nodes: int
    parameters: int
    weights: dict[str, int]
    layers: tuple[LayerPrecision, ...]
    external: bool

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without tensors and layers, which every inspection has."""
        return {
            "opset": self.opset,
            "producer": self.producer,
            "nodes": self.nodes,
            "parameters": self.parameters,
            "weights_bytes": self.weights,
            "external_weights": self.external,
        }


def onnx_facts(model: onnx.ModelProto) -> OnnxFacts:
    """Read them from a model."""
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    weights: Counter[str] = Counter()
    parameters = 0
    for tensor in graph.initializer:
        count = math.prod(tensor.dims)
        kind, width = _dtype(tensor.data_type)
        weights[kind] += len(tensor.raw_data) or count * width
        parameters += count
    return OnnxFacts(
        inputs=tuple(_spec(value) for value in graph.input if value.name not in constants),
        outputs=tuple(map(_spec, graph.output)),
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        nodes=len(GraphView(model).nodes),
        parameters=parameters,
        weights=dict(weights),
        layers=graph_layers(model),
        external=any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer),
    )


def graph_layers(model: onnx.ModelProto) -> tuple[LayerPrecision, ...]:
    """Each node's type: INT8 as its Q/DQ say, otherwise that of what it writes (``"other"`` for whole numbers)."""
    nodes = GraphView(model).nodes
    integer = {}
    if any(node.op_type in _QUANTISERS for node in nodes):
        how = json_object(metadata_of(model).get(QUANTISATION_KEY, "{}"))
        integer = precision_of(model, FLAVOURS.get(str(how.get("flavour")), TENSORRT))
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except (ValueError, onnx.shape_inference.InferenceError):  # over 2 GB, or contradictory: its own types are left
        inferred = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    rows = []
    for node in nodes:
        if node.op_type in _QUANTISERS:
            continue
        name = layer_name(node)
        kind = "int8" if integer.get(name) == "int8" else _NAMES.get(types.get(node.output[0], 0), "other")
        rows.append(LayerPrecision(name, node.op_type, kind, kind))
    return tuple(rows)


def json_object(text: str) -> dict[str, Any]:
    """The JSON object in ``text``; empty where it is none: whoever edited the file is not to stop a look at it."""
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.WhichOneof("value") == "dim_value" else None for d in tensor.shape.dim)
    return TensorSpec(value.name, _dtype(tensor.elem_type)[0], shape)


def _dtype(number: int) -> tuple[str, int]:
    """NumPy's name of an ONNX type, and bytes a value; ``"?"`` for what is none."""
    if number not in onnx.helper.get_all_tensor_dtypes():
        return "?", 0
    kind = onnx.helper.tensor_dtype_to_np_dtype(number)
    return kind.name, kind.itemsize

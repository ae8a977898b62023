"""A graph indexed: who makes and reads a tensor, which tensors are constants, which operators have integer kernels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgefer.errors import EdgeferError
from edgefer.manifest import WEIGHTED as WEIGHTED  # noqa: PLC0414 - its readers here are many

FLOAT_RESULT: Final = frozenset({"Gemm", "MatMul"})
"""Those whose integer kernel can write float32, so that logits need no rounding."""

RANGE_KEEPING: Final = frozenset(
    {"MaxPool", "Flatten", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Concat"}
)
"""Move or select values and compute none: they run in integer where both sides share one scale."""

JOINING: Final = frozenset({"Add"})
"""Take two activations; in integer where both are INT8 already."""

POOLING: Final = frozenset({"AveragePool", "GlobalAveragePool"})
"""Average an INT8 activation into one of another scale."""

FUSED_ACTIVATIONS: Final = frozenset({"Relu", "Clip"})
"""Done by the saturation of the layer before: no Q/DQ stands between."""

FUSES_ACTIVATION: Final = frozenset({"Conv", "Gemm", "MatMul", "Add"})
"""The layers that a Relu or Clip is fused into."""

POINTWISE: Final = frozenset({"LeakyRelu"}) | FUSED_ACTIVATIONS
"""Functions of one value that CPU engines have integer tables for; TensorRT fuses them in float instead."""

RULED: Final = WEIGHTED | RANGE_KEEPING | JOINING | POOLING | POINTWISE
"""Every operator that can become INT8."""


_SHAPE_LIKE = 64
"""Numbers in a constant that may be a shape, which inference reads."""


def layer_name(node: onnx.NodeProto) -> str:
    """A node's name in plans and messages: its own, or its first output where it has none."""
    return node.name or node.output[0]


def of_one_face(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for shape inference, with a batch of one in every input; of large constants it has the shapes only."""
    copy = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph = copy.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    constants = {tensor.name for tensor in model.graph.initializer}  # old files list them as inputs too
    for value in graph.input:
        if value.type.tensor_type.shape.dim and value.name not in constants:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for tensor in model.graph.initializer:
        small = math.prod(tensor.dims) <= _SHAPE_LIKE
        kept = tensor if small else onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        graph.initializer.append(kept)
    for output in model.graph.output:
        graph.output.add(name=output.name).type.tensor_type.elem_type = output.type.tensor_type.elem_type
    return copy


class GraphView:
    """An index over a model's top-level graph. It keeps no copy: use it while the model does not change."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self.outputs = frozenset(value.name for value in graph.output)
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.input):
                self.consumers.setdefault(name, []).append((node, position))
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._constants[node.output[0]] = node.attribute[0].t

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant (initialiser or ``Constant`` node), or None for anything else."""
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def constant_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a constant, without reading it; None for anything else."""
        return tuple(self._constants[name].dims) if name in self._constants else None

    def activations(self, node: onnx.NodeProto) -> Iterator[tuple[int, str]]:
        """``(position, name)`` of a node's inputs that are neither absent nor constant."""
        for position, name in enumerate(node.input):
            if name and name not in self._constants:
                yield position, name

    def fused_activation(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Relu or Clip that is the only reader of ``node``'s output, so that one kernel does both; or None."""
        readers = self.consumers.get(node.output[0], [])
        if node.op_type not in FUSES_ACTIVATION or len(readers) != 1 or node.output[0] in self.outputs:
            return None
        reader, position = readers[0]
        return reader if position == 0 and reader.op_type in FUSED_ACTIVATIONS else None

    def fused_into(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The layer whose kernel also does the activation ``node``; None where there is none."""
        maker = self.producer.get(node.input[0]) if node.op_type in FUSED_ACTIVATIONS else None
        return maker if maker is not None and self.fused_activation(maker) is node else None

    def result(self, node: onnx.NodeProto) -> str:
        """The tensor that ``node``'s kernel writes: its own output, or its fused activation's."""
        activation = self.fused_activation(node)
        return str(node.output[0] if activation is None else activation.output[0])

    def range_sources(self, tensor: str) -> tuple[str, ...]:
        """The tensors whose joint range ``tensor`` needs.

        Pools, reshapes and concatenations are walked back to where values are computed. What a max-pool alone reads
        needs the range of what the pool gives: clipping before a maximum is clipping the maximum.
        """
        pool = self._only_reader(tensor, "MaxPool")
        if pool is not None:
            return self.range_sources(pool.output[0])
        maker = self.producer.get(tensor)
        if maker is None or maker.op_type not in RANGE_KEEPING:
            return (tensor,)
        if maker.op_type == "MaxPool" and self._only_reader(maker.input[0], "MaxPool") is maker:
            return (tensor,)
        return self._moved(maker, self.range_sources)

    def computed_from(self, tensor: str) -> tuple[str, ...]:
        """The tensors that ``tensor``'s values were computed as, before they were moved or selected."""
        maker = self.producer.get(tensor)
        if maker is None or maker.op_type not in RANGE_KEEPING:
            return (tensor,)
        return self._moved(maker, self.computed_from)

    def _moved(self, maker: onnx.NodeProto, follow: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
        moved = self.activations(maker) if maker.op_type == "Concat" else [(0, maker.input[0])]
        return tuple(dict.fromkeys(found for _, name in moved for found in follow(name)))

    def _only_reader(self, tensor: str, op: str) -> onnx.NodeProto | None:
        """The node of kind ``op`` that alone reads ``tensor``, or None."""
        readers = self.consumers.get(tensor, [])
        if len(readers) != 1 or tensor in self.outputs or tensor not in self.producer:
            return None
        return readers[0][0] if readers[0][0].op_type == op else None


def joined(names: Iterable[str], links: Iterable[Iterable[str]]) -> list[tuple[str, ...]]:
    """``names`` in groups: those of one link, and what they are linked to, stand together; in the order of ``names``.

    What a link names besides is left out.
    """
    leader = {name: name for name in names}

    def root(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    for link in links:
        present = [root(name) for name in link if name in leader]
        for name in present[1:]:
            leader[root(name)] = root(present[0])
    groups: dict[str, list[str]] = {}
    for name in leader:
        groups.setdefault(root(name), []).append(name)
    return [tuple(group) for group in groups.values()]


def refuse_quantised(model: onnx.ModelProto, name: str = "the model") -> None:
    """Raise an EdgeferError where the model already carries QuantizeLinear or DequantizeLinear nodes."""
    found = next((n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")), None)
    if found is not None:
        raise EdgeferError(
            f"{name} is already quantised: it has {found.op_type} '{layer_name(found)}'",
            hint="start from the float model that it was made from",
        )


def fingerprint(model: onnx.ModelProto) -> str:
    """SHA-256 of the graph (nodes and weights, not metadata), 64 hexadecimal digits: what ranges belong to."""
    return hashlib.sha256(model.graph.SerializeToString(deterministic=True)).hexdigest()


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a Conv's, Gemm's or MatMul's weights that its output channels lie along."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
    return 0 if transposed else 1


_READS_SHAPES: Final = RANGE_KEEPING | {"Expand", "Pad", "ReduceMean", "ReduceSum", "Resize", "Slice", "Split", "Tile"}
"""Operators whose constants say where values go."""


@dataclass(frozen=True)
class LayerSize:
    """Output shape, parameters and arithmetic of one node, for one face.

    Attributes:
        shape: shape of what it writes, without the batch axis; empty where shape inference does not find it.
        parameters: number of values in the constants that it reads, without shapes and without scales of Q/DQ.
        macs: multiply-accumulates, 0 but for a Conv, Gemm or MatMul with constant weights: output places × weights.
    """

    shape: tuple[int, ...]
    parameters: int
    macs: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"shape": list(self.shape), "parameters": self.parameters, "macs": self.macs}


NO_SIZE: Final = LayerSize((), 0, 0)
"""Where nothing is known."""


def layer_sizes(model: onnx.ModelProto) -> dict[str, LayerSize]:
    """The size of each node, by layer name; of a quantised graph as of the float one.

    An axis of the output whose size shape inference does not find counts once. A graph that asks about a face twice
    (a test-time flip) counts twice.
    """
    view = GraphView(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(of_one_face(model)).graph
    except (ValueError, onnx.shape_inference.InferenceError):  # contradictory
        inferred = onnx.GraphProto()
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    found = {}
    for node in view.nodes:
        held = [_stored_shape(view, name) for name in node.input]
        shape = shapes.get(node.output[0], [])
        macs = 0
        weights = held[1] if node.op_type in WEIGHTED and len(held) > 1 else None
        if weights is not None and len(weights) > 1:
            channels = weights[channel_axis(node)]
            sizes = [size for size in shape if size > 0]
            macs = (math.prod(sizes) if sizes else channels) * math.prod(weights) // channels
        shapes_read = node.op_type in _READS_SHAPES
        parameters = 0 if shapes_read else sum(math.prod(dims) for dims in held if dims is not None)
        found[layer_name(node)] = LayerSize(tuple(shape[1:]), parameters, macs)
    return found


def _stored_shape(view: GraphView, name: str) -> tuple[int, ...] | None:
    """The shape of a constant, also of one that is stored as integers; None for anything else."""
    maker = view.producer.get(name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        name = maker.input[0]
    return view.constant_shape(name)


def macs_by_layer(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates per face of each Conv, Gemm and MatMul with constant weights, see :class:`LayerSize`."""
    return {name: size.macs for name, size in layer_sizes(model).items() if size.macs}

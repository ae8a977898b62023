"""Cross-layer equalisation: give the channels of an activation one range, and take it back in the layer that reads it.

``relu(W·x + b)`` with row ``c`` of ``W`` and ``b`` divided by ``s_c > 0`` is the same activation with its channel ``c``
divided by ``s_c``; multiplying column ``c`` of the next layer by ``s_c`` gives the same network (Nagel et al. 2019,
https://arxiv.org/abs/1906.04721, section 4.1). An activation has one INT8 scale for all of its channels, so a channel
with a tenth of the largest one's range keeps a tenth of the levels. The paper equalises the ranges of weights; here
weights have one scale per channel anyway, and it is the measured ranges of the activations that are made equal.

That goes through everything that a positive factor per channel passes through: Relu, LeakyRelu, PRelu, pools, residual
sums, depthwise convolutions. A component is all tensors that must share the factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgefer.contract import OUTPUT_NAME, Contract
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.graph.rewrite import attributes
from edgefer.quantize.graphview import GraphView, channel_axis, joined
from edgefer.quantize.observation import ModelRunner

PASSING = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"})
"""Operators on one activation that a positive factor per channel passes through."""

JOINING = frozenset({"Add", "Max"})
"""Operators on several activations that such a factor passes through."""

FLATTENING = frozenset({"Flatten", "Reshape"})
"""Between maps and a fully connected layer: each channel becomes as many inputs as it has places."""

TOLERANCE = 1e-4
"""Largest difference of a logit that equalising may make, relative to the largest logit."""

DEGREE = 12
"""Degree of the norm used as a channel's range: near the peak, but not ruled by the one face that is the peak."""

_WEIGHTED = frozenset({"Conv", "Gemm"})

Scales = Mapping[str, NDArray[np.float32]]
"""Component (its first tensor in graph order) → a positive factor per channel."""


@dataclass(frozen=True)
class Component:
    """Tensors that share factors: ``makers`` are the layers whose rows, ``readers`` those whose columns are scaled."""

    tensors: tuple[str, ...]
    makers: tuple[onnx.NodeProto, ...]
    readers: tuple[onnx.NodeProto, ...]
    channels: int

    @property
    def name(self) -> str:
        """The key of its factors."""
        return self.tensors[0]


def components(model: onnx.ModelProto) -> tuple[Component, ...]:
    """Everything in ``model`` that can be equalised, in graph order; weights that two layers share are left out."""
    view = GraphView(model)
    made = [name for node in view.nodes for name in node.output if name]
    links = [
        [node.output[0], *(name for _, name in view.activations(node))] for node in view.nodes if _passes(view, node)
    ]
    found = (_component(view, tensors) for tensors in joined(made, links))
    return tuple(component for component in found if component is not None)


def _passes(view: GraphView, node: onnx.NodeProto) -> bool:
    if node.op_type in PASSING:
        return True
    if node.op_type in FLATTENING:
        return all(reader.op_type == "Gemm" for reader, _ in view.consumers.get(node.output[0], ()))
    others = [name for name in node.input if view.constant_shape(name) is not None]
    if node.op_type in JOINING:
        return not others
    return node.op_type in ("Mul", "PRelu") and len(others) == 1  # one factor or slope per channel


def _component(view: GraphView, tensors: tuple[str, ...]) -> Component | None:
    """The layers around ``tensors``, or None where something else makes or reads one of them."""
    makers, readers = [], []
    for tensor in tensors:
        maker = view.producer[tensor]
        if tensor in view.outputs or not view.consumers.get(tensor):
            return None
        if maker.op_type in _WEIGHTED:
            makers.append(maker)
        elif not _passes(view, maker) or any(name not in view.producer for _, name in view.activations(maker)):
            return None
        for reader, position in view.consumers[tensor]:
            if reader.op_type in _WEIGHTED and position == 0:
                readers.append(reader)
            elif not _passes(view, reader):
                return None
    layers = [*makers, *readers]
    if not makers or not readers or not all(_own_weights(view, node) for node in layers):
        return None
    shapes = [view.constant_shape(node.input[1]) or () for node in makers]
    sizes = {shape[channel_axis(node)] for shape, node in zip(shapes, makers, strict=True)}
    return Component(tensors, tuple(makers), tuple(readers), sizes.pop()) if len(sizes) == 1 else None


def _own_weights(view: GraphView, node: onnx.NodeProto) -> bool:
    own = [name for name in node.input[1:] if name]
    plain = node.op_type == "Conv" or not attributes(node).get("transA", 0)
    return plain and all(view.constant(name) is not None and len(view.consumers[name]) == 1 for name in own)


def channel_powers(activation: NDArray[Any], unit: float) -> NDArray[np.float64]:
    """The sum of ``|value / unit|`` to the power :data:`DEGREE`, one number per channel of N×C×… values.

    ``unit`` is no less than the largest value, so that float32 holds the powers.
    """
    squares = np.square(activation.reshape(*activation.shape[:2], -1).astype(np.float32) / np.float32(unit))
    fourth = np.square(squares)
    return np.asarray((np.square(fourth) * fourth).sum(axis=(0, 2), dtype=np.float64))


def equalising_scales(peaks: Iterable[NDArray[np.float64]], max_ratio: float = 64.0) -> NDArray[np.float32]:
    """The factors that make the channels' ``peaks`` equal, the largest 1; for several tensors their geometric mean.

    A channel below ``1 / max_ratio`` of the largest gets that: one that never fires has no range to be made equal.
    """
    logs = []
    for peak in peaks:
        top = float(peak.max())
        logs.append(np.log(np.maximum(peak / top, 1.0 / max_ratio)) if top > 0 else np.zeros(peak.shape))
    mean = np.mean(logs, axis=0)
    return np.asarray(np.exp(mean - mean.max()), dtype=np.float32)


def apply_scales(model: onnx.ModelProto, scales: Scales) -> onnx.ModelProto:
    """A copy of ``model`` with each component's channels divided by its factors; it computes the same.

    Raises:
        EdgeferError: the model has no such component, or one of another number of channels.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    known = {component.name: component for component in components(result)}
    constants = {tensor.name: tensor for tensor in result.graph.initializer}
    for name, factors in scales.items():
        component = known.get(name)
        if component is None or component.channels != len(factors):
            raise EdgeferError(
                f"the scales of '{name}' ({len(factors)} channels) fit no activation of this model",
                hint="they belong to another model or another export of it; calibrate this one",
            )
        exact = factors.astype(np.float64)
        for node in component.makers:
            _scale(constants, node.input[1], _along(1 / exact, channel_axis(node)))
            if len(node.input) > 2 and node.input[2]:
                _scale(constants, node.input[2], _along(1 / exact, 0))
        for node in component.readers:
            _scale(constants, node.input[1], _columns(node, exact))
    return result


def is_exact(
    before: onnx.ModelProto, after: onnx.ModelProto, contract: Contract, run: Callable[[bytes], ModelRunner]
) -> bool:
    """Whether both give the same logits on synthetic faces, but for the last digits of float32."""
    faces = golden_faces(contract, 8)
    wanted, found = (run(model.SerializeToString())(faces)[OUTPUT_NAME] for model in (before, after))
    return bool(np.abs(found - wanted).max() <= TOLERANCE * max(float(np.abs(wanted).max()), 1e-6))


def _along(factors: NDArray[np.float64], axis: int) -> Any:
    def shaped(value: NDArray[Any]) -> NDArray[np.float64]:
        return factors.reshape([-1 if a == axis else 1 for a in range(value.ndim)])

    return shaped


def _columns(node: onnx.NodeProto, factors: NDArray[np.float64]) -> Any:
    """A factor for each weight by the channel that it reads."""

    def shaped(value: NDArray[Any]) -> NDArray[np.float64]:
        if node.op_type == "Gemm":
            axis = 1 - channel_axis(node)
            return _along(np.repeat(factors, value.shape[axis] // len(factors)), axis)(value)  # type: ignore[no-any-return]
        groups = int(attributes(node).get("group", 1))
        rows = np.repeat(factors.reshape(groups, -1), value.shape[0] // groups, axis=0)
        return rows.reshape(value.shape[0], value.shape[1], *[1] * (value.ndim - 2))

    return shaped


def _scale(constants: Mapping[str, onnx.TensorProto], name: str, factors: Any) -> None:
    value = numpy_helper.to_array(constants[name])
    scaled = (value.astype(np.float64) * factors(value)).astype(np.float32)
    constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(scaled), name))

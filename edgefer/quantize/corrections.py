"""Corrections that depend on the plan: better weights and biases for the same integers.

A float network goes in and one whose weights lie on INT8 levels comes out. It is float ONNX like the input, so plan,
ranges and :func:`~edgefer.quantize.qdq.quantise` stay what they are: rounding a weight that lies on a level gives that
level.

Rounding goes up or down so that a layer's answers, not its weights, stay close. The objective is AdaRound's (Nagel et
al. 2020, "Up or down? Adaptive rounding for post-training quantization", https://arxiv.org/abs/2004.10568, eq. 12):
``E‖W·x − Ŵ·x̂‖²`` with each level one of the two that enclose the weight. It is quadratic in the levels, so it is solved
here by coordinate descent on second moments: no gradient steps, no learning rate, no torch, the same result each time.

Bias correction restores the float layer's mean answer per channel, after Nagel et al. 2019,
https://arxiv.org/abs/1906.04721, section 4.2, with measured means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefer.graph.rewrite import attributes
from edgefer.quantize.graphview import WEIGHTED, GraphView, channel_axis, layer_name
from edgefer.quantize.observation import Faces, ModelRunner
from edgefer.quantize.plan import Plan
from edgefer.quantize.qdq import quantise, weight_scales
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.scheme import Scheme

Array = NDArray[np.float64]

_PLACES = 36
"""Number of sampled positions per batch of a convolution's output; positions of one face are much alike."""


@dataclass
class Moments:
    """Sums over columns ``x`` (what one output value is computed from: K inputs) of G groups.

    Attributes:
        count: columns seen.
        float_sum, int8_sum: G×K, of ``x`` in the float and ``x̂`` in the quantised network.
        second: G×K×K, of ``x̂·x̂ᵀ``; cross: of ``x·x̂ᵀ``.
    """

    count: int
    float_sum: Array
    int8_sum: Array
    second: Array
    cross: Array

    @classmethod
    def empty(cls, groups: int, inputs: int) -> Moments:
        """Nothing seen yet."""
        square = (groups, inputs, inputs)
        return cls(0, np.zeros((groups, inputs)), np.zeros((groups, inputs)), np.zeros(square), np.zeros(square))

    def add(self, in_float: NDArray[np.float32], in_int8: NDArray[np.float32]) -> None:
        """Count G×K×n columns of both networks, of the same faces and places."""
        self.count += in_float.shape[2]
        self.float_sum += in_float.sum(axis=2, dtype=np.float64)
        self.int8_sum += in_int8.sum(axis=2, dtype=np.float64)
        transposed = in_int8.transpose(0, 2, 1)
        self.second += in_int8 @ transposed
        self.cross += in_float @ transposed

    def means(self) -> tuple[Array, Array]:
        """Means of ``x`` and of ``x̂``, G×K."""
        return self.float_sum / self.count, self.int8_sum / self.count

    def centred(self) -> tuple[Array, Array]:
        """Covariance of ``x̂``, and of ``x`` with ``x̂``: G×K×K."""
        mean, rounded = self.means()
        transposed = rounded[:, None, :]
        return (
            self.second / self.count - rounded[:, :, None] * transposed,
            self.cross / self.count - mean[:, :, None] * transposed,
        )


class Columns:
    """Cuts what a Conv, Gemm or MatMul reads into columns, at places that ``random`` chooses alike for two tensors."""

    def __init__(self, node: onnx.NodeProto, weights: tuple[int, ...]) -> None:
        settings = attributes(node)
        self.spatial = node.op_type == "Conv"
        self.groups = int(settings.get("group", 1)) if self.spatial else 1
        if not self.spatial:
            self.inputs = weights[1] if settings.get("transB", 0) else weights[0]
            return
        self.kernel = (weights[2], weights[3])
        self.strides = tuple(settings.get("strides", (1, 1)))
        self.dilations = tuple(settings.get("dilations", (1, 1)))
        self.pads = tuple(settings.get("pads", (0, 0, 0, 0)))
        self.inputs = weights[1] * weights[2] * weights[3]

    @staticmethod
    def supported(node: onnx.NodeProto, weights: tuple[int, ...]) -> bool:
        """Whether the columns of ``node`` can be cut: no automatic padding, two spatial axes, a plain matrix."""
        if node.op_type != "Conv":
            return len(weights) == 2
        return len(weights) == 4 and attributes(node).get("auto_pad", b"NOTSET") == b"NOTSET"

    def both(
        self, in_float: NDArray[Any], in_int8: NDArray[Any], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The columns, float32 G×K×n, of the same places in both tensors."""
        if not self.spatial:
            one, two = (x.reshape(-1, self.inputs).T[None].astype(np.float32) for x in (in_float, in_int8))
            return one, two
        top, left, bottom, right = self.pads
        height, width = (
            (in_float.shape[2 + axis] + self.pads[axis] + self.pads[axis + 2] - self._reach(axis)) // self.strides[axis]
            + 1
            for axis in (0, 1)
        )
        places = random.permutation(height * width)[:_PLACES]
        rows, columns = np.divmod(places, width)
        found = []
        for tensor in (in_float, in_int8):
            padded = np.pad(tensor, ((0, 0), (0, 0), (top, bottom), (left, right)))
            found.append(self._cut(padded, rows * self.strides[0], columns * self.strides[1]))
        return found[0], found[1]

    def _reach(self, axis: int) -> int:
        return int(self.dilations[axis] * (self.kernel[axis] - 1) + 1)

    def _cut(self, padded: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        down = np.arange(self.kernel[0]) * self.dilations[0]
        across = np.arange(self.kernel[1]) * self.dilations[1]
        patches = padded[:, :, (rows[:, None] + down)[:, :, None], (columns[:, None] + across)[:, None, :]]
        channels = padded.shape[1]  # patches: N×C×places×kh×kw
        moved = patches.transpose(1, 3, 4, 0, 2).reshape(self.groups, channels // self.groups, *self.kernel, -1)
        return np.ascontiguousarray(moved.reshape(self.groups, self.inputs, -1), dtype=np.float32)


SWEEPS = 4
RIDGE = 0.02
"""Added to the diagonal, of its mean: holds levels of inputs that hardly vary at their weights."""

_ON_A_LEVEL = 1e-3


def rounded_levels(
    weights: Array, scales: Array, moments: Moments, limit: int, *, sweeps: int = SWEEPS, ridge: float = RIDGE
) -> NDArray[np.int8]:
    """Levels, G×O×K, with which a layer answers like ``weights`` as nearly as possible.

    Args:
        weights: G×O×K, float.
        scales: G×O, of one level.
        moments: moments of the layer's input.
        limit: levels lie in −limit … limit.
        sweeps: over the K inputs.
        ridge: regularisation, a share of the mean variance of an input.
    """
    second, cross = moments.centred()
    size = second.shape[1]
    diagonal = np.einsum("gkk->gk", second)
    extra = ridge * diagonal.mean(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    diagonal = diagonal + extra
    steps = scales[:, :, None]
    exact = weights / steps
    nearest = np.rint(exact)
    exact = np.where(np.abs(exact - nearest) < _ON_A_LEVEL, nearest, exact)  # the largest weight stays: it is the scale
    low, high = np.clip(np.floor(exact), -limit, limit), np.clip(np.ceil(exact), -limit, limit)
    levels = np.clip(np.rint(exact), -limit, limit)
    target = weights @ cross + extra[:, None, :] * weights
    slope = (levels * steps) @ second + extra[:, None, :] * (levels * steps) - target
    for _ in range(sweeps):
        moved = 0
        for k in range(size):
            wanted = levels[:, :, k] - slope[:, :, k] / (diagonal[:, None, k] * scales)
            new = np.clip(np.rint(wanted), low[:, :, k], high[:, :, k])
            change = (new - levels[:, :, k]) * scales
            changed = int(np.count_nonzero(change))
            if not changed:
                continue
            moved += changed
            levels[:, :, k] = new
            slope += change[:, :, None] * second[:, None, k, :]
            slope[:, :, k] += change * extra
        if not moved:
            break
    return levels.astype(np.int8)


ROUNDING, BIAS = "rounding", "bias"
STEPS = (ROUNDING, BIAS)

MAX_INPUTS = 4608
"""A layer whose outputs are made of more inputs keeps its nearest levels: its K×K moments would not fit the memory."""

STAGES = 32
"""Layers are corrected in order, in at most this many groups; a group sees the layers before it as corrected.

Within a group each layer makes up for the faults of the others, which they make up for too: eight groups for the 23
layers of mini_xception undid what rounding gains."""

Open = Callable[[bytes], ModelRunner]


@dataclass(frozen=True)
class Corrected:
    """The model to quantise, and in how many layers each step changed something."""

    model: onnx.ModelProto
    changes: dict[str, int]


def correct(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Ranges,
    method: str,
    faces: Sequence[Faces],
    run: Open,
    *,
    steps: Collection[str] = STEPS,
    advance: Callable[[int], object] | None = None,
) -> Corrected:
    """Move the INT8 layers' weights to the levels, and their biases to the values, with which they answer best.

    Args:
        model: float, as the plan and the ranges were made of.
        plan: says which layers are INT8.
        ranges: ranges of the activations.
        method: calibration method, as in :func:`~edgefer.quantize.qdq.quantise`.
        faces: uint8 N×H×W×C batches, read twice a stage.
        run: opens a serialised model and returns the function that runs it.
        steps: a subset of :data:`STEPS`.
        advance: called with 1 after every layer.
    """
    layers = _layers(model, plan)
    changes = dict.fromkeys((step for step in STEPS if step in steps), 0)
    work = _Work(model, plan, ranges, method, faces, run)
    for group in np.array_split(np.array(layers, dtype=object), min(STAGES, len(layers))) if layers else []:
        if ROUNDING in changes:
            changes[ROUNDING] += work.round([name for name in group if _own(work.current, name)])
        if BIAS in changes:
            changes[BIAS] += work.correct_biases(list(group))
        if advance is not None:
            advance(len(group))
    return Corrected(work.current, changes)


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
    return Columns(node, shape).inputs <= MAX_INPUTS


def _round_one(model: onnx.ModelProto, layer: str, scheme: Scheme, moments: Moments, input_scale: float) -> bool:
    view, node = GraphView(model), _node(model, layer)
    stored = view.constant(node.input[1])
    assert stored is not None  # the plan looked
    axis, limit = channel_axis(node), scheme.weight_limit
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


class _Work:
    """Changes ``current``, a copy of the float network, in place, so that its INT8 form answers like ``model``."""

    def __init__(
        self, model: onnx.ModelProto, plan: Plan, ranges: Ranges, method: str, faces: Sequence[Faces], run: Open
    ) -> None:
        self.model, self.plan, self.ranges, self.method = model, plan, ranges, method
        self.faces, self.run = faces, run
        self.current = onnx.ModelProto()
        self.current.CopyFrom(model)

    def _integer(self) -> onnx.ModelProto:
        return quantise(self.current, self.plan, self.ranges, method=self.method, same_model=False).model

    def round(self, group: Sequence[str]) -> int:
        """Round the weights of ``group`` to answer like the float network; returns how many layers changed."""
        if not group:
            return 0
        integer, view = self._integer(), GraphView(self.model)
        nodes = {name: _node(self.model, name) for name in group}
        reads = {name: (node.input[0], _node(integer, name).input[0]) for name, node in nodes.items()}
        cuts = {name: Columns(node, view.constant_shape(node.input[1]) or ()) for name, node in nodes.items()}
        moments = {name: Moments.empty(cut.groups, cut.inputs) for name, cut in cuts.items()}
        random = np.random.default_rng(0)
        for in_float, in_int8 in self._runs(integer, list(reads.values())):
            for name, (one, two) in reads.items():
                moments[name].add(*cuts[name].both(in_float[one], in_int8[two], random))
        scheme = self.plan.scheme
        return sum(_round_one(self.current, name, scheme, moments[name], _input_scale(integer, name)) for name in group)

    def correct_biases(self, group: Sequence[str]) -> int:
        """Add to the biases of ``group`` what their mean answers lack; returns how many changed."""
        written = {name: str(_node(self.model, name).output[0]) for name in group}
        sums: dict[str, NDArray[np.float64]] = {name: np.zeros(1) for name in group}
        places = dict.fromkeys(group, 0)
        for in_float, in_int8 in self._runs(self._integer(), [(tensor, tensor) for tensor in written.values()]):
            for name, tensor in written.items():
                lacking = in_float[tensor].astype(np.float64) - in_int8[tensor]
                sums[name] = sums[name] + lacking.sum(axis=(0, *range(2, lacking.ndim)))
                places[name] += lacking.size // lacking.shape[1]
        view = GraphView(self.current)
        for name in group:
            node = _node(self.current, name)
            bias = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.float32(0)
            assert bias is not None  # _layers looked
            _replace(self.current, node, 2, (bias + sums[name] / places[name]).astype(np.float32))
        return sum(bool(np.any(total != 0)) for total in sums.values())

    def _runs(self, integer: onnx.ModelProto, pairs: Sequence[tuple[str, str]]) -> Any:
        """Yield the tensors of both networks, a batch at a time."""
        runners = [
            self.run(only_outputs(which, {pair[side] for pair in pairs}).SerializeToString())
            for side, which in enumerate((self.model, integer))
        ]
        for batch in self.faces:
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
    old, name = node.input[position], f"{node.output[0]}_corrected{position}"
    node.input[position] = name
    written = [tensor.name for tensor in model.graph.initializer]
    if old in written and (old == name or not any(old in other.input for other in model.graph.node)):
        del model.graph.initializer[written.index(old)]
    model.graph.initializer.append(numpy_helper.from_array(value, name))

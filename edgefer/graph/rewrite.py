"""Rewrite passes: the same network in operators that engines run faster; each pass is checked and can be left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgefer.contract import Contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.onnx_file import check_interface, serialise
from edgefer.graph.parity import measure_parity, require_parity
from edgefer.progress import announce


class Editing:
    """A graph under change. Nodes are replaced in place; constants that nobody reads go when it is canonicalised."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self._constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self._outputs = {value.name for value in self.graph.output}
        self._readers = Counter(name for node in self.graph.node for name in node.input)
        self._maker = {name: node for node in self.graph.node for name in node.output}
        self._taken = {name for node in self.graph.node for name in (*node.input, *node.output)}

    def made_by(self, op: str) -> list[str]:
        """The first outputs of an operator's nodes, as they are now."""
        return [node.output[0] for node in self.graph.node if node.op_type == op]

    def maker(self, name: str) -> onnx.NodeProto | None:
        """The node that makes tensor ``name``; None for inputs and constants."""
        return self._maker.get(name)

    def only_read_once(self, name: str) -> bool:
        """Whether one node reads ``name``, once, and it is no output of the graph."""
        return self._readers[name] == 1 and name not in self._outputs

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a constant, or None."""
        return numpy_helper.to_array(self._constants[name]) if name in self._constants else None

    def add_constant(self, value: NDArray[np.float32], beside: str) -> str:
        """A new float32 constant, called after the tensor it stands ``beside``; returns its name."""
        name = self.fresh(f"{beside}_constant")
        tensor = numpy_helper.from_array(np.ascontiguousarray(value, dtype=np.float32), name)
        self.graph.initializer.append(tensor)
        self._constants[name] = tensor
        return name

    def fresh(self, wanted: str) -> str:
        """A tensor name like ``wanted`` that is not taken yet."""
        name, count = wanted, 0
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name

    def replace(self, old: Sequence[onnx.NodeProto], new: Sequence[onnx.NodeProto]) -> None:
        """Put ``new`` nodes where the last of ``old`` stands, and take all of ``old`` out."""
        gone = {id(node) for node in old}
        kept: list[onnx.NodeProto] = []
        for node in self.graph.node:
            if id(node) == id(old[-1]):
                kept.extend(new)
            elif id(node) not in gone:
                kept.append(node)
        copies = onnx.GraphProto()
        copies.node.extend(kept)
        del self.graph.node[:]
        self.graph.node.extend(copies.node)
        self._readers = Counter(name for node in self.graph.node for name in node.input)
        self._maker = {name: node for node in self.graph.node for name in node.output}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of ``node`` by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def fold_batchnorm(model: onnx.ModelProto) -> int:
    """Fold each BatchNormalization whose input only it reads; returns how many.

    ``y = γ·(W∗x + b − μ)/√(σ² + ε) + β`` is a layer with weights ``W·s`` and bias ``(b − μ)·s + β``, s = γ/√(σ² + ε)
    (Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2), computed here in float64.
    """
    editing = Editing(model)
    return sum(_fold(editing, output) for output in editing.made_by("BatchNormalization"))


def _fold(editing: Editing, output: str) -> bool:
    norm = editing.maker(output)
    layer = editing.maker(norm.input[0]) if norm is not None else None
    if norm is None or layer is None or not editing.only_read_once(norm.input[0]):
        return False
    found = [editing.constant(name) for name in norm.input[1:5]]
    settings = attributes(norm)
    weights = editing.constant(layer.input[1]) if layer.op_type in ("Conv", "Gemm") else None
    bias = editing.constant(layer.input[2]) if len(layer.input) > 2 and layer.input[2] else np.zeros(1)
    if weights is None or bias is None or any(value is None for value in found) or settings.get("training_mode"):
        return False
    gamma, beta, mean, variance = (np.asarray(value, dtype=np.float64) for value in found)
    scale = gamma / np.sqrt(variance + settings.get("epsilon", 1e-5))
    own = attributes(layer)
    axis = 0
    if layer.op_type == "Gemm":
        if own.get("alpha", 1.0) != 1.0 or own.get("beta", 1.0) != 1.0 or own.get("transA", 0) or bias.ndim > 1:
            return False
        axis = 0 if own.get("transB", 0) else 1
    shape = [1] * weights.ndim
    shape[axis] = -1
    new_weights = weights.astype(np.float64) * scale.reshape(shape)
    new_bias = (bias.astype(np.float64) - mean) * scale + beta
    names = [editing.add_constant(value.astype(np.float32), output) for value in (new_weights, new_bias)]
    replaced = helper.make_node(layer.op_type, [layer.input[0], *names], [output], name=layer.name, **own)
    editing.replace([layer, norm], [replaced])
    return True


def split_prelu(model: onnx.ModelProto) -> int:
    """Write each PRelu with constant slopes ``a`` in simpler operators; returns how many.

    ``max(x, a·x)`` where every slope is at most 1, ``a·x + (1 − a)·relu(x)`` where one is above. A PRelu kernel is
    slow in ONNX Runtime and stands alone in OpenVINO, where it cannot run in bfloat16 with the layer before it.
    """
    editing = Editing(model)
    return sum(_split(editing, output) for output in editing.made_by("PRelu"))


def _split(editing: Editing, output: str) -> bool:
    node = editing.maker(output)
    slope = editing.constant(node.input[1]) if node is not None else None
    if node is None or slope is None or not np.isfinite(slope).all():
        return False
    x = node.input[0]
    scaled = editing.fresh(f"{output}_scaled")
    nodes = [helper.make_node("Mul", [x, node.input[1]], [scaled])]
    if bool((slope <= 1).all()):
        nodes.append(helper.make_node("Max", [x, scaled], [output]))
    else:
        positive, rest = editing.fresh(f"{output}_positive"), editing.fresh(f"{output}_rest")
        share = editing.add_constant(1 - slope.astype(np.float32), output)
        nodes.append(helper.make_node("Relu", [x], [positive]))
        nodes.append(helper.make_node("Mul", [positive, share], [rest], name=f"{node.name}/Mul_1"))
        nodes.append(helper.make_node("Add", [scaled, rest], [output]))
    for made in nodes:
        made.name = made.name or f"{node.name}/{made.op_type}"
    editing.replace([node], nodes)
    return True


MAX_GROWTH = 2.5
"""Maximum ratio of multiplications, merged kernel to separate kernels, at which they are merged."""


def merge_depthwise(model: onnx.ModelProto) -> int:
    """Write Split → depthwise convolutions → Concat as one depthwise convolution; returns how many times.

    Smaller kernels get a border of zeros. Odd kernels with half of them as padding, one stride, no dilation, and the
    parts in their order; anything else is left alone, and so is what would multiply :data:`MAX_GROWTH` times as often.
    """
    editing = Editing(model)
    return sum(_merge(editing, output) for output in editing.made_by("Concat"))


def _merge(editing: Editing, output: str) -> bool:
    concat = editing.maker(output)
    branches = _branches(editing, concat) if concat is not None else None
    if concat is None or branches is None:
        return False
    split, convs = branches
    kernels = [kernel for kernel in (_kernel(editing, conv) for conv in convs) if kernel is not None]
    biases = [editing.constant(conv.input[2]) for conv in convs if len(conv.input) > 2]
    strides = {tuple(attributes(conv).get("strides", (1, 1))) for conv in convs}
    if len(kernels) != len(convs) or len(biases) not in (0, len(convs)) or len(strides) != 1:
        return False
    side = max(kernel.shape[2] for kernel in kernels)
    merged = np.concatenate([_bordered(kernel, side) for kernel in kernels])
    if merged.size > MAX_GROWTH * sum(kernel.size for kernel in kernels):
        return False
    names = [editing.add_constant(merged, output)]
    if biases:
        names.append(editing.add_constant(np.concatenate([bias for bias in biases if bias is not None]), output))
    conv = helper.make_node(
        "Conv",
        [split.input[0], *names],
        [output],
        name=convs[0].name,
        group=len(merged),
        kernel_shape=[side, side],
        pads=[side // 2] * 4,
        strides=list(strides.pop()),
    )
    editing.replace([split, *convs, concat], [conv])
    return True


def _branches(editing: Editing, concat: onnx.NodeProto) -> tuple[onnx.NodeProto, list[onnx.NodeProto]] | None:
    """The Split along channels and the convolutions between it and ``concat``, in order; None where it is otherwise."""
    made = [editing.maker(name) for name in concat.input]
    convs = [conv for conv in made if conv is not None and conv.op_type == "Conv"]
    if len(convs) != len(made) or attributes(concat).get("axis") != 1:
        return None
    split = editing.maker(convs[0].input[0])
    if split is None or split.op_type != "Split" or attributes(split).get("axis", 0) != 1:
        return None
    inner = [*split.output, *concat.input]
    if [conv.input[0] for conv in convs] != list(split.output) or not all(map(editing.only_read_once, inner)):
        return None
    return split, convs


def _kernel(editing: Editing, conv: onnx.NodeProto) -> NDArray[Any] | None:
    """The weights of a depthwise convolution of an odd square kernel that keeps the size, but for stride; or None."""
    weights = editing.constant(conv.input[1])
    if weights is None or weights.ndim != 4 or weights.shape[1] != 1:
        return None
    channels, _, height, width = weights.shape
    settings = attributes(conv)
    plain = (
        height == width
        and height % 2 == 1
        and settings.get("group", 1) == channels
        and list(settings.get("pads", [0] * 4)) == [height // 2] * 4
        and all(step == 1 for step in settings.get("dilations", ()))
        and settings.get("auto_pad", b"NOTSET") == b"NOTSET"
        and (len(conv.input) < 3 or editing.constant(conv.input[2]) is not None)
    )
    return weights if plain else None


def _bordered(kernel: NDArray[Any], side: int) -> NDArray[Any]:
    border = (side - kernel.shape[2]) // 2
    return np.pad(kernel, ((0, 0), (0, 0), (border, border), (border, border)))


TOLERANCE = 1e-4
"""Largest difference of a logit that a pass may make, relative to the largest logit."""


@dataclass(frozen=True)
class Pass:
    """``apply`` changes a model in place and returns in how many places; a graph without ``op`` is not worth a try."""

    op: str
    apply: Callable[[onnx.ModelProto], int]


PASSES = {
    "fold-batchnorm": Pass("BatchNormalization", fold_batchnorm),
    "split-prelu": Pass("PRelu", split_prelu),
    "merge-depthwise": Pass("Split", merge_depthwise),
}
"""Every pass, in the order in which they run."""


@dataclass(frozen=True)
class Rewritten:
    """The model to go on with, in canonical form, and in how many places each pass changed it."""

    model: onnx.ModelProto
    changes: dict[str, int] = field(default_factory=dict)


def check_names(names: Collection[str]) -> None:
    """Refuse names that are no pass.

    Raises:
        EdgeferError: with the passes that there are.
    """
    for name in names:
        if name not in PASSES:
            raise EdgeferError(f"there is no rewrite pass '{name}'", hint=f"the passes are {', '.join(PASSES)}")


def rewrite(
    model: onnx.ModelProto, contract: Contract, *, skip: Collection[str] = (), tolerance: float = TOLERANCE
) -> Rewritten:
    """Run every pass but those in ``skip`` on a copy of ``model``.

    After a pass that changed something, the graph must answer as before it in ONNX Runtime, on synthetic faces and
    noise, within ``tolerance`` of the logits' scale; otherwise that is announced, and the graph goes on as it was.

    Raises:
        EdgeferError: a name in ``skip`` is no pass.
    """
    check_names(skip)
    current, changes = model, {}
    for name, rewriting in PASSES.items():
        if name in skip or all(node.op_type != rewriting.op for node in current.graph.node):
            continue
        changed = onnx.ModelProto()
        changed.CopyFrom(current)
        places = rewriting.apply(changed)
        if not places:
            continue
        try:
            current = _checked(current, changed, contract, tolerance, name)
            changes[name] = places
        except EdgeferError as cause:
            announce(f"note: the rewrite pass {name} is left out: {cause.message}")
    return Rewritten(current, changes)


def _checked(
    before: onnx.ModelProto, after: onnx.ModelProto, contract: Contract, tolerance: float, name: str
) -> onnx.ModelProto:
    result = canonicalise(after)
    what = f"the graph before and after {name}"
    check_interface(result, contract, f"the graph after {name}")
    original, candidate = (OnnxRuntimeSession(serialise(model), optimise=False) for model in (before, result))
    require_parity(measure_parity(original, candidate, contract), tolerance, what)
    return result

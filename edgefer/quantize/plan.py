"""Which layers become INT8, which stay float and why, and where Q/DQ pairs stand for that."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import onnx

from edgefer.errors import EdgeferError
from edgefer.quantize import rules
from edgefer.quantize.flavour import Flavour
from edgefer.quantize.graphview import GraphView, layer_name, refuse_quantised


@dataclass(frozen=True)
class LayerPlan:
    """What is asked of one layer: ``asked`` is ``"int8"`` or ``"fp32"``, ``reason`` says why."""

    layer: str
    op: str
    asked: str
    reason: str


@dataclass(frozen=True)
class Site:
    """A tensor that gets a QuantizeLinear/DequantizeLinear pair, and who reads it through that pair.

    ``readers`` are (first output of the reading node, position among its inputs).
    """

    tensor: str
    readers: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Plan:
    """What :func:`make_plan` decided.

    Attributes:
        flavour: name of the flavour that it was made for.
        layers: every node in graph order, constants left out.
        sites: the tensors to quantise, in graph order.
        shared: groups of sites that must have one scale, because the layer between them moves values only.
    """

    flavour: str
    layers: tuple[LayerPlan, ...]
    sites: tuple[Site, ...]
    shared: tuple[tuple[str, ...], ...]


def make_plan(model: onnx.ModelProto, flavour: Flavour, *, keep_float: Collection[str] = ()) -> Plan:
    """Plan ``model`` for ``flavour``.

    Args:
        model: float, opset 13 or later, batch norms folded.
        flavour: of the runtime that is to run it.
        keep_float: layers (names as in :class:`LayerPlan`) that stay float.

    Raises:
        EdgeferError: the model is already quantised; a name in ``keep_float`` is no layer of it.
    """
    refuse_quantised(model)
    view = GraphView(model)
    _check_names(view, keep_float)
    planner = _Planner(view, flavour, frozenset(keep_float))
    layers = tuple(planner.decide(node) for node in view.nodes)
    sites = planner.sites()
    return Plan(flavour.name, layers, sites, planner.shared(sites))


class _Planner:
    """Walks the graph once, forwards; ``int8`` holds the nodes and ``ready`` the tensors that are INT8 so far."""

    def __init__(self, view: GraphView, flavour: Flavour, keep_float: frozenset[str]) -> None:
        self.view, self.flavour, self.keep_float = view, flavour, keep_float
        self.int8: set[str] = set()  # first outputs of the nodes that run in integer
        self.ready: set[str] = set()  # tensors that an integer layer makes

    def decide(self, node: onnx.NodeProto) -> LayerPlan:
        """The plan of one node; its inputs' makers have been decided before."""
        main = self.view.fused_into(node)
        if main is not None:
            asked = main.output[0] in self.int8
            reason = f"fused into {main.op_type} '{layer_name(main)}'"
            return LayerPlan(layer_name(node), node.op_type, "int8" if asked else "fp32", reason)
        obstacle = self._obstacle(node)
        if obstacle is None:
            self.int8.add(node.output[0])
            self.ready.add(self.view.result(node))
        return LayerPlan(
            layer_name(node),
            node.op_type,
            "int8" if obstacle is None else "fp32",
            obstacle or "has an integer kernel",
        )

    def _obstacle(self, node: onnx.NodeProto) -> str | None:
        """Why ``node`` stays float, or None."""
        op = node.op_type
        if layer_name(node) in self.keep_float:
            return "kept in float as asked"
        if op not in rules.RULED:
            return f"no INT8 rule for {op}"
        if self._needs_quantised_result(node) and self.view.result(node) in self.view.outputs:
            return "its result is the network's output, which stays float"
        return self._weighted_obstacle(node) if op in rules.WEIGHTED else self._reader_obstacle(node)

    def _reader_obstacle(self, node: onnx.NodeProto) -> str | None:
        """For layers that only continue a stretch of INT8: whether all that they read is INT8."""
        op = node.op_type
        if op in rules.POINTWISE and self.flavour.placement == "inputs":
            return f"{op} is fused in float into the layer before it"
        moved = list(self.view.activations(node))
        if op in rules.JOINING or op == "Concat":
            if len(moved) != len(node.input):
                return f"{op} with a constant"
        else:
            moved = moved[:1]
        floating = next((name for _, name in moved if name not in self.ready), None)
        if floating is None:
            return None
        maker = self.view.producer.get(floating)
        origin = f"float {maker.op_type} '{layer_name(maker)}'" if maker is not None else "the network's input"
        return f"what it reads comes from {origin}"

    def _weighted_obstacle(self, node: onnx.NodeProto) -> str | None:
        weights = self.view.constant_shape(node.input[1])
        if weights is None or self.view.constant_shape(node.input[0]) is not None:
            return "it does not multiply an activation by constant weights"
        if not all(source in self.view.producer for source in self.view.computed_from(node.input[0])):
            return "it reads the network's input as it comes: a Cast to float must stand between"
        if node.op_type == "MatMul" and len(weights) != 2:
            return f"its weights have {len(weights)} dimensions, 2 are needed"
        if node.op_type == "Gemm":
            attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0 or attributes.get("transA", 0):
                return "Gemm with alpha, beta or transA"
        if len(node.input) > 2 and node.input[2] and self.flavour.bias == "int32":
            bias = self.view.constant_shape(node.input[2])
            if bias is None or len(bias) != 1:
                return "its bias is not a constant of one dimension"
        return None

    def _needs_quantised_result(self, node: onnx.NodeProto) -> bool:
        return self.flavour.placement == "all" and node.op_type not in rules.FLOAT_RESULT

    def sites(self) -> tuple[Site, ...]:
        """Where Q/DQ pairs stand, from what was decided."""
        integer_nodes = [node for node in self.view.nodes if node.output[0] in self.int8]
        results = {self.view.result(node) for node in integer_nodes if self._needs_quantised_result(node)}
        found = []
        for tensor in (name for node in self.view.nodes for name in node.output):
            readers = self.view.consumers.get(tensor, [])
            integer = [(node.output[0], position) for node, position in readers if self._reads_int8(node, position)]
            if self.flavour.placement == "all" and (tensor in results or integer):
                # one reader left in float would keep the layer before it from writing integers
                integer = [(node.output[0], position) for node, position in readers]
            if integer:
                found.append(Site(tensor, tuple(integer)))
        return tuple(found)

    def _reads_int8(self, node: onnx.NodeProto, position: int) -> bool:
        if node.output[0] not in self.int8 or self.view.fused_into(node) is not None:
            return False
        if node.op_type in rules.JOINING and self.flavour.placement == "inputs":
            return position != self._accumulated(node)
        return position == 0 or node.op_type in rules.JOINING or node.op_type == "Concat"

    def _accumulated(self, node: onnx.NodeProto) -> int | None:
        """Which input of a residual sum is the convolution that the compiler adds the other one into.

        That one stays unrounded (NVIDIA, "Working with quantized types", TensorRT documentation: quantise the
        residual input only). Of two candidates it is the one computed last.
        """
        order = {n.output[0]: i for i, n in enumerate(self.view.nodes)}
        own = [
            (order[name], position)
            for position, name in enumerate(node.input)
            if name in order
            and self.view.producer[name].op_type in rules.WEIGHTED
            and len(self.view.consumers[name]) == 1
        ]
        return max(own)[1] if own else None

    def shared(self, sites: tuple[Site, ...]) -> tuple[tuple[str, ...], ...]:
        """Groups of sites joined by integer layers that only move values."""
        leader = {site.tensor: site.tensor for site in sites}

        def root(name: str) -> str:
            while leader[name] != name:
                name = leader[name]
            return name

        for node in self.view.nodes:
            if node.op_type not in rules.RANGE_KEEPING or node.output[0] not in self.int8 or self._mixed(node):
                continue
            joined = [*node.input] if node.op_type == "Concat" else [node.input[0]]
            present = [root(name) for name in (*joined, node.output[0]) if name in leader]
            for name in present[1:]:
                leader[root(name)] = root(present[0])
        groups: dict[str, list[str]] = {}
        for name in leader:
            groups.setdefault(root(name), []).append(name)
        return tuple(tuple(group) for group in groups.values())

    def _mixed(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` concatenates a rectified tensor with a signed one, for runtimes with integer operators.

        They leave a Relu to saturation only where the zero point is the least level, which a scale shared with
        signed values forbids; their concatenation can rescale instead.
        """
        makers = [self.view.producer.get(source) for source in self.view.computed_from(node.output[0])]
        rectified = {maker is not None and maker.op_type in rules.FUSED_ACTIVATIONS for maker in makers}
        return self.flavour.placement == "all" and node.op_type == "Concat" and len(rectified) > 1


def _check_names(view: GraphView, keep_float: Collection[str]) -> None:
    known = {layer_name(node) for node in view.nodes}
    for name in sorted(keep_float):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
            raise EdgeferError(
                f"there is no layer '{name}' to keep in float",
                hint=f"did you mean {' or '.join(close)}?" if close else f"layers are {', '.join(sorted(known)[:5])} …",
            )

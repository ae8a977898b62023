"""The plan of quantisation: layers that become INT8, layers that stay float with the reason, places of Q/DQ pairs."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import onnx

from edgefer.errors import EdgeferError
from edgefer.manifest import LayerPrecision
from edgefer.quantize.graphview import (
    FLOAT_RESULT,
    FUSED_ACTIVATIONS,
    JOINING,
    POINTWISE,
    POOLING,
    RANGE_KEEPING,
    RULED,
    WEIGHTED,
    GraphView,
    joined,
    layer_name,
    refuse_quantised,
)
from edgefer.quantize.scheme import Scheme


@dataclass(frozen=True)
class LayerPlan:
    """The plan of one layer: ``asked`` is ``"int8"`` or ``"fp32"``, ``reason`` says why."""

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
    """The decisions of :func:`make_plan`.

    Attributes:
        scheme: the scheme that it was made for.
        layers: every node in graph order, constants left out.
        sites: the tensors to quantise, in graph order.
        shared: groups of sites that must have one scale, because the layer between them moves values only.
    """

    scheme: Scheme
    layers: tuple[LayerPlan, ...]
    sites: tuple[Site, ...]
    shared: tuple[tuple[str, ...], ...]


def make_plan(model: onnx.ModelProto, scheme: Scheme, *, keep_float: Collection[str] = ()) -> Plan:
    """Plan ``model`` for ``scheme``.

    Args:
        model: float, opset 13 or later, batch norms folded.
        scheme: a scheme of the runtime that is to run it.
        keep_float: layers (names as in :class:`LayerPlan`) that stay float.

    Raises:
        EdgeferError: the model is already quantised; a name in ``keep_float`` is no layer of it.
    """
    refuse_quantised(model)
    view = GraphView(model)
    _check_names(view, keep_float)
    planner = _Planner(view, scheme, frozenset(keep_float))
    layers = tuple(planner.decide(node) for node in view.nodes)
    sites = planner.sites()
    return Plan(scheme, layers, sites, planner.shared(sites))


class _Planner:
    """Walks the graph once, forwards; ``int8`` holds the nodes and ``ready`` the tensors that are INT8 so far."""

    def __init__(self, view: GraphView, scheme: Scheme, keep_float: frozenset[str]) -> None:
        self.view, self.scheme, self.keep_float = view, scheme, keep_float
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
        if op not in RULED:
            return f"no INT8 rule for {op}"
        if self._needs_quantised_result(node) and self.view.result(node) in self.view.outputs:
            return "its result is the network's output, which stays float"
        return self._weighted_obstacle(node) if op in WEIGHTED else self._reader_obstacle(node)

    def _reader_obstacle(self, node: onnx.NodeProto) -> str | None:
        """For layers that only continue a stretch of INT8: whether all that they read is INT8."""
        op = node.op_type
        if op in POINTWISE and self.scheme.placement == "inputs":
            return f"{op} is fused in float into the layer before it"
        moved = list(self.view.activations(node))
        if op in JOINING or op == "Concat":
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
        if len(node.input) > 2 and node.input[2] and self.scheme.bias == "int32":
            bias = self.view.constant_shape(node.input[2])
            if bias is None or len(bias) != 1:
                return "its bias is not a constant of one dimension"
        return None

    def _needs_quantised_result(self, node: onnx.NodeProto) -> bool:
        return self.scheme.placement == "all" and node.op_type not in FLOAT_RESULT

    def sites(self) -> tuple[Site, ...]:
        """Where Q/DQ pairs stand, from what was decided."""
        integer_nodes = [node for node in self.view.nodes if node.output[0] in self.int8]
        results = {self.view.result(node) for node in integer_nodes if self._needs_quantised_result(node)}
        found = []
        for tensor in (name for node in self.view.nodes for name in node.output):
            readers = self.view.consumers.get(tensor, [])
            integer = [(node.output[0], position) for node, position in readers if self._reads_int8(node, position)]
            if self.scheme.placement == "all" and (tensor in results or integer):
                # one reader left in float would keep the layer before it from writing integers
                integer = [(node.output[0], position) for node, position in readers]
            if integer:
                found.append(Site(tensor, tuple(integer)))
        return tuple(found)

    def _reads_int8(self, node: onnx.NodeProto, position: int) -> bool:
        if node.output[0] not in self.int8 or self.view.fused_into(node) is not None:
            return False
        if node.op_type in JOINING and self.scheme.placement == "inputs":
            return position != self._accumulated(node)
        return position == 0 or node.op_type in JOINING or node.op_type == "Concat"

    def _accumulated(self, node: onnx.NodeProto) -> int | None:
        """Which input of a residual sum is the convolution that the compiler adds the other one into.

        That one stays unrounded (NVIDIA, "Working with quantized types", TensorRT documentation: quantise the
        residual input only). Of two candidates it is the one computed last.
        """
        order = {n.output[0]: i for i, n in enumerate(self.view.nodes)}
        own = [
            (order[name], position)
            for position, name in enumerate(node.input)
            if name in order and self.view.producer[name].op_type in WEIGHTED and len(self.view.consumers[name]) == 1
        ]
        return max(own)[1] if own else None

    def shared(self, sites: tuple[Site, ...]) -> tuple[tuple[str, ...], ...]:
        """Groups of sites joined by integer layers that only move values."""
        links = [
            [*(node.input if node.op_type == "Concat" else node.input[:1]), node.output[0]]
            for node in self.view.nodes
            if node.op_type in RANGE_KEEPING and node.output[0] in self.int8 and not self._mixed(node)
        ]
        return tuple(joined((site.tensor for site in sites), links))

    def _mixed(self, node: onnx.NodeProto) -> bool:
        """Whether ``node`` concatenates a rectified tensor with a signed one, for runtimes with integer operators.

        They leave a Relu to saturation only where the zero point is the smallest level, which a scale shared with
        signed values forbids; their concatenation can rescale instead.
        """
        makers = [self.view.producer.get(source) for source in self.view.computed_from(node.output[0])]
        rectified = {maker is not None and maker.op_type in FUSED_ACTIVATIONS for maker in makers}
        return self.scheme.placement == "all" and node.op_type == "Concat" and len(rectified) > 1


def _check_names(view: GraphView, keep_float: Collection[str]) -> None:
    known = {layer_name(node) for node in view.nodes}
    for name in sorted(keep_float):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
            raise EdgeferError(
                f"there is no layer '{name}' to keep in float",
                hint=f"did you mean {' or '.join(close)}?" if close else f"layers are {', '.join(sorted(known)[:5])} …",
            )


_CARRYING = RANGE_KEEPING | POOLING

_REASON = "no INT8 layer reads what it gives"


def plan_to_the_end(model: onnx.ModelProto, scheme: Scheme, *, keep_float: Collection[str] = ()) -> Plan:
    """:func:`~edgefer.quantize.plan.make_plan`, with :func:`idle_layers` left in float as well.

    Raises:
        EdgeferError: as that.
    """
    idle = idle_layers(model, scheme, keep_float)
    plan = make_plan(model, scheme, keep_float=(*keep_float, *idle))
    layers = (replace(layer, reason=_REASON) if layer.layer in idle else layer for layer in plan.layers)
    return replace(plan, layers=tuple(layers))


def idle_layers(model: onnx.ModelProto, scheme: Scheme, keep_float: Collection[str] = ()) -> tuple[str, ...]:
    """Names of the layers that ``scheme`` would make INT8 and that are better left in float, in graph order.

    Pools, reshapes and concatenations that no INT8 layer reads; and where integer kernels write integers, a last
    convolution behind which no layer with weights comes. A network that ends in a convolution and a mean would
    otherwise have its logits rounded to 8 bits.
    """
    view = GraphView(model)
    int8 = {layer.layer for layer in make_plan(model, scheme, keep_float=keep_float).layers if layer.asked == "int8"}
    leading: set[str] = set()  # layers behind which one with weights comes
    idle = []
    for node in reversed(view.nodes):
        name = layer_name(node)
        readers = [reader for output in node.output for reader, _ in view.consumers.get(output, [])]
        if any(reader.op_type in WEIGHTED or layer_name(reader) in leading for reader in readers):
            leading.add(name)
        if name in int8 and _idle(view, node, scheme, int8, last=name not in leading):
            int8.discard(name)
            idle.append(name)
    return tuple(reversed(idle))


def _idle(view: GraphView, node: onnx.NodeProto, scheme: Scheme, int8: Collection[str], *, last: bool) -> bool:
    writes_integers = scheme.placement == "all" and node.op_type in WEIGHTED - FLOAT_RESULT
    if not (node.op_type in _CARRYING or (last and writes_integers)):
        return False
    return not any(layer_name(reader) in int8 for reader, _ in view.consumers.get(view.result(node), []))


def precision_of(model: onnx.ModelProto, scheme: Scheme) -> dict[str, str]:
    """``"int8"`` or ``"fp32"`` for each node of a quantised graph, by layer name; read from the graph alone.

    INT8 is a layer whose values (and weights) come out of DequantizeLinear and, for the placement ``"all"``, go into
    QuantizeLinear only, unless its integer kernel writes float. In a residual sum of the placement ``"inputs"`` one
    value may stay unrounded.
    """
    view = GraphView(model)
    return {
        layer_name(node): "int8" if _is_int8(view, node, scheme) else "fp32"
        for node in view.nodes
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear")
    }


def layer_precisions(model: onnx.ModelProto, plan: Plan) -> tuple[LayerPrecision, ...]:
    """The plan's layers with what ``model``, made from it, got."""
    got = precision_of(model, plan.scheme)
    return tuple(LayerPrecision(p.layer, p.op, p.asked, got[p.layer]) for p in plan.layers)


def _is_int8(view: GraphView, node: onnx.NodeProto, scheme: Scheme) -> bool:
    main = view.fused_into(node)
    if main is not None:
        return _is_int8(view, main, scheme)
    if node.op_type not in RULED:
        return False
    read = node.input[:2] if node.op_type in WEIGHTED else node.input
    read = node.input[:1] if node.op_type in RANGE_KEEPING - {"Concat"} else read
    rounded = [_made_by(view, name, "DequantizeLinear") for name in read]
    unrounded_branch = node.op_type in JOINING and scheme.placement == "inputs"
    if not (any(rounded) if unrounded_branch else all(rounded)):
        return False
    if scheme.placement == "inputs" or node.op_type in FLOAT_RESULT:
        return True
    result = view.result(node)
    readers = view.consumers.get(result, [])
    return result not in view.outputs and all(reader.op_type == "QuantizeLinear" for reader, _ in readers)


def _made_by(view: GraphView, tensor: str, op: str) -> bool:
    maker = view.producer.get(tensor)
    return maker is not None and maker.op_type == op

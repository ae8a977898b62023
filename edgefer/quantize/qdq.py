"""Write a plan into a graph: QuantizeLinear/DequantizeLinear pairs, int8 weights, int32 biases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgefer.errors import EdgeferError
from edgefer.manifest import PRECISION_KEY, LayerPrecision
from edgefer.quantize.graphview import WEIGHTED, GraphView, channel_axis, fingerprint, layer_name, refuse_quantised
from edgefer.quantize.plan import Plan, layer_precisions
from edgefer.quantize.ranges import DEFAULT_METHOD, DEFAULT_PERCENTILE, Ranges, threshold
from edgefer.quantize.scheme import Scheme

_MAX_BIAS = 2**30  # half of int32's range, the other half is for the sum that the bias is added to


def weight_scales(
    weights: NDArray[np.float32], axis: int, limit: int, bias: NDArray[np.float32] | None, input_scale: float
) -> NDArray[np.float32]:
    """One scale per channel, float32 (channels,): ``max|w| / limit``.

    Raised where the channel's ``bias / (input_scale · scale)`` would not fit int32 (weights much smaller than their
    bias); 1 where a channel is all zeros.
    """
    others = tuple(a for a in range(weights.ndim) if a != axis)
    scales: NDArray[np.float64] = np.abs(weights).max(axis=others).astype(np.float64) / limit
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (input_scale * _MAX_BIAS))
    scales[scales < np.finfo(np.float32).tiny] = 1.0
    return scales.astype(np.float32)


def quantise_weights(
    weights: NDArray[np.float32], scales: NDArray[np.float32], axis: int, limit: int
) -> NDArray[np.int8]:
    """``round(w / scale)``, half to even, clipped to ±``limit``; the shape of ``weights``."""
    shape = [1] * weights.ndim
    shape[axis] = -1
    levels = np.rint(weights.astype(np.float64) / scales.astype(np.float64).reshape(shape))
    return np.clip(levels, -limit, limit).astype(np.int8)


def quantise_bias(bias: NDArray[np.float32], scales: NDArray[np.float32]) -> NDArray[np.int32]:
    """``round(b / scale)`` as int32; ``scales`` are input scale · weight scale, float32 (channels,)."""
    levels: NDArray[Any] = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return levels.astype(np.int32)


QUANTISATION_KEY = "edgefer.quantisation"
"""The metadata key that says how it became so: scheme, method, faces; JSON."""

_PER_CHANNEL_OPSET = 13  # QuantizeLinear and DequantizeLinear have an axis from here on


@dataclass(frozen=True)
class Quantised:
    """A quantised model and, for each layer of the float one, the precision asked and got."""

    model: onnx.ModelProto
    layers: tuple[LayerPrecision, ...]


def quantise(
    model: onnx.ModelProto,
    plan: Plan,
    ranges: Ranges,
    *,
    method: str = DEFAULT_METHOD,
    same_model: bool = True,
) -> Quantised:
    """Quantise ``model`` as ``plan`` says; the input is left as it was, the same inputs give the same bytes.

    Args:
        model: float, opset 13 or later.
        plan: plan of this model, for the scheme of the runtime that is to run it.
        ranges: ranges of this model; with ``same_model=False``, of one with the same tensor names (a calibration table
            that ships, for a network exported anew).
        method: calibration method, as in :func:`~edgefer.quantize.ranges.threshold`.
        same_model: whether the ranges must carry this model's fingerprint.

    Raises:
        EdgeferError: the model is already quantised or of too old an opset; the ranges are another model's or lack a
            tensor; the method is unknown.
    """
    refuse_quantised(model)
    if same_model and ranges.model != fingerprint(model):
        raise EdgeferError(
            f"the ranges were taken from another model ({ranges.model[:12]}…, this one is {fingerprint(model)[:12]}…)",
            hint="calibrate this model",
        )
    scheme = plan.scheme
    result = _at_opset(model, scheme)
    writer = _Writer(result, plan, _scales(result, plan, ranges, method))
    writer.write()
    _set_metadata(result, PRECISION_KEY, "int8")
    how = {"scheme": scheme.name, "method": method, "faces": ranges.faces}
    if method == "percentile":
        how["percentile"] = DEFAULT_PERCENTILE
    _set_metadata(result, QUANTISATION_KEY, json.dumps(how, sort_keys=True))
    onnx.checker.check_model(result, full_check=True)
    return Quantised(result, layer_precisions(result, plan))


Scale = tuple[str, NDArray[np.float32], NDArray[np.integer[Any]]]
"""The name of a scale, its value and its zero point."""


def _scales(model: onnx.ModelProto, plan: Plan, ranges: Ranges, method: str) -> dict[str, Scale]:
    """For every site: tensors of one shared group have the same scale, which spans the ranges of all of them."""
    view, scheme = GraphView(model), plan.scheme
    scales: dict[str, Scale] = {}
    for group in plan.shared:
        sources = dict.fromkeys(source for tensor in group for source in view.range_sources(tensor))
        spans = [threshold(ranges[source], method, symmetric=scheme.symmetric) for source in sources]
        low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        scales.update(dict.fromkeys(group, (group[0], *scheme.scale_and_zero_point(low, high))))
    return scales


class _Writer:
    """Rebuilds the node list once, in order; constants are added as they are first needed."""

    def __init__(self, model: onnx.ModelProto, plan: Plan, scales: dict[str, Scale]) -> None:
        self.graph, self.scheme, self.scales = model.graph, plan.scheme, scales
        self.view = GraphView(model)
        self.sites = {site.tensor: site for site in plan.sites}
        self.asked = {p.layer for p in plan.layers if p.asked == "int8"}
        self.reads = {reader: site.tensor for site in plan.sites for reader in site.readers}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def write(self) -> None:
        """Change the graph in place."""
        for node in list(self.graph.node):
            self._rewrite(node)
        used = {name for node in self.nodes for name in node.input} | self.view.outputs
        kept = [tensor for tensor in self.graph.initializer if tensor.name in used]
        nodes = [node for node in self.nodes if node.op_type != "Constant" or node.output[0] in used]
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(nodes)
        self.graph.initializer.extend([*kept, *self.constants.values()])

    def _rewrite(self, original: onnx.NodeProto) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.op_type in WEIGHTED and layer_name(node) in self.asked:
            self._integer_weights(node)
        for position in range(len(node.input)):
            tensor = self.reads.get((original.output[0], position))
            if tensor is not None:
                node.input[position] = f"{tensor}_dequantized"
        self.nodes.append(node)
        for tensor in node.output:
            if tensor in self.sites:
                self._pair(tensor)

    def _pair(self, tensor: str) -> None:
        name, scale, zero = self.scales[tensor]
        parameters = [self._add(f"{name}_scale", scale), self._add(f"{name}_zero_point", zero)]
        between, after = f"{tensor}_quantized", f"{tensor}_dequantized"
        self._node("QuantizeLinear", [tensor, *parameters], between)
        self._node("DequantizeLinear", [between, *parameters], after)

    def _integer_weights(self, node: onnx.NodeProto) -> None:
        weights = self.view.constant(node.input[1])
        bias = self.view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        assert weights is not None  # the plan looked
        for what, value in (("weights", weights), ("bias", bias)):
            if value is not None and not np.isfinite(value).all():
                raise EdgeferError(
                    f"NaN or infinity in the {what} of {node.op_type} '{layer_name(node)}'",
                    hint="the float network itself is broken: look at how it was trained or exported",
                )
        axis, limit = channel_axis(node), self.scheme.weight_limit
        input_scale = np.float32(self.scales[self.reads[node.output[0], 0]][1])
        # a float bias counts too: onnxruntime quantises it by itself at these scales, and would overflow in silence
        fitting = bias if bias is not None and bias.ndim == 1 else None
        scales = self.scheme.stored(weight_scales(weights, axis, limit, fitting, float(input_scale)))
        integers = quantise_weights(weights, scales, axis, limit)
        node.input[1] = self._dequantised(node.input[1], integers, scales, axis)
        if bias is not None and self.scheme.bias == "int32":
            both = scales * input_scale
            node.input[2] = self._dequantised(node.input[2], quantise_bias(bias, both), both, 0)

    def _dequantised(self, name: str, integers: NDArray[Any], scales: NDArray[np.float32], axis: int) -> str:
        """Store a constant as integers with a DequantizeLinear; the same constant at the same scales only once."""
        stem, copy = name, 0
        while (known := self.constants.get(f"{stem}_scale")) is not None:
            if np.array_equal(numpy_helper.to_array(known), scales):
                return f"{stem}_dequantized"
            copy += 1
            stem = f"{name}_{copy}"
        inputs = [
            self._add(f"{stem}_quantized", integers),
            self._add(f"{stem}_scale", scales),
            self._add(f"{stem}_zero_point", np.zeros(scales.shape, integers.dtype)),
        ]
        self._node("DequantizeLinear", inputs, f"{stem}_dequantized", axis)
        return f"{stem}_dequantized"

    def _add(self, name: str, value: NDArray[Any]) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def _node(self, op: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        node = helper.make_node(op, inputs, [output], name=f"{output}/{op}")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)


def _at_opset(model: onnx.ModelProto, scheme: Scheme) -> onnx.ModelProto:
    """A copy of ``model``, its opset raised where the scheme needs that."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if scheme.opset is not None and version < scheme.opset:
        converted: onnx.ModelProto = onnx.version_converter.convert_version(model, scheme.opset)
        return converted
    if version < _PER_CHANNEL_OPSET:
        raise EdgeferError(
            f"the model has opset {version}; per-channel quantisation needs {_PER_CHANNEL_OPSET} or more",
            hint="export it again with opset 17",
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _set_metadata(model: onnx.ModelProto, key: str, value: str) -> None:
    entry = next((e for e in model.metadata_props if e.key == key), None)
    if entry is None:
        entry = model.metadata_props.add(key=key)
    entry.value = value

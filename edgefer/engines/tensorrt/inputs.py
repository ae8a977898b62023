"""Inputs of TensorRT's builder: the ONNX file, checked before the builder is asked, and a calibration table.

The table is our ranges in TensorRT's format, so that its own calibrator needs no faces. It is text: a line that names
the version and the algorithm, ``TRT-8602-EntropyCalibration2``, then one tensor per line with its scale, the IEEE 754
bits of a float32 as eight hexadecimal digits, big-endian (TensorRT developer guide, "INT8 Calibration Using Python";
the format as its samples read it, samples/common/EntropyCalibrator.h).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgefer.engines.tensorrt.compat import Target
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import opset_of
from edgefer.quantize.graphview import WEIGHTED, GraphView, layer_name
from edgefer.quantize.ranges import Ranges, threshold
from edgefer.runtimes import TENSORRT

ALGORITHMS: Final = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration"}
_LEVELS: Final = 127.0
_FLOAT_MODEL = "start from the float model.onnx that `edgefer export` wrote"


def check_model(model: onnx.ModelProto, target: Target, precision: str, options: BuilderOptions) -> None:
    """Refuse a file that ``target`` would refuse, or would build into something else than ``precision``.

    Raises:
        EdgeferError: quantised for a CPU; INT8 without Q/DQ or calibration; Q/DQ where they are not asked for; FP16
            typing for a version that needs flags, or none where types decide; an opset that the version does not read.
    """
    _refuse_cpu_schemes(model)
    quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    integer, implicit = precision.startswith("int8"), options.implicit
    if integer and not quantised and not implicit:
        raise EdgeferError(
            "INT8 is asked for, and the model has neither Q/DQ nor calibration",
            hint="--calib DATA sets the ranges: its `calib` part is used, never its test faces",
        )
    if quantised and (implicit or not integer):
        asked = "--calibrator" if implicit else f"--{precision}"
        raise EdgeferError(
            f"the model has Q/DQ already, and {asked} is asked for",
            hint=_FLOAT_MODEL if not integer else "leave --calibrator out: its ranges are in the file",
        )
    typed = any(t.data_type == TensorProto.FLOAT16 for t in model.graph.initializer)
    by_types = not options.weakly_typed(target)
    if "fp16" in precision and by_types != typed:
        how = "its tensors, which are FP32" if by_types else "the builder, and its tensors are FP16"
        on_dla = " on DLA" if options.dla is not None else ""
        raise EdgeferError(
            f"FP16 is asked for, and in {target.title}{on_dla} that is decided by {how}",
            hint=f"write the file for this version: --onnx-only --for {target.name}, from the float model.onnx"
            + (f", with --dla {options.dla}" if on_dla else ""),
        )
    if typed and "fp16" not in precision:
        raise EdgeferError(
            f"--{precision} is asked for, and the file is FP16",
            hint="--int8 --fp16" if integer else "--fp16, or start from the float model.onnx",
        )
    if opset_of(model) > target.opset:
        raise EdgeferError(
            f"the model is in opset {opset_of(model)}, and {target.title} reads up to {target.opset}",
            hint=f"export it again with opset 17, or write it with --onnx-only --for {target.name}",
        )


def _refuse_cpu_schemes(model: onnx.ModelProto) -> None:
    """TensorRT takes int8 with zero point 0 and no integer biases (developer guide, "Explicit Quantization")."""
    view = GraphView(model)
    for node in model.graph.node:
        if node.op_type.startswith("QLinear") or node.op_type in ("ConvInteger", "MatMulInteger"):
            raise _for_cpu(f"{node.op_type} '{layer_name(node)}'")
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = view.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, np.uint8)
        if zero is None or zero.dtype != np.int8 or np.any(zero):
            kind = "unknown" if zero is None else f"{zero.dtype}"
            raise _for_cpu(f"{node.op_type} '{layer_name(node)}' with a zero point of {kind}")


def with_float_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose INT8 weights are written as FP32 → Q → DQ, which gives the same integers.

    TensorRT before 10 folds the Q itself; up to 8.4.1 its parser refused a DQ over a constant of INT8.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    stored = {constant.name: constant for constant in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for original in graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        weights = stored.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if weights is not None and weights.data_type == TensorProto.INT8:
            name, levels = node.input[0], numpy_helper.to_array(weights).astype(np.float32)
            scale = numpy_helper.to_array(stored[node.input[1]])
            axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
            if scale.ndim:
                scale = scale.reshape([-1 if at == axis % levels.ndim else 1 for at in range(levels.ndim)])
            graph.initializer.append(numpy_helper.from_array(levels * scale, f"{name}_float"))
            quantiser = helper.make_node("QuantizeLinear", [f"{name}_float", *node.input[1:]], [f"{name}_int8"])
            quantiser.name = f"{node.name}_float/QuantizeLinear"
            quantiser.attribute.extend(node.attribute)
            node.input[0] = f"{name}_int8"
            nodes.append(quantiser)
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [constant for constant in graph.initializer if constant.name in used]
    copies = onnx.GraphProto()
    copies.node.extend(nodes)
    copies.initializer.extend(kept)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(copies.node)
    graph.initializer.extend(copies.initializer)
    onnx.checker.check_model(result, full_check=True)
    return result


def _for_cpu(what: str) -> EdgeferError:
    return EdgeferError(
        f"the model was quantised for a CPU: it has {what}; TensorRT takes int8 with zero point 0 and float biases",
        hint=f"{_FLOAT_MODEL}, with {TENSORRT.option}",
    )


def sparse_layers(model: onnx.ModelProto) -> tuple[list[str], list[str]]:
    """Names of the layers whose weights are 2:4 sparse, and of those that are not, of those that could be.

    2:4: of every four neighbours along the input channels two are zero (https://arxiv.org/abs/2104.08378). Layers with
    fewer than 16 inputs a group are left out: there is no sparse kernel for them.
    """
    view = GraphView(model)
    sparse: list[str] = []
    dense: list[str] = []
    for node in view.nodes:
        weights = _weights(view, node)
        if weights is None:
            continue
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        axis = 1 if node.op_type == "Conv" or transposed else 0
        if weights.shape[axis] < 16 or weights.shape[axis] % 4:
            continue
        grouped = np.moveaxis(weights, axis, -1).reshape(-1, 4)
        (sparse if int(np.count_nonzero(grouped, axis=1).max()) <= 2 else dense).append(layer_name(node))
    return sparse, dense


def check_sparsity(model: onnx.ModelProto) -> str:
    """A sentence about which layers are 2:4 sparse.

    Raises:
        EdgeferError: no layer is: the builder would accept the flag and ignore it.
    """
    sparse, dense = sparse_layers(model)
    if not sparse:
        named = f": {', '.join(dense[:3])}{' …' if len(dense) > 3 else ''} are dense" if dense else ""
        raise EdgeferError(
            f"--sparsity: no layer of the model has 2:4 sparse weights{named}",
            hint="prune two of every four weights along the input channels and fine-tune, or leave --sparsity out",
        )
    return f"{len(sparse)} of {len(sparse) + len(dense)} layers have 2:4 sparse weights"


def _weights(view: GraphView, node: onnx.NodeProto) -> np.ndarray | None:
    if node.op_type not in WEIGHTED:
        return None
    weights = view.constant(node.input[1])
    maker = view.producer.get(node.input[1])
    if weights is None and maker is not None and maker.op_type == "DequantizeLinear":
        weights = view.constant(maker.input[0])
        quantiser = view.producer.get(maker.input[0])
        if weights is None and quantiser is not None:  # FP32 → Q → DQ, see with_float_weights
            weights = view.constant(quantiser.input[0])
    return weights


def table_scales(model: onnx.ModelProto, ranges: Ranges, method: str) -> dict[str, float]:
    """Tensor → ``max |x| / 127`` for every tensor of ``model`` that was observed, or only moves values that were."""
    view = GraphView(model)
    scales: dict[str, float] = {}
    for node in view.nodes:
        for name in node.output:
            sources = view.range_sources(name)
            if not all(source in ranges.tensors for source in sources):
                continue
            spans = [threshold(ranges[source], method, symmetric=True) for source in sources]
            amax = max(max(-low, high) for low, high in spans)
            if amax > 0:
                scales[name] = amax / _LEVELS
    return scales


def cache_header(target: Target, calibrator: str) -> str:
    """The first line of a table: ``"TRT-8602-EntropyCalibration2"``."""
    return f"TRT-{target.number}-{ALGORITHMS[calibrator]}"


def to_table(scales: Mapping[str, float], target: Target, calibrator: str) -> str:
    """The table for ``target``'s ``calibrator`` (``"entropy"`` or ``"minmax"``).

    Raises:
        EdgeferError: a tensor's name has a colon or a line break, which the format cannot hold.
    """
    lines = [cache_header(target, calibrator)]
    for name, scale in scales.items():
        if ":" in name or "\n" in name:
            raise EdgeferError(
                f"the tensor '{name}' cannot stand in a calibration table", hint="export the model again with edgefer"
            )
        lines.append(f"{name}: {struct.pack('>f', scale).hex()}")
    return "\n".join(lines) + "\n"


def parse_cache(text: str, origin: str) -> tuple[int, str, dict[str, float]]:
    """The version's number, the algorithm's name and the scales of a table; ``origin`` names the file in errors.

    Raises:
        EdgeferError: it is something else, or damaged; names the line.
    """
    lines = text.splitlines()
    head = lines[0].split("-") if lines else []
    numbered = len(head) == 3 and head[1].isascii() and head[1].isdigit()
    if not numbered or head[0] != "TRT" or head[2] not in ALGORITHMS.values():
        raise EdgeferError(
            f"{origin} is no calibration table of TensorRT: it begins with {lines[0][:40]!r}"
            if lines
            else f"{origin} is no calibration table of TensorRT: it is empty",
            hint="`build-engine --int8 --calibrator entropy --onnx-only` writes one beside the ONNX file",
        )
    scales = {}
    for number, line in enumerate(lines[1:], start=2):
        name, colon, digits = line.rpartition(": ")
        try:
            if not colon:
                raise ValueError("no colon")
            scales[name] = struct.unpack(">f", bytes.fromhex(digits))[0]
            if not 0 <= scales[name] < math.inf:
                raise ValueError("no scale")
        except (ValueError, struct.error) as cause:
            raise EdgeferError(
                f"{origin}, line {number} cannot be read: {line[:60]!r}", hint="the file is damaged: write it again"
            ) from cause
    if not scales:
        raise EdgeferError(f"{origin} has no scale of any tensor", hint="the file was cut short: write it again")
    return int(head[1]), head[2], scales

"""Whether a network survives FP16: its activations fit, and its answers stay."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from edgefer.contract import INPUT_NAME, Contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.fp16 import to_fp16
from edgefer.graph.onnx_file import serialise
from edgefer.graph.parity import measure_parity, parity_faces, require_parity
from edgefer.quantize.graphview import GraphView, layer_name
from edgefer.quantize.observation import with_outputs
from edgefer.runtimes import REFERENCE

_LARGEST = float(np.finfo(np.float16).max)


def check_half(model: onnx.ModelProto, contract: Contract) -> None:
    """Refuse FP16 for a float32 ``model`` that overflows in it, or answers otherwise, on synthetic faces and noise.

    ONNX Runtime computes FP16 graphs of a CPU in FP32 and keeps what would overflow, so activations are looked at
    one by one. It is checked before Q/DQ are put in: there, a value that FP16 moves over a rounding step moves by a
    whole step.

    Raises:
        EdgeferError: names the layer and its largest value, or the difference of the logits.
    """
    halved = to_fp16(model)
    _check_activations(model, halved, contract)
    # as written: onnxruntime's fusions make operators of FP16 graphs that it has no kernels for
    sessions = OnnxRuntimeSession(serialise(model)), OnnxRuntimeSession(serialise(halved), optimise=False)
    try:
        parity = measure_parity(*sessions, contract)
        require_parity(parity, REFERENCE.tolerance_of("fp16"), "the network in FP32 and in FP16")
    except EdgeferError as cause:
        raise EdgeferError(
            f"the network does not survive FP16: {cause.message}", hint="build with --fp32, or --int8 without --fp16"
        ) from cause


def _check_activations(model: onnx.ModelProto, halved: onnx.ModelProto, contract: Contract) -> None:
    inferred = onnx.shape_inference.infer_shapes(halved).graph
    half = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT16}
    makers = {name: node for node in GraphView(model).nodes for name in node.output if name in half}
    session = OnnxRuntimeSession(serialise(with_outputs(model, makers)))
    for faces in parity_faces(contract):
        for face in faces:
            for name, value in session.run({INPUT_NAME: face[None]}).items():
                largest = float(np.abs(value).max(initial=0.0))
                if name in makers and not largest <= _LARGEST:
                    maker = makers[name]
                    raise EdgeferError(
                        f"the network does not survive FP16: {maker.op_type} '{layer_name(maker)}' reaches "
                        f"{largest:.4g}, and FP16 ends at {_LARGEST:.0f}",
                        hint="build with --fp32, or --int8 without --fp16",
                    )

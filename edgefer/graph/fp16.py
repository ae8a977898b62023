"""FP16 typing: a float32 graph whose tensors are float16 behind the normalisation, for strongly typed engines.

Where types decide what is computed (TensorRT from 10 on, TensorRT-RTX), the file has to say FP16 tensor by tensor.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgefer.contract import INPUT_NAME
from edgefer.errors import EdgeferError

_BEFORE = frozenset({"Cast", "Transpose", "Mul", "Add", "Sub", "Div", "Reshape", "Unsqueeze"})
"""Operators of the normalisation: as long as only they stand between a tensor and the faces, it stays float32."""

_FLOAT_INPUTS = {"Resize": (1, 2)}
"""Inputs that ONNX wants in float32 whatever the rest is: regions and scales."""

_LARGEST = float(np.finfo(np.float16).max)


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` that computes in float16 from the end of its normalisation to its logits.

    The uint8 input and the float32 logits stay. 0 … 255 over a standard deviation would lose bits in float16 before
    anything is computed, so the normalisation stays float32; it is fused into one small kernel anyway. Scales of
    QuantizeLinear and DequantizeLinear become float16, which needs opset 19.

    Raises:
        EdgeferError: a constant does not fit float16; the graph has Q/DQ and its opset is under 19.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _check_opset(result)
    _Typing(result).write()
    del result.graph.value_info[:]
    onnx.checker.check_model(result, full_check=True)
    return result


def to_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` that computes the same in float32: every float16 tensor, scale and Cast becomes float32.

    Constants keep their values, which float32 holds exactly, so that Q/DQ keep their scales to the bit. Runtimes of
    CPUs compute it as it is written; their float16 kernels are another matter: ONNX Runtime's QuantizeLinear
    truncates float16 instead of rounding it up to 1.29 (https://github.com/microsoft/onnxruntime/pull/32452).
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for tensor in graph.initializer:
        _widen(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.FLOAT
            if attribute.HasField("t"):
                _widen(attribute.t)
    del graph.value_info[:]
    onnx.checker.check_model(result, full_check=True)
    return result


def _widen(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT16:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))


def _check_opset(model: onnx.ModelProto) -> None:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version < 19 and any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise EdgeferError(
            f"the model has Q/DQ in opset {version}, and their scales can be FP16 from opset 19 on",
            hint="quantise it for a target that is strongly typed",
        )


class _Typing:
    """Writes the node list once, in order; casts are put where a tensor of one type meets a reader of the other."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        self.types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.single = self._normalisation()
        self.nodes: list[onnx.NodeProto] = []
        self.lowered: dict[str, str] = {}  # float32 tensor or constant → its float16 form

    def _normalisation(self) -> set[str]:
        """Tensors that only operators of :data:`_BEFORE` stand between the faces and."""
        single = {INPUT_NAME}
        for node in self.graph.node:
            moved = [name for name in node.input if name and name not in self.constants]
            if node.op_type in _BEFORE and moved and all(name in single for name in moved):
                single.update(node.output)
        return single

    def write(self) -> None:
        """Change the graph in place."""
        outputs = {value.name for value in self.graph.output}
        for original in self.graph.node:
            node = onnx.NodeProto()
            node.CopyFrom(original)
            lowers = not self.single.issuperset(original.output) and any(map(self._is_float, original.output))
            # what makes integers or truth values of halves reads its constants in float16 too
            if lowers or node.op_type == "QuantizeLinear" or any(map(self._is_fp16, original.input)):
                self._lower(node)
            self.nodes.append(node)
            for position, name in enumerate(original.output):
                if lowers and name in outputs and self._is_float(name):
                    node.output[position] = f"{name}_fp16"
                    self.lowered[name] = f"{name}_fp16"
                    cast = helper.make_node("Cast", [f"{name}_fp16"], [name], name=f"{name}/Cast", to=TensorProto.FLOAT)
                    self.nodes.append(cast)
        self._finish()

    def _is_float(self, name: str) -> bool:
        return self.types.get(name) == TensorProto.FLOAT

    def _is_fp16(self, name: str) -> bool:
        return self._is_float(name) and name not in self.single and name not in self.constants

    def _lower(self, node: onnx.NodeProto) -> None:
        """Let ``node`` read float16 wherever it read float32."""
        for position, name in enumerate(node.input):
            if position in _FLOAT_INPUTS.get(node.op_type, ()):
                continue
            if name in self.constants:
                if self.constants[name].data_type == TensorProto.FLOAT:
                    node.input[position] = self._fp16_constant(name)
            elif name in self.single and self._is_float(name):
                node.input[position] = self._cast_down(name)
            elif name in self.lowered:  # a network output that is read on
                node.input[position] = self.lowered[name]
        if node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                    attribute.i = TensorProto.FLOAT16

    def _fp16_constant(self, name: str) -> str:
        if name not in self.lowered:
            value = numpy_helper.to_array(self.constants[name])
            largest = float(np.abs(value).max(initial=0.0))
            if not largest <= _LARGEST:
                raise EdgeferError(
                    f"the constant '{name}' holds {largest:.4g}, and FP16 ends at {_LARGEST:.0f}",
                    hint="build with --fp32, or --int8 without --fp16",
                )
            self.lowered[name] = f"{name}_fp16"
            self.constants[f"{name}_fp16"] = numpy_helper.from_array(value.astype(np.float16), f"{name}_fp16")
        return self.lowered[name]

    def _cast_down(self, name: str) -> str:
        if name not in self.lowered:
            self.lowered[name] = f"{name}_fp16"
            node = helper.make_node("Cast", [name], [f"{name}_fp16"], name=f"{name}/Cast", to=TensorProto.FLOAT16)
            self.nodes.append(node)
        return self.lowered[name]

    def _finish(self) -> None:
        used = {name for node in self.nodes for name in node.input}
        kept = [tensor for name, tensor in self.constants.items() if name in used]
        copies = onnx.GraphProto()
        copies.node.extend(self.nodes)
        copies.initializer.extend(kept)
        del self.graph.node[:], self.graph.initializer[:]
        self.graph.node.extend(copies.node)
        self.graph.initializer.extend(copies.initializer)

"""Changes to a foreign graph: its end cut, its batch freed, its operator set, a uint8 input in front."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, helper, numpy_helper, version_converter

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.errors import EdgeferError
from edgefer.graph.foreign import RESHAPING
from edgefer.graph.names import canonicalise

OPSET = 17
"""TensorRT 8 reads no more."""

LEAST_OPSET = 13
"""Per-channel QuantizeLinear begins here."""


@dataclass(frozen=True)
class Head:
    """What stood at the end of the graph: ``kind`` is ``"Softmax"``, ``"LogSoftmax"`` or ``""``."""

    kind: str

    def applied(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """The answer that the uncut graph would give for ``logits``, N×classes."""
        if not self.kind:
            return logits
        shifted = logits - logits.max(axis=1, keepdims=True)
        total = np.exp(shifted).sum(axis=1, keepdims=True)
        answer: NDArray[np.float64] = np.exp(shifted) / total if self.kind == "Softmax" else shifted - np.log(total)
        return answer


def cut_head(model: onnx.ModelProto, output: str) -> tuple[onnx.ModelProto, Head]:
    """A copy with ``output`` as its only output, taken before a Softmax or LogSoftmax at its end."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    maker = {name: node for node in graph.node for name in node.output}
    kept = [value for value in graph.output if value.name == output]
    del graph.output[:]
    graph.output.extend(kept)
    node = maker.get(output)
    while node is not None and node.op_type in RESHAPING:
        node = maker.get(node.input[0])
    if node is None or node.op_type not in ("Softmax", "LogSoftmax"):
        return canonicalise(result), Head("")
    head = Head(node.op_type)
    node.op_type = "Identity"
    del node.attribute[:]
    return canonicalise(result), head


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that ``model`` is written in."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def to_opset(model: onnx.ModelProto, origin: Path) -> tuple[onnx.ModelProto, str]:
    """``model`` in opset 17 if onnx can convert it, and a sentence about that (``""`` where it was 17 already).

    Raises:
        EdgeferError: it cannot, and the model's own opset is under 13.
    """
    version = opset_of(model)
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    del plain.opset_import[:]
    plain.opset_import.append(helper.make_opsetid("", version))  # imports of other domains that no node uses
    if version == OPSET:
        return _dated(plain), ""
    try:
        converted: onnx.ModelProto = version_converter.convert_version(plain, OPSET)
        onnx.checker.check_model(converted, full_check=True)
    except Exception as cause:  # its errors share no base class but Exception
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        if version < LEAST_OPSET:
            raise EdgeferError(
                f"{origin} is in opset {version}, which onnx {onnx.__version__} cannot convert to {OPSET}: {reason}",
                hint=f"export it again with opset_version={OPSET}; {LEAST_OPSET} is the least",
            ) from cause
        return _dated(plain), f"it stays in opset {version}, which cannot be converted to {OPSET} ({reason})"
    return _dated(canonicalise(converted)), f"opset {version} was converted to {OPSET}"


def _dated(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the model the oldest file format that has its operators: older runtimes then read it."""
    model.ir_version = helper.find_min_ir_version_for(list(model.opset_import))
    return model


def with_free_batch(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """A copy of a model for one face whose Reshapes leave the batch free, and how many were rewritten.

    Whether nothing else has the batch built in shows when it is run.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    rewritten = 0
    for node in graph.node:
        if node.op_type != "Reshape" or node.input[0] in constants or node.input[1] not in constants:
            continue
        shape: NDArray[Any] = numpy_helper.to_array(constants[node.input[1]]).copy()
        if shape.ndim != 1 or len(shape) < 2 or shape[0] != 1:
            continue
        shape[0] = 0 if -1 in shape else -1  # 0: as in the input
        rewritten += 1
        name = f"{node.output[0]}_free_shape"
        graph.initializer.append(numpy_helper.from_array(shape, name))
        node.input[1] = name
    return result, rewritten


def behind_faces(model: onnx.ModelProto, entry: str, layout: str, contract: Contract) -> onnx.ModelProto:
    """``model``, with one output, behind ``faces`` uint8 N×H×W×C: Cast, layout, ``·a``, ``+b``; its output ``logits``.

    The nodes are those of :class:`edgefer.models.deployable.Deployable`.
    """
    prefixed: onnx.ModelProto = compose.add_prefix(model, "foreign/")
    graph = prefixed.graph
    a, b = contract.normalisation.affine()
    axes = [1, 1, 1, 1]
    axes[layout.index("C")] = contract.channels
    nodes = [helper.make_node("Cast", [INPUT_NAME], ["float"], to=onnx.TensorProto.FLOAT)]
    if layout == "NCHW":
        nodes.append(helper.make_node("Transpose", [nodes[-1].output[0]], ["planes"], perm=[0, 3, 1, 2]))
    steps = [("Mul", "a", a, bool((a != 1).any())), ("Add", "b", b, bool((b != 0).any()))]
    for kind, name, values, needed in steps:
        if needed:
            graph.initializer.append(numpy_helper.from_array(values.reshape(axes), name))
            nodes.append(helper.make_node(kind, [nodes[-1].output[0], name], [f"{name}_out"]))
    scores = graph.output[0].name
    body = [*nodes, helper.make_node("Identity", [nodes[-1].output[0]], [f"foreign/{entry}"]), *graph.node]
    body.append(helper.make_node("Identity", [scores], [OUTPUT_NAME]))
    faces = helper.make_tensor_value_info(INPUT_NAME, onnx.TensorProto.UINT8, ["N", *contract.face_shape])
    logits = helper.make_tensor_value_info(OUTPUT_NAME, onnx.TensorProto.FLOAT, ["N", len(contract.labels)])
    made = helper.make_graph(body, "network", [faces], [logits], list(graph.initializer))
    result: onnx.ModelProto = helper.make_model(
        made, opset_imports=list(prefixed.opset_import), ir_version=prefixed.ir_version
    )
    return result

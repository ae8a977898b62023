"""Batch norms into the weights of the convolution or fully connected layer before them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgefer.graph.rewriting.editing import Editing, attributes


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
    replaced = helper.make_node(layer.op_type, [layer.input[0], *names], [output], **own)
    editing.replace([layer, norm], [replaced])
    return True

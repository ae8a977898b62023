"""Which ONNX operators have an integer kernel, and how each is treated."""

from __future__ import annotations

from typing import Final

WEIGHTED: Final = frozenset({"Conv", "Gemm", "MatMul"})
"""Multiply activations by constant weights: where the arithmetic is. They start a stretch of INT8."""

FLOAT_RESULT: Final = frozenset({"Gemm", "MatMul"})
"""Of those, the ones whose integer kernel can write float32, so that logits need no rounding."""

RANGE_KEEPING: Final = frozenset(
    {"MaxPool", "Flatten", "Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Concat"}
)
"""Move or select values and compute none: they run in integer where both sides share one scale."""

JOINING: Final = frozenset({"Add"})
"""Take two activations; in integer where both are INT8 already."""

POOLING: Final = frozenset({"AveragePool", "GlobalAveragePool"})
"""Average an INT8 activation into one of another scale."""

FUSED_ACTIVATIONS: Final = frozenset({"Relu", "Clip"})
"""Done by the saturation of the layer before: no Q/DQ stands between."""

FUSES_ACTIVATION: Final = frozenset({"Conv", "Gemm", "MatMul", "Add"})
"""The layers that a Relu or Clip is fused into."""

POINTWISE: Final = frozenset({"LeakyRelu"}) | FUSED_ACTIVATIONS
"""Functions of one value that CPU engines have integer tables for; TensorRT fuses them in float instead."""

RULED: Final = WEIGHTED | RANGE_KEEPING | JOINING | POOLING | POINTWISE
"""Every operator that can become INT8."""

"""Constant weights and biases in integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

_MOST_BIAS = 2**30  # half of int32's range, the other half is for the sum that the bias is added to


def channel_axis(node: onnx.NodeProto) -> int:
    """The axis of a Conv's, Gemm's or MatMul's weights that its output channels lie along."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul":
        return 1
    transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
    return 0 if transposed else 1


def weight_scales(
    weights: NDArray[np.float32], axis: int, limit: int, bias: NDArray[np.float32] | None, input_scale: float
) -> NDArray[np.float32]:
    """One scale a channel, float32 (channels,): ``max|w| / limit``.

    Raised where the channel's ``bias / (input_scale · scale)`` would not fit int32 (weights much smaller than their
    bias); 1 where a channel is all zeros.
    """
    others = tuple(a for a in range(weights.ndim) if a != axis)
    scales: NDArray[np.float64] = np.abs(weights).max(axis=others).astype(np.float64) / limit
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (input_scale * _MOST_BIAS))
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

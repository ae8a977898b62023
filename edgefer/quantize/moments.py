"""What a layer reads, in float and as the quantised network gives it: second moments, summed over faces and places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer.graph.rewrite import attributes

Array = NDArray[np.float64]

_PLACES = 36
"""Positions a batch that are looked at of a convolution's output; all of one face say much the same."""


@dataclass
class Moments:
    """Sums over columns ``x`` (what one output value is computed from: K inputs) of G groups.

    Attributes:
        count: columns seen.
        float_sum, int8_sum: G×K, of ``x`` in the float and ``x̂`` in the quantised network.
        second: G×K×K, of ``x̂·x̂ᵀ``; cross: of ``x·x̂ᵀ``.
    """

    count: int
    float_sum: Array
    int8_sum: Array
    second: Array
    cross: Array

    @classmethod
    def empty(cls, groups: int, inputs: int) -> Moments:
        """Nothing seen yet."""
        square = (groups, inputs, inputs)
        return cls(0, np.zeros((groups, inputs)), np.zeros((groups, inputs)), np.zeros(square), np.zeros(square))

    def add(self, in_float: NDArray[np.float32], in_int8: NDArray[np.float32]) -> None:
        """Count G×K×n columns of both networks, of the same faces and places."""
        self.count += in_float.shape[2]
        self.float_sum += in_float.sum(axis=2, dtype=np.float64)
        self.int8_sum += in_int8.sum(axis=2, dtype=np.float64)
        transposed = in_int8.transpose(0, 2, 1)
        self.second += in_int8 @ transposed
        self.cross += in_float @ transposed

    def means(self) -> tuple[Array, Array]:
        """Of ``x`` and of ``x̂``, G×K."""
        return self.float_sum / self.count, self.int8_sum / self.count

    def centred(self) -> tuple[Array, Array]:
        """Covariance of ``x̂``, and of ``x`` with ``x̂``: G×K×K."""
        mean, rounded = self.means()
        transposed = rounded[:, None, :]
        return (
            self.second / self.count - rounded[:, :, None] * transposed,
            self.cross / self.count - mean[:, :, None] * transposed,
        )


class Columns:
    """Cuts what a Conv, Gemm or MatMul reads into columns, at places that ``random`` chooses alike for two tensors."""

    def __init__(self, node: onnx.NodeProto, weights: tuple[int, ...]) -> None:
        settings = attributes(node)
        self.spatial = node.op_type == "Conv"
        self.groups = int(settings.get("group", 1)) if self.spatial else 1
        if not self.spatial:
            self.inputs = weights[1] if settings.get("transB", 0) else weights[0]
            return
        self.kernel = (weights[2], weights[3])
        self.strides = tuple(settings.get("strides", (1, 1)))
        self.dilations = tuple(settings.get("dilations", (1, 1)))
        self.pads = tuple(settings.get("pads", (0, 0, 0, 0)))
        self.inputs = weights[1] * weights[2] * weights[3]

    @staticmethod
    def supported(node: onnx.NodeProto, weights: tuple[int, ...]) -> bool:
        """Whether the columns of ``node`` can be cut: no automatic padding, two spatial axes, a plain matrix."""
        if node.op_type != "Conv":
            return len(weights) == 2
        return len(weights) == 4 and attributes(node).get("auto_pad", b"NOTSET") == b"NOTSET"

    def both(
        self, in_float: NDArray[Any], in_int8: NDArray[Any], random: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The columns, float32 G×K×n, of the same places in both tensors."""
        if not self.spatial:
            one, two = (x.reshape(-1, self.inputs).T[None].astype(np.float32) for x in (in_float, in_int8))
            return one, two
        top, left, bottom, right = self.pads
        height, width = (
            (in_float.shape[2 + axis] + self.pads[axis] + self.pads[axis + 2] - self._reach(axis)) // self.strides[axis]
            + 1
            for axis in (0, 1)
        )
        places = random.permutation(height * width)[:_PLACES]
        rows, columns = np.divmod(places, width)
        found = []
        for tensor in (in_float, in_int8):
            padded = np.pad(tensor, ((0, 0), (0, 0), (top, bottom), (left, right)))
            found.append(self._cut(padded, rows * self.strides[0], columns * self.strides[1]))
        return found[0], found[1]

    def _reach(self, axis: int) -> int:
        return int(self.dilations[axis] * (self.kernel[axis] - 1) + 1)

    def _cut(self, padded: NDArray[Any], rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        down = np.arange(self.kernel[0]) * self.dilations[0]
        across = np.arange(self.kernel[1]) * self.dilations[1]
        patches = padded[:, :, (rows[:, None] + down)[:, :, None], (columns[:, None] + across)[:, None, :]]
        channels = padded.shape[1]  # patches: N×C×places×kh×kw
        moved = patches.transpose(1, 3, 4, 0, 2).reshape(self.groups, channels // self.groups, *self.kernel, -1)
        return np.ascontiguousarray(moved.reshape(self.groups, self.inputs, -1), dtype=np.float32)

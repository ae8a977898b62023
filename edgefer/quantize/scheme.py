"""Q/DQ schemes, the forms of INT8 graphs that runtimes need: the only place where quantisation knows runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgefer import runtimes
from edgefer.errors import EdgeferError


@dataclass(frozen=True)
class Scheme:
    """The form of an INT8 file that one runtime computes in integers, made from a plan and ranges.

    Attributes:
        name: its name in options and manifests.
        activation: type of the activations; weights are int8 everywhere.
        symmetric: zero point 0 (``int8`` only); otherwise the range need not be centred.
        placement: ``"all"``: Q/DQ on every tensor that an integer kernel reads or writes (runtimes that replace
            DQ → op → Q by an integer operator); ``"inputs"``: on what integer kernels read (compilers that fuse
            whatever follows a layer into it).
        bias: ``"int32"`` with scale s_x · s_w, or left ``"float"``.
        weight_bits: 8, or 7 where uint8 × int8 products are summed in saturating 16 bits.
        opset: the smallest opset the file must have; None keeps the model's.
        fp16_scales: scales are values that float16 holds exactly, so that the file can be typed FP16 without a change.
    """

    name: str
    activation: Literal["uint8", "int8"]
    symmetric: bool
    placement: Literal["all", "inputs"]
    bias: Literal["int32", "float"]
    weight_bits: Literal[7, 8] = 8
    opset: int | None = None
    fp16_scales: bool = False

    def __post_init__(self) -> None:
        if self.symmetric and self.activation == "uint8":
            raise EdgeferError(f"scheme {self.name}: a symmetric range needs int8 activations, not uint8")

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and largest activation level that scales are computed for."""
        if self.activation == "uint8":
            return 0, 255
        return (-127, 127) if self.symmetric else (-128, 127)

    @property
    def weight_limit(self) -> int:
        """Weights lie in −limit … limit."""
        return 127 if self.weight_bits == 8 else 63

    def scale_and_zero_point(self, low: float, high: float) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
        """The scalar scale (float32) and zero point (of the activation's type) for values in ``low`` … ``high``.

        The range is widened to hold zero, so that zero (padding, a silent ReLU) is exact. A range without any width
        gets scale 1.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        lowest, highest = self.limits
        if self.symmetric:
            low, high = -max(-low, high), max(-low, high)
        scale = np.float32((high - low) / (highest - lowest))
        if scale < np.finfo(np.float32).tiny:  # nothing but zeros, or subnormals that kernels flush to zero
            scale = np.float32(1.0)
        scale = np.float32(self.stored(np.asarray(scale)))
        zero = 0 if self.symmetric else int(np.clip(np.rint(lowest - low / float(scale)), lowest, highest))
        return np.asarray(scale), np.asarray(zero, dtype=self.activation)

    def stored(self, scales: NDArray[np.float32]) -> NDArray[np.float32]:
        """``scales`` as the file can hold them: rounded up where it is to float16, so that no value is clipped more.

        Scales beyond float16's ends become its ends: the smallest is 6e-8, the largest 65504.
        """
        if not self.fp16_scales:
            return scales
        largest = np.finfo(np.float16).max
        halves = np.clip(scales, np.finfo(np.float16).smallest_subnormal, largest).astype(np.float16)
        short = (halves.astype(np.float32) < scales) & (halves < largest)
        return np.where(short, np.nextafter(halves, np.float16(np.inf)), halves).astype(np.float32)


X86_VNNI = Scheme("x86-vnni", "uint8", symmetric=False, placement="all", bias="int32")
X86 = Scheme("x86", "uint8", symmetric=False, placement="all", bias="int32", weight_bits=7)
ARM = Scheme("arm", "uint8", symmetric=False, placement="all", bias="int32")
ARM_SIGNED = Scheme("arm-signed", "int8", symmetric=False, placement="all", bias="int32")
OPENVINO_ALL = Scheme("openvino-all", "uint8", symmetric=False, placement="all", bias="float")
OPENVINO_INPUTS = Scheme("openvino-inputs", "int8", symmetric=True, placement="inputs", bias="float")
TENSORRT_SCHEME = Scheme(runtimes.TENSORRT.name, "int8", symmetric=True, placement="inputs", bias="float")
TENSORRT_FP16 = Scheme(
    "tensorrt-fp16", "int8", symmetric=True, placement="inputs", bias="float", opset=19, fp16_scales=True
)

SCHEMES = {
    f.name: f for f in (X86_VNNI, X86, ARM, ARM_SIGNED, OPENVINO_ALL, OPENVINO_INPUTS, TENSORRT_SCHEME, TENSORRT_FP16)
}
"""Every named scheme."""


def named_scheme(name: str) -> Scheme:
    """The named scheme.

    Raises:
        EdgeferError: there is none of that name.
    """
    if name not in SCHEMES:
        raise EdgeferError(f"there is no scheme '{name}'", hint=f"one of: {', '.join(SCHEMES)}")
    return SCHEMES[name]

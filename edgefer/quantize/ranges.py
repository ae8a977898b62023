"""Histograms of a network's activations, and the range that 8 bits will span: what each method makes of a histogram."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError

HALF_BINS = 2048
"""Bins on each side of zero; 16 for each of the 128 levels that a signed 8-bit value has on that side."""

MIN_EXPONENT = -64
"""A tensor whose largest magnitude is below 2⁻⁶⁴ is counted as if that were its range."""


_CHUNK = 1 << 15  # values at a time: the scratch buffers (4 + 8 + 1 bytes a value) stay in the second-level cache


@dataclass
class Histogram:
    """Counts of float values in 2 × 2048 equal bins over [−2ᵉ, 2ᵉ), with the exact extremes.

    When a value falls outside, the range doubles and neighbouring bins merge in pairs. Because bins start at zero and
    widths are powers of two, the outcome is exactly what one pass at the final range would have counted.

    Attributes:
        exponent: e; the range is ``2.0**exponent`` on each side.
        counts: int64 (4096,); bin ``i`` holds values in ``[(i − 2048)·width, (i − 2047)·width)``.
        minimum, maximum: the exact extremes seen (``inf``, ``-inf`` before the first value).
        count: number of values seen; zeros: number of them that are exactly zero.
    """

    exponent: int = MIN_EXPONENT
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * HALF_BINS, np.int64))
    minimum: float = math.inf
    maximum: float = -math.inf
    count: int = 0
    zeros: int = 0

    @property
    def width(self) -> float:
        """Width of one bin, in the units of the tensor."""
        return math.ldexp(1.0, self.exponent) / HALF_BINS

    def add(self, values: NDArray[Any]) -> bool:
        """Count ``values`` (float, any shape); False, and nothing counted, where one is NaN or infinite."""
        flat = np.ravel(np.asarray(values, dtype=np.float32))
        if flat.size == 0:
            return True
        low, high = float(flat.min()), float(flat.max())  # NaN wins both, so two numbers tell whether all are finite
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        self.grow(math.frexp(max(-low, high))[1])  # frexp: |x| < 2ᵉ strictly, so the top edge is never hit
        self._count(flat)
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.count += flat.size
        return True

    def _count(self, flat: NDArray[np.float32]) -> None:
        factor = np.float32(1.0 / self.width)
        scaled = np.empty(min(_CHUNK, flat.size), np.float32)
        index = np.empty(scaled.size, np.intp)
        zero = np.empty(scaled.size, np.bool_)
        for start in range(0, flat.size, _CHUNK):
            part = flat[start : start + _CHUNK]
            size = part.size
            np.equal(part, 0.0, out=zero[:size])
            self.zeros += int(np.count_nonzero(zero[:size]))
            np.multiply(part, factor, out=scaled[:size])  # exact: a power of two
            np.floor(scaled[:size], out=scaled[:size])  # before the shift: −1e-9 + 2048 would round into bin 2048
            np.add(scaled[:size], HALF_BINS, out=index[:size], casting="unsafe")
            self.counts += np.bincount(index[:size], minlength=2 * HALF_BINS)

    def grow(self, exponent: int) -> None:
        """Widen the range to ``2**exponent`` by merging pairs of bins; never narrows."""
        if exponent <= self.exponent:
            return
        steps = exponent - self.exponent
        self.exponent = exponent
        if self.count == 0:
            return
        for _ in range(min(steps, HALF_BINS.bit_length())):  # after 12 halvings everything is in the two middle bins
            pairs = self.counts[0::2] + self.counts[1::2]
            self.counts[:] = 0
            self.counts[HALF_BINS // 2 : HALF_BINS // 2 + HALF_BINS] = pairs


@dataclass(frozen=True)
class Chosen:
    """What every method makes of one tensor's histogram: all that a calibration table keeps of it.

    Attributes:
        minimum, maximum: the exact extremes of the tensor.
        spans: method → low and high end, and the magnitude of the symmetric range.
    """

    minimum: float
    maximum: float
    spans: Mapping[str, tuple[float, float, float]]

    @classmethod
    def of(cls, observed: Histogram | Chosen) -> Chosen:
        """The ranges of ``observed`` by every method of :data:`METHODS`."""
        if isinstance(observed, Chosen):
            return observed
        spans = {}
        for method in METHODS:
            low, high = threshold(observed, method, symmetric=False)
            spans[method] = low, high, threshold(observed, method, symmetric=True)[1]
        return cls(observed.minimum, observed.maximum, spans)


@dataclass(frozen=True)
class Ranges:
    """The observations of calibration.

    Attributes:
        model: :func:`~edgefer.quantize.graphview.fingerprint` of the network that was observed.
        faces: number of faces that went through it.
        tensors: tensor name → its :class:`Histogram`, or what a calibration table keeps of it.
    """

    model: str
    faces: int
    tensors: Mapping[str, Histogram | Chosen]

    def __getitem__(self, tensor: str) -> Histogram | Chosen:
        """What was observed of ``tensor``.

        Raises:
            EdgeferError: nothing was.
        """
        if tensor not in self.tensors:
            raise EdgeferError(
                f"the ranges hold no tensor '{tensor}' ({len(self.tensors)} others, of model {self.model[:12]}…)",
                hint="they belong to another model or another export of it; calibrate this one",
            )
        return self.tensors[tensor]


DEFAULT_METHOD = "percentile"
DEFAULT_PERCENTILE = 99.99

_MSE_RATIOS = np.linspace(0.2, 1.0, 161)
_KL_CANDIDATES = 128
_KL_MAX_CLIPPED = 1e-3
Range = tuple[float, float]


def threshold(
    histogram: Histogram | Chosen,
    method: str = DEFAULT_METHOD,
    *,
    symmetric: bool,
    percentile: float = DEFAULT_PERCENTILE,
) -> Range:
    """``(low, high)`` to quantise a tensor to, float32 values; zero lies within, and neither end is beyond the exact
    extremes (``symmetric``: beyond the largest magnitude).

    Args:
        histogram: the tensor's histogram, not empty; or the ranges that a table keeps, by the default percentile.
        method: ``minmax``, ``percentile``, ``mse`` or ``entropy``.
        symmetric: ``low == -high``; otherwise the ends are found apart.
        percentile: percentage of the values on each side (of the magnitudes, where symmetric) that are not clipped.

    Raises:
        EdgeferError: unknown method, a percentile outside (50, 100], an empty histogram.
    """
    if method not in METHODS:
        raise EdgeferError(f"there is no calibration method '{method}'", hint=f"one of: {', '.join(METHODS)}")
    if not 50.0 < percentile <= 100.0:
        raise EdgeferError(f"the percentile must be above 50 and at most 100, not {percentile}", hint="99.99 is usual")
    if isinstance(histogram, Chosen):
        low, high, magnitude = histogram.spans[method]
        return (-magnitude, magnitude) if symmetric else (low, high)
    if histogram.count == 0:
        raise EdgeferError("a tensor's histogram is empty: no face has been through it", hint="calibrate again")
    low, high = METHODS[method](histogram, symmetric, percentile)
    low, high = max(min(low, 0.0), min(histogram.minimum, 0.0)), min(max(high, 0.0), max(histogram.maximum, 0.0))
    low, high = float(np.float32(low)), float(np.float32(high))  # as calibration tables keep them
    return (-max(-low, high), max(-low, high)) if symmetric else (low, high)


def _minmax(histogram: Histogram, symmetric: bool, percentile: float) -> Range:
    return histogram.minimum, histogram.maximum


def _percentile(histogram: Histogram, symmetric: bool, percentile: float) -> Range:
    keep = histogram.count * percentile / 100.0
    if symmetric:
        bins = int(np.searchsorted(np.cumsum(_magnitudes(histogram)), keep)) + 1
        return -bins * histogram.width, bins * histogram.width
    above = int(np.searchsorted(np.cumsum(histogram.counts), keep))
    below = int(np.searchsorted(np.cumsum(histogram.counts[::-1]), keep))
    return (HALF_BINS - 1 - below) * histogram.width, (above + 1 - HALF_BINS) * histogram.width


def _mse(histogram: Histogram, symmetric: bool, percentile: float) -> Range:
    """The clip ratio with the smallest mean squared error over the histogram, of 161 ratios of the full range."""
    low, high = min(histogram.minimum, 0.0), max(histogram.maximum, 0.0)
    if symmetric:
        low, high = -max(-low, high), max(-low, high)
    if low == high:
        return low, high
    used = np.flatnonzero(histogram.counts)
    counts = histogram.counts[used].astype(np.float64)
    counts[used == HALF_BINS] -= histogram.zeros  # zero is always a level: no error, and not at the bin's centre
    values = (used - HALF_BINS + 0.5) * histogram.width
    scales = _MSE_RATIOS * (high - low) / (254 if symmetric else 255)
    lowest = np.rint(low / (high - low) * 255) if not symmetric else -127.0
    levels = np.clip(np.rint(values[None, :] / scales[:, None]), lowest, lowest + (254 if symmetric else 255))
    error = ((levels * scales[:, None] - values[None, :]) ** 2) @ counts
    best = float(_MSE_RATIOS[int(np.argmin(error))])
    return low * best, high * best


def _entropy(histogram: Histogram, symmetric: bool, percentile: float) -> Range:
    """The magnitude whose clipped, 8-bit distribution has the smallest Kullback–Leibler divergence from the true one.

    After Migacz, "8-bit inference with TensorRT" (GTC 2017), with the exact zeros left out: a ReLU's spike at zero
    would otherwise outweigh everything else. At most one value in a thousand is clipped.
    """
    counts = _magnitudes(histogram).astype(np.float64)
    counts[0] -= histogram.zeros
    used = np.flatnonzero(counts)
    if used.size == 0:
        return _minmax(histogram, symmetric, percentile)
    size = int(used[-1]) + 1
    one_sided = histogram.minimum >= 0 or histogram.maximum <= 0
    levels = 256 if one_sided and not symmetric else 128
    # A spike elsewhere than zero (a channel that mostly is its bias) misleads KL as zeros do: bound what it may clip.
    first = int(np.searchsorted(np.cumsum(counts), counts.sum() * (1.0 - _KL_MAX_CLIPPED))) + 1
    ends = np.unique(np.linspace(min(max(levels, first), size), size, _KL_CANDIDATES).astype(int))
    best = min(ends, key=lambda end: (_divergence(counts[:size], int(end), levels), -end))
    magnitude = float(best) * histogram.width
    return -magnitude, magnitude


def _divergence(counts: NDArray[np.float64], end: int, levels: int) -> float:
    """KL(P ‖ Q) of ``counts`` clipped at bin ``end`` and of its ``levels``-step version; in nats."""
    kept = counts[:end]
    clipped = kept.copy()
    clipped[-1] += counts[end:].sum()
    starts = np.unique(np.arange(levels) * end // levels)
    lengths = np.diff(np.append(starts, end))
    filled = np.add.reduceat((kept > 0).astype(np.float64), starts)
    each = np.divide(np.add.reduceat(kept, starts), filled, out=np.zeros(starts.size), where=filled > 0)
    coarse = np.where(kept > 0, np.repeat(each, lengths), 0.0)
    if coarse.sum() == 0:
        return float("inf")
    p, q = clipped / clipped.sum(), coarse / coarse.sum()
    both = (p > 0) & (q > 0)
    missed = float(p[(p > 0) & (q == 0)].sum())  # the clipped mass fell on an empty bin: Q cannot explain it
    return float(np.sum(p[both] * np.log(p[both] / q[both]))) + missed * 20.0


def _magnitudes(histogram: Histogram) -> NDArray[np.int64]:
    return histogram.counts[HALF_BINS:] + histogram.counts[HALF_BINS - 1 :: -1]


METHODS: dict[str, Callable[[Histogram, bool, float], Range]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "mse": _mse,
    "entropy": _entropy,
}
"""Calibration methods by name."""

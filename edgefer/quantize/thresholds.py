"""From a histogram to the range that 8 bits will span."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.quantize.histogram import HALF_BINS, Histogram

DEFAULT_METHOD = "percentile"
DEFAULT_PERCENTILE = 99.99

_MSE_RATIOS = np.linspace(0.2, 1.0, 161)
_KL_CANDIDATES = 128
_KL_MOST_CLIPPED = 1e-3
Range = tuple[float, float]


def threshold(
    histogram: Histogram,
    method: str = DEFAULT_METHOD,
    *,
    symmetric: bool,
    percentile: float = DEFAULT_PERCENTILE,
) -> Range:
    """``(low, high)`` to quantise a tensor to; zero lies within, and neither end is beyond the exact extremes
    (``symmetric``: beyond the largest magnitude).

    Args:
        histogram: of the tensor, not empty.
        method: ``minmax``, ``percentile``, ``mse`` or ``entropy``.
        symmetric: ``low == -high``; otherwise the ends are found apart.
        percentile: of the values on each side (of the magnitudes, where symmetric) that are not clipped.

    Raises:
        EdgeferError: unknown method, a percentile outside (50, 100], an empty histogram.
    """
    if method not in METHODS:
        raise EdgeferError(f"there is no calibration method '{method}'", hint=f"one of: {', '.join(METHODS)}")
    if not 50.0 < percentile <= 100.0:
        raise EdgeferError(f"the percentile must be above 50 and at most 100, not {percentile}", hint="99.99 is usual")
    if histogram.count == 0:
        raise EdgeferError("a tensor's histogram is empty: no face has been through it", hint="calibrate again")
    low, high = METHODS[method](histogram, symmetric, percentile)
    low, high = max(min(low, 0.0), min(histogram.minimum, 0.0)), min(max(high, 0.0), max(histogram.maximum, 0.0))
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
    """The clip ratio with the least mean squared error over the histogram, of 161 ratios of the full range."""
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
    least = np.rint(low / (high - low) * 255) if not symmetric else -127.0
    levels = np.clip(np.rint(values[None, :] / scales[:, None]), least, least + (254 if symmetric else 255))
    error = ((levels * scales[:, None] - values[None, :]) ** 2) @ counts
    best = float(_MSE_RATIOS[int(np.argmin(error))])
    return low * best, high * best


def _entropy(histogram: Histogram, symmetric: bool, percentile: float) -> Range:
    """The magnitude whose clipped, 8-bit distribution has the least Kullback–Leibler divergence from the true one.

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
    first = int(np.searchsorted(np.cumsum(counts), counts.sum() * (1.0 - _KL_MOST_CLIPPED))) + 1
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

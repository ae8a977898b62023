"""Histograms of a network's activations, their text form, and the range that 8 bits will span."""

from __future__ import annotations

import json
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

_MAX_EXPONENT = 128  # of float32

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; runs of empty bins at both ends are left out. :meth:`from_dict` is its inverse."""
        used = np.flatnonzero(self.counts)
        first, last = (int(used[0]), int(used[-1])) if used.size else (HALF_BINS, HALF_BINS - 1)
        return {
            "min": self.minimum,
            "max": self.maximum,
            "count": self.count,
            "zeros": self.zeros,
            "exponent": self.exponent,
            "first_bin": first - HALF_BINS,
            "counts": [int(value) for value in self.counts[first : last + 1]],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Histogram:
        """Read what :meth:`to_dict` wrote.

        Raises:
            KeyError, OverflowError, TypeError, ValueError: it is not that.
        """
        histogram = cls(
            exponent=int(content["exponent"]),
            minimum=float(content["min"]),
            maximum=float(content["max"]),
            count=int(content["count"]),
            zeros=int(content["zeros"]),
        )
        first = int(content["first_bin"]) + HALF_BINS
        counts = np.asarray(content["counts"], dtype=np.int64)
        if first < 0 or first + counts.size > 2 * HALF_BINS:
            raise ValueError(f"bins {first}…{first + counts.size} are outside 0…{2 * HALF_BINS}")
        histogram.counts[first : first + counts.size] = counts
        if int(histogram.counts.sum()) != histogram.count:
            raise ValueError(f"its bins sum to {int(histogram.counts.sum())}, its count is {histogram.count}")
        histogram._check()
        return histogram

    def _check(self) -> None:
        """Raise a ValueError where no values could have been counted like that."""
        if not MIN_EXPONENT <= self.exponent <= _MAX_EXPONENT:
            raise ValueError(f"the exponent {self.exponent} is outside {MIN_EXPONENT}…{_MAX_EXPONENT}")
        if int(self.counts.min()) < 0 or not 0 <= self.zeros <= int(self.counts[HALF_BINS]):
            raise ValueError(f"a bin holds fewer than no values, or {self.zeros} zeros do not fit theirs")
        bound = math.ldexp(1.0, self.exponent)
        if self.count and not -bound <= self.minimum <= self.maximum <= bound:
            raise ValueError(f"its extremes {self.minimum:g}…{self.maximum:g} do not lie in its range of ±{bound:g}")


_FORMAT = "edgefer.ranges"
_VERSION = 1


@dataclass(frozen=True)
class Ranges:
    """The observations of calibration.

    Attributes:
        model: :func:`~edgefer.quantize.graphview.fingerprint` of the network that was observed.
        faces: number of faces that went through it.
        histograms: tensor name to :class:`Histogram`.
    """

    model: str
    faces: int
    histograms: Mapping[str, Histogram]

    def __getitem__(self, tensor: str) -> Histogram:
        """The histogram of ``tensor``.

        Raises:
            EdgeferError: it was not observed.
        """
        if tensor not in self.histograms:
            raise EdgeferError(
                f"the ranges hold no tensor '{tensor}' ({len(self.histograms)} others, of model {self.model[:12]}…)",
                hint="they belong to another model or another export of it; calibrate this one",
            )
        return self.histograms[tensor]

    def to_text(self) -> str:
        """JSON lines: a header, then one line per tensor. The same ranges give the same text."""
        header = {
            "format": _FORMAT,
            "version": _VERSION,
            "model": self.model,
            "faces": self.faces,
            "tensors": len(self.histograms),
        }
        lines = [header, *({"tensor": name, **h.to_dict()} for name, h in self.histograms.items())]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    @classmethod
    def from_text(cls, text: str, origin: str = "the calibration table", above: int = 0) -> Ranges:
        """Read what :meth:`to_text` wrote; ``origin`` names the file in errors, with ``above`` lines above the text.

        Raises:
            EdgeferError: it is something else, damaged, or cut short; names the line.
        """
        lines = text.splitlines()
        header = _line(lines, 0, origin, above)
        if header.get("format") != _FORMAT or header.get("version") != _VERSION:
            raise EdgeferError(
                f"{origin} is no calibration table of version {_VERSION}: its first line has format "
                f"{header.get('format')!r}, version {header.get('version')!r}",
                hint="calibrate again, or take the edgefer that wrote it",
            )
        histograms: dict[str, Histogram] = {}
        for number in range(1, len(lines)):
            content = _line(lines, number, origin, above)
            try:
                histograms[str(content["tensor"])] = Histogram.from_dict(content)
            except (KeyError, OverflowError, TypeError, ValueError) as cause:
                raise _damaged(origin, above + number, f"{type(cause).__name__}: {cause}") from cause
        if len(histograms) != header.get("tensors"):
            raise _damaged(
                origin, above + len(lines), f"{header.get('tensors')} tensors announced, {len(histograms)} there"
            )
        try:
            return cls(str(header["model"]), int(header["faces"]), histograms)
        except (KeyError, TypeError, ValueError) as cause:
            raise _damaged(origin, above, f"{type(cause).__name__}: {cause}") from cause


def _line(lines: list[str], number: int, origin: str, above: int) -> dict[str, Any]:
    if number >= len(lines):
        raise EdgeferError(f"{origin} is empty", hint="calibrate again")
    try:
        content = json.loads(lines[number])
    except json.JSONDecodeError as cause:
        raise _damaged(origin, above + number, str(cause)) from cause
    if not isinstance(content, dict):
        raise _damaged(origin, above + number, f"an object is expected, not {type(content).__name__}")
    return content


def _damaged(origin: str, number: int, reason: str) -> EdgeferError:
    return EdgeferError(
        f"{origin}, line {number + 1}: {reason}", hint="the file is damaged or cut short; calibrate again"
    )


DEFAULT_METHOD = "percentile"
DEFAULT_PERCENTILE = 99.99

_MSE_RATIOS = np.linspace(0.2, 1.0, 161)
_KL_CANDIDATES = 128
_KL_MAX_CLIPPED = 1e-3
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
        histogram: the tensor's histogram, not empty.
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

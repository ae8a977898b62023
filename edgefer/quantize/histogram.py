"""A histogram of a stream of activations, in memory that does not depend on how many there are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF_BINS = 2048
"""Bins on each side of zero; 16 for each of the 128 levels that a signed 8-bit value has on that side."""

LEAST_EXPONENT = -64
"""A tensor whose largest magnitude is below 2⁻⁶⁴ is counted as if that were its range."""

_GREATEST_EXPONENT = 128  # of float32

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
        count: how many values were seen; zeros: how many of them were exactly zero.
    """

    exponent: int = LEAST_EXPONENT
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * HALF_BINS, np.int64))
    minimum: float = math.inf
    maximum: float = -math.inf
    count: int = 0
    zeros: int = 0

    @property
    def width(self) -> float:
        """Of one bin, in the units of the tensor."""
        return math.ldexp(1.0, self.exponent) / HALF_BINS

    @property
    def edges(self) -> NDArray[np.float64]:
        """The 4097 bin edges."""
        return np.arange(-HALF_BINS, HALF_BINS + 1, dtype=np.float64) * self.width

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

    def merge(self, other: Histogram) -> None:
        """Add what ``other`` counted; ``other`` is left as it was."""
        copy = Histogram(other.exponent, other.counts.copy(), other.minimum, other.maximum, other.count, other.zeros)
        self.grow(copy.exponent)
        copy.grow(self.exponent)
        self.counts += copy.counts
        self.minimum, self.maximum = min(self.minimum, copy.minimum), max(self.maximum, copy.maximum)
        self.count += copy.count
        self.zeros += copy.zeros

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
        if not LEAST_EXPONENT <= self.exponent <= _GREATEST_EXPONENT:
            raise ValueError(f"the exponent {self.exponent} is outside {LEAST_EXPONENT}…{_GREATEST_EXPONENT}")
        if int(self.counts.min()) < 0 or not 0 <= self.zeros <= int(self.counts[HALF_BINS]):
            raise ValueError(f"a bin holds fewer than no values, or {self.zeros} zeros do not fit theirs")
        bound = math.ldexp(1.0, self.exponent)
        if self.count and not -bound <= self.minimum <= self.maximum <= bound:
            raise ValueError(f"its extremes {self.minimum:g}…{self.maximum:g} do not lie in its range of ±{bound:g}")

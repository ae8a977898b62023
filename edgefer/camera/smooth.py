"""Labels that do not flicker: probabilities are smoothed per face, and a label changes only when it clearly should."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError

Probabilities = NDArray[np.float32]

WINDOW = 10
"""Length of the majority vote, in pictures: ten, as in the tutorials."""

_FORGET = 5.0  # seconds; track numbers are never given twice


@dataclass(frozen=True)
class Smoothing:
    """Settings of smoothing.

    Attributes:
        kind: ``ema`` (exponential mean of probabilities), ``majority`` (of the labels of the last ten pictures)
            or ``none``.
        seconds: time constant of the mean: a change has come through by 63 % after it.
        margin: probability by which another label must lead before it replaces the one that is shown.
        min_confidence: the confidence threshold: below this probability there is no label.
    """

    kind: str = "ema"
    seconds: float = 0.4
    margin: float = 0.08
    min_confidence: float = 0.4

    def __post_init__(self) -> None:
        if self.kind not in ("ema", "majority", "none"):
            raise EdgeferError(f"there is no smoothing '{self.kind}'", hint="--smooth ema, majority or none")
        if not (self.seconds > 0 and 0 <= self.margin < 1 and 0 <= self.min_confidence <= 1):
            raise EdgeferError(
                f"smoothing over {self.seconds:g} s with a margin of {self.margin:g} and a confidence "
                f"threshold of {self.min_confidence:g} makes no sense",
                hint="seconds above 0, the two others from 0 to 1",
            )


@dataclass(frozen=True, eq=False)
class SmoothedLabel:
    """``probabilities``: float32 classes, smoothed; ``label``: the index that is shown, None if unsure."""

    probabilities: Probabilities
    label: int | None


class Smoother:
    """The memory of one face."""

    def __init__(self, smoothing: Smoothing) -> None:
        self._how = smoothing
        self._mean: Probabilities | None = None
        self._votes: deque[int] = deque(maxlen=WINDOW)
        self._at = 0.0
        self._leader: int | None = None
        self._sure = False

    def update(self, probabilities: Probabilities, at: float) -> SmoothedLabel:
        """Take one picture's ``probabilities`` (they sum to 1) at the time ``at`` in seconds."""
        smooth = self._smoothed(probabilities, at)
        top = int(smooth.argmax())
        margin = 0.0 if self._how.kind == "none" else self._how.margin
        if self._leader is None or smooth[top] > smooth[self._leader] + margin:
            self._leader = top
        confidence, limit = float(smooth[self._leader]), self._how.min_confidence
        # what is sure stays so a little below the limit, so that a value at the limit does not blink
        self._sure = confidence >= (limit - margin / 2 if self._sure else limit)
        return SmoothedLabel(smooth, self._leader if self._sure else None)

    def _smoothed(self, probabilities: Probabilities, at: float) -> Probabilities:
        if self._how.kind == "majority":
            self._votes.append(int(probabilities.argmax()))
            counts = Counter(self._votes)
            share = [counts[label] / len(self._votes) for label in range(len(probabilities))]
            return np.array(share, np.float32)
        if self._mean is None or self._how.kind == "none":
            self._mean = probabilities
        else:
            new = 1.0 - math.exp(-max(at - self._at, 0.0) / self._how.seconds)
            self._mean = np.asarray(self._mean + np.float32(new) * (probabilities - self._mean), np.float32)
        self._at = at
        return self._mean


class Smoothers:
    """One :class:`Smoother` a track; those of tracks that ended are forgotten."""

    def __init__(self, smoothing: Smoothing) -> None:
        self._smoothing = smoothing
        self._each: dict[int, Smoother] = {}
        self._seen: dict[int, float] = {}

    def update(self, tracks: Sequence[int], probabilities: Probabilities, at: float) -> list[SmoothedLabel]:
        """A row of ``probabilities`` (float32 N×classes) for each of the ``tracks`` at the time ``at``."""
        for track in tracks:
            self._each.setdefault(track, Smoother(self._smoothing))
            self._seen[track] = at
        for track in [track for track, last in self._seen.items() if at - last > _FORGET]:
            del self._each[track], self._seen[track]
        return [self._each[track].update(row, at) for track, row in zip(tracks, probabilities, strict=True)]

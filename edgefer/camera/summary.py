"""Frames a second, ages and drops, in memory that does not grow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgefer.camera.seen import Seen

_RECENT = 60
_KEPT = 4096


@dataclass(frozen=True)
class Summary:
    """What a run of the app did.

    Attributes:
        read: frames that the source gave.
        shown: frames that reached the sinks.
        dropped: stage → frames that were replaced by a newer one before it.
        seconds: from the first to the last frame shown.
        fps: frames shown a second; None with fewer than two.
        age_p50_ms, age_p95_ms: from reading a frame to having its labels, of the last 4,096; None for a file, whose
            frames wait until they are wanted.
        tracks: different faces.
        reconnects: times that the source came back.
    """

    read: int
    shown: int
    dropped: Mapping[str, int]
    seconds: float
    fps: float | None
    age_p50_ms: float | None
    age_p95_ms: float | None
    tracks: int
    reconnects: int

    def __str__(self) -> str:
        lost = {stage: count for stage, count in self.dropped.items() if count}
        parts = [f"{self.shown:,} frames shown in {self.seconds:.1f} s" + (f", {self.fps:.1f} fps" if self.fps else "")]
        if self.age_p50_ms is not None:
            parts.append(f"frame to label {self.age_p50_ms:.1f} ms (p50), {self.age_p95_ms:.1f} ms (p95)")
        parts.append(f"{self.tracks} face{'s' if self.tracks != 1 else ''}")
        if lost:
            waits = ", ".join(f"{count:,} before {stage}" for stage, count in lost.items())
            parts.append(f"{sum(lost.values()):,} of {self.read:,} frames dropped ({waits})")
        if self.reconnects:
            parts.append(f"{self.reconnects} reconnection{'s' if self.reconnects != 1 else ''}")
        return " · ".join(parts)


class Meter:
    """Counts what reaches the sinks."""

    def __init__(self) -> None:
        self._moments: deque[float] = deque(maxlen=_RECENT)
        self._ages: deque[float] = deque(maxlen=_KEPT)
        self._first = self._last = 0.0
        self._shown = self._tracks = 0

    def count(self, seen: Seen) -> None:
        """One more frame."""
        self._last = time.monotonic()
        if not self._shown:
            self._first = self._last
        self._shown += 1
        self._moments.append(self._last)
        self._ages.append(seen.age_ms)
        self._tracks = max([self._tracks, *(face.tracked.number for face in seen.faces)])

    @property
    def fps(self) -> float | None:
        """Of the last sixty frames."""
        if len(self._moments) < 2 or self._moments[-1] <= self._moments[0]:
            return None
        return (len(self._moments) - 1) / (self._moments[-1] - self._moments[0])

    def summary(self, read: int, dropped: Mapping[str, int], reconnects: int, *, ages: bool) -> Summary:
        """All of it as a value."""
        seconds = self._last - self._first
        spread = np.percentile(self._ages, [50, 95]) if self._ages and ages else None
        return Summary(
            read,
            self._shown,
            dropped,
            seconds,
            (self._shown - 1) / seconds if self._shown > 1 and seconds > 0 else None,
            None if spread is None else float(spread[0]),
            None if spread is None else float(spread[1]),
            self._tracks,
            reconnects,
        )

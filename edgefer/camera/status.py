"""What the app says about its run: a line in the terminal meanwhile, and a summary at its end."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.live import Live
from rich.text import Text

from edgefer.camera.frame import LabelledFrame
from edgefer.progress import console, number_of

_RECENT = 60  # frames over which the current frames per second are taken
_KEPT = 4096  # ages of frames that are kept for percentiles: memory does not grow


@dataclass(frozen=True)
class Summary:
    """Summary of a run of the app.

    Attributes:
        read: frames that the source gave.
        shown: frames that reached the sinks.
        dropped: stage → frames that were replaced by a newer one before it.
        seconds: duration from the first to the last frame shown.
        fps: frames shown per second; None with fewer than two.
        age_p50_ms, age_p95_ms: time from reading a frame to its labels, last 4,096 frames; None for a file, whose
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
        parts = [
            f"{number_of(self.shown, 'frame')} shown in {self.seconds:.1f} s"
            + (f", {self.fps:.1f} fps" if self.fps else "")
        ]
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

    def count(self, labelled: LabelledFrame) -> None:
        """One more frame."""
        self._last = time.monotonic()
        if not self._shown:
            self._first = self._last
        self._shown += 1
        self._moments.append(self._last)
        self._ages.append(labelled.age_ms)
        self._tracks = max([self._tracks, *(face.tracked.number for face in labelled.faces)])

    @property
    def shown(self) -> int:
        """Frames so far."""
        return self._shown

    @property
    def fps(self) -> float | None:
        """Frames per second, over the last sixty frames."""
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


class StatusLine:
    """One line in the terminal that is written over and over: frames per second, faces, drops.

    Args:
        live: frames get old and are dropped where a stage is slow; a file's are not.
    """

    wants_picture = False

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._meter = Meter()
        self._next = 0.0
        self._line = Live(
            "", console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._line.start()

    @staticmethod
    def wanted(events: str | None) -> bool:
        """Whether there is a terminal for it that events are not written to."""
        return console.is_terminal and not (events == "-" and sys.stdout.isatty())

    def write(self, labelled: LabelledFrame) -> bool:
        """Count the frame; the line changes five times per second."""
        self._meter.count(labelled)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + 0.2
            self._line.update(Text(self.text(labelled), no_wrap=True, overflow="ellipsis"), refresh=True)
        return True

    def text(self, labelled: LabelledFrame) -> str:
        """The line after this frame."""
        fps, count = self._meter.fps, len(labelled.faces) + labelled.left_out
        parts = ["– fps" if fps is None else f"{fps:.1f} fps", f"{count} face{'s' if count != 1 else ''}"]
        parts.append(f"frame {labelled.frame.number + 1:,}")
        if self._live:
            dropped = labelled.frame.number + 1 - self._meter.shown
            parts += [f"{dropped:,} dropped", f"frame to label {labelled.age_ms:.0f} ms"]
        return " · ".join([*parts, "Ctrl-C ends"])

    def close(self) -> None:
        """Take the line away."""
        self._line.stop()

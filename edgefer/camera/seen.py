"""What travels through the app: a frame, and what was seen in it."""

from __future__ import annotations

from dataclasses import dataclass

from edgefer.camera.opencv import Pixels
from edgefer.camera.smooth import Probabilities
from edgefer.camera.track import Tracked


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        number: counts from 0, dropped ones included.
        pixels: uint8 H×W×3 BGR, turned and mirrored as asked for.
        time: seconds on the scale of motion: the film's own for a file, the clock's for a camera.
        captured: ``time.monotonic()`` when it was read.
        clock: ``time.time()`` when it was read, seconds since 1970.
    """

    number: int
    pixels: Pixels
    time: float
    captured: float
    clock: float


@dataclass(frozen=True, eq=False)
class Face:
    """A labelled face: where, what the network makes of it, smoothed; ``label`` is None where that is unsure."""

    tracked: Tracked
    probabilities: Probabilities
    label: str | None


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame with its faces.

    Attributes:
        frame: the picture.
        faces: largest first.
        left_out: faces beyond the most that are labelled.
        searched: whether the detector ran on this frame.
        detect_ms, infer_ms: what the two stages took.
        labelled: ``time.monotonic()`` when the labels were ready.
    """

    frame: Frame
    faces: tuple[Face, ...]
    left_out: int
    searched: bool
    detect_ms: float
    infer_ms: float
    labelled: float

    @property
    def age_ms(self) -> float:
        """Between reading the frame and having its labels."""
        return 1000.0 * (self.labelled - self.frame.captured)

"""Values that travel through the camera app: a frame, the frame with its tracks, and with its labelled faces."""

from __future__ import annotations

from dataclasses import dataclass

from edgefer.camera.pictures import Pixels
from edgefer.camera.smooth import Probabilities
from edgefer.camera.track import TrackedFace


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        number: counts from 0, dropped ones included.
        pixels: uint8 H×W×3 BGR, rotated and flipped as asked for.
        time: seconds on the scale of motion: the video's own for a file, the clock's for a camera.
        captured: ``time.monotonic()`` when it was read.
        clock: ``time.time()`` when it was read, seconds since 1970.
    """

    number: int
    pixels: Pixels
    time: float
    captured: float
    clock: float


@dataclass(frozen=True, eq=False)
class TrackedFrame:
    """A frame with its tracks, whether the detector ran on it, and the milliseconds that finding took."""

    frame: Frame
    tracks: list[TrackedFace]
    searched: bool
    ms: float


@dataclass(frozen=True, eq=False)
class LabelledFace:
    """A face with its smoothed probabilities; ``label`` is None where none reaches the confidence threshold."""

    tracked: TrackedFace
    probabilities: Probabilities
    label: str | None


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A frame with its faces.

    Attributes:
        frame: the picture.
        faces: largest first.
        left_out: number of faces beyond the maximum that is labelled.
        searched: whether the detector ran on this frame.
        detect_ms, infer_ms: duration of the two stages.
        labelled_at: ``time.monotonic()`` when the labels were ready.
    """

    frame: Frame
    faces: tuple[LabelledFace, ...]
    left_out: int
    searched: bool
    detect_ms: float
    infer_ms: float
    labelled_at: float

    @property
    def age_ms(self) -> float:
        """Between reading the frame and having its labels."""
        return 1000.0 * (self.labelled_at - self.frame.captured)

"""The three stages before drawing, each a function from what comes in to what goes out; threads are the app's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from edgefer.camera.align import cut_all
from edgefer.camera.detection import Detector
from edgefer.camera.opencv import Pixels, cv2
from edgefer.camera.recognise import probabilities
from edgefer.camera.recording import FaceRecorder
from edgefer.camera.seen import Face, Frame, Seen
from edgefer.camera.smooth import Smoothers, Smoothing
from edgefer.camera.track import Tracked, Tracker
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError

_TURNS = {90: "ROTATE_90_CLOCKWISE", 180: "ROTATE_180", 270: "ROTATE_90_COUNTERCLOCKWISE"}


@dataclass(frozen=True)
class Options:
    """How the app works.

    Attributes:
        every: search every so many frames for faces; between, tracks move on.
        level: turn tilted faces upright before they are labelled.
        most_faces: label the largest so many; the others are counted.
        rotate: clockwise, degrees: 0, 90, 180 or 270.
        mirror: left and right swapped, after the rotation.
        realtime: play a file at its own speed and drop frames as a camera would, instead of using every frame.
        seconds: stop after so many; None to go on.
        smoothing: of the labels.
    """

    every: int = 3
    level: bool = True
    most_faces: int = 32
    rotate: int = 0
    mirror: bool = False
    realtime: bool = False
    seconds: float | None = None
    smoothing: Smoothing = field(default_factory=Smoothing)

    def __post_init__(self) -> None:
        if self.every < 1 or self.most_faces < 1:
            raise EdgeferError(
                f"a search every {self.every} frames for at most {self.most_faces} faces makes no sense",
                hint="both are 1 or more",
            )
        if self.rotate not in (0, *_TURNS):
            raise EdgeferError(f"pictures cannot be rotated by {self.rotate}°", hint="--rotate 0, 90, 180 or 270")


@dataclass(frozen=True, eq=False)
class Found:
    """A frame with its tracks, and the milliseconds that took."""

    frame: Frame
    tracks: list[Tracked]
    searched: bool
    ms: float


def turned(pixels: Pixels, options: Options) -> Pixels:
    """``pixels`` rotated and mirrored as the options say."""
    if options.rotate:
        pixels = cv2.rotate(pixels, getattr(cv2, _TURNS[options.rotate]))
    return cv2.flip(pixels, 1) if options.mirror else pixels


class Finder:
    """Second stage: which faces are where."""

    def __init__(self, detector: Detector, options: Options, *, stills: bool) -> None:
        self._detector, self._every, self._stills = detector, options.every, stills
        self._tracker = Tracker(1 if stills else detector.confirmations)
        self._looked: int | None = None

    def __call__(self, frame: Frame) -> Found:
        """Search the frame if it is its turn, else move the tracks on."""
        start = time.perf_counter()
        if self._stills:
            self._tracker.reset()
        due = self._looked is None or frame.number - self._looked >= self._every
        searched = due or self._stills or self._tracker.wants_look
        if searched:
            self._looked = frame.number
            tracks = self._tracker.look(self._detector.detect(frame.pixels), frame.time)
        else:
            tracks = self._tracker.predict(frame.time)
        return Found(frame, tracks, searched, 1000.0 * (time.perf_counter() - start))


class Labeller:
    """Third stage: what the faces show. Recording, where asked for, happens here: nothing was drawn on them yet."""

    def __init__(self, classifier: Classifier, options: Options, recorder: FaceRecorder | None = None) -> None:
        self._classifier, self._options, self._recorder = classifier, options, recorder
        self._smoothers = Smoothers(options.smoothing)

    def __call__(self, found: Found) -> Seen:
        """Cut, label and smooth all faces of a frame."""
        start = time.perf_counter()
        frame, labels = found.frame, self._classifier.contract.labels
        tracks = sorted(found.tracks, key=lambda t: -t.detection.box[2] * t.detection.box[3])
        shown = tracks[: self._options.most_faces]
        crops = cut_all(
            frame.pixels, [t.detection for t in shown], self._classifier.contract, level=self._options.level
        )
        rows = probabilities(self._classifier, crops)
        calm = self._smoothers.update([t.number for t in shown], rows, frame.time)
        if self._recorder is not None:
            for tracked, crop, row in zip(shown, crops, rows, strict=True):
                if not tracked.predicted:
                    self._recorder.offer(tracked.number, crop, labels[int(row.argmax())], frame.clock)
        faces = tuple(
            Face(tracked, each.probabilities, None if each.label is None else labels[each.label])
            for tracked, each in zip(shown, calm, strict=True)
        )
        return Seen(
            frame,
            faces,
            left_out=len(tracks) - len(shown),
            searched=found.searched,
            detect_ms=found.ms,
            infer_ms=1000.0 * (time.perf_counter() - start),
            labelled=time.monotonic(),
        )

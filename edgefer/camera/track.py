"""Identities over time: detections are matched to tracks, and tracks move on where no search was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefer.camera.detection import Boxes, Detection, overlaps

MATCH = 0.3
"""Overlap from which a detection may be a track's face."""

REACH = 0.6
"""Where nothing overlaps, a face may have jumped by this multiple of its size between two searches."""

MISSES = 2
"""Searches in a row that may miss a face before its track ends."""

PLACE_GAIN, SPEED_GAIN, SIZE_GAIN = 0.8, 0.5, 0.5
"""Gains of an α-β filter: how much of the difference from the prediction goes into place, speed and size."""

HORIZON = 0.4
"""Seconds for which a track goes on with its speed; then it stands still."""


@dataclass(frozen=True, eq=False)
class TrackedFace:
    """A face with an identity: ``number`` counts from 1; ``detection`` is where it is now, seen or predicted."""

    number: int
    detection: Detection
    predicted: bool


class _Track:
    """One face's motion: pixels, pixels per second, seconds."""

    def __init__(self, detection: Detection, at: float) -> None:
        self.number = 0  # none yet: only a face that is believed gets one
        self.detection = detection
        self.centre = np.array(detection.centre)
        self.size = np.array(detection.box[2:])
        self.speed: NDArray[np.float64] = np.zeros(2)
        self.at = at
        self.hits, self.misses = 1, 0

    def place(self, at: float) -> NDArray[np.float64]:
        """The box, x y width height, at the time ``at``."""
        centre = self.centre + self.speed * min(max(at - self.at, 0.0), HORIZON)
        return np.concatenate([centre - self.size / 2, self.size])

    def see(self, detection: Detection, at: float) -> None:
        elapsed = max(at - self.at, 1e-3)
        moved = np.array(detection.centre) - self.centre
        ahead = self.speed * min(elapsed, HORIZON)
        if self.hits == 1:
            self.speed = moved / elapsed  # nothing known before: the first step is the speed
        else:
            self.speed = self.speed + SPEED_GAIN * (moved - ahead) / elapsed
        self.centre = self.centre + ahead + (PLACE_GAIN if self.hits > 1 else 1.0) * (moved - ahead)
        self.size = self.size + SIZE_GAIN * (np.array(detection.box[2:]) - self.size)
        self.detection, self.at = detection, at
        self.hits, self.misses = self.hits + 1, 0

    def view(self, at: float, predicted: bool) -> TrackedFace:
        x, y, width, height = (float(v) for v in self.place(at))
        moved = self.detection.moved((x + width / 2, y + height / 2), (width, height))
        return TrackedFace(self.number, moved, predicted)


class Tracker:
    """Keeps identities of faces over a video.

    Args:
        confirmations: searches that must find a face before it is shown.
    """

    def __init__(self, confirmations: int = 1) -> None:
        self._confirmations = confirmations
        self._tracks: list[_Track] = []
        self._count = 0

    @property
    def wants_search(self) -> bool:
        """Whether the next picture should be searched out of turn: a face is new, or was missed."""
        return any(track.misses or track.hits < max(self._confirmations, 2) for track in self._tracks)

    def update(self, detections: Sequence[Detection], at: float) -> list[TrackedFace]:
        """Take what the detector found at the time ``at`` (seconds); return the faces that are believed."""
        boxes = _stack([track.place(at) for track in self._tracks])
        matches = match(boxes, _stack([np.array(found.box) for found in detections]))
        missed = []
        for row, track in enumerate(self._tracks):
            if row in matches:
                track.see(detections[matches[row]], at)
            else:
                track.misses += 1
                missed.append(track)
        # A face that was never confirmed is no face; one that was may hide for a search or two.
        ended = {id(t) for t in missed if t.misses > MISSES or not t.number}
        self._tracks = [track for track in self._tracks if id(track) not in ended]
        taken = set(matches.values())
        for index, detection in enumerate(detections):
            if index not in taken:
                self._tracks.append(_Track(detection, at))
        for track in self._tracks:
            if not track.number and track.hits >= self._confirmations:
                self._count += 1
                track.number = self._count
        return self._views(at)

    def predict(self, at: float) -> list[TrackedFace]:
        """The faces at the time ``at``, in a picture that was not searched."""
        return self._views(at, predicted=True)

    def reset(self) -> None:
        """Forget all faces: the next picture has nothing to do with the last. Numbers go on."""
        self._tracks = []

    def _views(self, at: float, *, predicted: bool = False) -> list[TrackedFace]:
        shown = [track for track in self._tracks if track.number]
        return [track.view(at, predicted or track.misses > 0) for track in shown]


def match(tracks: Boxes, found: Boxes) -> dict[int, int]:
    """Track's row → detection's row: greedily by overlap, then by nearness for faces that moved fast."""
    pairs: dict[int, int] = {}
    if not len(tracks) or not len(found):
        return pairs
    shared = overlaps(tracks, found)
    _take(shared, MATCH, pairs)
    apart = np.linalg.norm(
        (tracks[:, None, :2] + tracks[:, None, 2:] / 2) - (found[None, :, :2] + found[None, :, 2:] / 2), axis=2
    )
    size, other = np.sqrt(tracks[:, None, 2:].prod(axis=2)), np.sqrt(found[None, :, 2:].prod(axis=2))
    alike = np.minimum(size, other) / np.maximum(np.maximum(size, other), 1e-9)
    nearness = np.where(alike > 0.5, 1.0 - apart / np.maximum(REACH * (size + other) / 2, 1e-9), -1.0)
    _take(nearness, 0.0, pairs)
    return pairs


def _take(worth: NDArray[np.float64], above: float, pairs: dict[int, int]) -> None:
    """Add the best pairs of those that are free, best first, while they are worth more than ``above``."""
    worth = worth.copy()
    for row, column in pairs.items():
        worth[row, :] = worth[:, column] = -np.inf
    while True:
        row, column = (int(i) for i in np.unravel_index(int(worth.argmax()), worth.shape))
        if not worth[row, column] > above:
            return
        pairs[row] = column
        worth[row, :] = worth[:, column] = -np.inf


def _stack(boxes: list[NDArray[np.float64]]) -> Boxes:
    return np.stack(boxes).astype(np.float64) if boxes else np.zeros((0, 4))

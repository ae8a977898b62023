"""A film whose faces are known frame by frame, and the loop of the tutorials that ours is compared with."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes import HEIGHT, WIDTH, Place, overlap, paste, room

from edgefer.camera.detection import Square
from edgefer.camera.frame import LabelledFrame
from edgefer.camera.pictures import Pixels
from edgefer.engines.classifier import Classifier

FPS = 30.0
FRAMES = 240
"""Eight seconds; every motion's period divides them, so that the film can go round without a jump."""

RIGHT = 0.5
"""Intersection over union from which a box is right."""

_WINDOW = 10


@dataclass(frozen=True, eq=False)
class Film:
    """uint8 frames and, for each, where its faces are."""

    frames: list[Pixels]
    places: list[tuple[Place, ...]]


def make_film(faces: Sequence[NDArray[np.uint8]], seed: int = 0) -> Film:
    """One or four ``faces`` that wander, come nearer and tilt: up to some 150 pixels, 15 % and 10° a second."""
    generator = np.random.default_rng(seed)
    wall = room(generator)
    columns, rows = (1, 1) if len(faces) == 1 else (2, 2)
    side, reach = (170.0, (150.0, 90.0)) if len(faces) == 1 else (130.0, (60.0, 35.0))
    phases = generator.uniform(0, 2 * math.pi, (len(faces), 4))
    frames, places = [], []
    for number in range(FRAMES):
        turn = 2 * math.pi * number / FRAMES
        here = []
        for index, phase in enumerate(phases):
            x = WIDTH * (index % columns + 0.5) / columns + reach[0] * math.sin(2 * turn + phase[0])
            y = HEIGHT * (index // columns + 0.5) / rows + reach[1] * math.sin(3 * turn + phase[1])
            size = side * (1 + 0.12 * math.sin(turn + phase[2]))
            here.append(Place(x, y, size, 10 * math.sin(2 * turn + phase[3])))
        frame = wall.copy()
        for face, place in zip(faces, here, strict=True):
            paste(frame, face, place)
        noise = generator.integers(-3, 4, frame.shape, dtype=np.int8)
        frames.append(np.clip(frame.astype(np.int16) + noise, 0, 255).astype(np.uint8))
        places.append(tuple(here))
    return Film(frames, places)


def right_boxes(boxes: Sequence[Square], places: Sequence[Place]) -> int:
    """How many of the ``places`` have a box on them."""
    level = [Square(place.x, place.y, place.side) for place in places]
    return sum(any(overlap(box, place) >= RIGHT for box in boxes) for place in level)


class FilmSource:
    """The film, round and round for ``count`` frames, each a copy as a driver gives it.

    With ``fps`` no frame comes before its time, as from a camera; a reader that is late gets each of them all the same.
    Without, they wait for the reader.
    """

    stills = False
    name = "film"

    def __init__(self, film: Film, count: int, fps: float | None = None) -> None:
        self._film, self._count, self._number = film, count, 0
        self.live, self.fps = fps is not None, fps or FPS
        self._start = 0.0
        self._closed = threading.Event()

    def read(self) -> Pixels | None:
        """The next frame."""
        if self._number == self._count or self._closed.is_set():
            return None
        if self.live:
            self._start = self._start or time.monotonic()
            self._closed.wait(max(0.0, self._start + self._number / self.fps - time.monotonic()))
        frame = self._film.frames[self._number % FRAMES].copy()
        self._number += 1
        return frame

    def close(self) -> None:
        """End."""
        self._closed.set()


class Judge:
    """A sink that counts right boxes, and has the overlay drawn as a window would."""

    wants_picture = True

    def __init__(self, film: Film) -> None:
        self._film = film
        self.right = self.shown = self.frames = 0
        self.ages: list[float] = []

    def write(self, seen: LabelledFrame) -> bool:
        """Count one frame."""
        places = self._film.places[seen.frame.number % FRAMES]
        squares = [
            Square(face.tracked.detection.crop.x, face.tracked.detection.crop.y, face.tracked.detection.crop.side)
            for face in seen.faces
        ]
        self.count(squares, places, seen.age_ms)
        return True

    def count(self, squares: Sequence[Square], places: Sequence[Place], age_ms: float) -> None:
        """Count one frame, whoever found its faces."""
        self.right += right_boxes(squares, places)
        self.shown += len(places)
        self.frames += 1
        self.ages.append(age_ms)

    def close(self) -> None:
        """Nothing to close."""

    @property
    def share(self) -> float:
        """Faces with a right box, of all faces of all frames that were shown."""
        return self.right / max(1, self.shown)


def tutorial_loop(source: FilmSource, film: Film, network: Classifier) -> Judge:
    """The demo of tutorials: Haar 1.3/5 on every frame, PyTorch eager for each face, no threads, majority of ten.

    ``network`` is the classifier over the same weights in PyTorch eager mode; its cutting of faces is the tutorials'
    own: grey, ``cv2.resize``.
    """
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    labels = network.contract.labels
    window: deque[str] = deque(maxlen=_WINDOW)
    judge = Judge(film)
    number = 0
    while (frame := source.read()) is not None:
        start = time.monotonic()
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        boxes: Any = cascade.detectMultiScale(grey, 1.3, 5)
        for x, y, w, h in boxes:
            face = cv2.resize(grey[y : y + h, x : x + w], (network.contract.width, network.contract.height))
            window.append(labels[int(network.logits(face[None, :, :, None]).argmax())])
            label = Counter(window).most_common(1)[0][0]
            cv2.rectangle(frame, (x, y), (x + w, y + h), (255, 0, 0), 2)
            cv2.putText(frame, label, (x, y - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (36, 255, 12), 2)
        age = 1000 * (time.monotonic() - start)
        squares = [Square(x + w / 2, y + h / 2, w) for x, y, w, h in boxes]
        judge.count(squares, film.places[number % FRAMES], age)
        number += 1
    return judge

"""Pictures and videos whose faces are known exactly: faces pasted into generated rooms, at chosen sizes, places and
tilts; and the loop of the tutorials that the camera app is compared with."""

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

from edgefer.camera.detection import Square
from edgefer.camera.frame import LabelledFrame
from edgefer.camera.pictures import Pixels
from edgefer.engines.classifier import Classifier

WIDTH, HEIGHT = 640, 480

TEXTURE = 12.0
"""Grey levels."""

FPS = 30.0
FRAMES = 240
"""Eight seconds; every motion's period divides them, so that the video can go round without a jump."""

RIGHT = 0.5
"""Intersection over union from which a box is right."""

_WINDOW = 10


@dataclass(frozen=True)
class Place:
    """A face's centre, side (pixels) and tilt (degrees, clockwise): where a square picture of it is put."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def square(self) -> Square:
        """What a detector's crop is compared with."""
        return Square(self.x, self.y, self.side, self.angle)


def room(generator: np.random.Generator, width: int = WIDTH, height: int = HEIGHT) -> Pixels:
    """A room without faces: light from a side, blocks like furniture, texture and camera noise.

    The texture has the 1/f amplitudes of photographs (D. Field, J. Opt. Soc. Am. A 4, 1987). A cascade's time depends
    on it: on smooth walls Haar 1.3/5 takes a sixth of what it takes on a photograph; with this much, about as long.
    """
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    direction = generator.uniform(-1, 1, 2)
    light = 120 + 50 * (direction[0] * (across - 0.5) + direction[1] * (down - 0.5))
    tint = generator.uniform(0.8, 1.2, 3)
    picture = light[:, :, None] * tint
    for _ in range(int(generator.integers(4, 9))):
        x, y = generator.integers(0, width), generator.integers(0, height)
        w, h = generator.integers(20, width // 2), generator.integers(20, height // 2)
        picture[y : y + h, x : x + w] = picture[y : y + h, x : x + w] * 0.4 + generator.uniform(30, 220, 3) * 0.6
    picture = cv2.GaussianBlur(picture, (0, 0), 1.5) + TEXTURE * _texture(generator, width, height)[:, :, None]
    picture += generator.normal(0, 2, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _texture(generator: np.random.Generator, width: int, height: int) -> NDArray[np.float64]:
    """Noise with amplitudes 1/frequency, of deviation 1."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    amplitude = 1 / np.maximum(np.hypot(down, across), 1 / width)
    waves = amplitude * np.exp(2j * np.pi * generator.random(amplitude.shape))
    noise = np.fft.irfft2(waves, (height, width))
    return np.asarray(noise / noise.std())


def paste(scene: Pixels, face: NDArray[np.uint8], place: Place) -> None:
    """Put ``face`` (uint8 H×W grey or H×W×3 BGR, a square picture) into ``scene``, in place; its rim fades out."""
    if face.ndim == 2:
        face = cv2.cvtColor(face, cv2.COLOR_GRAY2BGR)
    size = face.shape[0]
    rim = max(1, round(0.06 * size))
    weight = np.zeros((size, size), np.float32)
    weight[rim:-rim, rim:-rim] = 1.0
    weight = cv2.GaussianBlur(weight, (0, 0), rim / 2)
    # Pixel centres: the face's middle is at (size − 1) / 2, the place's at x − 0.5.
    middle = (size - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), -place.angle, place.side / size)
    turn[:, 2] += np.array([place.x - 0.5, place.y - 0.5]) - middle
    # only the part of the scene that the face can touch
    reach = int(0.75 * place.side) + 2
    left, top = max(0, int(place.x) - reach), max(0, int(place.y) - reach)
    part = scene[top : int(place.y) + reach, left : int(place.x) + reach]
    turn[:, 2] -= (left, top)
    shape = (part.shape[1], part.shape[0])
    mask = cv2.warpAffine(weight, turn, shape, flags=cv2.INTER_LINEAR)[:, :, None]
    pasted = cv2.warpAffine(face, turn, shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    part[:] = (part * (1 - mask) + pasted * mask + 0.5).astype(np.uint8)


def overlap(square: Square, other: Square) -> float:
    """Intersection over union of two squares that may be tilted."""
    boxes = [((float(s.x), float(s.y)), (float(s.side), float(s.side)), float(s.angle)) for s in (square, other)]
    kind, points = cv2.rotatedRectangleIntersection(*boxes)
    shared = 0.0 if kind == cv2.INTERSECT_NONE else float(cv2.contourArea(cv2.convexHull(points)))
    return shared / (square.side**2 + other.side**2 - shared)


def anywhere(side: float, tilt: float, generator: np.random.Generator) -> Place:
    """A place of a face that does not touch the edge."""
    margin = 0.75 * side
    x = generator.uniform(margin, WIDTH - margin)
    y = generator.uniform(min(margin, HEIGHT / 2), max(HEIGHT - margin, HEIGHT / 2))
    return Place(x, y, side, tilt)


@dataclass(frozen=True, eq=False)
class Video:
    """uint8 frames and, for each, where its faces are."""

    frames: list[Pixels]
    places: list[tuple[Place, ...]]


def make_video(faces: Sequence[NDArray[np.uint8]], seed: int = 0) -> Video:
    """One or four ``faces`` that wander, come nearer and tilt: up to some 150 pixels, 15 % and 10° per second."""
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
    return Video(frames, places)


def right_boxes(boxes: Sequence[Square], places: Sequence[Place]) -> int:
    """Number of the ``places`` that have a box on them."""
    level = [Square(place.x, place.y, place.side) for place in places]
    return sum(any(overlap(box, place) >= RIGHT for box in boxes) for place in level)


class VideoSource:
    """The video, round and round for ``count`` frames, each a copy as a driver gives it.

    With ``fps`` no frame comes before its time, as from a camera; a reader that is late gets each of them all the same.
    Without, they wait for the reader.
    """

    stills = False
    name = "video"

    def __init__(self, video: Video, count: int, fps: float | None = None) -> None:
        self._video, self._count, self._number = video, count, 0
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
        frame = self._video.frames[self._number % FRAMES].copy()
        self._number += 1
        return frame

    def close(self) -> None:
        """End."""
        self._closed.set()


class BoxCounter:
    """A sink that counts right boxes, and has the overlay drawn as a window would."""

    wants_picture = True

    def __init__(self, video: Video) -> None:
        self._video = video
        self.right = self.shown = self.frames = 0
        self.ages: list[float] = []

    def write(self, seen: LabelledFrame) -> bool:
        """Count one frame."""
        places = self._video.places[seen.frame.number % FRAMES]
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


def tutorial_loop(source: VideoSource, video: Video, network: Classifier) -> BoxCounter:
    """The demo of tutorials: Haar 1.3/5 on every frame, PyTorch eager for each face, no threads, majority of ten.

    ``network`` is the classifier over the same weights in PyTorch eager mode; its cutting of faces is the tutorials'
    own: grey, ``cv2.resize``.
    """
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    labels = network.contract.labels
    window: deque[str] = deque(maxlen=_WINDOW)
    counter = BoxCounter(video)
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
        counter.count(squares, video.places[number % FRAMES], age)
        number += 1
    return counter

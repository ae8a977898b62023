"""Pictures whose faces are known exactly: real faces pasted into drawn rooms, at chosen sizes, places and tilts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgefer.camera.detection import Square
from edgefer.camera.pictures import Pixels

WIDTH, HEIGHT = 640, 480

TEXTURE = 12.0
"""Grey levels."""


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


def spread(count: int, side: float, generator: np.random.Generator, tilt: float = 0.0) -> list[Place]:
    """``count`` places of faces of ``side`` that do not touch each other nor the edge."""
    places: list[Place] = []
    margin = 0.75 * side
    for _ in range(10_000):
        if len(places) == count:
            return places
        x = generator.uniform(margin, WIDTH - margin)
        y = generator.uniform(min(margin, HEIGHT / 2), max(HEIGHT - margin, HEIGHT / 2))
        if all(np.hypot(x - p.x, y - p.y) > 1.5 * side for p in places):
            places.append(Place(x, y, side, tilt))
    raise ValueError(f"{count} faces of {side} pixels do not fit")


def scene_of(faces: Sequence[NDArray[np.uint8]], places: Sequence[Place], generator: np.random.Generator) -> Pixels:
    """A room with ``faces`` at ``places``."""
    scene = room(generator)
    for face, place in zip(faces, places, strict=True):
        paste(scene, face, place)
    return scene

"""A detected face, the interface of every detector, and cutting faces out of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgefer.camera.pictures import Pixels, cv2
from edgefer.contract import Contract
from edgefer.faces import Box, Image, prepare

Boxes = NDArray[np.float64]
"""float64 N×4: x, y, width, height in pixels."""

SMALLEST = 60.0
"""Width in pixels of the smallest face to find, unless the user asks for another."""

LEVEL_ENOUGH = 3.0
"""Degrees of tilt that are left as they are: detectors' landmarks are no more certain than that."""


@dataclass(frozen=True)
class Square:
    """The part of a picture that a network is shown: centre x and y and side in pixels, angle in degrees.

    The angle is that of the line between the eyes, clockwise as pictures are seen; 0 is level. With a contract's crop
    margin of 0 the square is what FER2013 shows of a face, whichever detector found it.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0

    @property
    def box(self) -> Box:
        """``(x, y, width, height)`` of the square as if it were level."""
        return self.x - self.side / 2, self.y - self.side / 2, self.side, self.side


@dataclass(frozen=True, eq=False)
class Detection:
    """One face in one picture.

    Attributes:
        box: x, y, width, height in pixels, as the detector gives it; parts may lie outside the picture.
        score: 0 to 1, the detector's own scale.
        crop: the square that the network is shown.
        landmarks: float32 5×2 (x, y): the eye on the left of the picture, that on the right, the tip of the nose, the
            left and the right corner of the mouth; None if the detector knows none.
    """

    box: Box
    score: float
    crop: Square
    landmarks: NDArray[np.float32] | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box, in pixels."""
        x, y, width, height = self.box
        return x + width / 2, y + height / 2

    def moved(self, centre: tuple[float, float], size: tuple[float, float]) -> Detection:
        """The same face with its box at ``centre`` with ``size``; crop and landmarks move and grow along."""
        (x0, y0), (width, height) = self.centre, size
        growth = math.sqrt((width * height) / (self.box[2] * self.box[3]))
        dx, dy = centre[0] - x0 * growth, centre[1] - y0 * growth
        crop, points = self.crop, self.landmarks
        return replace(
            self,
            box=(centre[0] - width / 2, centre[1] - height / 2, width, height),
            crop=Square(crop.x * growth + dx, crop.y * growth + dy, crop.side * growth, crop.angle),
            landmarks=None if points is None else (points * growth + np.array([dx, dy])).astype(np.float32),
        )


class Detector(Protocol):
    """Finds faces. A further detector needs these and a line in ``edgefer.camera.detectors.open_detector``.

    Attributes:
        name: name in messages and events.
        confirmations: number of pictures of a video in which a face must be found before it is reported.
    """

    name: str
    confirmations: int

    def detect(self, pixels: Pixels) -> list[Detection]:
        """The faces in ``pixels``, sorted by falling score."""

    def close(self) -> None:
        """Free what the detector holds."""


def overlaps(boxes: Boxes, others: Boxes) -> NDArray[np.float64]:
    """Intersection over union of every box with every other: float64 N×M."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0.0, None), axis=2)
    whole = np.prod(boxes[:, 2:], axis=1)[:, None] + np.prod(others[:, 2:], axis=1)[None, :] - shared
    return np.asarray(shared / np.maximum(whole, 1e-9), dtype=np.float64)


def suppress(boxes: Boxes, scores: NDArray[np.float64], overlap: float) -> list[int]:
    """Indices that remain, best first, after boxes that overlap a better one by more than ``overlap`` are left out."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order):
        best, rest = int(order[0]), order[1:]
        kept.append(best)
        order = rest[overlaps(boxes[best : best + 1], boxes[rest])[0] <= overlap]
    return kept


def cut(pixels: Pixels, crop: Square, contract: Contract, *, level: bool = True) -> Image:
    """One face, uint8 of the contract's shape, from a BGR picture.

    A level face is cut by :func:`edgefer.faces.prepare`. A tilted one is sampled along its own axes first, bilinear at
    the contract's size as ``prepare`` does it (half-pixel centres, edge repeated), with the crop margin.

    Args:
        pixels: uint8 H×W×3 BGR.
        crop: the square, to which the contract's crop margin is added.
        contract: says size, channels and margin.
        level: turn tilted faces; False cuts them as they are.
    """
    if not level or abs(crop.angle) < LEVEL_ENOUGH:
        return prepare(pixels[:, :, ::-1], contract, crop.box)
    across, down = contract.width, contract.height
    side = crop.side * (1 + 2 * contract.crop_margin)
    radians = math.radians(crop.angle)
    turn = np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])
    linear = turn @ np.diag([side / across, side / down])
    # Pixel (0, 0) of the face has its centre half a step from the corner; OpenCV counts pixels by their centres.
    offset = np.array([crop.x - 0.5, crop.y - 0.5]) - linear @ np.array([(across - 1) / 2, (down - 1) / 2])
    sampled = cv2.warpAffine(
        pixels,
        np.column_stack([linear, offset]),
        (across, down),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return prepare(sampled[:, :, ::-1], contract)


def cut_all(pixels: Pixels, faces: Sequence[Detection], contract: Contract, *, level: bool = True) -> NDArray[np.uint8]:
    """:func:`cut` for every detection: uint8 N×H×W×C."""
    batch = np.empty((len(faces), *contract.face_shape), np.uint8)
    for row, face in enumerate(faces):
        batch[row] = cut(pixels, face.crop, contract, level=level)
    return batch

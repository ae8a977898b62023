"""From detections to the uint8 faces that the contract asks for, eyes level where the detector knows them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgefer.camera.detection import Detection, Square
from edgefer.camera.opencv import Pixels, cv2
from edgefer.contract import Contract
from edgefer.faces import Image, prepare

LEVEL_ENOUGH = 3.0
"""Degrees of tilt that are left as they are: detectors' landmarks are no more certain than that."""


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

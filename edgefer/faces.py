"""From an image and a box to the uint8 face that a contract asks for: the only geometry outside the graph.

The order is fixed, so that another implementation can be held to the same vectors: crop (edge replicated), grey in
float32 (ITU-R BT.601 luma weights) where the contract is grey, bilinear resize in float32 (half-pixel centres, no
anti-aliasing), round half to even to uint8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import Contract
from edgefer.errors import EdgeferError

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Box = tuple[float, float, float, float]
"""``(x, y, width, height)`` in pixels; parts outside the image repeat its edge."""

GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in grey: ITU-R BT.601-7, section 2.5.1."""


def prepare(image: NDArray[Any], contract: Contract, box: Box | None = None) -> Image:
    """Cut one face out of ``image`` and bring it into the contract's shape.

    Args:
        image: uint8, H×W (grey), H×W×1 or H×W×3 (RGB).
        contract: says height, width, channels and crop margin.
        box: the face; the whole image if None (then no margin is added).

    Returns:
        uint8 of ``contract.face_shape``.

    Raises:
        EdgeferError: the image has no pixels, another dtype or another number of channels; the box has no area.
    """
    pixels = _checked(image)
    if box is None and pixels.shape == contract.face_shape:
        return pixels
    rows, columns = (np.arange(size) for size in pixels.shape[:2])
    if box is not None:
        rows, columns = _window(pixels, expand(box, contract.crop_margin))
    if (len(rows), len(columns), pixels.shape[2]) == contract.face_shape:
        return pixels[rows[:, None], columns]
    return to_uint8(_sample(pixels, rows, columns, contract))


def prepare_batch(images: NDArray[Any], contract: Contract) -> Image:
    """:meth:`prepare` for uint8 N×H×W×C images of one size; those that fit already are returned as they are."""
    if images.dtype != np.uint8 or images.ndim != 4:
        raise EdgeferError(f"a batch of faces is uint8 N×H×W×C, not {images.dtype} {'×'.join(map(str, images.shape))}")
    if images.shape[1:] == contract.face_shape:
        return images
    shape = (len(images), *contract.face_shape)
    return np.stack([prepare(image, contract) for image in images]) if len(images) else np.zeros(shape, np.uint8)


def expand(box: Box, margin: float) -> Box:
    """Add ``margin`` times the box's width left and right, and times its height above and below."""
    x, y, width, height = box
    return x - margin * width, y - margin * height, width * (1 + 2 * margin), height * (1 + 2 * margin)


def crop(image: Image, box: Box) -> Image:
    """Cut ``box`` out of an H×W×C image; what lies outside repeats the nearest edge pixel.

    Corners are rounded half up to whole pixels: ``floor(v + 0.5)`` of left, top, right and bottom.
    """
    rows, columns = _window(image, box)
    return image[rows[:, None], columns]


def to_channels(image: Image, channels: int) -> Floats:
    """H×W×(1 or 3) uint8 → H×W×channels float32: grey by :data:`GREY_WEIGHTS`, colour by repeating grey."""
    if image.shape[2] == channels:
        return image.astype(np.float32)
    if channels == 3:
        return np.repeat(image.astype(np.float32), 3, axis=2)
    red, green, blue = (image[:, :, i].astype(np.float32) for i in range(3))
    grey = red * GREY_WEIGHTS[0] + green * GREY_WEIGHTS[1] + blue * GREY_WEIGHTS[2]
    return np.asarray(grey[:, :, None], dtype=np.float32)


def resize(image: Floats, height: int, width: int) -> Floats:
    """Bilinear, float32 H×W×C → height×width×C; pixel centres at ``i + 0.5``, edges repeated, no anti-aliasing."""
    if image.shape[:2] == (height, width):
        return image
    top, bottom, down = _taps(image.shape[0], height)
    left, right, across = _taps(image.shape[1], width)
    across = across[None, :, None]
    columns = image[:, left] + (image[:, right] - image[:, left]) * across
    return np.asarray(columns[top] + (columns[bottom] - columns[top]) * down[:, None, None], dtype=np.float32)


def to_uint8(image: Floats) -> Image:
    """Round half to even and clip to 0…255."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def golden_faces(contract: Contract, count: int = 4) -> Image:
    """Synthetic faces that an engine's answers are pinned to: uint8 count×H×W×C, the same on every machine.

    An oval, two eyes and a mouth over a gradient, with integer noise; no dataset's pixels.
    """
    height, width, channels = contract.face_shape
    down = ((np.arange(height) + 0.5) / height)[:, None]
    across = ((np.arange(width) + 0.5) / width)[None, :]
    faces = np.empty((count, height, width, channels), dtype=np.uint8)
    for index in range(count):
        tilt = 0.04 * (index % 3 - 1)
        level = 70 + 60 * across + 25 * down
        level = np.where(
            ((across - 0.5 - tilt) / 0.36) ** 2 + ((down - 0.52) / 0.44) ** 2 < 1, 150.0 + 20 * index, level
        )
        for side in (-0.16, 0.16):
            eye = ((across - 0.5 - tilt - side) / 0.07) ** 2 + ((down - 0.42 - side * tilt) / 0.05) ** 2 < 1
            level = np.where(eye, 40.0, level)
        bend = (index - 1.5) * 0.5 * (across - 0.5 - tilt) ** 2
        mouth = (np.abs(across - 0.5 - tilt) < 0.17) & (np.abs(down - 0.72 + bend) < 0.035)
        level = np.where(mouth, 60.0, level)
        noise = _lcg_bytes(height * width * channels, seed=index + 1).reshape(height, width, channels)
        faces[index] = np.clip(level[:, :, None].astype(np.int32) + noise.astype(np.int32) % 25 - 12, 0, 255)
    return faces


def _checked(image: NDArray[Any]) -> Image:
    if image.size == 0:
        raise EdgeferError(
            f"the image has no pixels (shape {'×'.join(map(str, image.shape))})", hint="skip empty frames and files"
        )
    if image.dtype != np.uint8:
        raise EdgeferError(f"an image is uint8 from 0 to 255, not {image.dtype}", hint="convert it first")
    if image.ndim == 2:
        return image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3):
        raise EdgeferError(
            f"an image is H×W, H×W×1 or H×W×3 (RGB), not {'×'.join(map(str, image.shape))}",
            hint="drop an alpha channel with image[..., :3]",
        )
    return image


def _window(image: Image, box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows and the columns of ``image`` that :func:`crop` takes for ``box``."""
    x, y, width, height = box
    left, top, right, bottom = (int(np.floor(v + 0.5)) for v in (x, y, x + width, y + height))
    if right <= left or bottom <= top:
        raise EdgeferError(
            f"the face box {tuple(round(v, 2) for v in box)} has no area", hint="boxes are x, y, width, height"
        )
    rows = np.clip(np.arange(top, bottom), 0, image.shape[0] - 1)
    return rows, np.clip(np.arange(left, right), 0, image.shape[1] - 1)


def _sample(image: Image, rows: NDArray[np.int64], columns: NDArray[np.int64], contract: Contract) -> Floats:
    """:func:`resize` of :func:`to_channels` of the window ``rows`` × ``columns``, in the same arithmetic.

    Only the pixels that the resize reads are turned to grey: the cost does not grow with the window.
    """
    height, width = contract.height, contract.width
    if (len(rows), len(columns)) == (height, width):
        return to_channels(image[rows[:, None], columns], contract.channels)
    top, bottom, down = _taps(len(rows), height)
    left, right, across = _taps(len(columns), width)
    read = image[rows[np.concatenate([top, bottom])][:, None], columns[np.concatenate([left, right])]]
    taps = to_channels(read, contract.channels)
    lines = taps[:, :width] + (taps[:, width:] - taps[:, :width]) * across[None, :, None]
    return np.asarray(lines[:height] + (lines[height:] - lines[:height]) * down[:, None, None], dtype=np.float32)


def _taps(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """For each target index: the two source indices and the float32 weight of the second."""
    position = (np.arange(target, dtype=np.float32) + np.float32(0.5)) * np.float32(source / target) - np.float32(0.5)
    low = np.floor(position).astype(np.int64)
    weight = (position - low).astype(np.float32)
    return np.clip(low, 0, source - 1), np.clip(low + 1, 0, source - 1), weight


def _lcg_bytes(count: int, seed: int) -> Image:
    """The top bytes of a 32-bit linear congruential sequence (constants of Numerical Recipes), easy in any language."""
    state = np.empty(count, dtype=np.uint32)
    value = seed
    for index in range(count):
        value = (1664525 * value + 1013904223) & 0xFFFFFFFF
        state[index] = value
    return (state >> 24).astype(np.uint8)

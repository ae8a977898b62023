"""A picture to try the page with: drawn faces, nobody's photograph."""

from __future__ import annotations

import functools

import numpy as np

from edgefer.camera.opencv import Pixels, cv2
from edgefer.data import draw

WIDTH, HEIGHT = 720, 420
_SIDE = 200
_SEED = 3


@functools.cache
def sample_picture() -> Pixels:
    """Three drawn faces before a wall: uint8 420×720×3 BGR, the same each time."""
    drawn, labels = draw(40, _SEED, _SIDE)
    faces = [drawn[labels == wanted][0] for wanted in (3, 5, 4)]  # happy, surprise, sad
    down = np.linspace(225, 175, HEIGHT)[:, None, None]
    picture = (down * np.array([0.98, 0.96, 0.92])) * np.ones((HEIGHT, WIDTH, 1))
    for index, face in enumerate(faces):
        left, top = 30 + index * 230, 70 + 50 * (index % 2)
        weight = np.zeros((_SIDE, _SIDE), np.float32)
        cv2.rectangle(weight, (12, 12), (_SIDE - 13, _SIDE - 13), 1.0, -1)
        weight = cv2.GaussianBlur(weight, (0, 0), 6)[:, :, None]
        part = picture[top : top + _SIDE, left : left + _SIDE]
        part[:] = part * (1 - weight) + face.reshape(_SIDE, _SIDE, 1).astype(np.float32) * weight
    return np.asarray(picture, np.uint8)

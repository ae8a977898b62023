"""Drawing many small grey pictures at once: shapes are signed distances, in a frame that moves with the head."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 in fact
Number = Floats | float


class Canvas:
    """N pictures of ``size``×``size``; ``x`` grows rightwards and ``y`` downwards, ±1 being about the edges.

    Shapes return a signed distance, N×size×size, negative inside; :meth:`paint` softens its edge over one pixel.
    """

    def __init__(self, size: int, roll: Floats, scale: Floats, shift_x: Floats, shift_y: Floats, shear: Floats) -> None:
        """``roll`` in radians; the others in the frame's units. All N×1×1."""
        axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
        across, down = axis[None, None, :] - shift_x, axis[None, :, None] - shift_y
        cos, sin = np.cos(roll) / scale, np.sin(roll) / scale
        self.x: Floats = cos * across + sin * down + shear * down
        self.y: Floats = cos * down - sin * across
        self._pixel = np.float32(2 / size) / scale
        self._grey: Floats = np.zeros((len(roll), size, size), np.float32)

    def turn(self, yaw: Floats, nod: Floats) -> None:
        """Move what is painted from now on as features move over a head that turns: most in its middle."""
        bulge = np.clip(1 - self.x**2 - 0.5 * self.y**2, 0, None)
        self.x, self.y = self.x - yaw * bulge * 1.6, self.y - nod * bulge * 1.4

    def band(self, top: float, bottom: float) -> Canvas:
        """The rows between two heights of the picture (−1 … 1): painting only where a shape can be is faster."""
        size = self._grey.shape[1]
        rows = slice(max(0, int((top + 1) / 2 * size)), math.ceil((bottom + 1) / 2 * size))
        part = copy.copy(self)
        part.x, part.y, part._grey = self.x[:, rows], self.y[:, rows], self._grey[:, rows]
        return part

    def fill(self, grey: Number) -> None:
        """Paint everything."""
        self._grey[:] = grey

    def shade(self, factor: Number) -> None:
        """Multiply everything by ``factor``: light from a side."""
        self._grey *= factor

    def paint(self, distance: Floats, grey: Number, opacity: Number) -> None:
        """Blend ``grey`` in where ``distance`` is negative."""
        cover = np.clip(0.5 - distance / self._pixel, 0, 1) * opacity
        self._grey += cover * (grey - self._grey)

    def ellipse(self, x: Number, y: Number, width: Number, height: Number) -> Floats:
        """An ellipse with half axes ``width`` and ``height`` (its distance is approximate, exact on the edge)."""
        radius = np.sqrt(((self.x - x) / width) ** 2 + ((self.y - y) / height) ** 2)
        distance: Floats = (radius - 1) * np.minimum(width, height)
        return distance

    def almond(self, x: Number, y: Number, width: Number, height: Number) -> Floats:
        """An eye: two parabolas that meet at ``x`` ± ``width``, the upper one higher."""
        across = (self.x - x) / width
        lid = height * (1 - across**2)
        distance: Floats = np.maximum(y - lid - self.y, self.y - y - 0.8 * lid)
        return distance

    def outline(self, distance: Floats, thickness: Number) -> Floats:
        """The edge of a shape as a line."""
        return np.abs(distance) - thickness

    def stroke(self, x0: Number, y0: Number, x1: Number, y1: Number, thickness: Number, bend: Number = 0.0) -> Floats:
        """A line with round ends whose middle is moved by ``bend`` downwards."""
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((self.x - x0) * dx + (self.y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        sag = 4 * bend * along * (1 - along)
        distance: Floats = np.hypot(self.x - x0 - along * dx, self.y - y0 - along * dy - sag) - thickness
        return distance

    def curve(self, x: Number, y: Number, width: Number, bend: Number, thickness: Number) -> Floats:
        """A parabola from ``x`` − ``width`` to ``x`` + ``width`` whose ends are lowered by ``bend`` · ``width``."""
        across = (self.x - x) / width
        line = np.abs(self.y - y - bend * width * across**2) - thickness
        distance: Floats = np.maximum(line, (np.abs(across) - 1) * width)
        return distance

    def occlude(self, generator: np.random.Generator) -> None:
        """Put glasses on a tenth of the faces, and a hand, a scarf or a picture's edge in front of another tenth."""
        count = len(self._grey)
        kind = generator.random((count, 1, 1))
        tone = generator.uniform(20, 200, (count, 1, 1)).astype(np.float32)
        for side in (-1, 1):
            rim = self.outline(self.ellipse(side * 0.34, -0.16, 0.25, 0.19), 0.018)
            self.paint(rim, tone * 0.4, np.where(kind < 0.1, np.float32(0.9), np.float32(0)))
        angle = generator.uniform(0, 2 * np.pi, (count, 1, 1)).astype(np.float32)
        away = generator.uniform(0.62, 1.0, (count, 1, 1)).astype(np.float32)
        edge = away - (np.cos(angle) * self.x + np.sin(angle) * self.y)
        self.paint(edge, tone, np.where(kind > 0.9, np.float32(1), np.float32(0)))

    def photograph(self, generator: np.random.Generator) -> NDArray[np.uint8]:
        """Blur, contrast, brightness and noise of a poor camera; uint8 N×size×size."""
        count = len(self._grey)

        def between(low: float, high: float) -> Floats:
            return generator.uniform(low, high, (count, 1, 1)).astype(np.float32)

        side = between(0.0, 0.22)  # weights of a three-tap blur, each way
        grey = self._grey
        for axis in (1, 2):
            padded = np.pad(grey, [(0, 0)] + [(1, 1) if a == axis else (0, 0) for a in (1, 2)], mode="edge")
            before, after = (np.take(padded, range(start, start + grey.shape[axis]), axis) for start in (0, 2))
            grey = grey * (1 - 2 * side) + side * (before + after)
        noise = generator.standard_normal(grey.shape, dtype=np.float32) * between(1, 8)
        grey = (grey - 128) * between(0.65, 1.15) + 128 + between(-30, 30) + noise
        return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)

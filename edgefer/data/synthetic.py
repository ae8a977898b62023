"""Synthetic faces: seven expressions as parametric drawings, for a start without a data set and for tests.

Expressions follow the action units that Ekman and Friesen (Facial Action Coding System, 1978) give them: raised inner
brows for fear and sadness, lowered ones for anger, a wrinkled nose for disgust, and so on. No photograph is used.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.data.classes import FER2013
from edgefer.progress import progress

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
        """Move what is painted from now on as features move over a head that turns: the middle moves farthest."""
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
        """An ellipse with semi-axes ``width`` and ``height`` (its distance is approximate, exact on the edge)."""
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


_BATCH = 64  # faces at once: what is being painted stays in the processor's cache

# mouth_curve: corners up; mouth_open: jaw; mouth_width; lip_raise: upper lip; inner, outer: ends of the brows up;
# lids: opening of the eyes; wrinkle: of the nose; cheeks: raised; teeth: bared
_TRAITS = (
    "mouth_curve",
    "mouth_open",
    "mouth_width",
    "lip_raise",
    "inner",
    "outer",
    "lids",
    "wrinkle",
    "cheeks",
    "teeth",
)
_NEUTRAL = (0.00, 0.02, 1.00, 0.0, 0.0, 0.0, 1.00, 0.0, 0.0, 0.0)
_EXPRESSIONS = {
    "angry": (-0.30, 0.10, 0.88, 0.1, -1.0, 0.35, 0.72, 0.5, 0.0, 0.6),
    "disgust": (-0.45, 0.22, 0.92, 1.0, -0.5, -0.2, 0.50, 1.0, 0.5, 0.4),
    "fear": (-0.25, 0.45, 1.08, 0.1, 0.9, 0.2, 1.40, 0.0, 0.0, 0.3),
    "happy": (0.90, 0.30, 1.25, 0.0, 0.1, 0.1, 0.68, 0.0, 1.0, 0.9),
    "sad": (-0.80, 0.02, 0.82, 0.0, 0.8, -0.6, 0.66, 0.0, 0.0, 0.0),
    "surprise": (0.00, 1.00, 0.70, 0.0, 0.9, 1.0, 1.45, 0.0, 0.0, 0.0),
    "neutral": _NEUTRAL,
}
_SPREAD = (0.12, 0.06, 0.08, 0.11, 0.17, 0.16, 0.12, 0.13, 0.13, 0.18)  # standard deviation of a trait, any expression


def synthetic_faces(count: int, seed: int, size: int = 48) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw ``count`` faces, grey uint8 N×size×size×1, with labels int64 N in FER2013's order, classes equally frequent.

    Heads turn, nod and lean; skin, hair, light, blur, noise and things in front of the face vary; an expression's
    strength goes from faint to full, so that the classes overlap a little, as people's do. The same arguments give the
    same faces.
    """
    generator = np.random.default_rng([seed, count])
    labels = generator.permutation(np.arange(count, dtype=np.int64) % len(FER2013))
    images = np.empty((count, size, size, 1), np.uint8)
    with progress("making synthetic faces", count) as advance:
        for start in range(0, count, _BATCH):
            batch = labels[start : start + _BATCH]
            images[start : start + _BATCH, :, :, 0] = _faces(batch, size, generator)
            advance(len(batch))
    return images, labels


def _traits(labels: NDArray[np.int64], generator: np.random.Generator) -> dict[str, Floats]:
    full = np.asarray([_EXPRESSIONS[name] for name in FER2013])[labels]
    strength = generator.beta(2.2, 1.2, size=(len(labels), 1)) * 0.85 + 0.28
    values = _NEUTRAL + (full - _NEUTRAL) * strength + generator.normal(0, _SPREAD, full.shape)
    traits = {name: values[:, i, None, None].astype(np.float32) for i, name in enumerate(_TRAITS)}
    for name, low, high in (
        ("mouth_open", 0.0, 1.2),
        ("lids", 0.12, 1.6),
        ("wrinkle", 0, 1.2),
        ("cheeks", 0, 1.2),
        ("lip_raise", 0, 1.2),
    ):
        traits[name] = np.clip(traits[name], low, high)
    return traits


def _faces(labels: NDArray[np.int64], size: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    count = len(labels)

    def between(low: float, high: float) -> Floats:
        return generator.uniform(low, high, (count, 1, 1)).astype(np.float32)

    def around(mean: float, deviation: float) -> Floats:
        return np.clip(
            generator.normal(mean, deviation, (count, 1, 1)), mean - 2.5 * deviation, mean + 2.5 * deviation
        ).astype(np.float32)

    traits = _traits(labels, generator)
    canvas = Canvas(size, around(0, 0.12), around(1.03, 0.06), around(0, 0.05), around(0.0, 0.05), around(0.0, 0.05))
    yaw, nod = around(0, 0.07), around(0, 0.05)
    skin, dark = between(95, 225), between(0.35, 0.72)
    canvas.fill(between(20, 200) + between(-50, 50) * canvas.x)
    _head(
        canvas,
        skin,
        hair=between(12, 130),
        length=between(0.0, 1.0),
        fringe=between(-0.72, -0.48),
        jaw=around(0.0, 0.05),
    )
    canvas.shade(1 + between(-0.35, 0.35) * canvas.x + between(-0.2, 0.2) * canvas.y)
    canvas.turn(yaw, nod)
    ink = skin * dark
    upper, lower = canvas.band(-0.95, 0.6), canvas.band(0.0, 1.0)  # where the eyes and the mouth of a leaning head are
    _eyes(upper, traits, skin, ink, gap=around(0.33, 0.02), height=around(-0.17, 0.02), gaze=around(0, 0.025), side=yaw)
    _brows(upper, traits, ink * between(0.5, 0.95), thickness=around(0.042, 0.009), gap=around(0.34, 0.02))
    _nose(upper, traits, skin, ink, length=around(0.17, 0.02))
    _mouth(lower, traits, skin, ink * between(0.75, 1.0), height=around(0.52, 0.025), lip=around(0.040, 0.010))
    _folds(canvas, traits, skin)
    canvas.occlude(generator)
    return canvas.photograph(generator)


def _head(canvas: Canvas, skin: Floats, hair: Floats, length: Floats, fringe: Floats, jaw: Floats) -> None:
    canvas.paint(canvas.ellipse(0.0, -0.10 + 0.22 * length, 0.86, 0.98 + 0.2 * length), hair, 1.0)
    canvas.paint(canvas.ellipse(0.0, 1.05, 0.36, 0.55), skin * 0.78, 1.0)  # neck
    for side in (-1, 1):
        canvas.paint(canvas.ellipse(side * 0.74, -0.02, 0.10, 0.18), skin * 0.85, 1.0)
    narrowing = 1 - (0.16 + jaw) * np.clip(canvas.y, 0, None)
    face = canvas.ellipse(0.0, 0.04, 0.74 * narrowing, 0.93)
    canvas.paint(face, skin * (1.04 - 0.22 * np.abs(canvas.x) ** 2), 1.0)
    hairline = fringe + 0.10 * np.cos(canvas.x * 3.0) - canvas.y  # positive above the line
    canvas.paint(
        np.maximum(-hairline, face - 0.05), hair, 0.95
    )  # beyond the face's edge, so that no skin shines through


def _eyes(
    canvas: Canvas,
    traits: dict[str, Floats],
    skin: Floats,
    ink: Floats,
    gap: Floats,
    height: Floats,
    gaze: Floats,
    side: Floats,
) -> None:
    opening = 0.078 * traits["lids"]
    for sign in (-1, 1):
        x, y = sign * gap + 0.3 * side, height
        canvas.paint(canvas.ellipse(x, y - 0.01, 0.20, 0.13), skin * 0.86, 0.5)  # socket
        white = canvas.almond(x, y, 0.155, opening)
        canvas.paint(white, np.minimum(skin * 1.25 + 18, 245), 0.95)
        iris = canvas.ellipse(x + gaze + 0.2 * side, y - 0.004, 0.070, 0.074)
        canvas.paint(np.maximum(iris, white), ink * 0.45, 1.0)
        canvas.paint(
            canvas.ellipse(x + gaze + 0.025, y - 0.03, 0.018, 0.018), 235.0, 0.8 * np.clip(traits["lids"] - 0.3, 0, 1)
        )
        canvas.paint(canvas.outline(white, 0.020) + 0.03 * np.clip(canvas.y - y, 0, None), ink * 0.6, 0.85)
        bags = canvas.curve(x, y + opening + 0.055, 0.13, -0.5 * traits["cheeks"] - 0.35, 0.012)
        canvas.paint(bags, ink, 0.20 + 0.25 * traits["cheeks"])


def _brows(canvas: Canvas, traits: dict[str, Floats], ink: Floats, thickness: Floats, gap: Floats) -> None:
    inner, outer = traits["inner"], traits["outer"]
    lowered = np.clip(-inner, 0, None)
    for sign in (-1, 1):
        ends = (
            (sign * (gap - 0.19 - 0.045 * lowered), -0.345 - 0.095 * inner),
            (sign * (gap + 0.20), -0.335 - 0.085 * outer),
        )
        canvas.paint(canvas.stroke(*ends[0], *ends[1], thickness, bend=-0.055), ink, 0.92)


def _nose(canvas: Canvas, traits: dict[str, Floats], skin: Floats, ink: Floats, length: Floats) -> None:
    wrinkle = traits["wrinkle"]
    tip = 0.06 + length - 0.03 * wrinkle
    canvas.paint(canvas.stroke(0.055, -0.12, 0.085, tip, 0.020), skin * 0.80, 0.55)
    canvas.paint(canvas.ellipse(0.0, tip, 0.085, 0.06), np.minimum(skin * 1.08, 250), 0.6)
    for sign in (-1, 1):
        canvas.paint(canvas.ellipse(sign * (0.075 + 0.01 * wrinkle), tip + 0.045, 0.034, 0.020), ink * 0.7, 0.85)
        canvas.paint(
            canvas.stroke(sign * 0.05, -0.20, sign * 0.015, -0.30, 0.014), ink, 0.5 * np.clip(-traits["inner"], 0, 1)
        )
        for row in (0.0, 0.07):
            canvas.paint(
                canvas.stroke(0.0, -0.07 + row, sign * 0.11, -0.10 + row, 0.013), ink, 0.55 * np.clip(wrinkle, 0, 1)
            )


def _mouth(canvas: Canvas, traits: dict[str, Floats], skin: Floats, ink: Floats, height: Floats, lip: Floats) -> None:
    reach = 0.27 * np.clip(traits["mouth_width"], 0.55, 1.5)
    across = np.clip((canvas.x - 0.0) / reach, -1, 1)
    bend = 0.15 * traits["mouth_curve"]
    middle = height + bend * (0.45 - across**2)  # corners up where the curve is positive
    arch = np.sqrt(np.clip(1 - across**2, 0, None))
    jaw = traits["mouth_open"]
    upper = middle - (0.045 * jaw + 0.075 * traits["lip_raise"] * np.clip(0.3 + jaw, 0, 1)) * arch
    lower = middle + 0.235 * jaw * arch
    beyond = np.abs(canvas.x) - reach
    lips = np.maximum(
        np.maximum(upper - lip * (0.4 + 0.6 * arch) - canvas.y, canvas.y - lower - lip * 1.35 * arch), beyond
    )
    canvas.paint(lips, skin * 0.66, 0.85)
    inside = np.maximum(np.maximum(upper - canvas.y, canvas.y - lower), beyond)
    canvas.paint(inside, ink * 0.35, 1.0)
    bared = np.clip(traits["teeth"], 0, 1)
    teeth = np.maximum(inside + 0.008, canvas.y - upper - 0.075)
    canvas.paint(teeth, np.minimum(skin + 70, 240), 0.95 * np.clip(bared * 2 - 0.4, 0, 1))
    line = np.maximum(np.abs(canvas.y - middle) - 0.016, beyond)
    canvas.paint(line, ink * 0.6, np.clip(1 - 5 * jaw, 0, 0.9))
    for sign in (-1, 1):
        canvas.paint(canvas.ellipse(sign * reach, height - 0.55 * bend, 0.03, 0.03), ink * 0.8, 0.6)


def _folds(canvas: Canvas, traits: dict[str, Floats], skin: Floats) -> None:
    depth = np.clip(0.12 + 0.55 * traits["cheeks"] + 0.4 * traits["wrinkle"], 0, 0.8)
    forehead = np.clip(np.maximum(traits["inner"], traits["outer"]) - 0.35, 0, 0.6)
    for sign in (-1, 1):
        canvas.paint(canvas.stroke(sign * 0.14, 0.24, sign * 0.37, 0.50, 0.016, bend=-0.04), skin * 0.66, depth)
        canvas.paint(
            canvas.ellipse(sign * 0.42, 0.20, 0.15, 0.10), np.minimum(skin * 1.10, 250), 0.5 * traits["cheeks"]
        )
    for row in (-0.56, -0.49):
        canvas.paint(canvas.curve(0.0, row, 0.34, 0.12, 0.011), skin * 0.68, forehead)

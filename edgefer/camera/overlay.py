"""The overlay of a picture: box, label, bars of the probabilities, and the state of the app."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgefer.camera.frame import LabelledFace, LabelledFrame
from edgefer.camera.pictures import Pixels, cv2
from edgefer.camera.smooth import Probabilities
from edgefer.engines.classifier import Classifier

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (60, 60, 230),
    (70, 150, 50),
    (200, 80, 160),
    (0, 190, 250),
    (220, 130, 40),
    (60, 140, 250),
    (180, 180, 180),
    (150, 150, 0),
    (90, 60, 140),
)
"""BGR, one for each class; they begin again after the ninth. All carry black or white text."""

UNSURE: Colour = (140, 140, 140)
DARK: Colour = (25, 25, 25)
LIGHT: Colour = (245, 245, 245)

_FONT = 0  # cv2.FONT_HERSHEY_SIMPLEX
_BARS_FROM = 0.16
"""Faces from this share of the picture's height on get bars; on smaller ones nobody could read them."""


def draw(labelled: LabelledFrame, classifier: Classifier, fps: float | None, *, recording: bool = False) -> None:
    """Draw faces and status onto ``labelled.frame.pixels``, in place."""
    pixels = labelled.frame.pixels
    parts = [] if fps is None else [f"{fps:.0f} fps"]
    parts += [f"{labelled.age_ms:.0f} ms", f"{classifier.contract.architecture} {classifier.precision.upper()}"]
    if labelled.left_out:
        parts.append(f"+{labelled.left_out} faces")
    scale = text_scale(pixels)
    width, height = _text_size("  ".join(parts), scale)
    _shade(pixels, 0, 0, width + height, 2 * height)
    _text(pixels, "  ".join(parts), (height // 2, int(1.5 * height)), scale, LIGHT)
    for face in reversed(labelled.faces):  # the largest last, on top; the status must not hide a label
        draw_face(pixels, face, classifier.contract.labels)
    if recording:
        radius = height // 2
        at = (pixels.shape[1] - 4 * height, height)
        cv2.circle(pixels, at, radius, (40, 40, 230), -1, cv2.LINE_AA)
        _text(pixels, "REC", (at[0] + 2 * radius, int(1.5 * height)), scale, (40, 40, 230))


def draw_face(pixels: Pixels, face: LabelledFace, labels: Sequence[str]) -> None:
    """Box and label of one face, with bars if it is large enough, onto ``pixels``."""
    index = None if face.label is None else labels.index(face.label)
    colour = UNSURE if index is None else PALETTE[index % len(PALETTE)]
    x, y, width, height = (round(v) for v in face.tracked.detection.box)
    scale = text_scale(pixels)
    cv2.rectangle(pixels, (x, y), (x + width, y + height), colour, max(1, round(3 * scale)))
    title = "unsure" if index is None else f"{labels[index]} {100 * face.probabilities[index]:.0f}%"
    text_width, text_height = _text_size(title, scale)
    pad = text_height // 2
    left = max(0, min(x, pixels.shape[1] - text_width - 2 * pad))
    top = y - text_height - 2 * pad
    top = top if top >= 0 else min(y + height, pixels.shape[0] - text_height - 2 * pad)
    bottom = top + text_height + 2 * pad
    cv2.rectangle(pixels, (left, top), (left + text_width + 2 * pad, bottom), colour, -1)
    _text(pixels, title, (left + pad, bottom - pad), scale, _readable_on(colour))
    if height >= _BARS_FROM * pixels.shape[0]:
        _bars(pixels, face.probabilities, labels, (x, y, width), scale)


def text_scale(pixels: Pixels) -> float:
    """OpenCV's font scale for a picture: readable from 160 to 4,000 lines."""
    return max(0.35, float(min(pixels.shape[:2])) / 900)


def _bars(
    pixels: Pixels, values: Probabilities, labels: Sequence[str], box: tuple[int, int, int], scale: float
) -> None:
    """Bars right of the box (x, y, width), or left of it where there is no room."""
    small = 0.75 * scale
    names = max(_text_size(label, small)[0] for label in labels)
    line = int(2.1 * _text_size("Ag", small)[1])
    width = names + 5 * line
    x, y, face_width = box
    left = x + face_width + line // 4
    if left + width > pixels.shape[1]:
        left = max(0, x - width - line // 4)
    top = max(0, min(y, pixels.shape[0] - line * len(labels)))
    _shade(pixels, left, top, width, line * len(labels))
    for row, (label, value) in enumerate(zip(labels, values, strict=True)):
        base = top + row * line
        _text(pixels, label, (left + line // 4, base + int(0.72 * line)), small, LIGHT)
        start = left + names + line // 2
        end = start + round(float(value) * (left + width - line // 4 - start))
        cv2.rectangle(pixels, (start, base + line // 5), (end, base + 4 * line // 5), PALETTE[row % len(PALETTE)], -1)


def _shade(pixels: Pixels, left: int, top: int, width: int, height: int) -> None:
    """Darken a part of the picture, for text."""
    part = pixels[max(0, top) : top + height, max(0, left) : left + width]
    if part.size:
        part[:] = part // 8  # another face's bars must not shine through


def _text(pixels: Pixels, text: str, at: tuple[int, int], scale: float, colour: Colour) -> None:
    cv2.putText(pixels, _plain(text), at, _FONT, scale, colour, max(1, round(1.6 * scale)), cv2.LINE_AA)


def _text_size(text: str, scale: float) -> tuple[int, int]:
    size: Any = cv2.getTextSize(_plain(text), _FONT, scale, max(1, round(1.6 * scale)))[0]
    return int(size[0]), int(size[1])


def _plain(text: str) -> str:
    """OpenCV's fonts have ASCII only."""
    return text.encode("ascii", "replace").decode("ascii")


def _readable_on(colour: Colour) -> Colour:
    blue, green, red = colour
    return DARK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else LIGHT

"""The overlay of a picture: box, label, bars of the probabilities, and the state of the app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

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
    status = Area(0, 0, width + height, 2 * height)
    _shade(pixels, status)
    _text(pixels, "  ".join(parts), (height // 2, int(1.5 * height)), scale, LIGHT)
    draw_faces(pixels, labelled.faces, classifier.contract.labels, status)
    if recording:
        radius = height // 2
        at = (pixels.shape[1] - 4 * height, height)
        cv2.circle(pixels, at, radius, (40, 40, 230), -1, cv2.LINE_AA)
        _text(pixels, "REC", (at[0] + 2 * radius, int(1.5 * height)), scale, (40, 40, 230))


class Area(NamedTuple):
    """A rectangle of a picture, pixels."""

    left: int
    top: int
    width: int
    height: int

    def meets(self, other: Area) -> bool:
        """Whether the two share a pixel."""
        across = self.left < other.left + other.width and other.left < self.left + self.width
        return across and self.top < other.top + other.height and other.top < self.top + self.height

    def within(self, pixels: Pixels) -> bool:
        """Whether it lies in the picture."""
        height, width = pixels.shape[:2]
        return self.left >= 0 and self.top >= 0 and self.left + self.width <= width and self.top + self.height <= height


def draw_faces(
    pixels: Pixels, faces: Sequence[LabelledFace], labels: Sequence[str], status: Area | None = None
) -> None:
    """Box and label of each face, with bars on the large ones, onto ``pixels``; ``faces`` are sorted, largest first.

    Labels and bars cover no other face, and nothing else that was written. Those for which there is no such place at
    their face are left out, bars before labels and small faces before large ones: the box has the colour of its class.
    """
    boxes = [Area(*(round(v) for v in face.tracked.detection.box)) for face in faces]
    scale = text_scale(pixels)
    taken = [] if status is None else [status]

    def first_free(places: Iterable[Area], index: int) -> Area | None:
        others = [*boxes[:index], *boxes[index + 1 :], *taken]
        free = (area for area in places if area.within(pixels) and not any(area.meets(other) for other in others))
        found = next(free, None)
        taken.extend([] if found is None else [found])
        return found

    titles = [
        first_free(_places_of_title(pixels, box, _text_size(_title(face, labels), scale)), index)
        for index, (face, box) in enumerate(zip(faces, boxes, strict=True))
    ]
    tall = _BARS_FROM * pixels.shape[0]
    bars = [
        first_free(_places_of_bars(pixels, box, labels), index) if box.height >= tall else None
        for index, box in enumerate(boxes)
    ]
    for face, box, title, panel in reversed(list(zip(faces, boxes, titles, bars, strict=True))):  # the largest on top
        if panel is not None:
            _draw_bars(pixels, face.probabilities, labels, panel)
        colour = UNSURE if face.label is None else PALETTE[labels.index(face.label) % len(PALETTE)]
        corner = (box.left + box.width, box.top + box.height)
        cv2.rectangle(pixels, (box.left, box.top), corner, colour, max(1, round(3 * scale)))
        if title is None:
            continue
        right, bottom = title.left + title.width, title.top + title.height
        cv2.rectangle(pixels, (title.left, title.top), (right, bottom), colour, -1)
        pad = title.height // 4
        _text(pixels, _title(face, labels), (title.left + pad, bottom - pad), scale, _readable_on(colour))


def _title(face: LabelledFace, labels: Sequence[str]) -> str:
    if face.label is None:
        return "unsure"
    return f"{face.label} {100 * face.probabilities[labels.index(face.label)]:.0f}%"


def _places_of_title(pixels: Pixels, box: Area, text: tuple[int, int]) -> Iterator[Area]:
    """Above the box, below it, or at its top or bottom inside, each along its left edge and along its right one."""
    pad = text[1] // 2
    width, height = text[0] + 2 * pad, text[1] + 2 * pad
    bottom = box.top + box.height
    for top in (box.top - height, bottom, max(0, box.top), min(bottom, pixels.shape[0]) - height):
        for left in (box.left, box.left + box.width - width):
            yield Area(max(0, min(left, pixels.shape[1] - width)), top, width, height)


def text_scale(pixels: Pixels) -> float:
    """OpenCV's font scale for a picture: readable from 160 to 4,000 lines."""
    return max(0.35, float(min(pixels.shape[:2])) / 900)


def _bars_size(labels: Sequence[str], scale: float) -> tuple[int, int]:
    """Widest name and height of a line, pixels."""
    small = 0.75 * scale
    return max(_text_size(label, small)[0] for label in labels), int(2.1 * _text_size("Ag", small)[1])


def _places_of_bars(pixels: Pixels, box: Area, labels: Sequence[str]) -> Iterator[Area]:
    """Right of the box, left of it, below and above."""
    names, line = _bars_size(labels, text_scale(pixels))
    width, height, gap = names + 5 * line, line * len(labels), line // 4
    along = max(0, min(box.top, pixels.shape[0] - height)), max(0, min(box.left, pixels.shape[1] - width))
    yield Area(box.left + box.width + gap, along[0], width, height)
    yield Area(box.left - width - gap, along[0], width, height)
    yield Area(along[1], box.top + box.height + gap, width, height)
    yield Area(along[1], box.top - height - gap, width, height)


def _draw_bars(pixels: Pixels, values: Probabilities, labels: Sequence[str], place: Area) -> None:
    scale = text_scale(pixels)
    names, line = _bars_size(labels, scale)
    _shade(pixels, place)
    for row, (label, value) in enumerate(zip(labels, values, strict=True)):
        base = place.top + row * line
        _text(pixels, label, (place.left + line // 4, base + int(0.72 * line)), 0.75 * scale, LIGHT)
        start = place.left + names + line // 2
        end = start + round(float(value) * (place.left + place.width - line // 4 - start))
        cv2.rectangle(pixels, (start, base + line // 5), (end, base + 4 * line // 5), PALETTE[row % len(PALETTE)], -1)


def _shade(pixels: Pixels, place: Area) -> None:
    """Darken a part of the picture, for text."""
    part = pixels[max(0, place.top) : place.top + place.height, max(0, place.left) : place.left + place.width]
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

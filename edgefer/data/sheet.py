"""Contact sheets: a look at the faces that a command works on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefer.atomic import write_bytes
from edgefer.data.faceset import FaceSet
from edgefer.data.sources import Faces
from edgefer.errors import EdgeferError, require

_CELL = 72  # pixels of a face's side on the sheet
_CAPTION = 16  # pixels under or over a face
_NAME_WIDTH = 96
_MARGIN = 4
_BLACK, _RED, _WHITE = (0, 0, 0), (0, 0, 200), (255, 255, 255)  # BGR


def contact_sheet(
    faces: FaceSet,
    path: str | os.PathLike[str],
    *,
    per_class: int = 8,
    columns: int | None = None,
    predicted: ArrayLike | None = None,
) -> None:
    """Write a PNG with up to ``per_class`` faces of each class, a class a row (or more), its name on the left.

    Args:
        faces: which faces; of each class the first ones are shown.
        path: the PNG; written whole or not at all.
        per_class: how many faces of a class.
        columns: faces in a row; all of a class in one row where absent.
        predicted: a label for each of ``faces``, shown under it; wrong ones are red and framed.

    Raises:
        EdgeferError: OpenCV is missing, a face cannot be read, or ``predicted`` does not fit.
    """
    cv2 = require("cv2", "camera", "drawing a contact sheet")
    if per_class < 1 or (columns is not None and columns < 1):
        raise EdgeferError(
            f"a contact sheet of {per_class} faces per class in {columns} columns shows nothing",
            hint="ask for 1 or more",
        )
    guesses = None if predicted is None else _checked(predicted, faces)
    bands = []
    for label, name in enumerate(faces.classes):
        chosen = np.flatnonzero(faces.labels == label)[:per_class]
        wide = columns or per_class
        rows = [chosen[start : start + wide] for start in range(0, max(len(chosen), 1), wide)]
        for number, row in enumerate(rows):
            bands.append(_band(cv2, faces, row, wide, f"{name}" if number == 0 else "", guesses))
    encoded, png = cv2.imencode(".png", np.vstack(bands))
    if not encoded:
        raise EdgeferError(f"OpenCV could not encode the contact sheet {path} as PNG")
    write_bytes(path, png.tobytes())


def _checked(predicted: ArrayLike, faces: FaceSet) -> NDArray[np.int64]:
    guesses = np.asarray(predicted)
    if guesses.shape != (len(faces),) or guesses.dtype.kind not in "iu":
        raise EdgeferError(
            f"predicted labels of shape {guesses.shape} and type {guesses.dtype} for {len(faces)} faces",
            hint="pass one whole number a face",
        )
    if len(guesses) and not 0 <= int(guesses.min()) <= int(guesses.max()) < len(faces.classes):
        raise EdgeferError(f"predicted labels from {guesses.min()} to {guesses.max()} for {len(faces.classes)} classes")
    return guesses.astype(np.int64)


def _band(
    cv2: Any,
    faces: FaceSet,
    row: NDArray[np.intp],
    wide: int,
    name: str,
    guesses: NDArray[np.int64] | None,
) -> Faces:
    height = _CELL + 2 * _MARGIN + (_CAPTION if guesses is not None else 0)
    band = np.full((height, _NAME_WIDTH + wide * (_CELL + _MARGIN) + _MARGIN, 3), _WHITE, np.uint8)
    _write(cv2, band, name, _MARGIN, _MARGIN + _CELL // 2, _BLACK)
    for place, index in enumerate(row):
        left = _NAME_WIDTH + place * (_CELL + _MARGIN)
        band[_MARGIN : _MARGIN + _CELL, left : left + _CELL] = _cell(cv2, faces.images([index])[0])
        if guesses is not None:
            wrong = guesses[index] != faces.labels[index]
            colour = _RED if wrong else _BLACK
            _write(cv2, band, faces.classes[guesses[index]], left + 2, _MARGIN + _CELL + _CAPTION - 3, colour)
            if wrong:
                cv2.rectangle(band, (left + 1, _MARGIN + 1), (left + _CELL - 2, _MARGIN + _CELL - 2), colour, 2)
    return band


def _cell(cv2: Any, face: Faces) -> Faces:
    """Fit a face of any size into a cell, without bending it."""
    scale = _CELL / max(face.shape[:2])
    size = (max(1, round(face.shape[1] * scale)), max(1, round(face.shape[0] * scale)))
    small = cv2.resize(face, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    colour = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR) if small.ndim == 2 else small[..., ::-1]
    cell = np.full((_CELL, _CELL, 3), _WHITE, np.uint8)
    top, left = (_CELL - colour.shape[0]) // 2, (_CELL - colour.shape[1]) // 2
    cell[top : top + colour.shape[0], left : left + colour.shape[1]] = colour
    return cell


def _write(cv2: Any, image: Faces, text: str, x: int, y: int, colour: Sequence[int]) -> None:
    ascii_only = text.encode("ascii", "replace").decode()  # OpenCV's Hershey fonts have nothing else
    cv2.putText(image, ascii_only, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)

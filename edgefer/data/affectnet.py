"""AffectNet (Mollahosseini, Hasani and Mahoor, 2017): a csv of expressions and face boxes, and images on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefer.data import splits
from edgefer.data.classes import AFFECTNET
from edgefer.data.sources import FileSource, Loaded, csv_rows, is_file, opened, without_missing
from edgefer.errors import EdgeferError
from edgefer.progress import progress

PATH_COLUMN = "subdirectory_filepath"
CLASS_SETS = {"affectnet7": AFFECTNET[:7], "affectnet8": AFFECTNET, "affectnet9": (*AFFECTNET, "none")}
"""The values of ``--classes``: seven expressions without contempt; eight; eight and one class for 8, 9 and 10."""

_EXPRESSIONS = (*AFFECTNET, "none", "uncertain", "no face")
_BOX = ("face_x", "face_y", "face_width", "face_height")
_HINT = "AffectNet's csv has the columns subDirectory_filePath and expression (and face_x, face_y, …)"


@dataclass(frozen=True)
class _Rows:
    """``boxes`` is N×4, or None where the csv has no such columns."""

    names: list[str]
    expressions: NDArray[np.int64]
    boxes: NDArray[np.float64] | None


def is_affectnet(path: Path) -> bool:
    """Whether it is a csv (or csv.gz) whose first line names AffectNet's column of image paths."""
    if not is_file(path, ".csv", ".csv.gz"):
        return False
    try:
        with opened(path) as stream:
            header = stream.readline(1 << 14).decode("utf-8-sig")
    except (EdgeferError, UnicodeDecodeError):
        return False  # another reader says what is wrong with the file
    return PATH_COLUMN in [name.strip().strip('"').lower() for name in header.split(",")]


def load_affectnet(
    path: Path,
    *,
    classes: str | None = None,
    root: Path | None = None,
    allow_missing: bool = False,
    boxes: bool = True,
) -> Loaded:
    """List the faces of an AffectNet csv; they are decoded later.

    Args:
        path: the csv. One called training or validation declares that part.
        classes: one of ``CLASS_SETS``; ``affectnet8`` if None. Faces of other expressions are left out and counted.
        root: the folder that the csv's paths start from; the csv's own if None.
        allow_missing: leave out images that are not there.
        boxes: cut the face box out, where the csv has one; False where the images are cut already.

    Raises:
        EdgeferError: the csv cannot be read, a row is malformed (says which line), or images are missing.
    """
    name = classes or "affectnet8"
    if name not in CLASS_SETS:
        raise EdgeferError(f"there is no set of classes '{name}'", hint=f"--classes {', '.join(CLASS_SETS)}")
    codes, count = np.arange(len(_EXPRESSIONS)), len(CLASS_SETS[name])
    label_of = np.minimum(codes, 8) if name == "affectnet9" else np.where(codes < count, codes, -1)
    rows = _read(path, label_of)
    labels = label_of[rows.expressions]
    lost = rows.expressions[labels < 0]
    dropped = {f"AffectNet {_EXPRESSIONS[code]}": int(np.sum(lost == code)) for code in np.unique(lost)}
    folder = path.parent if root is None else root
    paths = [folder / name.replace("\\", "/") for name in rows.names]
    labels, missing = without_missing(paths, labels, str(path), allow_missing)
    dropped |= {what: len(names) for what, names in missing.items()}
    part = splits.part_named(path.name.split(".")[0].replace("_set", ""))
    declared = None if part is None else splits.settle(np.full(len(labels), part, np.int8), str(path))
    return Loaded(
        FileSource(paths, rows.boxes if boxes else None),
        labels,
        CLASS_SETS[name],
        declared,
        names=tuple(item.name for item in paths),
        dropped=dropped,
        faults=missing,
    )


def _read(path: Path, label_of: NDArray[np.int64]) -> _Rows:
    """Rows of expressions without a label (−1) may lack a path or a box."""
    names: list[str] = []
    expressions: list[int] = []
    boxes: list[tuple[float, ...]] = []
    rows = csv_rows(path)
    _, header = next(rows, ("", []))
    place = {title.strip().lower(): i for i, title in enumerate(header)}
    boxed = all(column in place for column in _BOX)
    if PATH_COLUMN not in place or "expression" not in place:
        raise EdgeferError(f"{path} is not AffectNet's csv: it has {', '.join(list(place)[:8])}", hint=_HINT)
    with progress(f"reading {path.name}", None) as advance:
        for where, row in rows:
            name, expression, box = _row(row, place, boxed, label_of, where)
            names.append(name)
            expressions.append(expression)
            boxes.append(box)
            advance()
    if not names:
        raise EdgeferError(f"{path} has a header and no rows", hint=_HINT)
    return _Rows(names, np.asarray(expressions, np.int64), np.asarray(boxes, np.float64) if boxed else None)


def _row(
    row: list[str], place: dict[str, int], boxed: bool, label_of: NDArray[np.int64], where: str
) -> tuple[str, int, tuple[float, ...]]:
    try:
        name, text = row[place[PATH_COLUMN]].strip(), row[place["expression"]].strip()
    except IndexError as cause:
        raise EdgeferError(f"{where}: {cause}", hint=_HINT) from cause
    if not re.fullmatch("0*[0-9]{1,2}", text) or int(text) >= len(label_of):
        raise EdgeferError(f"{where}: the expression '{text[:30]}' is not one of 0…10", hint=_HINT)
    if label_of[int(text)] < 0:
        return name, int(text), (0.0,) * (len(_BOX) if boxed else 0)
    try:
        box = tuple(float(row[place[column]]) for column in _BOX) if boxed else ()
    except (IndexError, ValueError) as cause:
        raise EdgeferError(f"{where}: {cause}", hint=_HINT) from cause
    if not name:
        raise EdgeferError(f"{where}: the path of the image is empty", hint=_HINT)
    if boxed and not (np.isfinite(box).all() and min(box[2:]) >= 1):
        raise EdgeferError(
            f"{where}: the face box {'×'.join(f'{value:g}' for value in box)} has no area", hint="delete the row"
        )
    return name, int(text), box

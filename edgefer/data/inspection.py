"""A look at a data set: what is in it, what is wrong with it, and contact sheets of its faces."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefer.atomic import write_bytes
from edgefer.data import splits
from edgefer.data.faceset import FaceSet
from edgefer.data.sources import Faces, face_hash
from edgefer.data.splits import Grouping
from edgefer.errors import EdgeferError
from edgefer.intake import require_opencv
from edgefer.progress import as_many, number_of, progress

_LISTED = 10
_READ_AT_ONCE, _BYTES_AT_ONCE = 64, 1 << 20
UNDECLARED = "undeclared"
WITHOUT_LABEL = "without a label"
UNREADABLE = "faces that cannot be read"


@dataclass(frozen=True)
class Repeats:
    """Faces that repeat others, by one way to compare them.

    Attributes:
        within: split → faces of it beyond the first of each group in it.
        across: ``"train & test"`` → faces of both that are in a group with members in both.
        other_labels: faces in groups whose members have different labels.
    """

    within: Mapping[str, int]
    across: Mapping[str, int]
    other_labels: int


@dataclass(frozen=True)
class DataInspection:
    """Result of :func:`inspect_faces`.

    Attributes:
        origin: name of the set.
        faces: number of faces that have a label and can be read.
        classes: names, in order.
        counts: split → class → faces; :data:`WITHOUT_LABEL` → faces where there are no classes.
        sizes: ``"48×48×1"`` → number of faces, sorted by falling number.
        exact: faces with the same pixels.
        near: faces that differ little (see :mod:`edgefer.data.splits`), those with the same pixels included.
        dropped: reason → faces that were left out by rule.
        unreadable: number of faces that could not be read; ``unreadable_listed`` says why for the first ones.
        faults: fault on disk → the files that have it.
        problems: points that need attention, one sentence for each.
        notes: what is no fault and good to know, one sentence for each.
    """

    origin: str
    faces: int
    classes: tuple[str, ...]
    counts: Mapping[str, Mapping[str, int]]
    sizes: Mapping[str, int]
    exact: Repeats
    near: Repeats
    dropped: Mapping[str, int]
    unreadable: int
    unreadable_listed: tuple[str, ...]
    faults: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class _Seen:
    """One pass over the faces: ``readable`` are indices; the other arrays have an entry for each of all faces."""

    readable: NDArray[np.int64]
    hashes: NDArray[np.str_]
    keys: NDArray[np.uint64]
    sizes: Counter[str]
    faults: list[str]


def inspect_faces(faces: FaceSet) -> tuple[DataInspection, FaceSet]:
    """Read every face once; what cannot be read is counted, not fatal.

    Returns:
        What was found, and the faces that can be read.

    Raises:
        EdgeferError: no face can be read.
    """
    seen = _pass_over(faces)
    aside = {what: names for what, names in faces.faults.items() if what != UNREADABLE}
    faults = [*faces.faults.get(UNREADABLE, ()), *seen.faults]
    if not len(seen.readable):
        raise EdgeferError(f"{faces.origin}: none of {len(faces):,} faces can be read", hint=seen.faults[0])
    kept = faces.subset(seen.readable)
    parts = _parts(kept, seen.keys[seen.readable])
    exact = _repeats(seen.hashes[seen.readable], parts, kept.labels)
    near = _repeats(seen.keys[seen.readable], parts, kept.labels)
    counts = {name: _counts(kept, parts == name) for name in _names(parts)}
    found = DataInspection(
        origin=faces.origin,
        faces=len(kept),
        classes=kept.classes,
        counts=counts,
        sizes=dict(seen.sizes.most_common()),
        exact=exact,
        near=near,
        dropped=dict(kept.dropped),
        unreadable=len(faults),
        unreadable_listed=tuple(faults[:_LISTED]),
        faults=aside,
        problems=(
            *(f"{what}: {len(names):,}" for what, names in aside.items()),
            *_problems(counts, exact, near, len(faults), kept),
        ),
        notes=tuple(_notes(counts, exact, near, kept)),
    )
    return found, kept


def without_unreadable(faces: FaceSet) -> FaceSet:
    """The faces that can be read; ``.faults`` says of the others what is wrong."""
    seen = _pass_over(faces)
    kept = faces.subset(seen.readable)
    if seen.faults:
        kept.faults[UNREADABLE] = tuple(seen.faults)
    return kept


def _pass_over(faces: FaceSet) -> _Seen:
    grouping = Grouping(len(faces))
    hashes = np.full(len(faces), "", "<U16")
    sizes: Counter[str] = Counter()
    faults: list[str] = []
    readable = []
    with progress("reading faces", len(faces)) as advance:
        for images, at in _read(faces, faults):
            if images is None:  # a flat face is like no other
                hashes[at] = [f"{2**64 - 1 - int(index):016x}" for index in at]
            else:
                hashes[at] = [face_hash(face) for face in images]
                sizes["×".join(map(str, images.shape[1:]))] += len(at)
                readable.extend(at.tolist())
            grouping.add(np.zeros((len(at), 1, 1, 1), np.uint8) if images is None else images, hashes[at].tolist())
            advance(len(at))
    return _Seen(np.asarray(readable, np.int64), hashes, grouping.keys(), sizes, faults)


def _read(faces: FaceSet, faults: list[str]) -> Iterator[tuple[Faces | None, NDArray[np.int64]]]:
    """All faces in order with their indices, several at a time where they have one size; None where unreadable."""
    start, together = 0, 1
    largest = _READ_AT_ONCE
    while start < len(faces):
        indices = np.arange(start, min(start + together, len(faces)))
        images = None
        try:
            images = faces.images(indices)
        except EdgeferError as fault:
            if together > 1:  # of different sizes, or one is broken: from here on one by one
                together = largest = 1
                continue
            faults.append(fault.message)
        else:
            together = max(1, min(largest, _BYTES_AT_ONCE // max(1, images[0].nbytes)))
        yield images, indices
        start += len(indices)


def _parts(faces: FaceSet, keys: NDArray[np.uint64]) -> NDArray[np.str_]:
    """The split of each face: as declared, or as commands divide a set that declares none."""
    codes = faces.declared_parts
    if codes is None and faces.undivided:
        codes = splits.train_and_test(keys)
    if codes is None:
        return np.full(len(faces), faces.picked or UNDECLARED)
    return np.asarray(splits.DECLARED)[codes]


def _names(parts: NDArray[np.str_]) -> list[str]:
    known = [name for name in splits.DECLARED if name in parts]
    return known or [str(name) for name in np.unique(parts)]


def _counts(faces: FaceSet, chosen: NDArray[np.bool_]) -> dict[str, int]:
    return faces.subset(np.flatnonzero(chosen)).per_class_counts() or {WITHOUT_LABEL: int(chosen.sum())}


def _repeats(keys: NDArray[Any], parts: NDArray[np.str_], labels: NDArray[np.int64]) -> Repeats:
    """Faces of one key repeat each other."""
    _, group = np.unique(keys, return_inverse=True)
    names = _names(parts)
    present = {name: np.bincount(group[parts == name], minlength=int(group.max()) + 1) for name in names}
    within = {name: int((count - (count > 0)).sum()) for name, count in present.items()}
    across = {}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            shared = (present[first] > 0) & (present[second] > 0)
            across[f"{first} & {second}"] = int((present[first] + present[second])[shared].sum())
    lowest = np.full(int(group.max()) + 1, np.iinfo(np.int64).max)
    highest = np.full(int(group.max()) + 1, -1)
    np.minimum.at(lowest, group, labels)
    np.maximum.at(highest, group, labels)
    return Repeats(within, across, int((lowest != highest)[group].sum()))


def _problems(
    counts: Mapping[str, Mapping[str, int]], exact: Repeats, near: Repeats, unreadable: int, faces: FaceSet
) -> list[str]:
    found = []
    if unreadable:
        found.append(f"{number_of(unreadable, 'face')} cannot be read")
    whole = {name: sum(one.get(name, 0) for one in counts.values()) for name in faces.classes}
    for split, classes in {faces.origin: whole}.items() if faces.undivided else counts.items():
        empty = [name for name, count in classes.items() if not count]
        if empty:
            found.append(f"{split} has no face of {', '.join(empty)}")
    for pair, count in exact.across.items():
        if count:
            them = "it" if count == 1 else "them"
            same = f"{number_of(count, 'face')} {as_many(count, 'have the same pixels')}"
            found.append(f"{same} in {pair}: training leaves {them} out")
    for pair, count in near.across.items():
        if count > exact.across[pair]:
            same = f"{number_of(count, 'face')} {as_many(count, 'are the same or nearly so')}"
            found.append(f"{same} in {pair}: accuracy there is flattered")
    if exact.other_labels:
        many = f"{number_of(exact.other_labels, 'face')} {as_many(exact.other_labels, 'have')}"
        found.append(f"{many} the same pixels as another with a different label")
    if "test" not in counts and UNDECLARED not in counts and faces.picked is None:
        found.append("there is no test split: accuracy cannot be evaluated on this data set")
    return found


def _notes(counts: Mapping[str, Mapping[str, int]], exact: Repeats, near: Repeats, faces: FaceSet) -> Iterator[str]:
    total = len(faces)
    if faces.undivided:
        sizes = {name: sum(classes.values()) for name, classes in counts.items()}
        yield splits.division_sentence(faces.origin, sizes.get("train", 0), sizes.get("test", 0))
    if UNDECLARED in counts:
        yield (
            f"{UNDECLARED}: {faces.origin} names no splits and has no labels, so that nothing is divided or measured; "
            "calibration uses all of it"
        )
    repeated, alike = sum(exact.within.values()), sum(near.within.values())
    if alike:
        yield (
            f"faces with the same pixels as another of their split: {repeated:,} ({100 * repeated / total:.1f} %); the "
            f"same or nearly so: {alike:,} ({100 * alike / total:.1f} %). They count twice in training; dividing keeps "
            "them in one part"
        )


MAX_ON_SHEET = 5000
"""Maximum number of faces on a contact sheet: 30 million pixels."""

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
    """Write a PNG with up to ``per_class`` faces of each class, each class on rows of its own, with its
    name and how many of its faces are shown on the left.

    Args:
        faces: the set; the first faces of each class are shown.
        path: the PNG; written whole or not at all.
        per_class: number of faces of each class.
        columns: faces in a row; None: all of a class in one row.
        predicted: a label for each of ``faces``, shown under it; wrong ones are red and framed.

    Raises:
        EdgeferError: OpenCV is missing, a face cannot be read, ``predicted`` does not fit, or more than
            :data:`MAX_ON_SHEET` faces were asked for.
    """
    cv2 = require_opencv("drawing a contact sheet")
    if per_class < 1 or (columns is not None and columns < 1):
        raise EdgeferError(
            f"a contact sheet of {per_class} faces per class in {columns} columns shows nothing",
            hint="ask for 1 or more",
        )
    found = [np.flatnonzero(faces.labels == label) for label in range(len(faces.classes)) if faces.labelled]
    found = found or [np.flatnonzero(faces.labels == -1)]
    count = sum(min(per_class, len(rows)) for rows in found)
    if count > MAX_ON_SHEET:
        raise EdgeferError(
            f"a contact sheet of {count:,} faces is too large: it has at most {MAX_ON_SHEET:,}",
            hint=f"--per-class {MAX_ON_SHEET // len(found)}",
        )
    wide = columns or max(1, *(min(per_class, len(rows)) for rows in found))
    guesses = None if predicted is None else _checked(predicted, faces)
    bands = []
    for name, members in zip(faces.classes if faces.labelled else ("",), found, strict=True):
        shown, total = members[:per_class], len(members)
        rows = [shown[start : start + wide] for start in range(0, max(len(shown), 1), wide)]
        for number, row in enumerate(rows):
            said = [name, f"{len(shown):,} of {total:,}"] if number == 0 else []
            bands.append(_band(cv2, faces, row, wide, said, guesses))
    encoded, png = cv2.imencode(".png", np.vstack(bands))
    if not encoded:
        raise EdgeferError(f"OpenCV could not encode the contact sheet {path} as PNG")
    write_bytes(path, png.tobytes())


def _checked(predicted: ArrayLike, faces: FaceSet) -> NDArray[np.int64]:
    guesses = np.asarray(predicted)
    if guesses.shape != (len(faces),) or guesses.dtype.kind not in "iu":
        raise EdgeferError(
            f"predicted labels of shape {guesses.shape} and type {guesses.dtype} for {len(faces)} faces",
            hint="pass one whole number for each face",
        )
    if len(guesses) and not 0 <= int(guesses.min()) <= int(guesses.max()) < len(faces.classes):
        raise EdgeferError(f"predicted labels from {guesses.min()} to {guesses.max()} for {len(faces.classes)} classes")
    return guesses.astype(np.int64)


def _band(
    cv2: Any,
    faces: FaceSet,
    row: NDArray[np.intp],
    wide: int,
    said: Sequence[str],
    guesses: NDArray[np.int64] | None,
) -> Faces:
    height = _CELL + 2 * _MARGIN + (_CAPTION if guesses is not None else 0)
    band = np.full((height, _NAME_WIDTH + wide * (_CELL + _MARGIN) + _MARGIN, 3), _WHITE, np.uint8)
    for line, text in enumerate(said):
        _write(cv2, band, text, _MARGIN, _MARGIN + _CELL // 2 + line * _CAPTION, _BLACK)
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

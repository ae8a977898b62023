"""Class names: FER2013's seven, FER+'s eight, the ways in which folders spell them, and mapping one set to another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.data.faceset import FaceSet
from edgefer.errors import EdgeferError
from edgefer.progress import announce

FER2013 = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's labels 0…6, in order."""

FERPLUS = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
"""FER+'s first eight columns, in order, under FER2013's names."""

AFFECTNET = ("neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt")
"""AffectNet's expressions 0…7, in order, under FER2013's names."""

RAFDB = ("surprise", "fear", "disgust", "happy", "sad", "angry", "neutral")
"""RAF-DB's labels 1…7, in order, under FER2013's names."""

_SYNONYMS = {
    "anger": "angry",
    "disgusted": "disgust",
    "fearful": "fear",
    "happiness": "happy",
    "sadness": "sad",
    "surprised": "surprise",
    "contemptuous": "contempt",
}


def canonical(name: str) -> str:
    """FER2013's name for a class, e.g. ``Happiness`` → ``happy``; other names unchanged."""
    lower = name.strip().lower()
    known = _SYNONYMS.get(lower, lower)
    return known if known in FERPLUS else name


def order(names: set[str]) -> dict[str, tuple[int, str]]:
    """Number class folders: folder name → (label, class name).

    The seven of FER2013 and the eight of FER+ take their data set's order under any spelling; ``0`` … ``n−1`` are
    labels (named as FER2013's where n is 7), ``1`` … ``7`` are RAF-DB's (in FER2013's order); anything else is sorted
    by name, names that differ in case or are synonyms being one class.
    """
    if names == {str(number) for number in range(1, len(RAFDB) + 1)}:
        return {name: (FER2013.index(RAFDB[int(name) - 1]), RAFDB[int(name) - 1]) for name in names}
    known = {name: canonical(name) for name in names}
    for expected in (FER2013, FERPLUS):
        if set(known.values()) == set(expected):
            return {name: (expected.index(known[name]), known[name]) for name in names}
    if names == {str(number) for number in range(len(names))}:
        titles = FER2013 if len(names) == len(FER2013) else tuple(str(number) for number in range(len(names)))
        return {name: (int(name), titles[int(name)]) for name in names}
    alike: dict[str, str] = {}  # Happy and happy, Happiness and happy: one class, by the first of the names
    for name in sorted(names):
        alike.setdefault(canonical(name).lower(), name)
    firsts = sorted(alike.values())
    chosen = {name: alike[canonical(name).lower()] for name in names}
    return {name: (firsts.index(title), title) for name, title in chosen.items()}


_FORM = "--map happy=happiness,contempt= renames 'happy' and leaves 'contempt' out"


def parse_map(text: str) -> dict[str, str]:
    """``happy=happiness,contempt=`` → ``{"happy": "happiness", "contempt": ""}``.

    Raises:
        EdgeferError: a part that is no pair, or a class that is mapped twice.
    """
    mapping: dict[str, str] = {}
    for pair in text.split(","):
        source, equals, target = (part.strip() for part in pair.partition("="))
        if not equals or not source:
            raise EdgeferError(f"--map '{text}': '{pair.strip()}' is no pair of classes", hint=_FORM)
        if source in mapping:
            raise EdgeferError(f"--map '{text}' maps '{source}' twice", hint=_FORM)
        mapping[source] = target
    return mapping


def relabel(faces: FaceSet, classes: Sequence[str] | None, mapping: Mapping[str, str]) -> FaceSet:
    """The same faces with other classes; pixels and splits stay.

    Args:
        faces: the set.
        classes: the classes of the result, in their order; those of ``faces`` after the map if None.
        mapping: class → class; ``""`` leaves its faces out, which ``.dropped`` counts. A class that it does not name
            keeps its name. Several may become one.

    Raises:
        EdgeferError: the map names a class that the set does not have, or a class ends as none of ``classes``.
    """
    faces.require_labels("--map")
    unknown = [name for name in mapping if name not in faces.classes]
    if unknown:
        close = difflib.get_close_matches(unknown[0], faces.classes, n=1)
        raise EdgeferError(
            f"{faces.origin} has no class '{unknown[0]}' to map: it has {', '.join(faces.classes)}",
            hint=f"did you mean '{close[0]}'?" if close else _FORM,
        )
    renamed = [mapping.get(name, name) for name in faces.classes]
    wanted = tuple(dict.fromkeys(name for name in renamed if name)) if classes is None else tuple(classes)
    lost = [f"'{old}'" for old, new in zip(faces.classes, renamed, strict=True) if new and new not in wanted]
    if lost:
        raise EdgeferError(
            f"{faces.origin} has the class{'es' * (len(lost) > 1)} {', '.join(lost)}, none of {', '.join(wanted)}",
            hint="say what becomes of each: --map OLD=NEW, or OLD= to leave it out",
        )
    if len(wanted) < 2:
        raise EdgeferError(f"{faces.origin} has {len(wanted)} class after the map", hint=_FORM)
    table = np.asarray([wanted.index(name) if name else -1 for name in renamed], np.int64)
    labels = table[faces.labels]
    kept = np.flatnonzero(labels >= 0)
    counts = {old: int(np.sum(faces.labels == old)) for old in np.flatnonzero(table < 0)}
    dropped = {f"class '{faces.classes[old]}' left out": count for old, count in counts.items() if count}
    soft = None
    if faces.soft is not None:
        moved = np.zeros((len(kept), len(wanted)), np.float32)
        for old in np.flatnonzero(table >= 0):
            moved[:, table[old]] += faces.soft[kept, old]
        soft = distributions(moved, labels[kept])
    return faces.relabelled(kept, labels[kept], wanted, soft=soft, dropped=dropped)


def aligned(faces: FaceSet, labels: Sequence[str]) -> FaceSet:
    """``faces`` with the classes ``labels``, where its own are the same names in another order, or some of them.

    Said on stderr where it changes anything. Sets whose names differ are returned as they are: only a person knows what
    becomes of what (``--map``).
    """
    if not faces.labelled or faces.classes == tuple(labels) or not set(faces.classes) <= set(labels):
        return faces
    lacking = [name for name in labels if name not in faces.classes]
    without = f"; it has none of {', '.join(lacking)}" if lacking else ""
    announce(f"note: {faces.origin}: classes brought by name into the network's order ({', '.join(labels)}){without}")
    return relabel(faces, labels, {})


def distributions(counts: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Counts N×classes as float32 rows that sum to 1; a row without any count gets its label."""
    silent = counts.sum(axis=1) == 0
    counts[silent, labels[silent]] = 1
    return np.asarray(counts / counts.sum(axis=1, keepdims=True), dtype=np.float32)

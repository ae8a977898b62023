"""From one set's classes to another's: explicit maps, and by name where the names agree."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgefer.data.faceset import FaceSet
from edgefer.errors import EdgeferError
from edgefer.progress import announce

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
    return _with_labels(faces, table, wanted)


def aligned(faces: FaceSet, labels: Sequence[str]) -> FaceSet:
    """``faces`` with the classes ``labels``, where its own are the same names in another order, or some of them.

    Said on stderr where it changes anything. Sets whose names differ are returned as they are: only a person knows what
    becomes of what (``--map``).
    """
    if faces.classes == tuple(labels) or not set(faces.classes) <= set(labels):
        return faces
    lacking = [name for name in labels if name not in faces.classes]
    without = f"; it has none of {', '.join(lacking)}" if lacking else ""
    announce(f"note: {faces.origin}: classes brought by name into the network's order ({', '.join(labels)}){without}")
    return relabel(faces, labels, {})


def _with_labels(faces: FaceSet, table: NDArray[np.int64], classes: tuple[str, ...]) -> FaceSet:
    """``table``: old label → new label, or −1."""
    labels = table[faces.labels]
    kept = np.flatnonzero(labels >= 0)
    result = faces.subset(kept)
    result.labels, result.classes = labels[kept], classes
    for old in np.flatnonzero(table < 0):
        count = int(np.sum(faces.labels == old))
        if count:
            result.dropped[f"class '{faces.classes[old]}' left out"] = count
    if faces.soft is not None:
        result.soft = _with_columns(faces.soft[kept], table, result.labels, len(classes))
    return result


def _with_columns(
    soft: NDArray[np.float32], table: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> NDArray[np.float32]:
    """The distributions over the new classes; what was left out does not count, and where all was, the label stands."""
    moved = np.zeros((len(soft), classes), np.float32)
    for old, new in enumerate(table):
        if new >= 0:
            moved[:, new] += soft[:, old]
    silent = moved.sum(axis=1) == 0
    moved[silent, labels[silent]] = 1
    parts: NDArray[np.float32] = moved / moved.sum(axis=1, keepdims=True)
    return parts

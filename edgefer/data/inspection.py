"""A look at a data set before anything is made of it: what is in it, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.data import splits
from edgefer.data.duplicates import Grouping
from edgefer.data.faceset import FaceSet
from edgefer.data.sources import face_hash
from edgefer.errors import EdgeferError
from edgefer.progress import progress

_LISTED = 10
UNDECLARED = "undeclared"
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
class Inspection:
    """What :func:`inspect_faces` found.

    Attributes:
        origin: what the set is called.
        faces: how many have a label and can be read.
        classes: names, in order.
        counts: split → class → faces.
        sizes: ``"48×48×1"`` → faces, the most frequent first.
        exact: faces with the same pixels.
        near: faces that differ little (see :mod:`edgefer.data.duplicates`), those with the same pixels included.
        dropped: reason → faces that were left out by rule.
        unreadable: how many faces could not be read, and what was wrong with the first ones.
        faults: what is wrong on disk → all that it is wrong with.
        problems: what should be looked at, a sentence each.
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


def inspect_faces(faces: FaceSet) -> tuple[Inspection, FaceSet]:
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
    parts = _parts(kept)
    exact = _repeats(seen.hashes[seen.readable], parts, kept.labels)
    near = _repeats(seen.keys[seen.readable], parts, kept.labels)
    counts = {name: _counts(kept, parts == name) for name in _names(parts)}
    found = Inspection(
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
    hashes = np.zeros(len(faces), "<U16")
    sizes: Counter[str] = Counter()
    faults: list[str] = []
    readable = []
    with progress("reading faces", len(faces)) as advance:
        for index in range(len(faces)):
            try:
                face = faces.images([index])[0]
                hashes[index] = face_hash(face)
                sizes["×".join(map(str, face.shape))] += 1
                readable.append(index)
            except EdgeferError as fault:
                faults.append(fault.message)
                face = np.zeros((1, 1, 1), np.uint8)  # a flat face is like no other
                hashes[index] = f"{2**64 - 1 - index:016x}"
            grouping.add(face[None], [hashes[index]])
            advance()
    return _Seen(np.asarray(readable, np.int64), hashes, grouping.keys(), sizes, faults)


def _parts(faces: FaceSet) -> NDArray[np.str_]:
    """The declared split of each face."""
    codes = faces.declared_parts
    if codes is None:
        return np.full(len(faces), faces.picked or UNDECLARED)
    return np.asarray(splits.DECLARED)[codes]


def _names(parts: NDArray[np.str_]) -> list[str]:
    known = [name for name in splits.DECLARED if name in parts]
    return known or [str(name) for name in np.unique(parts)]


def _counts(faces: FaceSet, chosen: NDArray[np.bool_]) -> dict[str, int]:
    return faces.subset(np.flatnonzero(chosen)).per_class_counts()


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
        found.append(f"{unreadable:,} face{'s' * (unreadable != 1)} cannot be read")
    for split, classes in counts.items():
        empty = [name for name, count in classes.items() if not count]
        if empty:
            found.append(f"{split} has no face of {', '.join(empty)}")
    for pair, count in exact.across.items():
        if count:
            found.append(f"{count:,} faces have the same pixels in {pair}: training leaves them out")
    for pair, count in near.across.items():
        if count > exact.across[pair]:
            found.append(f"{count:,} faces are the same or nearly so in {pair}: accuracy there is flattered")
    if exact.other_labels:
        found.append(f"{exact.other_labels:,} faces have the same pixels as another with a different label")
    if "test" not in counts and UNDECLARED not in counts and faces.picked is None:
        found.append("there is no test split: nothing is left to judge by")
    return found

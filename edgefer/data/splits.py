"""Which faces are for what: the declared parts of a data set, and the seeded division of its training part."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.progress import announce

NAMES = ("train", "fit", "val", "calib", "test", "private", "all")
"""What ``DATA:split`` may name."""

DECLARED = ("train", "val", "test", "private")
"""What a file or folder may declare; a face's part is an index into this."""

TRAIN, VAL, TEST, PRIVATE = range(4)

SHARES = {"fit": 0.85, "val": 0.10, "calib": 0.05}
"""How the training part is divided."""

_SPELLINGS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
    "publictest": TEST,
    "private": PRIVATE,
    "privatetest": PRIVATE,
}


def part_named(name: str) -> int | None:
    """The index in ``DECLARED`` of a split as files and folders spell it, or None."""
    return _SPELLINGS.get(name.strip().lower())


def check_name(name: str) -> None:
    """Refuse a split name that does not exist."""
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        meant = f"did you mean '{close[0]}'? " if close else ""
        raise EdgeferError(f"there is no split '{name}'", hint=f"{meant}splits are {', '.join(NAMES)}")


def settle(parts: NDArray[np.int8], origin: str) -> NDArray[np.int8]:
    """Make a declared validation part the test part where no test part is declared (AffectNet's habit), and say so."""
    present = set(np.unique(parts).tolist())
    if VAL not in present or TEST in present:
        return parts
    announce(
        f"{origin} declares no test split: its validation split ({int(np.sum(parts == VAL))} faces) is the test split"
    )
    return np.where(parts == VAL, np.int8(TEST), parts)


def divide(keys: NDArray[np.uint64], shares: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """Assign each face to a share by its group's key, so that faces of one key stay together.

    A key is mixed with ``seed`` by splitmix64 (Steele, Lea, Flood 2014), and its place in [0, 1) chooses the share. Neither row
    order nor the other faces of the set move a face, unless they join its group.
    """
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    place = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    bounds = np.cumsum(list(shares.values())) / sum(shares.values())
    chosen = np.searchsorted(bounds[:-1], place, side="right")
    return np.asarray(list(shares))[chosen]


def fair_quotas(available: Sequence[int], total: int) -> list[int]:
    """How many to take of each class so that ``total`` is as equal as what is available allows."""
    quotas = [0] * len(available)
    left = total
    while left:
        open_classes = [i for i, count in enumerate(available) if quotas[i] < count]
        share, extra = divmod(left, len(open_classes))
        for rank, i in enumerate(open_classes):
            step = min(share + (rank < extra), available[i] - quotas[i])
            quotas[i] += step
            left -= step
    return quotas


def refuse_overlap(a_hashes: Iterable[str], b_hashes: Iterable[str], what_a: str, what_b: str) -> None:
    """Refuse two sets of faces that share pixels.

    Args:
        a_hashes, b_hashes: of :meth:`edgefer.data.FaceSet.face_hashes`.
        what_a, what_b: what to call the sets, e.g. ``"the calibration faces"``.

    Raises:
        EdgeferError: a face is in both; says how many and gives an example's hash.
    """
    shared = set(a_hashes) & set(b_hashes)
    if shared:
        raise EdgeferError(
            f"{len(shared)} of the faces are both in {what_a} and in {what_b} (for example {min(shared)})",
            hint="a measured drop would be flattered: use faces of another split, e.g. calibrate on DATA:calib and bench on DATA:test",
        )

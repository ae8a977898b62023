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

TRAINING = ("train", "fit", "val", "calib")
"""The parts that train, choose or calibrate, from which other sets can be kept out."""

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

    A key is mixed with ``seed`` by splitmix64 (Steele, Lea, Flood 2014), and its place in [0, 1) chooses the share.
    Neither row order nor the other faces of the set move a face, unless they join its group.
    """
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    place = (mixed >> np.uint64(11)).astype(np.float64) / 2**53
    bounds = np.cumsum(list(shares.values())) / sum(shares.values())
    chosen = np.searchsorted(bounds[:-1], place, side="right")
    names: NDArray[np.str_] = np.asarray(list(shares))
    return np.asarray(names[chosen])


def check_declared(parts: NDArray[np.int8] | None, name: str, wanted: str, origin: str) -> None:
    """Refuse a split without faces; ``wanted`` is what was asked for where ``name`` is what it would be a part of.

    ``parts`` are indices into ``DECLARED``, None where the source declares nothing and all faces may train.
    """
    present = () if parts is None else tuple(DECLARED[code] for code in np.unique(parts))
    if name in present or (parts is None and name == "train"):
        return
    has = f"it has: {', '.join(present)}" if present else "it declares no splits"
    divided = f", and so no '{wanted}'" if wanted != name else ""
    hint = f"its splits are: {', '.join(present) or 'train fit val calib'}"
    if name == "test":
        hint = f"pass {origin}:all if none of these faces trained or calibrated the model"
    elif name == "train":
        hint = "pass a data set with training faces; those of a test split must not train, choose or calibrate"
    raise EdgeferError(f"{origin} has no '{name}' split{divided} ({has})", hint=hint)


def without_leaks(
    chosen: NDArray[np.int64], parts: NDArray[np.int8], hashes: NDArray[np.str_]
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Leave out of ``chosen`` (rows of train or val) the faces that a part after it repeats, and count them.

    FER2013 has the same pixels in several parts: the part that measures keeps them.
    """
    code = int(parts[chosen[0]])
    dropped: dict[str, int] = {}
    for other in (TEST, PRIVATE, VAL):
        if other > code:
            leaked = np.isin(hashes[chosen], hashes[parts == other])
            if leaked.any():
                dropped[f"also in {DECLARED[other]}"] = int(leaked.sum())
                chosen = chosen[~leaked]
    return chosen, dropped


def announce_dropped(origin: str, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Say on stderr which rules left faces out of the part ``origin``, beyond those of the whole set."""
    news = [f"{reason}: {count:,}" for reason, count in after.items() if before.get(reason) != count]
    if news:
        announce(f"{origin}: faces left out ({', '.join(news)})")


def fair_quotas(available: Sequence[int], total: int) -> list[int]:
    """How many to take of each class so that ``total`` is as equal as what is available allows."""
    quotas = [0] * len(available)
    left = total
    for rank, i in enumerate(sorted(range(len(available)), key=lambda i: available[i])):
        quotas[i] = min(available[i], left // (len(available) - rank))
        left -= quotas[i]
    return quotas


def refuse_overlap(a_hashes: Iterable[str], b_hashes: Iterable[str], what_a: str, what_b: str) -> None:
    """Refuse two sets of faces that share pixels.

    The hashes are of :meth:`edgefer.data.FaceSet.face_hashes`; ``what_a`` and ``what_b`` are what to call the sets,
    e.g. ``"the calibration faces"``.

    Raises:
        EdgeferError: a face is in both; says how many and gives an example's hash.
    """
    shared = set(a_hashes) & set(b_hashes)
    if shared:
        raise EdgeferError(
            f"{len(shared)} of the faces are both in {what_a} and in {what_b} (for example {min(shared)})",
            hint="the figures would be flattered: train and build with --exclude and the file of the test faces",
        )

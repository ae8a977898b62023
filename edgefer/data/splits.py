"""Splits of a data set: declared parts, near-duplicates, and the seeded division of the training part.

Near-duplicates are found without comparing every pair, and joined into groups. Two faces are near-duplicates if their
12×12 thumbnails, each brought to mean 0 and length 1 (so that brightness and contrast do not matter), correlate at 0.98
or more. Candidates come from locality-sensitive hashing by bit sampling (Indyk and Motwani, STOC 1998) of a gradient
hash: whether each thumbnail cell is brighter than its right and its lower neighbour, 264 bits.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgefer.data.sources import Faces
from edgefer.errors import EdgeferError
from edgefer.progress import announce, as_many, number_of
from edgefer.provenance import beginnings

NAMES = ("train", "fit", "val", "calib", "test", "private", "all")
"""The splits of ``DATA:split``."""

DECLARED = ("train", "val", "test", "private")
"""The splits that a file or folder may declare; a face's part is an index into this."""

TRAIN, VAL, TEST, PRIVATE = range(4)

TRAINING = ("train", "fit", "val", "calib")
"""The parts that train, choose or calibrate, from which other sets can be kept out."""

SHARES = {"fit": 0.85, "val": 0.10, "calib": 0.05}
"""Shares into which the training part is divided."""

TEST_SHARE = 0.2
"""Share of a labelled set without splits that is its test part."""

_TEST_SEED_OFFSET = 1 << 32  # so that "test", "calib" and what is held back are not the same end of the same hash
_HELD_SEED_OFFSET = 1 << 33

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
        f"{origin} declares no test split: its validation split ({number_of(int(np.sum(parts == VAL)), 'face')}) is "
        "the test split"
    )
    return np.where(parts == VAL, np.int8(TEST), parts)


def divide(keys: NDArray[np.uint64], shares: Mapping[str, float], seed: int) -> NDArray[np.str_]:
    """Assign each face to a share by its group's key, so that faces of one key stay together.

    A key is mixed with ``seed`` by splitmix64 (Steele, Lea, Flood 2014), and its place in [0, 1) chooses the share.
    Neither row order nor the other faces of the set move a face, unless they join its group.
    """
    place = (_mixed(keys, seed) >> np.uint64(11)).astype(np.float64) / 2**53
    bounds = np.cumsum(list(shares.values())) / sum(shares.values())
    chosen = np.searchsorted(bounds[:-1], place, side="right")
    names: NDArray[np.str_] = np.asarray(list(shares))
    return np.asarray(names[chosen])


def _mixed(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        mixed = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return np.asarray(mixed, np.uint64)


def train_and_test(keys: NDArray[np.uint64], seed: int = 0, test_fraction: float = TEST_SHARE) -> NDArray[np.int8]:
    """The part (``TRAIN`` or ``TEST``) of each face of a set that declares none, by its group's key."""
    chosen = divide(keys, {"train": 1.0 - test_fraction, "test": test_fraction}, seed=seed + _TEST_SEED_OFFSET)
    parts: NDArray[np.int8] = np.where(chosen == "test", np.int8(TEST), np.int8(TRAIN)).astype(np.int8)
    return parts if (parts == TRAIN).any() else np.full_like(parts, TRAIN)


def division_sentence(origin: str, train: int, test: int) -> str:
    """What becomes of a set without splits, for people."""
    return (
        f"{origin} names no splits: by a hash of the pixels, {test:,} of its {number_of(train + test, 'face')} "
        f"{as_many(test, 'measure')} (`test`) and {train:,} {as_many(train, 'train')} and "
        f"{as_many(train, 'calibrate')} (`train`)"
    )


def held_back(keys: NDArray[np.uint64], count: int, seed: int = 0) -> NDArray[np.bool_]:
    """Choose up to ``count`` faces by the hash of their group's key: groups stay whole, and one that is too large out.

    Returns:
        For each face whether it is chosen.
    """
    groups, which, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    chosen, left = np.zeros(len(groups), np.bool_), count
    for group in np.argsort(_mixed(groups, seed + _HELD_SEED_OFFSET), kind="stable").tolist():
        if sizes[group] <= left:
            chosen[group] = True
            left -= int(sizes[group])
            if not left:
                break
    held: NDArray[np.bool_] = chosen[which]
    return held


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
    """Number to take of each class, so that ``total`` is divided as equally as the available faces allow."""
    quotas = [0] * len(available)
    left = total
    for rank, i in enumerate(sorted(range(len(available)), key=lambda i: available[i])):
        quotas[i] = min(available[i], left // (len(available) - rank))
        left -= quotas[i]
    return quotas


def refuse_overlap(a_hashes: Iterable[str], b_hashes: Iterable[str], what_a: str, what_b: str) -> None:
    """Refuse two sets of faces that share pixels.

    The hashes are of :meth:`edgefer.data.FaceSet.face_hashes`, or their beginnings; ``what_a`` and ``what_b`` are what
    to call the sets, e.g. ``"the calibration faces"``.

    Raises:
        EdgeferError: a face is in both; says how many and gives an example's hash.
    """
    shared = set(beginnings(a_hashes)) & set(beginnings(b_hashes))
    if shared:
        raise EdgeferError(
            f"{len(shared)} of the faces {as_many(len(shared), 'are')} both in {what_a} and in {what_b} (for example "
            f"{min(shared)})",
            hint="the results would be too good: train and build with --exclude and the file of the test faces",
        )


CELLS = 12
THRESHOLD = 0.98
_TABLES = 32
_BITS = 14  # of a table; FER2013's twins differ in 7 % of their gradients: they meet in one of 32 tables with P > 0.999
_MANY, _BITS_OF_MANY = 100_000, 20  # more faces would crowd the buckets; twins still meet with P > 0.999
_IN_MEMORY = 20_000  # faces whose thumbnails are held in memory: those of more lie in a temporary file
_ROWS_AT_ONCE = 1 << 15
_NEIGHBOURS = 8  # in a table's sorted bucket: keeps the work linear where a bucket is large
_PAIRS_AT_ONCE = 1 << 15


class Grouping:
    """Collects faces batch by batch (about 0.8 kB of each is kept), then gives each its group's key."""

    def __init__(self, count: int) -> None:
        self._hashes = np.zeros(count, np.uint64)
        self._thumbnails = _room((count, CELLS * CELLS), np.float32)
        self._gradients = _room((count, 2 * CELLS * (CELLS - 1)), np.bool_)
        self._filled = 0

    def add(self, faces: Faces, hashes: list[str]) -> None:
        """Take the next faces, uint8 N×H×W×C, with their 16-digit content hashes."""
        rows, cells = slice(self._filled, self._filled + len(faces)), thumbnails(faces)
        self._hashes[rows] = [int(digits, 16) for digits in hashes]
        self._gradients[rows] = gradients(cells)
        self._thumbnails[rows] = normalised(cells)
        self._filled += len(faces)

    def keys(self) -> NDArray[np.uint64]:
        """For each face the smallest content hash of its group, which no order of rows changes."""
        _, first, same = np.unique(self._hashes, return_index=True, return_inverse=True)
        root: NDArray[np.int64] = first[same]
        for table in self._tables():
            ranked = np.lexsort((self._hashes, table))
            for step in range(1, _NEIGHBOURS + 1):
                left, right, root = ranked[:-step], ranked[step:], _flatten(root)
                together = (table[left] == table[right]) & (root[left] != root[right])
                left, right = self._alike(left[together], right[together])
                _join(root, left, right)
        smallest = np.full(len(root), np.iinfo(np.uint64).max, np.uint64)
        roots = _flatten(root)
        np.minimum.at(smallest, roots, self._hashes)
        keys: NDArray[np.uint64] = smallest[roots]
        return keys

    def _tables(self) -> Iterator[NDArray[np.int64]]:
        count, width = self._gradients.shape
        generator, size = np.random.default_rng(0), _BITS if count <= _MANY else _BITS_OF_MANY
        powers, table = 1 << np.arange(size, dtype=np.int64), np.empty(count, np.int64)
        for _ in range(_TABLES):
            bits = generator.choice(width, size, replace=False)
            for start in range(0, count, _ROWS_AT_ONCE):
                rows = slice(start, start + _ROWS_AT_ONCE)
                table[rows] = self._gradients[rows][:, bits] @ powers
            yield table

    def _alike(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        kept = np.zeros(len(left), np.bool_)
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            pairs = slice(start, start + _PAIRS_AT_ONCE)
            products = np.einsum("ij,ij->i", self._thumbnails[left[pairs]], self._thumbnails[right[pairs]])
            kept[pairs] = products >= THRESHOLD
        return left[kept], right[kept]


def _room(shape: tuple[int, int], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros; of many faces it lies in a nameless file, whose pages the system can take back."""
    if shape[0] > _IN_MEMORY:
        with tempfile.TemporaryFile() as file, contextlib.suppress(OSError, AttributeError):  # no room, or not POSIX
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(dtype).itemsize)
            return np.memmap(file, dtype, "r+", shape=shape)
    return np.zeros(shape, dtype)


def thumbnails(faces: Faces) -> NDArray[np.float64]:
    """Area means of grey levels, N×12×12, from uint8 N×H×W×C; cells of small faces repeat their pixels."""
    for axis in (1, 2):
        size = faces.shape[axis]
        if size < CELLS:
            faces = np.repeat(faces, -(-CELLS // size), axis=axis)
    rows, columns = (np.arange(CELLS + 1) * size // CELLS for size in faces.shape[1:3])
    bands = [faces[:, top:bottom].sum(axis=1, dtype=np.int64) for top, bottom in itertools.pairwise(rows)]
    sums = np.add.reduceat(np.stack(bands, axis=1), columns[:-1], axis=2).sum(axis=-1)
    means: NDArray[np.float64] = sums / (np.diff(rows)[:, None] * np.diff(columns)[None, :])
    return means


def gradients(cells: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether each cell of N×12×12 is brighter than its right and its lower neighbour: N×264."""
    right = cells[:, :, :-1] > cells[:, :, 1:]
    lower = cells[:, :-1] > cells[:, 1:]
    return np.concatenate([right.reshape(len(cells), -1), lower.reshape(len(cells), -1)], axis=1)


def normalised(cells: NDArray[np.float64]) -> NDArray[np.float32]:
    """Thumbnails N×12×12 as N×144 with mean 0 and length 1; a flat one becomes 0, and is like no other."""
    flat = cells.reshape(len(cells), -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-6)
    return unit.astype(np.float32)


def _join(root: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        top_a, top_b = _find(root, a), _find(root, b)
        if top_a != top_b:
            root[max(top_a, top_b)] = min(top_a, top_b)


def _find(root: NDArray[np.int64], node: int) -> int:
    while root[node] != node:
        root[node] = root[root[node]]  # path halving
        node = int(root[node])
    return node


def _flatten(root: NDArray[np.int64]) -> NDArray[np.int64]:
    while not np.array_equal(root[root], root):
        root = root[root]
    return root

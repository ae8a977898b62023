"""Near-duplicate faces: found without comparing every pair, joined into groups.

Two faces are near-duplicates where their 12×12 thumbnails, each brought to mean 0 and length 1 (so that brightness and
contrast do not matter), correlate at 0.98 or more. Candidates come from locality-sensitive hashing by bit sampling
(Indyk and Motwani, STOC 1998) of a gradient hash: whether each thumbnail cell is brighter than its right and its lower
neighbour, 264 bits.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from edgefer.data.sources import Faces

CELLS = 12
THRESHOLD = 0.98
_TABLES = 32
_BITS = 14  # of a table; FER2013's twins differ in 7 % of their gradients: they meet in one of 32 tables with P > 0.999
_NEIGHBOURS = 8  # in a table's sorted bucket: keeps the work linear where a bucket is large
_PAIRS_AT_ONCE = 1 << 15


class Grouping:
    """Collects faces a batch at a time (about 0.7 kB a face is kept), then gives each its group's key."""

    def __init__(self, count: int) -> None:
        self._hashes = np.zeros(count, np.uint64)
        self._thumbnails = np.zeros((count, CELLS * CELLS), np.float32)
        self._gradients = np.zeros((count, 2 * CELLS * (CELLS - 1)), np.bool_)
        self._filled = 0

    def add(self, faces: Faces, hashes: list[str]) -> None:
        """Take the next faces, uint8 N×H×W×C, with their 16-digit content hashes."""
        rows, cells = slice(self._filled, self._filled + len(faces)), thumbnails(faces)
        self._hashes[rows] = [int(digits, 16) for digits in hashes]
        self._gradients[rows] = gradients(cells)
        self._thumbnails[rows] = normalised(cells)
        self._filled += len(faces)

    def keys(self) -> NDArray[np.uint64]:
        """A face each: the smallest content hash of its group, which no order of rows changes."""
        order = np.argsort(self._hashes, kind="stable")
        root = _exact(self._hashes, order)
        for table in self._tables():
            ranked = np.lexsort((self._hashes, table))
            for step in range(1, _NEIGHBOURS + 1):
                left, right = ranked[:-step], ranked[step:]
                together = (table[left] == table[right]) & (self._hashes[left] != self._hashes[right])
                left, right = self._alike(left[together], right[together])
                _join(root, left, right)
        smallest = np.full(len(root), np.iinfo(np.uint64).max, np.uint64)
        roots = _flatten(root)
        np.minimum.at(smallest, roots, self._hashes)
        keys: NDArray[np.uint64] = smallest[roots]
        return keys

    def _tables(self) -> list[NDArray[np.int64]]:
        generator = np.random.default_rng(0)
        powers = 1 << np.arange(_BITS, dtype=np.int64)
        chosen = [generator.choice(self._gradients.shape[1], _BITS, replace=False) for _ in range(_TABLES)]
        return [self._gradients[:, bits] @ powers for bits in chosen]

    def _alike(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        kept = np.zeros(len(left), np.bool_)
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            pairs = slice(start, start + _PAIRS_AT_ONCE)
            products = np.einsum("ij,ij->i", self._thumbnails[left[pairs]], self._thumbnails[right[pairs]])
            kept[pairs] = products >= THRESHOLD
        return left[kept], right[kept]


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


def _exact(hashes: NDArray[np.uint64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Start each face's group at the first face with the same hash."""
    ranked = hashes[order]
    first = np.concatenate([[True], ranked[1:] != ranked[:-1]])[: len(order)]
    root = np.empty(len(order), np.int64)
    root[order] = order[np.flatnonzero(first)[np.cumsum(first) - 1]] if len(order) else order
    return root


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

"""A set of faces, with or without labels, read on demand, that knows its splits."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgefer.data import splits
from edgefer.data.sources import Faces, FaceSource, Loaded, Rows, face_hash
from edgefer.data.splits import TEST_SHARE, Grouping
from edgefer.errors import EdgeferError
from edgefer.faces import prepare_batch
from edgefer.progress import announce, as_many, number_of, progress
from edgefer.provenance import begin_as

if TYPE_CHECKING:
    from edgefer.contract import Contract

_BATCH = 256


class FaceSet:
    """Faces, mostly with labels: pixels stay in their source (array, memory map, files) until a batch is asked for.

    Attributes:
        classes: class names; a label is an index into them. Without any, the faces have no labels.
        labels: int64 N, one for each face; −1 where the faces have none.
        origin: name of the set in messages, e.g. ``fer2013.csv:calib``.
        dropped: reason → number of faces of the source that were left out.
        picked: the split that this set is, or None for a whole data set.
        faults: fault on disk → the files that have it, for the whole data set.
        soft: float32 N×classes, a distribution for each face where annotators voted (FER+), or None.
        voted: whether the labels are the majority of those votes.
    """

    def __init__(
        self,
        source: FaceSource,
        labels: ArrayLike,
        classes: tuple[str, ...],
        *,
        origin: str,
        parts: NDArray[np.int8] | None = None,
        rows: Rows | None = None,
        dropped: Mapping[str, int] | None = None,
        picked: str | None = None,
    ) -> None:
        """For each face a label, its part (index into ``splits.DECLARED``; None: undeclared), its row of the source."""
        self.classes = classes
        self.labels: NDArray[np.int64] = np.asarray(labels, dtype=np.int64)
        self.origin = origin
        self.dropped: dict[str, int] = dict(dropped or {})
        self.picked = picked
        self.soft: NDArray[np.float32] | None = None
        self.voted = False
        self.faults: dict[str, tuple[str, ...]] = {}
        self._source = source
        self._parts = parts
        self._rows: Rows = np.arange(len(source), dtype=np.int64) if rows is None else np.asarray(rows, dtype=np.int64)
        self._hashes: tuple[str, ...] | None = None
        self._fingerprint: str | None = None
        self._keys: NDArray[np.uint64] | None = None
        self._cache: dict[str, FaceSet] = {}
        self._pool: FaceSet | None = None
        self._whole: FaceSet | None = None
        self._kept_out: tuple[frozenset[str], str] | None = None
        self._val_apart = parts is not None and bool(np.any(parts == splits.VAL))

    @classmethod
    def of(
        cls, loaded: Loaded, origin: str, *, soft: NDArray[np.float32] | None = None, voted: bool = False
    ) -> FaceSet:
        """The faces of ``loaded`` that have a label (all, where it has no classes); ``soft`` has a row for each."""
        kept = loaded.kept()
        faces = cls(
            loaded.source,
            loaded.labels[kept],
            loaded.classes,
            origin=origin,
            parts=None if loaded.parts is None else loaded.parts[kept],
            rows=kept,
            dropped=loaded.dropped,
        )
        faces.faults, faces.soft, faces.voted = dict(loaded.faults), soft, voted
        return faces

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"FaceSet({self.origin!r}, {len(self)} faces, {len(self.classes)} classes)"

    @property
    def labelled(self) -> bool:
        """Whether the faces have labels."""
        return bool(self.classes)

    def require_labels(self, purpose: str) -> FaceSet:
        """Return this set, whose labels are needed for ``purpose``, e.g. ``"training"``.

        Raises:
            EdgeferError: it has none.
        """
        if not self.labelled:
            raise EdgeferError(
                f"{self.origin} has no labels, and {purpose} needs them",
                hint="lay the images out as a folder for each class, or store `labels` beside `images` in the npz; "
                "without labels they can calibrate (--calib) and be labelled (`edgefer predict`)",
            )
        return self

    @property
    def undivided(self) -> bool:
        """Whether a hash divides this set: it has labels, and neither it nor ``--exclude`` says what its test is."""
        return self.labelled and self.picked is None and self._parts is None and self._kept_out is None

    @property
    def splits(self) -> tuple[str, ...]:
        """The declared splits that have faces here; empty where the source declares none."""
        return tuple(name for i, name in enumerate(splits.DECLARED) if self._parts is not None and i in self._parts)

    @property
    def declared_parts(self) -> NDArray[np.int8] | None:
        """For each face the index of its declared split in ``splits.DECLARED``; None where none is declared."""
        return self._parts

    def images(self, indices: ArrayLike) -> Faces:
        """The faces at ``indices`` as uint8 N×H×W×C.

        Raises:
            EdgeferError: they differ in size, so that only a contract can bring them together.
        """
        blocks = list(self._source.blocks(self._rows[np.asarray(indices, dtype=np.int64)]))
        shapes = {block.shape[1:] for block in blocks}
        if len(shapes) > 1:
            sizes = ", ".join("×".join(map(str, shape)) for shape in sorted(shapes)[:3])
            raise EdgeferError(
                f"the faces of {self.origin} differ in size ({sizes}, …)",
                hint="read them with a contract (`batches(size, contract)`), which resizes them",
            )
        return _joined(blocks)

    def batches(self, size: int, contract: Contract | None = None) -> Iterator[tuple[Faces, NDArray[np.int64]]]:
        """Yield ``(faces uint8 N×H×W×C, labels int64 N)`` with N ≤ ``size``, in order, decoded as they are asked for.

        With a ``contract``, faces are brought to its size and channels by :mod:`edgefer.faces`.
        """
        for start in range(0, len(self), size):
            indices = np.arange(start, min(start + size, len(self)))
            if contract is None:
                yield self.images(indices), self.labels[indices]
            else:
                blocks = self._source.blocks(self._rows[indices])
                yield _joined([prepare_batch(block, contract) for block in blocks]), self.labels[indices]

    def face_hashes(self) -> tuple[str, ...]:
        """For each face 16 hexadecimal digits of the SHA-256 of its shape and decoded pixels. Computed once."""
        if self._hashes is None:
            self._hashes = tuple(face_hash(face) for block in self._blocks() for face in block)
        return self._hashes

    def name_of(self, index: int) -> str:
        """The name by which a user finds the face at ``index``: its file, or its number in the source, from 0."""
        return self._source.name(int(self._rows[index]))

    def fingerprint(self) -> str:
        """SHA-256, 64 hexadecimal digits, of all shapes, pixels and labels in order. Computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            faces = (face for block in self._blocks() for face in block)
            for face, label in zip(faces, self.labels, strict=True):
                digest.update(f"{face.shape}{label}".encode())
                digest.update(np.ascontiguousarray(face).data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _blocks(self) -> Iterator[Faces]:
        for start in range(0, len(self), _BATCH):
            yield from self._source.blocks(self._rows[start : start + _BATCH])

    def per_class_counts(self) -> dict[str, int]:
        """Class name → number of faces, in the order of the classes; empty without labels."""
        if not self.labelled:
            return {}
        counts = np.bincount(self.labels, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def subset(self, indices: ArrayLike) -> FaceSet:
        """The faces at ``indices`` (of this set), in that order; nothing is copied."""
        return self._take(np.asarray(indices, dtype=np.int64), self.origin, self.picked, {})

    def _take(self, chosen: Rows, origin: str, picked: str | None, dropped: Mapping[str, int]) -> FaceSet:
        part = FaceSet(
            self._source,
            self.labels[chosen],
            self.classes,
            origin=origin,
            parts=None if self._parts is None else self._parts[chosen],
            rows=self._rows[chosen],
            dropped={**self.dropped, **dropped},
            picked=picked,
        )
        part._val_apart, part._kept_out, part.faults = self._val_apart, self._kept_out, dict(self.faults)
        part.soft, part.voted = (None if self.soft is None else self.soft[chosen]), self.voted
        part._hashes = None if self._hashes is None else tuple(self._hashes[i] for i in chosen)
        return part

    def relabelled(
        self,
        chosen: Rows,
        labels: NDArray[np.int64],
        classes: tuple[str, ...],
        *,
        soft: NDArray[np.float32] | None,
        dropped: Mapping[str, int],
    ) -> FaceSet:
        """The faces at ``chosen`` with other ``labels``, ``classes`` and ``soft``; ``dropped`` counts the others."""
        result = self._take(chosen, self.origin, self.picked, dropped)
        result.labels, result.classes, result.soft = labels, classes, soft
        return result

    def without(self, hashes: Collection[str], reason: str) -> FaceSet:
        """Leave out the faces whose ``face_hashes`` begin as one of ``hashes``; ``.dropped[reason]`` counts them."""
        unwanted = begin_as(self.face_hashes(), hashes)
        count = int(unwanted.sum())
        return self._take(np.flatnonzero(~unwanted), self.origin, self.picked, {reason: count} if count else {})

    def stratified(self, count: int, seed: int) -> FaceSet:
        """Sample ``count`` faces by ``seed``, as equal per class as the set allows; at random without labels.

        Classes take turns in the result, so that the first faces are balanced too.

        Raises:
            EdgeferError: ``count`` is not in 1 … the size of the set.
        """
        if not 1 <= count <= len(self):
            raise EdgeferError(
                f"{number_of(count, 'face')} asked of {self.origin}, which has {len(self)}",
                hint=f"ask for 1 to {len(self)}",
            )
        generator = np.random.default_rng(seed)
        if not self.labelled:
            return self.subset(generator.permutation(len(self))[:count])
        members = [generator.permutation(np.flatnonzero(self.labels == label)) for label in range(len(self.classes))]
        quotas = splits.fair_quotas([len(rows) for rows in members], count)
        turns = [(turn, label) for label, quota in enumerate(quotas) for turn in range(quota)]
        return self.subset([members[label][turn] for turn, label in sorted(turns)])

    def picked_or(self, default: str) -> FaceSet:
        """Give this set where a split was picked (``DATA:split``), else ``split(default)`` of the whole data set."""
        return self.split(default) if self.picked is None else self

    def split(self, name: str) -> FaceSet:
        """One split: train fit val calib test private all.

        ``fit`` (85 %), ``val`` (10 %) and ``calib`` (5 %) divide the training part by a seeded hash of the pixels with
        near-duplicates kept together; a declared validation part is ``val`` as it stands. ``train`` and ``val`` leave
        out faces whose exact pixels are also in a part that measures. ``DATA:all`` is one pool: every face is its
        ``test``. A labelled set without splits is divided into ``train`` and ``test`` first, and that is announced,
        unless it was opened with faces to exclude: then the test is elsewhere. A set without labels is all ``train``.

        Raises:
            EdgeferError: no such split, or the data set has no faces in it.
        """
        splits.check_name(name)
        if name in (self.picked, "all") and self.picked is not None:
            return self
        if name not in self._cache:
            part = self._split(name)
            if self._kept_out is not None and name in (*splits.TRAINING, "all"):
                part = part.without(*self._kept_out)  # after the division: the others keep their parts
            splits.announce_dropped(part.origin, self.dropped, part.dropped)
            self._cache[name] = part
        return self._cache[name]

    def _split(self, name: str) -> FaceSet:
        divided = name in splits.SHARES and (self.picked == "all" or not (name == "val" and self._val_apart))
        if self.picked == "all":
            if name == "private":
                raise EdgeferError(f"{self.origin} is one pool without a private part", hint="leave ':all' away")
            return self._division(name) if divided else self
        if self.picked == "train" and divided:
            return self._division(name)
        if self.picked is not None:
            raise EdgeferError(
                f"{self.origin} holds the faces of '{self.picked}' only, and '{name}' was asked for",
                hint="leave the ':split' away, or name one that has these faces",
            )
        if name == "all":
            return self._take(np.arange(len(self)), f"{self.origin}:all", "all", {})
        if self.undivided:
            if self._whole is None:
                self._whole = self.redivided()
                test = int(np.sum(self._whole.declared_parts == splits.TEST))
                announce(splits.division_sentence(self.origin, len(self) - test, test))
            return self._whole._split(name)
        splits.check_declared(self._parts, "train" if divided else name, name, self.origin)
        if not divided:
            return self._declared(name)
        self._pool = self._pool or self._declared("train")
        return self._pool._division(name)

    def keeping_out(self, others: FaceSet) -> FaceSet:
        """Give the same set, whose train, fit, val and calib parts will lack the exact pixels of ``others``."""
        same = self.subset(np.arange(len(self)))
        same._kept_out = (frozenset(others.face_hashes()), f"also in {others.origin}")
        return same

    def _declared(self, name: str) -> FaceSet:
        """The faces declared as ``name``, less those of ``train`` and ``val`` that also stand in a measuring part."""
        if self._parts is None:
            return self._take(np.arange(len(self)), f"{self.origin}:{name}" if self.labelled else self.origin, name, {})
        chosen = np.flatnonzero(self._parts == splits.DECLARED.index(name))
        dropped: dict[str, int] = {}
        if name in ("train", "val") and len(self.splits) > 1:
            chosen, dropped = splits.without_leaks(chosen, self._parts, np.asarray(self.face_hashes()))
        return self._take(chosen, f"{self.origin}:{name}", name, dropped)

    def _division(self, name: str) -> FaceSet:
        apart = self._val_apart and self.picked != "all"
        shares = {part: share for part, share in splits.SHARES.items() if not (apart and part == "val")}
        keys, whole = self.group_keys(), self.origin.rpartition(":")[0]
        chosen = np.flatnonzero(splits.divide(keys, shares, seed=0) == name)
        if not len(chosen):
            raise EdgeferError(
                f"the '{name}' part of {whole} is empty: only {number_of(len(self), 'face')} "
                f"{as_many(len(self), 'were divided')}, {len(np.unique(keys))} without their near-duplicates",
                hint="use more data: 'calib' is a twentieth of the training faces",
            )
        return self._take(chosen, f"{whole}:{name}", name, {})

    def group_keys(self) -> NDArray[np.uint64]:
        """For each face a number that it shares with its near-duplicates in this set alone. Computed once."""
        if self._keys is None:
            grouping = Grouping(len(self))
            hashes: list[str] = []
            with progress("grouping near-duplicates", len(self)) as advance:
                for faces in self._blocks():
                    known = self._hashes and self._hashes[len(hashes) : len(hashes) + len(faces)]
                    hashes += known or [face_hash(face) for face in faces]
                    grouping.add(faces, hashes[-len(faces) :])
                    advance(len(faces))
            self._hashes = tuple(hashes)
            self._keys = grouping.keys()
        return self._keys

    def redivided(self, seed: int = 0, test_fraction: float = TEST_SHARE) -> FaceSet:
        """Forget the declared splits; declare ``train`` and ``test`` by the seeded hash of near-duplicate groups."""
        divided = self._take(np.arange(len(self)), self.origin, None, {})
        divided._parts, divided._val_apart = splits.train_and_test(self.group_keys(), seed, test_fraction), False
        return divided

    def apart_from(self, part: FaceSet) -> FaceSet:
        """The faces that are neither in ``part``, a part of this set, nor near-duplicates of one that is."""
        keys = self.group_keys()
        return self.subset(np.flatnonzero(~np.isin(keys, keys[np.isin(self._rows, part._rows)])))

    def held_back(self, count: int) -> tuple[FaceSet, FaceSet]:
        """The others and about ``count`` faces, by a hash of the pixels with near-duplicates kept together."""
        held = splits.held_back(self.group_keys(), count)
        return self.subset(np.flatnonzero(~held)), self.subset(np.flatnonzero(held))


def _joined(blocks: list[Faces]) -> Faces:
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks) if blocks else np.zeros((0, 0, 0, 1), np.uint8)

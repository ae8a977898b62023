"""Predictions: the logits of one network on one set of faces, and what they say about its accuracy.

Copies of a face, and near-duplicates, are not independent: a network answers them alike, and thirty copies tell no more
than one. Shares and drops remain means over all faces; their intervals count each group of near-duplicates as one
observation, by dividing the number of faces by a design effect (:func:`design_effect`). Where no face has a copy, the
design effect is exactly 1, and where every face has as many copies as any other, the intervals are exactly those of the
distinct faces.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import atomic_path
from edgefer.errors import EdgeferError
from edgefer.intake import check_archive, reading

if TYPE_CHECKING:
    from edgefer.data import FaceSet

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""

_FORMAT = "edgefer.predictions/3"
_KEYS = ("format", "logits", "labels", "classes", "faces_sha256", "name", "groups", "hashes")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a network answered, face by face.

    Attributes:
        logits: float32 N×classes, finite.
        labels: int64 N, the truth, 0 ≤ label < classes.
        classes: names in the order of the logits.
        faces_sha256: ``FaceSet.fingerprint()`` of the faces: two predictions with the same one can be paired.
        name: name of the network in tables.
        groups: int64 N, the same number for a face and its near-duplicates; numbered from 0 once they are stored. By
            default every face is a group of its own.
        hashes: uint64 N, ``FaceSet.face_hashes()`` as numbers; empty by default.

    Raises:
        EdgeferError: shapes disagree, there is no face, a logit is not finite or a label out of range.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    faces_sha256: str
    name: str
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    hashes: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __post_init__(self) -> None:
        expected = (len(self.labels), len(self.classes))
        if self.logits.shape != expected or self.labels.ndim != 1:
            raise EdgeferError(
                f"{self.name}: logits of shape {list(self.logits.shape)} for {expected[0]} labels "
                f"and {expected[1]} classes, not {list(expected)}"
            )
        if expected[0] == 0:
            raise EdgeferError(f"{self.name}: no face was predicted", hint="pass faces: the set or split is empty")
        broken = int((~np.isfinite(self.logits)).any(axis=1).sum())
        if broken:
            raise EdgeferError(
                f"{self.name}: the logits of {broken} of {expected[0]} faces are NaN or infinite",
                hint="the network overflows in this precision: build it with --bf16 or --fp32",
            )
        if self.labels.min() < 0 or self.labels.max() >= expected[1]:
            raise EdgeferError(
                f"{self.name}: labels run from {self.labels.min()} to {self.labels.max()}, "
                f"but there are {expected[1]} classes"
            )
        if self.groups.shape not in ((0,), self.labels.shape):
            raise EdgeferError(
                f"{self.name}: groups of shape {list(self.groups.shape)} for {expected[0]} faces",
                hint="pass the group of near-duplicates of each face: FaceSet.group_keys()",
            )
        if self.hashes.shape not in ((0,), self.labels.shape):
            raise EdgeferError(f"{self.name}: {len(self.hashes)} hashes for {expected[0]} faces")
        object.__setattr__(self, "groups", numbered(self.groups if len(self.groups) else np.arange(expected[0])))

    @property
    def n(self) -> int:
        """Number of faces."""
        return len(self.labels)

    @property
    def distinct(self) -> int:
        """Number of groups of near-duplicates, which is the number of faces if copies count once."""
        return int(self.groups.max()) + 1

    @property
    def answers(self) -> NDArray[np.int64]:
        """The class with the greatest logit of each face (the first of equals), int64 N."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each face was named rightly, bool N."""
        return np.asarray(self.answers == self.labels)

    @property
    def top1(self) -> float:
        """Share of faces named rightly, 0–1."""
        return float(self.correct.mean())

    @property
    def top1_ci95(self) -> tuple[float, float]:
        """Wilson's 95 % interval of :attr:`top1`, 0–1; near-duplicates count once."""
        return wilson_interval(int(self.correct.sum()), self.n, design_effect(self.correct, self.groups))

    def on(self, faces: FaceSet) -> Predictions:
        """The same answers to ``faces``, found by their pixels; labels and groups are those of ``faces``.

        Raises:
            EdgeferError: one of them was not predicted; see :func:`has_predicted`.
        """
        wanted = hash_numbers(faces.face_hashes())
        order = np.argsort(self.hashes, kind="stable")
        rows = order[np.searchsorted(self.hashes[order], wanted)] if self.has_predicted(faces).all() else None
        if rows is None:
            raise EdgeferError(f"{self.name} did not predict all of {faces.origin}", hint="predict the same faces")
        return Predictions(
            self.logits[rows],
            np.asarray(faces.labels, dtype=np.int64),
            self.classes,
            faces.fingerprint(),
            self.name,
            numbered(faces.group_keys()),
            wanted,
        )

    def has_predicted(self, faces: FaceSet) -> NDArray[np.bool_]:
        """Whether each of ``faces`` is among those it answered, bool N."""
        return np.isin(hash_numbers(faces.face_hashes()), self.hashes)

    def confusion(self) -> NDArray[np.int64]:
        """Counts, int64 classes×classes: rows are the truth, columns the answer."""
        size = len(self.classes)
        counts = np.bincount(self.labels * size + self.answers, minlength=size * size)
        return counts.astype(np.int64).reshape(size, size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz (keys ``format logits labels classes faces_sha256 name groups hashes``), atomically.

        Raises:
            EdgeferError: the name does not end in ``.npz``, or it cannot be written.
        """
        if Path(path).suffix != ".npz":
            raise EdgeferError(
                f"predictions are written as .npz, not {Path(path).name}", hint="name it e.g. predictions.npz"
            )
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                format=np.array(_FORMAT),
                logits=self.logits,
                labels=self.labels,
                classes=np.array(self.classes),
                faces_sha256=np.array(self.faces_sha256),
                name=np.array(self.name),
                groups=self.groups,
                hashes=self.hashes,
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Predictions:
        """Read what :meth:`save` wrote.

        Raises:
            EdgeferError: the file is missing, or not one of these.
        """
        with reading(path, "pass a file that edgefer wrote as predictions.npz", "predictions"):
            return cls._of(_read_npz(Path(path)), path)

    @classmethod
    def _of(cls, content: Mapping[str, NDArray[np.generic]], path: str | os.PathLike[str]) -> Predictions:
        expected = (
            ("logits", "f", 2),
            ("labels", "iu", 1),
            ("classes", "U", 1),
            ("groups", "iu", 1),
            ("hashes", "u", 1),
        )
        for key, kinds, ndim in expected:
            array = content[key]
            if array.dtype.kind not in kinds or array.ndim != ndim:
                raise EdgeferError(
                    f"{path}: its {key} are {array.dtype} of shape {list(array.shape)}",
                    hint="logits are floating point N×classes, labels, groups and hashes integers N, classes text",
                )
        return cls(
            logits=content["logits"].astype(np.float32),
            labels=content["labels"].astype(np.int64),
            classes=tuple(str(name) for name in content["classes"]),
            faces_sha256=str(content["faces_sha256"]),
            name=str(content["name"]),
            groups=content["groups"].astype(np.int64),
            hashes=content["hashes"].astype(np.uint64),
        )


def check_classes(left: str, left_classes: tuple[str, ...], right: str, right_classes: tuple[str, ...]) -> None:
    """Refuse two things whose classes differ, in name or in order.

    Raises:
        EdgeferError: naming both and listing the classes of both.
    """
    if tuple(left_classes) == tuple(right_classes):
        return
    same_names = set(left_classes) == set(right_classes)
    raise EdgeferError(
        f"{left} has the classes {', '.join(left_classes)}; {right} has {', '.join(right_classes)}",
        hint="the names are the same but their order is not: reorder the dataset's classes to the network's"
        if same_names
        else "say which is which (--map OLD=NEW,…), or use faces labelled with the network's classes",
    )


def columns_of(name: str, labels: Sequence[str], origin: str, classes: Sequence[str]) -> list[int]:
    """For each of ``classes`` its place among the ``labels`` of the network ``name``: the same names in any order.

    Raises:
        EdgeferError: the names differ; see :func:`check_classes`.
    """
    if sorted(labels) != sorted(classes):
        check_classes(name, tuple(labels), origin, tuple(classes))
    return [list(labels).index(wanted) for wanted in classes]


def hash_numbers(hashes: Sequence[str]) -> NDArray[np.uint64]:
    """Hashes of 16 hexadecimal digits as numbers."""
    return np.array([int(digits, 16) for digits in hashes], dtype=np.uint64)


def numbered(keys: NDArray[np.generic]) -> NDArray[np.int64]:
    """Groups, one per face, as numbers from 0 in the order of ``keys``, which stand in for them."""
    return np.asarray(np.unique(keys, return_inverse=True)[1], dtype=np.int64).ravel()


def design_effect(values: NDArray[np.generic], groups: NDArray[np.int64]) -> float:
    """Ratio of the variance of the mean of ``values`` to that for independent faces; 1 or more.

    The mean of N faces with the design effect d is as uncertain as that of N/d independent faces. Of two estimates the
    larger one is taken. Kish's, Σm²/N for groups of m faces, needs no values: it holds where the members of a group
    agree, and is an upper bound where they do not (Kish 1965, "Survey sampling", section 8.2, with an intra-class
    correlation of 1). The linearised variance between groups, Σ(t − m·x̄)² / Σ(x − x̄)² with t the sum of a group, sees
    in addition that large groups have other values than small ones (Rao and Scott 1992, Biometrics 48, 577–585). The
    second alone would be too small where no large group happens to hold a rare value. A score interval with the sample
    size divided by the design effect covers as it says also where shares are near 0 or 1: Dean and Pagano (2015),
    J. Surv. Stat. Methodol. 3, 484–503, for Wilson's.

    Args:
        values: integers or booleans, one per face.
        groups: a non-negative number per face.
    """
    if not len(values):
        return 1.0
    sizes = np.bincount(groups)
    totals = np.bincount(groups, weights=values.astype(np.float64)).astype(np.int64)
    # exact integers: without copies the result is 1, and with k copies of each face it is k, to the last digit
    n, total, squares = len(values), int(totals.sum()), int((values.astype(np.int64) ** 2).sum())
    members, products, grouped = int(sizes @ sizes), int(sizes @ totals), int(totals @ totals)
    spread = n * (n * squares - total * total)
    between = (n * n * grouped - 2 * n * total * products + total * total * members) / spread if spread else 1.0
    return min(float(n), max(members / n, between))


def wilson_interval(successes: int, n: int, effect: float = 1.0) -> tuple[float, float]:
    """95 % score interval of a proportion (Wilson 1927, J. Am. Stat. Assoc. 22, 209–212), 0–1.

    Args:
        successes: among ``n`` faces.
        n: number of faces.
        effect: their :func:`design_effect`.
    """
    if not 0 <= successes <= n or n == 0:
        raise EdgeferError(f"a proportion needs 0 ≤ successes ≤ n and n > 0, not {successes} of {n}")
    return wilson_of_share(successes / n, n / effect)


def wilson_of_share(share: float, n: float) -> tuple[float, float]:
    """Wilson's interval of a share seen in ``n`` independent observations, or in what is worth as many, 0–1."""
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    margin = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - margin), min(1.0, centre + margin)


def _read_npz(path: Path) -> dict[str, NDArray[np.generic]]:
    hint = "pass a file that edgefer wrote as predictions.npz"
    if not path.is_file():
        raise EdgeferError(f"{path}: there is no such file", hint=hint)
    with reading(path, hint, "an npz of predictions"):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise EdgeferError(f"{path} is one array, not an npz of predictions", hint=hint)
        with archive:
            if archive.zip is not None:
                check_archive(archive.zip, path, hint)
            if "format" in archive and str(archive["format"]) != _FORMAT:
                raise EdgeferError(
                    f"{path}: its format is '{archive['format']}', this edgefer reads '{_FORMAT}'",
                    hint="write the predictions again with this version of edgefer",
                )
            missing = [key for key in _KEYS if key not in archive]
            if missing:
                raise EdgeferError(
                    f"{path} holds no predictions: it lacks {', '.join(missing)} and has {', '.join(archive.files)}",
                    hint=hint,
                )
            return {key: archive[key] for key in _KEYS}


ECE_BINS = 15
BOOTSTRAP_SAMPLES = 2000
_CHUNK = 1 << 16  # faces whose probabilities are held at once


@dataclass(frozen=True)
class ClassScore:
    """One class of one network; None is what its faces or answers do not define.

    Attributes:
        name: the class's name.
        n: its faces.
        precision: share of the answers with this name that were right; None if it was never answered.
        recall: share of its faces that were named rightly; None if it has no face.
        f1: harmonic mean of the two, 2·tp / (2·tp + fp + fn); None if it has neither a face nor an answer.
    """

    name: str
    n: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_scores(predictions: Predictions) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of every class, in the classes' order."""
    confusion = predictions.confusion()
    right, faces, answers = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return tuple(
        ClassScore(
            name,
            int(faces[i]),
            _share(right[i], answers[i]),
            _share(right[i], faces[i]),
            _share(2 * right[i], faces[i] + answers[i]),
        )
        for i, name in enumerate(predictions.classes)
    )


def macro_f1(predictions: Predictions) -> float:
    """Mean F1 over the classes that have a face, 0–1; a class without one says nothing about the network."""
    return float(np.mean([score.f1 for score in class_scores(predictions) if score.n]))


def macro_f1_ci95(predictions: Predictions, samples: int = BOOTSTRAP_SAMPLES, seed: int = 0) -> tuple[float, float]:
    """95 % interval of :func:`macro_f1`, 0–1: percentile bootstrap (Efron & Tibshirani 1993, chapter 13).

    What is sampled again, with replacement, are groups of near-duplicates, each with all its faces. Groups that do the
    same to the confusion matrix are interchangeable, so that their numbers come from a multinomial: no face is touched,
    and the same ``seed`` gives the same interval.
    """
    size = len(predictions.classes)
    cells = predictions.labels * size + predictions.answers
    copied = np.bincount(predictions.groups)[predictions.groups] > 1
    rows = np.zeros((len(np.unique(predictions.groups[copied])), size * size), np.int64)
    np.add.at(rows, (numbered(predictions.groups[copied]), cells[copied]), 1)
    patterns, repeated = np.unique(rows, axis=0, return_counts=True)
    weights = np.concatenate([np.bincount(cells[~copied], minlength=size * size), repeated]) / predictions.distinct
    sampled = np.random.default_rng(seed).multinomial(predictions.distinct, weights, size=samples)
    counts = (sampled @ np.concatenate([np.eye(size * size, dtype=np.int64), patterns])).reshape(samples, size, size)
    right, faces, answers = np.einsum("dcc->dc", counts), counts.sum(axis=2), counts.sum(axis=1)
    f1 = 2 * right / np.maximum(faces + answers, 1)
    means = (f1 * (faces > 0)).sum(axis=1) / (faces > 0).sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def calibration_error(predictions: Predictions, bins: int = ECE_BINS) -> float:
    """Expected calibration error, 0–1: by how much confidence misses accuracy, averaged over faces.

    Guo et al. (2017), "On calibration of modern neural networks", ICML, equation 3: ``bins`` bins of equal width of the
    greatest probability, |accuracy − mean confidence| of each, weighted by its faces.
    """
    faces = np.zeros(bins)
    right = np.zeros(bins)
    confidence = np.zeros(bins)
    correct = predictions.correct
    for rows in _chunks(predictions.n):
        highest = np.exp(_log_probabilities(predictions.logits[rows]).max(axis=1))
        placed = np.minimum((highest * bins).astype(np.int64), bins - 1)
        faces += np.bincount(placed, minlength=bins)
        right += np.bincount(placed, weights=correct[rows], minlength=bins)
        confidence += np.bincount(placed, weights=highest, minlength=bins)
    return float(np.abs(right - confidence).sum() / predictions.n)


def kl_divergence(baseline: Predictions, candidate: Predictions) -> float:
    """Mean Kullback–Leibler divergence Σ p·ln(p/q), nats per face, of ``candidate`` (q) from ``baseline`` (p).

    0 where both give the same probabilities; the two must have been made on the same faces.
    """
    total = 0.0
    for rows in _chunks(baseline.n):
        p, q = _log_probabilities(baseline.logits[rows]), _log_probabilities(candidate.logits[rows])
        total += float((np.exp(p) * (p - q)).sum())
    return max(0.0, total / baseline.n)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, count, _CHUNK))


def _log_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)


def _share(part: np.int64, whole: np.int64) -> float | None:
    return float(part / whole) if whole else None

"""What a network is worth class by class, how far its confidence can be believed, how far two answers lie apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.measure.accuracy import Predictions, numbered

ECE_BINS = 15
BOOTSTRAP_DRAWS = 2000
_CHUNK = 1 << 16  # faces whose probabilities are held at once


@dataclass(frozen=True)
class ClassScore:
    """One class of one network; None is what its faces or answers do not define.

    Attributes:
        name: of the class.
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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"class": self.name, "n": self.n, "precision": self.precision, "recall": self.recall, "f1": self.f1}


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


def macro_f1_ci95(predictions: Predictions, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> tuple[float, float]:
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
    drawn = np.random.default_rng(seed).multinomial(predictions.distinct, weights, size=draws)
    counts = (drawn @ np.concatenate([np.eye(size * size, dtype=np.int64), patterns])).reshape(draws, size, size)
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
    """Mean Kullback–Leibler divergence Σ p·ln(p/q), nats a face, of ``candidate`` (q) from ``baseline`` (p).

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

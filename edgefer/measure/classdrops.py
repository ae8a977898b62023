"""What each class lost: paired drops with intervals that hold for all classes at once."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Predictions, design_effect
from edgefer.measure.paired import tango_interval


@dataclass(frozen=True)
class ClassDrop:
    """Recall that a class lost to the baseline, in percentage points; None where the class has no face.

    Attributes:
        name: of the class.
        n: its faces.
        drop_pp: recall of the baseline − recall of the candidate; positive: the candidate is worse.
        ci_pp: its interval; with the probability that was asked for, those of all classes hold together.
    """

    name: str
    n: int
    drop_pp: float | None
    ci_pp: tuple[float, float] | None

    @property
    def seen(self) -> bool:
        """Whether the interval excludes "no difference"."""
        return self.ci_pp is not None and not self.ci_pp[0] <= 0 <= self.ci_pp[1]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        interval = None if self.ci_pp is None else list(self.ci_pp)
        return {"class": self.name, "n": self.n, "drop_pp": self.drop_pp, "ci_pp": interval}


def class_drops(baseline: Predictions, candidate: Predictions, confidence: float = 0.95) -> tuple[ClassDrop, ...]:
    """Drop of every class, in the classes' order; the two were made on the same faces.

    The intervals are Tango's, each at the level (1 − α)^(1/k) of Šidák (1967, J. Am. Stat. Assoc. 62, 626–633) for k
    classes with faces. That is exact here, and not only an approximation: no face is of two classes, so that, given the
    labels, what happens to one class says nothing about another. (Near-duplicates with different labels are the
    exception; Šidák's inequality holds for those too.)
    """
    z = simultaneous_z(len(np.unique(baseline.labels)), confidence)
    return tuple(_drop(baseline, candidate, label, name, z) for label, name in enumerate(baseline.classes))


def simultaneous_z(comparisons: int, confidence: float = 0.95) -> float:
    """Standard normal quantile of two-sided intervals of which ``comparisons`` hold together with ``confidence``.

    Raises:
        EdgeferError: no comparison, or a confidence that is not between 0 and 1.
    """
    if comparisons < 1 or not 0 < confidence < 1:
        raise EdgeferError(f"intervals need 1 or more comparisons and 0 < confidence < 1: {comparisons}, {confidence}")
    alone = confidence ** (1 / comparisons)
    return NormalDist().inv_cdf((1 + alone) / 2)


def _drop(baseline: Predictions, candidate: Predictions, label: int, name: str, z: float) -> ClassDrop:
    faces = baseline.labels == label
    n = int(faces.sum())
    if not n:
        return ClassDrop(name, 0, None, None)
    drops = baseline.correct[faces].astype(np.int64) - candidate.correct[faces]
    lost, gained = int((drops > 0).sum()), int((drops < 0).sum())
    low, high = tango_interval(lost, gained, n, z, design_effect(drops, baseline.groups[faces]))
    return ClassDrop(name, n, 100.0 * (lost - gained) / n, (100.0 * low, 100.0 * high))

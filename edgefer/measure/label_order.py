"""Whether another order of the class names fits a network's answers better than the order that its contract says.

A network that was trained on folders numbers its classes alphabetically, FER2013 otherwise, FER+ and AffectNet again
otherwise; a contract with the wrong order costs accuracy and raises no error. The confusion matrix tells: to find the
order with the largest number of right answers is an assignment problem. Because that order is the best of all, its
accuracy on the same faces is too good. Therefore it is chosen on one half of the faces and confirmed on the other, both
ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefer.measure.accuracy import Predictions
from edgefer.measure.paired import Paired, mcnemar_exact, simultaneous_z, tango_interval

MIN_FACES = 200
"""Fewer labelled faces tell nothing about a contract."""

ALPHA = 0.01
"""Probability that a right contract raises an alarm, over all alternatives together."""

MARGIN_PP = 1.0
"""An alternative must be better by more than this, in points, with its whole 95 % interval. With a right contract too a
slightly tighter crop may be better, by less than a point."""


@dataclass(frozen=True)
class Gain:
    """How much better an alternative is than what is declared, on the same faces.

    Attributes:
        paired: the declared one as baseline, the alternative as candidate.
        comparisons: number of alternatives that were, or could have been, compared.
    """

    paired: Paired
    comparisons: int = 1

    @property
    def gain_pp(self) -> float:
        """Top-1 of the alternative − top-1 of what is declared, percentage points."""
        return -self.paired.drop_pp

    @property
    def interval_pp(self) -> tuple[float, float]:
        """Tango's interval of :attr:`gain_pp`; those of all comparisons hold together with 1 − :data:`ALPHA`."""
        z = simultaneous_z(self.comparisons, 1 - ALPHA)
        paired = self.paired
        low, high = tango_interval(paired.candidate_only, paired.baseline_only, paired.n, z, paired.effect)
        return 100.0 * low, 100.0 * high

    @property
    def p(self) -> float:
        """Exact McNemar test, times the number of comparisons (Bonferroni), at most 1."""
        return min(1.0, self.paired.mcnemar_p * self.comparisons)

    @property
    def shown(self) -> bool:
        """Whether the alternative is better: by the corrected test, and by more than :data:`MARGIN_PP`."""
        return self.gain_pp > MARGIN_PP and self.p <= ALPHA and -self.paired.ci95_pp[1] > MARGIN_PP


def best_assignment(gains: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each row of a square matrix its column, one each, so that the sum of the chosen gains is the largest.

    The Hungarian method with shortest augmenting paths, O(n³): Jonker and Volgenant (1987), Computing 38, 325–340.
    Integers, so that equal sums are equal.
    """
    size = len(gains)
    cost = int(gains.max(initial=0)) - gains.astype(np.int64)
    infinite = np.iinfo(np.int64).max // 4
    rows, columns = np.zeros(size + 1, np.int64), np.zeros(size + 1, np.int64)  # potentials
    taken = np.zeros(size + 1, np.int64)  # row + 1 of each column; column 0 is where a path begins
    for row in range(1, size + 1):
        taken[0], at = row, 0
        shortest, came = np.full(size + 1, infinite), np.zeros(size + 1, np.int64)
        used = np.zeros(size + 1, bool)
        while taken[at] or at == 0:
            used[at] = True
            reduced = cost[taken[at] - 1] - rows[taken[at]] - columns[1:]
            nearer = np.flatnonzero(~used[1:] & (reduced < shortest[1:])) + 1
            shortest[nearer], came[nearer] = reduced[nearer - 1], at
            step = int(shortest[~used].min())
            rows[taken[used]] += step
            columns[used] -= step
            shortest[~used] -= step
            at = int(np.flatnonzero(~used)[shortest[~used].argmin()])
            if not taken[at]:
                break
        while at:
            taken[at], at = taken[came[at]], int(came[at])
    chosen = np.empty(size, np.int64)
    chosen[taken[1:] - 1] = np.arange(size)
    return chosen


def best_order(labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """For each output the class that it should be called, so that the largest number of answers is right; as declared
    where equal.
    """
    counts = np.bincount(answers * classes + labels, minlength=classes * classes).reshape(classes, classes)
    if (counts.diagonal() == counts.max(axis=1)).all():  # no output fits another class better: nothing to solve
        return np.arange(classes)
    return best_assignment(counts * (classes + 1) + np.eye(classes, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Reordered:
    """The best order of the class names, and answers under an order that the same faces did not choose.

    Attributes:
        order: for each output the class (an index) that fits all the faces best.
        answers: int64 N, each under the order that the other half of the faces chose.
        clear: whether of the answers that change at least twice as many are right as before. In a wrong order few of
            them are right before. A weak network that confuses two classes, say all fear with surprise, may also gain
            by another order, though its names are right: there many are right before.
    """

    order: tuple[int, ...]
    answers: NDArray[np.int64]
    clear: bool

    @property
    def changes(self) -> bool:
        """Whether it is another order than the declared one."""
        return self.order != tuple(range(len(self.order)))


def reorder(
    labels: NDArray[np.int64], answers: NDArray[np.int64], groups: NDArray[np.int64], classes: int, seed: int = 0
) -> Reordered:
    """Choose on one half and apply to the other, both ways; near-duplicates are in the same half.

    Args:
        labels: the truth, int64 N.
        answers: int64 N.
        groups: int64 N, the same number for near-duplicates.
        classes: number of classes.
        seed: seed of the halves.
    """
    first = np.random.default_rng(seed).permutation(int(groups.max()) + 1)[groups] % 2 == 0
    found = np.empty_like(answers)
    for half in (first, ~first):
        found[~half] = best_order(labels[half], answers[half], classes)[answers[~half]]
    order = _supported(best_order(labels, answers, classes), labels, answers)
    before, after = (int((one == labels)[answers != found].sum()) for one in (answers, found))
    return Reordered(order, found, clear=order != tuple(range(classes)) and after >= 2 * before)


def _supported(order: NDArray[np.int64], labels: NDArray[np.int64], answers: NDArray[np.int64]) -> tuple[int, ...]:
    """The order with the names back in their places that a few answers alone have moved.

    Classes that change places among themselves (a cycle) are tried together.
    """
    kept = np.arange(len(order))
    for start in range(len(order)):
        cycle = [start]
        while (following := int(order[cycle[-1]])) != start:
            cycle.append(following)
        moved = np.isin(answers, cycle)
        before, after = answers[moved] == labels[moved], order[answers[moved]] == labels[moved]
        if mcnemar_exact(int((before & ~after).sum()), int((after & ~before).sum())) <= 0.05:
            kept[cycle] = order[cycle]
    return tuple(int(label) for label in kept)


def order_warning(predictions: Predictions, data: str) -> str | None:
    """A sentence if another order of the classes fits the answers better, else None; it costs a confusion matrix.

    Args:
        predictions: answers of the network whose contract is doubted.
        data: what to call the faces in the command that tells more.
    """
    if predictions.n < MIN_FACES:
        return None
    labels, groups, names = predictions.labels, predictions.groups, predictions.classes
    other = reorder(labels, predictions.answers, groups, len(names))
    gain = Gain(Paired.from_answers(labels, predictions.answers, other.answers, groups))
    if not gain.shown or not other.clear:
        return None
    share = 100.0 * float((other.answers == labels).mean())
    listed = ", ".join(names[label] for label in other.order)
    name = Path(predictions.name).name
    return (
        f"the classes of {name} seem to be in another order: {share:.1f} % of its answers would be right instead of "
        f"{100 * predictions.top1:.1f} % as {listed}: `edgefer contract check`, with labelled faces other than {data}, "
        "shows the evidence"
    )

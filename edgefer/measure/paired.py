"""Two networks on the same faces: how much accuracy the second lost, in all and per class, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Z95, Predictions, check_classes, design_effect, wilson_interval


@dataclass(frozen=True)
class Paired:
    """The 2×2 table of a paired comparison, and what follows from it.

    The drop is a plain difference of means over all faces; its interval and its p-value count near-duplicates once.

    Attributes:
        both: faces that both named rightly.
        baseline_only: faces that only the baseline named rightly.
        candidate_only: faces that only the candidate named rightly.
        neither: faces that neither named rightly.
        agreeing: faces to which both gave the same answer, right or wrong.
        effect: design effect of the drop, see :func:`~edgefer.measure.accuracy.design_effect`.
        agreement_effect: design effect of the agreement.
        nets: faces lost less faces gained, of each group of near-duplicates where they differ; empty where no face has
            a near-duplicate.

    Raises:
        EdgeferError: no face at all, or a negative or contradictory count.
    """

    both: int
    baseline_only: int
    candidate_only: int
    neither: int
    agreeing: int
    effect: float = 1.0
    agreement_effect: float = 1.0
    nets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if min(self.both, self.baseline_only, self.candidate_only, self.neither, self.agreeing) < 0:
            raise EdgeferError(f"a paired comparison has no negative counts: {self}")
        if self.n == 0:
            raise EdgeferError("a paired comparison needs faces, not 0", hint="choose a split that is not empty")
        if not self.both <= self.agreeing <= self.both + self.neither:
            raise EdgeferError(f"the agreeing faces must be the {self.both} right ones and some wrong ones: {self}")

    @classmethod
    def from_predictions(cls, baseline: Predictions, candidate: Predictions) -> Paired:
        """Compare two predictions face by face.

        Raises:
            EdgeferError: they were not made on the same faces, or not for the same classes.
        """
        check_classes(baseline.name, baseline.classes, candidate.name, candidate.classes)
        check_same_faces(baseline, candidate.name, candidate.faces_sha256, candidate.labels, candidate.groups)
        return cls.from_answers(baseline.labels, baseline.answers, candidate.answers, baseline.groups)

    @classmethod
    def from_answers(
        cls,
        labels: NDArray[np.int64],
        baseline: NDArray[np.int64],
        candidate: NDArray[np.int64],
        groups: NDArray[np.int64],
    ) -> Paired:
        """Compare the answers of two networks; an element per face in each argument."""
        one, two, alike = baseline == labels, candidate == labels, baseline == candidate
        drops = one.astype(np.int64) - two
        nets = np.bincount(groups, weights=drops).astype(np.int64)
        return cls(
            both=int((one & two).sum()),
            baseline_only=int((one & ~two).sum()),
            candidate_only=int((~one & two).sum()),
            neither=int((~one & ~two).sum()),
            agreeing=int(alike.sum()),
            effect=design_effect(drops, groups),
            agreement_effect=design_effect(alike, groups),
            nets=tuple(nets[nets != 0].tolist()) if np.bincount(groups).max(initial=0) > 1 else (),
        )

    @property
    def n(self) -> int:
        """Number of faces."""
        return self.both + self.baseline_only + self.candidate_only + self.neither

    @property
    def drop_pp(self) -> float:
        """Top-1 of the baseline − top-1 of the candidate, percentage points; positive: the candidate is worse."""
        return 100.0 * (self.baseline_only - self.candidate_only) / self.n

    @property
    def ci95_pp(self) -> tuple[float, float]:
        """Tango's 95 % score interval of :attr:`drop_pp`, percentage points; never of width 0."""
        low, high = tango_interval(self.baseline_only, self.candidate_only, self.n, effect=self.effect)
        return 100.0 * low, 100.0 * high

    @property
    def mcnemar_p(self) -> float:
        """Exact two-sided p-value of "both are equally accurate"; 1 if no face tells them apart."""
        return sign_flip(self.nets) if self.nets else mcnemar_exact(self.baseline_only, self.candidate_only)

    @property
    def agreement(self) -> float:
        """Share of faces with the same answer, 0–1."""
        return self.agreeing / self.n

    @property
    def agreement_ci95(self) -> tuple[float, float]:
        """Wilson's 95 % interval of :attr:`agreement`, 0–1."""
        return wilson_interval(self.agreeing, self.n, self.agreement_effect)

    def to_dict(self) -> dict[str, float | list[float]]:
        """``drop_pp``, ``ci95_pp``, ``mcnemar_p``, ``agreement``."""
        return {
            "drop_pp": self.drop_pp,
            "ci95_pp": list(self.ci95_pp),
            "mcnemar_p": self.mcnemar_p,
            "agreement": self.agreement,
        }


def check_same_faces(
    one: Predictions, other: str, faces_sha256: str, labels: NDArray[np.int64], groups: NDArray[np.int64]
) -> None:
    """Refuse to pair predictions with those of ``other``, on the faces with this fingerprint and these labels.

    Raises:
        EdgeferError: they are other faces, labelled otherwise, or otherwise grouped into near-duplicates.
    """
    if one.faces_sha256 != faces_sha256 or not np.array_equal(one.labels, labels):
        raise EdgeferError(
            f"{one.name} and {other} were not run on the same faces: "
            f"{one.n} faces {one.faces_sha256[:12]}…, {len(labels)} faces {faces_sha256[:12]}…",
            hint="predict both on the same data, split, limit and seed",
        )
    if not np.array_equal(one.groups, groups):
        raise EdgeferError(
            f"{one.name} and {other} divide the same faces into other groups of near-duplicates: "
            f"{one.distinct} and {len(np.unique(groups))} distinct faces",
            hint="predict both with this version of edgefer",
        )


def tango_interval(
    first_only: int, second_only: int, n: int, z: float = Z95, effect: float = 1.0
) -> tuple[float, float]:
    """Score interval of the difference of two paired proportions, (first_only − second_only) / n.

    Tango, T. (1998), "Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design", Statistics in Medicine 17, 891–908: all differences Δ that the score test does not reject,

        |b − c − nΔ| ≤ z · √(n · (2·q(Δ) + Δ·(1 − Δ))),

    where q(Δ) is the maximum-likelihood estimate of the probability of a ``second_only`` face given Δ. With b = c = 0
    it is Wilson's interval in another dress, ± z²/(n + z²), and not [0, 0] as Wald's would be. Where faces have
    near-duplicates, b, c and n are divided by ``effect``, their :func:`~edgefer.measure.accuracy.design_effect`.
    """
    if min(first_only, second_only) < 0 or n < max(1, first_only + second_only):
        raise EdgeferError(f"discordant counts {first_only} and {second_only} do not fit {n} faces")
    b, c, count = first_only / effect, second_only / effect, n / effect
    centre = (b - c) / count

    def excess(delta: float) -> float:
        variance = count * (2 * _constrained_estimate(b, c, count, delta) + delta * (1 - delta))
        return (b - c - count * delta) ** 2 - z * z * variance

    return _root(excess, inside=centre, outside=-1.0), _root(excess, inside=centre, outside=1.0)


def mcnemar_exact(first_only: int, second_only: int) -> float:
    """Exact two-sided McNemar test: twice the smaller binomial tail of the discordant faces at 1/2, at most 1.

    McNemar (1947), Psychometrika 12, 153–157; summed over log-probabilities, so that counts of any size work.
    """
    discordant = first_only + second_only
    if first_only == second_only:
        return 1.0
    log_total = math.lgamma(discordant + 1) - discordant * math.log(2)
    tail = math.fsum(
        math.exp(log_total - math.lgamma(k + 1) - math.lgamma(discordant - k + 1))
        for k in range(min(first_only, second_only) + 1)
    )
    return min(1.0, 2 * tail)


def sign_flip(nets: Sequence[int]) -> float:
    """Exact two-sided p-value of "no difference" from what each group of near-duplicates lost, none of them 0.

    Given how much each group lost or gained, either was equally likely: how often would the sum be as far from 0 as it
    is? It is McNemar's test where every group is one face (Durkalski et al. 2003, Stat. Med. 22, 2417–2428, have the
    asymptotic form of this test).
    """
    sizes, counts = np.unique(np.abs(nets), return_counts=True)
    if len(sizes) == 1:
        return mcnemar_exact(sum(net > 0 for net in nets), sum(net < 0 for net in nets))
    chances = np.ones(1)  # of the sum of those that are positive
    for size, count in zip(sizes, counts, strict=True):
        logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, count + 1)))])
        spread = np.zeros(size * count + 1)
        spread[::size] = np.exp(logs[-1] - logs - logs[::-1] - count * math.log(2))
        chances = np.convolve(chances, spread)
    total = len(chances) - 1
    extreme = np.abs(2 * np.arange(total + 1) - total) >= abs(sum(nets))
    return min(1.0, float(chances[extreme].sum()))


def _constrained_estimate(first_only: float, second_only: float, n: float, delta: float) -> float:
    """q(Δ): the non-negative root of 2n·q² + ((2n − b + c)·Δ − b − c)·q − c·Δ·(1 − Δ) = 0."""
    linear = (2 * n - first_only + second_only) * delta - first_only - second_only
    constant = -second_only * delta * (1 - delta)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    # the floor keeps p₁₂ = q + Δ a probability where rounding would push it below zero
    return max((root - linear) / (4 * n), 0.0, -delta)


def _root(excess: Callable[[float], float], inside: float, outside: float) -> float:
    """Bisect for where ``excess`` turns positive on the way from ``inside`` to ``outside``."""
    if excess(outside) <= 0:
        return outside
    for _ in range(100):
        middle = (inside + outside) / 2
        if excess(middle) <= 0:
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2


class Verdict(str, Enum):
    """Where an interval stands to a limit."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


def verdict_of(interval: tuple[float, float], limit: float) -> Verdict:
    """PASS if all of ``interval`` is at most ``limit``, FAIL if none of it is, else INCONCLUSIVE."""
    low, high = interval
    if high <= limit:
        return Verdict.PASS
    return Verdict.FAIL if low > limit else Verdict.INCONCLUSIVE


def check_margin(margin_pp: float) -> None:
    """Refuse a margin that no drop can be held against.

    Raises:
        EdgeferError: it is not positive, or not finite.
    """
    if not 0 < margin_pp < math.inf:
        raise EdgeferError(
            f"the margin must be a positive number of points, not {margin_pp}", hint="pass e.g. --margin 0.5"
        )


@dataclass(frozen=True)
class NonInferiority:
    """A drop beside the margin that was stated before it was measured.

    The whole 95 % interval of the drop must lie below the margin: a one-sided test at 2.5 %, as usual for
    non-inferiority (Tango 1998; ICH E9, section 3.3.2).

    Attributes:
        margin_pp: the greatest drop that would be accepted, percentage points, positive.
        drop_pp: the measured drop.
        ci95_pp: its interval.
        n: number of independent faces that were measured, or that the measured ones are worth.

    Raises:
        EdgeferError: the margin is not positive.
    """

    margin_pp: float
    drop_pp: float
    ci95_pp: tuple[float, float]
    n: float

    def __post_init__(self) -> None:
        check_margin(self.margin_pp)

    @classmethod
    def of(cls, paired: Paired, margin_pp: float) -> NonInferiority:
        """Hold a paired comparison against a margin."""
        return cls(margin_pp, paired.drop_pp, paired.ci95_pp, paired.n / paired.effect)

    @property
    def verdict(self) -> Verdict:
        """PASS: shown to be no worse than the margin; FAIL: shown to be worse; else neither was shown."""
        return verdict_of(self.ci95_pp, self.margin_pp)

    @property
    def difference_seen(self) -> bool:
        """Whether the interval excludes 0, in either direction."""
        return not self.ci95_pp[0] <= 0 <= self.ci95_pp[1]

    @property
    def faces_needed(self) -> int | None:
        """About how many faces would decide it if the drop stayed what it is; None where none or any number would.

        An interval narrows with the square root of the number of faces.
        """
        distance = abs(self.margin_pp - self.drop_pp)
        if self.verdict is not Verdict.INCONCLUSIVE or distance == 0:
            return None
        low, high = self.ci95_pp
        width = high - self.drop_pp if self.drop_pp < self.margin_pp else self.drop_pp - low
        return math.ceil(self.n * (width / distance) ** 2)

    def sentence(self) -> str:
        """The verdict as a sentence."""
        low, high = self.ci95_pp
        margin = f"{self.margin_pp:g} points"
        if self.verdict is Verdict.PASS:
            seen = f"; a difference was seen ({self.drop_pp:+.2f})" if self.difference_seen else ""
            return f"no worse than {margin}: shown (at most {high:+.2f}){seen}"
        if self.verdict is Verdict.FAIL:
            return f"worse than {margin}: at least {low:+.2f}"
        needed = "" if self.faces_needed is None else f"; about {_rounded(self.faces_needed):,} faces would tell"
        start = "a difference was seen" if self.difference_seen else "no difference seen"
        return f"{start}, but {self._open()}{needed}"

    def _open(self) -> str:
        return f"'no worse than {self.margin_pp:g} points' is not shown: {self.ci95_pp[1]:+.2f} is possible"


def _rounded(count: int) -> int:
    """Two significant digits, upwards: more would pretend to know."""
    step = int("1" + "0" * max(0, len(str(count)) - 2))
    return -(-count // step) * step


@dataclass(frozen=True)
class ClassDrop:
    """Recall that a class lost to the baseline, in percentage points; None where the class has no face.

    Attributes:
        name: the class's name.
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
    from statistics import NormalDist

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

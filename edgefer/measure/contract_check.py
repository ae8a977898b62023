"""Which contract labelled faces speak for: the declared one, or one that differs where people err.

Hypotheses are the usual normalisations, orders of the colour channels, tighter crops, and another order of the class
names (:mod:`edgefer.measure.label_order`), alone and together. An alternative raises an alarm only if it is better than
the declared contract on the same faces by an exact paired test that is corrected for the number of alternatives, those
included that were never computed. What is proposed then is the simplest hypothesis that is not shown to be worse than
the best one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import NORMALISATIONS, Contract, named_normalisation
from edgefer.data import FaceSet, aligned, open_dataset
from edgefer.errors import EdgeferError
from edgefer.graph.float_input import Place, Suspect, open_suspect
from edgefer.measure.accuracy import check_classes, design_effect, numbered, wilson_interval
from edgefer.measure.contract_faces import PER_IMAGE, FacesAsTaken, Hypothesis, own_normalisation
from edgefer.measure.environment import available_cores
from edgefer.measure.label_order import ALPHA, MARGIN_PP, MIN_FACES, Gain, Reordered, reorder
from edgefer.measure.paired import Paired
from edgefer.progress import progress

FACES = 1000
"""Faces that are looked at, where there are more."""

CROPS = (5, 10, 15, 20)
"""Percent by which the side of a crop is shorter."""

_LOOKS = (100, 200, 400)  # numbers of faces after which hypotheses that are worse than another one are dropped
_WORSE = 0.005  # with a smaller p-value, paired, before correction
_WEAK = 0.1
"""Cohen's kappa that a network must exceed, with its whole interval, for its answers to tell one contract from another.

Cohen (1960), Educ. Psychol. Meas. 20, 37–46: 0 is what answers have that know nothing of the face.
"""
_FEW = 15  # faces of a class that hardly tell where its name belongs
_ALIKE = 0.05  # a hypothesis with a larger p-value is not told apart from a better one


@dataclass(frozen=True, eq=False)
class Finding:
    """What the faces say about one hypothesis.

    Attributes:
        hypothesis: the hypothesis.
        answers: int64 n, classes as the hypothesis names them; of a hypothesis that was dropped early, of the first
            faces alone.
        right: how many of them are right.
        interval: Wilson's 95 % interval of their share, 0–1.
        gain: against the declared contract, on the same faces; None for itself.
        order: the order of the classes, if another one fits better.
    """

    hypothesis: Hypothesis
    answers: NDArray[np.int64]
    right: int
    interval: tuple[float, float]
    gain: Gain | None
    order: Reordered | None = None

    @property
    def n(self) -> int:
        """Number of faces."""
        return len(self.answers)

    @property
    def top1(self) -> float:
        """Share of right answers, 0–1."""
        return self.right / self.n

    @property
    def shown(self) -> bool:
        """Whether it is better than the declared contract, its order of the classes being no tie."""
        return self.gain is not None and self.gain.shown and (self.order is None or self.order.clear)


class ContractVerdict(str, Enum):
    """What follows from the findings."""

    KEEP = "no alternative is better"
    CHANGE = "another contract is better"
    UNKNOWN = "nothing can be concluded"


@dataclass(frozen=True, eq=False)
class ContractCheck:
    """The result of :func:`check_contract`.

    Attributes:
        suspect: the network.
        data: what to call the faces.
        verdict: what follows.
        findings: the declared contract first.
        chosen: the finding that is proposed, or that of the declared contract.
        alike: normalisations that are not worse than the chosen one, as far as the faces tell.
        contract: the proposed contract, as far as a contract can express it; the declared one where none is proposed.
        advice: what a contract cannot express, and what limits the result, a sentence each.
    """

    suspect: Suspect
    data: str
    verdict: ContractVerdict
    findings: tuple[Finding, ...]
    chosen: Finding
    alike: tuple[str, ...]
    contract: Contract
    advice: tuple[str, ...] = field(default=())

    @property
    def declared(self) -> Finding:
        """The finding of the declared contract."""
        return self.findings[0]

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-ready; shares are 0–1, gains percentage points."""
        return {
            "model": self.suspect.name,
            "data": self.data,
            "faces": self.declared.n,
            "verdict": self.verdict.name.lower(),
            "assumed": list(self.suspect.assumed),
            "alpha": ALPHA,
            "margin_pp": MARGIN_PP,
            "comparisons": next((f.gain.comparisons for f in self.findings if f.gain is not None), 0),
            "hypotheses": [_to_json(finding, self.suspect.contract.labels) for finding in self.findings],
            "chosen": self.findings.index(self.chosen),
            "alike": list(self.alike),
            "declared_contract": self.suspect.contract.to_dict(),
            "contract": self.contract.to_dict(),
            "advice": list(self.advice),
        }


def _to_json(finding: Finding, labels: Sequence[str]) -> dict[str, Any]:
    told = finding.hypothesis
    content: dict[str, Any] = {
        "normalisation": told.normalisation,
        "channels": told.channels,
        "crop_percent": told.crop,
        "reordered": told.reordered,
        "n": finding.n,
        "top1": finding.top1,
        "top1_ci95": list(finding.interval),
    }
    if finding.gain is not None:
        content |= {"gain_pp": finding.gain.gain_pp, "gain_ci_pp": list(finding.gain.interval_pp)}
        content |= {"p_corrected": finding.gain.p, "shown": finding.shown}
    if finding.order is not None:
        content["labels"] = [labels[label] for label in finding.order.order]
    return content


def check_contract(
    place: Place | Suspect, data: str | os.PathLike[str] | FaceSet, *, limit: int = FACES, seed: int = 0
) -> ContractCheck:
    """Hold a network's contract against labelled faces; nothing is written.

    Args:
        place: where the network is, or the network.
        data: a data set: of one that declares splits the ``train`` part is taken (or all of it, if there is none), so
            that test faces choose nothing; or ``DATA:split``, or a face set.
        limit: number of faces that are looked at, a random sample if there are more.
        seed: seed of the sample and of its halves.

    Raises:
        EdgeferError: fewer than :data:`~edgefer.measure.label_order.MIN_FACES` faces, classes that are not the
            network's, or a network that cannot be opened.
    """
    faces = (data if isinstance(data, FaceSet) else open_dataset(data)).require_labels("checking a contract")
    if faces.picked is None:
        part = faces.split("train") if not faces.splits or "train" in faces.splits else faces
        faces = part if len(part) >= MIN_FACES else faces
    if isinstance(place, Suspect):
        suspect = place
    else:
        suspect = open_suspect(replace(place, threads=available_cores()), faces.classes)
    faces = aligned(faces, suspect.contract.labels)
    check_classes(suspect.name, suspect.contract.labels, faces.origin, faces.classes)
    if min(len(faces), limit) < MIN_FACES:
        raise EdgeferError(
            f"{min(len(faces), limit)} labelled faces of {faces.origin} are too few to check a contract",
            hint=f"it takes {MIN_FACES} or more, better {FACES}",
        )
    sample = faces.subset(np.random.default_rng(seed).permutation(len(faces))[:limit])
    given = FacesAsTaken(suspect, sample)
    trial = Trial(suspect, sample.labels, numbered(sample.group_keys()), given.answers, given.channels, seed)
    limits = tuple(_limits(suspect, sample, given.channels))
    return replace(trial.run(sample.origin), advice=(*trial.advice, *limits))


class Trial:
    """Asks for answers under the hypotheses that are needed, and decides.

    Args:
        suspect: the network.
        labels: the truth, int64 N.
        groups: int64 N, the same number for near-duplicates.
        answers: gives the answers, int64, to the faces of a slice under a hypothesis that is not reordered.
        channels: the orders of channels that are tried, the declared one first.
        seed: seed of the halves of the faces.
    """

    def __init__(
        self,
        suspect: Suspect,
        labels: NDArray[np.int64],
        groups: NDArray[np.int64],
        answers: Callable[[Hypothesis, slice], NDArray[np.int64]],
        channels: tuple[str, ...],
        seed: int = 0,
    ) -> None:
        self.suspect, self.labels, self.groups, self.seed = suspect, labels, groups, seed
        own = own_normalisation(suspect.contract)
        others = [name for name in (*NORMALISATIONS, PER_IMAGE) if name != own and suspect.floats]
        self.normalisations, self.channels = (own, *others), channels
        self.comparisons = 2 * len(self.normalisations) * len(channels) * (1 + len(CROPS)) - 1
        self.declared = Hypothesis(own, channels[0])
        self.advice: tuple[str, ...] = ()
        self._ask = answers
        self._answers: dict[Hypothesis, NDArray[np.int64]] = {}
        self._findings: dict[Hypothesis, Finding] = {}

    def run(self, data: str) -> ContractCheck:
        """Race the hypotheses; ``data`` is what to call the faces."""
        inputs = [Hypothesis(norm, channels) for channels in self.channels for norm in self.normalisations]
        with progress("checking the contract", len(inputs) + 2 * len(CROPS)) as advance:
            self._race(inputs, advance)
            full = [one for one in inputs if len(self._answers[one]) == len(self.labels)]
            best = max(self._full(), key=lambda finding: finding.right).hypothesis
            cropped = [replace(one, crop=crop, reordered=False) for crop in CROPS for one in (self.declared, best)]
            self._race([*full, *dict.fromkeys(cropped)], advance)
        return self._decide(data)

    def _full(self) -> list[Finding]:
        """What is known on all faces, in the order in which it was found."""
        return [finding for finding in self._findings.values() if finding.n == len(self.labels)]

    def _race(self, inputs: Sequence[Hypothesis], advance: Callable[[float], None]) -> None:
        """Compute ``inputs`` on ever more faces, without those that are worse than another one by then."""
        alive, faces = list(inputs), len(self.labels)
        for count in (*(look for look in _LOOKS if look < faces), faces):
            for one in alive:
                if len(self._answers.get(one, ())) < count:
                    self._compute(one, count)
                    advance(int(count == faces))
            if count < faces:
                kept = self._hopeful(alive, count)
                advance(sum(one not in kept and len(self._answers[one]) < faces for one in alive))
                alive = kept

    def _hopeful(self, alive: Sequence[Hypothesis], count: int) -> list[Hypothesis]:
        """The declared contract, and what is not worse than the best one on the first ``count`` faces."""
        answers = {one: self._named(one)[:count] for one in alive}
        labels, groups = self.labels[:count], self.groups[:count]
        right = {one: int((found == labels).sum()) for one, found in answers.items()}
        best = max(alive, key=lambda one: right[one])

        def worse(one: Hypothesis) -> bool:
            if right[one] == right[best]:
                return False
            return Paired.from_answers(labels, answers[best], answers[one], groups).mcnemar_p < _WORSE

        return [one for one in alive if one == self.declared or not worse(one)]

    def _named(self, one: Hypothesis) -> NDArray[np.int64]:
        """Answers with the names of the classes that fit better."""
        plain, other = self._findings[one], self._findings.get(replace(one, reordered=True))
        return other.answers if other is not None and other.right > plain.right else plain.answers

    def _compute(self, one: Hypothesis, count: int) -> None:
        """Answers to the first ``count`` faces, and the two findings that follow from them."""
        known = self._answers.get(one, np.zeros(0, np.int64))
        answers = np.concatenate([known, self._ask(one, slice(len(known), count))])
        self._answers[one] = answers
        labels, groups = self.labels[:count], self.groups[:count]
        self._findings[one] = self._finding(one, answers, None)
        classes = len(self.suspect.contract.labels)
        other = reorder(labels, answers, groups, classes, self.seed)
        if other.changes:
            self._findings[replace(one, reordered=True)] = self._finding(
                replace(one, reordered=True), other.answers, other
            )
        else:
            self._findings.pop(replace(one, reordered=True), None)

    def _finding(self, one: Hypothesis, answers: NDArray[np.int64], order: Reordered | None) -> Finding:
        labels, groups = self.labels[: len(answers)], self.groups[: len(answers)]
        right = answers == labels
        gain = None
        if one != self.declared:
            base = self._answers[self.declared][: len(answers)]
            gain = Gain(Paired.from_answers(labels, base, answers, groups), self.comparisons)
        return Finding(one, answers, int(right.sum()), _interval(right, groups), gain, order)

    def _decide(self, data: str) -> ContractCheck:
        declared = self._findings[self.declared]
        chosen = declared
        better = [finding for finding in self._full() if finding.shown]
        if better:
            chosen = self._simplest(self._expressible(max(better, key=lambda finding: finding.right)))
        verdict = ContractVerdict.CHANGE if better else ContractVerdict.KEEP
        if self._kappa(chosen) < _WEAK:
            verdict, chosen = ContractVerdict.UNKNOWN, declared
        contract, self.advice = self._contract(chosen, data)
        findings = (declared, *(f for f in self._findings.values() if f is not declared))
        return ContractCheck(
            self.suspect,
            data,
            verdict,
            findings,
            chosen,
            tuple(self._alike(chosen)),
            contract,
            self.advice,
        )

    def _alike(self, finding: Finding) -> Iterable[str]:
        same = [replace(finding.hypothesis, normalisation=name) for name in self.normalisations]
        for other in self._full():
            if other is finding or other.hypothesis not in same:
                continue
            if other.right >= finding.right or self._paired(other, finding).mcnemar_p > _ALIKE:
                yield other.hypothesis.normalisation

    def _paired(self, base: Finding, other: Finding) -> Paired:
        return Paired.from_answers(self.labels, base.answers, other.answers, self.groups)

    def _expressible(self, best: Finding) -> Finding:
        """``best``, or what a contract can express if that is not told apart from it."""
        if best.hypothesis.normalisation != PER_IMAGE:
            return best
        names = tuple(self._alike(best))
        usual = [
            finding
            for finding in self._full()
            if finding.shown and finding.hypothesis in [replace(best.hypothesis, normalisation=name) for name in names]
        ]
        return max(usual, key=lambda finding: finding.right, default=best)

    def _simplest(self, best: Finding) -> Finding:
        """``best`` without the changes that it is not shown to need."""
        own = self.declared
        steps: tuple[Callable[[Hypothesis], Hypothesis], ...] = (
            lambda one: replace(one, crop=0),
            lambda one: replace(one, reordered=False),
            lambda one: replace(one, channels=own.channels),
            lambda one: replace(one, normalisation=own.normalisation),
        )
        for step in steps:
            one = step(best.hypothesis)
            if one in (best.hypothesis, self.declared):
                continue
            plain = replace(one, reordered=False)
            if len(self._answers.get(plain, ())) < len(self.labels):
                self._compute(plain, len(self.labels))
            simpler = self._findings.get(one)
            if simpler is None or not simpler.shown:
                continue
            if not Gain(self._paired(simpler, best), self.comparisons).shown:
                best = simpler
        return best

    def _kappa(self, finding: Finding) -> float:
        """Lower end of Cohen's kappa of the answers."""
        classes = len(self.suspect.contract.labels)
        truth, answers = (np.bincount(values, minlength=classes) for values in (self.labels, finding.answers))
        expected = float(truth @ answers) / finding.n**2
        return (finding.interval[0] - expected) / (1 - expected) if expected < 1 else 0.0

    def _contract(self, chosen: Finding, data: str) -> tuple[Contract, tuple[str, ...]]:
        """The contract that ``chosen`` is, and what it cannot express."""
        contract, told = self.suspect.contract, chosen.hypothesis
        advice: list[str] = []
        if told.normalisation == PER_IMAGE:
            advice.append(
                "a contract cannot express a normalisation per image: let the network do it, (x - mean) / std over "
                "each face in its forward pass, and give the contract scale = 1.0, means of 0 and stds of 1"
            )
        elif told.normalisation != self.declared.normalisation:
            norm = named_normalisation(told.normalisation, contract.channels)
            contract = replace(contract, normalisation=norm)
        if told.channels != self.declared.channels:
            advice.append(
                "a contract's faces are RGB: reverse the channels where the network begins (x.flip(1), or the input "
                "channels of its first convolution)"
                if told.channels == "BGR"
                else "the network is for grey faces in three equal channels: let it take one, "
                "x.expand(-1, 3, -1, -1), and give the contract channels = 1 with one mean and one std"
            )
        if told.crop:
            margin = round(((1 - told.crop / 100) * (1 + 2 * contract.crop_margin) - 1) / 2, 4)
            contract = replace(contract, crop_margin=margin)
            advice.append(
                f"the faces of {data} are cut wider than those of the network's training: "
                f"crop_margin = {margin} is for a camera that cuts as they were cut, and on such data it measures what "
                f"{told.crop} % tighter faces would give"
            )
        if chosen.order is not None:
            contract = replace(contract, labels=tuple(contract.labels[label] for label in chosen.order.order))
        return contract, tuple(advice)


def _limits(suspect: Suspect, faces: FaceSet, channels: Sequence[str]) -> Iterable[str]:
    yield from suspect.notes
    if suspect.contract.channels == 3 and len(channels) == 1:
        yield f"the faces of {faces.origin} are grey: they cannot tell RGB from BGR"
    counts = faces.per_class_counts()
    lacking = [name for name, count in counts.items() if not count]
    if lacking:
        yield f"there was no face of {', '.join(lacking)}: nothing is known about the place of that name"
    few = [f"{count} of {name}" for name, count in counts.items() if 0 < count < _FEW]
    if few:
        yield f"there were few faces of some classes ({', '.join(few)}): their places in the order are uncertain"


def _interval(right: NDArray[np.bool_], groups: NDArray[np.int64]) -> tuple[float, float]:
    return wilson_interval(int(right.sum()), len(right), design_effect(right, groups))

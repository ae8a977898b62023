"""Searches among INT8 files by what faces of `val` answer: `--method auto`, and `--max-drop` with INT8.

`--method auto` tries every way of making ranges, in every Q/DQ scheme that suits the runtime. `--max-drop` keeps the
cheapest set of layers out of INT8 with which the accuracy drop is known to be small: layers come back to float in the
order of what that gains (KL divergence of the layer in INT8 alone) for what it costs (a cost model: time of a call, or
multiply-accumulates). Plans along that way are evaluated on one half of `val`. The other half certifies: plans that met
the budget are tested there, those that met it by the largest margin first, and the first that fails ends it (a sequence
fixed beforehand, so that testing several plans does not flatter the one that is shipped; Maurer, Hothorn and Lehmacher
1995).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edgefer.data import FaceSet
from edgefer.measure.paired import Paired
from edgefer.optimize.candidates import Candidate, CandidateResult, Variant, choose, output_error, time_files
from edgefer.optimize.certainty import halves
from edgefer.optimize.prepared import Evaluation, PreparedModel
from edgefer.optimize.sensitivity import LayerCost, layer_costs
from edgefer.optimize.settings import AUTO, Quantisation
from edgefer.progress import announce, number_of, progress
from edgefer.quantize.graphview import macs_by_layer
from edgefer.quantize.ranges import METHODS

FEW_LAYERS = 12
"""Up to this number of layers, every number of layers in float is tried; beyond it, numbers that grow by 50 %."""

NOISE = 0.02
"""A plan that is slower than all-INT8 by less than this share costs nothing: timing does not tell them apart."""

ALIKE = 1.25
"""Schemes whose errors differ by less than this factor are told apart by their cost."""


class CostModel(Protocol):
    """The cost by which plans are compared: :class:`TimeCost` or :class:`MacCost`."""

    def fastest(self, prepared: PreparedModel, variants: Sequence[Variant]) -> Variant:
        """The one of ``variants`` to go on with."""

    def of_layers(self, prepared: PreparedModel, variant: Variant, layers: Sequence[str]) -> Mapping[str, float]:
        """Cost of each layer when it alone is float; greater than 0."""

    def filled(
        self,
        prepared: PreparedModel,
        rows: Sequence[CandidateResult],
        plans: Sequence[tuple[Collection[str], Candidate]],
    ) -> list[CandidateResult]:
        """``rows`` with the cost of plans, each the layers kept in float and the file."""

    def of(self, row: CandidateResult) -> float:
        """The cost that :meth:`filled` wrote."""


@dataclass(frozen=True)
class TimeCost:
    """Milliseconds of a call with ``batch`` images on ``threads``, on this machine."""

    threads: int
    batch: int

    def fastest(self, prepared: PreparedModel, variants: Sequence[Variant]) -> Variant:
        """The variant that takes the shortest time."""
        if len(variants) == 1:
            return variants[0]
        files = [prepared.uncorrected().build(variant) for variant in variants]
        rows = choose(self._timed(prepared, [CandidateResult.of(file) for file in files], files))
        return variants[next(i for i, row in enumerate(rows) if row.chosen)]

    def of_layers(self, prepared: PreparedModel, variant: Variant, layers: Sequence[str]) -> Mapping[str, float]:
        """The time that each adds; no less than timing can tell."""
        plain = prepared.uncorrected()
        files = [plain.build(variant), *(plain.build(variant, [layer]) for layer in layers)]
        rows = [replace(CandidateResult.of(file), label=str(i)) for i, file in enumerate(files)]
        taken = [self.of(row) for row in self._timed(prepared, rows, files)]
        return {layer: max(NOISE * taken[0], ms - taken[0]) for layer, ms in zip(layers, taken[1:], strict=True)}

    def filled(
        self,
        prepared: PreparedModel,
        rows: Sequence[CandidateResult],
        plans: Sequence[tuple[Collection[str], Candidate]],
    ) -> list[CandidateResult]:
        """``rows`` with ``p50_ms``."""
        return self._timed(prepared, rows, [file for _, file in plans])

    def of(self, row: CandidateResult) -> float:
        """Median of a call, ms."""
        return row.p50_ms or 0.0

    def _timed(
        self, prepared: PreparedModel, rows: Sequence[CandidateResult], files: Sequence[Candidate]
    ) -> list[CandidateResult]:
        return time_files(rows, files, prepared.contract, threads=self.threads, batch=self.batch, seconds_each=0.5)


@dataclass(frozen=True)
class MacCost:
    """Multiply-accumulates per face that are not done in INT8: for engines that this machine cannot run."""

    def fastest(self, prepared: PreparedModel, variants: Sequence[Variant]) -> Variant:
        """The first: there is one way for TensorRT."""
        return variants[0]

    def of_layers(self, prepared: PreparedModel, variant: Variant, layers: Sequence[str]) -> Mapping[str, float]:
        """Multiply-accumulates of each layer, at least 1."""
        macs = macs_by_layer(prepared.model)
        return {layer: float(max(1, macs[layer])) for layer in layers}

    def filled(
        self,
        prepared: PreparedModel,
        rows: Sequence[CandidateResult],
        plans: Sequence[tuple[Collection[str], Candidate]],
    ) -> list[CandidateResult]:
        """``rows`` with ``float_macs``."""
        macs = macs_by_layer(prepared.model)
        costs = [sum(macs[layer] for layer in kept) for kept, _ in plans]
        return [replace(row, float_macs=cost) for row, cost in zip(rows, costs, strict=True)]

    def of(self, row: CandidateResult) -> float:
        """Multiply-accumulates of the layers in float."""
        return float(row.float_macs or 0)


@dataclass(frozen=True)
class Found:
    """The choice, and the reason for it.

    Attributes:
        prepared: the model with the chosen method.
        candidate: the file.
        rows: results of every candidate.
        reason: the reason, in sentences.
    """

    prepared: PreparedModel
    candidate: Candidate
    rows: tuple[CandidateResult, ...]
    reason: str


def search(
    prepared: PreparedModel, variants: Sequence[Variant], settings: Quantisation, cost: CostModel, threads: int = 1
) -> Found:
    """Choose the candidate that does best on the `val` part of the data.

    Args:
        prepared: a model that was calibrated for a choice.
        variants: variants of one runtime, with the schemes that may be chosen from.
        settings: the method ``"auto"``: choose among all methods, not the model's only.
            ``max_drop``: certify that the drop is within it.
        cost: cost model of plans, and of schemes with equal errors.
        threads: number of the engines' threads.
    """
    assert prepared.given is not None  # Quantisation.check looked
    choosing, max_drop = prepared.given.evaluation, settings.max_drop
    certifying = None
    if max_drop is not None:
        choosing, certifying = halves(choosing)
    evaluation = Evaluation.of(prepared, variants[0].runtime, choosing, threads)
    found: Found | None = None
    if settings.method == AUTO:
        found = choose_method(evaluation, variants, cost)
        variants = (found.candidate.variant,)
        evaluation = replace(evaluation, prepared=found.prepared)
    if certifying is None or max_drop is None:
        assert found is not None  # one of the two was asked for
        return found
    within = within_budget(evaluation, variants, certifying, max_drop, cost)
    if found is None:
        return within
    rows = (*(replace(row, chosen=False) for row in found.rows), *within.rows)
    return replace(within, rows=rows, reason=f"{found.reason}\n{within.reason}")


def choose_method(evaluation: Evaluation, variants: Sequence[Variant], cost: CostModel) -> Found:
    """Build every method in every variant; take the one whose answers are nearest to float's. It needs no labels.

    The error is the mean KL divergence of the probabilities: unlike the logits' signal-to-noise ratio it is not ruled
    by the few faces with the largest logits, whose answers no rounding changes. Where several variants come within
    :data:`ALIKE` of the smallest error, the cheapest of them is taken.
    """
    prepared = evaluation.prepared
    tried: list[Candidate] = []
    rows: list[CandidateResult] = []
    with progress("methods", len(variants) * len(METHODS)) as advance:
        for variant in variants:
            for method in METHODS:
                file = prepared.with_method(method).build(variant)
                found = evaluation.answers(file)
                sqnr_db, kl = output_error(evaluation.wanted, found)
                paired = Paired.from_predictions(evaluation.wanted, found)
                row = CandidateResult.of(file).compared(paired, labelled=evaluation.labelled)
                label = f"{variant.label}, {method}"
                tried.append(file)
                rows.append(replace(row, label=label, method=method, sqnr_db=sqnr_db, kl=kl))
                advance(1, label)
    smallest = min(row.kl or 0.0 for row in rows)
    best = [min((i for i, t in enumerate(tried) if t.variant == v), key=lambda i: rows[i].kl or 0.0) for v in variants]
    near = [i for i in best if (rows[i].kl or 0.0) <= ALIKE * smallest]
    if len(near) > 1:
        plans: list[tuple[tuple[str, ...], Candidate]] = [((), tried[i]) for i in near]
        for index, row in zip(near, cost.filled(prepared, [rows[i] for i in near], plans), strict=True):
            rows[index] = row
    winner = min(near, key=lambda i: (cost.of(rows[i]), rows[i].kl or 0.0))
    rows[winner] = row = replace(rows[winner], chosen=True)
    others = ", ".join(f"{r.label} {1000 * (r.kl or 0.0):.2f}" for r in rows if not r.chosen)
    reason = (
        f"{row.label} has the answers closest to float on {number_of(len(evaluation.faces), 'face')}: "
        f"KL {1000 * (row.kl or 0.0):.2f}·10⁻³ nats ({others})."
    )
    return Found(prepared.with_method(str(row.method)), tried[winner], tuple(rows), reason)


@dataclass(frozen=True)
class MeasuredPlan:
    """Layers kept in float, the file with them, its results on the choosing half of `val`, and its cost."""

    kept: tuple[str, ...]
    candidate: Candidate
    result: CandidateResult
    cost: float

    @property
    def upper(self) -> float:
        """The upper end of the drop's interval, percentage points."""
        assert self.result.ci95_pp is not None  # plans are evaluated when they are made
        return self.result.ci95_pp[1]


def within_budget(
    evaluation: Evaluation, variants: Sequence[Variant], certifying: FaceSet, max_drop: float, cost: CostModel
) -> Found:
    """Find the cheapest INT8 file whose drop against float is certified to be at most ``max_drop`` points.

    Args:
        evaluation: evaluation on the faces of `val` that choose.
        variants: INT8 variants of one runtime; the fastest of them is used.
        certifying: other faces of `val`; :func:`check_power` found them enough before calibration.
        max_drop: percentage points of top-1, compared with the upper end of the drop's 95 % interval.
        cost: cost model of plans.
    """
    variant = cost.fastest(evaluation.prepared, variants)
    _, costs = layer_costs(evaluation, variant)
    order = _order(costs, cost.of_layers(evaluation.prepared, variant, [one.layer for one in costs]))
    plans = _plans(evaluation, variant, order, max_drop, cost)
    shipped, paired = _certified(plans, evaluation.on(certifying), max_drop)
    rows = tuple(replace(p.result, chosen=p is shipped) for p in front(plans, shipped))
    return Found(evaluation.prepared, shipped.candidate, rows, _verdict(shipped, len(order), paired, max_drop))


def _order(gains: Sequence[LayerCost], costs: Mapping[str, float]) -> list[str]:
    """Layers by gain over cost, the best to bring back first."""
    return [gain.layer for gain in sorted(gains, key=lambda gain: -gain.kl / costs[gain.layer])]


def _plans(
    evaluation: Evaluation, variant: Variant, order: Sequence[str], max_drop: float, cost: CostModel
) -> list[MeasuredPlan]:
    """Plans that keep the first layers of ``order`` in float, none first, all last; evaluated and with their cost.

    The last is the float network's own file.
    """
    prepared, float_file = evaluation.prepared, evaluation.float_file
    plans: list[tuple[tuple[str, ...], Candidate]] = []
    rows: list[CandidateResult] = []
    steps = sizes(len(order))
    with progress("plans", len(steps)) as advance:
        for size in steps:
            kept = tuple(order[:size])
            file = prepared.build(variant, kept)
            if size == len(order):  # nothing is INT8 in it, so nothing need be equalised for that
                file = replace(float_file, precision=replace(file.precision, got=float_file.precision.got))
            paired = evaluation.paired(file)
            label = f"{variant.label}, {size} of {len(order)} layers in float"
            row = CandidateResult.of(file).compared(paired)
            rows.append(replace(row, label=label, within=paired.ci95_pp[1] <= max_drop))
            plans.append((kept, file))
            advance(1)
    rows = cost.filled(prepared, rows, plans)
    return [MeasuredPlan(kept, file, row, cost.of(row)) for (kept, file), row in zip(plans, rows, strict=True)]


def sizes(layers: int) -> list[int]:
    """Numbers of layers to keep in float, in turn: 0 … ``layers``."""
    found = [0]
    while found[-1] < layers:
        step = 1 if layers <= FEW_LAYERS else max(1, found[-1] // 2)
        found.append(min(layers, found[-1] + step))
    return found


def cheapest(plans: Sequence[MeasuredPlan], allowed: Collection[int]) -> int:
    """Index in ``allowed`` of the plan with the minimum cost over all-INT8 (the first one of ``plans``).

    Plans that timing does not tell apart from it cost nothing; of those, the one with the fewest layers in float.
    """
    base = plans[0].cost * (1 + NOISE)
    return min(allowed, key=lambda index: (max(0.0, plans[index].cost - base), index))


def front(plans: Sequence[MeasuredPlan], shipped: MeasuredPlan) -> list[MeasuredPlan]:
    """The Pareto front in cost and in the upper end of the drop, cheapest first; ``shipped`` is shown in any case."""

    def beaten(plan: MeasuredPlan) -> bool:
        return any(o.cost <= plan.cost and o.upper <= plan.upper and o is not plan for o in plans)

    return sorted((p for p in plans if p is shipped or not beaten(p)), key=lambda plan: plan.cost)


def _certified(plans: Sequence[MeasuredPlan], evaluation: Evaluation, max_drop: float) -> tuple[MeasuredPlan, Paired]:
    """The cheapest plan whose drop is certified on the evaluation's faces, and that drop."""
    last = len(plans) - 1  # all in float: the float file's own answers, which check_power found enough faces for
    passed = {last: evaluation.paired(plans[last].candidate)}
    for index in likeliest_first(plans[:last]):
        paired = evaluation.paired(plans[index].candidate)
        if paired.ci95_pp[1] > max_drop:
            announce(
                f"{plans[index].result.label}: {_drop(paired)} on the {len(evaluation.faces):,} certifying faces, "
                f"{max_drop:g} allowed"
            )
            break
        passed[index] = paired
    best = cheapest(plans, passed)
    return plans[best], passed[best]


def likeliest_first(plans: Sequence[MeasuredPlan]) -> list[int]:
    """The plans that met the budget on the choosing half, in the order in which they are tested on the other."""
    return sorted((i for i, plan in enumerate(plans) if plan.result.within), key=lambda i: plans[i].upper)


def _drop(paired: Paired) -> str:
    low, high = paired.ci95_pp
    return f"drop {paired.drop_pp:+.2f} [{low:+.2f}, {high:+.2f}] points"


def _verdict(plan: MeasuredPlan, layers: int, paired: Paired, max_drop: float) -> str:
    """The layers kept in float and the certified drop, in sentences."""
    certified = f"certified on {paired.n:,} faces that chose nothing: {_drop(paired)}, {max_drop:g} allowed."
    if not plan.kept:
        return f"No layer had to be kept out of INT8; {certified}"
    if len(plan.kept) == layers:
        return (
            f"No plan with a layer in INT8 meets --max-drop {max_drop:g}: all {layers} layers are back in float, and "
            f"nothing in the file is INT8; {certified}"
        )
    return f"Kept out of INT8: {', '.join(plan.kept)} ({len(plan.kept)} of {layers}); {certified}"

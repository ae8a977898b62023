"""`--int8 --max-drop`: keep the cheapest set of layers out of INT8 with which the accuracy drop is known to be small.

Layers come back to float in the order of what that gains (KL divergence of the layer in INT8 alone) for what it costs
(:mod:`edgefer.optimize.price`: time of a call, or multiply-accumulates). Plans along that way are judged on one half of
`val`. The other half certifies: plans that met the budget are tested there, those that met it by most first, and the
first that fails ends it (a sequence fixed beforehand, so that testing several plans does not flatter the one that is
shipped; Maurer, Hothorn and Lehmacher 1995).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgefer.data import FaceSet
from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import Z95, Predictions, design_effect, numbered
from edgefer.measure.paired import Paired, tango_interval
from edgefer.optimize.choose import Figures
from edgefer.optimize.job import Job, figures_of
from edgefer.optimize.price import NOISE, Price
from edgefer.optimize.sensitivity import LayerCost, answers, layer_costs
from edgefer.optimize.variants import Built, Variant
from edgefer.progress import announce, progress

FEW_LAYERS = 12
"""With at most so many layers, every number of layers kept in float is tried; with more, numbers that grow by half."""


@dataclass(frozen=True)
class Plan:
    """Layers kept in float, the file that this gives, what was measured of it on the choosing half, and its cost."""

    kept: tuple[str, ...]
    built: Built
    figures: Figures
    cost: float

    @property
    def upper(self) -> float:
        """The upper end of the drop's interval, percentage points."""
        assert self.figures.ci95_pp is not None  # plans are judged when they are made
        return self.figures.ci95_pp[1]


@dataclass(frozen=True)
class WithinBudget:
    """The file of the plan that was certified, the Pareto front that was seen, and one sentence that says so."""

    built: Built
    rows: tuple[Figures, ...]
    reason: str


def within_budget(
    job: Job,
    variants: Sequence[Variant],
    choosing: FaceSet,
    certifying: FaceSet,
    max_drop: float,
    price: Price,
    threads: int = 1,
) -> WithinBudget:
    """Find the cheapest INT8 file of ``job`` whose drop against float is certified to be at most ``max_drop`` points.

    Args:
        job: calibrated.
        variants: INT8 ones of one runtime; the fastest of them is gone on with.
        choosing: faces of `val`.
        certifying: others; :func:`check_power` has found them enough.
        max_drop: percentage points of top-1, compared with the upper end of the drop's 95 % interval.
        price: what plans cost.
        threads: of the engines that are judged.
    """
    variant = price.fastest(job, variants)
    reference = job.build(Variant(variant.runtime, "fp32"))
    wanted = answers(reference, job.contract, choosing, threads)
    _, costs = layer_costs(job, variant, choosing, wanted, threads)
    order = _order(costs, price.of_layers(job, variant, [cost.layer for cost in costs]))
    plans = _plans(job, variant, order, choosing, reference, wanted, max_drop, price, threads)
    shipped, paired = _certified(plans, job, reference, certifying, max_drop, threads)
    rows = tuple(replace(p.figures, chosen=p is shipped) for p in front(plans, shipped))
    return WithinBudget(shipped.built, rows, _verdict(shipped, len(order), paired, max_drop))


def halves(faces: FaceSet) -> tuple[FaceSet, FaceSet]:
    """Two halves, by a seeded draw: one to choose on, one to certify with; near-duplicates lie in one of them.

    Each class is shared out as evenly as its near-duplicates allow.
    """
    _, first, group, sizes = np.unique(faces.group_keys(), return_index=True, return_inverse=True, return_counts=True)
    random = np.random.default_rng(0)
    counts = np.zeros((2, len(faces.classes) + 1), np.int64)  # a half and class, and in all
    half = np.zeros(len(first), np.int64)
    for index in sorted(random.permutation(len(first)), key=lambda index: -sizes[index]):  # the few large ones first
        label = int(faces.labels[first[index]])
        side = half[index] = int((counts[1, label], counts[1, -1]) < (counts[0, label], counts[0, -1]))
        counts[side, [label, -1]] += sizes[index]
    return faces.subset(np.flatnonzero(half[group] == 0)), faces.subset(np.flatnonzero(half[group] == 1))


def check_power(groups: NDArray[np.generic], max_drop: float) -> None:
    """Refuse a budget that not even a network with the very same answers could be shown to meet.

    Args:
        groups: of near-duplicates, one per certifying face.
        max_drop: the budget, percentage points.

    Raises:
        EdgeferError: says how many faces of `val` it would take.
    """
    count = len(groups)
    effect = design_effect(np.zeros(count, np.int64), numbered(groups))
    least = 100 * tango_interval(0, 0, max(1, count), effect=effect)[1]
    if least <= max_drop:
        return
    share = max_drop / 100
    needed = f"{2 * math.ceil(effect * Z95**2 * (1 - share) / share):,}" if share > 0 else "infinitely many"
    raise EdgeferError(
        f"no plan can be shown to meet --max-drop {max_drop:g}: on the {count:,} faces of `val` that certify"
        f"{'' if effect == 1 else f' ({len(np.unique(groups)):,} distinct)'}, even "
        f"equal answers leave the drop uncertain by {least:.2f} points",
        hint=f"--max-drop {math.ceil(100 * least) / 100:g}, or a `val` part of {needed} faces",
    )


def front(plans: Sequence[Plan], shipped: Plan) -> list[Plan]:
    """The Pareto front in cost and in the upper end of the drop, cheapest first; ``shipped`` is shown in any case."""

    def beaten(plan: Plan) -> bool:
        return any(o.cost <= plan.cost and o.upper <= plan.upper and o is not plan for o in plans)

    return sorted((p for p in plans if p is shipped or not beaten(p)), key=lambda plan: plan.cost)


def _order(costs: Sequence[LayerCost], prices: Mapping[str, float]) -> list[str]:
    """Layers by gain over cost, the best to bring back first."""
    return [cost.layer for cost in sorted(costs, key=lambda cost: -cost.kl / prices[cost.layer])]


def _plans(
    job: Job,
    variant: Variant,
    order: Sequence[str],
    faces: FaceSet,
    reference: Built,
    wanted: Predictions,
    max_drop: float,
    price: Price,
    threads: int,
) -> list[Plan]:
    """Plans that keep the first layers of ``order`` in float, none first, all last; judged and with their cost.

    The last is the file of ``reference``, whose answers are ``wanted``.
    """
    found: list[tuple[tuple[str, ...], Built, Figures]] = []
    steps = sizes(len(order))
    with progress("plans", len(steps)) as advance:
        for size in steps:
            kept = tuple(order[:size])
            built = job.build(variant, kept)
            if size == len(order):  # nothing is INT8 in it, so nothing need be equalised for that
                built = replace(reference, precision=replace(built.precision, got=reference.precision.got))
            paired = Paired.from_predictions(wanted, answers(built, job.contract, faces, threads))
            label = f"{variant.label}, {size} of {len(order)} layers in float"
            row = replace(
                figures_of(built),
                label=label,
                drop_pp=paired.drop_pp,
                ci95_pp=paired.ci95_pp,
                agreement=paired.agreement,
                within=paired.ci95_pp[1] <= max_drop,
            )
            found.append((kept, built, row))
            advance(1)
    rows = price.filled(job, [row for _, _, row in found], [(kept, built) for kept, built, _ in found])
    return [Plan(kept, built, row, price.of(row)) for (kept, built, _), row in zip(found, rows, strict=True)]


def sizes(layers: int) -> list[int]:
    """How many layers to keep in float, in turn: 0 … ``layers``."""
    found = [0]
    while found[-1] < layers:
        step = 1 if layers <= FEW_LAYERS else max(1, found[-1] // 2)
        found.append(min(layers, found[-1] + step))
    return found


def cheapest(plans: Sequence[Plan], allowed: Collection[int]) -> int:
    """Of the ``allowed`` indices, the plan that costs least over all-INT8 (the first one of ``plans``).

    Plans that timing does not tell apart from it cost nothing; of those, the one with most layers in INT8.
    """
    base = plans[0].cost * (1 + NOISE)
    return min(allowed, key=lambda index: (max(0.0, plans[index].cost - base), index))


def _certified(
    plans: Sequence[Plan], job: Job, reference: Built, faces: FaceSet, max_drop: float, threads: int
) -> tuple[Plan, Paired]:
    """The cheapest plan whose drop is certified on ``faces``, and that drop."""
    wanted = answers(reference, job.contract, faces, threads)

    def judged(index: int) -> Paired:
        return Paired.from_predictions(wanted, answers(plans[index].built, job.contract, faces, threads))

    last = len(plans) - 1  # all in float: the reference's own answers, which check_power found enough faces for
    passed = {last: judged(last)}
    for index in likeliest_first(plans[:last]):
        paired = judged(index)
        if paired.ci95_pp[1] > max_drop:
            announce(
                f"{plans[index].figures.label}: {_drop(paired)} on the {len(faces):,} certifying faces, "
                f"{max_drop:g} allowed"
            )
            break
        passed[index] = paired
    best = cheapest(plans, passed)
    return plans[best], passed[best]


def likeliest_first(plans: Sequence[Plan]) -> list[int]:
    """The plans that met the budget on the choosing half, in the order in which they are tested on the other."""
    return sorted((i for i, plan in enumerate(plans) if plan.figures.within), key=lambda i: plans[i].upper)


def _drop(paired: Paired) -> str:
    low, high = paired.ci95_pp
    return f"drop {paired.drop_pp:+.2f} [{low:+.2f}, {high:+.2f}] points"


def _verdict(plan: Plan, layers: int, paired: Paired, max_drop: float) -> str:
    """What was kept, and what is certified."""
    certified = f"certified on {paired.n:,} faces that chose nothing: {_drop(paired)}, {max_drop:g} allowed."
    if not plan.kept:
        return f"No layer had to be kept out of INT8; {certified}"
    if len(plan.kept) == layers:
        return (
            f"No plan with a layer in INT8 meets --max-drop {max_drop:g}: all {layers} layers are back in float, and "
            f"nothing in the file is INT8; {certified}"
        )
    return f"Kept out of INT8: {', '.join(plan.kept)} ({len(plan.kept)} of {layers}); {certified}"

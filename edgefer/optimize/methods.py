"""`--method auto`: every way of making ranges, in every placement of Q/DQ that suits the runtime, judged on `val`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgefer.data import FaceSet
from edgefer.measure.paired import Paired
from edgefer.optimize.choose import Figures
from edgefer.optimize.job import Job, figures_of
from edgefer.optimize.output_error import OutputError
from edgefer.optimize.price import Price
from edgefer.optimize.sensitivity import answers
from edgefer.optimize.variants import Built, Variant
from edgefer.progress import progress
from edgefer.quantize.ranges import METHODS

ALIKE = 1.25
"""Placements whose errors differ by less than this factor are told apart by their cost."""


@dataclass(frozen=True)
class ChosenMethod:
    """The job with the method that was chosen, the variant and its file, a row a candidate, and one sentence why."""

    job: Job
    variant: Variant
    built: Built
    rows: tuple[Figures, ...]
    reason: str


def choose_method(
    job: Job, variants: Sequence[Variant], faces: FaceSet, price: Price, threads: int = 1
) -> ChosenMethod:
    """Build every method in every variant; take the one whose answers are nearest to float's on ``faces``.

    The error is the mean KL divergence of the probabilities: unlike the logits' signal-to-noise ratio it is not ruled
    by the few faces with the largest logits, whose answers no rounding changes. Where several variants come within
    :data:`ALIKE` of the least error, the cheapest of them is taken.
    """
    wanted = answers(job.build(Variant(variants[0].runtime, "fp32")), job.contract, faces, threads)
    tried: list[tuple[Variant, Built, Figures]] = []
    with progress("methods", len(variants) * len(METHODS)) as advance:
        for variant in variants:
            for method in METHODS:
                built = replace(job, method=method).build(variant)
                found = answers(built, job.contract, faces, threads)
                paired, error = Paired.from_predictions(wanted, found), OutputError.of(wanted, found)
                row = replace(
                    figures_of(built),
                    label=f"{variant.label}, {method}",
                    drop_pp=paired.drop_pp,
                    ci95_pp=paired.ci95_pp,
                    agreement=paired.agreement,
                    method=method,
                    sqnr_db=error.sqnr_db,
                    kl=error.kl,
                )
                tried.append((variant, built, row))
                advance(1, row.label)
    rows = [row for _, _, row in tried]
    least = min(row.kl or 0.0 for row in rows)
    best = [min((i for i, t in enumerate(tried) if t[0] == v), key=lambda i: rows[i].kl or 0.0) for v in variants]
    near = [i for i in best if (rows[i].kl or 0.0) <= ALIKE * least]
    if len(near) > 1:
        plans: list[tuple[tuple[str, ...], Built]] = [((), tried[i][1]) for i in near]
        for index, row in zip(near, price.filled(job, [rows[i] for i in near], plans), strict=True):
            rows[index] = row
    winner = min(near, key=lambda i: (price.of(rows[i]), rows[i].kl or 0.0))
    rows[winner] = replace(rows[winner], chosen=True)
    variant, built, row = tried[winner]
    others = ", ".join(f"{r.label} {1000 * (r.kl or 0.0):.2f}" for r in rows if not r.chosen)
    reason = (
        f"{row.label} answers most like float on {len(faces):,} faces: KL {1000 * (row.kl or 0.0):.2f}·10⁻³ nats "
        f"({others})."
    )
    return ChosenMethod(job.with_method(str(row.method)), variant, built, tuple(rows), reason)

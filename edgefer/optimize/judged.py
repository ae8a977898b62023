"""INT8 whose method or whose layers are chosen by what faces of `val` answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgefer.data import FaceSet, open_dataset
from edgefer.optimize.budget import check_power, halves, within_budget
from edgefer.optimize.choose import Figures
from edgefer.optimize.job import Job
from edgefer.optimize.methods import choose_method
from edgefer.optimize.price import Price
from edgefer.optimize.sensitivity import judging_faces, refuse_one_split
from edgefer.optimize.settings import AUTO, Quantisation
from edgefer.optimize.variants import Built, Variant


@dataclass(frozen=True)
class Judged:
    """What was chosen, and why.

    Attributes:
        job: with the method.
        built: the file.
        rows: every candidate.
        reason: in sentences.
    """

    job: Job
    built: Built
    rows: tuple[Figures, ...]
    reason: str


def opened(settings: Quantisation) -> Quantisation:
    """``settings`` with the data set open, refused where it names one split and another one is to evaluate."""
    assert settings.data is not None  # check looked
    faces = open_dataset(settings.data) if isinstance(settings.data, str) else settings.data
    refuse_one_split(faces)
    return replace(settings, data=faces)


def judge(
    job: Job,
    variants: Sequence[Variant],
    settings: Quantisation,
    price: Price,
    threads: int = 1,
) -> Judged:
    """Choose what does best on the `val` part of the data.

    Args:
        job: calibrated.
        variants: the placements that may be chosen from.
        settings: with ``data`` that name no split. The method ``"auto"``: choose among all methods
            (:mod:`edgefer.optimize.methods`), not the job's only. ``max_drop``: certify that the drop is within it
            (:mod:`edgefer.optimize.budget`).
        price: what plans, and placements that err alike, cost.
        threads: of the engines.

    Raises:
        EdgeferError: the data name one split; too few faces to certify ``max_drop``.
    """
    assert isinstance(settings.data, FaceSet)  # opened
    choosing = judging_faces(settings.data, job.contract)
    certifying, max_drop = None, settings.max_drop
    if max_drop is not None:
        choosing, certifying = halves(choosing)
        check_power(certifying.group_keys(), max_drop)
    rows: tuple[Figures, ...] = ()
    reasons = []
    if settings.method == AUTO:
        chosen = choose_method(job, variants, choosing, price, threads)
        job, built, rows, variants = chosen.job, chosen.built, chosen.rows, (chosen.variant,)
        reasons.append(chosen.reason)
    if certifying is not None and max_drop is not None:
        found = within_budget(job, variants, choosing, certifying, max_drop, price, threads)
        built = found.built
        rows = (*(replace(row, chosen=False) for row in rows), *found.rows)
        reasons.append(found.reason)
    return Judged(job, built, rows, "\n".join(reasons))

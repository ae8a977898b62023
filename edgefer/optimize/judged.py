"""INT8 whose method or whose layers are chosen by what faces of `val` answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgefer.data import FaceSet, open_dataset
from edgefer.errors import EdgeferError
from edgefer.optimize.budget import check_power, halves, within_budget
from edgefer.optimize.choose import Figures
from edgefer.optimize.job import Job
from edgefer.optimize.methods import choose_method
from edgefer.optimize.price import Price
from edgefer.optimize.sensitivity import judging_faces, refuse_one_split
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


def faces_to_judge(calib: str | FaceSet | None, max_drop: float | None) -> FaceSet:
    """The data set behind ``calib``, before anything is made of it.

    Raises:
        EdgeferError: there is none, or it names one split.
    """
    if calib is None:
        raise EdgeferError(
            f"{'--max-drop' if max_drop is not None else '--method auto'} needs faces to judge by, and none were given",
            hint="--calib DATA",
        )
    faces = open_dataset(calib) if isinstance(calib, str) else calib
    refuse_one_split(faces)
    return faces


def judge(
    job: Job,
    variants: Sequence[Variant],
    faces: FaceSet,
    *,
    any_method: bool,
    max_drop: float | None,
    price: Price,
    threads: int = 1,
) -> Judged:
    """Choose what does best on the `val` part of ``faces``.

    Args:
        job: calibrated.
        variants: the placements that may be chosen from.
        faces: a data set with a train split.
        any_method: choose among all methods (:mod:`edgefer.optimize.methods`), not the job's only.
        max_drop: certify that the drop is at most so many points (:mod:`edgefer.optimize.budget`); None: do not.
        price: what plans, and placements that err alike, cost.
        threads: of the engines.

    Raises:
        EdgeferError: the data name one split; too few faces to certify ``max_drop``.
    """
    choosing = judging_faces(faces, job.contract)
    certifying = None
    if max_drop is not None:
        choosing, certifying = halves(choosing)
        check_power(certifying.group_keys(), max_drop)
    rows: tuple[Figures, ...] = ()
    reasons = []
    if any_method:
        chosen = choose_method(job, variants, choosing, price, threads)
        job, built, rows, variants = chosen.job, chosen.built, chosen.rows, (chosen.variant,)
        reasons.append(chosen.reason)
    if certifying is not None and max_drop is not None:
        found = within_budget(job, variants, choosing, certifying, max_drop, price, threads)
        built = found.built
        rows = (*(replace(row, chosen=False) for row in rows), *found.rows)
        reasons.append(found.reason)
    return Judged(job, built, rows, "\n".join(reasons))

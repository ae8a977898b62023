"""INT8 engines whose method or whose layers are chosen by what faces of `val` answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edgefer.atomic import write_bytes
from edgefer.data import FaceSet, open_dataset
from edgefer.errors import EdgeferError
from edgefer.manifest import write_engine
from edgefer.optimize.budget import check_power, halves, within_budget
from edgefer.optimize.build import Job
from edgefer.optimize.choose import Figures
from edgefer.optimize.methods import choose_method
from edgefer.optimize.result import BuildResult
from edgefer.optimize.sensitivity import judging_faces
from edgefer.optimize.variants import Variant


def build_judged(
    prepare: Callable[[FaceSet], Job],
    destination: Path,
    variants: Sequence[Variant],
    calib: str | FaceSet | None,
    *,
    any_method: bool,
    max_drop: float | None,
    onnx_only: bool,
    threads: int,
    batch: int,
) -> BuildResult:
    """Build the INT8 engine of ``variants`` that does best on the `val` part of ``calib``.

    Args:
        prepare: from the data to the calibrated job.
        destination: the file to write.
        variants: the placements that may be chosen from.
        calib: a data set with a train split.
        any_method: choose among all methods (:mod:`edgefer.optimize.methods`), not the job's only.
        max_drop: certify that the drop is at most so many points (:mod:`edgefer.optimize.budget`); None: do not.
        onnx_only: write the quantised ONNX and no manifest.
        threads: what is timed.
        batch: faces a timed call.

    Raises:
        EdgeferError: no data, or data that name one split; too few faces to certify ``max_drop``.
    """
    if calib is None:
        raise EdgeferError(
            f"{'--max-drop' if max_drop is not None else '--method auto'} needs faces to judge by, and none were given",
            hint="--calib DATA",
        )
    faces = open_dataset(calib) if isinstance(calib, str) else calib
    job = prepare(faces)
    choosing = judging_faces(faces, job.contract)
    certifying = None
    if max_drop is not None:
        choosing, certifying = halves(choosing)
        check_power(len(certifying), max_drop)
    rows: Sequence[Figures] = ()
    reasons = []
    if any_method:
        chosen = choose_method(job, variants, choosing, threads, batch)
        job, built, rows, variants = chosen.job, chosen.built, chosen.rows, (chosen.variant,)
        reasons.append(chosen.reason)
    if certifying is not None and max_drop is not None:
        found = within_budget(job, variants, choosing, certifying, max_drop, threads, batch)
        built, reason = found.built, found.reason
        rows = [*(row for row in rows if not row.chosen), *found.rows]
        reasons.append(reason)
    if onnx_only:
        write_bytes(destination, built.engine)
        return BuildResult(destination, None, "\n".join(reasons))
    manifest = write_engine(destination, built.engine, job.manifest(built, rows))
    return BuildResult(destination, manifest, "\n".join(reasons))

"""From an exported model to an engine with its manifest: the place that joins quantisation, engines and measurement."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgefer.atomic import write_bytes
from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.errors import EdgeferError
from edgefer.manifest import write_engine
from edgefer.optimize.choose import Figures, choose, timed, verdict
from edgefer.optimize.faithful import only_faithful
from edgefer.optimize.job import Job, figures_of, prepare_job
from edgefer.optimize.judged import faces_to_judge, judge
from edgefer.optimize.methods import AUTO
from edgefer.optimize.price import TimePrice
from edgefer.optimize.result import BuildResult
from edgefer.optimize.tensorrt import TARGETS, build_tensorrt
from edgefer.optimize.tensorrt_file import Faces
from edgefer.optimize.variants import Built, variants_of


def build_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str,
    calib: str | FaceSet | None = None,
    calib_faces: int | None = None,
    method: str | None = None,
    target: str = "cpu",
    runtime: str = "onnxruntime",
    onnx_only: bool = False,
    threads: int = 1,
    batch: int = 1,
    seed: int | None = None,
    no_rewrite: Collection[str] = (),
    version: str | None = None,
    builder: Mapping[str, Any] | None = None,
    per_class: int | None = None,
    refine: Collection[str] | None = None,
    table: str | os.PathLike[str] | None = None,
    max_drop: float | None = None,
) -> BuildResult:
    """Build an engine from an exported ``model`` and write it with its manifest.

    Args:
        model: what :func:`edgefer.export` wrote.
        output: the engine: an ``.onnx`` file for a CPU, an ``.engine`` file of TensorRT.
        precision: ``"fp32"``, ``"int8"``; for a CPU also ``"bf16"`` or ``"int8+bf16"`` (the rest in bfloat16), for
            TensorRT ``"fp16"`` or ``"int8+fp16"``.
        calib: for INT8, a dataset (path or FaceSet); its ``calib`` part is used unless the path names a split.
        calib_faces: how many of them; with ``method`` and ``seed``, overrides the architecture's recipe.
        method: how histograms become ranges; ``"auto"`` tries all, with ``calib``'s `val` part.
        seed: of the draw.
        target: ``"cpu"``, ``"tensorrt"`` or ``"tensorrt-rtx"``.
        runtime: of a CPU: ``"onnxruntime"`` or ``"openvino"``.
        onnx_only: write the ONNX file that the target takes, and no manifest.
        threads: with ``batch``, what variants are timed with, where a flavour has to be chosen.
        batch: faces a timed call.
        no_rewrite: passes of :data:`edgefer.graph.rewriting.PASSES` to leave out.
        version: of TensorRT, or a JetPack: what ``onnx_only`` writes for; else the one that is installed.
        builder: options of TensorRT's builder: :data:`edgefer.engines.tensorrt.options.NAMES`.
        per_class: so many faces of each class set the ranges, or as many as there are.
        refine: steps of :data:`edgefer.optimize.refiner.ALL_STEPS`; the default ones if None.
        table: ranges without faces, as `edgefer calibrate` wrote them; those that ship where there is no ``calib``.
        max_drop: for INT8: see :func:`edgefer.optimize.budget.build_within`.

    Raises:
        EdgeferError: bad input; a precision that the runtime or this CPU does not have; a runtime that computes the
            INT8 file wrongly.
    """
    of_a_cpu = {"runtime": runtime != "onnxruntime", "threads": threads != 1, "batch": batch != 1}
    of_tensorrt = {"version": version is not None, "builder": bool(builder)}
    _refuse_misplaced(target, of_a_cpu if target in TARGETS else of_tensorrt if target == "cpu" else {})
    if os.path.realpath(model) == os.path.realpath(output):
        raise EdgeferError(f"{output} is the model itself, which would be lost", hint="choose another output path")
    check_budget(precision, max_drop)
    if target in TARGETS:
        faces = Faces(calib, calib_faces, method, seed, per_class, refine, table, max_drop)
        return build_tensorrt(
            *(model, output),
            precision=precision,
            target=target,
            faces=faces,
            builder=builder or {},
            version=version,
            onnx_only=onnx_only,
            no_rewrite=no_rewrite,
        )
    destination = checked_output(output, target)
    variants = variants_of(precision, runtime)
    any_method = method == AUTO and precision.startswith("int8")
    usual = None if any_method else method
    if any_method or max_drop is not None:
        calib = faces_to_judge(calib, max_drop)
    job = prepare_job(model, precision, calib, calib_faces, usual, seed, no_rewrite, per_class, refine, table)
    rows: Sequence[Figures] = ()
    if isinstance(calib, FaceSet) and (any_method or max_drop is not None):
        price = TimePrice(threads, batch)
        found = judge(job, variants, calib, any_method=any_method, max_drop=max_drop, price=price, threads=threads)
        job, winner, rows, reason = found.job, found.built, found.rows, found.reason
    else:
        built = [job.build(variant) for variant in variants]
        if precision.startswith("int8"):
            built = only_faithful(built, job.contract)
        winner, rows, reason = _fastest(job, built, threads, batch)
    if onnx_only:
        write_bytes(destination, winner.engine)
        return BuildResult(destination, None, reason, candidates=tuple(rows))
    manifest = write_engine(destination, winner.engine, job.manifest(winner, rows))
    return BuildResult(destination, manifest, reason, candidates=tuple(rows))


def _refuse_misplaced(target: str, given: Mapping[str, bool]) -> None:
    """An argument that would change nothing is an error: whoever gave it expects it to matter."""
    wrong = [name for name, set_ in given.items() if set_]
    if wrong:
        raise EdgeferError(f"{', '.join(wrong)} would change nothing for the target '{target}'", hint="leave out")


def check_budget(precision: str, max_drop: float | None) -> None:
    """Refuse ``max_drop`` that is no number of points, or for a precision that has no INT8."""
    if max_drop is None:
        return
    if not (math.isfinite(max_drop) and max_drop >= 0):
        raise EdgeferError(f"--max-drop is {max_drop:g}, and a drop is 0 points or more", hint="--max-drop 0.5")
    if not precision.startswith("int8"):
        raise EdgeferError(f"{precision.upper()} has no layers to keep out of INT8", hint="leave out max_drop")


def _fastest(job: Job, built: Sequence[Built], threads: int, batch: int) -> tuple[Built, Sequence[Figures], str]:
    """Of several placements the one that takes least time, with what was measured."""
    if len(built) == 1:
        return built[0], (), ""
    figures = choose(_timed(built, job.contract, threads, batch))
    return built[next(i for i, f in enumerate(figures) if f.chosen)], figures, verdict(figures)


def _timed(built: Sequence[Built], contract: Contract, threads: int, batch: int) -> list[Figures]:
    with ExitStack() as stack:
        engines = [stack.enter_context(b.open(contract, threads)) for b in built]
        return timed([figures_of(b) for b in built], engines, contract, batch, seed=0)


def checked_output(output: str | os.PathLike[str], target: str) -> Path:
    """The path to write, refused if the target or the suffix is not one that can be built."""
    if target != "cpu":
        raise EdgeferError(f"there is no target '{target}'", hint=f"one of: cpu, {', '.join(TARGETS)}")
    destination = Path(output)
    if destination.suffix != ".onnx":
        raise EdgeferError(
            f"an engine for a CPU is an ONNX file, and {destination} does not end in .onnx",
            hint=f"-o {destination.with_suffix('.onnx')}",
        )
    return destination

"""From an exported model to an engine with its manifest: the place that joins quantisation, engines and measurement."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path

from edgefer.atomic import write_bytes
from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.manifest import write_engine
from edgefer.optimize.choose import Figures, choose, timed, verdict
from edgefer.optimize.faithful import only_faithful
from edgefer.optimize.job import Job, figures_of, prepare_job
from edgefer.optimize.judged import judge, opened
from edgefer.optimize.price import TimePrice
from edgefer.optimize.result import BuildResult
from edgefer.optimize.settings import AUTO, BuildTarget, Quantisation
from edgefer.optimize.tensorrt import build_tensorrt
from edgefer.optimize.variants import Built, variants_of


def build_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str,
    quantisation: Quantisation | None = None,
    target: str | BuildTarget = "cpu",
    onnx_only: bool = False,
    no_rewrite: Collection[str] = (),
) -> BuildResult:
    """Build an engine from an exported ``model`` and write it with its manifest.

    Args:
        model: what :func:`edgefer.export` wrote.
        output: the engine: an ``.onnx`` file for a CPU, an ``.engine`` file of TensorRT.
        precision: ``"fp32"``, ``"int8"``; for a CPU also ``"bf16"`` or ``"int8+bf16"`` (the rest in bfloat16), for
            TensorRT ``"fp16"`` or ``"int8+fp16"``. ``"auto"``: the fastest engine for this CPU whose accuracy on
            ``val`` holds, see :func:`edgefer.optimize.auto.build_auto`.
        quantisation: for INT8: where ranges come from, and what is done with them.
        target: its name, or all that is known about it.
        onnx_only: write the ONNX file that the target takes, and no manifest.
        no_rewrite: passes of :data:`edgefer.graph.rewrite.PASSES` to leave out.

    Raises:
        EdgeferError: bad input; a precision that the runtime or this CPU does not have; a runtime that computes the
            INT8 file wrongly; see also :meth:`~edgefer.optimize.settings.Quantisation.check`.
    """
    settings, goal = quantisation or Quantisation(), BuildTarget.of(target)
    settings.check(goal, precision, onnx_only=onnx_only)
    if os.path.realpath(model) == os.path.realpath(output):
        raise EdgeferError(f"{output} is the model itself, which would be lost", hint="choose another output path")
    if goal.name != "cpu":
        return build_tensorrt(
            model, output, precision=precision, target=goal, faces=settings, onnx_only=onnx_only, no_rewrite=no_rewrite
        )
    destination = checked_output(output)
    if precision == AUTO:
        from edgefer.optimize.auto import build_auto

        return build_auto(model, destination, settings, goal, no_rewrite)
    variants = variants_of(precision, goal.runtime or "onnxruntime")
    if settings.evaluates:
        settings = opened(settings)
    job = prepare_job(model, precision, settings, no_rewrite)
    rows: Sequence[Figures] = ()
    price = TimePrice(goal.threads or 1, goal.batch or 1)
    if settings.evaluates:
        found = judge(job, variants, settings, price, threads=price.threads)
        job, winner, rows, reason = found.job, found.built, found.rows, found.reason
    else:
        built = [job.build(variant) for variant in variants]
        if precision.startswith("int8"):
            built = only_faithful(built, job.contract)
        winner, rows, reason = _fastest(job, built, price.threads, price.batch)
    if onnx_only:
        write_bytes(destination, winner.engine)
        return BuildResult(destination, None, reason, candidates=tuple(rows))
    manifest = write_engine(destination, winner.engine, job.manifest(winner, rows))
    return BuildResult(destination, manifest, reason, candidates=tuple(rows))


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


def checked_output(output: str | os.PathLike[str]) -> Path:
    """The path to write, refused if its suffix is none of a CPU's engines."""
    destination = Path(output)
    if destination.suffix != ".onnx":
        raise EdgeferError(
            f"an engine for a CPU is an ONNX file, and {destination} does not end in .onnx",
            hint=f"-o {destination.with_suffix('.onnx')}",
        )
    return destination

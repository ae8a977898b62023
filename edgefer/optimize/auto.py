"""`--auto`: build every candidate, time them side by side, judge them on `val`, ship the fastest that will do."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgefer.data import FaceSet, aligned
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.manifest import read_manifest, write_engine
from edgefer.optimize.choose import Figures, choose, judged, timed, verdict
from edgefer.optimize.job import Job, figures_of, prepare_job
from edgefer.optimize.judged import opened
from edgefer.optimize.methods import choose_method
from edgefer.optimize.price import Price, TimePrice
from edgefer.optimize.result import BuildResult
from edgefer.optimize.settings import AUTO, BuildTarget, Quantisation
from edgefer.optimize.variants import RUNTIMES, Built, Variant, variants_of
from edgefer.progress import announce, progress

MAX_DROP_PP = 0.5
REFERENCE = Variant("onnxruntime", "fp32")


def build_auto(
    model: str | os.PathLike[str],
    destination: Path,
    settings: Quantisation,
    target: BuildTarget,
    no_rewrite: Collection[str],
) -> BuildResult:
    """Build the fastest engine for this CPU whose accuracy on ``val`` drops by at most ``max_drop`` points.

    Candidates are each runtime that is installed, in FP32, in bfloat16 where the CPU has it, and in INT8 in every
    scheme that suits the runtime; with the method ``"auto"`` each scheme gets the one that errs least on ``val``. All
    are kept in ``<output stem>.candidates/``, for :func:`retune`.

    Raises:
        EdgeferError: bad input; or the data name a single split, so that there is no ``val`` beside ``calib``.
    """
    settings = opened(settings)
    threads, batch = target.threads or 1, target.batch or 1
    job = prepare_job(model, "int8", settings, no_rewrite)
    assert isinstance(settings.data, FaceSet)  # opened
    judges = aligned(settings.data.split("val"), job.contract.labels)
    choosing = judges if settings.method == AUTO else None
    jobs, built, others = _built(job, choosing, TimePrice(threads, batch), threads)
    max_drop = MAX_DROP_PP if settings.max_drop is None else settings.max_drop
    figures = _measured(jobs, built, judges, max_drop, threads, batch)
    folder = candidates_folder(destination)
    _write_candidates(folder, jobs, built, figures)
    index = next(i for i, f in enumerate(figures) if f.chosen)
    rows = (*figures, *others)
    manifest = write_engine(destination, built[index].engine, jobs[index].manifest(built[index], rows))
    return BuildResult(destination, manifest, verdict(figures), candidates=rows)


def _built(
    job: Job, judges: FaceSet | None, price: Price, threads: int
) -> tuple[list[Job], list[Built], list[Figures]]:
    """A file for every candidate, the job that made it, and what was measured of methods that were not taken.

    With ``judges`` each INT8 variant gets the method whose answers on them err least.
    """
    variants = candidates()
    jobs, built, others = [], [], []
    with progress("building", len(variants)) as advance:
        for variant in variants:
            made = job
            if judges is not None and variant.scheme is not None:
                found = choose_method(job, (variant,), judges, price, threads)
                made = found.job
                others += [replace(row, within=True) for row in found.rows if not row.chosen]
            jobs.append(made)
            built.append(made.build(variant))
            advance(1, variant.label)
    return jobs, built, others


def retune(engine: str | os.PathLike[str], *, threads: int = 1, batch: int = 1) -> BuildResult:
    """Time the candidates of an ``--auto`` engine again, here, and put the fastest in its place.

    Accuracies are those of the machine that built them; a candidate that does not run here, or whose golden vectors
    differ here, is left out and announced.

    Raises:
        EdgeferError: the engine was not built by ``--auto``, or its candidates did not travel with it.
    """
    path = Path(engine)
    manifest = read_manifest(path)
    if not manifest.candidates:
        raise EdgeferError(
            f"{path} was not chosen among candidates", hint="build it with `edgefer build-engine --auto`"
        )
    before = [Figures.from_dict(c) for c in manifest.candidates]
    others = [row for row in before if row.kl is not None]  # methods that were not taken: they have no file
    rows = [replace(row, p50_ms=None, chosen=False) for row in before if row.kl is None]
    folder = candidates_folder(path)
    if not folder.is_dir():
        raise EdgeferError(
            f"the candidates of {path} are not here: there is no folder {folder}", hint="copy it as well"
        )
    with ExitStack() as stack:
        opened: list[tuple[int, Classifier]] = []
        for index, row in enumerate(rows):
            try:
                opened.append((index, stack.enter_context(load_engine(folder / _file_name(row), threads))))
            except EdgeferError as fault:
                announce(f"left out: {row.label}: {fault.message}")
        measured = timed([rows[i] for i, _ in opened], [e for _, e in opened], manifest.contract, batch, seed=0)
    for (index, _), row in zip(opened, measured, strict=True):
        rows[index] = row
    rows = choose(rows)
    winner = folder / _file_name(next(row for row in rows if row.chosen))
    shown = (*rows, *others)
    chosen = replace(read_manifest(winner), candidates=tuple(row.to_dict() for row in shown))
    return BuildResult(path, write_engine(path, winner.read_bytes(), chosen), verdict(rows), candidates=shown)


def candidates() -> tuple[Variant, ...]:
    """Every variant that this machine can run, the reference first; a runtime that is not installed is announced."""
    found: list[Variant] = []
    for runtime in RUNTIMES:
        if importlib.util.find_spec(runtime) is None:
            announce(f"note: {runtime} is not installed and is left out: pip install 'edgefer[{runtime}]'")
            continue
        for precision in ("fp32", "bf16", "int8", "int8+bf16"):
            try:
                found.extend(variants_of(precision, runtime))
            except EdgeferError:  # this runtime or this CPU has no such kernels: not a candidate
                continue
    return tuple(found)


def candidates_folder(engine: Path) -> Path:
    """Where the candidates of ``engine`` lie."""
    return engine.with_suffix(".candidates")


def _measured(
    jobs: Sequence[Job], built: Sequence[Built], val: FaceSet, max_drop: float, threads: int, batch: int
) -> list[Figures]:
    contract = jobs[0].contract
    reference = next(i for i, b in enumerate(built) if b.variant == REFERENCE)
    rows = [
        figures_of(b) if b.variant.scheme is None else replace(figures_of(b), method=job.method)
        for job, b in zip(jobs, built, strict=True)
    ]
    with ExitStack() as stack:
        engines = [stack.enter_context(b.open(contract, threads)) for b in built]
        figures = judged(rows, engines, val, reference, max_drop)
        return choose(timed(figures, engines, contract, batch, seed=0))


def _write_candidates(folder: Path, jobs: Sequence[Job], built: Sequence[Built], figures: Sequence[Figures]) -> None:
    """Fill a new folder and put it in the place of an old one, so that the two never mix."""
    fresh = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for job, candidate, row in zip(jobs, built, figures, strict=True):
            write_engine(fresh / _file_name(row), candidate.engine, job.manifest(candidate))
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _file_name(row: Figures) -> str:
    return "-".join(part for part in (row.runtime, row.precision, row.scheme) if part) + ".onnx"

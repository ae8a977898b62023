"""From an exported model to an engine with its manifest: the place that joins quantisation, engines and measurement."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgefer.atomic import described_folder, partial_folder, write_bytes
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_engine
from edgefer.errors import EdgeferError
from edgefer.limits import check_whole
from edgefer.manifest import read_manifest, write_engine
from edgefer.measure.agreement import Agreement
from edgefer.optimize.candidates import (
    FLOAT,
    Candidate,
    CandidateResult,
    all_variants,
    choose,
    evaluated,
    only_faithful,
    time_files,
    timed,
    variants_of,
    verdict,
)
from edgefer.optimize.given_faces import Purpose
from edgefer.optimize.prepared import BuildResult, Evaluation, PreparedModel, prepare_model
from edgefer.optimize.search import TimeCost, choose_method, search
from edgefer.optimize.settings import AUTO, BuildTarget, Quantisation
from edgefer.progress import announce, number_of, progress
from edgefer.runtimes import CPU, REFERENCE

MAX_DROP_PP = 0.5
"""The drop that ``precision="auto"`` tolerates on `val` if nothing else is said, percentage points."""


def build_engine(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str,
    quantisation: Quantisation | None = None,
    target: str | BuildTarget = CPU,
    onnx_only: bool = False,
    no_rewrite: Collection[str] = (),
) -> BuildResult:
    """Build an engine from an exported ``model`` and write it with its manifest.

    Args:
        model: a file written by :func:`edgefer.export`.
        output: the engine: an ``.onnx`` file for a CPU, an ``.engine`` file of TensorRT.
        precision: ``"fp32"``, ``"int8"``; for a CPU also ``"bf16"`` or ``"int8+bf16"`` (the rest in bfloat16), for
            TensorRT ``"fp16"`` or ``"int8+fp16"``. ``"auto"``: the fastest engine for this CPU whose accuracy on
            ``val`` drops by at most ``max_drop`` points. Its candidates are each runtime that is installed, in FP32, in
            bfloat16 where the CPU has it, and in INT8 in every scheme that suits the runtime; with the method
            ``"auto"`` each scheme gets the method with the smallest error on ``val``. All are kept in
            ``<output stem>.candidates/``, for :func:`retune`.
        quantisation: settings of INT8: the source of the ranges and their use.
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
    if goal.name != CPU:
        from edgefer.optimize.tensorrt import build_tensorrt

        return build_tensorrt(
            *(model, output, settings),
            precision=precision,
            target=goal,
            onnx_only=onnx_only,
            no_rewrite=no_rewrite,
        )
    destination = Path(output)
    if destination.suffix != ".onnx":
        raise EdgeferError(
            f"an engine for a CPU is an ONNX file, and {destination} does not end in .onnx",
            hint=f"-o {destination.with_suffix('.onnx')}",
        )
    cost = TimeCost(goal.threads or 1, goal.batch or 1)
    if precision == AUTO:
        return _build_auto(model, destination, settings, cost, no_rewrite)
    variants = variants_of(precision, goal.runtime or REFERENCE.name)
    prepared = prepare_model(model, precision, settings, no_rewrite)
    rows: Sequence[CandidateResult] = ()
    if settings.evaluates:
        found = search(prepared, variants, settings, cost, cost.threads)
        prepared, winner, rows, reason = found.prepared, found.candidate, found.rows, found.reason
    else:
        candidates = [prepared.build(variant) for variant in variants]
        if precision.startswith("int8"):
            candidates = only_faithful(candidates, prepared.contract)
        winner, rows, reason = _fastest(prepared, candidates, cost)
    agreement = prepared.agreement(winner, cost.threads)
    if onnx_only:
        write_bytes(destination, winner.content)
        return BuildResult(destination, None, reason, candidates=tuple(rows), agreement=agreement)
    manifest = write_engine(destination, winner.content, prepared.manifest(winner, rows, agreement))
    return BuildResult(destination, manifest, reason, candidates=tuple(rows), agreement=agreement)


def _fastest(
    prepared: PreparedModel, candidates: Sequence[Candidate], cost: TimeCost
) -> tuple[Candidate, Sequence[CandidateResult], str]:
    """The fastest of several schemes, with what was measured."""
    if len(candidates) == 1:
        return candidates[0], (), ""
    rows = [CandidateResult.of(candidate) for candidate in candidates]
    rows = choose(time_files(rows, candidates, prepared.contract, threads=cost.threads, batch=cost.batch))
    return candidates[next(i for i, row in enumerate(rows) if row.chosen)], rows, verdict(rows)


def _build_auto(
    model: str | os.PathLike[str],
    destination: Path,
    settings: Quantisation,
    cost: TimeCost,
    no_rewrite: Collection[str],
) -> BuildResult:
    prepared = prepare_model(model, "int8", settings, no_rewrite, Purpose.CHOICE)
    assert prepared.given is not None  # Quantisation.check looked
    val = prepared.given.evaluation
    models: list[PreparedModel] = []  # each candidate's, with its method
    candidates: list[Candidate] = []
    untaken: list[CandidateResult] = []  # methods that were tried
    variants = all_variants()
    with progress("building", len(variants)) as advance:
        for variant in variants:
            own = prepared
            if settings.method == AUTO and variant.scheme is not None:
                evaluation = Evaluation.of(prepared, variant.runtime, val, cost.threads)
                found = choose_method(evaluation, (variant,), cost)
                own = found.prepared
                untaken += [replace(row, within=True) for row in found.rows if not row.chosen]
            models.append(own)
            candidates.append(own.build(variant))
            advance(1, variant.label)
    rows = [
        replace(CandidateResult.of(c), method=None if c.variant.scheme is None else own.method)
        for own, c in zip(models, candidates, strict=True)
    ]
    max_drop = MAX_DROP_PP if settings.max_drop is None else settings.max_drop
    with ExitStack() as stack:
        classifiers = [stack.enter_context(c.open(prepared.contract, cost.threads)) for c in candidates]
        rows, agreements = evaluated(rows, classifiers, val, variants.index(FLOAT), max_drop)
        rows = choose(timed(rows, classifiers, prepared.contract, cost.batch, cost.threads))
    manifests = [
        own.manifest(candidate, agreement=agreement)
        for own, candidate, agreement in zip(models, candidates, agreements, strict=True)
    ]
    index = next(i for i, row in enumerate(rows) if row.chosen)
    shown, place = (*rows, *untaken), candidates_folder(destination)
    chosen = replace(manifests[index], candidates=tuple(row.to_dict() for row in shown))
    with partial_folder(place) as folder:
        for candidate, row, described in zip(candidates, rows, manifests, strict=True):
            write_engine(folder / _file_name(row), candidate.content, described)
        manifest = write_engine(destination, candidates[index].content, chosen, (folder, place))
    announce(f"wrote {number_of(len(rows), 'candidate')}, which retune chooses among, into {place}")
    return BuildResult(destination, manifest, verdict(rows), candidates=shown, agreement=agreements[index])


def retune(engine: str | os.PathLike[str], *, threads: int = 1, batch: int = 1) -> BuildResult:
    """Time the candidates of an ``--auto`` engine again, here, and put the fastest in its place.

    Accuracies and the agreement with float are those of the machine that built them; a candidate that does not run
    here, or whose golden vectors differ here, is left out and announced.

    Raises:
        EdgeferError: the engine was not built by ``--auto``, or its candidates did not travel with it.
    """
    check_whole("--threads", threads, "threads")
    check_whole("--batch", batch, "batch")
    path = Path(engine)
    manifest = read_manifest(path)
    if not manifest.candidates:
        raise EdgeferError(
            f"{path} was not chosen among candidates", hint="build it with `edgefer build-engine --auto`"
        )
    before = [CandidateResult.from_dict(c) for c in manifest.candidates]
    others = [row for row in before if row.kl is not None]  # methods that were not taken: they have no file
    rows = [replace(row, p50_ms=None, chosen=False) for row in before if row.kl is None]
    place = candidates_folder(path)
    folder = described_folder(place, manifest.engine_sha256)
    if not folder.is_dir():
        raise EdgeferError(
            f"the candidates of {path} are not here: there is no folder {folder}", hint="copy it as well"
        )
    with ExitStack() as stack:
        running: list[tuple[int, Classifier]] = []
        for index, row in enumerate(rows):
            try:
                running.append((index, stack.enter_context(load_engine(folder / _file_name(row), threads))))
            except EdgeferError as fault:
                announce(f"left out: {row.label}: {fault.message}")
        measured = timed([rows[i] for i, _ in running], [e for _, e in running], manifest.contract, batch, threads)
    for (index, _), row in zip(running, measured, strict=True):
        rows[index] = row
    rows = choose(rows)
    winner = folder / _file_name(next(row for row in rows if row.chosen))
    shown = (*rows, *others)
    chosen = replace(read_manifest(winner), candidates=tuple(row.to_dict() for row in shown))
    reason = f"{verdict(rows)} Times are of this machine, accuracies and agreement of the one that built it."
    agreement = None
    if chosen.agreement is not None:
        agreement = Agreement.from_dict(chosen.agreement)
    elif chosen.precision.has_int8:
        agreement = Agreement(reason="the candidates do not tell it, and retune reads no images: build them again")
    unsettled = None if folder == place else (folder, place)
    written = write_engine(path, winner.read_bytes(), chosen, unsettled)
    return BuildResult(path, written, reason, candidates=shown, agreement=agreement)


def candidates_folder(engine: Path) -> Path:
    """The folder of the candidates of ``engine``."""
    return engine.with_suffix(".candidates")


def _file_name(row: CandidateResult) -> str:
    return "-".join(part for part in (row.runtime, row.precision, row.scheme) if part) + ".onnx"

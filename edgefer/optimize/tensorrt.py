"""TensorRT engines: the file for a version, the builder over it, and a manifest that says what came of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgefer.atomic import check_writable, write_bytes, write_text
from edgefer.contract import INPUT_NAME, OUTPUT_NAME
from edgefer.engines.classifier import Classifier, relative_difference
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.build import SerialisedEngine, build_plan
from edgefer.engines.tensorrt.compat import RTX, RTX_CAPABILITY, Target, import_tensorrt, target_of
from edgefer.engines.tensorrt.cuda import find_gpu, open_cuda
from edgefer.engines.tensorrt.inputs import (
    ALGORITHMS,
    cache_header,
    check_sparsity,
    parse_cache,
    table_scales,
    to_table,
)
from edgefer.engines.tensorrt.inspect import Audit, audit_dump, audit_engine
from edgefer.engines.tensorrt.options import (
    BuilderOptions,
    check_options,
    edgefer_command,
    read_options,
    trtexec_command,
)
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.golden import Golden
from edgefer.graph.fp16 import to_fp32
from edgefer.graph.onnx_file import load_model, serialise
from edgefer.manifest import Calibration, Manifest, Precision, write_engine
from edgefer.optimize.calibrate import record_of
from edgefer.optimize.given_faces import Purpose, divide_faces
from edgefer.optimize.prepared import BuildResult
from edgefer.optimize.reference import hash_of, reference_faces
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.optimize.tensorrt_file import TensorrtFile, prepare_file
from edgefer.progress import announce, as_many, number_of, progress
from edgefer.quantize.observation import rebatched
from edgefer.runtimes import TENSORRT, TENSORRT_RTX, runtime_named

_GOLDEN_FACES = 4
_CALIBRATION_BATCH: Final = 32


def build_tensorrt(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    settings: Quantisation,
    *,
    precision: str,
    target: BuildTarget,
    onnx_only: bool = False,
    no_rewrite: Collection[str] = (),
) -> BuildResult:
    """Build an engine with TensorRT or TensorRT-RTX or, with ``onnx_only``, write what a device builds one from.

    Args:
        model: a file written by :func:`edgefer.export` or with ``onnx_only``.
        output: an ``.engine``; an ``.onnx`` with ``onnx_only``.
        settings: settings of the INT8 ranges.
        precision: one of :data:`edgefer.engines.tensorrt.options.PRECISIONS`.
        target: target with a version and the builder's options.
        onnx_only: write the ONNX file, and with a calibrator its table, and say what to type on the device.
        no_rewrite: rewrite passes to leave out.

    Raises:
        EdgeferError: see :func:`~edgefer.optimize.tensorrt_file.prepare_file` and
            :func:`~edgefer.engines.tensorrt.build.build_plan`.
    """
    rtx = target.name == TENSORRT_RTX.target
    destination = _checked_output(output, onnx_only)
    chosen = _target(rtx, target.version, onnx_only)
    loaded = load_model(model)
    options = read_options(target.builder, loaded[1])
    check_options(options, chosen, precision, here=not onnx_only)
    check_cache(options, chosen, onnx_only=onnx_only)
    if not onnx_only and not rtx:
        find_gpu()  # before minutes of calibration
        open_cuda()
    prepared = prepare_file(
        *(model, loaded, precision, chosen, settings, options), observe=onnx_only, no_rewrite=no_rewrite
    )
    if options.sparsity:
        announce(check_sparsity(prepared.model))
    if onnx_only:
        return _write_file(destination, prepared, chosen, options)
    return _write_engine(destination, prepared, target.name, options, settings)


def _checked_output(output: str | os.PathLike[str], onnx_only: bool) -> Path:
    destination, suffix = Path(output), ".onnx" if onnx_only else ".engine"
    if destination.suffix != suffix:
        what = "--onnx-only writes an ONNX file" if onnx_only else "an engine of TensorRT is an .engine file"
        raise EdgeferError(
            f"{what}, and {destination} does not end in {suffix}", hint=f"-o {destination.with_suffix(suffix)}"
        )
    check_writable(destination)
    return destination


def _target(rtx: bool, version: str | None, onnx_only: bool) -> Target:
    if rtx:
        if version is not None:
            raise EdgeferError(
                f"--for {version} names a version of TensorRT, and {TENSORRT_RTX.option} is another product",
                hint=f"leave --for out, or use {TENSORRT.option}",
            )
        return RTX if onnx_only else import_tensorrt(True)[1]
    asked = None if version is None else target_of(version)
    if onnx_only:
        if asked is None:
            raise EdgeferError(
                "which TensorRT is the file for?", hint="--for jetpack5, jetpack6, jetpack7, or a version such as 10.3"
            )
        return asked
    _, installed = import_tensorrt(False)
    if asked is not None and asked.version[:2] != installed.version[:2]:
        raise EdgeferError(
            f"--for {version} is {asked.title}, and {installed.title} is installed here: it builds engines for itself",
            hint=f"--onnx-only --for {version} writes what that device builds from",
        )
    return installed


def _write_file(destination: Path, prepared: TensorrtFile, target: Target, options: BuilderOptions) -> BuildResult:
    table = None
    if options.calibrator is not None and prepared.ranges is not None:
        scales = table_scales(prepared.model, prepared.ranges, prepared.method)
        content = to_table(scales, target, options.calibrator)  # before a file is written: it may be refused
        table = destination.with_suffix(".calib")
        write_text(table, content)
    write_bytes(destination, prepared.content)
    device, lines = Path(destination.name), [f"on the device, with {target.title}:"]
    if target.has.python:
        lines.append("  " + edgefer_command(device, prepared.precision, options, rtx=target.rtx))
    cache = None if table is None else Path(table.name)
    if options.calibrator not in (None, "entropy"):
        lines.append("trtexec reads tables of the entropy calibrator only: there is no line for it")
    elif not target.rtx:
        lines.append("  " + trtexec_command(device, prepared.contract, target, prepared.precision, options, cache))
        lines.append("trtexec writes an engine without a manifest: edgefer's Python refuses to serve it")
    said = [prepared.reason] if prepared.reason else []
    return BuildResult(
        destination, None, "\n".join([*said, *lines]), candidates=prepared.candidates, agreement=prepared.agreement
    )


def _write_engine(
    destination: Path, prepared: TensorrtFile, target: str, options: BuilderOptions, settings: Quantisation
) -> BuildResult:
    rtx = target == TENSORRT_RTX.target
    with calibrator_for(prepared, options, settings) as (calibrator, record):
        built = build_plan(
            prepared.content, prepared.contract, prepared.precision, options, rtx=rtx, calibrator=calibrator
        )
    with _kept_until_checked(destination, built.plan):
        return _checked_engine(destination, prepared, built, record, target, options)


@contextmanager
def _kept_until_checked(destination: Path, plan: bytes) -> Iterator[None]:
    """Minutes of building are not lost to what comes after: until its manifest is written, the plan lies beside.

    Under the name of the engine it would look like one that was checked.
    """
    kept = destination.with_name(f"{destination.name}.unchecked")
    write_bytes(kept, plan)
    try:
        yield
    except EdgeferError as fault:
        raise EdgeferError(
            fault.message, hint="; ".join(filter(None, [fault.hint, f"the plan is kept as {kept}"]))
        ) from fault
    kept.unlink()


def _audit(prepared: TensorrtFile, built: SerialisedEngine, options: BuilderOptions, *, rtx: bool) -> Audit | None:
    """None where what the engine tells of its layers cannot be read, which says nothing against the engine."""
    try:
        if rtx:
            return audit_dump(prepared.model, built.layers)
        with open_cuda().current():
            return audit_engine(prepared.model, built.plan, prepared.precision, options)
    except EdgeferError as fault:
        announce(f"note: the precision of its layers was not audited: {fault.message}")
        return None


def _checked_engine(
    destination: Path,
    prepared: TensorrtFile,
    built: SerialisedEngine,
    record: Calibration | None,
    target: str,
    options: BuilderOptions,
) -> BuildResult:
    rtx = target == TENSORRT_RTX.target
    audit = _audit(prepared, built, options, rtx=rtx)
    if rtx:
        golden, note = (
            _golden_of_file(prepared, options, target),
            f"RTX, {RTX_CAPABILITY}, built ahead of time, not run",
        )
    else:
        golden, note = _golden_of_engine(prepared, built, options), ""
    if audit is None:
        note = ", ".join(filter(None, [note, "precision of the layers not audited"]))
    manifest = Manifest(
        model_sha256=prepared.model_sha256,
        model_file=prepared.model_file,
        weights_sha256=prepared.contract.lineage.get("weights_sha256", ""),
        target=target,
        runtime=target,
        runtime_version=built.target.name,
        instruction_set=(),
        contract=prepared.contract,
        precision=Precision(
            prepared.precision,
            prepared.precision if audit is None else audit.got(prepared.precision),
            () if audit is None else audit.nodes,
        ),
        calibration=record,
        golden=golden,
        rewrites=prepared.rewrites,
        device=built.device,
        portable=options.portable,
        batches=(options.batches.min, options.batches.max),
        dla_core=options.dla,
        note=note,
        audit=() if audit is None else tuple(layer.to_dict() for layer in audit.layers),
        candidates=tuple(row.to_dict() for row in prepared.candidates),
        agreement=None if prepared.agreement is None else prepared.agreement.to_dict(),
        choice_faces=prepared.choice_faces,
    )
    manifest = write_engine(destination, built.plan, manifest)
    reason = "\n".join(line for line in (prepared.reason, note) if line)
    return BuildResult(destination, manifest, reason, audit, prepared.candidates, prepared.agreement)


def _golden_count(options: BuilderOptions) -> int:
    return min(max(_GOLDEN_FACES, options.batches.min), options.batches.max)


def _golden_of_file(prepared: TensorrtFile, options: BuilderOptions, runtime: str) -> Golden:
    """The ONNX file's golden answers in float32, for an engine that cannot run on the machine that built it."""
    faces = golden_faces(prepared.contract, _golden_count(options))
    twin = serialise(to_fp32(prepared.model))
    logits = OnnxRuntimeSession(twin, optimise=False).run({INPUT_NAME: faces})[OUTPUT_NAME]
    tolerance = _tolerance(prepared, runtime)
    return Golden(faces, np.asarray(logits, dtype=np.float32), {runtime: tolerance})


def _tolerance(prepared: TensorrtFile, runtime: str) -> float:
    usual = runtime_named(runtime).tolerance_of(prepared.precision)
    return usual if prepared.reference is None else prepared.reference.tolerance(prepared.precision)


def _golden_of_engine(prepared: TensorrtFile, built: SerialisedEngine, options: BuilderOptions) -> Golden:
    """The engine's own answers, once those to the reference's faces were compared with the reference's.

    Raises:
        EdgeferError: they are further apart than rounding explains; with a calibrator that is only announced.
    """
    faces, reference = golden_faces(prepared.contract, _golden_count(options)), prepared.reference
    asked = reference_faces(prepared.contract)
    name = f"the engine for {built.device}"
    with Classifier(
        *(TensorRtSession(built.plan, dla_core=options.dla), prepared.contract),
        precision=prepared.precision,
        size_bytes=len(built.plan),
        name=name,
    ) as engine:
        golden = Golden(faces, engine.logits(faces), {TENSORRT.name: _tolerance(prepared, TENSORRT.name)})
        found = engine.logits_of_all(asked)
    if reference is None:
        return golden
    if reference.faces_sha256 != hash_of(asked):
        announce(f"note: {name} is not compared with its ONNX file: the edgefer that wrote it asked about other faces")
        return golden
    if options.implicit:  # what TensorRT's own ranges cost is not known: the reference is the float file
        apart, usual = relative_difference(found, reference.logits), TENSORRT.tolerance_of(prepared.precision)
        if apart > usual:
            announce(f"note: {name} and its float ONNX file differ by {apart:.3g} of the logits, {usual:.3g} is usual")
        return golden
    fault = reference.fault_in(found)
    if fault is not None:
        message = f"{name} does not answer as its ONNX file does: {fault}"
        raise EdgeferError(message, hint="TensorRT computes something else: try --opt-level 0, or another version")
    return golden


def check_cache(options: BuilderOptions, target: Target, *, onnx_only: bool) -> None:
    """Refuse a calibration cache that would fail after minutes, or that nothing could read.

    Raises:
        EdgeferError: it is damaged, of another algorithm or of another TensorRT; trtexec would have to read it and
            cannot.
    """
    if options.calibrator is None:
        return
    if onnx_only and options.calibrator != "entropy" and not target.has.python:
        raise EdgeferError(
            f"--calibrator {options.calibrator}: with {target.title} only trtexec builds, and it reads tables of the "
            "entropy calibrator only (samples/common/sampleEngines.cpp)",
            hint="--calibrator entropy: the ranges are edgefer's either way, --method sets how they are cut",
        )
    if options.calibration_cache is not None:
        read_cache(options.calibration_cache, options.calibrator, target)


def read_cache(path: Path, calibrator: str, target: Target) -> bytes:
    """The calibration table ``path``, headed as exactly this ``target`` wants it.

    Raises:
        EdgeferError: it cannot be read, is damaged, of another algorithm, or of another major or minor version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise EdgeferError(f"the calibration table {path} cannot be read: {cause}", hint="check the path") from cause
    number, algorithm, _ = parse_cache(text, str(path))
    if algorithm != ALGORITHMS[calibrator]:
        kind = next(name for name, known in ALGORITHMS.items() if known == algorithm)
        raise EdgeferError(
            f"--calibrator {calibrator}: {path} is a table of {algorithm}",
            hint=f"--calibrator {kind}, or another table",
        )
    if number // 100 != target.number // 100:
        raise EdgeferError(
            f"{path} was written for another TensorRT (TRT-{number}) than {target.title}, which would ignore it",
            hint=f"write it again on the host: --onnx-only --for {target.name}",
        )
    return "\n".join([cache_header(target, calibrator), *text.splitlines()[1:], ""]).encode()


@contextmanager
def calibrator_for(
    prepared: TensorrtFile, options: BuilderOptions, settings: Quantisation
) -> Iterator[tuple[Any, Calibration | None]]:
    """TensorRT's calibrator over a table, or over the same faces that Q/DQ would be made from, and their record."""
    if options.calibrator is None:
        yield None, prepared.calibration
        return
    from edgefer.engines.tensorrt.build import make_calibrator

    trt, target = import_tensorrt(False)
    if options.calibration_cache is not None:
        table = read_cache(options.calibration_cache, options.calibrator, target)
        yield make_calibrator(trt, options.calibrator, (), 1, table), prepared.calibration
        return
    recipe = settings.recipe(prepared.contract.architecture)
    chosen = divide_faces(settings, prepared.contract, Purpose.TABLE).ranges
    size = options.batches.max if options.batches.fixed else min(_CALIBRATION_BATCH, len(chosen))
    if len(chosen) < size:
        raise EdgeferError(
            f"{number_of(len(chosen), 'face')} {as_many(len(chosen), 'do')} not fill one batch of {size} for the "
            "calibrator",
            hint=f"--calib-faces {size} or more, or --max-batch {len(chosen)}",
        )
    whole = len(chosen) // size * size  # calibrators take whole batches only
    if whole < len(chosen):
        announce(f"calibrating with {whole} of {number_of(len(chosen), 'face')}: as many as fill batches of {size}")
        chosen = chosen.stratified(whole, recipe.seed)
    with progress("calibrating", len(chosen)) as advance:
        batches = rebatched((images for images, _ in chosen.batches(size, prepared.contract)), size)
        calibrator = make_calibrator(trt, options.calibrator, batches, size, None, advance)
        try:
            yield calibrator, record_of(chosen, replace(recipe, method=f"{TENSORRT.name}-{options.calibrator}"))
        finally:
            calibrator.close()

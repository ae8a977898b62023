"""TensorRT engines: the file for a version, the builder over it, and a manifest that says what came of it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import write_bytes, write_text
from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier
from edgefer.engines.golden import difference, tolerance_of
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.accept import check_sparsity
from edgefer.engines.tensorrt.binding import import_tensorrt
from edgefer.engines.tensorrt.build import SerialisedEngine, build_plan
from edgefer.engines.tensorrt.calibration_table import from_table, table_scales, to_table
from edgefer.engines.tensorrt.compat import RTX, RTX_CAPABILITY, Target, target_of
from edgefer.engines.tensorrt.cuda import probe
from edgefer.engines.tensorrt.inspect import audit_dump, audit_engine
from edgefer.engines.tensorrt.options import BuilderOptions, check_options, read_options
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.engines.tensorrt.trtexec import edgefer_command, trtexec_command
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.golden import Golden
from edgefer.graph.load import load_model
from edgefer.manifest import Calibration, Manifest, Precision, write_engine
from edgefer.optimize.calibrate import calibration_faces, record_of
from edgefer.optimize.result import BuildResult
from edgefer.optimize.tensorrt_file import Faces, Prepared, prepare_file
from edgefer.progress import announce, progress
from edgefer.quantize.observation import rebatched

TARGETS = ("tensorrt", "tensorrt-rtx")
_CALIBRATION_BATCH = 32
_GOLDEN_FACES = 4


def build_tensorrt(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: str,
    target: str,
    faces: Faces,
    builder: Mapping[str, Any],
    version: str | None = None,
    onnx_only: bool = False,
    no_rewrite: Collection[str] = (),
) -> BuildResult:
    """Build an engine with TensorRT or TensorRT-RTX or, with ``onnx_only``, write what a device builds one from.

    Args:
        model: what :func:`edgefer.export` wrote, or a file of ``onnx_only``.
        output: an ``.engine``; an ``.onnx`` with ``onnx_only``.
        precision: of :data:`edgefer.engines.tensorrt.options.PRECISIONS`.
        target: of :data:`TARGETS`.
        faces: what INT8 ranges are made from.
        builder: its options, as :func:`~edgefer.engines.tensorrt.options.read_options` takes them.
        version: a JetPack or a version of TensorRT; None: the one that is installed.
        onnx_only: write the ONNX file, and with a calibrator its table, and say what to type on the device.
        no_rewrite: rewrite passes to leave out.

    Raises:
        EdgeferError: see :func:`~edgefer.optimize.tensorrt_file.prepare_file` and
            :func:`~edgefer.engines.tensorrt.build.build_plan`.
    """
    rtx = target == "tensorrt-rtx"
    destination = _checked_output(output, onnx_only)
    chosen = _target(rtx, version, onnx_only)
    loaded = load_model(model)
    options = read_options(builder, loaded[1])
    check_options(options, chosen, precision)
    if not onnx_only and not rtx:
        probe()  # before minutes of calibration
    given = options.calibration_cache is not None
    prepared = prepare_file(
        *(model, loaded, precision, chosen, faces),
        implicit=options.calibrator is not None,
        observe=onnx_only and not given,
        no_rewrite=no_rewrite,
    )
    if options.sparsity:
        announce(check_sparsity(prepared.model))
    if onnx_only:
        return _write_file(destination, prepared, chosen, options)
    return _write_engine(destination, prepared, target, options, faces)


def _checked_output(output: str | os.PathLike[str], onnx_only: bool) -> Path:
    destination, suffix = Path(output), ".onnx" if onnx_only else ".engine"
    if destination.suffix != suffix:
        what = "--onnx-only writes an ONNX file" if onnx_only else "an engine of TensorRT is an .engine file"
        raise EdgeferError(
            f"{what}, and {destination} does not end in {suffix}", hint=f"-o {destination.with_suffix(suffix)}"
        )
    return destination


def _target(rtx: bool, version: str | None, onnx_only: bool) -> Target:
    if rtx:
        if version is not None:
            raise EdgeferError(
                f"--for {version} names a version of TensorRT, and --target tensorrt-rtx is another product",
                hint="leave --for out, or use --target tensorrt",
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


def _write_file(destination: Path, prepared: Prepared, target: Target, options: BuilderOptions) -> BuildResult:
    write_bytes(destination, prepared.content)
    table = None
    if options.calibrator is not None and prepared.ranges is not None:
        table = destination.with_suffix(".calib")
        scales = table_scales(prepared.model, prepared.ranges, prepared.method)
        write_text(table, to_table(scales, target, options.calibrator))
    device, lines = Path(destination.name), [f"on the device, with {target.title}:"]
    if target.has.python and not target.rtx:
        lines.append("  " + edgefer_command(device, prepared.precision, options))
    cache = None if table is None else Path(table.name)
    if not target.rtx:
        lines.append("  " + trtexec_command(device, prepared.contract, target, prepared.precision, options, cache))
        lines.append("trtexec writes an engine without a manifest: edgefer's Python refuses to serve it")
    said = [prepared.reason] if prepared.reason else []
    reason = "\n".join([*said, *([] if target.rtx else lines)])
    return BuildResult(destination, None, reason, candidates=prepared.candidates)


def _write_engine(
    destination: Path, prepared: Prepared, target: str, options: BuilderOptions, faces: Faces
) -> BuildResult:
    rtx = target == "tensorrt-rtx"
    with _calibrator(prepared, options, faces) as (calibrator, record):
        built = build_plan(
            prepared.content, prepared.contract, prepared.precision, options, rtx=rtx, calibrator=calibrator
        )
    if rtx:
        audit = audit_dump(prepared.model, built.layers)
        golden, note = (
            _golden_of_file(prepared, options, target),
            f"RTX, {RTX_CAPABILITY}, built ahead of time, not run",
        )
    else:
        implicit = options.calibrator is not None
        audit = audit_engine(prepared.model, built.plan, prepared.precision, implicit=implicit)
        golden, note = _golden_of_engine(prepared, built, options), ""
    manifest = Manifest(
        model_sha256=prepared.model_sha256,
        weights_sha256=prepared.contract.lineage.get("weights_sha256", ""),
        target=target,
        runtime=target,
        runtime_version=built.target.name,
        instruction_set=(),
        contract=prepared.contract,
        precision=Precision(prepared.precision, audit.got(prepared.precision), audit.nodes),
        calibration=record,
        golden=golden,
        rewrites=prepared.rewrites,
        device=built.device,
        note=note,
        audit=tuple(layer.to_dict() for layer in audit.layers),
        candidates=tuple(row.to_dict() for row in prepared.candidates),
    )
    manifest = write_engine(destination, built.plan, manifest)
    reason = "\n".join(line for line in (prepared.reason, note) if line)
    return BuildResult(destination, manifest, reason, audit, prepared.candidates)


def _golden_count(options: BuilderOptions) -> int:
    return min(max(_GOLDEN_FACES, options.batches.least), options.batches.most)


def _golden_of_file(prepared: Prepared, options: BuilderOptions, runtime: str) -> Golden:
    """What the ONNX file answers in ONNX Runtime: for an engine that could not be run where it was built."""
    faces = golden_faces(prepared.contract, _golden_count(options))
    logits = OnnxRuntimeSession(prepared.content, optimise=False).run({INPUT_NAME: faces})[OUTPUT_NAME]
    return Golden(faces, np.asarray(logits, dtype=np.float32), {runtime: tolerance_of(prepared.precision)})


def _golden_of_engine(prepared: Prepared, built: SerialisedEngine, options: BuilderOptions) -> Golden:
    """The engine's own answers, compared with what its ONNX file answers where onnxruntime is installed.

    Raises:
        EdgeferError: they are further apart than the precision explains; with a calibrator that is only announced.
    """
    faces = golden_faces(prepared.contract, _golden_count(options))
    allowed, name = tolerance_of(prepared.precision), f"the engine for {built.device}"
    with Classifier(
        *(TensorRtSession(built.plan), prepared.contract),
        precision=prepared.precision,
        size_bytes=len(built.plan),
        name=name,
    ) as engine:
        golden = Golden(faces, engine.logits(faces), {"tensorrt": allowed})
    if importlib.util.find_spec("onnxruntime") is None:
        announce(f"note: onnxruntime is not here, so {name} is not compared with its ONNX file")
        return golden
    apart = difference(golden.logits, _golden_of_file(prepared, options, "tensorrt").logits)
    if apart > allowed:
        message = f"{name} and its ONNX file differ by {apart:.3g} of the logits' scale, {allowed:.3g} is usual"
        if options.calibrator is None:
            raise EdgeferError(message, hint="TensorRT computes something else: try --opt-level 0, or another version")
        announce(f"note: {message}")
    return golden


@contextmanager
def _calibrator(prepared: Prepared, options: BuilderOptions, faces: Faces) -> Iterator[tuple[Any, Calibration | None]]:
    """TensorRT's calibrator over a table, or over the same faces that Q/DQ would be made from, and their record."""
    if options.calibrator is None:
        yield None, prepared.calibration
        return
    from edgefer.engines.tensorrt.calibrator import make_calibrator

    trt, _ = import_tensorrt(False)
    if options.calibration_cache is not None:
        yield make_calibrator(trt, options.calibrator, (), 1, _table(options.calibration_cache)), prepared.calibration
        return
    if faces.calib is None:
        raise EdgeferError(
            "--calibrator needs faces, or a table of their ranges", hint="--calib DATA, or --calib-cache x.calib"
        )
    recipe = faces.recipe(prepared.contract.architecture)
    chosen = calibration_faces(faces.calib, prepared.contract, recipe)
    size = options.batches.most if options.batches.fixed else min(_CALIBRATION_BATCH, len(chosen))
    if len(chosen) < size:
        raise EdgeferError(
            f"{len(chosen)} faces do not fill one batch of {size} for the calibrator",
            hint=f"--calib-faces {size} or more, or --max-batch {len(chosen)}",
        )
    with progress("calibrating", len(chosen)) as advance:
        batches = _whole_batches(chosen, prepared.contract, size)
        calibrator = make_calibrator(trt, options.calibrator, batches, size, None, advance)
        try:
            yield calibrator, record_of(chosen, replace(recipe, method=f"tensorrt-{options.calibrator}"))
        finally:
            calibrator.close()


def _table(path: Path) -> bytes:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise EdgeferError(f"the calibration table {path} cannot be read: {cause}", hint="check the path") from cause
    from_table(text, str(path))
    return text.encode()


def _whole_batches(faces: FaceSet, contract: Contract, size: int) -> Iterator[NDArray[np.uint8]]:
    """Batches of exactly ``size``: calibrators take no other. The last faces that fill none are left out."""
    for batch in rebatched((images for images, _ in faces.batches(size, contract)), size):
        if len(batch) == size:
            yield batch

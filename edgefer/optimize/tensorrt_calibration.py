"""Implicit quantisation: what TensorRT's own calibrator is fed with, faces or a table of their ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from edgefer.engines.tensorrt.compat import Target, import_tensorrt
from edgefer.engines.tensorrt.inputs import ALGORITHMS, from_table, head_of
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.manifest import Calibration
from edgefer.optimize.calibrate import calibration_faces, record_of
from edgefer.optimize.settings import Quantisation
from edgefer.optimize.tensorrt_file import Prepared
from edgefer.progress import announce, progress
from edgefer.quantize.observation import rebatched

_BATCH: Final = 32


def check_table(options: BuilderOptions, target: Target, *, onnx_only: bool) -> None:
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
        read_table(options.calibration_cache, options.calibrator, target)


def read_table(path: Path, calibrator: str, target: Target) -> bytes:
    """The calibration table ``path``, headed as exactly this ``target`` wants it.

    Raises:
        EdgeferError: it cannot be read, is damaged, of another algorithm, or of another major or minor version.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise EdgeferError(f"the calibration table {path} cannot be read: {cause}", hint="check the path") from cause
    number, algorithm, _ = from_table(text, str(path))
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
    return "\n".join([head_of(target, calibrator), *text.splitlines()[1:], ""]).encode()


@contextmanager
def calibrator_for(
    prepared: Prepared, options: BuilderOptions, faces: Quantisation
) -> Iterator[tuple[Any, Calibration | None]]:
    """TensorRT's calibrator over a table, or over the same faces that Q/DQ would be made from, and their record."""
    if options.calibrator is None:
        yield None, prepared.calibration
        return
    from edgefer.engines.tensorrt.build import make_calibrator

    trt, target = import_tensorrt(False)
    if options.calibration_cache is not None:
        table = read_table(options.calibration_cache, options.calibrator, target)
        yield make_calibrator(trt, options.calibrator, (), 1, table), prepared.calibration
        return
    assert faces.data is not None  # Quantisation.check looked
    recipe = faces.recipe(prepared.contract.architecture)
    chosen = calibration_faces(faces.data, prepared.contract, recipe)
    size = options.batches.max if options.batches.fixed else min(_BATCH, len(chosen))
    if len(chosen) < size:
        raise EdgeferError(
            f"{len(chosen)} faces do not fill one batch of {size} for the calibrator",
            hint=f"--calib-faces {size} or more, or --max-batch {len(chosen)}",
        )
    whole = len(chosen) // size * size  # calibrators take whole batches only
    if whole < len(chosen):
        announce(f"calibrating with {whole} of {len(chosen)} faces: as many as fill batches of {size}")
        chosen = chosen.stratified(whole, recipe.seed)
    with progress("calibrating", len(chosen)) as advance:
        batches = rebatched((images for images, _ in chosen.batches(size, prepared.contract)), size)
        calibrator = make_calibrator(trt, options.calibrator, batches, size, None, advance)
        try:
            yield calibrator, record_of(chosen, replace(recipe, method=f"tensorrt-{options.calibrator}"))
        finally:
            calibrator.close()

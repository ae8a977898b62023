"""The command to type on the device: edgefer's, or NVIDIA's own ``trtexec`` with the flags that its version has.

Flags as in samples/common/sampleOptions.cpp of https://github.com/NVIDIA/TensorRT at 8.5.2, v8.6.1, v10.3.0, v10.13.3,
v10.16 and v11.1.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from edgefer.contract import INPUT_NAME, Contract
from edgefer.engines.tensorrt.compat import Target
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.engines.tensorrt.sizes import USUAL, Batches
from edgefer.runtimes import TENSORRT, TENSORRT_RTX


def trtexec_command(
    model: Path, contract: Contract, target: Target, precision: str, options: BuilderOptions, cache: Path | None = None
) -> str:
    """The line for ``trtexec`` of ``target``.

    Args:
        model: the ONNX file, as it is called on the device.
        contract: of the network.
        target: what the device has.
        precision: ``"int8+fp16"``, ….
        options: as for edgefer's own builder.
        cache: a calibration table, for implicit quantisation.
    """
    engine = model.with_suffix(".engine")
    flags = [f"--onnx={model}", f"--saveEngine={engine}", *_shape_flags(options.batches, contract)]
    flags += _precision_flags(target, precision, weak=options.weakly_typed(target))
    if cache is not None:
        flags.append(f"--calib={cache}")
    if options.workspace is not None:
        flags.append(f"--memPoolSize=workspace:{options.workspace >> 20}")  # in MiB, which every version takes
    if options.timing_cache is not None:
        flags.append(f"--timingCacheFile={options.timing_cache}")
    if options.dla is not None:
        flags.append(f"--useDLACore={options.dla}")
    if options.opt_level is not None:
        flags.append(f"--builderOptimizationLevel={options.opt_level}")
    flags += [
        flag
        for asked, flag in (
            (options.gpu_fallback, "--allowGPUFallback"),
            (options.hardware_compat, "--hardwareCompatibilityLevel=ampere+"),
            (options.version_compatible, "--versionCompatible"),
            (options.refit, "--refit"),
            (options.sparsity, "--sparsity=enable"),
            (options.verbose, "--verbose"),
        )
        if asked
    ]
    flags.append("--profilingVerbosity=detailed")
    flags.append("--skipInference" if target.has.opt_level else "--buildOnly")  # renamed in 8.6
    return shlex.join(["/usr/src/tensorrt/bin/trtexec" if target.jetpack else "trtexec", *flags])


def edgefer_command(model: Path, precision: str, options: BuilderOptions, *, rtx: bool = False) -> str:
    """The line for edgefer on the device; the faces' ranges are in ``model`` already, or in the table beside it."""
    words = ["edgefer", "build-engine", str(model), *(f"--{part}" for part in precision.split("+"))]
    words += ["--target", (TENSORRT_RTX if rtx else TENSORRT).target]
    batches = options.batches
    if batches != USUAL:
        words += ["--min-batch", str(batches.least), "--opt-batch", str(batches.best), "--max-batch", str(batches.most)]
    for name, value in (
        ("--workspace", options.workspace),
        ("--timing-cache", options.timing_cache),
        ("--dla", options.dla),
        ("--opt-level", options.opt_level),
        ("--calibrator", options.calibrator),
    ):
        words += [] if value is None else [name, str(value)]
    for name, asked in (
        ("--gpu-fallback", options.gpu_fallback),
        ("--hardware-compat", options.hardware_compat),
        ("--version-compatible", options.version_compatible),
        ("--refit", options.refit),
        ("--sparsity", options.sparsity),
        ("--verbose", options.verbose),
    ):
        words += [name] if asked else []
    if options.calibrator is not None:
        words += ["--calib-cache", str(model.with_suffix(".calib"))]
    return shlex.join([*words, "-o", str(model.with_suffix(".engine"))])


def _shape_flags(batches: Batches, contract: Contract) -> list[str]:
    face = "x".join(map(str, contract.face_shape))
    if batches.fixed:
        return [f"--shapes={INPUT_NAME}:{batches.most}x{face}"]
    sizes = (("min", batches.least), ("opt", batches.best), ("max", batches.most))
    return [f"--{which}Shapes={INPUT_NAME}:{size}x{face}" for which, size in sizes]


def _precision_flags(target: Target, precision: str, *, weak: bool) -> list[str]:
    if not weak:
        typed = ["--stronglyTyped"] if target.has.strong_typing_flag else []
        return [*typed, "--noTF32"]
    return [f"--{part}" for part in precision.split("+") if part != "fp32"] + ["--noTF32"]

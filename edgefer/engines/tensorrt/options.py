"""Options of TensorRT's builder: read from text, checked against what a version can do, and written as the
command to type on the device, edgefer's or NVIDIA's own ``trtexec`` with the flags that its version has.

trtexec's flags are as in samples/common/sampleOptions.cpp of https://github.com/NVIDIA/TensorRT at 8.5.2, v8.6.1,
v10.3.0, v10.13.3, v10.16 and v11.1.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgefer.contract import INPUT_NAME, Contract
from edgefer.engines.tensorrt.compat import NO_BF16, Target, need, need_dla
from edgefer.errors import EdgeferError
from edgefer.runtimes import TENSORRT, TENSORRT_RTX

PRECISIONS: Final = tuple(TENSORRT.precisions)
CALIBRATORS: Final = ("entropy", "minmax")
DEFAULT_MAX_BATCH: Final = 32
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?", re.IGNORECASE)
_UNIT: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_LARGEST_TENSOR: Final = 2**31 - 1  # values of one tensor (NvInfer.h, ITensor, v10.3.0)
_MIN_WORKSPACE: Final = 16 << 20  # the suggested minimum of TensorRT's operator reference
_CAPABILITY: Final = {"calibrator": "implicit_calibration", "weak_typing": "precision_flags"}
"""Options whose capability in :data:`~edgefer.engines.tensorrt.compat.SPANS` has another name than they."""


@dataclass(frozen=True)
class Batches:
    """The batch sizes that an engine is built for: it takes any in ``min`` … ``max`` and is tuned for ``opt``."""

    min: int = 1
    opt: int = 1
    max: int = DEFAULT_MAX_BATCH

    @property
    def fixed(self) -> bool:
        """Whether there is only one."""
        return self.min == self.max

    def __str__(self) -> str:
        return str(self.max) if self.fixed else f"{self.min}…{self.max}"


USUAL: Final = Batches()


@dataclass(frozen=True)
class BuilderOptions:
    """The builder's options; None and False leave a setting alone.

    Attributes:
        batches: the optimisation profile.
        workspace: bytes of scratch memory; None: half of what is free.
        timing_cache: a file that timings are read from and written to.
        dla: the DLA core that layers go to first.
        gpu_fallback: whether what DLA cannot run goes to the GPU.
        hardware_compat: an engine for any GPU from Ampere on.
        version_compatible: an engine for later TensorRT of the same major version.
        refit: an engine whose weights can be changed.
        opt_level: 0 … 5, how long the builder searches.
        sparsity: allow 2:4 sparse kernels.
        calibrator: one of :data:`CALIBRATORS`: implicit quantisation instead of Q/DQ.
        calibration_cache: a calibration table for it, instead of faces.
        weak_typing: let flags of the builder decide about FP16, where types could.
        verbose: print all of the builder's log.
    """

    batches: Batches = USUAL
    workspace: int | None = None
    timing_cache: Path | None = None
    dla: int | None = None
    gpu_fallback: bool = False
    hardware_compat: bool = False
    version_compatible: bool = False
    refit: bool = False
    opt_level: int | None = None
    sparsity: bool = False
    calibrator: str | None = None
    calibration_cache: Path | None = None
    weak_typing: bool = False
    verbose: bool = False

    @property
    def implicit(self) -> bool:
        """Whether TensorRT's own calibrator sets the ranges, and the graph has no Q/DQ."""
        return self.calibrator is not None

    @property
    def portable(self) -> tuple[str, ...]:
        """Where else the engine may run, as manifests say it: ``"version"``, ``"hardware"``."""
        asked = (("version", self.version_compatible), ("hardware", self.hardware_compat))
        return tuple(name for name, given in asked if given)

    def weakly_typed(self, target: Target) -> bool:
        """Whether flags of ``target``'s builder decide about FP16, and the file's tensors stay FP32.

        So it is in TensorRT 8, where it is asked for, with a calibrator, and for DLA before 11: trtexec sets kFP16 and
        kPREFER_PRECISION_CONSTRAINTS for a DLA core (samples/common/sampleEngines.cpp, 8.5.2 to v10.7.0), which a
        strongly typed network does not allow.
        """
        by_flags = self.weak_typing or self.implicit or self.dla is not None
        return not target.has.strong_typing or (target.has.precision_flags and by_flags)


DEFAULTS: Final = BuilderOptions()

_AS_GIVEN: Final = (
    *("dla", "opt_level", "calibrator"),
    *("gpu_fallback", "hardware_compat", "version_compatible", "refit", "sparsity", "weak_typing", "verbose"),
)
NAMES: Final = (
    *_AS_GIVEN,
    *("workspace", "timing_cache", "calib_cache", "min_batch", "opt_batch", "max_batch", "shapes"),
)
"""Names that :func:`read_options` takes: the options of the command line, with underscores."""


def read_options(given: Mapping[str, Any], contract: Contract) -> BuilderOptions:
    """The options of the command line by name, e.g. ``{"workspace": "512M", "max_batch": 8}``; see :data:`NAMES`.

    Raises:
        EdgeferError: a name or a value that is none.
    """
    for name in given:
        if name not in NAMES:
            raise EdgeferError(f"TensorRT's builder has no option '{name}'", hint=f"one of: {', '.join(NAMES)}")
    level = given.get("opt_level")
    if level is not None and not 0 <= level <= 5:
        raise EdgeferError(f"--opt-level {level} is outside 0 … 5", hint="3 is TensorRT's own")
    if given.get("calibrator") not in (None, *CALIBRATORS):
        raise EdgeferError(f"there is no calibrator '{given['calibrator']}'", hint=f"one of: {', '.join(CALIBRATORS)}")
    workspace, timing, table = (given.get(name) for name in ("workspace", "timing_cache", "calib_cache"))
    return BuilderOptions(
        batches=parse_batches(
            contract, given.get("min_batch"), given.get("opt_batch"), given.get("max_batch"), given.get("shapes")
        ),
        workspace=None if workspace is None else parse_size(str(workspace)),
        timing_cache=None if timing is None else Path(timing),
        calibration_cache=None if table is None else Path(table),
        **{name: given[name] for name in _AS_GIVEN if given.get(name) is not None},
    )


def check_options(options: BuilderOptions, target: Target, precision: str, *, here: bool = False) -> None:
    """Refuse what ``target`` cannot do, with the version that can.

    ``here``: the engine is built on this machine, whose builder knows better than the version's number which DLA cores
    it can use.

    Raises:
        EdgeferError: names the option, the reason and the fix.
    """
    if precision not in PRECISIONS:
        raise EdgeferError(
            f"TensorRT engines are not built in {precision.upper()} here: {NO_BF16}",
            hint="--fp16, or --int8 --fp16",
        )
    for name in (
        "timing_cache",
        "hardware_compat",
        "version_compatible",
        "refit",
        "sparsity",
        "opt_level",
        "calibrator",
        "weak_typing",
    ):
        if _is_asked(getattr(options, name)):
            need(target, _CAPABILITY.get(name, name), _flag(name))
    if options.refit and options.version_compatible:
        need(target, "refit_of_compatible", "--refit with --version-compatible")
    if options.hardware_compat and target.jetpack:
        refuse_hardware_compat(target.title)
    _check_dla(options, target, precision, here=here)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_asked(value: object) -> bool:
    return value is not None and value is not False


def refuse_hardware_compat(where: str) -> None:
    """Refuse ``--hardware-compat`` for a Jetson.

    Raises:
        EdgeferError: always.
    """
    raise EdgeferError(
        f"--hardware-compat: {where} builds for the Jetson it runs on only (TensorRT developer guide, Hardware "
        "Compatibility: not on JetPack)",
        hint="leave it out and build on each kind of Jetson",
    )


def _check_dla(options: BuilderOptions, target: Target, precision: str, *, here: bool) -> None:
    if options.gpu_fallback and options.dla is None:
        raise EdgeferError("--gpu-fallback is for layers that DLA cannot run", hint="add --dla 0, or leave it out")
    if options.dla is None:
        return
    if target.rtx or not here:
        need_dla(target)
    if precision in ("fp32", "int8"):
        rest = "--fp16" if precision == "fp32" else "--int8 --fp16"
        raise EdgeferError("--dla: DLA computes in FP16 and INT8, not in FP32", hint=f"build with {rest}")
    if not options.gpu_fallback:
        raise EdgeferError(
            "--dla: the network begins with a Cast from uint8, which DLA does not run", hint="add --gpu-fallback"
        )
    if not options.batches.fixed:
        raise EdgeferError(
            f"--dla takes one batch size, and the profile has {options.batches}",
            hint="--max-batch 1, or --shapes faces:NxHxWxC",
        )
    if precision.startswith("int8") and target.has.implicit_calibration and options.calibrator != "entropy":
        raise EdgeferError(
            "--dla: INT8 on DLA needs ranges from an entropy calibrator (NvInfer.h: IInt8EntropyCalibrator2 is "
            "required for DLA), not Q/DQ",
            hint="add --calibrator entropy",
        )


def parse_size(text: str) -> int:
    """Bytes of ``"512M"``, ``"2G"``, ``"65536K"`` or ``"536870912"``; powers of 1,024.

    Raises:
        EdgeferError: something else, or less than 16 MiB, which builds nothing.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise EdgeferError(f"--workspace '{text}' is no amount of memory", hint="--workspace 512M, or 2G")
    size = int(float(match[1]) * _UNIT[match[2].upper()])
    if size < _MIN_WORKSPACE:
        raise EdgeferError(
            f"--workspace {text} is {size:,} bytes, too little for any convolution",
            hint="16M is the minimum; 512M is usual",
        )
    return size


def parse_batches(
    contract: Contract,
    min_batch: int | None = None,
    opt_batch: int | None = None,
    max_batch: int | None = None,
    shapes: str | None = None,
) -> Batches:
    """The profile of ``--min-batch``, ``--opt-batch``, ``--max-batch``, or one fixed size of ``--shapes``.

    ``shapes`` is as trtexec takes it, ``"faces:8x48x48x1"``.

    Raises:
        EdgeferError: both ways at once; sizes out of order; another input or face shape than the contract's.
    """
    if shapes is not None:
        if not min_batch == opt_batch == max_batch is None:
            raise EdgeferError(
                "--shapes fixes the batch size, and --min-batch, --opt-batch or --max-batch frees it",
                hint="give one or the other",
            )
        size = _parse_shapes(shapes, contract)
        return _fitting(Batches(size, size, size), contract)
    low = 1 if min_batch is None else min_batch
    high = max(DEFAULT_MAX_BATCH, low, opt_batch or 0) if max_batch is None else max_batch
    middle = min(max(low, 1), high) if opt_batch is None else opt_batch
    if not 1 <= low <= middle <= high:
        raise EdgeferError(
            f"batch sizes are out of order: min {low}, opt {middle}, max {high}",
            hint=f"--min-batch ≤ --opt-batch ≤ --max-batch, e.g. 1, 1 and {max(high, low)}",
        )
    return _fitting(Batches(low, middle, high), contract)


def _fitting(batches: Batches, contract: Contract) -> Batches:
    limit = _LARGEST_TENSOR // math.prod(contract.face_shape)
    if batches.max > limit:
        raise EdgeferError(
            f"a batch of {batches.max} faces is more than a tensor of TensorRT holds, 2^31 − 1 values",
            hint=f"--max-batch {DEFAULT_MAX_BATCH}; {limit} is the maximum",
        )
    return batches


def _parse_shapes(text: str, contract: Contract) -> int:
    face = "x".join(map(str, contract.face_shape))
    name, colon, shape = text.partition(":")
    sizes = shape.lower().split("x")
    if not colon or not all(size.isascii() and size.isdigit() for size in sizes):
        raise EdgeferError(f"--shapes '{text}' cannot be read", hint=f"--shapes {INPUT_NAME}:1x{face}")
    if name != INPUT_NAME:
        raise EdgeferError(
            f"--shapes names the input '{name}', and the network has one input, '{INPUT_NAME}'",
            hint=f"--shapes {INPUT_NAME}:1x{face}",
        )
    if tuple(map(int, sizes[1:])) != contract.face_shape or int(sizes[0]) < 1:
        raise EdgeferError(
            f"--shapes {shape} does not fit the network, whose faces are {face}: only the batch size is free",
            hint=f"--shapes {INPUT_NAME}:{max(1, int(sizes[0]))}x{face}",
        )
    return int(sizes[0])


def trtexec_command(
    model: Path, contract: Contract, target: Target, precision: str, options: BuilderOptions, cache: Path | None = None
) -> str:
    """The line for ``trtexec`` of ``target``.

    Args:
        model: the ONNX file, as it is called on the device.
        contract: the network's contract.
        target: TensorRT's version on the device.
        precision: ``"int8+fp16"``, ….
        options: options, as for edgefer's own builder.
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
        words += ["--min-batch", str(batches.min), "--opt-batch", str(batches.opt), "--max-batch", str(batches.max)]
    for name in ("workspace", "timing_cache", *_AS_GIVEN):
        value = getattr(options, name)
        if _is_asked(value):
            words += [_flag(name)] if value is True else [_flag(name), str(value)]
    if options.calibrator is not None:
        words += ["--calib-cache", str(model.with_suffix(".calib"))]
    return shlex.join([*words, "-o", str(model.with_suffix(".engine"))])


def _shape_flags(batches: Batches, contract: Contract) -> list[str]:
    face = "x".join(map(str, contract.face_shape))
    if batches.fixed:
        return [f"--shapes={INPUT_NAME}:{batches.max}x{face}"]
    sizes = (("min", batches.min), ("opt", batches.opt), ("max", batches.max))
    return [f"--{which}Shapes={INPUT_NAME}:{size}x{face}" for which, size in sizes]


def _precision_flags(target: Target, precision: str, *, weak: bool) -> list[str]:
    if not weak:
        typed = ["--stronglyTyped"] if target.has.strong_typing_flag else []
        return [*typed, "--noTF32"]
    return [f"--{part}" for part in precision.split("+") if part != "fp32"] + ["--noTF32"]

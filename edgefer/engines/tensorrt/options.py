"""What a user can ask of TensorRT's builder, read from text and checked against what a version can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgefer.contract import Contract
from edgefer.engines.tensorrt.compat import NO_BF16, Target
from edgefer.engines.tensorrt.needs import need, need_dla
from edgefer.engines.tensorrt.sizes import USUAL, Batches, parse_batches, parse_size
from edgefer.errors import EdgeferError

PRECISIONS: Final = ("fp32", "fp16", "int8", "int8+fp16")
CALIBRATORS: Final = ("entropy", "minmax")


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
        calibrator: of :data:`CALIBRATORS`: implicit quantisation instead of Q/DQ.
        calibration_cache: a calibration table for it, instead of faces.
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
    verbose: bool = False

    @property
    def implicit(self) -> bool:
        """Whether TensorRT's own calibrator sets the ranges, and the graph has no Q/DQ."""
        return self.calibrator is not None

    @property
    def portable(self) -> tuple[str, ...]:
        """What else the engine is for, as manifests say it: ``"version"``, ``"hardware"``."""
        asked = (("version", self.version_compatible), ("hardware", self.hardware_compat))
        return tuple(name for name, given in asked if given)

    def weakly_typed(self, target: Target) -> bool:
        """Whether flags of ``target``'s builder decide about FP16, and the file's tensors stay FP32.

        So it is in TensorRT 8, with a calibrator, and for DLA before 11: trtexec sets kFP16 and
        kPREFER_PRECISION_CONSTRAINTS for a DLA core (samples/common/sampleEngines.cpp, 8.5.2 to v10.7.0), which a
        strongly typed network does not allow.
        """
        return not target.has.strong_typing or (target.has.precision_flags and (self.implicit or self.dla is not None))


DEFAULTS: Final = BuilderOptions()

_AS_GIVEN: Final = (
    "dla",
    "gpu_fallback",
    "hardware_compat",
    "version_compatible",
    "refit",
    "opt_level",
    "sparsity",
    "calibrator",
    "verbose",
)
NAMES: Final = (
    *_AS_GIVEN,
    *("workspace", "timing_cache", "calib_cache", "min_batch", "opt_batch", "max_batch", "shapes"),
)
"""What :func:`read_options` takes: the options of the command line, with underscores."""


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


def check_options(options: BuilderOptions, target: Target, precision: str) -> None:
    """Refuse what ``target`` cannot do, with the version that can.

    Raises:
        EdgeferError: names the option, the reason and the fix.
    """
    if precision not in PRECISIONS:
        raise EdgeferError(
            f"TensorRT engines are not built in {precision.upper()} here: {NO_BF16}",
            hint="--fp16, or --int8 --fp16",
        )
    for asked, capability, option in (
        (options.timing_cache is not None, "timing_cache", "--timing-cache"),
        (options.hardware_compat, "hardware_compat", "--hardware-compat"),
        (options.version_compatible, "version_compatible", "--version-compatible"),
        (options.refit, "refit", "--refit"),
        (options.sparsity, "sparsity", "--sparsity"),
        (options.opt_level is not None, "opt_level", "--opt-level"),
        (options.calibrator is not None, "implicit_calibration", "--calibrator"),
    ):
        if asked:
            need(target, capability, option)
    if options.refit and options.version_compatible:
        need(target, "refit_of_compatible", "--refit with --version-compatible")
    if options.sparsity and precision == "fp32":
        raise EdgeferError(
            "--sparsity would change nothing with --fp32: sparse kernels compute in FP16, INT8 and TF32, and TF32 is "
            "switched off (https://arxiv.org/abs/2104.08378)",
            hint="--fp16 or --int8, or leave --sparsity out",
        )
    if options.hardware_compat and target.jetpack:
        refuse_hardware_compat(target.title)
    _check_calibrator(options, precision)
    _check_dla(options, target, precision)


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


def _check_calibrator(options: BuilderOptions, precision: str) -> None:
    integer = precision.startswith("int8")
    if options.calibrator is not None and not integer:
        raise EdgeferError(f"--calibrator would change nothing with --{precision}", hint="leave it out, or add --int8")
    if options.calibration_cache is not None and options.calibrator is None:
        raise EdgeferError(
            "--calib-cache is a table for TensorRT's own calibrator, and none is asked for", hint="add --calibrator"
        )


def _check_dla(options: BuilderOptions, target: Target, precision: str) -> None:
    if options.gpu_fallback and options.dla is None:
        raise EdgeferError("--gpu-fallback is for layers that DLA cannot run", hint="add --dla 0, or leave it out")
    if options.dla is None:
        return
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

"""From ONNX to a serialised engine through TensorRT's builder, of every version in one code path.

With it goes what the builder calls back: a progress monitor, and TensorRT's own calibrators for implicit quantisation,
which TensorRT 10 deprecated and 11 removed.

Names in this folder follow TensorRT's types: ``builder``, ``network``, ``config``, ``profile``, ``parser``, ``engine``,
``context``, ``runtime``, ``inspector``: a test checks each use against the real Python API of five versions, and that
what some of them lack stands under ``if has.…``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import check_writable, write_bytes
from edgefer.contract import INPUT_NAME, Contract
from edgefer.engines.tensorrt.compat import (
    RTX_CAPABILITY,
    Capabilities,
    Log,
    Target,
    import_tensorrt,
    log_of,
    logger_of,
)
from edgefer.engines.tensorrt.cuda import Buffer, Owned, find_gpu, free_bytes, open_cuda
from edgefer.engines.tensorrt.options import Batches, BuilderOptions, check_options, refuse_hardware_compat
from edgefer.errors import EdgeferError
from edgefer.interrupts import deferred_interrupt
from edgefer.progress import Advance, announce, progress

_MEMORY_SIGNS = ("out of memory", "outofmemory", "insufficient memory", "workspace", "bad_alloc")


@dataclass(frozen=True)
class SerialisedEngine:
    """Result of the builder.

    Attributes:
        plan: the engine's bytes.
        target: the version that made it.
        device: the GPU that it is for, ``"Orin, SM87"``.
        layers: the builder's dump of layers, where it prints one (TensorRT-RTX); else ``""``.
    """

    plan: bytes
    target: Target
    device: str
    layers: str


def build_plan(
    model: bytes,
    contract: Contract | None,
    precision: str,
    options: BuilderOptions,
    *,
    rtx: bool = False,
    calibrator: Any = None,
) -> SerialisedEngine:
    """Build ``model`` for the GPU that is here or, with ``rtx``, for :data:`RTX_CAPABILITY` without one.

    TensorRT works in the primary CUDA context, where the calibrator's memory lies too.

    Args:
        model: a serialised ONNX file as :func:`edgefer.engines.tensorrt.inputs.check_model` lets through.
        contract: the network's contract. None: a network whose input has a fixed shape, such as a face detector's.
        precision: one of :data:`~edgefer.engines.tensorrt.options.PRECISIONS`.
        options: the builder's.
        rtx: TensorRT-RTX instead of TensorRT.
        calibrator: for implicit quantisation, a calibrator of :func:`make_calibrator`.

    Raises:
        EdgeferError: TensorRT, the driver or a CUDA package is missing; an option that this version lacks; an operator
            that the parser refuses; the builder gave up (with its reason).
    """
    trt, target = import_tensorrt(rtx)
    has = target.has
    check_options(options, target, precision, here=True)
    timings = read_timings(options.timing_cache)
    device = None if rtx else find_gpu()
    if device is not None and device.integrated and options.hardware_compat:
        refuse_hardware_compat(str(device))
    log = log_of(rtx)
    log.clear()
    log.verbose = options.verbose
    with nullcontext() if device is None else open_cuda().current():
        if device is not None and contract is not None and options.workspace is None:
            options = replace(options, workspace=free_bytes(open_cuda(), device) // 2)
            announce(f"workspace: {(options.workspace or 0) >> 20} MiB, half of what is free; --workspace sets it")
        weak = options.weakly_typed(target)
        # the parser owns what the network refers to: it is kept until the engine is built
        builder, network, parser = _parsed(trt, target, model, weak=weak)
        config = builder.create_builder_config()
        _set_options(trt, has, builder, config, options)
        if has.timing_cache and timings is not None:
            _set_timings(config, timings, options.timing_cache)
        _set_precision(trt, has, builder, config, precision, weak)
        if contract is not None:
            _set_batches(builder, network, config, options.batches, contract)
            if has.implicit_calibration and calibrator is not None:
                config.int8_calibrator = calibrator
                if not options.batches.fixed:
                    size = calibrator.get_batch_size()
                    config.set_calibration_profile(_profile(builder, Batches(size, size, size), contract))
        plan = _serialised(trt, target, builder, network, config, options, calibrator)
        del parser
        if options.timing_cache is not None and has.timing_cache:
            cache = config.get_timing_cache()
            write_bytes(options.timing_cache, bytes(cache.serialize()))
    return SerialisedEngine(plan, target, RTX_CAPABILITY if device is None else str(device), log.layers)


def _parsed(trt: Any, target: Target, model: bytes, *, weak: bool) -> tuple[Any, Any, Any]:
    has, log, flags = target.has, log_of(target.rtx), 0
    if has.explicit_batch_flag:
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if has.strong_typing_flag and not weak:
        flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    logger = logger_of(target.rtx)
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError) as cause:  # a null pointer from its factory
        raise EdgeferError(
            f"{target.title} could not start: {log.reason()}", hint="its libraries and the driver must fit together"
        ) from cause
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        raise EdgeferError(
            f"{target.title} refuses the model: {'; '.join(_parser_errors(has, parser)) or log.reason()}",
            hint="an operator that this version lacks: write it in others, or cut it off before export",
        )
    return builder, network, parser


def _parser_errors(has: Capabilities, parser: Any) -> Iterator[str]:
    """One sentence an error, with the node and its operator where the version knows them."""
    for index in range(min(3, parser.num_errors)):
        error = parser.get_error(index)
        where = f"node {error.node()}"
        if has.node_names:
            where = f"{error.node_operator()} '{error.node_name()}'"
        yield f"{where}: {error.desc()}"


def _set_options(trt: Any, has: Capabilities, builder: Any, config: Any, options: BuilderOptions) -> None:
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # or the inspector knows no types
    config.clear_flag(trt.BuilderFlag.TF32)  # FP32 is FP32: TF32 keeps 10 bits of 23
    if has.ahead_of_time:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, RTX_CAPABILITY), 0):
            raise EdgeferError(f"TensorRT-RTX does not build for {RTX_CAPABILITY}", hint="upgrade tensorrt-rtx")
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.dla is not None:
        _set_dla(trt, builder, config, options.dla)
    if has.opt_level and options.opt_level is not None:
        config.builder_optimization_level = options.opt_level
    if has.hardware_compat and options.hardware_compat:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if has.version_compatible and options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if has.refit and options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    if has.sparsity and options.sparsity:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)


def _set_dla(trt: Any, builder: Any, config: Any, core: int) -> None:
    if core >= builder.num_DLA_cores:
        raise EdgeferError(
            f"--dla {core}: this machine has {builder.num_DLA_cores} DLA cores",
            hint="Orin NX and AGX Orin have two, and TensorRT 10.8 to 11.4.0 uses none; Orin Nano and Thor have none: "
            "leave --dla out",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _set_precision(trt: Any, has: Capabilities, builder: Any, config: Any, precision: str, weak: bool) -> None:
    """Flags where types do not decide: see :meth:`~edgefer.engines.tensorrt.options.BuilderOptions.weakly_typed`."""
    if has.precision_flags and weak:
        if "fp16" in precision:
            config.set_flag(trt.BuilderFlag.FP16)
        if precision.startswith("int8"):
            if not builder.platform_has_fast_int8:
                raise EdgeferError("this GPU has no fast INT8", hint="build with --fp16")
            config.set_flag(trt.BuilderFlag.INT8)


def _set_batches(builder: Any, network: Any, config: Any, batches: Batches, contract: Contract) -> None:
    if batches.fixed:
        tensor = network.get_input(0)
        tensor.shape = (batches.max, *contract.face_shape)
    else:
        config.add_optimization_profile(_profile(builder, batches, contract))


def _profile(builder: Any, batches: Batches, contract: Contract) -> Any:
    profile = builder.create_optimization_profile()
    face = contract.face_shape
    profile.set_shape(INPUT_NAME, (batches.min, *face), (batches.opt, *face), (batches.max, *face))
    return profile


def read_timings(path: Path | None) -> bytes | None:
    """The content of ``path``, read before anything is built; empty where it is not there yet."""
    if path is None:
        return None
    check_writable(path)
    try:
        return path.read_bytes() if path.exists() else b""
    except OSError as cause:
        raise EdgeferError(f"the timing cache {path} cannot be read: {cause}", hint="choose another path") from cause


def _set_timings(config: Any, known: bytes, path: Path | None) -> None:
    """Give the builder's ``config`` what :func:`read_timings` read; of another place, it is started anew and said."""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):  # None: not even a cache
        announce(f"note: {path} is of another TensorRT or another GPU, and is started anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)


def _serialised(
    trt: Any,
    target: Target,
    builder: Any,
    network: Any,
    config: Any,
    options: BuilderOptions,
    calibrator: Any,
) -> bytes:
    has = target.has
    with progress(f"building with {target.title}", None) as advance, deferred_interrupt(insistent=False) as asked:
        if has.progress:
            config.progress_monitor = make_monitor(trt, advance, asked)
        plan = builder.build_serialized_network(network, config)
    if asked():
        raise KeyboardInterrupt
    if calibrator is not None and calibrator.failure is not None:
        raise calibrator.failure
    if plan is None:
        raise gave_up(target, log_of(target.rtx), options)
    return bytes(plan)


def gave_up(target: Target, log: Log, options: BuilderOptions) -> EdgeferError:
    """The error for a builder that returned None, with the reason that its log gives and what to do about it."""
    reason = log.reason()
    hint = "--verbose shows all of its log"
    if target.has.precision_flags and not options.weakly_typed(target):
        hint = f"add --weak-typing: the builder then chooses types itself, as it did before 10; {hint}"
    if any(sign in reason.lower() for sign in _MEMORY_SIGNS):
        hint = "lower --max-batch or --opt-level; on a Jetson stop the desktop and add swap"
        if options.workspace is not None:
            hint = f"raise --workspace, which is {options.workspace >> 20} MiB, or {hint}"
    return EdgeferError(f"{target.title} could not build the engine: {reason}", hint=hint)


def make_monitor(trt: Any, advance: Advance, interrupted: Callable[[], bool]) -> Any:
    """An ``IProgressMonitor`` that shows the innermost phase and how far it is.

    Once ``interrupted()`` is true it answers False, which makes the builder stop and return None.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base class is known at run time only
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            advance(0, f"{phase_name} {step + 1}/{self._steps.get(phase_name, 0)}")
            return not interrupted()

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def make_calibrator(
    trt: Any,
    kind: str,
    faces: Iterable[NDArray[np.uint8]],
    batch: int,
    table: bytes | None = None,
    advance: Advance | None = None,
) -> Any:
    """A calibrator that feeds the builder ``batch`` faces at a time.

    Args:
        trt: the package.
        kind: ``"entropy"`` or ``"minmax"``.
        faces: uint8 N×H×W×C batches of exactly ``batch``, read once; memory holds one.
        batch: number of faces per batch.
        table: a calibration table, as :func:`edgefer.engines.tensorrt.inputs.to_table` writes: with one no
            face is read.
        advance: called with the number of faces after every batch.

    Its attribute ``table`` holds the table that the builder made or took. TensorRT's bindings print what ``get_batch``
    raises and go on with the faces so far (python/src/infer/pyInt8.cpp); it is kept in ``failure`` instead, to be
    raised when the builder is done.
    """
    base = {"entropy": trt.IInt8EntropyCalibrator2, "minmax": trt.IInt8MinMaxCalibrator}[kind]

    class Calibrator(base):  # type: ignore[misc, valid-type]  # the base class is known at run time only
        def __init__(self) -> None:
            base.__init__(self)
            self.table = table
            self.failure: Exception | None = None
            self._faces: Iterator[NDArray[np.uint8]] = iter(faces)
            self._buffer: Buffer | None = None
            self._stream: Owned | None = None

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: list[str]) -> list[int] | None:
            try:
                return self._next()
            except Exception as failure:
                self.failure = failure
                return None

        def _next(self) -> list[int] | None:
            value = next(self._faces, None)
            if value is None:
                return None
            cuda = open_cuda()
            with cuda.current():
                if self._buffer is None:
                    self._buffer = Buffer(cuda, value.shape, "uint8")
                if self._stream is None:
                    self._stream = cuda.stream()
                self._buffer.fill(value)
                self._buffer.upload(value.shape, self._stream)
                cuda.wait(self._stream)
            if advance is not None:
                advance(len(value))
            return [self._buffer.address]

        def read_calibration_cache(self) -> bytes | None:
            return self.table

        def write_calibration_cache(self, cache: Any) -> None:
            self.table = bytes(cache)

        def close(self) -> None:
            taken = [one for one in (self._buffer, self._stream) if one is not None]
            self._buffer = self._stream = None
            if taken:
                with open_cuda().current():
                    for one in taken:
                        one.close()

    return Calibrator()

"""Importing TensorRT's Python package, and its one logger."""

from __future__ import annotations

import functools
import importlib.metadata
from collections import deque
from typing import Any, Final

from edgefer.engines.tensorrt.compat import Target, parse_version, supported
from edgefer.errors import EdgeferError, import_package, require
from edgefer.runtimes import TENSORRT, TENSORRT_RTX

ERROR: Final = 1  # ILogger.Severity.ERROR; INTERNAL_ERROR is 0, smaller is worse
WARNING: Final = 2
_KEPT: Final = 200
_LAYERS: Final = "Layers:"  # how the builder's dump of fused layers begins, at VERBOSE


class Log:
    """What TensorRT said: the last errors and warnings, and its dump of layers."""

    def __init__(self) -> None:
        self.verbose = False
        self._lines: deque[tuple[int, str]] = deque(maxlen=_KEPT)
        self.layers = ""

    def clear(self) -> None:
        """Forget everything, before a new build."""
        self._lines.clear()
        self.layers = ""

    def add(self, severity: int, message: str) -> None:
        """Take a message; never raises, since TensorRT calls it from C++."""
        if severity <= WARNING:
            self._lines.append((severity, message))
        elif _LAYERS in message:
            self.layers = message
        if self.verbose:
            print(message, file=_stderr())

    def errors(self) -> list[str]:
        """The errors, oldest first, without repetitions."""
        return list(dict.fromkeys(message for severity, message in self._lines if severity <= ERROR))

    def reason(self) -> str:
        """The first error that says something, or that there was none."""
        found = [line for line in self.errors() if line.strip()]
        return " · ".join(found[:3]) if found else "its log has no error"


def import_tensorrt(rtx: bool) -> tuple[Any, Target]:
    """The package ``tensorrt`` or ``tensorrt_rtx`` and which version it is.

    Raises:
        EdgeferError: it is not installed, has no library, or is too old.
    """
    row = TENSORRT_RTX if rtx else TENSORRT
    try:
        trt = require(row.package, row.extra, "building a TensorRT engine")
    except EdgeferError as fault:
        if rtx:
            raise
        raise EdgeferError(
            fault.message,
            hint="on a Jetson it comes with JetPack: make the environment with `python3 -m venv "
            "--system-site-packages`; elsewhere `edgefer doctor` says which of pip's fits the driver; without a GPU, "
            "--onnx-only --for JETPACK writes what the device builds from",
        ) from fault
    except OSError as cause:  # its libraries are loaded with ctypes
        raise EdgeferError(
            f"{row.package} is installed, and its libraries cannot be loaded: {cause}",
            hint="install the libraries of the same version, or put them on LD_LIBRARY_PATH",
        ) from cause
    version = str(trt.__version__)
    return trt, supported(Target(version, parse_version(version), rtx=rtx))


def facts() -> dict[str, Any]:
    """The version of TensorRT's Python package, with the CUDA that pip's is for.

    One of the system has no such package; what it is for is told by its library.
    """
    found: dict[str, Any] = {"version": str(import_package(TENSORRT.package).__version__).split("-")[0]}
    for cuda in (11, 12, 13):
        try:
            importlib.metadata.version(f"tensorrt-cu{cuda}-libs")
        except importlib.metadata.PackageNotFoundError:
            continue
        found["for_cuda"] = cuda
    return found


@functools.cache
def log_of(rtx: bool) -> Log:
    """The log of the package; TensorRT keeps one logger a process, so there is one of these."""
    return Log()


@functools.cache
def logger_of(rtx: bool) -> Any:
    """The logger to hand to TensorRT: a subclass of its ILogger over :func:`log_of`."""
    trt, _ = import_tensorrt(rtx)
    log = log_of(rtx)

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]  # the base class is known at run time only
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.add(int(severity), message)

    return Logger()


def make_runtime(trt: Any, target: Target, dla_core: int | None = None) -> Any:
    """What loads engines. Those of ``--version-compatible`` hold code, TensorRT's lean runtime, which it may run.

    NvInferRuntime.h, setEngineHostCodeAllowed: without it such engines are refused; setDLACore: an engine runs on the
    DLA core of the runtime that loads it, whichever it was built for.

    Raises:
        EdgeferError: this machine has no DLA core ``dla_core``.
    """
    runtime = trt.Runtime(logger_of(target.rtx))
    if target.has.version_compatible:
        runtime.engine_host_code_allowed = True
    if dla_core is not None:
        if dla_core >= runtime.num_DLA_cores:
            raise EdgeferError(
                f"the engine is for DLA core {dla_core}, and {target.title} finds {runtime.num_DLA_cores} of them here",
                hint="Orin NX and AGX Orin have two, Orin Nano and Thor none: build it again, or without --dla",
            )
        runtime.DLA_core = dla_core
    return runtime


def _stderr() -> Any:
    import sys

    return sys.stderr

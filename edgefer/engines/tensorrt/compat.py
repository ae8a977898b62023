"""TensorRT's versions: what each can do (the only place that names one), and the Python package that is here.

Every capability carries the document that says so, because a name in the API is not support. ``A`` below is
https://docs.nvidia.com/deeplearning/tensorrt; headers are those of https://github.com/NVIDIA/TensorRT at the tag of
the version.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import sys
from collections import deque
from dataclasses import dataclass, fields
from typing import Any, Final

from edgefer.errors import EdgeferError, import_package, require
from edgefer.runtimes import TENSORRT, TENSORRT_RTX

Version = tuple[int, int, int]

ERROR: Final = 1  # ILogger.Severity.ERROR; INTERNAL_ERROR is 0, smaller is worse
WARNING: Final = 2
_KEPT: Final = 200
_LAYERS: Final = "Layers:"  # how the builder's dump of fused layers begins, at VERBOSE

_A: Final = "https://docs.nvidia.com/deeplearning/tensorrt"
NEVER: Final = (999, 0, 0)


@dataclass(frozen=True)
class Span:
    """From version ``since`` up to, but without, ``until``; on TensorRT-RTX as ``rtx`` says.

    Attributes:
        what: name of the capability, to complete "TensorRT 8.5.2 has no …".
        source: the document.
        jetpack: whether a Jetson has it too.
    """

    what: str
    source: str
    since: Version = (0, 0, 0)
    until: Version = NEVER
    rtx: bool = False
    jetpack: bool = True

    def covers(self, version: Version) -> bool:
        """Whether ``version`` of TensorRT proper has it."""
        return self.since <= version < self.until

    @property
    def versions(self) -> str:
        """The versions in words: ``"TensorRT 8.6 and later"``, ``"TensorRT before 11.0"``."""
        start, end = (f"{v[0]}.{v[1]}" for v in (self.since, self.until))
        if self.until == NEVER and self.since == (0, 0, 0):
            return "TensorRT (--target tensorrt)"
        if self.until == NEVER:
            return f"TensorRT {start} and later"
        return f"TensorRT before {end}" if self.since == (0, 0, 0) else f"TensorRT {start} up to, but without, {end}"


SPANS: Final = {
    "explicit_batch_flag": Span(
        "EXPLICIT_BATCH flag to set", f"{_A}/latest/api/migration: 10.0 made it the only mode", until=(10, 0, 0)
    ),
    "strong_typing": Span(
        "strongly typed networks", "NvInfer.h, NetworkDefinitionCreationFlag, v10.0.0", since=(10, 0, 0), rtx=True
    ),
    "strong_typing_flag": Span(
        "STRONGLY_TYPED flag to set: every network is",
        "NvInfer.h, v10.0.0 and v11.0",
        since=(10, 0, 0),
        until=(11, 0, 0),
    ),
    "precision_flags": Span(
        "FP16 and INT8 builder flags",
        f"{_A}/latest/api/migration: 11.0 removed weak typing",
        until=(11, 0, 0),
    ),
    "implicit_calibration": Span(
        "calibrators",
        f"{_A}/latest/api/migration: 11.0 removed implicit quantisation; 10.1 deprecated it",
        until=(11, 0, 0),
    ),
    "int8_constants": Span(
        "INT8 constants",
        "onnx-tensorrt: refused up to 8.4.1, not tried with 8.5.2; taken in 10.0 (release/10.0-GA, docs/operators.md)",
        since=(10, 0, 0),
        rtx=True,
    ),
    "progress": Span("IProgressMonitor", "NvInfer.h, v10.0.0", since=(10, 0, 0), rtx=True),
    "node_names": Span("the node's name in parser errors", "NvOnnxParser.h, v10.0.0", since=(10, 0, 0), rtx=True),
    "opt_level": Span(
        "builder optimisation level",
        "NvInfer.h, v8.6.1; TensorRT-RTX 1.7 has the name, and builds the same bytes at every level",
        since=(8, 6, 0),
    ),
    "hardware_compat": Span("hardware compatibility level", "NvInfer.h, v8.6.1", since=(8, 6, 0), jetpack=False),
    "version_compatible": Span("version compatible engines", "NvInfer.h, v8.6.1", since=(8, 6, 0)),
    "refit_of_compatible": Span(
        "refitting of version compatible engines", "NvInfer.h, BuilderFlag::kVERSION_COMPATIBLE, v8.6.1", (10, 0, 0)
    ),
    "timing_cache": Span("timing cache", "NvInfer.h, 8.5.2; TensorRT-RTX times nothing when it builds"),
    "refit": Span("refitting", "NvInfer.h, 8.5.2; TensorRT-RTX refuses it without a GPU"),
    "sparsity": Span("sparse kernels", "NvInfer.h, 8.5.2; TensorRT-RTX has the name only"),
    "ahead_of_time": Span(
        "builds without a GPU",
        "https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html",
        since=NEVER,
        rtx=True,
    ),
    "profile_sharing": Span(
        "several execution contexts in one optimisation profile",
        "NvInfer.h, v10.0.0: PreviewFeature kPROFILE_SHARING_0806 is always on",
        since=(10, 0, 0),
        rtx=True,
    ),
    "own_graphs": Span(
        "CUDA graphs that it captures itself",
        "https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/work-with-cuda-graphs.html",
        since=NEVER,
        rtx=True,
    ),
    "python": Span("Python for edgefer: JetPack 5 has Python 3.8", "pyproject.toml", since=(8, 6, 0), rtx=True),
}
"""Capability → where it is; the keys are the fields of :class:`Capabilities`. DLA is a property of :class:`Target`."""

DLA_SOURCE: Final = f"{_A}/11.4.1/inference-library/work-with-dla.html"
_DLA_UNTIL: Final = (10, 8, 0)
_DLA_AGAIN: Final = (11, 4, 1)

_OPSETS: Final = (((10, 0, 0), 17), ((11, 0, 0), 20))
"""Versions before the first → the greatest opset sent to them (onnx-tensorrt, docs/operators.md of release/8.5-GA and
release/10.0-GA; later 10.x read more, and nothing here needs it)."""

_NEWEST_OPSET: Final = 25
"""``A``/latest/reference/onnx-opset-guide.html"""


@dataclass(frozen=True)
class Capabilities:
    """Capabilities of one version; see :data:`SPANS` for each."""

    explicit_batch_flag: bool
    strong_typing: bool
    strong_typing_flag: bool
    precision_flags: bool
    implicit_calibration: bool
    int8_constants: bool
    progress: bool
    node_names: bool
    opt_level: bool
    hardware_compat: bool
    version_compatible: bool
    refit_of_compatible: bool
    timing_cache: bool
    refit: bool
    sparsity: bool
    ahead_of_time: bool
    profile_sharing: bool
    own_graphs: bool
    python: bool


@dataclass(frozen=True)
class Target:
    """A version to build for.

    Attributes:
        name: name as it was asked for: ``"jetpack6"``, ``"10.3"``, ``"rtx"``.
        version: version of TensorRT, or of TensorRT-RTX.
        rtx: whether it is TensorRT-RTX, which has numbers of its own.
        jetpack: whether it is a Jetson's.
    """

    name: str
    version: Version
    rtx: bool = False
    jetpack: bool = False

    @property
    def has(self) -> Capabilities:
        """Its capabilities."""
        return Capabilities(
            **{
                f.name: SPANS[f.name].rtx if self.rtx else SPANS[f.name].covers(self.version)
                for f in fields(Capabilities)
            }
        )

    @property
    def opset(self) -> int:
        """The greatest opset that it is sent."""
        if self.rtx:
            return _NEWEST_OPSET
        return next((top for before, top in _OPSETS if self.version < before), _NEWEST_OPSET)

    @property
    def has_dla(self) -> bool:
        """Whether DLA cores can be asked for (where the chip has any): not from 10.8 to 11.4.0."""
        return not self.rtx and (self.version < _DLA_UNTIL or self.version >= _DLA_AGAIN)

    @property
    def number(self) -> int:
        """NV_TENSORRT_VERSION of NvInferVersion.h: two digits a part, and three for minor and patch before 10."""
        major, minor, patch = self.version
        return major * (10_000 if major >= 10 else 1_000) + minor * 100 + patch

    @property
    def title(self) -> str:
        """``"TensorRT 10.3.0 (jetpack6)"``."""
        number = ".".join(map(str, self.version))
        product = "TensorRT-RTX" if self.rtx else "TensorRT"
        return f"{product} {number}" + (f" ({self.name})" if self.jetpack else "")


JETPACKS: Final[dict[str, Version]] = {
    "jetpack5": (8, 5, 2),
    "jetpack5.1": (8, 5, 2),
    "jetpack6.0": (8, 6, 2),
    "jetpack6": (10, 3, 0),
    "jetpack6.1": (10, 3, 0),
    "jetpack6.2": (10, 3, 0),
    "jetpack7": (10, 13, 3),
    "jetpack7.0": (10, 13, 3),
    "jetpack7.1": (10, 13, 3),
    "jetpack7.2": (10, 16, 2),
}
"""JetPack → the TensorRT that comes with it (https://developer.nvidia.com/embedded/jetpack-archive)."""

OLDEST: Final[Version] = (8, 5, 0)

GENERATIONS: Final = ("8.5", "8.6", "10.0", "11.0")
"""Versions from which on ``trtexec`` is given other flags, or another file, than the one before."""

_MAJORS: Final = (8, 10, 11)  # 9 was for data centres only, and is not tested
RTX: Final = Target("rtx", (1, 7, 1), rtx=True)
"""The TensorRT-RTX that is tested."""

NO_BF16: Final = "ONNX has no bfloat16 convolution below opset 22, which no version before 10.9 reads"
"""Why engines are not typed bfloat16 (onnx operators.md, Conv-22; onnx-tensorrt release notes, 10.9)."""

RTX_CAPABILITY: Final = "SM86"
"""The GPU that TensorRT-RTX builds for ahead of time: it knows no Jetson's (SM87, SM101, SM110)."""


def target_of(name: str) -> Target:
    """The target called ``name``: a JetPack of :data:`JETPACKS`, or a version like ``"10.3"`` or ``"11"``.

    Raises:
        EdgeferError: neither, or older than anything tested.
    """
    if name.lower() in JETPACKS:
        return Target(name.lower(), JETPACKS[name.lower()], jetpack=True)
    parts = name.split(".")
    if not all(part.isascii() and part.isdigit() for part in parts) or len(parts) > 4 or len(name) > 20:
        close = difflib.get_close_matches(name.lower(), JETPACKS, n=1)
        raise EdgeferError(
            f"'{name}' is neither a JetPack nor a version of TensorRT",
            hint=(f"did you mean {close[0]}? " if close else "")
            + f"--for takes {', '.join(JETPACKS)}, or a version: 8.6, 10.3, 10.16, 11.4",
        )
    numbers = [int(part) for part in parts[:3]] + [0, 0]
    if numbers[0] > _MAJORS[-1] or (numbers[0] not in _MAJORS and numbers[0] > _MAJORS[0]):
        raise EdgeferError(
            f"edgefer does not know TensorRT {name}: it builds for {', '.join(map(str, _MAJORS))}",
            hint="--for takes a version such as 8.6, 10.3, 10.16 or 11.4",
        )
    return supported(Target(name, (numbers[0], numbers[1], numbers[2])))


def supported(target: Target) -> Target:
    """``target``, unless it is older than anything tested.

    Raises:
        EdgeferError: TensorRT before 8.5.
    """
    if not target.rtx and target.version < OLDEST:
        raise EdgeferError(
            f"{target.title} is older than anything that edgefer builds for",
            hint="8.5 (JetPack 5) is the oldest: --for jetpack5",
        )
    return target


def parse_version(text: str) -> Version:
    """``"10.16.1.11"`` → ``(10, 16, 1)``; letters after a number are left out, as in ``"8.6.1.post1"``."""
    numbers = [int("".join(c for c in part if c.isdigit()) or 0) for part in text.split(".")[:3]] + [0, 0]
    return numbers[0], numbers[1], numbers[2]


def loads(built: str, here: str) -> bool:
    """Whether TensorRT ``here`` loads a version compatible engine of ``built``.

    Later versions of the same major one do, 10 those of 8 and 11 those of 10
    (``A``/11.4.1/getting-started/support-matrix.html, Version Compatibility).
    """
    old, new = parse_version(built), parse_version(here)
    same = old[0] == new[0] and old <= new
    return old >= (8, 6, 0) and (same or (old[0], new[0]) in ((8, 10), (10, 11)))


def need(target: Target, capability: str, option: str) -> None:
    """Refuse ``option`` where ``target`` lacks ``capability``, naming the versions that have it.

    Raises:
        EdgeferError: it does.
    """
    if getattr(target.has, capability):
        return
    span = SPANS[capability]
    where = "TensorRT-RTX" if span.since == NEVER else span.versions + (", and TensorRT-RTX" if span.rtx else "")
    others = [name for name, version in JETPACKS.items() if span.covers(version)] if span.jetpack else []
    hint = f"leave {option} out, or build for {where}"
    raise EdgeferError(
        f"{option}: {target.title} has no {span.what} ({span.source})",
        hint=hint + (f" (--for {others[-1]})" if others and not target.rtx else ""),
    )


def need_dla(target: Target) -> None:
    """Refuse ``--dla`` where the version or the chip has none.

    Raises:
        EdgeferError: TensorRT 10.8 up to 11.4.0, TensorRT-RTX, and JetPack 7's before 7.2.2.
    """
    if target.has_dla:
        return
    raise EdgeferError(
        f"--dla: {target.title} does not run networks on DLA ({DLA_SOURCE})",
        hint="TensorRT up to 10.7 does (--for jetpack6), and 11.4.1 on AGX Orin from JetPack 7.2.2 (--for 11.4.1); "
        "Thor has no DLA",
    )


class Log:
    """TensorRT's log: the last errors and warnings, and its dump of layers."""

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
            print(message, file=sys.stderr)

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
    """A runtime that loads engines. It may run the code in those of ``--version-compatible``: TensorRT's lean runtime.

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

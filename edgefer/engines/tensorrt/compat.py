"""What each version of TensorRT can do: the only place that names one.

Every capability carries the document that says so, because a name in the API is not support. ``A`` below is
https://docs.nvidia.com/deeplearning/tensorrt; headers are those of https://github.com/NVIDIA/TensorRT at the tag of
the version.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields
from typing import Final

from edgefer.errors import EdgeferError

Version = tuple[int, int, int]

_A: Final = "https://docs.nvidia.com/deeplearning/tensorrt"
_NEVER: Final = (999, 0, 0)


@dataclass(frozen=True)
class Span:
    """From version ``since`` up to, but without, ``until``; on TensorRT-RTX as ``rtx`` says.

    Attributes:
        what: what it is, to complete "TensorRT 8.5.2 has no …".
        source: the document.
        jetpack: whether a Jetson has it too.
    """

    what: str
    source: str
    since: Version = (0, 0, 0)
    until: Version = _NEVER
    rtx: bool = False
    jetpack: bool = True

    def covers(self, version: Version) -> bool:
        """Whether ``version`` of TensorRT proper has it."""
        return self.since <= version < self.until

    @property
    def versions(self) -> str:
        """In words: ``"TensorRT 8.6 and later"``, ``"TensorRT before 11.0"``."""
        start, end = (f"{v[0]}.{v[1]}" for v in (self.since, self.until))
        if self.until == _NEVER:
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
    "progress": Span("IProgressMonitor", "NvInfer.h, v10.0.0", since=(10, 0, 0), rtx=True),
    "node_names": Span("the node's name in parser errors", "NvOnnxParser.h, v10.0.0", since=(10, 0, 0), rtx=True),
    "opt_level": Span("builder optimisation level", "NvInfer.h, v8.6.1", since=(8, 6, 0), rtx=True),
    "hardware_compat": Span("hardware compatibility level", "NvInfer.h, v8.6.1", since=(8, 6, 0), jetpack=False),
    "version_compatible": Span("version compatible engines", "NvInfer.h, v8.6.1", since=(8, 6, 0)),
    "timing_cache": Span("timing cache", "NvInfer.h, 8.5.2; TensorRT-RTX times nothing when it builds"),
    "refit": Span("refitting", "NvInfer.h, 8.5.2; TensorRT-RTX refuses it without a GPU"),
    "sparsity": Span("sparse kernels", "NvInfer.h, 8.5.2; TensorRT-RTX has the name only"),
    "ahead_of_time": Span(
        "builds without a GPU",
        "https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html",
        since=_NEVER,
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
        since=_NEVER,
        rtx=True,
    ),
    "python": Span("Python for edgefer: JetPack 5 has Python 3.8", "pyproject.toml", since=(8, 6, 0), rtx=True),
}
"""Capability → where it is; the keys are the fields of :class:`Capabilities`. DLA is :func:`has_dla`."""

_DLA_SOURCE: Final = f"{_A}/11.4.1/inference-library/work-with-dla.html"
_DLA_UNTIL: Final = (10, 8, 0)
_DLA_AGAIN: Final = (11, 4, 1)

_OPSETS: Final = (((10, 0, 0), 17), ((11, 0, 0), 20))
"""Versions before the first → the greatest opset sent to them (onnx-tensorrt, docs/operators.md of release/8.5-GA and
release/10.0-GA; later 10.x read more, and nothing here needs it)."""

_NEWEST_OPSET: Final = 25
"""``A``/latest/reference/onnx-opset-guide.html"""


@dataclass(frozen=True)
class Capabilities:
    """What one version has; see :data:`SPANS` for each."""

    explicit_batch_flag: bool
    strong_typing: bool
    strong_typing_flag: bool
    precision_flags: bool
    implicit_calibration: bool
    progress: bool
    node_names: bool
    opt_level: bool
    hardware_compat: bool
    version_compatible: bool
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
        name: as it was asked for: ``"jetpack6"``, ``"10.3"``, ``"rtx"``.
        version: of TensorRT, or of TensorRT-RTX.
        rtx: whether it is TensorRT-RTX, which has numbers of its own.
        jetpack: whether it is a Jetson's.
    """

    name: str
    version: Version
    rtx: bool = False
    jetpack: bool = False

    @property
    def has(self) -> Capabilities:
        """What it can do."""
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
    if not all(part.isascii() and part.isdigit() for part in parts) or len(parts) > 4:
        close = difflib.get_close_matches(name.lower(), JETPACKS, n=1)
        raise EdgeferError(
            f"'{name}' is neither a JetPack nor a version of TensorRT",
            hint=(f"did you mean {close[0]}? " if close else "")
            + f"--for takes {', '.join(JETPACKS)}, or a version: 8.6, 10.3, 10.16, 11.4",
        )
    numbers = [int(part) for part in parts[:3]] + [0, 0]
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


def need(target: Target, capability: str, option: str) -> None:
    """Refuse ``option`` where ``target`` lacks ``capability``, naming the versions that have it.

    Raises:
        EdgeferError: it does.
    """
    if getattr(target.has, capability):
        return
    span = SPANS[capability]
    where = "TensorRT-RTX" if span.since == _NEVER else span.versions + (", and TensorRT-RTX" if span.rtx else "")
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
        f"--dla: {target.title} does not run networks on DLA ({_DLA_SOURCE})",
        hint="TensorRT up to 10.7 does (--for jetpack6), and 11.4.1 on AGX Orin from JetPack 7.2.2; Thor has no DLA",
    )

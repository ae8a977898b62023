"""The table of runtimes: what each is called, what brings it, what it computes in and which function opens it.

A further runtime is a module in ``edgefer/engines``, a row here, an extra in pyproject.toml, and its tests. Functions
are named as ``"module:function"`` and imported when they are called, so that this module imports no runtime and
everything may read it: commands, doctor, reports, ``--auto``, the camera and the benchmarks.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from edgefer.errors import EdgeferError

CPU: Final = "cpu"
"""The ``target`` of engines for the CPU."""

BF16: Final = ("avx512_bf16", "amx_bf16", "bf16")
"""CPU features (as /proc/cpuinfo prints them) that multiply bfloat16 natively."""

TOLERANCE: Final[Mapping[str, float]] = MappingProxyType({"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 1e-1})
"""Precision → the largest difference, relative to the largest golden logit, that is still the same engine.

The same engine on another CPU, with another number of threads or in another version of its runtime, that is.

FP32 differs by the order of sums only: under 1e-5 measured between PyTorch, ONNX Runtime and OpenVINO, so 1e-3 leaves
two digits. BF16 keeps 8 bits and FP16 11 (steps of 2⁻⁸ and 2⁻¹¹ per layer): BF16 moved logits by 0.002 … 0.008 of their
scale. In INT8 a sum that falls on the other side of a rounding step moves an activation by 1/255 of its range, and
such flips add up over the layers: the same file in ONNX Runtime with and without its integer kernels differed by up to
0.008, and in OpenVINO by up to 0.037 (lenet, mini_xception and resnet11). Saturated sums, wrong weights, shuffled
labels or another normalisation move logits by their own size.
"""


@dataclass(frozen=True)
class Runtime:
    """One row.

    Attributes:
        name: name in manifests, in reports and after ``--runtime``.
        title: name for people.
        label: first part of the names of a report's rows, ``label PRECISION``; the title where empty.
        package: the Python package that is imported; a top-level one, so that looking for it imports nothing.
        distributions: its names for pip; the first is the usual one.
        extra: extra of pyproject.toml that installs it.
        precisions: each precision that it offers → CPU features of which it needs one; none needed where empty.
        opener: ``"module:function"``; the function takes a model (a path or bytes), the number of threads and the
            precision as manifests say it (``"int8+bf16"``), and returns a :class:`~edgefer.engines.session.Session`.
        target: the target of its engines: ``"cpu"``, or the name of an own builder; ``""``: it runs networks as they
            are and builds nothing.
        suffix: suffix of its engines' files.
        schemes: ``"module:function"``; the function takes the CPU's features and returns the names of the Q/DQ schemes
            that suit the runtime on that CPU, the preferred one first. ``""``: the target's builder knows.
        check: ``"module:function"``; the function takes an engine's path and manifest, before it is opened, and refuses
            an engine that this machine would run wrongly or not at all.
        facts: ``"module:function"``; the function imports the package and returns what ``edgefer doctor`` shows, with
            the key ``"version"``; ``""``: ``__version__`` of the package, up to a ``-``, is all.
        detector: ``"module:function"``; the function checks that the runtime can work here and returns what makes a
            session of the camera's face detector from the detector's serialised ONNX model. ``""``: ``opener`` does.
        tolerance: precision → see :data:`TOLERANCE`.
    """

    name: str
    title: str
    package: str
    distributions: tuple[str, ...]
    extra: str
    precisions: Mapping[str, tuple[str, ...]]
    opener: str = ""
    target: str = CPU
    suffix: str = ".onnx"
    schemes: str = ""
    check: str = ""
    facts: str = ""
    detector: str = ""
    label: str = ""
    tolerance: Mapping[str, float] = field(default_factory=lambda: TOLERANCE)

    @property
    def option(self) -> str:
        """The options of ``build-engine`` that choose it."""
        return f"--runtime {self.name}" if self.target == CPU else f"--target {self.target}"

    @property
    def installed(self) -> bool:
        """Whether its package is here; it is not imported."""
        try:
            return importlib.util.find_spec(self.package) is not None
        except (ImportError, ValueError):  # an incomplete package, or one that was put into sys.modules without a spec
            return False

    def require(self, purpose: str) -> None:
        """Before any work, say which extra installs the package if it is not here; ``purpose`` needs it.

        Raises:
            EdgeferError: it is not installed.
        """
        if not self.installed:
            raise EdgeferError(
                f"{purpose} needs the Python package '{self.package}', which is not installed",
                hint=f"pip install 'edgefer[{self.extra}]'",
            )

    def tolerance_of(self, precision: str) -> float:
        """The golden tolerance of a precision such as ``"fp32"`` or ``"int8+bf16"``: that of its coarsest part.

        Raises:
            EdgeferError: an unknown precision.
        """
        parts = precision.split("+")
        if not set(parts) <= set(self.tolerance):
            raise EdgeferError(
                f"no tolerance is known for the precision '{precision}'", hint=f"one of {list(self.tolerance)}"
            )
        return max(self.tolerance[part] for part in parts)

    def check_precision(self, precision: str, instructions: Collection[str]) -> None:
        """Refuse a precision that the runtime, or a CPU with these ``instructions``, does not have.

        Raises:
            EdgeferError: it does not; names a runtime that does.
        """
        known = sorted({name for row in RUNTIMES.values() for name in row.precisions})
        if precision not in known:
            raise EdgeferError(f"there is no precision '{precision}'", hint=f"one of: {', '.join(known)}")
        if precision not in self.precisions:
            others = [row for row in RUNTIMES.values() if row.opener and precision in row.precisions]
            raise EdgeferError(
                f"{self.title} does not compute in {precision.upper()}" + (" on a CPU" if self.target == CPU else ""),
                hint=" or ".join([*(row.option for row in others), *(f"--{name}" for name in self._plain)]),
            )
        needed = self.precisions[precision]
        if needed and not set(needed) & set(instructions):
            raise EdgeferError(
                "this CPU has no bfloat16 arithmetic"
                if needed == BF16
                else f"{precision.upper()} in {self.title} needs a CPU with {' or '.join(needed)}",
                hint="build with " + " or ".join(f"--{name}" for name in self._plain),
            )

    @property
    def _plain(self) -> list[str]:
        """The precisions that it has on every CPU."""
        return [name for name, needed in self.precisions.items() if not needed]


_ON_TENSORRT: Final[Mapping[str, tuple[str, ...]]] = {"fp32": (), "fp16": (), "int8": (), "int8+fp16": ()}

PYTORCH: Final = Runtime(
    name="pytorch",
    title="PyTorch",
    package="torch",
    distributions=("torch",),
    extra="export",
    precisions={"fp32": ()},
    target="",
    suffix="",
)
"""Eager mode: the baseline that engines are compared with; opened from weights, see ``edgefer.engines.load``."""

ONNXRUNTIME: Final = Runtime(
    name="onnxruntime",
    title="ONNX Runtime",
    label="onnxruntime",
    package="onnxruntime",
    distributions=("onnxruntime", "onnxruntime-gpu"),
    extra="cpu",
    precisions={"fp32": (), "int8": ()},
    opener="edgefer.engines.onnxruntime:open_model",
    schemes="edgefer.engines.onnxruntime:schemes",
    check="edgefer.engines.load:check_cpu_engine",
    facts="edgefer.engines.onnxruntime:facts",
)

OPENVINO: Final = Runtime(
    name="openvino",
    title="OpenVINO",
    package="openvino",
    distributions=("openvino",),
    extra="openvino",
    precisions={"fp32": (), "bf16": BF16, "int8": (), "int8+bf16": BF16},
    opener="edgefer.engines.openvino:open_model",
    schemes="edgefer.engines.openvino:schemes",
    check="edgefer.engines.load:check_cpu_engine",
)

TENSORRT: Final = Runtime(
    name="tensorrt",
    title="TensorRT",
    package="tensorrt",
    distributions=("tensorrt",),
    extra="tensorrt",
    precisions=_ON_TENSORRT,
    opener="edgefer.engines.tensorrt.run:open_model",
    target="tensorrt",
    suffix=".engine",
    check="edgefer.engines.tensorrt.run:check_built_for_here",
    facts="edgefer.engines.tensorrt.compat:facts",
    detector="edgefer.camera.detectors:tensorrt_opener",
)

TENSORRT_RTX: Final = Runtime(
    name="tensorrt-rtx",
    title="TensorRT-RTX",
    package="tensorrt_rtx",
    distributions=("tensorrt-rtx", "tensorrt-rtx-cu12"),
    extra="rtx",
    precisions=_ON_TENSORRT,
    opener="edgefer.engines.tensorrt.run:open_model",
    target="tensorrt-rtx",
    suffix=".engine",
    check="edgefer.engines.tensorrt.run:check_built_for_here",
)

RUNTIMES: Final[dict[str, Runtime]] = {
    row.name: row for row in (PYTORCH, ONNXRUNTIME, OPENVINO, TENSORRT, TENSORRT_RTX)
}
"""Name → row, in the order in which people are shown them."""

REFERENCE: Final = ONNXRUNTIME
"""Runs what an export is, and says what a file for another runtime means: it can run a file's nodes one by one."""


def runtime_named(name: str) -> Runtime:
    """The row called ``name``.

    Raises:
        EdgeferError: there is none.
    """
    if name not in RUNTIMES:
        raise EdgeferError(
            f"this edgefer has no runtime '{name}'",
            hint=f"it has {', '.join(RUNTIMES)}: build the engine again for one of them",
        )
    return RUNTIMES[name]


def for_target(target: str) -> dict[str, Runtime]:
    """Name → row of the runtimes whose engines are built for ``target``."""
    return {name: row for name, row in RUNTIMES.items() if row.target == target}


def targets() -> tuple[str, ...]:
    """The targets that engines can be built for, the CPU first."""
    return tuple(dict.fromkeys(row.target for row in RUNTIMES.values() if row.target))


def for_detectors() -> tuple[str, ...]:
    """Names of the runtimes that the camera's face detector can run in."""
    return tuple(name for name, row in RUNTIMES.items() if row.detector or (row.opener and row.target == CPU))


def engine_suffixes() -> tuple[str, ...]:
    """The suffixes of engines' files."""
    return tuple(dict.fromkeys(row.suffix for row in RUNTIMES.values() if row.suffix))


def title_of(name: str) -> str:
    """The title of the runtime called ``name``; the name itself where it is not in the table."""
    return RUNTIMES[name].title if name in RUNTIMES else name


def label_of(name: str) -> str:
    """The label of the runtime ``name`` in the rows of reports."""
    return (name in RUNTIMES and RUNTIMES[name].label) or title_of(name)


def resolve(text: str) -> Any:
    """The function that ``"module:function"`` names; its module is imported."""
    module, _, function = text.partition(":")
    return getattr(importlib.import_module(module), function)

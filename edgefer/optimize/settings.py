"""Settings of a build: those of calibration and quantisation, the target, and calibration recipes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import edgefer
from edgefer.data import FaceSet
from edgefer.errors import EdgeferError
from edgefer.limits import check_whole
from edgefer.quantize.corrections import BIAS, ROUNDING
from edgefer.quantize.ranges import METHODS
from edgefer.runtimes import CPU, REFERENCE, RUNTIMES, targets

AUTO: Final = "auto"
"""As a precision: choose the fastest engine. As a method: choose the one with the smallest error on `val`."""

EQUALISE: Final = "equalise"
CORRECTIONS: Final = (EQUALISE, ROUNDING, BIAS)
"""Names of the corrections, in the order in which they run."""
DEFAULT_CORRECTIONS: Final = (EQUALISE, BIAS)
"""Corrections that gain more than they cost on every network: see docs/quantisation.md."""

_OPTIONS: Final = {
    "data": "--calib",
    "faces": "--calib-faces",
    "table": "--calibration-table",
    "version": "--for",
}
"""Options that are not called as their settings are."""


@dataclass(frozen=True)
class BuildTarget:
    """The target of an engine; None leaves a setting at its default.

    Attributes:
        name: one of :func:`edgefer.runtimes.targets`.
        runtime: runtime of a CPU; :data:`edgefer.runtimes.REFERENCE` by default.
        threads: used when timing candidates, where one has to be chosen; 1 by default.
        batch: images in a timed call; 1 by default.
        version: version of TensorRT, or a JetPack, that ``onnx_only`` writes for; else the one that is installed.
        builder: options of TensorRT's builder: :data:`edgefer.engines.tensorrt.options.NAMES`.
    """

    name: str = CPU
    runtime: str | None = None
    threads: int | None = None
    batch: int | None = None
    version: str | None = None
    builder: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, target: str | BuildTarget) -> BuildTarget:
        """A target by its name alone, or as it is."""
        return cls(target) if isinstance(target, str) else target


@dataclass(frozen=True)
class Quantisation:
    """Settings of calibration and quantisation; None leaves a setting to the architecture's recipe.

    Attributes:
        data: a data set (path or FaceSet). Its ``calib`` part sets the ranges unless the path names a split; where
            something is chosen by answers, its ``val`` part evaluates.
        faces: number of calibration images, stratified over the classes.
        per_class: number of calibration images of each class instead, or all there are.
        method: calibration method, one of :data:`edgefer.quantize.ranges.METHODS`; ``"auto"`` tries all.
        seed: seed of the sample of calibration images.
        corrections: a subset of :data:`CORRECTIONS`; :data:`DEFAULT_CORRECTIONS` if None.
        table: a calibration table instead of ``data``, as `edgefer calibrate` wrote it; without both, the one that
            ships for the weights.
        max_drop: percentage points of top-1 on ``val``. With ``"auto"``: tolerated (0.5 by default). With INT8:
            certified, keeping layers in float where that is needed.
    """

    data: str | FaceSet | None = None
    faces: int | None = None
    per_class: int | None = None
    method: str | None = None
    seed: int | None = None
    corrections: Collection[str] | None = None
    table: str | os.PathLike[str] | None = None
    max_drop: float | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the settings that are not None."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)

    @property
    def evaluates(self) -> bool:
        """Whether answers on ``val`` decide something about an INT8 file."""
        return self.max_drop is not None or self.method == AUTO

    def recipe(self, architecture: str) -> CalibrationRecipe:
        """The architecture's recipe with what was asked for; its own method where one is to be chosen."""
        usual = recipe_for(architecture)
        return CalibrationRecipe(
            usual.faces if self.faces is None else self.faces,
            usual.seed if self.seed is None else self.seed,
            usual.method if self.method in (None, AUTO) else str(self.method),
            self.per_class,
        )

    def check(
        self,
        target: str | BuildTarget,
        precision: str,
        *,
        onnx_only: bool = False,
        command: str = "build-engine",
    ) -> None:
        """Refuse what has no effect with something else, excludes something else, or lacks what it needs.

        This is the only place that decides that, for Python and for the command line; messages use the options' names.

        Args:
            target: the target of the build.
            precision: ``"auto"``, ``"fp32"``, ``"int8+fp16"``, ….
            onnx_only: whether the build stops at the ONNX file.
            command: ``"build-engine"``, ``"calibrate"``, ``"sensitivity"`` or ``"deploy bundle"``.

        Raises:
            EdgeferError: names the options and the reason.
        """
        goal = BuildTarget.of(target)
        if goal.name not in targets():
            raise EdgeferError(f"there is no target '{goal.name}'", hint=f"one of: {', '.join(targets())}")
        known = {AUTO, *(name for row in RUNTIMES.values() for name in row.precisions)}
        if precision not in known:
            raise EdgeferError(f"there is no precision '{precision}'", hint=f"one of: {', '.join(sorted(known))}")
        for name in ("threads", "batch"):
            check_whole(option_of(name), getattr(goal, name), name)
        if precision == AUTO and goal.name != CPU:
            raise EdgeferError("--auto chooses among what this CPU can run", hint="leave out --target")
        self._check_values()
        asked = {*self.given, *goal.builder}
        asked |= {name for name in ("runtime", "threads", "batch", "version") if getattr(goal, name) is not None}
        asked |= {"onnx_only"} if onnx_only else set()
        for names, reason in self._without_effect(goal, precision, onnx_only, command):
            refuse_idle([option_of(name) for name in names if name in asked], reason)
        if "calibrator" in goal.builder and precision.startswith("int8"):
            self._check_calibrator(goal.builder, onnx_only)
        if command in ("calibrate", "sensitivity"):
            self._check_measured(command)
        if self.data is None:
            self._check_needs(precision, command)
        if goal.name == CPU or (self.data is not None and "calibrator" not in goal.builder):
            REFERENCE.require(f"{command} for {goal.name}")
        if goal.runtime in RUNTIMES:
            RUNTIMES[goal.runtime].require(f"{command} for {goal.runtime}")

    def _check_values(self) -> None:
        for name, kind in (("faces", "count"), ("per_class", "count"), ("seed", "seed")):
            check_whole(option_of(name), getattr(self, name), kind)
        if self.max_drop is not None and not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            raise EdgeferError(
                f"--max-drop is {self.max_drop:g}, and a drop is 0 points or more", hint="--max-drop 0.5"
            )
        if self.faces is not None and self.per_class is not None:
            raise EdgeferError(
                f"{self.faces} faces in all and {self.per_class} of each class exclude each other",
                hint="leave out --calib-faces or --per-class",
            )
        if self.data is not None and self.table is not None:
            raise EdgeferError(
                f"--calib and --calibration-table both set the ranges ({self.table})", hint="leave out one"
            )
        if self.method not in (None, AUTO, *METHODS):
            raise EdgeferError(f"there is no calibration method '{self.method}'", hint=f"one of: {', '.join(METHODS)}")
        check_corrections(self.corrections or ())

    def _without_effect(
        self, target: BuildTarget, precision: str, onnx_only: bool, command: str
    ) -> Iterable[tuple[Collection[str], str]]:
        """(settings, "with …" or "without …" in which they have no effect), sorted by how well the reason explains."""
        everything = [f.name for f in fields(self)]
        if target.name == CPU:
            yield ("version", *target.builder), f"with --target {CPU}: it is for {', '.join(targets()[1:])}"
        else:
            yield ("runtime", "threads", "batch"), f"with --target {target.name}"
        if command in ("calibrate", "sensitivity"):
            yield ("table", "max_drop"), f"with {command}"
        if command == "deploy bundle":
            yield ("method", "corrections", "max_drop"), "with deploy bundle: the device builds with the recipe's"
        if precision == AUTO:
            yield ("runtime", "onnx_only", "table"), "with --auto"
        elif not precision.startswith("int8"):
            ranges = (*everything, "threads", "batch", "calibrator", "calib_cache")
            yield ranges, f"with --{precision.replace('+', ' --')}"
        if "calibrator" not in target.builder:
            yield ("calib_cache",), "without --calibrator: it is a table for TensorRT's own"
        if precision == "fp32" and target.builder.get("sparsity"):
            yield ("sparsity",), "with --fp32: sparse kernels compute in FP16, INT8 and TF32, which is switched off"
        if "calibrator" in target.builder and not onnx_only:
            own = self.corrections is None or set(self.corrections) <= {EQUALISE}  # others exclude a calibrator
            names = ("method", "corrections") if self.method != AUTO and own else ()
            yield names, "with --calibrator: TensorRT's own calibrator sets the ranges"
        if self.data is None:
            yield ("faces", "per_class", "seed"), "without --calib"

    def _check_calibrator(self, builder: Mapping[str, Any], onnx_only: bool) -> None:
        """TensorRT's own calibrator sets the ranges, of images or of its own cache, and there are no Q/DQ."""
        wrong = [name for name in ("table", "max_drop") if getattr(self, name) is not None]
        wrong += ["corrections"] if set(self.corrections or ()) - {EQUALISE} else []
        flags = [option_of(name) for name in wrong] + (["--method auto"] if self.method == AUTO else [])
        if flags:
            raise EdgeferError(
                f"{', '.join(flags)} and --calibrator exclude each other: there INT8 is TensorRT's own choice",
                hint="leave out --calibrator: Q/DQ then say what is INT8",
            )
        cache = builder.get("calib_cache")
        if cache is not None and onnx_only:
            raise EdgeferError(
                f"--onnx-only writes a calibration cache, and {cache} is one already",
                hint="give --calib DATA instead of --calib-cache, or leave --onnx-only out where the engine is built",
            )
        if cache is not None and self.data is not None:
            raise EdgeferError("--calib and --calib-cache both set the ranges", hint="leave out one")
        if cache is None and self.data is None:
            raise EdgeferError(
                "--calibrator needs faces, or a cache of their ranges", hint="--calib DATA, or --calib-cache x.calib"
            )

    def _check_measured(self, command: str) -> None:
        if self.method == AUTO:
            raise EdgeferError(
                f"--method auto has no effect with {command}: it chooses among engines, and none is built",
                hint=f"one of: {', '.join(METHODS)}; or build-engine --method auto",
            )
        for name in self.corrections or ():
            if name != EQUALISE and command == "calibrate":
                raise EdgeferError(
                    f"{name} depends on the engine's scheme and cannot be kept in a calibration table",
                    hint=f"--corrections {EQUALISE}, or --corrections none",
                )

    def _check_needs(self, precision: str, command: str) -> None:
        if command in ("calibrate", "sensitivity"):
            what = f"{command} needs faces"
        elif precision == AUTO:
            what = "--auto needs faces to set ranges and to evaluate"
        elif self.evaluates:
            what = f"{'--max-drop' if self.max_drop is not None else '--method auto'} needs faces to evaluate"
        else:
            return
        raise EdgeferError(f"{what}, and none were given", hint="--calib DATA")


def option_of(name: str) -> str:
    """The option of the command line for a setting."""
    return _OPTIONS.get(name, f"--{name.replace('_', '-')}")


def refuse_idle(options: Collection[str], reason: str) -> None:
    """Refuse ``options``, if there are any: whoever gives one expects an effect.

    Raises:
        EdgeferError: they have no effect, ``reason``: "with …" or "without …".
    """
    if options:
        verb, them = ("has", "it") if len(options) == 1 else ("have", "them")
        raise EdgeferError(f"{', '.join(options)} {verb} no effect {reason}", hint=f"leave {them} out")


def parse_corrections(text: str) -> tuple[str, ...]:
    """``"bias,equalise"`` → corrections in the order in which they run; ``"none"`` is none of them.

    Raises:
        EdgeferError: a name that is no correction.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["none"]:
        return ()
    check_corrections(names)
    return tuple(name for name in CORRECTIONS if name in names)


def check_corrections(names: Iterable[str]) -> None:
    """Raise an EdgeferError where a name is no correction."""
    for name in names:
        if name not in CORRECTIONS:
            raise EdgeferError(
                f"there is no correction '{name}'", hint=f"a list of {', '.join(CORRECTIONS)}, or the word none"
            )


@dataclass(frozen=True)
class CalibrationRecipe:
    """Recipe of the ranges: a stratified sample of ``faces`` images with ``seed``, histograms cut by ``method``.

    With ``per_class``, that many images of each class instead of ``faces`` in all, or as many as there are.
    """

    faces: int
    seed: int
    method: str
    per_class: int | None = None


def recipe_for(architecture: str) -> CalibrationRecipe:
    """The recipe of ``architecture``, or the default one."""
    folder = recipes_folder()
    path = folder / f"{architecture}.json"
    content = json.loads((path if path.is_file() else folder / "default.json").read_text(encoding="utf-8"))
    return CalibrationRecipe(int(content["faces"]), int(content["seed"]), str(content["method"]))


def recipes_folder() -> Path:
    """``calibration/``: inside an installed wheel, beside the package in a checkout."""
    package = Path(edgefer.__file__).parent
    inside = package / "calibration"
    return inside if inside.is_dir() else package.parent / "calibration"

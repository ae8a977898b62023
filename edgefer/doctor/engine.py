"""Whether an engine runs on this machine: it is tried, in a process that may die of it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgefer.deploy.lineage import Lineage, lineage_of
from edgefer.doctor.abilities import Ability, abilities_of
from edgefer.doctor.asking import try_engine
from edgefer.doctor.diagnosis import Diagnosis
from edgefer.engines.load import WEIGHTS_SUFFIXES
from edgefer.errors import EdgeferError
from edgefer.manifest import Manifest, read_manifest
from edgefer.optimize.tables import shipped_table

SCHEMA: Final = 1
_SUFFIXES: Final = (".onnx", ".engine")
_OF_TENSORRT: Final = ("tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class Verdict:
    """Whether an engine runs here.

    Attributes:
        engine: the file.
        what: precision and runtime, as its manifest says; ``""`` without one.
        runs: whether it was loaded and, with a manifest, answered its golden faces as when it was built.
        why: why not; ``""`` where it runs.
        hint: what the loader advises; ``""`` where it does not.
        install: commands that bring what this engine lacks here; empty where nothing that can be installed is missing.
        build: the command that makes an engine that runs here, from the same network.
    """

    engine: Path
    what: str
    runs: bool
    why: str = ""
    hint: str = ""
    install: tuple[str, ...] = ()
    build: str = ""

    def to_json(self) -> dict[str, Any]:
        """One object; its keys are those of docs/doctor.md."""
        return {
            "schema": SCHEMA,
            "engine": str(self.engine),
            "what": self.what,
            "runs": self.runs,
            "why": self.why,
            "hint": self.hint,
            "install": list(self.install),
            "build": self.build,
        }


def judge(engine: Path, found: Diagnosis) -> Verdict:
    """Try ``engine`` on the machine that was ``found``.

    Raises:
        EdgeferError: there is no such file, or it is not an engine at all.
    """
    _check_is_engine(engine)
    manifest = _manifest(engine)
    what = (
        ""
        if manifest is None
        else f"{manifest.precision.got.upper()} for {manifest.runtime} {manifest.runtime_version}"
    )
    if manifest is not None and manifest.device:
        what += f" on {manifest.device}"
    problem = try_engine(engine)["problem"]
    if problem is None:
        return Verdict(engine, what, True)
    abilities = {ability.key: ability for ability in abilities_of(found)}
    return Verdict(
        engine,
        what,
        False,
        why=str(problem["message"]),
        hint=str(problem["hint"] or ""),
        install=_install(engine, manifest, abilities),
        build=_build(engine, manifest, abilities),
    )


def _check_is_engine(engine: Path) -> None:
    if not engine.is_file():
        raise EdgeferError(
            f"there is no engine {engine}" if not engine.exists() else f"{engine} is not a file",
            hint="check the path; `edgefer build-engine model.onnx --int8 -o x.onnx` makes engines",
        )
    if engine.suffix not in _SUFFIXES:
        weights = engine.suffix in WEIGHTS_SUFFIXES
        raise EdgeferError(
            f"{engine} is not an engine: '{engine.suffix}' is neither .onnx nor .engine",
            hint="weights become an engine by `edgefer export`, then `edgefer build-engine`"
            if weights
            else "give an .onnx or .engine file that `edgefer build-engine` wrote",
        )


def _manifest(engine: Path) -> Manifest | None:
    """None where there is none, or one that cannot be read: the trial says which."""
    try:
        return read_manifest(engine)
    except EdgeferError:
        return None


def _is_tensorrt(engine: Path, manifest: Manifest | None) -> bool:
    return engine.suffix == ".engine" if manifest is None else manifest.runtime in _OF_TENSORRT


def _install(engine: Path, manifest: Manifest | None, abilities: dict[str, Ability]) -> tuple[str, ...]:
    kinds = {"openvino": "openvino", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
    unstated = "tensorrt" if engine.suffix == ".engine" else "onnxruntime"
    key = unstated if manifest is None else kinds.get(manifest.runtime, "onnxruntime")
    return () if abilities[key].works else abilities[key].commands


def _build(engine: Path, manifest: Manifest | None, abilities: dict[str, Ability]) -> str:
    """With TensorRT if the engine is TensorRT's and it works here, else for this CPU."""
    lineage = None if manifest is None else lineage_of(engine, manifest)
    precision = "fp32" if manifest is None else manifest.precision.got
    if _is_tensorrt(engine, manifest) and abilities["tensorrt"].works:
        return _line(lineage, precision, ["--target", "tensorrt"], engine.with_suffix(".engine"), shipped=False)
    asked = "int8" if "int8" in precision else "fp32" if precision == "fp16" else precision
    runtime = [] if abilities["onnxruntime"].works or not abilities["openvino"].works else ["--runtime", "openvino"]
    if manifest is not None and manifest.runtime == "openvino" and abilities["openvino"].works:
        runtime = ["--runtime", "openvino"]
    return _line(lineage, asked, runtime, engine.with_suffix(".onnx"), shipped=True)


def _line(lineage: Lineage | None, precision: str, target: list[str], output: Path, *, shipped: bool) -> str:
    model = "model.onnx" if lineage is None or lineage.model.file is None else str(lineage.model.file)
    words = ["edgefer", "build-engine", model, *(f"--{part}" for part in precision.split("+"))]
    needs_faces = "int8" in precision and not (shipped and lineage is not None and _has_table(lineage))
    words += ["--calib", "DATA"] if needs_faces else []
    if output.name == Path(model).name:
        output = output.with_name(f"{output.stem}.{precision.replace('+', '-')}{output.suffix}")
    return shlex.join([*words, *target, "-o", str(output)])


def _has_table(lineage: Lineage) -> bool:
    """Whether ranges for these weights ship with edgefer, so that INT8 needs no faces."""
    return shipped_table(lineage.architecture, lineage.weights.sha256) is not None

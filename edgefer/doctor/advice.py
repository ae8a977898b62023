"""What edgefer can do on a machine, whether an engine runs on it and, where not, what to type so that it does.

docs/jetson.md says why the commands are these: on a Jetson TensorRT and OpenCV are the system's, and nothing may be
installed over them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edgefer.doctor.probe import Diagnosis
from edgefer.doctor.software import try_engine
from edgefer.engines.load import check_is_engine
from edgefer.engines.tensorrt.compat import Target, parse_version, supported
from edgefer.errors import EdgeferError
from edgefer.manifest import Manifest, read_manifest
from edgefer.runtimes import (
    CPU,
    PYTORCH,
    REFERENCE,
    RUNTIMES,
    TENSORRT,
    TENSORRT_RTX,
    Runtime,
    for_target,
)

Kind = Literal["jetpack4", "jetpack5", "jetpack6", "jetpack7", "nvidia", "plain"]

ADAPTERS: Final = ("cuda", "pycuda")
"""Python packages through which GPU memory is taken; one is enough."""

_VENV: Final = "edgefer-env"
_FROM_A_HOST: Final = (
    "edgefer deploy bundle model.onnx -o bundle  # on a host",
    "sh bundle/run.sh --with trtexec  # here",
)
_NEWEST_CUDA: Final = 13


@dataclass(frozen=True)
class Capability:
    """One thing that edgefer does.

    Attributes:
        key: name for programs.
        what: to complete "edgefer can …".
        why: why it cannot here; ``""`` where it can.
        commands: install hints; empty where nothing helps.
    """

    key: str
    what: str
    why: str = ""
    commands: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether edgefer can do it here."""
        return not self.why


@dataclass(frozen=True)
class EngineVerdict:
    """Whether an engine runs here.

    Attributes:
        engine: the file.
        what: precision and runtime, as its manifest says; ``""`` without one.
        runs: whether it was loaded and, with a manifest, answered its golden faces as when it was built.
        why: why not; ``""`` where it runs.
        hint: hint of the loader; ``""`` where there is none.
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


def kind_of(found: Diagnosis) -> Kind:
    """The kind of machine that install hints depend on."""
    jetsons: dict[str, Kind] = {"4": "jetpack4", "5": "jetpack5", "6": "jetpack6", "7": "jetpack7"}
    generation = (found.jetpack or "").split(".")[0]
    if generation in jetsons:
        return jetsons[generation]
    return "nvidia" if found.driver.cuda is not None or found.machine.nvidia_pci else "plain"


def capabilities_of(found: Diagnosis) -> tuple[Capability, ...]:
    """All of them, in the order in which they are shown; every key is there on every machine."""
    train = "train networks, export them, compare with PyTorch"
    bundle = "write what a Jetson builds from: --onnx-only, deploy bundle"  # it calibrates and checks files
    return (
        *_engines(found),
        _tensorrt(found),
        _trtexec(found),
        _ahead_of_time(found),
        _runtime(found, "onnx_only", REFERENCE, bundle),
        _runtime(found, "train", PYTORCH, train),
        _needs(found, "camera", "cv2", "read pictures and cameras", "camera"),
        _csi(found),
    )


def before_measuring(found: Diagnosis) -> tuple[str, ...]:
    """Commands for clocks that stand still while something is measured."""
    mode = found.power
    if mode is None:
        return ()
    faster = () if mode.unlimited in (None, mode.number) else (f"sudo nvpmodel -m {mode.unlimited}",)
    return (*faster, "sudo jetson_clocks")


def _engines(found: Diagnosis) -> Iterator[Capability]:
    for row in RUNTIMES.values():
        if row not in (PYTORCH, TENSORRT, TENSORRT_RTX):
            kind = "engines for this CPU" if row.target == CPU else "engines"
            yield _runtime(found, row.package, row, f"build, run and bench {kind} with {row.title}")


def _runtime(found: Diagnosis, key: str, row: Runtime, what: str) -> Capability:
    return _needs(found, key, row.package, what, row.extra)


def _needs(found: Diagnosis, key: str, package: str, what: str, extra: str) -> Capability:
    """A capability that needs one Python package, which ``extra`` installs."""
    module = found.module(package)
    if module.works:
        return Capability(key, what)
    return Capability(key, what, f"{package}: {module.problem}", _install_extra(found, package, extra))


def _tensorrt(found: Diagnosis) -> Capability:
    what = "build, run and bench TensorRT engines"
    why = next(_against_tensorrt(found), "")
    if why:
        return Capability(TENSORRT.package, what, why, _install_tensorrt(found))
    version = found.module(TENSORRT.package).version
    return Capability(TENSORRT.package, f"{what} for {found.driver.devices[0]} with TensorRT {version}")


def _against_tensorrt(found: Diagnosis) -> Iterator[str]:
    """Every reason why TensorRT's Python cannot be used, sorted by what has to be installed first."""
    if found.driver.problem is not None:
        yield found.driver.problem.message
    elif not found.driver.devices:
        yield "the driver has no GPU"
    module = found.module(TENSORRT.package)
    if not module.works and kind_of(found) == "jetpack5":
        yield "JetPack 5's TensorRT is for Python 3.8, and edgefer needs 3.10: trtexec builds engines there"
    if module.version is None:
        yield f"Python's tensorrt: {module.problem}"
        return
    try:
        supported(Target(module.version, parse_version(module.version)))
    except EdgeferError as fault:
        yield fault.message
    library, serves = found.libraries.tensorrt, found.driver.cuda
    if serves is not None:
        newest = _major(serves)
        served = f"and the driver serves CUDA up to {serves}"
        wheel = module.details.get("for_cuda")
        if wheel is not None:
            if wheel > newest:
                yield f"Python's TensorRT {module.version} is for CUDA {wheel}, {served}"
        elif library is not None and library.cuda is not None and _major(library.cuda) > newest:
            yield f"TensorRT {library.version} is for CUDA {library.cuda}, {served}"
        bindings = found.module("cuda").details.get("for_cuda", 0)
        if bindings > newest:
            yield f"cuda-bindings is for CUDA {bindings}, {served}"
    if not any(found.module(name).works for name in ADAPTERS):
        problems = ", ".join(f"{name}: {found.module(name).problem}" for name in ADAPTERS)
        yield f"no Python package can take memory on the GPU ({problems})"


def _trtexec(found: Diagnosis) -> Capability:
    what = "build TensorRT engines with trtexec, from a bundle that a host made"
    tool, problem, kind = found.libraries.trtexec, found.driver.problem, kind_of(found)
    if tool is not None and found.driver.devices:
        return Capability("trtexec", what)
    commands: tuple[str, ...] = ()
    if kind == "nvidia":
        commands = (*_driver_commands(found), "sudo apt install libnvinfer-bin  # from NVIDIA's repository of packages")
    elif kind != "plain":
        commands = (*_driver_commands(found), *(() if tool else ("sudo apt install libnvinfer-bin",)))
    why = "trtexec was not found" if tool is None or problem is None else problem.message
    return Capability("trtexec", what, why, commands)


def _ahead_of_time(found: Diagnosis) -> Capability:
    what = "check files ahead of time with TensorRT-RTX's compiler"
    row, architecture = TENSORRT_RTX, found.machine.architecture
    if architecture != "x86_64" and not found.module(row.package).works:
        return Capability(row.package, what, f"there is no {row.distributions[0]} for {architecture}")
    return _runtime(found, row.package, row, what)


def _csi(found: Diagnosis) -> Capability:
    what, opencv = "read a Jetson's CSI camera", found.module("cv2")
    if found.l4t is None:
        return Capability("csi", what, "this machine is not a Jetson")
    if opencv.details.get("gstreamer"):
        return Capability("csi", what)
    if opencv.works:  # pip's hides the system's
        commands = ("pip uninstall opencv-python", "sudo apt install libopencv-python")
        return Capability("csi", what, "OpenCV was built without GStreamer", commands)
    return Capability("csi", what, f"cv2: {opencv.problem}", _install_extra(found, "cv2", "camera"))


def _major(version: str) -> int:
    return int(version.split(".", maxsplit=1)[0])


def _cuda_major(found: Diagnosis) -> int | None:
    """CUDA's major version: that of the driver or, without one, that of the system's libraries."""
    serves = found.driver.cuda or (found.libraries.cuda.version if found.libraries.cuda else "")
    major = serves.split(".", maxsplit=1)[0]
    return int(major) if major.isdigit() else None


def _cuda_python(found: Diagnosis) -> str:
    """The requirement for cuda-python: its major version is CUDA's, and a newer one asks for a newer driver."""
    return f"'cuda-python<{(_cuda_major(found) or _NEWEST_CUDA) + 1}'"


def _has_own_environment(found: Diagnosis) -> bool:
    """Whether edgefer belongs into an environment that sees the system's packages: on JetPack 6 and 7."""
    return kind_of(found) in ("jetpack6", "jetpack7")


def _install_tensorrt(found: Diagnosis) -> tuple[str, ...]:
    """Pip's TensorRT for this driver; what is called ``tensorrt`` alone is for CUDA 13.

    https://docs.nvidia.com/deeplearning/tensorrt/11.4.1/installing-tensorrt/install-pip.html
    """
    kind = kind_of(found)
    if kind in ("jetpack4", "plain"):
        return ()
    if kind == "jetpack5":
        return _FROM_A_HOST
    driver = _driver_commands(found)
    if _has_own_environment(found):
        needed = [] if found.libraries.tensorrt else ["nvidia-jetpack"]
        needed += [] if found.libraries.python_bindings else ["python3-libnvinfer"]
        apt = f"sudo apt install {' '.join([*needed, 'python3-venv'])}"
        return (*driver, apt, *_environment_pip("edgefer", _cuda_python(found)))
    major, here = _cuda_major(found), found.module(TENSORRT.package).details.get("for_cuda")
    wrong: tuple[str, ...] = ()
    if here is not None and major is not None and here > major:  # wheels for two CUDAs lie in the same folders
        names = " ".join(f"tensorrt-cu{here}{part}" for part in ("", "-libs", "-bindings"))
        wrong = (f"pip uninstall tensorrt {names}",)
    wheel = TENSORRT.distributions[0] if major is None else f"tensorrt-cu{min(major, _NEWEST_CUDA)}"
    return (*driver, *wrong, f"pip install edgefer {wheel} {_cuda_python(found)}")


def _install_extra(found: Diagnosis, package: str, extra: str) -> tuple[str, ...]:
    """A Python package that an extra of edgefer brings; the system's own one where a Jetson has it."""
    if not _has_own_environment(found):
        return (f"pip install 'edgefer[{extra}]'",)
    if package == "cv2":
        return ("sudo apt install libopencv-python", *_environment_pip("edgefer"))
    return _environment_pip(f"'edgefer[{extra}]'")


def _driver_commands(found: Diagnosis) -> tuple[str, ...]:
    if found.driver.problem is None:
        return ()
    if found.l4t is not None:
        return ("docker run --runtime nvidia …  # if this is a container",)
    if found.driver.cuda is not None:
        return ("nvidia-smi  # says why no GPU can be used", "docker run --gpus all …  # if this is a container")
    names = {"ubuntu": "sudo ubuntu-drivers install", "debian": "sudo apt install nvidia-driver"}
    return (names.get(found.machine.distribution or "", "# install NVIDIA's driver: https://www.nvidia.com/drivers"),)


def _environment_pip(*packages: str) -> tuple[str, ...]:
    """NumPy below 2: the system's OpenCV was compiled for it."""
    install = " ".join((*packages, "'numpy<2'"))
    return (f"python3 -m venv --system-site-packages {_VENV}", f"{_VENV}/bin/pip install {install}")


def engine_verdict(engine: Path, found: Diagnosis) -> EngineVerdict:
    """Try ``engine`` on the machine that was ``found``, in a process that may die of it.

    Raises:
        EdgeferError: there is no such file, or it is not an engine at all.
    """
    check_is_engine(engine)
    manifest, what = _manifest(engine), ""
    if manifest is not None:
        what = f"{manifest.precision.got.upper()} for {manifest.runtime} {manifest.runtime_version}"
        what += f" on {manifest.device}" if manifest.device else ""
    problem = try_engine(engine)["problem"]
    if problem is None:
        return EngineVerdict(engine, what, True)
    row = next(row for row in RUNTIMES.values() if row.suffix == engine.suffix)
    if manifest is not None:
        row = RUNTIMES.get(manifest.runtime, row)
    capabilities = {capability.key: capability for capability in capabilities_of(found)}
    lacks = capabilities[row.package]
    return EngineVerdict(
        engine,
        what,
        False,
        why=str(problem["message"]),
        hint=str(problem["hint"] or ""),
        install=() if lacks.works else lacks.commands,
        build=_build(engine, manifest, row, {key: one.works for key, one in capabilities.items()}),
    )


def _manifest(engine: Path) -> Manifest | None:
    """The engine's manifest; None where there is none, or one that cannot be read: the trial says which."""
    try:
        return read_manifest(engine)
    except EdgeferError:
        return None


def _build(engine: Path, manifest: Manifest | None, row: Runtime, works: Mapping[str, bool]) -> str:
    """With the engine's own runtime if that works here (for TensorRT-RTX that is TensorRT), else for this CPU."""
    precision = "fp32" if manifest is None else manifest.precision.got
    row = TENSORRT if row is TENSORRT_RTX else row
    if row.target == CPU or not works[row.package]:
        precision = "int8" if "int8" in precision else "fp32" if precision == "fp16" else precision
        working = [one for one in for_target(CPU).values() if works[one.package]]
        row = row if row in working else next(iter(working), REFERENCE)
    target = [] if row is REFERENCE else row.option.split()
    model, needs_faces = "model.onnx", "int8" in precision
    if manifest is not None:
        from edgefer.deploy.inspect import lineage_of  # both import onnx
        from edgefer.optimize.calibration_table import shipped_table

        lineage = lineage_of(engine, manifest.contract, manifest.model_sha256, manifest.weights_sha256)
        model = str(lineage.model.file or model)
        shipped = shipped_table(lineage.architecture, lineage.weights.sha256)
        needs_faces = needs_faces and (row.target != CPU or shipped is None)
    output = engine.with_suffix(row.suffix)
    if output.name == Path(model).name:
        output = output.with_name(f"{output.stem}.{precision.replace('+', '-')}{output.suffix}")
    words = ["edgefer", "build-engine", model, *(f"--{part}" for part in precision.split("+"))]
    words += ["--calib", "DATA"] if needs_faces else []
    return shlex.join([*words, *target, "-o", str(output)])

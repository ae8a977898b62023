"""The NVIDIA driver and the Python packages, each asked in a process of its own: a package that crashes, hangs or ends
its process does so there, and is told.

The child process runs :func:`main`. Its answer is the last line of stdout that is a JSON object: a package may print
before it, and when the process ends.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

import edgefer
from edgefer.engines.tensorrt.cuda import Device, Driver, survey
from edgefer.errors import EdgeferError, import_package
from edgefer.interrupts import die_with_parent
from edgefer.runtimes import PYTORCH, RUNTIMES, resolve

_CHILD: Final = """
import sys
sys.path = [folder for folder in sys.path if folder]  # not from here: where somebody has cloned onnxruntime, say
from edgefer.doctor.software import main
main()
"""

_IMPORTED_AS: Final = {
    "opencv-python": "cv2",
    "cuda-python": "cuda",
    **{name: row.package for row in RUNTIMES.values() for name in row.distributions},
    "tensorboardx": "tensorboardX",
}
"""Package → the name that it is imported by, where that is another."""

TIMEOUT: Final = 20.0
"""Seconds after which a process is given up; a healthy one takes less than one."""


@dataclass(frozen=True)
class Module:
    """A Python package: its version, why it cannot be used, and what else it told."""

    version: str | None
    problem: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        """Whether the package was imported."""
        return self.version is not None and self.problem is None


ABSENT: Final = Module(None, "not installed")


def probe_software() -> tuple[Driver, dict[str, Module]]:
    """The driver, and the Python packages by the names that they are imported by.

    They are the package of every runtime in the table, what takes memory on a GPU, and OpenCV. PyTorch is not imported,
    since that takes seconds.
    """
    questions = {name: ("package", name, facts) for name, facts in _packages().items() if _is_here(name)}
    answers = _ask({"driver": ("driver",), **questions})
    modules = {name: _module(answers[name]) if name in answers else ABSENT for name in _packages()}
    try:
        modules[PYTORCH.package] = Module(version(PYTORCH.distributions[0]))
    except PackageNotFoundError:
        modules[PYTORCH.package] = ABSENT
    return _read_driver(answers["driver"]), modules


def missing_of_extras() -> dict[str, tuple[str, ...]]:
    """Extra of edgefer but ``dev`` → what ``pip install 'edgefer[EXTRA]'`` would bring that cannot be imported here.

    Empty where edgefer's metadata are not installed. A package counts by the name that it is imported by, so that
    ``onnxruntime-gpu`` stands in for ``onnxruntime``.
    """
    try:
        lines = requires("edgefer") or []
    except PackageNotFoundError:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        package, extra = re.match(r"[\w.-]+", line), re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if package is None or extra is None or package.group() == "edgefer" or extra.group(1) == "dev":
            continue
        imported = _IMPORTED_AS.get(package.group(), package.group().replace("-", "_"))
        lacks = () if _is_here(imported) else (package.group(),)
        found[extra.group(1)] = (*found.get(extra.group(1), ()), *lacks)
    return found


def try_engine(path: Path, timeout: float = 300.0) -> dict[str, Any]:
    """Result of loading an engine in a process of its own: ``{"problem": None | {"message", "hint"}, …}``."""
    answer = _ask({"engine": ("engine", str(path))}, timeout)["engine"]
    if "error" in answer:
        return {"problem": {"message": f"loading it failed: {answer['error']}", "hint": None}}
    return answer


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # an incomplete package, or one that was put into sys.modules without a spec
        return False


def _packages() -> dict[str, str]:
    """Package → the function that is asked about it, see ``facts`` of :class:`edgefer.runtimes.Runtime`."""
    here = "edgefer.doctor.software"
    runtimes = {row.package: row.facts for row in RUNTIMES.values() if row is not PYTORCH}
    return {**runtimes, "cuda": f"{here}:cuda_bindings", "pycuda": f"{here}:pycuda", "cv2": f"{here}:opencv"}


def _ask(questions: Mapping[str, Sequence[str]], timeout: float = TIMEOUT) -> dict[str, dict[str, Any]]:
    """The answers to all questions, which are the arguments of :func:`main`, asked at the same time."""
    home = str(Path(edgefer.__file__).resolve().parents[1])
    search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", _CHILD, *question],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search},
        )
        for name, question in questions.items()
    }
    deadline = time.monotonic() + timeout
    try:
        return {name: _answer(process, deadline, timeout) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def _answer(process: subprocess.Popen[bytes], deadline: float, timeout: float) -> dict[str, Any]:
    try:
        output, _ = process.communicate(timeout=max(0.01, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return {"error": f"it did not answer within {timeout:.0f} s"}
    if process.returncode < 0:
        return {"error": f"ended its process by {signal.Signals(-process.returncode).name}"}
    line = next((line for line in reversed(output.splitlines()) if line.startswith(b"{")), b"")
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        return {"error": f"ended its process with status {process.returncode}"}
    return answer


def _module(answer: Mapping[str, Any]) -> Module:
    if "error" in answer:
        return Module(None, str(answer["error"]))
    return Module(str(answer["version"]), None, {key: value for key, value in answer.items() if key != "version"})


def _read_driver(answer: Mapping[str, Any]) -> Driver:
    if "error" in answer:
        return Driver(None, (), EdgeferError(f"the NVIDIA driver cannot be asked: {answer['error']}"))
    problem = answer["problem"]
    fault = None if problem is None else EdgeferError(problem["message"], problem["hint"])
    return Driver(answer["cuda"], tuple(Device(**device) for device in answer["devices"]), fault)


def main() -> None:
    """In the child process: answer ``driver``, ``package NAME FUNCTION`` or ``engine FILE``, or say what went wrong."""
    die_with_parent()
    questions: dict[str, Callable[..., dict[str, Any]]] = {"driver": _driver, "package": _package, "engine": _engine}
    try:
        answer = questions[sys.argv[1]](*sys.argv[2:])
    except (ImportError, OSError, AttributeError, RuntimeError, PackageNotFoundError) as cause:
        lines = [line for line in str(cause).splitlines() if line.strip()]
        answer = {"error": f"{type(cause).__name__}: {lines[0] if lines else ''}"}
    print("\n" + json.dumps(answer))


def _driver() -> dict[str, Any]:
    found = survey()
    problem = None if found.problem is None else {"message": found.problem.message, "hint": found.problem.hint}
    return {"cuda": found.cuda, "devices": [asdict(device) for device in found.devices], "problem": problem}


def _package(name: str, function: str) -> dict[str, Any]:
    if function:
        answer: dict[str, Any] = resolve(function)()
        return answer
    return {"version": str(import_package(name).__version__).split("-")[0]}


def _engine(path: str) -> dict[str, Any]:
    """Whether an engine loads and answers its golden faces, which loading asks."""
    from edgefer.engines.load import load_engine

    try:
        with load_engine(path) as engine:
            return {"problem": None, "runtime": engine.runtime, "version": engine.runtime_version}
    except EdgeferError as fault:
        return {"problem": {"message": fault.message, "hint": fault.hint}}


def opencv() -> dict[str, Any]:
    """OpenCV's version, and whether it was built with GStreamer."""
    cv2 = import_package("cv2")
    gstreamer = re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
    return {"version": str(cv2.__version__), "gstreamer": gstreamer}


def cuda_bindings() -> dict[str, Any]:
    """The version of cuda-bindings, and the CUDA that they are for."""
    driver = import_package("cuda.bindings.driver")
    return {"version": version("cuda-bindings"), "for_cuda": int(driver.CUDA_VERSION) // 1000}


def pycuda() -> dict[str, Any]:
    """The version of pycuda. It makes no context, as pycuda.autoinit would."""
    import_package("pycuda.driver")
    return {"version": version("pycuda")}

"""The NVIDIA driver and the Python packages, each asked in a process of its own: a package that crashes, hangs or ends
its process does so there, and is told.

The child process runs :func:`main`. Its answer is the last line of stdout that is a JSON object: a package may print
before it, and when the process ends.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import edgefer
from edgefer.engines.tensorrt.driver import Device, Driver, survey
from edgefer.errors import EdgeferError, import_package

_CHILD: Final = """
import sys
sys.path = [folder for folder in sys.path if folder]  # not from here: where somebody has cloned onnxruntime, say
from edgefer.doctor.software import main
main()
"""

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
        """Whether it was imported."""
        return self.version is not None and self.problem is None


ABSENT: Final = Module(None, "not installed")


def _driver() -> dict[str, Any]:
    found = survey()
    devices = [{"name": d.name, "capability": d.capability, "integrated": d.integrated} for d in found.devices]
    problem = None if found.problem is None else {"message": found.problem.message, "hint": found.problem.hint}
    return {"cuda": found.cuda, "devices": devices, "problem": problem}


def _plain(package: str) -> dict[str, Any]:
    return {"version": str(import_package(package).__version__).split("-")[0]}


def _onnxruntime() -> dict[str, Any]:
    ort = import_package("onnxruntime")
    return {"version": str(ort.__version__), "providers": list(ort.get_available_providers())}


def _tensorrt() -> dict[str, Any]:
    """With the CUDA that pip's TensorRT is for; one of the system has no such package, and is told by its library."""
    answer = _plain("tensorrt")
    for cuda in (11, 12, 13):
        try:
            version(f"tensorrt-cu{cuda}-libs")
        except PackageNotFoundError:
            continue
        answer["for_cuda"] = cuda
    return answer


def _opencv() -> dict[str, Any]:
    cv2 = import_package("cv2")
    gstreamer = re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
    return {"version": str(cv2.__version__), "gstreamer": gstreamer}


def _cuda_bindings() -> dict[str, Any]:
    driver = import_package("cuda.bindings.driver")
    return {"version": version("cuda-bindings"), "for_cuda": int(driver.CUDA_VERSION) // 1000}


def _pycuda() -> dict[str, Any]:
    import_package("pycuda.driver")  # makes no context, as pycuda.autoinit would
    return {"version": version("pycuda")}


def _engine(path: str) -> dict[str, Any]:
    """Whether an engine loads and answers its golden faces, which loading asks."""
    from edgefer.engines.load import load_engine

    try:
        with load_engine(path) as engine:
            return {"problem": None, "runtime": engine.runtime, "version": engine.runtime_version}
    except EdgeferError as fault:
        return {"problem": {"message": fault.message, "hint": fault.hint}}


MODULES: dict[str, Callable[[], dict[str, Any]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": functools.partial(_plain, "openvino"),
    "tensorrt": _tensorrt,
    "tensorrt_rtx": functools.partial(_plain, "tensorrt_rtx"),
    "cuda": _cuda_bindings,
    "pycuda": _pycuda,
    "cv2": _opencv,
}
"""What is imported to be asked, by the name that it is imported by."""


def main() -> None:
    """In the child process: print what is known of ``driver``, ``engine FILE`` or a package, or the error."""
    questions: dict[str, Callable[..., dict[str, Any]]] = {"driver": _driver, "engine": _engine, **MODULES}
    try:
        answer = questions[sys.argv[1]](*sys.argv[2:])
    except (ImportError, OSError, AttributeError, RuntimeError, PackageNotFoundError) as cause:
        lines = [line for line in str(cause).splitlines() if line.strip()]
        answer = {"error": f"{type(cause).__name__}: {lines[0] if lines else ''}"}
    print("\n" + json.dumps(answer))


def probe_software() -> tuple[Driver, dict[str, Module]]:
    """The driver, and all of :data:`MODULES` with torch, which is not imported: that takes seconds."""
    answers = _ask(["driver", *filter(_is_here, MODULES)])
    modules = {name: _module(answers[name]) if name in answers else ABSENT for name in MODULES}
    try:
        modules["torch"] = Module(version("torch"))
    except PackageNotFoundError:
        modules["torch"] = ABSENT
    return _read_driver(answers["driver"]), modules


def try_engine(path: Path, timeout: float = 300.0) -> dict[str, Any]:
    """What came of loading an engine in a process of its own: ``{"problem": None | {"message", "hint"}, …}``."""
    answer = _ask(["engine"], (str(path),), timeout)["engine"]
    if "error" in answer:
        return {"problem": {"message": f"loading it failed: {answer['error']}", "hint": None}}
    return answer


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # half a package, or one that was put into sys.modules without a spec
        return False


def _ask(names: Sequence[str], arguments: Sequence[str] = (), timeout: float = TIMEOUT) -> dict[str, dict[str, Any]]:
    """All at once; the answers by name."""
    home = str(Path(edgefer.__file__).resolve().parents[1])
    search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    started = {
        name: subprocess.Popen(
            [sys.executable, "-c", _CHILD, name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search},
        )
        for name in names
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

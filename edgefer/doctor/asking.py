"""Python packages and the driver, each asked in a process of its own: what one of them does to it harms nobody."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import edgefer
from edgefer.engines.tensorrt.driver import Device, Driver
from edgefer.errors import EdgeferError

MODULES: Final = ("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "cuda", "pycuda", "cv2")
"""What is imported to be asked, by the name that it is imported by."""

_CHILD: Final = """
import sys
sys.path = [folder for folder in sys.path if folder]  # not from here: where somebody has cloned onnxruntime, say
from edgefer.doctor.child import main
main()
"""

PATIENCE: Final = 20.0
"""Seconds after which a process is given up; a healthy one takes less than one."""


@dataclass(frozen=True)
class Module:
    """A Python package: its version, what else it told, or why it cannot be used."""

    version: str | None
    problem: str | None = None
    told: Mapping[str, Any] = field(default_factory=dict)

    @property
    def works(self) -> bool:
        """Whether it was imported."""
        return self.version is not None and self.problem is None


ABSENT: Final = Module(None, "not installed")


def ask_all() -> tuple[Driver, dict[str, Module]]:
    """The driver, and all of :data:`MODULES` with torch, which is not imported: that takes seconds."""
    here = [name for name in MODULES if _is_here(name)]
    answers = _ask(["driver", *here])
    modules = {name: _module(answers[name]) if name in answers else ABSENT for name in MODULES}
    return _driver(answers["driver"]), {**modules, "torch": _unimported("torch")}


def try_engine(path: Path, patience: float = 300.0) -> dict[str, Any]:
    """What came of loading an engine in a process of its own: ``{"problem": None | {"message", "hint"}, …}``."""
    answer = _ask(["engine"], (str(path),), patience)["engine"]
    if "error" in answer:
        return {"problem": {"message": f"loading it failed: {answer['error']}", "hint": None}}
    return answer


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # half a package, or one that was put into sys.modules without a spec
        return False


def _ask(names: Sequence[str], arguments: Sequence[str] = (), patience: float = PATIENCE) -> dict[str, dict[str, Any]]:
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
    deadline = time.monotonic() + patience
    try:
        return {name: _answer(process, deadline, patience) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def _answer(process: subprocess.Popen[bytes], deadline: float, patience: float) -> dict[str, Any]:
    try:
        output, _ = process.communicate(timeout=max(0.01, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return {"error": f"it did not answer within {patience:.0f} s"}
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return {"error": f"ended its process by {name}"}
    told = next((line for line in reversed(output.splitlines()) if line.startswith(b"{")), b"")
    try:
        answer: dict[str, Any] = json.loads(told)
    except ValueError:
        return {"error": f"ended its process with status {process.returncode}"}
    return answer


def _module(answer: Mapping[str, Any]) -> Module:
    if "error" in answer:
        return Module(None, str(answer["error"]))
    told = {key: value for key, value in answer.items() if key != "version"}
    return Module(str(answer["version"]), None, told)


def _driver(answer: Mapping[str, Any]) -> Driver:
    if "error" in answer:
        return Driver(None, (), EdgeferError(f"the NVIDIA driver cannot be asked: {answer['error']}"))
    problem = answer["problem"]
    fault = None if problem is None else EdgeferError(problem["message"], problem["hint"])
    devices = tuple(Device(d["name"], d["capability"], d["integrated"]) for d in answer["devices"])
    return Driver(answer["cuda"], devices, fault)


def _unimported(distribution: str) -> Module:
    try:
        return Module(version(distribution))
    except PackageNotFoundError:
        return ABSENT

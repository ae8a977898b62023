"""Asks for one thing in a process of its own, which may die of it: its arguments are ``NAME [FILE]``.

The answer is the last line of stdout that is a JSON object; a package may print before it, and when the process ends.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgefer.errors import EdgeferError, import_package


def _driver() -> dict[str, Any]:
    from edgefer.engines.tensorrt.driver import survey

    found = survey()
    devices = [{"name": d.name, "capability": d.capability, "integrated": d.integrated} for d in found.devices]
    problem = None if found.problem is None else {"message": found.problem.message, "hint": found.problem.hint}
    return {"cuda": found.cuda, "devices": devices, "problem": problem}


def _plain(module: str) -> Callable[[], dict[str, Any]]:
    return lambda: {"version": str(import_package(module).__version__).split("-")[0]}


def _onnxruntime() -> dict[str, Any]:
    ort = import_package("onnxruntime")
    return {"version": str(ort.__version__), "providers": list(ort.get_available_providers())}


def _opencv() -> dict[str, Any]:
    cv2 = import_package("cv2")
    gstreamer = re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None
    return {"version": str(cv2.__version__), "gstreamer": gstreamer}


def _tensorrt() -> dict[str, Any]:
    """With the CUDA that pip's TensorRT is for; one of the system has no such package, and is told by its library."""
    answer = _plain("tensorrt")()
    for cuda in (11, 12, 13):
        try:
            version(f"tensorrt-cu{cuda}-libs")
        except PackageNotFoundError:
            continue
        answer["for_cuda"] = cuda
    return answer


def _cuda_bindings() -> dict[str, Any]:
    driver = import_package("cuda.bindings.driver")
    return {"version": version("cuda-bindings"), "for_cuda": int(driver.CUDA_VERSION) // 1000}


def _pycuda() -> dict[str, Any]:
    import_package("pycuda.driver")  # makes no context, as pycuda.autoinit would
    return {"version": version("pycuda")}


def _engine() -> dict[str, Any]:
    """Whether the engine that is named loads and answers its golden faces, which loading asks."""
    from edgefer.engines.load import load_engine

    try:
        with load_engine(sys.argv[2]) as engine:
            return {"problem": None, "runtime": engine.runtime, "version": engine.runtime_version}
    except EdgeferError as fault:
        return {"problem": {"message": fault.message, "hint": fault.hint}}


QUESTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "driver": _driver,
    "onnxruntime": _onnxruntime,
    "openvino": _plain("openvino"),
    "tensorrt": _tensorrt,
    "tensorrt_rtx": _plain("tensorrt_rtx"),
    "cuda": _cuda_bindings,
    "pycuda": _pycuda,
    "cv2": _opencv,
    "engine": _engine,
}


def main() -> None:
    """Print the answer, or the error that importing ended in."""
    try:
        answer = QUESTIONS[sys.argv[1]]()
    except (ImportError, OSError, AttributeError, RuntimeError, PackageNotFoundError) as cause:
        lines = [line for line in str(cause).splitlines() if line.strip()]
        answer = {"error": f"{type(cause).__name__}: {lines[0] if lines else ''}"}
    print("\n" + json.dumps(answer))

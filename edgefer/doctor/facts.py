"""A diagnosis as facts: a line each for a person, the same with its parts for a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgefer.doctor.diagnosis import Diagnosis
from edgefer.doctor.libraries import Library

_TITLES = {
    "onnxruntime": "onnxruntime",
    "openvino": "OpenVINO",
    "tensorrt_rtx": "TensorRT-RTX",
    "cuda": "cuda-bindings",
    "pycuda": "pycuda",
    "cv2": "OpenCV",
    "torch": "PyTorch",
}


@dataclass(frozen=True)
class Fact:
    """One thing about the machine.

    Attributes:
        key: for programs; the same in every version of the schema.
        title: for people.
        found: whether it is there.
        text: what there is to say, on one line.
        parts: for programs.
    """

    key: str
    title: str
    found: bool
    text: str
    parts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"found": self.found, "text": self.text, **self.parts}


def facts_of(found: Diagnosis) -> tuple[Fact, ...]:
    """All facts, in the order in which they are shown; every key is there on every machine."""
    return (
        _machine(found),
        _memory(found),
        _power(found),
        Fact("python", "Python", True, found.python, {"version": found.python}),
        _jetpack(found),
        _driver(found),
        _gpu(found),
        _library("cuda", "CUDA", found.libraries.cuda),
        _library("cudnn", "cuDNN", found.libraries.cudnn),
        *_tensorrt(found),
        *_modules(found),
    )


def size(count: int | None) -> str:
    """Bytes for a person: ``"7.6 GiB"``."""
    return "unknown" if count is None else f"{count / (1 << 30):.1f} GiB"


def _machine(found: Diagnosis) -> Fact:
    machine = found.machine
    kernel = None if machine.kernel is None else f"Linux {machine.kernel}"
    cores = f"{machine.cores} cores" if machine.cores else None
    words = (machine.board, machine.cpu, machine.architecture, cores, machine.system, kernel)
    parts = {
        "board": machine.board,
        "cpu": machine.cpu,
        "architecture": machine.architecture,
        "cores": machine.cores or None,
        "instruction_set": list(machine.instructions),
        "system": machine.system,
        "kernel": machine.kernel,
    }
    return Fact("machine", "machine", True, ", ".join(word for word in words if word), parts)


def _memory(found: Diagnosis) -> Fact:
    machine = found.machine
    parts = {
        "total_bytes": machine.memory_bytes,
        "available_bytes": machine.available_bytes,
        "swap_bytes": machine.swap_bytes,
    }
    line = f"{size(machine.memory_bytes)}, {size(machine.available_bytes)} of it free, swap {size(machine.swap_bytes)}"
    return Fact("memory", "memory", machine.memory_bytes is not None, line, parts)


def _power(found: Diagnosis) -> Fact:
    mode, governor = found.power, found.machine.governor
    parts: dict[str, Any] = {"mode": None, "name": None, "unlimited_mode": None, "governor": governor}
    words = [] if governor is None else [f"CPU governor {governor}"]
    if mode is None:
        return Fact("power_mode", "power mode", False, ", ".join(["no nvpmodel", *words]), parts)
    parts |= {"mode": mode.number, "name": mode.name or None, "unlimited_mode": mode.unlimited}
    line = f"{mode.name or 'unnamed'} (nvpmodel {mode.number})"
    return Fact("power_mode", "power mode", True, ", ".join([line, *words]), parts)


def _jetpack(found: Diagnosis) -> Fact:
    parts = {"version": found.jetpack, "l4t": found.l4t}
    if found.l4t is None:
        return Fact("jetpack", "JetPack", False, "none: not a Jetson", parts)
    known = f"{found.jetpack} (L4T {found.l4t})" if found.jetpack else f"unknown (L4T {found.l4t})"
    return Fact("jetpack", "JetPack", True, known, parts)


def _driver(found: Diagnosis) -> Fact:
    driver, version = found.driver, found.machine.driver
    parts = {"version": version, "cuda": driver.cuda, "problem": driver.problem and driver.problem.message}
    if driver.cuda is None:
        reason = driver.problem.message if driver.problem else "it does not say its version"
        return Fact("driver", "driver", False, reason, parts)
    return Fact("driver", "driver", True, f"{version or 'version not told'}, for CUDA up to {driver.cuda}", parts)


def _gpu(found: Diagnosis) -> Fact:
    devices = found.driver.devices
    parts = {
        "devices": [{"name": d.name, "capability": d.capability, "integrated": d.integrated} for d in devices],
        "in_a_slot": found.machine.nvidia_pci,
    }
    if devices:
        shared = ", memory shared with the CPU" if devices[0].integrated else ""
        return Fact("gpu", "GPU", True, "; ".join(map(str, devices)) + shared, parts)
    line = "an NVIDIA GPU is in a slot, and no driver runs it" if found.machine.nvidia_pci else "none of NVIDIA's"
    return Fact("gpu", "GPU", False, line, parts)


def _library(key: str, title: str, library: Library | None) -> Fact:
    if library is None:
        return Fact(key, title, False, "no library of the system", {"version": None, "source": None, "for_cuda": None})
    parts = {"version": library.version, "source": library.source, "for_cuda": library.cuda}
    made_for = f", for CUDA {library.cuda}" if library.cuda else ""
    return Fact(key, title, True, f"{library.version} ({library.source}{made_for})", parts)


def _tensorrt(found: Diagnosis) -> Iterator[Fact]:
    yield _library("tensorrt_library", "TensorRT", found.libraries.tensorrt)
    module, bindings = found.module("tensorrt"), found.libraries.python_bindings
    line = module.version or module.problem or ""
    if not module.works and bindings:
        line += "; the system's python3-libnvinfer is there, and this environment does not see it"
    parts = {"version": module.version, "problem": module.problem, "system_package": bindings}
    yield Fact("tensorrt", "TensorRT's Python", module.works, line, parts)
    tool = found.libraries.trtexec
    yield Fact("trtexec", "trtexec", tool is not None, tool or "not here", {"path": tool})


def _modules(found: Diagnosis) -> Iterator[Fact]:
    for name, title in _TITLES.items():
        module = found.module(name)
        words = [module.version or module.problem or ""]
        if "providers" in module.told:
            words.append(", ".join(module.told["providers"]))
        if "gstreamer" in module.told:
            words.append("with GStreamer" if module.told["gstreamer"] else "without GStreamer")
        parts = {"version": module.version, "problem": module.problem, **module.told}
        yield Fact(
            {"cuda": "cuda_bindings", "cv2": "opencv"}.get(name, name), title, module.works, "; ".join(words), parts
        )

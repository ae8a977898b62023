"""Where a number was measured: the machine and its software."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from edgefer.measure.sensors import Nvml, Sensors, text
from edgefer.runtimes import RUNTIMES

PACKAGES = ("edgefer", "numpy", "onnx", "onnxsim")
"""Distributions whose versions are recorded where they are installed, beside those of the runtimes."""


def describe_environment() -> dict[str, Any]:
    """A JSON-ready description; a value is None where the system does not tell.

    Keys: ``cpu`` (model), ``board`` (from the device tree, e.g. a Jetson's name), ``cores`` (that this process may
    use), ``instruction_set`` (see ``edgefer.engines.cpu``), ``memory_bytes``, ``os``, ``machine``, ``python``,
    ``packages`` (name → version, read from metadata: nothing is imported), ``load_average`` (1 minute, when called),
    ``governor`` (of CPU frequencies), ``gpu`` (CUDA's first: name and compute capability), ``gpu_driver``, ``cuda``
    (the newest that the driver serves), ``gpu_clock`` (``mhz`` when called, and ``max_mhz``).
    """
    from edgefer.engines.cpu import instruction_set

    names = (*PACKAGES, *(name for row in RUNTIMES.values() for name in row.distributions))
    return {
        "cpu": cpu_model(text(Path("/proc/cpuinfo")) or "") or platform.processor() or None,
        "board": text(Path("/proc/device-tree/model")),
        "cores": available_cores(),
        "instruction_set": list(instruction_set()),
        "memory_bytes": _memory_bytes(),
        "os": _os(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": {name: found for name in names if (found := _version(name)) is not None},
        "load_average": load_average(),
        "governor": text(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        **describe_gpu(),
    }


def describe_gpu(index: int = 0) -> dict[str, Any]:
    """The keys of :func:`describe_environment` that are a GPU's, of the one that CUDA counts as ``index``.

    Its clock is NVML's or, on a board, devfreq's.
    """
    from edgefer.engines.tensorrt.cuda import survey

    driver = survey()
    if index >= len(driver.devices):
        return {"gpu": None, "gpu_driver": None, "cuda": driver.cuda, "gpu_clock": None}
    device, board = driver.devices[index], Sensors().read()
    nvml = Nvml.here(device.uuid)
    told = {} if nvml is None else nvml.read()
    clock = {"mhz": told.get("mhz", board.get("gpu_mhz")), "max_mhz": told.get("max_mhz", board.get("gpu_max_mhz"))}
    return {
        "gpu": str(device),
        "gpu_driver": None if nvml is None else nvml.driver(),
        "cuda": driver.cuda,
        "gpu_clock": None if clock["mhz"] is None else clock,
    }


def available_cores() -> int:
    """Number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """Runnable processes, averaged over the last minute; None where the system does not tell."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # Windows has none
        return None


def cpu_model(cpuinfo: str) -> str | None:
    """The processor's name in the text of /proc/cpuinfo, or None."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return None


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _os() -> str:
    # The kernel's release is cut to its number: what distributions and owners append can name a machine.
    number = re.match(r"[\d.]+", platform.release())
    kernel = f"{platform.system()} {number.group().rstrip('.') if number else ''}".strip()
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {kernel}"
    except (OSError, KeyError):
        return kernel


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None

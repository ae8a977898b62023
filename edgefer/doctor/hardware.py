"""The machine as /proc, /sys and /etc tell it; every path is taken from a root, so that the tests read trees."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefer.engines.cpu import instruction_set
from edgefer.measure.environment import cpu_model
from edgefer.measure.telemetry.sensors import text

_NVIDIA: Final = "0x10de"
_DISPLAY: Final = "0x03"  # the PCI class of display controllers, with and without a screen
_DRIVER: Final = re.compile(r"NVRM version:.*?Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)")


@dataclass(frozen=True)
class Machine:
    """A computer; None is what its system does not tell.

    Attributes:
        board: from the device tree, e.g. a Jetson's name.
        cpu: the processor's name.
        architecture: ``"x86_64"``, ``"aarch64"``.
        cores: processors that the kernel lists.
        instructions: see :func:`edgefer.engines.cpu.instruction_set`.
        system: ``"Ubuntu 22.04.5 LTS"``.
        distribution: ``"ubuntu"``, ``"debian"``.
        kernel: Linux's number, without what distributions and owners append.
        memory_bytes, available_bytes, swap_bytes: of /proc/meminfo.
        governor: of CPU frequencies.
        nvidia_pci: whether an NVIDIA GPU is in a slot, with or without a driver.
        driver: the version of NVIDIA's kernel module.
    """

    board: str | None
    cpu: str | None
    architecture: str
    cores: int
    instructions: tuple[str, ...]
    system: str | None
    distribution: str | None
    kernel: str | None
    memory_bytes: int | None
    available_bytes: int | None
    swap_bytes: int | None
    governor: str | None
    nvidia_pci: bool
    driver: str | None


def read_machine(root: Path = Path("/"), architecture: str | None = None) -> Machine:
    """Read it.

    Args:
        root: ``/``, or a recorded tree.
        architecture: as ``platform.machine()`` says it; asked if None, since no file tells it on all kernels.
    """
    kind = platform.machine() if architecture is None else architecture
    cpuinfo = text(root / "proc/cpuinfo") or ""
    release = _settings(root / "etc/os-release", "=")
    memory = _settings(root / "proc/meminfo", ":")
    kernel = re.match(r"[\d.]+", text(root / "proc/sys/kernel/osrelease") or "")
    module = _DRIVER.search(text(root / "proc/driver/nvidia/version") or "")
    return Machine(
        board=text(root / "proc/device-tree/model") or None,
        cpu=cpu_model(cpuinfo),
        architecture=kind,
        cores=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
        instructions=instruction_set(cpuinfo, kind),
        system=release.get("PRETTY_NAME"),
        distribution=release.get("ID"),
        kernel=kernel.group().rstrip(".") if kernel else None,
        memory_bytes=_kilobytes(memory.get("MemTotal")),
        available_bytes=_kilobytes(memory.get("MemAvailable")),
        swap_bytes=_kilobytes(memory.get("SwapTotal")),
        governor=text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        nvidia_pci=any(map(_is_nvidia_gpu, root.glob("sys/bus/pci/devices/*"))),
        driver=module[1] if module else None,
    )


def _settings(path: Path, sign: str) -> dict[str, str]:
    rows = (line.partition(sign) for line in (text(path) or "").splitlines())
    return {key.strip(): value.strip().strip('"') for key, _, value in rows if value}


def _kilobytes(value: str | None) -> int | None:
    found = re.match(r"(\d+) kB", value or "")
    return int(found[1]) * 1024 if found else None


def _is_nvidia_gpu(device: Path) -> bool:
    return text(device / "vendor") == _NVIDIA and (text(device / "class") or "").startswith(_DISPLAY)

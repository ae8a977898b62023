"""What this machine is: hardware, system, JetPack and NVIDIA's libraries, read from files, and the software on it.

Every path is taken from a root, so that the tests read recorded trees, and no tool of the system is run. Forms:
deb-control(5), and dpkg(1) for the words of ``Status``; /etc/nv_tegra_release for L4T, and
https://developer.nvidia.com/embedded/jetpack-archive for the JetPack that it belongs to. nvpmodel keeps the chosen
power mode in /var/lib/nvpmodel/status (``pmode:0002 fmode:quiet``), and all modes in /etc/nvpmodel.conf
(``< POWER_MODEL ID=2 NAME=MAXN_SUPER >``); numbers and names differ from board to board.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefer.doctor.software import ABSENT, Module, missing_of_extras, probe_software
from edgefer.engines.cpu import instruction_set
from edgefer.engines.tensorrt.cuda import Driver
from edgefer.measure.environment import cpu_model
from edgefer.measure.sensors import text

RELEASES: Final = {
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.2.2": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
"""L4T → JetPack, for systems that have L4T and not the package nvidia-jetpack."""

_GENERATIONS: Final = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
_L4T: Final = re.compile(r"R(\d+) \(release\), REVISION: ([\d.]+)")
_POWER_MODE: Final = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
_DEFAULT_MODE: Final = re.compile(r"<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>")
_CHOSEN_MODE: Final = re.compile(r"pmode:(\d+)")
_UNLIMITED: Final = ("MAXN_SUPER", "MAXN")

_NVIDIA: Final = "0x10de"
_DISPLAY: Final = "0x03"  # the PCI class of display controllers, with and without a screen
_DRIVER: Final = re.compile(r"NVRM version:.*?Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)")

_TRTEXEC: Final = "usr/src/tensorrt/bin/trtexec"
_CUDART: Final = re.compile(r"cuda-cudart-\d+-\d+")
_CUDNN: Final = re.compile(r"libcudnn\d+(-cuda-\d+)?")
_NVINFER: Final = re.compile(r"libnvinfer\d+")
_MADE_FOR: Final = re.compile(r"\+cuda(\d+\.\d+)")
_FOLDERS: Final = ("usr/lib/*-linux-gnu", "usr/local/lib", "usr/local/tensorrt/lib", "opt/tensorrt/lib")


@dataclass(frozen=True)
class Machine:
    """A computer; None is what its system does not tell.

    Attributes:
        board: name in the device tree, e.g. a Jetson's.
        cpu: the processor's name.
        architecture: ``"x86_64"``, ``"aarch64"``.
        cores: number of processors that the kernel lists.
        instructions: see :func:`edgefer.engines.cpu.instruction_set`.
        system: ``"Ubuntu 22.04.5 LTS"``.
        distribution: ``"ubuntu"``, ``"debian"``.
        kernel: Linux's version number, without what distributions and owners append.
        memory_bytes, available_bytes, swap_bytes: sizes from /proc/meminfo.
        governor: governor of CPU frequencies.
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


@dataclass(frozen=True)
class PowerMode:
    """The power mode of a Jetson.

    Attributes:
        number: nvpmodel's.
        name: ``"15W"``; ``""`` where the list of modes does not name it.
        unlimited: the number of the mode without a limit (MAXN); None where there is none.
    """

    number: int
    name: str
    unlimited: int | None


@dataclass(frozen=True)
class Library:
    """A library of the system: its version, the package or file that says so, and the CUDA that it was made for."""

    version: str
    source: str
    cuda: str | None = None


@dataclass(frozen=True)
class Libraries:
    """NVIDIA's libraries of the system; None is what is not there.

    Attributes:
        cuda, cudnn, tensorrt: versions from package lists and, failing that, from file names.
        trtexec: the path of NVIDIA's builder.
        python_bindings: whether the package python3-libnvinfer is installed: TensorRT's Python, for the system's own
            interpreter.
    """

    cuda: Library | None
    cudnn: Library | None
    tensorrt: Library | None
    trtexec: str | None
    python_bindings: bool


@dataclass(frozen=True)
class Diagnosis:
    """A machine and its software; None is what is not there or not told.

    Attributes:
        machine: the hardware and its system.
        python: the version of this interpreter.
        l4t: Jetson Linux, ``"36.4.3"``.
        jetpack: ``"6.2"``, or its generation ``"6"``.
        power: nvpmodel's mode.
        libraries: NVIDIA's, of the system.
        driver: NVIDIA's, and its GPUs.
        modules: see :func:`edgefer.doctor.software.probe_software`.
        extras: see :func:`edgefer.doctor.software.missing_of_extras`.
    """

    machine: Machine
    python: str
    l4t: str | None
    jetpack: str | None
    power: PowerMode | None
    libraries: Libraries
    driver: Driver
    modules: Mapping[str, Module]
    extras: Mapping[str, tuple[str, ...]]

    def module(self, name: str) -> Module:
        """A Python package, which may be absent."""
        return self.modules.get(name, ABSENT)


def diagnose(
    root: Path = Path("/"),
    *,
    architecture: str | None = None,
    python: str | None = None,
    software: tuple[Driver, Mapping[str, Module]] | None = None,
) -> Diagnosis:
    """Find out what this machine is, in under three seconds and without any risk to this process.

    Args:
        root: ``/``, or a recorded tree of /etc, /proc, /sys, /usr and /var/lib.
        architecture: that of ``platform.machine()``, which is called if None: no file has it on all kernels.
        python: the interpreter's version; this one's if None.
        software: the driver and the Python packages; asked, each in a process of its own, if None.
    """
    driver, modules = probe_software() if software is None else software
    packages = installed_packages(root)
    l4t = _l4t(packages, root)
    return Diagnosis(
        machine=_machine(root, platform.machine() if architecture is None else architecture),
        python=".".join(map(str, sys.version_info[:3])) if python is None else python,
        l4t=l4t,
        jetpack=None if l4t is None else jetpack_of(l4t, packages),
        power=power_mode(root),
        libraries=_libraries(packages, root),
        driver=driver,
        modules=modules,
        extras=missing_of_extras(),
    )


def installed_packages(root: Path = Path("/")) -> dict[str, str]:
    """Debian package → version of all that is installed, without removed ones; empty where there is no dpkg."""
    found = {}
    for stanza in (text(root / "var/lib/dpkg/status") or "").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] not in " \t")
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found


def jetpack_of(l4t: str, packages: Mapping[str, str]) -> str | None:
    """The JetPack, ``"6.2.1"``, or only its generation, ``"6"``; None for an L4T of which nothing is known."""
    if "nvidia-jetpack" in packages:
        return _upstream(packages["nvidia-jetpack"])
    return RELEASES.get(l4t, _GENERATIONS.get(l4t.split(".", maxsplit=1)[0]))


def power_mode(root: Path = Path("/")) -> PowerMode | None:
    """The power mode; None where there is no nvpmodel. It starts in the configuration's default mode."""
    listing = text(root / "etc/nvpmodel.conf") or ""
    names = {int(number): name for number, name in _POWER_MODE.findall(listing)}
    chosen = _CHOSEN_MODE.search(text(root / "var/lib/nvpmodel/status") or "") or _DEFAULT_MODE.search(listing)
    if chosen is None:
        return None
    number = int(chosen[1])
    unlimited = (mode for wanted in _UNLIMITED for mode, name in names.items() if name == wanted)
    return PowerMode(number, names.get(number, ""), next(unlimited, None))


def _upstream(version: str) -> str:
    """The maker's part of a Debian package's version: ``"10.3.0.30-1+cuda12.5"`` → ``"10.3.0.30"``."""
    return version.rpartition(":")[2].split("-")[0].split("+")[0]


def _l4t(packages: Mapping[str, str], root: Path) -> str | None:
    """From the package nvidia-l4t-core where the file of the release is not there, as in a container."""
    found = _L4T.search(text(root / "etc/nv_tegra_release") or "")
    if found is not None:
        return f"{found[1]}.{found[2]}"
    return _upstream(packages["nvidia-l4t-core"]) if "nvidia-l4t-core" in packages else None


def _machine(root: Path, architecture: str) -> Machine:
    cpuinfo = text(root / "proc/cpuinfo") or ""
    release = _settings(root / "etc/os-release", "=")
    memory = _settings(root / "proc/meminfo", ":")
    kernel = re.match(r"[\d.]+", text(root / "proc/sys/kernel/osrelease") or "")
    module = _DRIVER.search(text(root / "proc/driver/nvidia/version") or "")
    return Machine(
        board=text(root / "proc/device-tree/model") or None,
        cpu=cpu_model(cpuinfo),
        architecture=architecture,
        cores=len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)),
        instructions=instruction_set(cpuinfo, architecture),
        system=release.get("PRETTY_NAME"),
        distribution=release.get("ID"),
        kernel=kernel.group().rstrip(".") if kernel else None,
        memory_bytes=_bytes(memory.get("MemTotal")),
        available_bytes=_bytes(memory.get("MemAvailable")),
        swap_bytes=_bytes(memory.get("SwapTotal")),
        governor=text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
        nvidia_pci=any(
            text(device / "vendor") == _NVIDIA and (text(device / "class") or "").startswith(_DISPLAY)
            for device in root.glob("sys/bus/pci/devices/*")
        ),
        driver=module[1] if module else None,
    )


def _settings(path: Path, sign: str) -> dict[str, str]:
    rows = (line.partition(sign) for line in (text(path) or "").splitlines())
    return {key.strip(): value.strip().strip('"') for key, _, value in rows if value}


def _bytes(kilobytes: str | None) -> int | None:
    found = re.match(r"(\d+) kB", kilobytes or "")
    return int(found[1]) * 1024 if found else None


def _libraries(packages: Mapping[str, str], root: Path) -> Libraries:
    elsewhere = shutil.which("trtexec") if root == Path("/") else None
    return Libraries(
        cuda=_from_package(_CUDART, packages) or _from_toolkit(root),
        cudnn=_from_package(_CUDNN, packages) or _from_file("libcudnn.so", root),
        tensorrt=_from_package(_NVINFER, packages) or _from_file("libnvinfer.so", root),
        trtexec=f"/{_TRTEXEC}" if (root / _TRTEXEC).is_file() else elsewhere,
        python_bindings="python3-libnvinfer" in packages,
    )


def _from_package(pattern: re.Pattern[str], packages: Mapping[str, str]) -> Library | None:
    """The newest, where there are several."""
    matching = [name for name in packages if pattern.fullmatch(name)]
    if not matching:
        return None
    name = max(matching, key=lambda package: _numbers(_upstream(packages[package])))
    made_for = _MADE_FOR.search(packages[name])
    return Library(_upstream(packages[name]), name, made_for[1] if made_for else None)


def _from_toolkit(root: Path) -> Library | None:
    content = text(root / "usr/local/cuda/version.json")
    try:
        return None if content is None else Library(str(json.loads(content)["cuda"]["version"]), "version.json")
    except (ValueError, KeyError, TypeError):  # cut short, or of another form
        return None


def _from_file(name: str, root: Path) -> Library | None:
    """From ``libnvinfer.so.10.3.0``: the file that carries all of its version in its name."""
    pattern = re.compile(re.escape(name) + r"\.(\d+\.\d+\.\d+[\d.]*)")
    files = [path for folder in _FOLDERS for path in root.glob(f"{folder}/{name}.*")]
    found = {match[1]: path.name for path in files if (match := pattern.fullmatch(path.name))}
    newest = max(found, key=_numbers, default=None)
    return None if newest is None else Library(newest, found[newest])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))

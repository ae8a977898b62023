"""Everything that is known about this machine, found out in under three seconds and without any risk to the process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgefer.doctor.asking import ABSENT, Module, ask_all
from edgefer.doctor.debian import installed_packages
from edgefer.doctor.hardware import Machine, read_machine
from edgefer.doctor.jetson import PowerMode, jetpack_of, read_l4t, read_power_mode
from edgefer.doctor.libraries import Libraries, read_libraries
from edgefer.engines.tensorrt.driver import Driver


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
        modules: of :data:`edgefer.doctor.asking.MODULES`, and torch.
    """

    machine: Machine
    python: str
    l4t: str | None
    jetpack: str | None
    power: PowerMode | None
    libraries: Libraries
    driver: Driver
    modules: Mapping[str, Module]

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
    """Find out what this machine is.

    Args:
        root: ``/``, or a recorded tree of /etc, /proc, /sys, /usr and /var/lib.
        architecture: as ``platform.machine()`` says it; asked if None.
        python: the interpreter's version; this one's if None.
        software: the driver and the Python packages; asked, each in a process of its own, if None.
    """
    driver, modules = ask_all() if software is None else software
    packages = installed_packages(root)
    l4t = read_l4t(packages, root)
    return Diagnosis(
        machine=read_machine(root, architecture),
        python=".".join(map(str, sys.version_info[:3])) if python is None else python,
        l4t=l4t,
        jetpack=None if l4t is None else jetpack_of(l4t, packages),
        power=read_power_mode(root),
        libraries=read_libraries(packages, root),
        driver=driver,
        modules=modules,
    )

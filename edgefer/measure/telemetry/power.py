"""Electrical power: RAPL's energy counters, and the INA3221 monitors of Jetson boards.

RAPL: Linux, Documentation/power/powercap/powercap.rst. INA3221: Documentation/hwmon/ina3221.rst; the rails' names are
those of NVIDIA's Jetson Linux developer guide, "Electrical power and current measurements".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgefer.measure.telemetry.sensors import number, text

_WHOLE = ("VDD_IN", "POM_5V_IN", "VDD_TOTAL")
"""Rails through which a whole board is fed; where there is none, the rails are added up."""


class Rapl:
    """Energy of all processor packages, joules, as a counter that does not wrap."""

    source = "RAPL packages"

    def __init__(self, root: Path = Path("/")) -> None:
        domains = sorted(root.glob("sys/class/powercap/intel-rapl:*"))
        self._packages = [path for path in domains if (text(path / "name") or "").startswith("package")]
        self._last: dict[Path, int] = {}
        self._sum_uj = 0
        self.forbidden = bool(self._packages) and not any(number(p / "energy_uj") is not None for p in self._packages)
        """The counters are there and may not be read: since Linux 5.10 only root may."""

    def read(self) -> dict[str, float]:
        """``joules`` since the first reading; empty where there is no counter."""
        found = False
        for package in self._packages:
            now = number(package / "energy_uj")
            if now is None:
                continue
            found = True
            before = self._last.get(package, now)
            wrapped = (number(package / "max_energy_range_uj") or 0) if now < before else 0
            self._sum_uj += now - before + wrapped
            self._last[package] = now
        return {"joules": self._sum_uj / 1e6} if found else {}


class Ina3221:
    """Power now of a Jetson's rails."""

    source = "INA3221"

    def __init__(self, root: Path = Path("/")) -> None:
        self._rails = {**dict(_hwmon(root)), **dict(_iio(root))}

    def read(self) -> dict[str, Any]:
        """``watts`` of the board, ``rails`` (name → watts); empty where there is none."""
        rails = {name: watts for name, paths in self._rails.items() if (watts := _watts(paths)) is not None}
        if not rails:
            return {}
        return {"watts": whole_board(rails), "rails": rails}


def whole_board(rails: dict[str, float]) -> float:
    """The rail that feeds the board where it is measured, else the sum of the rails, watts."""
    return next((rails[name] for name in _WHOLE if name in rails), sum(rails.values()))


def _hwmon(root: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """JetPack 5 and later: ``inN_label``, volts in mV, currents in mA."""
    for monitor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if text(monitor / "name") != "ina3221":
            continue
        for label in sorted(monitor.glob("in[1-3]_label")):
            channel = label.name[2]
            yield text(label) or label.name, (monitor / f"in{channel}_input", monitor / f"curr{channel}_input")


def _iio(root: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """JetPack 4: ``rail_name_N``, power in mW."""
    for device in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*")):
        for label in sorted(device.glob("rail_name_*")):
            yield text(label) or label.name, (device / f"in_power{label.name[-1]}_input",)


def _watts(paths: tuple[Path, ...]) -> float | None:
    values = [value for path in paths if (value := number(path)) is not None]
    if len(values) < len(paths):
        return None
    return values[0] * values[1] / 1e6 if len(values) == 2 else values[0] / 1e3

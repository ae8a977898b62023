"""Clock, temperature, throttling, load and memory, as /proc and /sys tell them; nothing is guessed.

Every path is taken from a root, so that the tests read recorded trees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CPU = "sys/devices/system/cpu"
_COOLS_CPU = re.compile(r"cpu|processor", re.IGNORECASE)
_PI_NOW = 0b1111  # under-voltage, frequency capped, throttled, soft temperature limit: now (raspberrypi.com, os.html)


class Sensors:
    """The sensors of one machine, looked up once; reading them costs a few small files.

    Args:
        root: ``/``, or a recorded tree.
        pid: the process whose memory is read; None for none.
        cores: whose load is counted; all if None.
    """

    def __init__(self, root: Path = Path("/"), pid: int | None = None, cores: frozenset[int] | None = None) -> None:
        self._root = root
        self._status = None if pid is None else root / "proc" / str(pid) / "status"
        self._cores = cores
        self._clocks = sorted(root.glob(f"{_CPU}/cpu[0-9]*/cpufreq/scaling_cur_freq"))
        self._counters = [
            *sorted(root.glob(f"{_CPU}/cpu[0-9]*/thermal_throttle/core_throttle_count")),
            *sorted(root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt")),  # Jetson: over-current throttling
        ]
        self._zones = dict(self._temperatures())
        self._cooling = dict(self._coolers())
        self._firmware = root / "sys/devices/platform/soc/soc:firmware/get_throttled"

    def read(self) -> dict[str, Any]:
        """One reading; a key is absent where the machine does not tell.

        ``mhz`` (of the fastest core), ``celsius`` (zone → degrees), ``throttle_events`` (a counter), ``throttling``
        (what limits the clock now), ``busy_s`` (a counter: processor seconds of all on the cores), ``rss_bytes``,
        ``peak_rss_bytes``.
        """
        found = {
            "mhz": self._mhz(),
            "celsius": {name: value / 1000 for name, path in self._zones.items() if (value := number(path)) is not None}
            or None,
            "throttle_events": self._events(),
            "throttling": list(self._limits()),
            "busy_s": self._busy(),
            **self._memory(),
        }
        return {key: value for key, value in found.items() if value is not None}

    def _mhz(self) -> float | None:
        clocks = [value / 1000 for path in self._clocks if (value := number(path)) is not None]
        if not clocks:
            listing = text(self._root / "proc/cpuinfo") or ""
            clocks = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", listing, re.MULTILINE)]
        return max(clocks, default=None)

    def _events(self) -> int | None:
        counts = [value for path in self._counters if (value := number(path)) is not None]
        return sum(counts) if counts else None

    def _limits(self) -> Iterator[str]:
        for name, path in self._cooling.items():
            if number(path):
                yield f"{name} is cooling"
        flags = text(self._firmware)
        if flags is not None and int(flags, 16) & _PI_NOW:
            yield f"the firmware throttles (get_throttled 0x{int(flags, 16):x})"

    def _busy(self) -> float | None:
        ticks, seen = 0, False
        for line in (text(self._root / "proc/stat") or "").splitlines():
            name, *counts = line.split()
            if re.fullmatch(r"cpu\d+", name) and (self._cores is None or int(name[3:]) in self._cores):
                user, nice, system, _, _, irq, softirq, steal = map(int, counts[:8])
                ticks, seen = ticks + user + nice + system + irq + softirq + steal, True
        return ticks / 100 if seen else None  # USER_HZ is 100 on every Linux that userland sees (time(7))

    def _memory(self) -> dict[str, int]:
        status = "" if self._status is None else text(self._status) or ""
        sizes = dict(re.findall(r"^(VmRSS|VmHWM):\s*(\d+) kB", status, re.MULTILINE))
        names = {"VmRSS": "rss_bytes", "VmHWM": "peak_rss_bytes"}
        return {names[key]: int(value) * 1024 for key, value in sizes.items()}

    def _temperatures(self) -> Iterator[tuple[str, Path]]:
        for zone in sorted(self._root.glob("sys/class/thermal/thermal_zone*")):
            kind = text(zone / "type") or zone.name
            if not is_dummy(kind):
                yield kind, zone / "temp"
        for monitor in sorted(self._root.glob("sys/class/hwmon/hwmon*")):
            name = text(monitor / "name")
            if name in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
                yield from ((f"{name} {path.name[:-6]}", path) for path in sorted(monitor.glob("temp*_input")))

    def _coolers(self) -> Iterator[tuple[str, Path]]:
        for device in sorted(self._root.glob("sys/class/thermal/cooling_device*")):
            kind = text(device / "type") or ""
            if _COOLS_CPU.search(kind):
                yield f"{kind} ({device.name})", device / "cur_state"


def is_dummy(zone: str) -> bool:
    """Whether a temperature zone is one that always says the same: a Jetson Nano's PMIC is at 100 °C, or at 50."""
    return zone.upper().startswith("PMIC")


def text(path: Path) -> str | None:
    """A small file's content without its end of line; None where it is absent or may not be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip("\0\n ")
    except OSError:  # drivers answer a read with EAGAIN, ENODATA or EIO where a sensor sleeps
        return None


def number(path: Path) -> int | None:
    """A small file's integer; None where there is none."""
    content = text(path)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None

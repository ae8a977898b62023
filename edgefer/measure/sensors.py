"""Clock, temperature, throttling, load, memory and power, as the machine tells them; nothing is guessed.

Paths below /proc and /sys are taken from a root, so that the tests read recorded trees. Sources:

RAPL's energy counters: Linux, Documentation/power/powercap/powercap.rst. INA monitors of boards: Linux,
Documentation/hwmon/ina3221.rst, ina238.rst and ina2xx.rst, with the rails' names of NVIDIA's Jetson Linux developer
guide, "Electrical power and current measurements". ``tegrastats``, for Jetsons whose power monitors only it may read:
"tegrastats utility" in that guide; ``VDD_IN 5090mW/5090mW`` is now/mean (older releases leave out the unit; a rail that
feeds another can be negative), ``cpu@47.5C`` a temperature. The GPU's clock of a board: Linux,
Documentation/ABI/testing/sysfs-class-devfreq. NVIDIA GPUs, through NVML where its library is, without a Python package:
NVML API reference guide and nvml.h.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from edgefer.interrupts import die_with_parent

_CPU = "sys/devices/system/cpu"
_COOLS_CHIP = re.compile(r"cpu|processor|gpu|devfreq", re.IGNORECASE)
_IS_GPU = re.compile(r"gpu|ga10b|gv11b|gp10b", re.IGNORECASE)  # 17000000.gpu, 17000000.ga10b; Thor: gpu-gpc-0
_PI_NOW = 0b1111  # under-voltage, frequency capped, throttled, soft temperature limit: now (raspberrypi.com, os.html)


class Sensors:
    """The sensors of one machine, looked up once; reading them costs a few small files.

    Args:
        root: ``/``, or a recorded tree.
        pid: the process whose memory is read; None for none.
        cores: CPU cores whose load is counted; all if None.
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
        found = (path for path in sorted(root.glob("sys/class/devfreq/*")) if _IS_GPU.search(path.name))
        self._gpu = next((path for path in found if (path / "cur_freq").exists()), None)
        self._firmware = root / "sys/devices/platform/soc/soc:firmware/get_throttled"

    def read(self) -> dict[str, Any]:
        """One reading; a key is absent where the machine does not tell.

        ``mhz`` (of the fastest core), ``celsius`` (zone → degrees), ``throttle_events`` (a counter), ``throttling``
        (what limits the clock now), ``busy_s`` (a counter: processor seconds of all on the cores), ``rss_bytes``,
        ``peak_rss_bytes``, ``gpu_mhz`` and ``gpu_max_mhz`` (of a board's GPU: the clock, and the fastest it has).
        """
        found = {
            "mhz": self._mhz(),
            "celsius": {name: value / 1000 for name, path in self._zones.items() if (value := number(path)) is not None}
            or None,
            "throttle_events": self._events(),
            "throttling": list(self._limits()),
            "busy_s": self._busy(),
            **self._memory(),
            **self._gpu_clock(),
        }
        return {key: value for key, value in found.items() if value is not None}

    def _gpu_clock(self) -> dict[str, float]:
        if self._gpu is None:
            return {}
        listed = [int(hertz) for hertz in (text(self._gpu / "available_frequencies") or "").split() if hertz.isdigit()]
        now, fastest = number(self._gpu / "cur_freq"), max(listed, default=number(self._gpu / "max_freq"))
        told = {"gpu_mhz": now, "gpu_max_mhz": fastest}
        return {key: hertz / 1e6 for key, hertz in told.items() if hertz is not None}

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
        return processor_seconds(text(self._root / "proc/stat") or "", self._cores)

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
            if _COOLS_CHIP.search(kind):
                yield f"{kind} ({device.name})", device / "cur_state"


def is_dummy(zone: str) -> bool:
    """Whether a temperature zone is one that always says the same: a Jetson Nano's PMIC is at 100 °C, or at 50."""
    return zone.upper().startswith("PMIC")


def processor_seconds(stat: str, cores: Collection[int] | None, *, stolen: bool = False) -> float | None:
    """Time that all processes, and a hypervisor, used on ``cores`` (all if None), from the text of /proc/stat.

    With ``stolen``, only the hypervisor's.
    """
    ticks, seen = 0, False
    for line in stat.splitlines():
        name, *counts = line.split()
        if re.fullmatch(r"cpu\d+", name) and (cores is None or int(name[3:]) in cores):
            # user nice system idle iowait irq softirq steal (proc(5)); guests are counted in user already
            user, nice, system, _, _, irq, softirq, steal = map(int, counts[:8])
            ticks, seen = ticks + steal + (0 if stolen else user + nice + system + irq + softirq), True
    return ticks / 100 if seen else None  # USER_HZ is 100 on every Linux that userland sees (time(7))


def text(path: Path) -> str | None:
    """A small file's content without its end of line; None where it is empty, absent or may not be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip("\0\n ") or None
    except OSError:  # drivers answer a read with EAGAIN, ENODATA or EIO where a sensor sleeps
        return None


def number(path: Path) -> int | None:
    """A small file's integer; None where there is none."""
    content = text(path)
    try:
        return None if content is None else int(content)
    except ValueError:
        return None


_WHOLE = ("VDD_IN", "VIN", "POM_5V_IN", "VDD_TOTAL")
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


class PowerMonitors:
    """Power now of a board's rails, from its INA monitors: INA3221 with three rails, INA238 and others with one."""

    source = "INA monitors"

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
    """JetPack 5 and later, and other boards: volts in mV and currents in mA, or ``power1_input`` in µW."""
    for monitor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        chip = text(monitor / "name") or ""
        if chip == "ina3221":
            for label in sorted(monitor.glob("in[1-3]_label")):
                channel = label.name[2]
                yield text(label) or label.name, (monitor / f"in{channel}_input", monitor / f"curr{channel}_input")
        elif chip.startswith("ina"):
            # Thor's INA238 has no label and measures the power input that tegrastats calls VIN (NVIDIA's forum, 366461)
            unnamed = "VIN" if chip == "ina238" else f"{chip} ({monitor.name})"
            power = monitor / "power1_input"
            yield (
                text(monitor / "in1_label") or text(monitor / "label") or unnamed,
                (power,) if power.exists() else (monitor / "in1_input", monitor / "curr1_input"),
            )


def _iio(root: Path) -> Iterator[tuple[str, tuple[Path, ...]]]:
    """JetPack 4: ``rail_name_N``, power in mW."""
    for device in sorted(root.glob("sys/bus/i2c/drivers/ina3221x/*/iio:device*")):
        for label in sorted(device.glob("rail_name_*")):
            yield text(label) or label.name, (device / f"in_power{label.name[-1]}_input",)


def _watts(paths: tuple[Path, ...]) -> float | None:
    values = [value for path in paths if (value := number(path)) is not None]
    if len(values) < len(paths):
        return None
    if len(values) == 2:
        return values[0] * values[1] / 1e6
    return values[0] / (1e6 if paths[0].name.startswith("power") else 1e3)  # hwmon has µW, iio mW


_OK = 0
_TEMPERATURE_GPU = 0
_CLOCK_SM = 1
_HARMLESS = 0x1 | 0x2 | 0x100  # nvmlClocksThrottleReason: GpuIdle, ApplicationsClocksSetting, DisplayClockSetting
_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


class Nvml:
    """One GPU: NVML counts them in another order than CUDA, and does not heed CUDA_VISIBLE_DEVICES.

    Args:
        library: the loaded ``libnvidia-ml``, or what behaves like it.
        uuid: CUDA's UUID of the GPU, 32 hexadecimal digits in five groups; ``""`` where CUDA does not tell it, as an
            old driver's: a machine's only GPU is then taken.
    """

    source = "NVML"

    def __init__(self, library: Any, uuid: str) -> None:
        self._library = library
        self._device = ctypes.c_void_p()
        self.ready = library.nvmlInit_v2() == _OK and (self._by_uuid(uuid) or self._only_one())
        """Whether NVML knows the GPU."""

    def _by_uuid(self, uuid: str) -> bool:
        """A whole GPU, or a part of one (MIG), for which CUDA gives the part's own."""
        names = [f"{kind}-{uuid}".encode() for kind in ("GPU", "MIG")] if uuid else []
        find = self._library.nvmlDeviceGetHandleByUUID
        return any(find(ctypes.c_char_p(name), ctypes.byref(self._device)) == _OK for name in names)

    def _only_one(self) -> bool:
        count = ctypes.c_uint()
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != _OK or count.value != 1:
            return False
        found = self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(0), ctypes.byref(self._device))
        return bool(found == _OK)

    @classmethod
    def here(cls, uuid: str) -> Nvml | None:
        """NVML of this machine; None where there is no driver, or none that knows the GPU."""
        try:
            found = cls(ctypes.CDLL("libnvidia-ml.so.1"), uuid)
        except (OSError, AttributeError):  # no library, or one without these functions
            return None
        return found if found.ready else None

    def driver(self) -> str | None:
        """The driver's version, such as ``570.86.10``."""
        version = ctypes.create_string_buffer(80)  # NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
        status = self._library.nvmlSystemGetDriverVersion(version, ctypes.c_uint(len(version)))
        return version.value.decode("ascii", "replace") if status == _OK else None

    def read(self) -> dict[str, Any]:
        """``watts``, ``celsius``, ``mhz``, ``max_mhz``, ``throttling``; what the GPU does not tell is absent."""
        milliwatts = self._uint("nvmlDeviceGetPowerUsage")
        reasons = self._reasons()
        found = {
            "watts": None if milliwatts is None else milliwatts / 1000,
            "celsius": self._uint("nvmlDeviceGetTemperature", _TEMPERATURE_GPU),
            "mhz": self._uint("nvmlDeviceGetClockInfo", _CLOCK_SM),
            "max_mhz": self._uint("nvmlDeviceGetMaxClockInfo", _CLOCK_SM),
            "throttling": [f"GPU: {name}" for bit, name in _REASONS.items() if reasons & bit],
        }
        return {key: value for key, value in found.items() if value is not None}

    def _uint(self, function: str, *selector: int) -> int | None:
        value = ctypes.c_uint()
        arguments = [ctypes.c_int(which) for which in selector]
        status = getattr(self._library, function)(self._device, *arguments, ctypes.byref(value))
        return int(value.value) if status == _OK else None

    def _reasons(self) -> int:
        value = ctypes.c_ulonglong()
        status = self._library.nvmlDeviceGetCurrentClocksThrottleReasons(self._device, ctypes.byref(value))
        return int(value.value) & ~_HARMLESS if status == _OK else 0


_RAIL = re.compile(r"(?<!\S)([A-Z][A-Z0-9_]*) (-?\d+)(mW)?/-?\d+(?:mW)?(?![\w.])")
_TEMPERATURE = re.compile(r"\b([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C\b")

_GPU_CLOCK = re.compile(r"\bGR3D_FREQ \d+%@\[?(\d+)")
_OFF = -200.0  # a zone that is switched off says −256


def parse_tegrastats(line: str) -> dict[str, Any]:
    """What is told of: ``watts`` of the board, ``rails`` (name → watts), ``celsius`` (zone → degrees), ``gpu_mhz``."""
    # without a unit, only an underscore tells a rail from other pairs of numbers
    found_rails = (rail for rail in _RAIL.findall(line) if rail[2] or "_" in rail[0])
    rails = {name: int(milliwatts) / 1000 for name, milliwatts, _ in found_rails}
    told = ((name, float(value)) for name, value in _TEMPERATURE.findall(line))
    zones = {name: value for name, value in told if value > _OFF and not is_dummy(name)}
    found: dict[str, Any] = {"celsius": zones} if zones else {}
    if (clock := _GPU_CLOCK.search(line)) is not None:
        found["gpu_mhz"] = float(clock[1])
    return {**found, "watts": whole_board(rails), "rails": rails} if rails else found


class Tegrastats:
    """The tool, running; its newest line is what :meth:`read` gives.

    Raises:
        OSError: it cannot be started.
    """

    source = "tegrastats"

    def __init__(self, program: str, interval_ms: int) -> None:
        self._process = subprocess.Popen(
            [program, "--interval", str(interval_ms)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one prctl(2); its own process has no threads
        )
        assert self._process.stdout is not None
        self._lines = self._process.stdout

    @classmethod
    def here(cls, interval_ms: int) -> Tegrastats | None:
        """The tool of this machine; None where there is none."""
        program = shutil.which("tegrastats")
        return None if program is None else cls(program, interval_ms)

    def read(self) -> dict[str, Any]:
        """The next line; the tool sets the pace."""
        return parse_tegrastats(self._lines.readline().decode("ascii", "replace"))

    def close(self) -> None:
        """End the tool."""
        self._process.terminate()
        self._process.wait()

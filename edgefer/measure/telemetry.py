"""What the machine did while something was measured, watched by a process of its own.

``python -m edgefer.measure.telemetry --pid PID --interval SECONDS --cores 0,1 --gpu 0`` writes a JSON line per reading
on stdout, until its stdin closes.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import edgefer
from edgefer.engines.tensorrt.cuda import find_gpu
from edgefer.errors import EdgeferError
from edgefer.measure.sensors import Nvml, PowerMonitors, Rapl, Sensors, Tegrastats
from edgefer.progress import announce

INTERVAL = 0.2
"""Seconds between readings: a few per thousand of one core."""

_START_SECONDS = 10.0


class Recorder:
    """A context manager; :attr:`recording` is what was seen, to the last reading.

    Where no second process can be started, that is said once and the recording stays empty.

    Args:
        interval: seconds between readings.
        gpu: CUDA's number of the GPU that is watched too; None where what is measured uses none.
    """

    def __init__(self, interval: float = INTERVAL, gpu: int | None = None) -> None:
        self._interval, self._gpu = interval, gpu
        self._process: subprocess.Popen[bytes] | None = None
        self._output: Any = None

    def __enter__(self) -> Recorder:
        self._output = tempfile.TemporaryFile()
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
        home = str(Path(edgefer.__file__).resolve().parents[1])
        command = [sys.executable, "-m", "edgefer.measure.telemetry", "--pid", str(os.getpid())]
        options = ["--interval", str(self._interval), "--cores", ",".join(map(str, sorted(cores)))]
        options += [] if self._gpu is None else ["--gpu", str(self._gpu)]
        search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
        try:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": search},
            )
        except OSError as cause:
            announce(f"note: no telemetry: its process cannot be started ({cause.strerror or cause})")
            return self
        deadline = time.monotonic() + _START_SECONDS
        while not os.fstat(self._output.fileno()).st_size and self._process.poll() is None:
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)  # it is up before anything is timed
        if not os.fstat(self._output.fileno()).st_size:
            announce("note: no telemetry: its process gave no reading")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._output.close()

    def recording(self) -> Recording:
        """All readings so far; to be called inside the block."""
        content = os.pread(self._output.fileno(), os.fstat(self._output.fileno()).st_size, 0)
        whole = content[: content.rfind(b"\n") + 1]
        return Recording(tuple(json.loads(line) for line in whole.splitlines()), self._interval)


CLOCK_DROP = 0.10
"""Share by which the median clock may fall from the first third to the last."""

GPU_BELOW = 0.05
"""Share by which a GPU's median clock may stay below its fastest before that is said."""

Reading = Mapping[str, Any]


@dataclass(frozen=True)
class Recording:
    """Readings in the order they were taken.

    Attributes:
        readings: see :meth:`Watch.read`.
        interval: seconds between them.
    """

    readings: tuple[Reading, ...]
    interval: float

    def between(self, start: float, end: float) -> Recording:
        """The readings of ``start`` ≤ t ≤ ``end``, seconds of ``time.monotonic``, and the one before each end."""
        times = [reading["t"] for reading in self.readings]
        first = max(0, int(np.searchsorted(times, start, side="right")) - 1)
        return Recording(self.readings[first : int(np.searchsorted(times, end, side="right"))], self.interval)

    def joules(self, start: float, end: float) -> tuple[str, float] | None:
        """Energy from ``start`` to ``end`` and its source: a board's, a GPU's or the processor's, in this order.

        A counter is interpolated; powers are held until the next reading. None where the machine does not tell, or the
        readings do not reach from ``start`` to ``end``.
        """
        for source in (PowerMonitors.source, Tegrastats.source, Nvml.source, Rapl.source):
            told = [(r["t"], r["power"][source]) for r in self.readings if source in r.get("power", {})]
            if len(told) < 2 or told[0][0] > start or told[-1][0] + 2 * self.interval < end:
                continue
            times = np.array([t for t, _ in told])
            if all("joules" in values for _, values in told):
                counter = np.interp([start, end], times, [values["joules"] for _, values in told])
                return source, float(counter[1] - counter[0])
            if all("watts" in values for _, values in told):
                edges = np.clip(np.append(times, end), start, end)
                return source, float((np.diff(edges) * [values["watts"] for _, values in told]).sum())
        return None

    def throttled(self) -> Iterator[str]:
        """Reasons to believe that the processor was slowed down, none where there are none."""
        events = self._values("throttle_events")
        if events and events[-1] > events[0]:
            yield f"the processor was throttled {int(events[-1] - events[0])} times"
        limits = {limit for reading in self.readings for limit in reading.get("throttling", ())}
        yield from (f"throttled: {limit}" for limit in sorted(limits))
        for key, what in (("mhz", "the clock"), ("gpu_mhz", "the GPU's clock")):
            first, last = self._thirds(key)
            if first and last and last < (1 - CLOCK_DROP) * first:
                yield f"{what} fell from {first:,.0f} to {last:,.0f} MHz"

    def gpu_below(self) -> Iterator[str]:
        """A sentence where the GPU ran below its fastest clock, as one does that nothing holds there."""
        clocks, fastest = self._values("gpu_mhz"), max(self._values("gpu_max_mhz"), default=0.0)
        if clocks and (median := float(np.median(clocks))) < (1 - GPU_BELOW) * fastest:
            yield (
                f"the GPU ran at {median:,.0f} MHz (median) and can do {fastest:,.0f}: its figures are too slow unless "
                "it is used so. On a Jetson `sudo nvpmodel -m 0` and `sudo jetson_clocks` hold it at its fastest; "
                "elsewhere `sudo nvidia-smi --lock-gpu-clocks` holds it where it can stay"
            )

    def summary(self) -> dict[str, Any]:
        """JSON-ready; a value is None where the machine does not tell, and ``untold`` lists those.

        ``cpu_load`` (cores busy, all processes), ``mhz`` (min, median, max, and medians of the first and last third),
        ``celsius`` (of the zone that became hottest), ``throttled`` (reasons), ``rss_bytes`` (greatest seen),
        ``peak_rss_bytes`` (since the process began), ``watts`` (mean) with ``power_source``; and ``gpu_mhz`` (min,
        median, max, and ``fastest``, which it can do) where a GPU told its clock.
        """
        clocks, gpu = self._values("mhz"), self._values("gpu_mhz")
        found: dict[str, Any] = {
            "readings": len(self.readings),
            "interval_s": self.interval,
            "seconds": round(self._span(), 2),
            "cpu_load": self._load(),
            "mhz": None,
            "celsius": self._hottest(),
            "throttled": list(self.throttled()),
            "rss_bytes": max(self._values("rss_bytes"), default=None),
            "peak_rss_bytes": max(self._values("peak_rss_bytes"), default=None),
            "watts": None,
            "power_source": None,
        }
        if clocks:
            first, last = self._thirds("mhz")
            found["mhz"] = {"min": min(clocks), "median": float(np.median(clocks)), "max": max(clocks)}
            found["mhz"] |= {"first_third": first, "last_third": last}
        if gpu:
            found["gpu_mhz"] = {"min": min(gpu), "median": float(np.median(gpu)), "max": max(gpu)}
            found["gpu_mhz"]["fastest"] = max(self._values("gpu_max_mhz"), default=None)
        if len(self.readings) > 1:
            energy = self.joules(self.readings[0]["t"], self.readings[-1]["t"])
            if energy is not None and self._span() > 0:
                found["power_source"], found["watts"] = energy[0], energy[1] / self._span()
        found["untold"] = [key for key in ("mhz", "celsius", "watts") if found[key] is None]
        found["untold"] += sorted({what for reading in self.readings for what in reading.get("forbidden", ())})
        return found

    def _span(self) -> float:
        return float(self.readings[-1]["t"] - self.readings[0]["t"]) if self.readings else 0.0

    def _values(self, key: str) -> list[float]:
        return [reading[key] for reading in self.readings if key in reading]

    def _thirds(self, key: str) -> tuple[float | None, float | None]:
        values: Sequence[float] = self._values(key)
        third = len(values) // 3
        return (float(np.median(values[:third])), float(np.median(values[-third:]))) if third else (None, None)

    def _load(self) -> float | None:
        busy = self._values("busy_s")
        return round((busy[-1] - busy[0]) / self._span(), 3) if len(busy) > 1 and self._span() > 0 else None

    def _hottest(self) -> dict[str, Any] | None:
        zones: dict[str, list[float]] = {}
        for reading in self.readings:
            for zone, value in reading.get("celsius", {}).items():
                zones.setdefault(zone, []).append(value)
        if not zones:
            return None
        zone = max(zones, key=lambda name: max(zones[name]))
        return {"zone": zone, "first": zones[zone][0], "last": zones[zone][-1], "max": max(zones[zone])}


class Watch:
    """All that this machine tells, as one reading.

    Args:
        root: ``/``, or a recorded tree.
        pid: the process that is watched.
        cores: CPU cores that it may use.
        gpu: NVML, if there is any.
        tegrastats: the tool, if it is needed.
        uses_gpu: whether the process uses a GPU, so that the clock of a board's is of interest.
    """

    def __init__(
        self,
        root: Path,
        pid: int | None,
        cores: frozenset[int] | None,
        gpu: Nvml | None = None,
        tegrastats: Tegrastats | None = None,
        uses_gpu: bool = False,
    ) -> None:
        self._uses_gpu = uses_gpu
        self._sensors = Sensors(root, pid, cores)
        self._rapl, self._monitors = Rapl(root), PowerMonitors(root)
        self._gpu, self._tegrastats = gpu, tegrastats

    def read(self, now: Callable[[], float] = time.monotonic) -> dict[str, Any]:
        """The sensors' reading with ``t`` (s, monotonic) and ``power`` (source → what it told)."""
        power: dict[str, Any] = {Rapl.source: self._rapl.read(), PowerMonitors.source: self._monitors.read()}
        reading = self._sensors.read()
        if not self._uses_gpu:
            reading = {key: value for key, value in reading.items() if key not in ("gpu_mhz", "gpu_max_mhz")}
        if self._gpu is not None:
            power[Nvml.source] = gpu = self._gpu.read()
            reading["throttling"] = [*reading["throttling"], *gpu.pop("throttling", [])]
            clocks = {"gpu_mhz": gpu.pop("mhz", None), "gpu_max_mhz": gpu.pop("max_mhz", None)}
            reading |= {key: megahertz for key, megahertz in clocks.items() if megahertz is not None}
        if self._tegrastats is not None:
            power[Tegrastats.source] = told = self._tegrastats.read()
            reading["celsius"] = {**reading.get("celsius", {}), **told.pop("celsius", {})}
            clock = told.pop("gpu_mhz", None)
            if clock is not None and self._uses_gpu:
                reading.setdefault("gpu_mhz", clock)
        reading["power"] = {source: values for source, values in power.items() if values}
        if self._rapl.forbidden:
            reading["forbidden"] = ["RAPL (its counters may be read by root only)"]
        return {"t": round(now(), 4), **reading}


def gpu_sensors(index: int) -> Nvml | None:
    """NVML's sensors of the GPU that CUDA counts as ``index``; None where there is no such GPU, or NVML has no sensor.

    CUDA is asked, which heeds CUDA_VISIBLE_DEVICES and has an order of its own.
    """
    try:
        return Nvml.here(find_gpu(index).uuid)
    except EdgeferError:
        return None


def main() -> None:
    """Watch until stdin closes: it does so too where the process that started this one was killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--interval", type=float, required=True)
    parser.add_argument("--cores", default="")
    parser.add_argument("--gpu", type=int)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that measures; it closes stdin then
    cores = frozenset(map(int, arguments.cores.split(","))) if arguments.cores else None
    # its power monitors are asked directly where they may be read
    tool = None if PowerMonitors().read() else Tegrastats.here(max(20, int(arguments.interval * 1000)))
    gpu = None if arguments.gpu is None else gpu_sensors(arguments.gpu)
    watch = Watch(Path("/"), arguments.pid, cores, gpu, tool, uses_gpu=arguments.gpu is not None)
    try:
        if hasattr(os, "nice"):
            os.nice(5)  # the watched process is not to be held up by the watcher
        while not select.select([sys.stdin], [], [], arguments.interval)[0]:
            print(json.dumps(watch.read()), flush=True)
    finally:
        if tool is not None:
            tool.close()


if __name__ == "__main__":
    main()

"""The process that watches: a JSON line a reading on stdout, until its stdin closes.

``python -m edgefer.measure.telemetry.process --pid PID --interval SECONDS --cores 0,1``
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefer.measure.telemetry.nvml import Nvml
from edgefer.measure.telemetry.power import Ina3221, Rapl
from edgefer.measure.telemetry.sensors import Sensors
from edgefer.measure.telemetry.tegrastats import Tegrastats


class Watch:
    """All that this machine tells, as one reading.

    Args:
        root: ``/``, or a recorded tree.
        pid: the process that is watched.
        cores: that it may use.
        gpu: NVML, if there is any.
        tegrastats: the tool, if it is needed.
    """

    def __init__(
        self,
        root: Path,
        pid: int | None,
        cores: frozenset[int] | None,
        gpu: Nvml | None = None,
        tegrastats: Tegrastats | None = None,
    ) -> None:
        self._sensors = Sensors(root, pid, cores)
        self._rapl, self._ina = Rapl(root), Ina3221(root)
        self._gpu, self._tegrastats = gpu, tegrastats

    def read(self, now: Callable[[], float] = time.monotonic) -> dict[str, Any]:
        """The sensors' reading with ``t`` (s, monotonic) and ``power`` (source → what it told)."""
        power: dict[str, Any] = {Rapl.source: self._rapl.read(), Ina3221.source: self._ina.read()}
        reading = self._sensors.read()
        if self._gpu is not None:
            power[Nvml.source] = gpu = self._gpu.read()
            reading["throttling"] = [*reading["throttling"], *gpu.pop("throttling", [])]
        if self._tegrastats is not None:
            power[Tegrastats.source] = told = self._tegrastats.read()
            reading["celsius"] = {**reading.get("celsius", {}), **told.pop("celsius", {})}
        reading["power"] = {source: values for source, values in power.items() if values}
        if self._rapl.forbidden:
            reading["forbidden"] = ["RAPL (its counters may be read by root only)"]
        return {"t": round(now(), 4), **reading}


def main() -> None:
    """Watch until stdin closes: it does so too where the process that started this one was killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--interval", type=float, required=True)
    parser.add_argument("--cores", default="")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that measures; it closes stdin then
    cores = frozenset(map(int, arguments.cores.split(","))) if arguments.cores else None
    # its power monitors are asked directly where they may be read
    tool = None if Ina3221().read() else Tegrastats.here(max(20, int(arguments.interval * 1000)))
    watch = Watch(Path("/"), arguments.pid, cores, Nvml.here(), tool)
    try:
        _lower_priority()
        while not select.select([sys.stdin], [], [], arguments.interval)[0]:
            print(json.dumps(watch.read()), flush=True)
    finally:
        if tool is not None:
            tool.close()


def _lower_priority() -> None:
    """The watched are not to be held up by the watcher."""
    if hasattr(os, "nice"):
        os.nice(5)


if __name__ == "__main__":
    main()

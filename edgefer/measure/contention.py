"""Whether anything else used the processor while something was measured. A busy machine is marked, not hidden."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from edgefer.measure.environment import available_cores, load_average

TOLERATED_LOAD = 0.5
"""Runnable processes of the last minute, before anything of ours ran."""

TOLERATED_CORES = 0.10
"""Cores' worth of time that everything but this process may take."""


@dataclass(frozen=True)
class Usage:
    """Seconds so far: processor time of all on the cores that this process may use, of this process, and the wall's."""

    everyone: float | None
    own: float
    wall: float

    @classmethod
    def now(cls) -> Usage:
        """Read the counters; ``everyone`` is None where the system has no /proc/stat."""
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return cls(_everyone(), own, time.monotonic())


def others_since(start: Usage) -> float | None:
    """Cores that other processes, and a hypervisor that gave ours away, used since ``start``; None if unknown."""
    now = Usage.now()
    if now.everyone is None or start.everyone is None or now.wall <= start.wall:
        return None
    used = (now.everyone - start.everyone) - (now.own - start.own)
    return round(max(0.0, used / (now.wall - start.wall)), 3)


def too_busy(others: float | None) -> bool:
    """Whether others used more than :data:`TOLERATED_CORES`."""
    return others is not None and others > TOLERATED_CORES


def busy_before(seconds: float) -> list[str]:
    """Watch for ``seconds`` while doing nothing; the reasons not to measure now, none on a quiet machine."""
    reasons = []
    load = load_average()
    if load is not None and load > TOLERATED_LOAD:
        reasons.append(f"the load average was {load} before the start")
    start = Usage.now()
    time.sleep(seconds)
    others = others_since(start)
    if too_busy(others):
        reasons.append(f"other processes used {others:.2f} of {available_cores()} cores before the start")
    return reasons


def _everyone() -> float | None:
    stat = Path("/proc/stat")
    if not stat.is_file() or not hasattr(os, "sched_getaffinity"):
        return None
    mine = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    ticks = 0
    for line in stat.read_text(encoding="ascii", errors="replace").splitlines():
        name, *counts = line.split()
        if name in mine:
            # user nice system idle iowait irq softirq steal (proc(5)); guests are counted in user already
            user, nice, system, _, _, irq, softirq, steal = map(int, counts[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")

"""What disturbed a measurement of speed: other processes, a slowed clock, a drift; and which figures that marks.

A disturbed figure is shown and marked, with its reasons; only a gate does not pass on it. :func:`disturbances` is the
one rule. Whoever times something reads a :class:`LoadMeter` around it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgefer.measure.environment import available_cores, load_average
from edgefer.measure.latency import Interleaved
from edgefer.measure.sensors import processor_seconds, text

MARK = "~"
"""Stands before a disturbed figure in text."""
TAIL_SHARE = 0.05
MEDIAN_SHARE = 0.05
SPEEDUP_SHARE = 0.25
"""Shares of a runtime's processor time that others may take before these figures are marked: :func:`disturbances`."""
NOTABLE_DRIFT = 0.10
"""Change of a median from the first third of the rounds to the last that is marked."""
NAMED_PROCESSES = 3
"""Maximum number of other processes that are named."""
_NAMED_CORES = 0.02
_TICKS = 100  # USER_HZ is 100 on every Linux that userland sees (time(7))


@dataclass(frozen=True)
class OtherLoad:
    """Processor time that others used while something was measured.

    Attributes:
        cores: cores' worth of it, other processes and a hypervisor that gave ours away together.
        of: number of cores that this process may use.
        processes: name → cores' worth of the busiest processes that still ran at the end.
        paired: whether two cores each are hardware threads of one: half of them are then counted.
    """

    cores: float
    of: int
    processes: Mapping[str, float] = field(default_factory=dict)
    paired: bool = False

    def spread(self, threads: int) -> float:
        """Share of the time of ``threads`` threads, 0–1, that others take if the load spreads evenly over the cores."""
        return min(1.0, self.cores * min(threads, self.of) / self.of)

    def crowding(self, threads: int) -> float:
        """Share of the time, 0–1, in which others meet ``threads`` threads although they move to idle cores first."""
        idle = max(0, (self.of // 2 if self.paired else self.of) - threads)
        return min(1.0, max(0.0, self.cores - idle))

    def sentence(self) -> str:
        """``other processes used 0.31 of 2 cores (chromium 0.28)``."""
        named = [f"{name} {cores:.2f}" for name, cores in self.processes.items()]
        who = f" ({', '.join(named)})" if named else ""
        return f"other processes used {self.cores:.2f} of {self.of} cores{who}"


class LoadMeter:
    """Measures the processor time of all others from its making to :meth:`read`; both cost some milliseconds.

    The children of this process count as its own.

    Args:
        root: ``/``, or a recorded tree.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._before, self._processes = _Counters.now(root), _processes(root)

    def read(self) -> OtherLoad | None:
        """The load since; None where the system has no /proc/stat, or no time has passed."""
        now, processes = _Counters.now(self._root), _processes(self._root)
        seconds = now.wall - self._before.wall
        if now.everyone is None or self._before.everyone is None or seconds <= 0:
            return None
        ours = _descendants(processes, os.getpid())
        used: dict[str, float] = {"hypervisor": now.stolen - self._before.stolen}
        living = 0.0
        for key, process in processes.items():
            earlier = self._processes.get(key)
            spent = process.seconds - (0.0 if earlier is None else earlier.seconds)
            if key not in ours:
                used[process.name] = used.get(process.name, 0.0) + spent
            elif key[0] != os.getpid():
                living += spent
        others = (now.everyone - self._before.everyone) - (now.own - self._before.own) - living
        ranked = sorted(((spent / seconds, name) for name, spent in used.items()), reverse=True)[:NAMED_PROCESSES]
        named = {name: round(cores, 3) for cores, name in ranked if cores >= _NAMED_CORES}
        paired = (text(self._root / "sys/devices/system/cpu/smt/active") or "").strip() == "1"
        return OtherLoad(round(max(0.0, others / seconds), 3), available_cores(), named, paired)


@dataclass(frozen=True)
class Disturbed:
    """Reasons why figures of one network are marked, by kind; where there are none, a figure stands as it is.

    Attributes:
        median: reasons to doubt the median, and images per second, which come from it.
        tail: reasons to doubt higher percentiles, the mean, missed deadlines and energy.
        speedup: reasons to doubt the speed-up over the baseline.
    """

    median: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    speedup: tuple[str, ...] = ()

    def percentile(self, percent: str) -> tuple[str, ...]:
        """Reasons to doubt percentile ``"50"``, ``"95"``, …."""
        return self.median if percent == "50" else self.tail

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons, each once."""
        return tuple(dict.fromkeys((*self.median, *self.tail, *self.speedup)))


UNDISTURBED = Disturbed()


def disturbances(
    timing: Interleaved, load: OtherLoad | None, threads: int, slowed: Sequence[str] = ()
) -> dict[str, Disturbed]:
    """The rule: which figures of each runner are disturbed, and why.

    *Other processes.* A scheduler moves a load to cores that are idle, so that one process beside one thread on two
    cores changes nothing that can be measured. What does not fit there (:meth:`OtherLoad.crowding`) meets a call of
    several threads whichever of them it hits, since the others wait for that one: the median is marked from
    :data:`MEDIAN_SHARE` on. Many processes that wake together use all cores for a moment even where their average is
    small. The calls that they hit are the slowest ones, so p95 and what lies above are marked from a twentieth of load
    that spreads evenly (:meth:`OtherLoad.spread`, :data:`TAIL_SHARE`) as well. A speed-up divides medians of calls that
    were made within the same rounds, where the load hit both: it is marked from :data:`SPEEDUP_SHARE` on.
    ``benchmarks/disturbance.py`` measures what each load does to each figure.

    *A slowed clock* (``slowed``: the reasons) makes times too high, but those of both runners of a ratio.

    *Drift.* A runner's times are marked where its median changed by a tenth from the first third of the rounds to the
    last, and its speed-up over the first runner where that ratio did.

    Returns:
        Runner → its reasons.
    """
    hit = hit_by(load, threads)
    reference = next(iter(timing.rounds_ms))
    drifts = {name: timing.drift(name) for name in timing.rounds_ms}
    own = _drifted("medians", drifts)
    ratios = _drifted("speed-ups", {name: drifts[reference] / drift for name, drift in drifts.items()})
    return {
        name: Disturbed(
            median=(*hit.median, *slowed, *own.get(name, ())),
            tail=(*hit.tail, *slowed, *own.get(name, ())),
            speedup=(*hit.speedup, *ratios.get(name, ())),
        )
        for name in drifts
    }


def hit_by(load: OtherLoad | None, threads: int) -> Disturbed:
    """What a load disturbs where ``threads`` compute: the first part of :func:`disturbances`."""
    if load is None:
        return UNDISTURBED
    told, crowding = (load.sentence(),), load.crowding(threads)
    return Disturbed(
        median=told if crowding > MEDIAN_SHARE else (),
        tail=told if max(crowding, load.spread(threads)) > TAIL_SHARE else (),
        speedup=told if crowding > SPEEDUP_SHARE else (),
    )


def _drifted(what: str, changes: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """One sentence on all runners that changed by more than :data:`NOTABLE_DRIFT`, the same for each of them."""
    notable = {name: change - 1 for name, change in changes.items() if abs(change - 1) > NOTABLE_DRIFT}
    told = ", ".join(f"{name} {change:+.0%}" for name, change in notable.items())
    return dict.fromkeys(notable, (f"{what} changed while they were timed: {told}",))


@dataclass(frozen=True)
class _Counters:
    """Seconds so far: processor time of all on our cores, what a hypervisor took of it, our own, and the wall's."""

    everyone: float | None
    stolen: float
    own: float
    wall: float

    @classmethod
    def now(cls, root: Path) -> _Counters:
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
        stat = text(root / "proc/stat") or ""
        stolen = processor_seconds(stat, cores, stolen=True) or 0.0
        return cls(processor_seconds(stat, cores), stolen, own, time.monotonic())


@dataclass(frozen=True)
class _Process:
    name: str
    parent: int
    seconds: float


def _processes(root: Path) -> dict[tuple[int, int], _Process]:
    """(id, start time) → process, of all that may be seen: the fields of /proc/PID/stat, proc(5)."""
    found = {}
    for path in (root / "proc").glob("[0-9]*"):
        head, _, rest = (text(path / "stat") or "").rpartition(")")
        fields = rest.split()
        if len(fields) < 20:  # it ended meanwhile
            continue
        name = "".join(letter for letter in head.partition("(")[2] if letter.isprintable())
        seconds = (int(fields[11]) + int(fields[12])) / _TICKS
        found[int(path.name), int(fields[19])] = _Process(name, int(fields[1]), seconds)
    return found


def _descendants(processes: Mapping[tuple[int, int], _Process], pid: int) -> set[tuple[int, int]]:
    """The process ``pid`` and all below it."""
    parents = {key[0]: process.parent for key, process in processes.items()}

    def is_ours(one: int) -> bool:
        seen = set()
        while one in parents and one != pid and one not in seen:
            seen.add(one)
            one = parents[one]
        return one == pid

    return {key for key in processes if is_ours(key[0])}


TOLERATED_LOAD = 0.5
"""Runnable processes of the last minute, before anything of ours ran."""

TOLERATED_CORES = 0.10
"""Cores' worth of time that others may take while figures are measured that are published."""


def too_busy(load: OtherLoad | None) -> bool:
    """Whether others used more than :data:`TOLERATED_CORES`."""
    return load is not None and load.cores > TOLERATED_CORES


def busy_before(seconds: float) -> list[str]:
    """Watch for ``seconds`` while doing nothing; the reasons not to measure now, none on a quiet machine."""
    reasons = []
    average = load_average()
    if average is not None and average > TOLERATED_LOAD:
        reasons.append(f"the load average was {average} before the start")
    meter = LoadMeter()
    time.sleep(seconds)
    load = meter.read()
    if load is not None and too_busy(load):
        reasons.append(f"{load.sentence()} before the start")
    return reasons

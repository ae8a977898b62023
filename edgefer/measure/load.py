"""Several callers at once: what a server sees, and what threads inside a runtime compete with."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgefer.errors import EdgeferError
from edgefer.measure.latency import Latency, Runner, no_garbage_collection, warm_up


@dataclass(frozen=True, eq=False)
class Load:
    """What callers got together.

    Attributes:
        latency: of all their calls, ms.
        calls_per_s: of all callers together: each one's calls over the time that it took for them.
        settled: whether the warm-up of every caller ended before its cap.
    """

    latency: Latency
    calls_per_s: float
    settled: bool


def closed_loop(runners: Sequence[Runner], seconds: float, warm_up_seconds: float = 2.0) -> Load:
    """Call every runner from a thread of its own, without a pause, for ``seconds``.

    Before that, all are called together until each has settled, or for ``warm_up_seconds``; see ``latency.warm_up``.
    Each runner has its own session, as runtimes are not all safe to share. Python's lock is free while a runtime
    computes.

    Raises:
        EdgeferError: no runner, or no time; whatever a runner raises.
    """
    if not runners or not seconds > 0:
        raise EdgeferError(f"a load needs callers and time, not {len(runners)} and {seconds} s")
    ready = threading.Barrier(len(runners))
    samples: list[list[int]] = [[] for _ in runners]
    lasted = [0] * len(runners)
    settled = [False] * len(runners)
    faults: list[Exception] = []

    def work(index: int, run: Runner) -> None:
        try:
            settled[index] = warm_up(run, warm_up_seconds, time.perf_counter_ns)
            ready.wait()
            start = time.perf_counter_ns()
            while (before := time.perf_counter_ns()) < start + seconds * 1e9:
                run()
                samples[index].append(time.perf_counter_ns() - before)
            lasted[index] = time.perf_counter_ns() - start
        except threading.BrokenBarrierError:  # another caller failed before the start: its fault is told
            return
        except Exception as fault:  # it is raised again, by the thread that asked
            faults.append(fault)
            ready.abort()

    with no_garbage_collection():
        threads = [threading.Thread(target=work, args=item, daemon=True) for item in enumerate(runners)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]
    whole = [sample / 1e6 for mine in samples for sample in mine]
    return Load(
        Latency.from_samples(whole),
        sum(len(mine) / time_ns * 1e9 for mine, time_ns in zip(samples, lasted, strict=True)),
        all(settled),
    )

"""What calls take on the GPU itself, of engines whose sessions time it between CUDA events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from edgefer.engines.classifier import Classifier
from edgefer.engines.tensorrt.run import CallTiming, TensorRtSession
from edgefer.measure.latency import Interleaved, Runner, carries


@dataclass(frozen=True)
class GpuTimes:
    """Medians of the timed calls, ms between CUDA events.

    Attributes:
        upload: of the copy to the GPU.
        compute: of the network.
        download: of the copy back.
        calls: how many were timed.
        replayed: how many of them replayed a captured CUDA graph.
    """

    upload: float
    compute: float
    download: float
    calls: int
    replayed: int

    def to_dict(self) -> dict[str, float | int]:
        """JSON-ready."""
        return asdict(self)


class Watched:
    """A runner that keeps what each of its calls took on the GPU."""

    def __init__(self, run: Runner, session: TensorRtSession) -> None:
        self._run, self._session = run, session
        self._kept: list[CallTiming | None] = []

    def __call__(self) -> None:
        """Run it, and keep that."""
        self._run()
        self._kept.append(self._session.timing)

    def times(self, rounds: int, calls: int) -> GpuTimes | None:
        """Of the timed calls alone, if nothing was called since; None of fewer than a median needs.

        Args:
            rounds: that were made after the warm-up.
            calls: timed ones in a round; one that is not timed comes before them, as in
                :func:`~edgefer.measure.latency.interleave` and :func:`~edgefer.measure.pacing.pace`.
        """
        since = self._kept[-rounds * (calls + 1) :]
        timed = [call for place, call in enumerate(since) if place % (calls + 1) and call is not None]
        if not carries(len(timed), 50):
            return None
        upload, compute, download = np.median([(call.upload, call.compute, call.download) for call in timed], axis=0)
        replayed = sum(call.graph for call in timed)
        return GpuTimes(float(upload), float(compute), float(download), len(timed), replayed)


def watched(classifier: Classifier, run: Runner) -> Runner:
    """``run``, watched where the classifier's session times its calls."""
    session = classifier.session
    return Watched(run, session) if isinstance(session, TensorRtSession) else run


def gpu_times(runners: Mapping[str, Runner], timing: Interleaved) -> dict[str, GpuTimes]:
    """Name → times of those runners that were watched; asked before they are called again."""
    told = {name: run.times(*timing.rounds_ms[name].shape) for name, run in runners.items() if isinstance(run, Watched)}
    return {name: times for name, times in told.items() if times is not None}

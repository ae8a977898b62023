"""Every switch that changes what a number means, written down beside it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import Any

from edgefer.errors import EdgeferError
from edgefer.measure.latency import MEANING, TIMED_FACES, check_scope
from edgefer.measure.pacing import FrameRate
from edgefer.measure.paired import check_margin

CALLS_A_TURN = 5
MARGIN_PP = 0.5
_VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_AFFINITY", "MKL_NUM_THREADS"),
    *("OPENBLAS_NUM_THREADS", "MALLOC_ARENA_MAX", "ONEDNN_MAX_CPU_ISA", "CUDA_VISIBLE_DEVICES"),
)


@dataclass(frozen=True)
class Settings:
    """How a benchmark was asked for.

    Attributes:
        batch: faces a timed call.
        threads: that each runtime is given.
        scope: what a timed call is; see ``edgefer.measure.latency``.
        seconds: of timing, all runners together.
        iterations: timed calls a runner, instead of ``seconds``; None for ``seconds``.
        warm_up: cap of each runner's warm-up, seconds.
        fps: of the scope ``paced``.
        deadline_ms: of the scope ``paced``; one period if None.
        limit: judged faces at most; None for all.
        seed: of every random choice.
        margin_pp: the drop that would be accepted, points.

    Raises:
        EdgeferError: a value that cannot be.
    """

    batch: int = 1
    threads: int = 1
    scope: str = "e2e"
    seconds: float = 10.0
    iterations: int | None = None
    warm_up: float = 2.0
    fps: float = 30.0
    deadline_ms: float | None = None
    limit: int | None = None
    seed: int = 0
    margin_pp: float = MARGIN_PP

    def __post_init__(self) -> None:
        check_scope(self.scope)
        if self.batch < 1 or self.threads < 1:
            raise EdgeferError(f"batch and threads must be at least 1, not {self.batch} and {self.threads}")
        if self.iterations is not None and self.iterations < 1:
            raise EdgeferError(f"the iterations must be at least 1, not {self.iterations}", hint="--iterations 1000")
        if not 0 < self.seconds < math.inf:
            raise EdgeferError(
                f"the measurement must last longer than 0 s, not {self.seconds}", hint="pass e.g. --seconds 10"
            )
        if not 0 <= self.warm_up < math.inf:
            raise EdgeferError(f"the warm-up must not be negative, and is {self.warm_up} s", hint="--warm-up 2")
        check_margin(self.margin_pp)
        if self.scope == "paced":
            FrameRate(self.fps, self.deadline_ms)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, with what nobody chose but what matters too."""
        paced = self.scope == "paced"
        chosen = {key: value for key, value in asdict(self).items() if paced or key not in ("fps", "deadline_ms")}
        return {
            **chosen,
            "a_call_is": MEANING[self.scope],
            "different_faces": max(self.batch, TIMED_FACES),
            "interleaved": "blocks of frames, shuffled" if paced else "turns within rounds, shuffled",
            "timed_calls_a_turn": CALLS_A_TURN,
            "untimed_calls_a_turn": 1,
            "clock": "time.perf_counter_ns",
            "garbage_collection": "off while timing",
            "variables": variables(),
        }


def variables() -> dict[str, str]:
    """The environment's variables that change how fast a runtime is, as far as they are set."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}

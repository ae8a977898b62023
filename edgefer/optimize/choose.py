"""Which candidate to ship: each is timed beside the others on this machine and, for `auto`, judged on `val`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.measure.evaluate import evaluate
from edgefer.measure.latency import interleave
from edgefer.measure.paired import Paired
from edgefer.progress import progress

SECONDS_EACH = 1.5
"""Of timing a candidate; the rounds are interleaved, so a drifting clock touches all alike."""


@dataclass(frozen=True)
class Figures:
    """What was measured of one candidate; ``None`` is what was not measured.

    Attributes:
        p50_ms: median of a call on this machine, ms.
        drop_pp: accuracy drop against the reference on `val`, percentage points, with its 95 % interval.
        agreement: share of `val` faces with the reference's answer.
        within: whether the drop is within the tolerance.
        method: how histograms became ranges, where that was a choice; sqnr_db, kl: its output error on `val`.
        float_macs: multiply-accumulates a face in layers kept out of INT8, where that is the cost and not time.
    """

    label: str
    runtime: str
    precision: str
    scheme: str | None
    bytes: int
    p50_ms: float | None = None
    drop_pp: float | None = None
    ci95_pp: tuple[float, float] | None = None
    agreement: float | None = None
    within: bool = True
    chosen: bool = False
    method: str | None = None
    sqnr_db: float | None = None
    kl: float | None = None
    float_macs: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For the manifest; :meth:`from_dict` is its inverse."""
        return {**self.__dict__, "ci95_pp": None if self.ci95_pp is None else list(self.ci95_pp)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Figures:
        """Read what :meth:`to_dict` wrote."""
        interval = content["ci95_pp"]
        return cls(**{**content, "ci95_pp": None if interval is None else (interval[0], interval[1])})


def timed(
    figures: Sequence[Figures],
    engines: Sequence[Classifier],
    contract: Contract,
    batch: int,
    seed: int,
    seconds_each: float = SECONDS_EACH,
) -> list[Figures]:
    """Fill in ``p50_ms`` of a call with ``batch`` faces, all engines interleaved."""
    faces = golden_faces(contract, 4)
    block = np.ascontiguousarray(np.resize(faces, (batch, *contract.face_shape)))
    runners = {f.label: (lambda e=e: e.logits(block)) for f, e in zip(figures, engines, strict=True)}
    seconds = seconds_each * len(runners)
    with progress("timing", seconds, quiet=True) as tick:
        taken = interleave(runners, seconds=seconds, min_rounds=20, seed=seed, tick=tick)
    return [replace(f, p50_ms=taken.latency(f.label).p50) for f in figures]


def judged(
    figures: Sequence[Figures], engines: Sequence[Classifier], val: FaceSet, reference: int, max_drop: float
) -> list[Figures]:
    """Fill in what the answers on ``val`` say, against those of the engine at index ``reference``."""
    answers = [evaluate(engine, val) for engine in engines]
    done = []
    for candidate, predictions in zip(figures, answers, strict=True):
        paired = Paired.from_predictions(answers[reference], predictions)
        done.append(
            replace(
                candidate,
                drop_pp=paired.drop_pp,
                ci95_pp=paired.ci95_pp,
                agreement=paired.agreement,
                within=paired.drop_pp <= max_drop,
            )
        )
    return done


def choose(figures: Sequence[Figures]) -> list[Figures]:
    """Mark the fastest candidate that is within the tolerance as chosen.

    Raises:
        EdgeferError: none is within it (the reference itself always is, unless it could not run here).
    """
    allowed = [i for i, f in enumerate(figures) if f.within and f.p50_ms is not None]
    if not allowed:
        raise EdgeferError("no candidate is within the tolerance on val", hint="raise --max-drop, or build with --fp32")
    best = min(allowed, key=lambda i: figures[i].p50_ms or 0.0)
    return [replace(f, chosen=i == best) for i, f in enumerate(figures)]


def verdict(figures: Sequence[Figures]) -> str:
    """One sentence: what won, by how much, and whether INT8 paid."""
    winner = next(f for f in figures if f.chosen)
    sentence = f"{winner.label} is fastest here at {winner.p50_ms:.3g} ms"
    reference = next((f for f in figures if f.precision == "fp32"), None)
    if reference is not None and reference is not winner and reference.p50_ms and winner.p50_ms:
        sentence += f", {reference.p50_ms / winner.p50_ms:.2f}× {reference.label}"
    integer = [f for f in figures if f.precision.startswith("int8") and f.p50_ms is not None]
    if winner.precision.startswith("int8") or not integer:
        return sentence + "."
    quickest = min(integer, key=lambda f: f.p50_ms or 0.0)
    if not any(f.within for f in integer):
        return sentence + f". INT8 loses too much accuracy here: {min(f.drop_pp or 0.0 for f in integer):.2f} points."
    return sentence + f". INT8 does not pay here: its best is {quickest.p50_ms:.3g} ms ({quickest.label})."

"""Candidates: the ways to build an engine, the files that are tried, their results, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier, relative_difference
from edgefer.engines.cpu import instruction_set
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.session import open_session
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.manifest import Precision
from edgefer.measure.accuracy import Predictions, kl_divergence
from edgefer.measure.agreement import Agreement
from edgefer.measure.disturbance import MARK, UNDISTURBED, Disturbed, LoadMeter, disturbances
from edgefer.measure.evaluate import evaluate
from edgefer.measure.latency import interleave
from edgefer.measure.paired import Paired
from edgefer.progress import announce, progress
from edgefer.quantize.scheme import TENSORRT_FP16, TENSORRT_SCHEME
from edgefer.runtimes import CPU, REFERENCE, TENSORRT, TOLERANCE, for_target, resolve

SECONDS_EACH = 1.5
"""Seconds of timing per candidate; the rounds are interleaved, so a drifting clock affects all alike."""

ALLOWED_ERROR = TOLERANCE["int8"]
"""Largest error, as a part of the logits' scale. Rounding moves INT8 logits by up to 0.04 between runtimes. OpenVINO
2026.4 is off by 0.24 on cliquenet, whose convolutions read concatenated maps, in the scheme openvino-inputs: 83 % of
its answers to 300 of FER2013's val faces are the float network's, but 98 % of ONNX Runtime's with the same file."""

_MAX_DB = 200.0
"""The signal-to-noise ratio of equal logits: no number is above the precision of what was compared."""


@dataclass(frozen=True)
class Variant:
    """One way to build: ``runtime``, a ``precision`` that it offers, and the ``scheme`` of an INT8 file."""

    runtime: str
    precision: str
    scheme: str | None = None

    @property
    def label(self) -> str:
        """Its name in tables: ``onnxruntime FP32``, ``openvino INT8 (openvino-all)``.

        Files for TensorRT answer in another runtime, and are not called by that.
        """
        runtime = TENSORRT.title if self.scheme in (TENSORRT_SCHEME.name, TENSORRT_FP16.name) else self.runtime
        return f"{runtime} {self.precision.upper()}" + (f" ({self.scheme})" if self.scheme else "")


FLOAT = Variant(REFERENCE.name, "fp32")
"""The candidate that the accuracy of the others is compared with."""


def variants_of(precision: str, runtime: str) -> tuple[Variant, ...]:
    """Every variant on this CPU that answers to ``precision`` and ``runtime``; several where the scheme is a choice.

    Raises:
        EdgeferError: the runtime has no kernels of that precision here.
    """
    rows, instructions = for_target(CPU), instruction_set()
    if runtime not in rows:
        raise EdgeferError(f"there is no CPU runtime '{runtime}'", hint=f"one of: {', '.join(rows)}")
    rows[runtime].check_precision(precision, instructions)
    if not precision.startswith("int8"):
        return (Variant(runtime, precision),)
    return tuple(Variant(runtime, precision, name) for name in resolve(rows[runtime].schemes)(instructions))


def all_variants() -> tuple[Variant, ...]:
    """Every variant that this machine can run, :data:`FLOAT` first; a runtime that is not installed is announced."""
    found: list[Variant] = []
    for name, row in for_target(CPU).items():
        if not row.installed:
            announce(f"note: {row.title} is not installed and is left out: pip install 'edgefer[{row.extra}]'")
            continue
        for precision in row.precisions:
            try:
                found.extend(variants_of(precision, name))
            except EdgeferError:  # this CPU has no such kernels: not a candidate
                continue
    return tuple(found)


@dataclass(frozen=True)
class Candidate:
    """A variant's file in memory, what its layers compute in, and how many of them each correction changed."""

    variant: Variant
    content: bytes
    precision: Precision
    corrected: Mapping[str, int] = field(default_factory=dict)

    def open(self, contract: Contract, threads: int = 1) -> Classifier:
        """A classifier over the file; close it after use."""
        session = open_session(self.variant.runtime, self.content, threads, self.precision.got)
        return Classifier(
            session, contract, precision=self.precision.got, size_bytes=len(self.content), name=self.variant.label
        )

    def answers(self, contract: Contract, faces: FaceSet, threads: int = 1) -> Predictions:
        """Open, ask about ``faces``, close."""
        with self.open(contract, threads) as engine:
            return evaluate(engine, faces)


@dataclass(frozen=True)
class CandidateResult:
    """Results of one candidate; ``None`` is what was not measured.

    Attributes:
        p50_ms: median of a call on this machine, ms.
        drop_pp: accuracy drop against the float network on `val`, percentage points, with its 95 % interval.
        agreement: share of `val` faces with the float network's answer.
        within: whether the drop is within the tolerance.
        method: calibration method, where that was a choice; sqnr_db, kl: its output error on `val`.
        float_macs: multiply-accumulates per face in layers kept out of INT8, where they are the cost and not time.
        disturbed: what disturbed the timing.
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
    disturbed: Disturbed = UNDISTURBED

    @classmethod
    def of(cls, candidate: Candidate) -> CandidateResult:
        """The result of ``candidate`` before anything was measured."""
        variant = candidate.variant
        return cls(variant.label, variant.runtime, variant.precision, variant.scheme, len(candidate.content))

    def compared(self, paired: Paired, *, labelled: bool = True) -> CandidateResult:
        """The same with what ``paired`` says of its answers: without labels their agreement alone."""
        if not labelled:
            return replace(self, agreement=paired.agreement)
        return replace(self, drop_pp=paired.drop_pp, ci95_pp=paired.ci95_pp, agreement=paired.agreement)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the manifest; :meth:`from_dict` is the inverse."""
        disturbed = {figure: list(reasons) for figure, reasons in asdict(self.disturbed).items()}
        interval = None if self.ci95_pp is None else list(self.ci95_pp)
        return {**self.__dict__, "ci95_pp": interval, "disturbed": disturbed}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> CandidateResult:
        """Read what :meth:`to_dict` wrote."""
        interval = content["ci95_pp"]
        disturbed = Disturbed(**{figure: tuple(reasons) for figure, reasons in content["disturbed"].items()})
        ci95_pp = None if interval is None else (interval[0], interval[1])
        return cls(**{**content, "ci95_pp": ci95_pp, "disturbed": disturbed})


def output_error(float_answers: Predictions, answers: Predictions) -> tuple[float, float]:
    """Distance of logits from the float network's on the same faces; needs no labels and no large sample.

    Returns:
        The signal to quantisation noise ratio of the logits, 10·log₁₀(Σ y² / Σ (ŷ − y)²), dB, at most 200; and the mean
        Kullback–Leibler divergence of the answer's probabilities, nats.
    """
    wanted, found = (p.logits.astype(np.float64) for p in (float_answers, answers))
    noise, signal = float(((found - wanted) ** 2).sum()), float((wanted**2).sum())
    equal = noise <= signal * 10 ** (-_MAX_DB / 10)
    return _MAX_DB if equal else float(10 * np.log10(max(signal, 1e-300) / noise)), kl_divergence(
        float_answers, answers
    )


def timed(
    results: Sequence[CandidateResult],
    classifiers: Sequence[Classifier],
    contract: Contract,
    batch: int,
    threads: int,
    seconds_each: float = SECONDS_EACH,
) -> list[CandidateResult]:
    """Fill in ``p50_ms`` of a call with ``batch`` images, all of them interleaved, and what disturbed it."""
    faces = golden_faces(contract, 4)
    block = np.ascontiguousarray(np.resize(faces, (batch, *contract.face_shape)))
    runners = {row.label: (lambda e=e: e.logits(block)) for row, e in zip(results, classifiers, strict=True)}
    seconds = seconds_each * len(runners)
    with progress("timing", seconds, quiet=True) as tick:
        meter = LoadMeter()
        taken = interleave(runners, seconds=seconds, min_rounds=20, seed=0, tick=tick)
    disturbed = disturbances(taken, meter.read(), threads)
    return [replace(row, p50_ms=taken.latency(row.label).p50, disturbed=disturbed[row.label]) for row in results]


def time_files(
    results: Sequence[CandidateResult],
    candidates: Sequence[Candidate],
    contract: Contract,
    *,
    threads: int,
    batch: int,
    seconds_each: float = SECONDS_EACH,
) -> list[CandidateResult]:
    """:func:`timed`, with the candidates open only as long as that takes."""
    with ExitStack() as stack:
        classifiers = [stack.enter_context(candidate.open(contract, threads)) for candidate in candidates]
        return timed(results, classifiers, contract, batch, threads, seconds_each)


def evaluated(
    results: Sequence[CandidateResult], classifiers: Sequence[Classifier], val: FaceSet, baseline: int, max_drop: float
) -> tuple[list[CandidateResult], list[Agreement | None]]:
    """Fill in what the answers on ``val`` say, against those of the one at index ``baseline``.

    Returns:
        The results; and the agreement of each INT8 engine with the float network in its own runtime, else None.
    """
    found = [evaluate(classifier, val) for classifier in classifiers]
    pairs = [Paired.from_predictions(found[baseline], predictions) for predictions in found]
    rows = [
        replace(row.compared(paired), within=paired.drop_pp <= max_drop)
        for row, paired in zip(results, pairs, strict=True)
    ]
    plain = {row.runtime: one.answers for row, one in zip(results, found, strict=True) if row.precision == "fp32"}
    return rows, [
        None if row.scheme is None else Agreement.of(one.answers == plain[row.runtime], one.groups, val.origin)
        for row, one in zip(results, found, strict=True)
    ]


def choose(results: Sequence[CandidateResult]) -> list[CandidateResult]:
    """Mark the fastest candidate that is within the tolerance as chosen.

    Raises:
        EdgeferError: none is within it (the baseline itself always is, unless it could not run here).
    """
    allowed = [i for i, row in enumerate(results) if row.within and row.p50_ms is not None]
    if not allowed:
        raise EdgeferError("no candidate is within the tolerance on val", hint="raise --max-drop, or build with --fp32")
    best = min(allowed, key=lambda i: results[i].p50_ms or 0.0)
    return [replace(row, chosen=i == best) for i, row in enumerate(results)]


def verdict(results: Sequence[CandidateResult]) -> str:
    """One sentence: what won, by how much, and whether INT8 paid."""
    winner = next(row for row in results if row.chosen)
    sentence = f"{winner.label} is fastest here at {_ms(winner)}"
    float_row = next((row for row in results if row.precision == "fp32"), None)
    if float_row is not None and float_row is not winner and float_row.p50_ms and winner.p50_ms:
        mark = MARK if winner.disturbed.speedup or float_row.disturbed.speedup else ""
        sentence += f", {mark}{float_row.p50_ms / winner.p50_ms:.2f}× {float_row.label}"
    integer = [row for row in results if row.precision.startswith("int8") and row.p50_ms is not None]
    if winner.precision.startswith("int8") or not integer:
        return sentence + "."
    quickest = min(integer, key=lambda row: row.p50_ms or 0.0)
    if not any(row.within for row in integer):
        smallest = min(row.drop_pp or 0.0 for row in integer)
        return sentence + f". INT8 loses too much accuracy here: {smallest:.2f} points."
    return sentence + f". INT8 does not pay here: its best is {_ms(quickest)} ({quickest.label})."


def _ms(row: CandidateResult) -> str:
    return f"{MARK if row.disturbed.median else ''}{row.p50_ms:.3g} ms"


def only_faithful(candidates: Sequence[Candidate], contract: Contract) -> list[Candidate]:
    """Those that answer as the reference runtime does when it runs the file's nodes one by one, in float.

    Golden vectors are the engine's own, and cannot tell. Files for the reference runtime are not asked. What is left
    out is announced.

    Raises:
        EdgeferError: none is left.
    """
    kept, faults = [], []
    for one in candidates:
        off = 0.0 if one.variant.runtime == REFERENCE.name else error_of(one, contract)
        if off <= ALLOWED_ERROR:
            kept.append(one)
        else:
            faults.append(f"{one.variant.label} is off by {off:.2g} of the logits' scale from what its file says")
    if not kept:
        raise EdgeferError(f"{'; '.join(faults)}: the runtime computes it wrongly", hint=REFERENCE.option)
    for fault in faults:
        announce(f"note: {fault}: left out")
    return kept


def error_of(candidate: Candidate, contract: Contract) -> float:
    """The largest difference of a logit from ONNX Runtime's without any fusing, relative to the largest logit."""
    faces = golden_faces(contract, 4)
    plain = OnnxRuntimeSession(candidate.content, optimise=False)
    got, size = candidate.precision.got, len(candidate.content)
    with (
        Classifier(plain, contract, precision=got, size_bytes=size, name="plain") as says,
        candidate.open(contract) as engine,
    ):
        return relative_difference(engine.logits(faces), says.logits(faces))

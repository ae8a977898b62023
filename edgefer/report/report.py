"""A report: what a benchmark found, as values that every output shows and a JSON file carries.

Statistics are computed here once, by the functions of ``edgefer.measure``, when a benchmark makes its report. Terminal,
Markdown, HTML, comparisons and gates show these values, whether they were measured in this process or read from a file.
"""

from __future__ import annotations

import collections.abc
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from edgefer.data import FaceSet
from edgefer.errors import EdgeferError
from edgefer.intake import read_json, reading
from edgefer.manifest import LayerPrecision
from edgefer.measure.accuracy import ClassScore, Predictions, calibration_error, class_scores, kl_divergence, macro_f1
from edgefer.measure.disturbance import UNDISTURBED, Disturbed, OtherLoad
from edgefer.measure.latency import Estimate, GpuTimes, Interleaved
from edgefer.measure.pacing import Pace
from edgefer.measure.paired import ClassDrop, NonInferiority, Paired, Verdict, class_drops
from edgefer.report.evaluated import LeftOut
from edgefer.report.timing import BenchSettings, Energy
from edgefer.report.verdict import accuracy_words, outcome, speed_words
from edgefer.runtimes import label_of, resolve

SCHEMA = 3
PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)
KEPT_FACES = 100_000
"""Answers are kept face by face up to this number of faces: two reports on the same faces can then be paired."""
BINS = 60
"""Number of bins of a histogram of latencies."""
SHARES = tuple(sorted([*np.linspace(0, 1, 101).tolist(), 0.995, 0.999]))
"""Shares of calls, 0–1, whose latencies are kept for the cumulative distribution."""

_SHOWN_PERCENTS = (0.5, 99.5)
"""The histograms' axis runs between these: single stragglers would squeeze everything else."""
_JSON_PERCENTS = ("50", "90", "95", "99")
_DIGITS = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyz", dtype=np.uint8)
_WRITE_ONE = "write one with `edgefer bench ENGINE --data DATA --baseline NAME --json report.json`"

Interval = tuple[float, float]
Counts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LatencySummary:
    """The timed calls of one network, ms.

    Attributes:
        n: number of timed calls.
        rounds: number of rounds that they were made in.
        mean: mean of all calls.
        variation: standard deviation ÷ mean; None with fewer than two calls.
        min: the fastest call.
        max: the slowest call.
        percentiles: percentile (``"50"``, ``"95"``, …) → its estimate, of those that the samples carry.
        histogram: calls in each of :data:`BINS` equal logarithmic steps of the report's time axis.
        quantiles: latency that each of :data:`SHARES` of the calls kept.
    """

    n: int
    rounds: int
    mean: float
    variation: float | None
    min: float
    max: float
    percentiles: Mapping[str, Estimate]
    histogram: tuple[int, ...]
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, timing: Interleaved, name: str, axis: Interval) -> LatencySummary:
        """Summarise the calls of ``name``; ``axis`` is :func:`time_axis` of all that are reported together."""
        latency, rounds = timing.latency(name), timing.rounds_ms[name]
        intervals = timing.percentile_intervals(name, PERCENTS)
        counts, _ = np.histogram(np.clip(latency.samples_ms, *axis), np.geomspace(*axis, BINS + 1))
        return cls(
            n=latency.n,
            rounds=len(rounds),
            mean=latency.mean,
            variation=latency.variation,
            min=float(rounds.min()),
            max=float(rounds.max()),
            percentiles={
                f"{percent:g}": Estimate(value, interval)
                for percent, interval in intervals.items()
                if (value := latency.percentile(percent)) is not None
            },
            histogram=tuple(counts.tolist()),
            quantiles=tuple(np.quantile(latency.samples_ms, SHARES).tolist()),
        )

    def percentile(self, percent: str) -> float | None:
        """Percentile ``"50"``, ``"90"``, ``"95"``, ``"99"`` or ``"99.9"``, ms; None if the samples do not carry it."""
        found = self.percentiles.get(percent)
        return None if found is None else found.value

    @property
    def p50(self) -> float | None:
        """The median, ms."""
        return self.percentile("50")


def time_axis(timing: Interleaved) -> Interval:
    """Ends of the time axis that the charts of latencies share, ms."""
    ends = [np.percentile(rounds, _SHOWN_PERCENTS) for rounds in timing.rounds_ms.values()]
    low, high = min(float(low) for low, _ in ends), max(float(high) for _, high in ends)
    floor = max(low / 1.15, 1e-6)
    return floor, max(high * 1.15, floor * 1.5)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of one network, shares 0–1.

    Attributes:
        n: number of evaluated faces.
        distinct: number of them if near-duplicates count once, as they do in intervals.
        top1: share of right answers.
        ci95: Wilson's interval of it.
        macro_f1: mean F1 of the classes that have faces.
        calibration_error: expected calibration error.
        per_class: precision, recall and F1 of every class.
        confusion: counts, rows are the truth, columns the answers.
        answers: one base-36 digit per face; None where they are too many to be kept.
    """

    n: int
    distinct: int
    top1: float
    ci95: Interval
    macro_f1: float
    calibration_error: float
    per_class: tuple[ClassScore, ...]
    confusion: Counts
    answers: str | None

    @classmethod
    def of(cls, predictions: Predictions) -> Accuracy:
        """Compute everything from a network's predictions."""
        return cls(
            n=predictions.n,
            distinct=predictions.distinct,
            top1=predictions.top1,
            ci95=predictions.top1_ci95,
            macro_f1=macro_f1(predictions),
            calibration_error=calibration_error(predictions),
            per_class=class_scores(predictions),
            confusion=_counts(predictions.confusion()),
            answers=to_digits(predictions.answers, len(predictions.classes)),
        )


@dataclass(frozen=True)
class PairedAccuracy:
    """One network's answers beside the baseline's, face by face.

    Attributes:
        drop_pp: points of top-1 lost to the baseline, negative where gained.
        ci95_pp: Tango's interval of it.
        mcnemar_p: exact p-value of "both are equally accurate".
        baseline_only: number of faces that only the baseline named rightly.
        candidate_only: number of faces that only this network named rightly.
        agreement: share of equal answers, 0–1.
        agreement_ci95: Wilson's interval of it.
        kl_nats: mean Kullback–Leibler divergence from the baseline's probabilities.
        confusion_difference: this network's confusion counts minus the baseline's.
        per_class: recall that each class lost; the intervals hold together.
        non_inferiority: the drop compared with the margin.
    """

    drop_pp: float
    ci95_pp: Interval
    mcnemar_p: float
    baseline_only: int
    candidate_only: int
    agreement: float
    agreement_ci95: Interval
    kl_nats: float
    confusion_difference: Counts
    per_class: tuple[ClassDrop, ...]
    non_inferiority: NonInferiority

    @classmethod
    def of(cls, baseline: Predictions, candidate: Predictions, margin_pp: float) -> PairedAccuracy:
        """Compute everything from the predictions of both.

        Raises:
            EdgeferError: they were not made on the same faces, or not for the same classes.
        """
        paired = Paired.from_predictions(baseline, candidate)
        return cls(
            drop_pp=paired.drop_pp,
            ci95_pp=paired.ci95_pp,
            mcnemar_p=paired.mcnemar_p,
            baseline_only=paired.baseline_only,
            candidate_only=paired.candidate_only,
            agreement=paired.agreement,
            agreement_ci95=paired.agreement_ci95,
            kl_nats=kl_divergence(baseline, candidate),
            confusion_difference=_counts(candidate.confusion() - baseline.confusion()),
            per_class=class_drops(baseline, candidate),
            non_inferiority=NonInferiority.of(paired, margin_pp),
        )


@dataclass(frozen=True)
class Row:
    """One network in one runtime; None is what was not measured.

    Attributes:
        name: name in tables: that of the file, e.g. ``model.int8.onnx``, or of the network.
        model: the contract's architecture.
        runtime: e.g. ``onnxruntime``.
        runtime_version: e.g. ``1.31.1``.
        device: ``cuda:N`` where it ran on a GPU, as CUDA counts them; None where on the CPU.
        precision: e.g. ``int8``.
        size_bytes: size of the file it was loaded from.
        accuracy: accuracy of its answers.
        paired: its answers beside the baseline's; None for the baseline itself.
        latency: duration of one call with a whole batch.
        images_per_s: batch · 1000 / median ms: what one caller that waits for each answer gets.
        speedup: speed-up over the baseline, of medians; None for the baseline or where one of the two was not timed.
        pace: results at a fixed frame rate.
        energy: energy, where the machine can measure it.
        gpu_ms: duration of calls on the GPU, where the engine's runtime times them.
        layers: precision of each layer, from the engine's manifest.
        disturbed: reasons why figures of its speed are marked in every output.
    """

    name: str
    model: str | None
    runtime: str | None
    runtime_version: str | None
    precision: str | None
    size_bytes: int | None
    accuracy: Accuracy
    paired: PairedAccuracy | None = None
    latency: LatencySummary | None = None
    images_per_s: float | None = None
    speedup: Estimate | None = None
    pace: Pace | None = None
    energy: Energy | None = None
    gpu_ms: GpuTimes | None = None
    layers: tuple[LayerPrecision, ...] = ()
    disturbed: Disturbed = UNDISTURBED
    device: str | None = None

    @property
    def how(self) -> str:
        """What computes it, in which precision and on which GPU: ``onnxruntime INT8``; empty for predictions."""
        if self.runtime is None:
            return ""
        where = "" if self.device is None else f" on {self.device}"
        return f"{label_of(self.runtime)} {(self.precision or '').upper()}".strip() + where

    @property
    def verdict(self) -> str:
        """``INT8 (model.int8.onnx): 3.9 × faster, at most 0.4 points lost``; empty for the baseline."""
        words = [speed_words(self.speedup, disturbed=bool(self.disturbed.speedup))]
        words += [] if self.paired is None else [accuracy_words(self.paired.ci95_pp, self.paired.non_inferiority)]
        told = ", ".join(word for word in words if word)
        label = f"{self.precision.upper()} ({self.name})" if self.precision else self.name
        return f"{label}: {told}" if told else ""

    @property
    def outcome(self) -> Verdict:
        """What :attr:`verdict` amounts to, for its colour."""
        margin = None if self.paired is None else self.paired.non_inferiority
        return outcome(self.speedup, margin, disturbed=bool(self.disturbed.speedup))

    @property
    def percentiles(self) -> Mapping[str, Estimate]:
        """Percentile (``"50"``, ``"95"``, …) → ms; empty where it was not timed."""
        return {} if self.latency is None else self.latency.percentiles

    def _latency_json(self) -> dict[str, float | int | None] | None:
        if self.latency is None:
            return None
        return {**{f"p{p}": self.latency.percentile(p) for p in _JSON_PERCENTS}, "n": self.latency.n}

    def _disturbed_json(self) -> dict[str, list[str]]:
        reasons = {f"p{p}": self.disturbed.percentile(p) for p in _JSON_PERCENTS}
        reasons |= {"images_per_s": self.disturbed.median, "speedup": self.disturbed.speedup}
        return {figure: list(found) for figure, found in reasons.items()}

    def _accuracy_json(self) -> dict[str, float | int]:
        return {"top1": self.accuracy.top1, "n": self.accuracy.n}


@dataclass(frozen=True, eq=False)
class Raw:
    """The data that a report was computed from, kept in the process that measured it; no JSON carries it.

    Attributes:
        faces: the evaluated faces.
        predictions: predictions of each row, in the rows' order.
        rounds_ms: row's name → float64 rounds × calls, ms.
    """

    faces: FaceSet
    predictions: tuple[Predictions, ...]
    rounds_ms: Mapping[str, NDArray[np.float64]]


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]


@dataclass(frozen=True)
class Report:
    """A baseline and one or more engines, evaluated on the same faces and timed in the same rounds.

    Attributes:
        data: name of the faces, e.g. ``fer2013.csv:test``, without the folder.
        faces_sha256: fingerprint of the evaluated faces and labels.
        classes: the networks' classes.
        labels: one base-36 digit per face; None where they are too many to be kept.
        groups: indices of the faces of each group of near-duplicates; None where they are too many to be kept.
        settings: settings of the benchmark.
        variables: the environment's variables that change how fast a runtime is.
        environment: see :func:`edgefer.measure.environment.describe_environment`.
        rows: the baseline, then the engines in the order they were given.
        time_axis_ms: ends of the time axis that the charts of latencies share.
        left_out: test faces that were not evaluated; None where all were.
        load: processor time that others used while this was timed; None where the system does not tell.
        warnings: sentences that limit what the numbers mean.
        telemetry: see ``Recording.summary``; None if nothing was watched.
        edgefer: the version that measured it.
        created: time of creation, UTC.
        raw: the data that it was computed from; None where it was read from a file.
        path: the file it was read from.
    """

    data: str
    faces_sha256: str
    classes: tuple[str, ...]
    labels: str | None
    groups: tuple[str, ...] | None
    settings: BenchSettings
    variables: Mapping[str, str]
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]
    time_axis_ms: Interval
    left_out: LeftOut | None = None
    load: OtherLoad | None = None
    warnings: tuple[str, ...] = ()
    telemetry: Mapping[str, Any] | None = None
    edgefer: str = ""
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))
    raw: Raw | None = field(default=None, compare=False, repr=False)
    path: Path | None = field(default=None, compare=False)

    @property
    def baseline(self) -> Row:
        """The row that the engines are compared with."""
        return self.rows[0]

    @property
    def engines(self) -> tuple[Row, ...]:
        """All rows but the baseline."""
        return self.rows[1:]

    @property
    def disturbances(self) -> tuple[str, ...]:
        """What disturbed figures of its rows, each once."""
        return tuple(dict.fromkeys(reason for row in self.rows for reason in row.disturbed.reasons))

    @property
    def title(self) -> str:
        """``mini_xception on fer2013.csv:test``."""
        first = self.engines[0] if self.engines else self.baseline
        return f"{first.model or self.baseline.name} on {self.data}"

    @property
    def file(self) -> str:
        """The name of the file it was read from."""
        return "this report" if self.path is None else self.path.name

    def row(self, name: str) -> Row | None:
        """The row called ``name``, if there is one."""
        return next((row for row in self.rows if row.name == name), None)

    def counterpart(self, name: str, other: Report) -> Row | None:
        """The row of the network that ``other`` calls ``name``.

        That is the row of the same name; else the one whose file has the same name, if each report has one such: files
        of one name in several folders are called by as much of their paths as tells them apart, which depends on what
        else is in the report.
        """
        alike = [[row for row in report.rows if _file_name(row.name) == _file_name(name)] for report in (self, other)]
        only = alike[0][0] if len(alike[0]) == len(alike[1]) == 1 else None
        return self.row(name) or only

    def __repr__(self) -> str:
        """Its title and its verdicts: in full it is thousands of numbers."""
        return f"<Report {'; '.join([self.title, *(row.verdict for row in self.engines if row.verdict)])}>"

    def _repr_html_(self) -> str:
        """The report in a notebook: the page, with a style that touches nothing outside it."""
        fragment: str = resolve("edgefer.report.page:fragment")(self)
        return fragment

    def to_json(self) -> dict[str, Any]:
        """The first engine as a JSON-ready object; further engines stand under ``others``, without the environment.

        Latencies are ms, accuracies and agreement 0–1, drops percentage points (positive: worse than the baseline).
        A percentile is None unless n·(1−p) ≥ 10. ``disturbed`` has the reasons to doubt each figure of speed.
        ``environment.warnings`` limits what the numbers mean. ``details`` has everything: the
        fields of this class, with ``disturbances``.
        """
        first, *others = (self._engine_json(row) for row in self.engines)
        left_out = [] if self.left_out is None else [self.left_out.sentence()]
        first["environment"] = {**self.environment, "warnings": [*left_out, *self.disturbances, *self.warnings]}
        if others:
            first["others"] = others
        beside = ("environment", "raw", "path")
        details = {one.name: _encode(getattr(self, one.name)) for one in fields(self) if one.name not in beside}
        return {**first, "schema": SCHEMA, "details": {**details, "disturbances": list(self.disturbances)}}

    def _engine_json(self, row: Row) -> dict[str, Any]:
        paired, keys = row.paired, ("drop_pp", "ci95_pp", "mcnemar_p", "agreement")
        return {
            "engine": row.name,
            "verdict": row.verdict,
            "model": row.model,
            "runtime": row.runtime,
            "precision": row.precision,
            "batch": self.settings.batch,
            "threads": self.settings.threads,
            "latency_ms": row._latency_json(),
            "images_per_s": row.images_per_s,
            "speedup": _encode(row.speedup),
            "disturbed": row._disturbed_json(),
            "size_bytes": row.size_bytes,
            "accuracy": {**row._accuracy_json(), "left_out": 0 if self.left_out is None else self.left_out.faces},
            "baseline": {
                "latency_ms": self.baseline._latency_json(),
                "disturbed": self.baseline._disturbed_json(),
                "accuracy": self.baseline._accuracy_json(),
                "size_bytes": self.baseline.size_bytes,
            },
            "paired": None if paired is None else {key: _encode(getattr(paired, key)) for key in keys},
        }

    @classmethod
    def from_json(cls, content: Any, name: str | os.PathLike[str] = "the JSON") -> Report:
        """Read what :meth:`to_json` wrote; ``name`` stands in errors.

        Raises:
            EdgeferError: it is no report, or another version of edgefer wrote it.
        """
        if not isinstance(content, dict) or not {"latency_ms", "schema"} & content.keys():
            raise EdgeferError(f"{name} is not a report of a benchmark", hint=_WRITE_ONE)
        _check_schema(content, name)
        try:
            details, machine = content["details"], {**content["environment"]}
            machine.pop("warnings", None)
            _decode(_Machine, machine, "environment")
            if details["telemetry"] is not None:
                _decode(_Telemetry, details["telemetry"], "telemetry")
            found: Report = _decode(cls, {**details, "environment": machine, "raw": None, "path": None}, "details")
            _check_consistent(found)
        except (EdgeferError, KeyError, TypeError, ValueError, AttributeError, IndexError) as cause:
            what = cause.message if isinstance(cause, EdgeferError) else f"{type(cause).__name__}: {cause}"
            raise EdgeferError(f"{name} is not a report that edgefer wrote: {what}", hint=_WRITE_ONE) from cause
        return found


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read what ``edgefer bench --json`` or ``edgefer quickstart`` wrote.

    Raises:
        EdgeferError: there is no such file, it is no report, or another version of edgefer wrote it.
    """
    file = Path(path)
    content = read_json(file, "report", _WRITE_ONE)
    with reading(f"the report {file}", _WRITE_ONE):
        return replace(Report.from_json(content, file), path=file)


def to_digits(labels: NDArray[np.int64], classes: int) -> str | None:
    """One base-36 digit per face; None for too many faces or classes."""
    if len(labels) > KEPT_FACES or classes > len(_DIGITS):
        return None
    return _DIGITS[labels].tobytes().decode("ascii")


def from_digits(digits: str) -> NDArray[np.int64]:
    """What :func:`to_digits` wrote; ValueError if it did not."""
    return np.array([int(digit, 36) for digit in digits], dtype=np.int64)


def to_members(groups: NDArray[np.int64]) -> tuple[str, ...] | None:
    """The indices of the faces of each group of two or more; None for too many faces."""
    if len(groups) > KEPT_FACES:
        return None
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return tuple(" ".join(map(str, faces.tolist())) for faces in members if len(faces) > 1)


def from_members(members: tuple[str, ...], faces: int) -> NDArray[np.int64]:
    """What :func:`to_members` wrote, a number per face; ValueError if it did not."""
    groups, seen = np.arange(faces), set[int]()
    for group in members:
        indices = [int(index) for index in group.split()]
        if len(indices) < 2 or len({*indices} - seen) < len(indices) or not 0 <= min(indices) <= max(indices) < faces:
            raise ValueError(f"'{group}' is no group of the {faces} faces that stands beside the others")
        seen.update(indices)
        groups[indices] = indices[0]
    return groups


def _counts(confusion: NDArray[np.int64]) -> Counts:
    return tuple(tuple(row) for row in confusion.tolist())


def _check_schema(content: Mapping[str, Any], name: str | os.PathLike[str]) -> None:
    """Refuse what this version cannot read; nothing else is asked of such a report, whose keys may be others."""
    if "schema" not in content:
        raise EdgeferError(f"the report {name} has no schema: it is older than gates and comparisons", hint=_WRITE_ONE)
    schema = content["schema"]
    if type(schema) is not int or schema < 1:
        raise EdgeferError(f"the report {name} has the schema {schema!r}, which is no version", hint=_WRITE_ONE)
    details = content.get("details")
    writer = details.get("edgefer", "?") if isinstance(details, dict) else "?"
    if schema > SCHEMA:
        raise EdgeferError(
            f"{name} was written by a newer edgefer ({writer}): its schema is {schema}, this one reads {SCHEMA}",
            hint="upgrade with `pip install -U edgefer`, or run `edgefer bench` again with this version",
        )
    if schema < SCHEMA:
        raise EdgeferError(
            f"{name} was written with schema {schema} by edgefer {writer}; this edgefer reads schema {SCHEMA}",
            hint=_WRITE_ONE,
        )


def _check_consistent(report: Report) -> None:
    """ValueError if parts of a report contradict each other: outputs then need not ask."""
    if len(report.rows) < 2:
        raise ValueError("it has a baseline and no engine")
    n, size = report.rows[0].accuracy.n, len(report.classes)
    if not 0 < report.time_axis_ms[0] < report.time_axis_ms[1]:
        raise ValueError(f"the time axis is {report.time_axis_ms}")
    for row in report.rows:
        if row.accuracy.n != n or n < 1:
            raise ValueError(f"{row.name} was evaluated on {row.accuracy.n} faces, {report.rows[0].name} on {n}")
        tables = [row.accuracy.confusion, *([] if row.paired is None else [row.paired.confusion_difference])]
        lists = [row.accuracy.per_class, *([] if row.paired is None else [row.paired.per_class])]
        if any(len(part) != size for table in tables for part in (table, *table)) or {*map(len, lists)} != {size}:
            raise ValueError(f"{row.name} has results for another number of classes than {size}")
        if any(
            not 1e-9 < min(found.value, *found.ci95) <= max(found.value, *found.ci95) < 1e12
            for found in row.percentiles.values()
        ):
            raise ValueError(f"{row.name} has a latency that is not positive, or beyond all measure")
        if not 0 <= row.accuracy.top1 <= 1 or (row.pace is not None and row.pace.frames < 1):
            raise ValueError(f"{row.name} has a share beyond 0 … 1, or was paced without a frame")
        if row.latency is not None and (len(row.latency.histogram), len(row.latency.quantiles)) != (BINS, len(SHARES)):
            raise ValueError(f"{row.name} has no {BINS} bins and {len(SHARES)} quantiles of its latency")
    if report.left_out is not None and report.left_out.given < n + report.left_out.faces:
        raise ValueError(f"{report.left_out.given} test faces are fewer than {n} and {report.left_out.faces}")
    for digits in (report.labels, *(row.accuracy.answers for row in report.rows)):
        if digits is not None and len(digits) != n:
            raise ValueError(f"{len(digits)} labels or answers of {n} faces")
        if digits is not None and from_digits(digits).max() >= size:
            raise ValueError(f"a label or answer is beyond the {size} classes")
    from_members(report.groups or (), n)


@dataclass(frozen=True)
class _Machine:
    """The parts of an environment that outputs show."""

    cpu: str | None = None
    board: str | None = None
    cores: int | None = None
    instruction_set: tuple[str, ...] | None = None
    memory_bytes: int | None = None
    os: str | None = None
    python: str | None = None
    packages: Mapping[str, str] | None = None
    governor: str | None = None


@dataclass(frozen=True)
class _Celsius:
    zone: str
    first: float
    max: float


@dataclass(frozen=True)
class _Clock:
    median: float


@dataclass(frozen=True)
class _Telemetry:
    """The parts of a telemetry summary that outputs show."""

    cpu_load: float | None = None
    mhz: _Clock | None = None
    gpu_mhz: _Clock | None = None
    celsius: _Celsius | None = None
    watts: float | None = None
    power_source: str | None = None
    peak_rss_bytes: float | None = None
    untold: tuple[str, ...] = ()


_DERIVED = {
    LeftOut: ("faces", "sentence"),
    NonInferiority: ("verdict", "difference_seen", "faces_needed", "sentence"),
    Pace: ("miss_share",),
}
"""Properties and methods that the JSON has beside a class's fields, for those who read it."""


def _encode(value: Any) -> Any:
    if isinstance(value, BenchSettings):
        return value.to_dict()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        names = [*(one.name for one in fields(value)), *_DERIVED.get(type(value), ())]
        found = {name: getattr(value, name) for name in names}
        return {name: _encode(part() if callable(part) else part) for name, part in found.items()}
    if isinstance(value, Mapping):
        return {key: _encode(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_encode(part) for part in value]
    return value


def _decode(kind: Any, value: Any, where: str) -> Any:
    """``value`` of a JSON file as the type ``kind``; ValueError or KeyError where it is something else."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (other,) = (one for one in inner if one is not NoneType)
        return None if value is None else _decode(other, value, where)
    if origin is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_decode(*pair, f"{where}[{i}]") for i, pair in enumerate(zip(kinds, value, strict=True)))
    if origin is collections.abc.Mapping and isinstance(value, dict):
        return {key: _decode(inner[1], part, f"{where}.{key}") for key, part in value.items()}
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = get_type_hints(kind)
        needed = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
        if missing := [name for name in needed if name not in value]:
            raise KeyError(f"{where}.{missing[0]}")
        names = [one.name for one in fields(kind) if one.name in value]
        return kind(**{name: _decode(hints[name], value[name], f"{where}.{name}") for name in names})
    as_number = kind is float and type(value) in (int, float) and math.isfinite(value)
    if as_number or (kind in (bool, int, str) and type(value) is kind):
        return value
    text = repr(value)
    raise ValueError(f"{where} is {text if len(text) <= 60 else f'{text[:57]}...'}")

"""The ``details`` of a report's JSON: what gates, comparisons and pages are made of.

schema            of the whole file, beside ``details``; readers refuse newer ones
edgefer, created  who wrote it, when (UTC)
data, faces_sha256, classes, labels    what was judged; ``labels`` a base-36 digit a face
groups            the faces that have near-duplicates, a string of their indices per group
settings          every switch that changes meaning
valid, invalid    whether the latencies can be believed, and why not
telemetry         what a second process saw while it was timed, or null
rows              the baseline (``role``), then each engine: see :func:`_row`
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.measure.accuracy import calibration_error, class_scores, kl_divergence, macro_f1
from edgefer.measure.latency import Interleaved
from edgefer.measure.paired import NonInferiority, class_drops
from edgefer.report.report import Report, Row

SCHEMA = 1
PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9)
KEPT_FACES = 100_000
"""Answers are kept face by face up to so many faces: two reports on the same faces can then be paired."""

_DIGITS = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyz", dtype=np.uint8)


def details(report: Report) -> dict[str, Any]:
    """Everything that is known about a report, JSON-ready."""
    from edgefer import __version__

    base = report.baseline.predictions
    return {
        "edgefer": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data": Path(report.data).name,  # where it lies is nobody's business
        "faces_sha256": base.faces_sha256,
        "classes": list(base.classes),
        "labels": encode(base.labels, len(base.classes)),
        "groups": encode_groups(base.groups),
        "settings": report.settings.to_dict(),
        "valid": not report.invalid,
        "invalid": list(report.invalid),
        "telemetry": report.telemetry,
        "rows": [_row(row, report) for row in report.rows],
    }


def encode(labels: NDArray[np.int64], classes: int) -> str | None:
    """A base-36 digit a face; None for too many faces or classes."""
    if len(labels) > KEPT_FACES or classes > len(_DIGITS):
        return None
    return _DIGITS[labels].tobytes().decode("ascii")


def encode_groups(groups: NDArray[np.int64]) -> list[str] | None:
    """The indices of the faces of each group of two or more; None for too many faces."""
    if len(groups) > KEPT_FACES:
        return None
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [" ".join(map(str, faces.tolist())) for faces in members if len(faces) > 1]


def decode_groups(encoded: list[str], faces: int) -> NDArray[np.int64]:
    """What :func:`encode_groups` wrote, a number per face; ValueError or IndexError if it did not."""
    groups = np.arange(faces)
    for members in encoded:
        indices = [int(index) for index in members.split()]
        groups[indices] = indices[0]
    return groups


def decode(digits: str) -> NDArray[np.int64]:
    """What :func:`encode` wrote; ValueError if it did not."""
    return np.array([int(digit, 36) for digit in digits], dtype=np.int64)


def _row(row: Row, report: Report) -> dict[str, Any]:
    """One network: what it is, its latency, accuracy, and how it compares with the baseline."""
    is_baseline = row is report.baseline
    return {
        "role": "baseline" if is_baseline else "engine",
        "name": row.name,
        "model": row.model,
        "runtime": row.runtime,
        "runtime_version": row.runtime_version,
        "precision": row.precision,
        "size_bytes": row.size_bytes,
        "latency": latency_details(row),
        "images_per_s": row.images_per_s(report.batch),
        "gpu_ms": None if row.gpu is None else row.gpu.to_dict(),
        "pace": None if row.pace is None else row.pace.to_dict(),
        "energy": None if row.joules is None else {"source": row.joules[0], "joules_per_image": row.joules[1]},
        "speedup": None if row.speedup is None else {"value": row.speedup.value, "ci95": list(row.speedup.ci95)},
        "accuracy": _accuracy(row),
        "paired": None if is_baseline else _paired(row, report),
        "layers": [[layer.layer, layer.op, layer.asked, layer.got] for layer in row.layers],
    }


def latency_details(row: Row) -> dict[str, Any] | None:
    """All about a row's samples, ms: percentiles with intervals, mean, variation; None where it was not timed."""
    if row.latency is None:
        return None
    rounds = row.latency.samples_ms[:, None] if row.rounds_ms is None else row.rounds_ms
    intervals = Interleaved({row.name: rounds}, ()).percentile_intervals(row.name, PERCENTS)
    return {
        "n": row.latency.n,
        "rounds": len(rounds),
        "mean": row.latency.mean,
        "variation": row.latency.variation,
        "min": float(rounds.min()),
        "max": float(rounds.max()),
        "percentiles": {
            f"{percent:g}": {"ms": row.latency.percentile(percent), "ci95": list(intervals[percent])}
            for percent in intervals
        },
    }


def _accuracy(row: Row) -> dict[str, Any]:
    answers = row.predictions
    return {
        "n": answers.n,
        "distinct": answers.distinct,
        "top1": answers.top1,
        "ci95": list(answers.top1_ci95),
        "macro_f1": macro_f1(answers),
        "calibration_error": calibration_error(answers),
        "per_class": [score.to_dict() for score in class_scores(answers)],
        "confusion": answers.confusion().tolist(),
        "answers": encode(answers.answers, len(answers.classes)),
    }


def _paired(row: Row, report: Report) -> dict[str, Any] | None:
    if row.paired is None:
        return None
    base = report.baseline.predictions
    return {
        **row.paired.to_dict(),
        "agreement_ci95": list(row.paired.agreement_ci95),
        "kl_nats": kl_divergence(base, row.predictions),
        "confusion_difference": (row.predictions.confusion() - base.confusion()).tolist(),
        "per_class": [drop.to_dict() for drop in class_drops(base, row.predictions)],
        "non_inferiority": NonInferiority.of(row.paired, report.settings.margin_pp).to_dict(),
    }

"""A report's JSON, read back and checked: what gates and comparisons work on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.report.details import SCHEMA, decode, decode_groups

Interval = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    ci95: Interval


@dataclass(frozen=True, eq=False)
class Entry:
    """One network of a report; None is what was not measured.

    Attributes:
        name: as in the report's table.
        is_baseline: whether the others are compared with it.
        precision: e.g. ``int8``.
        size_bytes: of its file.
        samples: timed calls.
        latency: percentile (``"50"``, ``"95"``, …) → ms, of those that the samples carry.
        miss_share: of deadlines missed at a frame rate, 0–1.
        joules: an image.
        top1: 0–1.
        macro_f1: 0–1.
        drop_pp: points lost to the report's baseline.
        agreement: with it, 0–1.
        answers: int64 N, or None where they are too many to be kept.
    """

    name: str
    is_baseline: bool
    precision: str | None
    size_bytes: int | None
    samples: int
    latency: Mapping[str, Estimate]
    miss_share: Estimate | None
    joules: float | None
    top1: Estimate
    macro_f1: float
    drop_pp: Estimate | None
    agreement: Estimate | None
    answers: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class Document:
    """A report as it lies in a file.

    Attributes:
        path: of the file.
        data: what was judged.
        faces_sha256: of the judged faces and labels.
        classes: of the networks.
        labels: int64 N, or None where they are too many to be kept.
        groups: int64 N, the same number for a face and its near-duplicates; without labels, every face's own.
        faces: how many were judged.
        settings: every switch.
        environment: the machine.
        invalid: reasons not to believe the latencies.
        entries: the baseline first.
        created: when, UTC.
    """

    path: Path
    data: str
    faces_sha256: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64] | None
    groups: NDArray[np.int64]
    faces: int
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    invalid: tuple[str, ...]
    entries: tuple[Entry, ...]
    created: str

    def entry(self, name: str) -> Entry | None:
        """The entry of that name."""
        return next((entry for entry in self.entries if entry.name == name), None)


def read_report(path: str | os.PathLike[str]) -> Document:
    """Read what ``edgefer bench --json`` or ``edgefer quickstart`` wrote.

    Raises:
        EdgeferError: there is no such file, it is no report, or a newer edgefer wrote it.
    """
    file = Path(path)
    hint = "write one with `edgefer bench ENGINE --data DATA --baseline NAME --json > report.json`"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise EdgeferError(f"there is no report {file}", hint=hint) from cause
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as cause:
        raise EdgeferError(f"the report {file} cannot be read: {cause}", hint=hint) from cause
    if not isinstance(content, dict) or not {"latency_ms", "schema"} & content.keys():
        raise EdgeferError(f"{file} is not a report of a benchmark", hint=hint)
    _check_schema(content, file, hint)
    try:
        return _document(file, content["details"], content["environment"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as cause:
        raise EdgeferError(
            f"{file} is not a report that edgefer wrote: {type(cause).__name__}: {cause}", hint=hint
        ) from cause


def _check_schema(content: Mapping[str, Any], file: Path, hint: str) -> None:
    """Refuse what this version cannot read; nothing else is asked of a newer report, whose keys may be others."""
    if "schema" not in content:
        raise EdgeferError(f"the report {file} has no schema: it is older than gates and comparisons", hint=hint)
    schema = content["schema"]
    if type(schema) is not int or schema < 1:
        raise EdgeferError(f"the report {file} has the schema {schema!r}, which is no version", hint=hint)
    if schema > SCHEMA:
        details = content.get("details")
        writer = details.get("edgefer", "?") if isinstance(details, dict) else "?"
        raise EdgeferError(
            f"{file} was written by a newer edgefer ({writer}): its schema is {schema}, this one reads up to {SCHEMA}",
            hint="upgrade with `pip install -U edgefer`, or run `edgefer bench` again with this version",
        )


def _document(path: Path, details: Mapping[str, Any], environment: Mapping[str, Any]) -> Document:
    entries = tuple(_entry(row) for row in details["rows"])
    labels = None if details["labels"] is None else decode(details["labels"])
    faces = int(details["rows"][0]["accuracy"]["n"])
    for answers in (labels, *(entry.answers for entry in entries)):
        if answers is not None and len(answers) != faces:
            raise ValueError(f"{len(answers)} labels or answers of {faces} faces")
    return Document(
        path=path,
        data=str(details["data"]),
        faces_sha256=str(details["faces_sha256"]),
        classes=tuple(str(name) for name in details["classes"]),
        labels=labels,
        groups=decode_groups(details["groups"] or [], faces),
        faces=faces,
        settings=dict(details["settings"]),
        environment=dict(environment),
        invalid=tuple(str(reason) for reason in details["invalid"]),
        entries=entries,
        created=str(details["created"]),
    )


def _entry(row: Mapping[str, Any]) -> Entry:
    accuracy, paired, latency, pace, energy = (row[key] for key in ("accuracy", "paired", "latency", "pace", "energy"))
    percentiles = {} if latency is None else latency["percentiles"]
    return Entry(
        name=str(row["name"]),
        is_baseline=row["role"] == "baseline",
        precision=row["precision"],
        size_bytes=row["size_bytes"],
        samples=0 if latency is None else int(latency["n"]),
        latency={percent: _estimate(value["ms"], value["ci95"]) for percent, value in percentiles.items()},
        miss_share=None if pace is None else _estimate(pace["miss_share"], pace["miss_ci95"]),
        joules=None if energy is None else float(energy["joules_per_image"]),
        top1=_estimate(accuracy["top1"], accuracy["ci95"]),
        macro_f1=float(accuracy["macro_f1"]),
        drop_pp=None if paired is None else _estimate(paired["drop_pp"], paired["ci95_pp"]),
        agreement=None if paired is None else _estimate(paired["agreement"], paired["agreement_ci95"]),
        answers=None if accuracy["answers"] is None else decode(accuracy["answers"]),
    )


def _estimate(value: Any, interval: Any) -> Estimate:
    low, high = interval
    return Estimate(float(value), (float(low), float(high)))

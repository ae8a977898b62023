"""What a benchmark found: a baseline and engines, each a row, and the machine they ran on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.data import FaceSet
from edgefer.manifest import LayerPrecision
from edgefer.measure.accuracy import Predictions
from edgefer.measure.latency import GpuTimes, Latency, Ratio
from edgefer.measure.pacing import Pace
from edgefer.measure.paired import Paired
from edgefer.report.settings import Settings


@dataclass(frozen=True, eq=False)
class Row:
    """One network in one runtime; None is what was not measured.

    Attributes:
        name: for tables, e.g. ``onnxruntime INT8``.
        model: the contract's architecture.
        runtime: e.g. ``onnxruntime``.
        precision: e.g. ``int8``.
        predictions: its answers on the judged faces.
        latency: of one call with a whole batch, ms.
        size_bytes: of the file it was loaded from.
        paired: against the baseline; None for the baseline itself.
        speedup: over the baseline, medians; None for the baseline or where one of the two was not timed.
        runtime_version: e.g. ``1.31.1``.
        rounds_ms: the samples of ``latency``, float64 rounds × calls.
        pace: how it kept up with a frame rate, if that was measured.
        joules: where energy was told, its source and joules an image.
        gpu: what calls took on the GPU, where the engine's runtime times that.
        layers: layer by layer, from the engine's manifest.
    """

    name: str
    model: str | None
    runtime: str | None
    precision: str | None
    predictions: Predictions
    latency: Latency | None
    size_bytes: int | None
    paired: Paired | None = None
    speedup: Ratio | None = None
    runtime_version: str | None = None
    rounds_ms: NDArray[np.float64] | None = None
    pace: Pace | None = None
    joules: tuple[str, float] | None = None
    gpu: GpuTimes | None = None
    layers: tuple[LayerPrecision, ...] = ()

    def images_per_s(self, batch: int) -> float | None:
        """``batch`` · 1000 / median ms: what one caller that waits for each answer gets."""
        median = None if self.latency is None else self.latency.p50
        return batch * 1000.0 / median if median else None

    def latency_json(self) -> dict[str, float | int | None] | None:
        """The latency's JSON object, or None where nothing was timed."""
        return None if self.latency is None else self.latency.to_dict()

    def accuracy_json(self) -> dict[str, float | int]:
        """``top1`` (0–1) and ``n``."""
        return {"top1": self.predictions.top1, "n": self.predictions.n}


@dataclass(frozen=True, eq=False)
class Report:
    """A baseline and one or more engines, judged on the same faces and timed in the same rounds.

    Attributes:
        baseline: what the engines are compared with.
        engines: a row each, in the order they were given.
        data: what the faces are called, e.g. ``fer2013.csv:test``.
        batch: faces a timed call.
        threads: that each runtime was given.
        environment: see :func:`edgefer.measure.environment.describe_environment`.
        warnings: sentences that limit what the numbers mean.
        invalid: reasons not to believe the latencies: throttled, shared cores, drift, too short.
        settings: every switch; None where a report was put together otherwise.
        telemetry: see ``Recording.summary``; None if nothing was watched.
        faces: the judged faces; they are in no file but a page that was asked to show some.
    """

    baseline: Row
    engines: tuple[Row, ...]
    data: str
    batch: int
    threads: int
    environment: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    telemetry: Mapping[str, Any] | None = None
    faces: FaceSet | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """The baseline, then the engines."""
        return (self.baseline, *self.engines)

    def to_json(self) -> dict[str, Any]:
        """The first engine as a JSON-ready object; further engines stand under ``others``, without the environment.

        Latencies are ms, accuracies and agreement 0–1, drops percentage points (positive: worse than the baseline).
        A percentile is None unless n·(1−p) ≥ 10. ``environment.warnings`` limits what the numbers mean, and
        ``details`` has everything else: see :mod:`edgefer.report.details`.
        """
        from edgefer.report.details import SCHEMA, details

        first, *others = (self._engine_json(row) for row in self.engines)
        first["environment"] = {**self.environment, "warnings": [*self.invalid, *self.warnings]}
        if others:
            first["others"] = others
        return {**first, "schema": SCHEMA, "details": details(self)}

    def _engine_json(self, row: Row) -> dict[str, Any]:
        return {
            "model": row.model,
            "runtime": row.runtime,
            "precision": row.precision,
            "batch": self.batch,
            "threads": self.threads,
            "latency_ms": row.latency_json(),
            "images_per_s": row.images_per_s(self.batch),
            "size_bytes": row.size_bytes,
            "accuracy": row.accuracy_json(),
            "baseline": {
                "latency_ms": self.baseline.latency_json(),
                "accuracy": self.baseline.accuracy_json(),
                "size_bytes": self.baseline.size_bytes,
            },
            "paired": None if row.paired is None else row.paired.to_dict(),
        }

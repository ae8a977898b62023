"""What keeping layers out of INT8 costs: measured time where the engine runs here, multiply-accumulates where not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Protocol

from edgefer.contract import Contract
from edgefer.optimize.choose import Figures, choose, timed
from edgefer.optimize.job import Job, figures_of
from edgefer.optimize.variants import Built, Variant
from edgefer.quantize.graphview import macs_by_layer

NOISE = 0.02
"""A plan that is slower than all-INT8 by less than this share costs nothing: timing does not tell them apart."""


class Price(Protocol):
    """How plans are compared: :class:`TimePrice` or :class:`MacPrice`."""

    def fastest(self, job: Job, variants: Sequence[Variant]) -> Variant:
        """Which of ``variants`` to go on with."""

    def of_layers(self, job: Job, variant: Variant, layers: Sequence[str]) -> Mapping[str, float]:
        """What each layer costs when it alone is float; greater than 0."""

    def filled(
        self, job: Job, rows: Sequence[Figures], plans: Sequence[tuple[Collection[str], Built]]
    ) -> list[Figures]:
        """``rows`` with the cost of plans, each the layers kept in float and the file."""

    def of(self, figures: Figures) -> float:
        """The cost that :meth:`filled` wrote."""


@dataclass(frozen=True)
class TimePrice:
    """Milliseconds of a call with ``batch`` faces on ``threads``, on this machine."""

    threads: int
    batch: int

    def fastest(self, job: Job, variants: Sequence[Variant]) -> Variant:
        """The variant that takes least time."""
        if len(variants) == 1:
            return variants[0]
        plain = replace(job, refiner=None)  # other numbers in the same layers take the same time
        built = [plain.build(variant) for variant in variants]
        rows = choose(self._timed(job.contract, [figures_of(b) for b in built], built))
        return variants[next(i for i, row in enumerate(rows) if row.chosen)]

    def of_layers(self, job: Job, variant: Variant, layers: Sequence[str]) -> Mapping[str, float]:
        """The time that each adds; no less than timing can tell."""
        plain = replace(job, refiner=None)
        built = [plain.build(variant), *(plain.build(variant, [layer]) for layer in layers)]
        rows = [replace(figures_of(b), label=str(i)) for i, b in enumerate(built)]
        taken = [self.of(row) for row in self._timed(job.contract, rows, built)]
        return {layer: max(NOISE * taken[0], ms - taken[0]) for layer, ms in zip(layers, taken[1:], strict=True)}

    def filled(
        self, job: Job, rows: Sequence[Figures], plans: Sequence[tuple[Collection[str], Built]]
    ) -> list[Figures]:
        """``rows`` with ``p50_ms``."""
        return self._timed(job.contract, rows, [built for _, built in plans])

    def of(self, figures: Figures) -> float:
        """Median of a call, ms."""
        return figures.p50_ms or 0.0

    def _timed(self, contract: Contract, rows: Sequence[Figures], built: Sequence[Built]) -> list[Figures]:
        with ExitStack() as stack:
            engines = [stack.enter_context(b.open(contract, self.threads)) for b in built]
            return timed(rows, engines, contract, self.batch, seed=0, seconds_each=0.5)


@dataclass(frozen=True)
class MacPrice:
    """Multiply-accumulates a face that are not done in INT8: for engines that this machine cannot run."""

    def fastest(self, job: Job, variants: Sequence[Variant]) -> Variant:
        """The first: there is one way for TensorRT."""
        return variants[0]

    def of_layers(self, job: Job, variant: Variant, layers: Sequence[str]) -> Mapping[str, float]:
        """The layers' own."""
        macs = macs_by_layer(job.model)
        return {layer: float(max(1, macs[layer])) for layer in layers}

    def filled(
        self, job: Job, rows: Sequence[Figures], plans: Sequence[tuple[Collection[str], Built]]
    ) -> list[Figures]:
        """``rows`` with ``float_macs``."""
        macs = macs_by_layer(job.model)
        return [
            replace(row, float_macs=sum(macs[layer] for layer in kept))
            for row, (kept, _) in zip(rows, plans, strict=True)
        ]

    def of(self, figures: Figures) -> float:
        """Of the layers in float."""
        return float(figures.float_macs or 0)

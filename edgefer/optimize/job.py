"""What all files of one build share: the float network as it is quantised, its ranges, and where they came from."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import onnx

from edgefer.atomic import sha256_file
from edgefer.contract import Contract
from edgefer.engines.classifier import make_golden
from edgefer.engines.cpu import instruction_set
from edgefer.graph.onnx_file import load_model
from edgefer.graph.rewrite import Rewritten, check_names, rewrite
from edgefer.manifest import Calibration, Manifest
from edgefer.optimize.choose import Figures
from edgefer.optimize.ranging import ranged
from edgefer.optimize.refiner import Refiner
from edgefer.optimize.settings import EQUALISE, Quantisation
from edgefer.optimize.variants import Built, Variant, build
from edgefer.quantize.graphview import refuse_quantised
from edgefer.quantize.ranges import Ranges


@dataclass(frozen=True)
class Job:
    """What every variant of one build shares.

    Attributes:
        rewritten: what float files are made of.
        model: what INT8 files are made of: equalised too.
    """

    rewritten: Rewritten
    model: onnx.ModelProto
    contract: Contract
    model_sha256: str
    ranges: Ranges | None
    calibration: Calibration | None
    method: str
    refiner: Refiner | None = None
    equalised: int = 0  # activations of ``model``

    def calibrated(self, settings: Quantisation) -> Job:
        """The same with ranges, on an equalised model: from faces, from a table, or from the table that ships."""
        done = ranged(self.model, self.contract, settings)
        return replace(
            self,
            model=done.model,
            ranges=done.ranges,
            calibration=done.record,
            refiner=done.refiner,
            equalised=len(done.scales),
        )

    def with_method(self, method: str) -> Job:
        """The same with another method, in its record too."""
        record = None if self.calibration is None else replace(self.calibration, method=method)
        return replace(self, method=method, calibration=record)

    def build(self, variant: Variant, keep_float: Collection[str] = ()) -> Built:
        """The file of ``variant``; the layers ``keep_float`` of an INT8 one stay float."""
        model = self.rewritten.model if variant.scheme is None else self.model
        return build(variant, model, self.contract, self.ranges, self.method, keep_float, self.refiner)

    def manifest(self, built: Built, candidates: Sequence[Figures] = ()) -> Manifest:
        """Open the engine once, pin its answers, and say what it is."""
        with built.open(self.contract) as classifier:
            golden = make_golden(classifier)
            version = classifier.runtime_version
        return Manifest(
            model_sha256=self.model_sha256,
            weights_sha256=self.contract.lineage.get("weights_sha256", ""),
            target="cpu",
            runtime=built.variant.runtime,
            runtime_version=version,
            instruction_set=instruction_set(),
            contract=self.contract,
            precision=built.precision,
            calibration=self.calibration if built.precision.has_int8 else None,
            golden=golden,
            rewrites=self.changes(built),
            candidates=tuple(figure.to_dict() for figure in candidates),
        )

    def changes(self, built: Built) -> dict[str, int]:
        """Pass or refining step → in how many places it changed the exported graph."""
        if built.variant.scheme is None:
            return dict(self.rewritten.changes)
        equalised = {EQUALISE: self.equalised} if self.equalised else {}
        return {**self.rewritten.changes, **equalised, **built.refined}


def figures_of(built: Built) -> Figures:
    """An empty row for ``built``."""
    variant = built.variant
    return Figures(variant.label, variant.runtime, variant.precision, variant.scheme, len(built.engine))


def prepare_job(
    model: str | os.PathLike[str], precision: str, settings: Quantisation, no_rewrite: Collection[str] = ()
) -> Job:
    """Read the model, rewrite it and, for INT8, calibrate it."""
    check_names(no_rewrite)
    proto, contract = load_model(model)
    refuse_quantised(proto)
    rewritten = rewrite(proto, contract, skip=no_rewrite)
    method = settings.recipe(contract.architecture).method
    job = Job(rewritten, rewritten.model, contract, sha256_file(model), None, None, method)
    return job.calibrated(settings) if precision.startswith("int8") else job

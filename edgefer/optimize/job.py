"""What all files of one build share: the float network as it is quantised, its ranges, and where they came from."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import onnx

from edgefer.atomic import sha256_file
from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.engines.classifier import make_golden
from edgefer.engines.cpu import instruction_set
from edgefer.errors import EdgeferError
from edgefer.graph.load import load_model
from edgefer.graph.rewriting import Rewritten, check_names, rewrite
from edgefer.manifest import Calibration, Manifest
from edgefer.optimize.choose import Figures
from edgefer.optimize.ranging import ranged
from edgefer.optimize.recipe import Recipe, recipe_for
from edgefer.optimize.refiner import EQUALISE, Refiner
from edgefer.optimize.variants import Built, Variant, build
from edgefer.progress import announce
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

    def calibrated(
        self,
        calib: str | FaceSet | None,
        recipe: Recipe,
        steps: Collection[str] | None = None,
        table: str | os.PathLike[str] | None = None,
    ) -> Job:
        """The same with ranges, on an equalised model: from faces, from a table, or from the table that ships."""
        done = ranged(self.model, self.contract, calib, recipe, steps, table)
        return replace(
            self,
            model=done.model,
            ranges=done.ranges,
            calibration=done.record,
            method=recipe.method,
            refiner=done.refiner,
            equalised=len(done.scales),
        )

    def with_method(self, method: str) -> Job:
        """The same with another method, in its record too."""
        record = None if self.calibration is None else replace(self.calibration, method=method)
        return replace(self, method=method, calibration=record)

    def build(self, variant: Variant, keep_float: Collection[str] = ()) -> Built:
        """The file of ``variant``; the layers ``keep_float`` of an INT8 one stay float."""
        model = self.rewritten.model if variant.flavour is None else self.model
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
        if built.variant.flavour is None:
            return dict(self.rewritten.changes)
        equalised = {EQUALISE: self.equalised} if self.equalised else {}
        return {**self.rewritten.changes, **equalised, **built.refined}


def figures_of(built: Built) -> Figures:
    """An empty row for ``built``."""
    variant = built.variant
    return Figures(variant.label, variant.runtime, variant.precision, variant.flavour, len(built.engine))


def prepare_job(
    model: str | os.PathLike[str],
    precision: str,
    calib: str | FaceSet | None,
    calib_faces: int | None,
    method: str | None,
    seed: int | None,
    no_rewrite: Collection[str] = (),
    per_class: int | None = None,
    refine: Collection[str] | None = None,
    table: str | os.PathLike[str] | None = None,
) -> Job:
    """Read the model, rewrite it and, for INT8, calibrate it."""
    check_names(no_rewrite)
    is_int8 = precision.startswith("int8")
    drawing = {"calib_faces": calib_faces, "per_class": per_class, "seed": seed}
    ranging = {"method": method, "refine": refine, "table": table}
    without = {} if is_int8 and calib is not None else drawing if is_int8 else {**drawing, **ranging}
    if idle := [name for name, value in without.items() if value is not None]:
        why = "no faces are drawn" if is_int8 else f"{precision.upper()} has no ranges to set"
        raise EdgeferError(f"{', '.join(idle)} would change nothing: {why}", hint="leave out, or give calib and INT8")
    proto, contract = load_model(model)
    refuse_quantised(proto)
    rewritten = rewrite(proto, contract, skip=no_rewrite)
    recipe = recipe_for(contract.architecture).overridden(calib_faces, per_class, seed, method)
    job = Job(rewritten, rewritten.model, contract, sha256_file(model), None, None, recipe.method)
    if is_int8:
        return job.calibrated(calib, recipe, refine, table)
    if calib is not None:
        announce(f"note: --calib is not used: {precision.upper()} has no ranges to set")
    return job

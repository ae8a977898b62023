"""Everything between a float network and its INT8 files that depends on images: equalisation, ranges, corrections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.engines.onnxruntime import open_runner
from edgefer.errors import EdgeferError
from edgefer.manifest import Calibration
from edgefer.optimize.calibration_table import CalibrationTable, read_table, shipped_table, signature
from edgefer.optimize.settings import CORRECTIONS, DEFAULT_CORRECTIONS, EQUALISE, CalibrationRecipe, Quantisation
from edgefer.progress import announce, number_of, progress
from edgefer.provenance import beginnings
from edgefer.quantize.corrections import BIAS, ROUNDING, Corrected, correct, only_outputs
from edgefer.quantize.equalise import (
    DEGREE,
    Scales,
    apply_scales,
    channel_powers,
    components,
    equalising_scales,
    is_exact,
)
from edgefer.quantize.graphview import RULED, WEIGHTED, GraphView, fingerprint
from edgefer.quantize.observation import DEFAULT_BUDGET, Faces, activation_bytes, observe, observed_tensors
from edgefer.quantize.plan import Plan
from edgefer.quantize.ranges import Ranges

FACES = {ROUNDING: 256, BIAS: 64}
"""Number of calibration images that each correction looks at, the largest of those that are done; a mean needs few."""

_BATCH = 64
_CORRECTING_BATCHES = 4, 16
"""The smallest and the largest batch of corrections; between, as many images as calibration's budget holds."""


@dataclass(frozen=True)
class Calibrated:
    """The parts that INT8 files are made of.

    Attributes:
        model: the float model: the one that was given, or equalised.
        ranges: ranges of its activations.
        record: the manifest's entry on calibration.
        scales: the factors of the equalisation, empty where there is none.
        corrector: does what depends on the plan; None where nothing is to be done.
    """

    model: onnx.ModelProto
    ranges: Ranges
    record: Calibration
    scales: Scales = field(default_factory=dict)
    corrector: Corrector | None = None


def on_faces(model: onnx.ModelProto, contract: Contract, faces: FaceSet, settings: Quantisation) -> Calibrated:
    """Equalise ``model`` and take its ranges on ``faces``.

    Raises:
        EdgeferError: an activation is not finite.
    """
    recipe = settings.recipe(contract.architecture)
    chosen = DEFAULT_CORRECTIONS if settings.corrections is None else settings.corrections
    scales: Scales = equalising_factors(model, contract, faces) if EQUALISE in chosen else {}
    changed = equalised(model, scales, contract)
    ranges, record = take_ranges(changed, contract, faces, recipe)
    announce_unruled(model)
    applied = scales if changed is not model else {}
    return Calibrated(changed, ranges, record, applied, Corrector.over(changed, faces, contract, chosen))


def by_table(model: onnx.ModelProto, contract: Contract, settings: Quantisation) -> Calibrated:
    """Take equalisation and ranges from a table: the one given, or the one that ships for the weights.

    Raises:
        EdgeferError: there is none; a correction needs faces; what :func:`from_table` raises.
    """
    if settings.table is None:
        found = shipped_table(contract.architecture, contract.lineage.get("weights_sha256", ""))
    else:
        found = read_table(settings.table)
    if found is None:
        raise EdgeferError(
            f"INT8 needs faces to set its ranges, and none were given; no calibration table ships for these weights of "
            f"{contract.architecture}",
            hint="--calib DATA: its `calib` part is used, never its test faces",
        )
    wanting = [name for name in CORRECTIONS if name in (settings.corrections or ()) and name != EQUALISE]
    if wanting:
        raise EdgeferError(f"{' and '.join(wanting)} cannot be done from a calibration table", hint="--calib DATA")
    done = from_table(found, model, contract, settings)
    name = Path(found.origin).name  # of a bundle in the making the folder is a temporary one
    announce(f"ranges from {name}: {number_of(found.calibration.n, 'face')} of {found.calibration.origin}")
    return done


def from_table(
    table: CalibrationTable, model: onnx.ModelProto, contract: Contract, settings: Quantisation
) -> Calibrated:
    """Take equalisation and ranges from a table that was read.

    Raises:
        EdgeferError: it is of other weights, another contract or another graph; it was made with other corrections.
    """
    table.check(contract, signature(model))
    if settings.corrections is not None and (EQUALISE in settings.corrections) != bool(table.scales):
        raise EdgeferError(
            f"{table.origin} was made {'with' if table.scales else 'without'} {EQUALISE}",
            hint=f"--corrections {EQUALISE if table.scales else 'none'}, or --calib DATA",
        )
    changed = equalised(model, table.scales, contract)
    if table.scales and changed is model:
        raise EdgeferError(f"the equalisation of {table.origin} does not fit this model", hint="--calib DATA")
    announce_unruled(model)
    ranges = replace(table.ranges, model=fingerprint(changed))
    record = replace(table.calibration, method=settings.recipe(contract.architecture).method)
    return Calibrated(changed, ranges, record, table.scales)


def take_ranges(
    model: onnx.ModelProto, contract: Contract, faces: FaceSet, recipe: CalibrationRecipe
) -> tuple[Ranges, Calibration]:
    """Stream ``faces`` through the float ``model`` once; memory does not depend on how many they are.

    Returns:
        The ranges, and what the manifest says about them.

    Raises:
        EdgeferError: an activation is not finite; every face is one flat grey, black for example.
    """
    batches = _seen(faces, contract)
    with progress("calibrating", len(faces)) as advance:
        ranges = observe(
            model,
            open_runner,
            batches,
            name_of=lambda face: f"face {face} of the sample ({faces.name_of(face)} of {faces.origin})",
            advance=advance,
        )
    return ranges, record_of(faces, recipe)


def record_of(faces: FaceSet, recipe: CalibrationRecipe) -> Calibration:
    """The manifest's entry on the faces that ranges were made from."""
    return Calibration(
        faces_sha256=faces.fingerprint(),
        n=len(faces),
        per_class=faces.per_class_counts(),
        method=recipe.method,
        seed=recipe.seed,
        origin=faces.origin,
        face_hashes=beginnings(faces.face_hashes()),
    )


def _seen(faces: FaceSet, contract: Contract) -> Iterator[NDArray[np.uint8]]:
    """The faces, a batch at a time; refused at the end if there was nothing to be seen on any."""
    flat = True
    for images, _ in faces.batches(_BATCH, contract):
        flat = flat and bool((np.ptp(images.reshape(len(images), -1), axis=1) == 0).all())
        yield images
    if flat and len(faces):
        level = int(images.flat[0])
        raise EdgeferError(
            f"all {len(faces):,} calibration faces of {faces.origin} are flat "
            f"({'black' if level == 0 else f'grey level {level}'}): ranges made from them fit no real face",
            hint="look at them: `edgefer data inspect DATA --sheet faces.png`; calibrate on real faces",
        )


def announce_unruled(model: onnx.ModelProto) -> None:
    """Say which operators behind the first layer with weights have no INT8 rule, and so stay float."""
    view = GraphView(model)
    nodes = list(view.nodes)
    first = next((index for index, node in enumerate(nodes) if node.op_type in WEIGHTED), len(nodes))
    unruled = [node for node in nodes[first:] if node.op_type not in RULED]
    counts = Counter(node.op_type for node in unruled if not view.outputs.intersection(node.output))  # logits are float
    if counts:
        listed = ", ".join(f"{op} ({count}×)" for op, count in counts.items())
        gates = {"Sigmoid", "Mul"} <= set(counts)
        why = "; SiLU and squeeze-excite are made of them: each costs conversions that a ReLU does not" if gates else ""
        announce(f"note: no INT8 rule for {listed}: left in float{why}")


def equalising_factors(model: onnx.ModelProto, contract: Contract, faces: FaceSet) -> Scales:
    """The factors that equalise ``model`` on ``faces``; empty where nothing in it can be equalised."""
    watched = set(observed_tensors(model))
    found = [(c, [t for t in c.tensors if t in watched]) for c in components(model)]
    found = [(component, tensors) for component, tensors in found if tensors]
    if not found:
        return {}
    names = [tensor for _, tensors in found for tensor in tensors]
    run = open_runner(only_outputs(model, names).SerializeToString())
    size = max(1, min(_BATCH, DEFAULT_BUDGET // max(1, activation_bytes(model))))
    units: dict[str, float] = {}  # the largest value so far
    powers: dict[str, NDArray[np.float64]] = {}
    with progress("equalising", len(faces)) as advance:
        for images, _ in faces.batches(size, contract):
            for name, values in run(images).items():
                peak = float(np.abs(values).max())
                if not np.isfinite(peak):
                    return {}  # calibration, which comes next, names the layer and the face
                before = units.get(name, 0.0)
                unit = units[name] = max(peak, before) or 1.0
                powers[name] = powers.get(name, 0.0) * (before / unit) ** DEGREE + channel_powers(values, unit)
            advance(len(images))
    ranges = {name: power ** (1 / DEGREE) for name, power in powers.items()}
    return {c.name: equalising_scales([ranges[tensor] for tensor in tensors]) for c, tensors in found}


def equalised(model: onnx.ModelProto, scales: Scales, contract: Contract) -> onnx.ModelProto:
    """``model`` with ``scales`` in it; itself, and that is announced, where float32 does not keep its answers."""
    if not scales:
        return model
    changed = apply_scales(model, scales)
    if is_exact(model, changed, contract, open_runner):
        return changed
    announce("note: equalisation is left out: it changes this network's logits in float32")
    return model


@dataclass(frozen=True)
class Corrector:
    """Rounding and bias correction for any plan: ``faces`` are uint8 batches of the calibration faces."""

    steps: tuple[str, ...]
    faces: Sequence[Faces]

    @classmethod
    def over(
        cls, model: onnx.ModelProto, faces: FaceSet, contract: Contract, corrections: Collection[str]
    ) -> Corrector | None:
        """A corrector of ``model`` that looks at the first faces of ``faces``; None where nothing is left to do."""
        kept = tuple(name for name in CORRECTIONS if name in corrections and name != EQUALISE)
        if not kept:
            return None
        some = faces.subset(np.arange(min(max(FACES[name] for name in kept), len(faces))))
        smallest, largest = _CORRECTING_BATCHES
        size = max(smallest, min(largest, DEFAULT_BUDGET // max(1, activation_bytes(model))))
        return cls(kept, [images for images, _ in some.batches(size, contract)])

    def correct(self, model: onnx.ModelProto, plan: Plan, ranges: Ranges, method: str) -> Corrected:
        """The float model to quantise by ``plan``, and what became of it."""
        count = sum(layer.asked == "int8" and layer.op in ("Conv", "Gemm") for layer in plan.layers)
        with progress(f"correcting: {', '.join(self.steps)}", count) as advance:
            return correct(model, plan, ranges, method, self.faces, open_runner, steps=self.steps, advance=advance)

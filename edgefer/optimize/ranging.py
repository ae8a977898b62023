"""Everything between a float network and its INT8 files that depends on faces: equalisation, ranges, refining."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import onnx

from edgefer.contract import Contract
from edgefer.data import FaceSet
from edgefer.errors import EdgeferError
from edgefer.graph.load import load_model
from edgefer.graph.rewriting import check_names, rewrite
from edgefer.manifest import Calibration
from edgefer.optimize.calibrate import calibrate, calibration_faces
from edgefer.optimize.recipe import Recipe, recipe_for
from edgefer.optimize.refiner import ALL_STEPS, DEFAULT_STEPS, EQUALISE, Refiner, check_steps, equalised, equalising
from edgefer.optimize.tables import Table, read_table, shipped_table, signature
from edgefer.progress import announce
from edgefer.quantize.equalise import Scales
from edgefer.quantize.graphview import GraphView, fingerprint, refuse_quantised
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.rules import RULED, WEIGHTED


@dataclass(frozen=True)
class Ranged:
    """What INT8 files are made of.

    Attributes:
        model: float; the one that was given, or equalised.
        ranges: of its activations.
        record: for the manifest.
        scales: the factors of the equalisation, empty where there is none.
        refiner: does what depends on the plan; None where nothing is to be done.
    """

    model: onnx.ModelProto
    ranges: Ranges
    record: Calibration
    scales: Scales = field(default_factory=dict)
    refiner: Refiner | None = None


def ranged(
    model: onnx.ModelProto,
    contract: Contract,
    calib: str | FaceSet | None,
    recipe: Recipe,
    steps: Collection[str] | None = None,
    table: str | os.PathLike[str] | None = None,
) -> Ranged:
    """:func:`ranged_on_faces` where there are faces, else :func:`ranged_by_table`.

    Raises:
        EdgeferError: faces and a table are given; one of ``steps`` is none; what those two raise.
    """
    check_steps(steps or ())
    if calib is None:
        return ranged_by_table(model, contract, recipe, steps, table)
    if table is not None:
        raise EdgeferError(f"faces and the range table {table} both set the ranges", hint="give one of them")
    return ranged_on_faces(model, contract, calib, recipe, steps)


def ranged_on_faces(
    model: onnx.ModelProto,
    contract: Contract,
    calib: str | FaceSet,
    recipe: Recipe,
    steps: Collection[str] | None = None,
) -> Ranged:
    """Equalise ``model`` and take its ranges on the faces that the recipe draws from ``calib``.

    Args:
        model: float, rewritten.
        contract: of the model.
        calib: see :func:`~edgefer.optimize.calibrate.calibration_faces`.
        recipe: how many faces, which draw.
        steps: of :data:`~edgefer.optimize.refiner.ALL_STEPS`; the default ones if None.

    Raises:
        EdgeferError: no such faces; an activation is not finite.
    """
    chosen = DEFAULT_STEPS if steps is None else steps
    faces = calibration_faces(calib, contract, recipe)
    scales: Scales = equalising(model, contract, faces) if EQUALISE in chosen else {}
    changed = equalised(model, scales, contract)
    ranges, record = calibrate(changed, contract, faces, recipe)
    announce_unruled(model)
    applied = scales if changed is not model else {}
    return Ranged(changed, ranges, record, applied, Refiner.over(changed, faces, contract, chosen))


def ranged_by_table(
    model: onnx.ModelProto,
    contract: Contract,
    recipe: Recipe,
    steps: Collection[str] | None = None,
    table: str | os.PathLike[str] | None = None,
) -> Ranged:
    """Take equalisation and ranges from a table: the one given, or the one that ships for the architecture.

    Raises:
        EdgeferError: there is none; it is of other weights, another contract or another graph; a step needs faces.
    """
    if table is None:
        found = shipped_table(contract.architecture, contract.lineage.get("weights_sha256", ""))
    else:
        found = read_table(table)
    if found is None:
        raise EdgeferError(
            f"INT8 needs faces to set its ranges, and none were given; no range table ships for these weights of "
            f"{contract.architecture}",
            hint="--calib DATA: its `calib` part is used, never its test faces",
        )
    wanting = [step for step in ALL_STEPS if steps is not None and step in steps and step != EQUALISE]
    if wanting:
        raise EdgeferError(f"{' and '.join(wanting)} cannot be done from a range table", hint="--calib DATA")
    done = ranged_from(found, model, contract, recipe, steps)
    announce(f"ranges from {found.origin}: {found.calibration.n:,} faces of {found.calibration.origin}")
    return done


def ranged_from(
    found: Table, model: onnx.ModelProto, contract: Contract, recipe: Recipe, steps: Collection[str] | None = None
) -> Ranged:
    """Take equalisation and ranges from a table that was read.

    Raises:
        EdgeferError: it is of other weights, another contract or another graph; it was made with other steps.
    """
    found.check(contract, signature(model))
    if steps is not None and (EQUALISE in steps) != bool(found.scales):
        raise EdgeferError(
            f"{found.origin} was made {'with' if found.scales else 'without'} {EQUALISE}",
            hint=f"--refine {EQUALISE if found.scales else 'none'}, or --calib DATA",
        )
    changed = equalised(model, found.scales, contract)
    if found.scales and changed is model:
        raise EdgeferError(f"the equalisation of {found.origin} does not fit this model", hint="--calib DATA")
    announce_unruled(model)
    ranges = Ranges(fingerprint(changed), found.ranges.faces, found.ranges.histograms, found.ranges.origin)
    record = Calibration(**{**found.calibration.__dict__, "method": recipe.method})
    return Ranged(changed, ranges, record, found.scales)


def announce_unruled(model: onnx.ModelProto) -> None:
    """Say which operators behind the first layer with weights have no INT8 rule, and so stay float."""
    view = GraphView(model)
    nodes = list(view.nodes)
    first = next((index for index, node in enumerate(nodes) if node.op_type in WEIGHTED), len(nodes))
    unruled = [node for node in nodes[first:] if node.op_type not in RULED]
    counts = Counter(node.op_type for node in unruled if not view.outputs.intersection(node.output))  # logits are float
    if counts:
        listed = ", ".join(f"{op} ({count}×)" for op, count in counts.items())
        announce(f"note: no INT8 rule for {listed}: left in float")


def write_table(
    model: str | os.PathLike[str],
    calib: str | FaceSet,
    output: str | os.PathLike[str],
    *,
    calib_faces: int | None = None,
    per_class: int | None = None,
    method: str | None = None,
    seed: int | None = None,
    refine: Collection[str] | None = None,
    no_rewrite: Collection[str] = (),
) -> Table:
    """Calibrate ``model`` and write what :func:`ranged_by_table` needs to do so again without faces.

    Args:
        model: what :func:`edgefer.export` wrote.
        calib: see :func:`~edgefer.optimize.calibrate.calibration_faces`.
        output: the table; ``<name of the weights>.ranges.jsonl`` where it is to ship.
        calib_faces: how many of them; with the next three, overrides the architecture's recipe.
        per_class: so many of each class instead, or all there are.
        method: how histograms become ranges.
        seed: of the draw.
        refine: ``"equalise"``, as if None, or nothing; the rest hangs on the plan and cannot be kept in a table.
        no_rewrite: rewrite passes to leave out.

    Raises:
        EdgeferError: bad input; the model does not say which weights it has.
    """
    if os.path.realpath(model) == os.path.realpath(output):
        raise EdgeferError(f"{output} is the model itself, which would be lost", hint="choose another output path")
    check_steps(refine or ())
    for step in refine or ():
        if step != EQUALISE:
            raise EdgeferError(
                f"{step} depends on the engine's flavour and cannot be kept in a range table",
                hint=f"--refine {EQUALISE}, or --refine none",
            )
    check_names(no_rewrite)
    proto, contract = load_model(model)
    refuse_quantised(proto)
    plain = rewrite(proto, contract, skip=no_rewrite).model
    recipe = recipe_for(contract.architecture).overridden(calib_faces, per_class, seed, method)
    done = ranged_on_faces(plain, contract, calib, recipe, (EQUALISE,) if refine is None else refine)
    table = Table.of(contract, signature(plain), done.scales, done.ranges, done.record)
    table.write(output)
    return table

"""Everything between a float network and its INT8 files that depends on faces: equalisation, ranges, refining."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import onnx

from edgefer.contract import Contract
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model
from edgefer.graph.rewrite import check_names, rewrite
from edgefer.manifest import Calibration
from edgefer.optimize.calibrate import calibrate, calibration_faces
from edgefer.optimize.refiner import Refiner, equalised, equalising
from edgefer.optimize.settings import CORRECTIONS, DEFAULT_CORRECTIONS, EQUALISE, Quantisation
from edgefer.optimize.tables import Table, read_table, shipped_table, signature
from edgefer.progress import announce
from edgefer.quantize.equalise import Scales
from edgefer.quantize.graphview import RULED, WEIGHTED, GraphView, fingerprint, refuse_quantised
from edgefer.quantize.ranges import Ranges


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


def ranged(model: onnx.ModelProto, contract: Contract, settings: Quantisation) -> Ranged:
    """:func:`ranged_on_faces` where there are faces, else :func:`ranged_by_table`.

    Raises:
        EdgeferError: what those two raise.
    """
    if settings.data is None:
        return ranged_by_table(model, contract, settings)
    return ranged_on_faces(model, contract, settings)


def ranged_on_faces(model: onnx.ModelProto, contract: Contract, settings: Quantisation) -> Ranged:
    """Equalise ``model`` (float, rewritten) and take its ranges on a sample of the calibration images.

    Raises:
        EdgeferError: no such faces; an activation is not finite.
    """
    assert settings.data is not None  # callers look
    recipe = settings.recipe(contract.architecture)
    chosen = DEFAULT_CORRECTIONS if settings.corrections is None else settings.corrections
    faces = calibration_faces(settings.data, contract, recipe)
    scales: Scales = equalising(model, contract, faces) if EQUALISE in chosen else {}
    changed = equalised(model, scales, contract)
    ranges, record = calibrate(changed, contract, faces, recipe)
    announce_unruled(model)
    applied = scales if changed is not model else {}
    return Ranged(changed, ranges, record, applied, Refiner.over(changed, faces, contract, chosen))


def ranged_by_table(model: onnx.ModelProto, contract: Contract, settings: Quantisation) -> Ranged:
    """Take equalisation and ranges from a table: the one given, or the one that ships for the architecture.

    Raises:
        EdgeferError: there is none; it is of other weights, another contract or another graph; a correction needs
            faces.
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
    steps = settings.corrections
    wanting = [step for step in CORRECTIONS if steps is not None and step in steps and step != EQUALISE]
    if wanting:
        raise EdgeferError(f"{' and '.join(wanting)} cannot be done from a calibration table", hint="--calib DATA")
    done = ranged_from(found, model, contract, settings)
    announce(f"ranges from {found.origin}: {found.calibration.n:,} faces of {found.calibration.origin}")
    return done


def ranged_from(found: Table, model: onnx.ModelProto, contract: Contract, settings: Quantisation) -> Ranged:
    """Take equalisation and ranges from a table that was read.

    Raises:
        EdgeferError: it is of other weights, another contract or another graph; it was made with other corrections.
    """
    steps = settings.corrections
    found.check(contract, signature(model))
    if steps is not None and (EQUALISE in steps) != bool(found.scales):
        raise EdgeferError(
            f"{found.origin} was made {'with' if found.scales else 'without'} {EQUALISE}",
            hint=f"--corrections {EQUALISE if found.scales else 'none'}, or --calib DATA",
        )
    changed = equalised(model, found.scales, contract)
    if found.scales and changed is model:
        raise EdgeferError(f"the equalisation of {found.origin} does not fit this model", hint="--calib DATA")
    announce_unruled(model)
    ranges = Ranges(fingerprint(changed), found.ranges.faces, found.ranges.histograms, found.ranges.origin)
    record = Calibration(**{**found.calibration.__dict__, "method": settings.recipe(contract.architecture).method})
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
    output: str | os.PathLike[str],
    quantisation: Quantisation,
    *,
    no_rewrite: Collection[str] = (),
) -> Table:
    """Calibrate ``model`` and write what :func:`ranged_by_table` needs to do so again without faces.

    Args:
        model: what :func:`edgefer.export` wrote.
        output: the table; ``<name of the weights>.ranges.jsonl`` where it is to ship.
        quantisation: with ``data``; of the corrections a table keeps ``"equalise"`` (done if None): the others depend
            on the plan.
        no_rewrite: rewrite passes to leave out.

    Raises:
        EdgeferError: bad input; the model does not say which weights it has.
    """
    quantisation.check("cpu", "int8", command="calibrate")
    if os.path.realpath(model) == os.path.realpath(output):
        raise EdgeferError(f"{output} is the model itself, which would be lost", hint="choose another output path")
    if quantisation.corrections is None:
        quantisation = replace(quantisation, corrections=(EQUALISE,))
    check_names(no_rewrite)
    proto, contract = load_model(model)
    refuse_quantised(proto)
    plain = rewrite(proto, contract, skip=no_rewrite).model
    done = ranged_on_faces(plain, contract, quantisation)
    table = Table.of(contract, signature(plain), done.scales, done.ranges, done.record)
    table.write(output)
    return table

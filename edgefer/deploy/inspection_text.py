"""An inspection for a person, and for a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from edgefer.contract import Contract
from edgefer.deploy.inspection import KINDS, SCHEMA, Inspection
from edgefer.engines.session import TensorSpec
from edgefer.manifest import Calibration, Manifest


def to_json(found: Inspection) -> dict[str, Any]:
    """One object; its keys are those of docs/doctor.md, and the same for every kind of file."""
    manifest, precision = found.manifest, found.precision
    return {
        "schema": SCHEMA,
        "file": str(found.file),
        "bytes": found.size_bytes,
        "sha256": found.sha256,
        "kind": found.kind,
        "inputs": [_tensor(spec) for spec in found.inputs],
        "outputs": [_tensor(spec) for spec in found.outputs],
        "contract": None if found.contract is None else found.contract.to_dict(),
        "precision": None
        if precision is None
        else {
            "asked": precision.asked,
            "got": precision.got,
            "counts": found.counts,
            "layers": [asdict(layer) for layer in precision.layers],
        },
        "graph": None if found.graph is None else found.graph.to_dict(),
        "plan": None if found.header is None else {"product": found.header.product, "version": found.header.version},
        "target": found.target,
        "lineage": None if found.lineage is None else found.lineage.to_dict(),
        "manifest": None if manifest is None else _of_manifest(manifest),
        "problems": list(found.problems),
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    batches = None if spec.batches is None else list(spec.batches)
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), "batches": batches}


def _of_manifest(manifest: Manifest) -> dict[str, Any]:
    calibration = manifest.calibration
    return {
        "edgefer": manifest.edgefer,
        "created": manifest.created,
        "target": manifest.target,
        "runtime": manifest.runtime,
        "runtime_version": manifest.runtime_version,
        "device": manifest.device or None,
        "dla_core": manifest.dla_core,
        "instruction_set": list(manifest.instruction_set),
        "note": manifest.note or None,
        "rewrites": dict(manifest.rewrites),
        "calibration": None if calibration is None else _of_calibration(calibration),
        "golden": {"faces": len(manifest.golden.faces), "tolerance": dict(manifest.golden.tolerance)},
        "fused_layers": [dict(layer) for layer in manifest.audit],
    }


def _of_calibration(calibration: Calibration) -> dict[str, Any]:
    """Without the hash of every face: those are in the manifest itself."""
    return {key: value for key, value in asdict(calibration).items() if key != "face_hashes"}


def rows(found: Inspection) -> Iterator[tuple[str, str]]:
    """``(title, text)``, a fact a line."""
    yield "file", f"{found.file}, {found.size_bytes:,} bytes"
    yield "sha256", found.sha256
    yield "kind", KINDS[found.kind] + (f", for {found.target}" if found.target else "")
    if found.manifest is not None:
        yield from _built(found.manifest)
    if found.header is not None:
        product, version = found.header.product, found.header.version
        yield "header", f"written by {product} {version or 'of unknown version'}" if product else "of no plan"
    for title, specs in (("input", found.inputs), ("output", found.outputs)):
        yield from ((title, f"{spec}{_sizes(spec)}") for spec in specs)
    if found.contract is not None:
        yield from _of_contract(found.contract)
    yield from _precision(found)
    if found.graph is not None:
        graph = found.graph
        held = ", ".join(f"{count:,} bytes {kind}" for kind, count in graph.weights.items())
        yield "graph", f"opset {graph.opset}, {graph.nodes} nodes, {graph.parameters:,} parameters ({held})"
        yield "written by", graph.producer or "unknown"
    if found.manifest is not None:
        yield from _checked(found.manifest)
    if found.lineage is not None:
        if found.lineage.model.sha256:
            yield "from model", str(found.lineage.model)
        yield "from weights", str(found.lineage.weights)
        yield from ((f"  {key}", value) for key, value in found.lineage.stated.items())
    yield from (("problem", problem) for problem in found.problems)


def _sizes(spec: TensorSpec) -> str:
    """What N may be, where that is told."""
    return "" if spec.batches is None or spec.shape[0] is not None else f", N {spec.batches[0]}…{spec.batches[1]}"


def layer_rows(found: Inspection) -> list[tuple[str, str, str, str]]:
    """``(layer, operator, asked, got)`` of each layer; the engine's fused layers where its manifest lists them."""
    if found.manifest is not None and found.manifest.audit:
        names = ("layer", "kind", "asked", "got")
        fused = [[str(layer.get(name, "")) for name in names] for layer in found.manifest.audit]
        return [(layer, kind, asked, got) for layer, kind, asked, got in fused]
    return [] if found.precision is None else [(x.layer, x.op, x.asked, x.got) for x in found.precision.layers]


def _built(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "runtime", f"{manifest.runtime} {manifest.runtime_version}"
    if manifest.device:
        core = "" if manifest.dla_core is None else f", and DLA core {manifest.dla_core}"
        yield "GPU", manifest.device + core
    if manifest.instruction_set:
        yield "built on", " ".join(manifest.instruction_set)
    yield "built", f"{manifest.created} by edgefer {manifest.edgefer}"
    if manifest.note:
        yield "note", manifest.note


def _of_contract(contract: Contract) -> Iterator[tuple[str, str]]:
    norm = contract.normalisation
    yield "network", contract.architecture
    yield "labels", ", ".join(contract.labels)
    listed = {name: ", ".join(f"{value:g}" for value in getattr(norm, name)) for name in ("mean", "std")}
    yield "normalisation", f"(x · {norm.scale:g} − {listed['mean']}) / {listed['std']}, inside the graph"
    if contract.crop_margin:
        yield "crop margin", f"{contract.crop_margin:g} of the box on each side"
    if contract.mirrored:
        yield "mirrored", "logits are the mean over a face and its mirror image, inside the graph"


def _precision(found: Inspection) -> Iterator[tuple[str, str]]:
    precision = found.precision
    if precision is None:
        yield "precision", "unknown: only the manifest tells it"
        return
    counted = ", ".join(f"{count} {kind}" for kind, count in found.counts.items())
    asked = f" (asked for {precision.asked.upper()})" if precision.asked != precision.got else ""
    yield "precision", f"{precision.got.upper()}{asked}" + (f"; layers: {counted}" if counted else "")


def _checked(manifest: Manifest) -> Iterator[tuple[str, str]]:
    calibration, golden = manifest.calibration, manifest.golden
    if calibration is not None:
        yield "calibration", f"{calibration.n:,} faces of {calibration.origin}, {calibration.method}"
    if manifest.rewrites:
        yield "rewrites", ", ".join(f"{name} ({places}×)" for name, places in manifest.rewrites.items())
    allowed = ", ".join(f"{limit:g} in {runtime}" for runtime, limit in golden.tolerance.items())
    yield "golden answers", f"{len(golden.faces)} faces, tolerance {allowed}"

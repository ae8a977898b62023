"""What a file is: an ONNX model, an engine for a CPU, or a TensorRT plan, with or without a manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefer.atomic import sha256_file
from edgefer.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, Contract
from edgefer.deploy.lineage import Lineage, lineage_of, trace
from edgefer.deploy.onnx_facts import OnnxFacts, json_object, onnx_facts
from edgefer.engines.session import TensorSpec
from edgefer.engines.tensorrt.compat import parse_version
from edgefer.engines.tensorrt.plan import HEADER, PlanHeader, read_header
from edgefer.errors import EdgeferError
from edgefer.graph.load import metadata_of, read_onnx
from edgefer.manifest import PRECISION_KEY, Manifest, Precision, manifest_path, read_manifest, verify_file
from edgefer.optimize.tensorrt_file import ORIGIN_KEY

SCHEMA: Final = 1
KINDS: Final = {
    "model": "float model, as exported",
    "engine": "engine for a CPU",
    "device-file": "ONNX that an engine is built from",
    "plan": "TensorRT engine",
    "foreign": "ONNX without a contract of edgefer",
}


@dataclass(frozen=True)
class Inspection:
    """Everything that a file and its manifest say; None is what they do not.

    Attributes:
        file: the path.
        size_bytes, sha256: of the file.
        kind: of :data:`KINDS`.
        contract: labels, input, normalisation.
        precision: of the whole and of each layer: the manifest's, else the graph's.
        graph: of an ONNX file.
        header: of a plan.
        inputs, outputs: of the graph; of a plan, those that its manifest names.
        lineage: back to the weights.
        manifest: what lies beside it.
        target: what a device file was written for.
        problems: what does not fit together, a sentence each.
    """

    file: Path
    size_bytes: int
    sha256: str
    kind: str
    contract: Contract | None
    precision: Precision | None
    graph: OnnxFacts | None
    header: PlanHeader | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    lineage: Lineage | None
    manifest: Manifest | None
    target: str | None
    problems: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Precision → how many layers have it."""
        layers = () if self.precision is None else self.precision.layers
        return dict(Counter(layer.got for layer in layers).most_common())


def inspect_file(path: str | os.PathLike[str]) -> Inspection:
    """Look at a file; nothing of it is run.

    Raises:
        EdgeferError: it is missing, empty, or neither ONNX nor a plan.
    """
    file = Path(path)
    if file.suffix == ".engine":
        return _plan(file)
    if file.suffix == ".onnx" or not file.is_file():
        return _onnx(file)
    raise EdgeferError(
        f"{file} is not looked at: '{file.suffix}' is neither .onnx nor .engine",
        hint="edgefer models lists networks, edgefer data inspect looks at faces",
    )


def _onnx(file: Path) -> Inspection:
    model = read_onnx(file)
    metadata = metadata_of(model)
    contract = Contract.from_metadata(metadata, str(file)) if METADATA_KEY in metadata else None
    facts, origin = onnx_facts(model), json_object(metadata.get(ORIGIN_KEY, "{}"))
    manifest, problems = _manifest(file)
    stated = metadata.get(PRECISION_KEY, "unstated")
    precision = Precision(stated, stated, facts.layers) if manifest is None else manifest.precision
    lineage = None
    if manifest is not None:
        lineage = lineage_of(file, manifest)
        problems += list(_disagreements(manifest, contract, stated))
    elif contract is not None:
        lineage = trace(file, contract, str(origin.get("model_sha256", "")))
    kind = "foreign" if contract is None else "engine" if manifest else "model" if stated == "fp32" else "device-file"
    if facts.external:
        problems.append("weights lie in other files, which the hash does not cover")
    return Inspection(
        *(file, file.stat().st_size, sha256_file(file), kind, contract, precision),
        graph=facts,
        header=None,
        inputs=facts.inputs,
        outputs=facts.outputs,
        lineage=lineage,
        manifest=manifest,
        target=origin.get("target"),
        problems=tuple(problems),
    )


def _plan(file: Path) -> Inspection:
    if not file.is_file() or not file.stat().st_size:
        what = "is empty" if file.is_file() else "is not a file" if file.exists() else "is not there"
        raise EdgeferError(f"{file} {what}", hint="check the path; build or copy it again, with its manifest")
    with file.open("rb") as stream:
        header = read_header(stream.read(HEADER))
    manifest, problems = _manifest(file)
    if manifest is None and header.product is None:
        raise EdgeferError(
            f"{file} has neither a manifest nor the tag of a TensorRT plan",
            hint="copy its .json beside it; a plan that was cut short or is of another product cannot be told apart",
        )
    if manifest is None and not problems:
        problems = [f"there is no {manifest_path(file).name}: labels, normalisation and golden answers are unknown"]
    contract = None if manifest is None else manifest.contract
    if manifest is not None and header.version is not None:
        built = manifest.runtime_version
        if parse_version(built) != parse_version(header.version):
            told = f"{header.product} {header.version}"
            problems.append(f"the manifest says {manifest.runtime} {built}, and the plan itself {told}")
    specs: tuple[tuple[TensorSpec, ...], ...] = ((), ())
    if manifest is not None:
        specs = _tensors(manifest)
    return Inspection(
        *(file, file.stat().st_size, sha256_file(file), "plan", contract),
        precision=None if manifest is None else manifest.precision,
        graph=None,
        header=header,
        inputs=specs[0],
        outputs=specs[1],
        lineage=None if manifest is None else lineage_of(file, manifest),
        manifest=manifest,
        target=None,
        problems=tuple(problems),
    )


def _tensors(manifest: Manifest) -> tuple[tuple[TensorSpec, ...], ...]:
    """Inputs and outputs of the engine that it describes, with the batch sizes that it was built for."""
    contract, built = manifest.contract, manifest.batches
    size = built[0] if built is not None and built[0] == built[1] else None
    return (
        (TensorSpec(INPUT_NAME, "uint8", (size, *contract.face_shape), built),),
        (TensorSpec(OUTPUT_NAME, "float32", (size, len(contract.labels))),),
    )


def _manifest(file: Path) -> tuple[Manifest | None, list[str]]:
    """The manifest, and what is wrong with it: a file is looked at all the same."""
    if not manifest_path(file).exists():
        return None, []
    try:
        manifest = read_manifest(file)
    except EdgeferError as fault:
        return None, [fault.message]
    try:
        verify_file(file, manifest)
    except EdgeferError as fault:
        return manifest, [fault.message]
    return manifest, []


def _disagreements(manifest: Manifest, contract: Contract | None, stated: str) -> Iterator[str]:
    if contract != manifest.contract:
        yield "the manifest has another contract (labels, input, normalisation or mirroring) than the file"
    if stated != manifest.precision.got:
        yield f"the manifest says {manifest.precision.got}, and the file {stated}"

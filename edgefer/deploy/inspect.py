"""What a file is (an ONNX model, an engine for a CPU, a TensorRT plan, weights) and what it was made from.

Everything comes from the file, the manifest beside it and hashes: nothing is run. The lineage leads from an engine back
to the weights through the hashes in manifest and contract, and names the files that have those hashes.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto

from edgefer.atomic import sha256_file
from edgefer.contract import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, Contract
from edgefer.engines.session import TensorSpec
from edgefer.engines.tensorrt.compat import parse_version
from edgefer.engines.tensorrt.inspect import HEADER, PlanHeader, read_header
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import metadata_of, read_onnx
from edgefer.intake import reading
from edgefer.manifest import (
    PRECISION_KEY,
    LayerPrecision,
    Manifest,
    Precision,
    manifest_path,
    read_manifest,
    verify_file,
)
from edgefer.models.importing import networks_that_fit
from edgefer.models.weights import SHIPPED, load_weights
from edgefer.optimize.tensorrt_file import ORIGIN_KEY
from edgefer.quantize.graphview import NO_SIZE, GraphView, LayerSize, layer_name, layer_sizes
from edgefer.quantize.plan import precision_of
from edgefer.quantize.qdq import QUANTISATION_KEY
from edgefer.quantize.scheme import SCHEMES, TENSORRT_SCHEME

SCHEMA: Final = 1
KINDS: Final = {
    "model": "float model, as exported",
    "engine": "engine for a CPU",
    "device-file": "ONNX that an engine is built from",
    "plan": "TensorRT engine",
    "foreign": "ONNX without a contract of edgefer",
    "weights": "weights of a network",
}

_WEIGHTS: Final = (".safetensors", ".pth", ".pt")
_FLOATS: Final = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
_QUANTISERS: Final = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Ancestor:
    """A file that another one was made from: its SHA-256, ``""`` where unknown, and where it was found, if anywhere."""

    sha256: str
    file: Path | None

    def __str__(self) -> str:
        if not self.sha256:
            return "unknown"
        return f"{self.file or 'not found here'} (sha256 {self.sha256[:12]}…)"


@dataclass(frozen=True)
class Lineage:
    """Origin of a file.

    Attributes:
        architecture: the network's architecture.
        model: the exported model.onnx; unknown where the file is one itself.
        weights: the weights that were exported.
        stated: other entries of the contract, e.g. ``trained_on``.
    """

    architecture: str
    model: Ancestor
    weights: Ancestor
    stated: dict[str, str]


@dataclass(frozen=True)
class OnnxFacts:
    """A graph in numbers.

    Attributes:
        inputs, outputs: its tensors.
        opset: opset of the standard operators.
        producer: the program that wrote it.
        nodes: number of nodes, without constants.
        parameters: number of values in its weights.
        batch_norms: number of batch norms that are nodes of their own, not folded into a convolution.
        weights_bytes: type → bytes.
        layers: each node's precision, without Q/DQ; what the graph says, not what a runtime makes of it.
        sizes: each node's output shape, parameters and multiply-accumulates.
        external_weights: whether weights lie in other files.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int
    producer: str
    nodes: int
    parameters: int
    batch_norms: int
    weights_bytes: dict[str, int]
    layers: tuple[LayerPrecision, ...]
    sizes: dict[str, LayerSize]
    external_weights: bool

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one face."""
        return sum(size.macs for size in self.sizes.values())


@dataclass(frozen=True)
class WeightsFacts:
    """A weights file in numbers.

    Attributes:
        tensors: name → shape and type, in the order of the file.
        networks: the networks of edgefer that the tensors fit, where the file does not say which one it is for.
        seen: number of faces that the weights were trained on, as far as the file says.
    """

    tensors: dict[str, tuple[tuple[int, ...], str]]
    networks: tuple[str, ...]
    seen: int

    @property
    def modules(self) -> dict[str, dict[str, tuple[tuple[int, ...], str]]]:
        """Path of a module → its tensors by their own names."""
        found: dict[str, dict[str, tuple[tuple[int, ...], str]]] = {}
        for name, facts in self.tensors.items():
            module, _, own = name.rpartition(".")
            found.setdefault(module, {})[own] = facts
        return found


@dataclass(frozen=True)
class FileInspection:
    """Everything that a file and its manifest say; None is what they do not.

    Attributes:
        file: the path.
        size_bytes, sha256: size and hash of the file.
        kind: one of :data:`KINDS`.
        contract: labels, input, normalisation.
        precision: precision of the whole and of each layer: the manifest's, else the graph's.
        graph: facts of an ONNX file's graph; weights: facts of a weights file.
        header: header of a TensorRT plan.
        inputs, outputs: the graph's tensors; for a plan, those that its manifest names.
        lineage: back to the weights.
        manifest: the manifest beside it.
        target: the target that a device file was written for.
        problems: contradictions, one sentence each.
    """

    file: Path
    size_bytes: int
    sha256: str
    kind: str
    contract: Contract | None = None
    precision: Precision | None = None
    graph: OnnxFacts | None = None
    header: PlanHeader | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    lineage: Lineage | None = None
    manifest: Manifest | None = None
    target: str | None = None
    problems: tuple[str, ...] = ()
    weights: WeightsFacts | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Precision → number of layers that have it."""
        layers = () if self.precision is None else self.precision.layers
        return dict(Counter(layer.got for layer in layers).most_common())


def inspect_file(path: str | os.PathLike[str]) -> FileInspection:
    """Look at a file without running it.

    Raises:
        EdgeferError: it is missing, empty, or neither ONNX nor a plan nor weights; what
            :func:`~edgefer.models.weights.load_weights` refuses.
    """
    file = Path(path)
    with reading(file, "it is damaged or was made by something else: copy or build it again"):
        if file.suffix == ".engine":
            return _plan(file)
        if file.suffix in _WEIGHTS:
            return _weights(file)
        if file.suffix == ".onnx" or not file.is_file():
            return _onnx(file)
    raise EdgeferError(
        f"{file} cannot be inspected: '{file.suffix}' is neither .onnx nor .engine nor {', '.join(_WEIGHTS)}",
        hint="edgefer models lists networks, edgefer data inspect looks at faces",
    )


def lineage_of(
    file: Path, contract: Contract, model_sha256: str, weights_sha256: str = "", model_file: str = ""
) -> Lineage:
    """The lineage of ``file``; its ancestors are searched for beside it, weights also among those that ship.

    Of several files with the model's hash, the one called ``model_file`` is named; of several with the weights',
    the one that was exported.
    """
    weights = weights_sha256 or contract.lineage.get("weights_sha256", "")
    beside = [path for path in sorted(file.parent.iterdir()) if path.is_file()]
    models = sorted((path for path in beside if path != file), key=lambda path: path.name != model_file)
    given = contract.lineage.get("weights_file", "")
    tensors = sorted([*beside, *sorted(SHIPPED.iterdir())], key=lambda path: path.name != given)
    return Lineage(
        contract.architecture,
        Ancestor(model_sha256, _with_hash(model_sha256, models, (".onnx",))),
        Ancestor(weights, _with_hash(weights, tensors, _WEIGHTS)),
        {key: value for key, value in contract.lineage.items() if key not in ("weights_sha256", "weights_file")},
    )


def _weights(file: Path) -> FileInspection:
    loaded = load_weights(file)
    tensors = {
        name: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in loaded.state.items()
    }
    about = loaded.contract
    lineage = None
    if about is not None:
        lineage = Lineage(about.architecture, Ancestor("", None), Ancestor(loaded.sha256, file), dict(about.lineage))
    fitting = () if about is not None else networks_that_fit(loaded.state)
    return FileInspection(
        *(file, file.stat().st_size, loaded.sha256, "weights", about),
        lineage=lineage,
        weights=WeightsFacts(tensors, fitting, len(loaded.seen)),
    )


def _onnx(file: Path) -> FileInspection:
    model = read_onnx(file)
    metadata = metadata_of(model)
    contract = Contract.from_metadata(metadata, str(file)) if METADATA_KEY in metadata else None
    facts, origin = _onnx_facts(model), _json_object(metadata.get(ORIGIN_KEY, "{}"))
    manifest, problems = _manifest(file)
    stated = metadata.get(PRECISION_KEY, "unstated")
    precision = Precision(stated, stated, facts.layers) if manifest is None else manifest.precision
    lineage = None
    if manifest is not None:
        known = manifest.model_sha256, manifest.weights_sha256, manifest.model_file
        lineage = lineage_of(file, manifest.contract, *known)
        problems += list(_disagreements(manifest, contract, stated))
    elif contract is not None:
        lineage = lineage_of(file, contract, str(origin.get("model_sha256", "")))
    kind = "foreign" if contract is None else "engine" if manifest else "model" if stated == "fp32" else "device-file"
    if facts.external_weights:
        problems.append("weights lie in other files, which the hash does not cover")
    return FileInspection(
        *(file, file.stat().st_size, sha256_file(file), kind, contract, precision),
        graph=facts,
        inputs=facts.inputs,
        outputs=facts.outputs,
        lineage=lineage,
        manifest=manifest,
        target=origin.get("target"),
        problems=tuple(problems),
    )


def _plan(file: Path) -> FileInspection:
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
    if manifest is not None and header.version is not None:
        built = manifest.runtime_version
        if parse_version(built) != parse_version(header.version):
            told = f"{header.product} {header.version}"
            problems.append(f"the manifest says {manifest.runtime} {built}, and the plan itself {told}")
    contract = precision = lineage = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    if manifest is not None:
        contract, precision, batches = manifest.contract, manifest.precision, manifest.batches
        size = batches[0] if batches is not None and batches[0] == batches[1] else None
        inputs = (TensorSpec(INPUT_NAME, "uint8", (size, *contract.face_shape), batches),)
        outputs = (TensorSpec(OUTPUT_NAME, "float32", (size, len(contract.labels))),)
        known = manifest.model_sha256, manifest.weights_sha256, manifest.model_file
        lineage = lineage_of(file, contract, *known)
    return FileInspection(
        *(file, file.stat().st_size, sha256_file(file), "plan", contract, precision),
        header=header,
        inputs=inputs,
        outputs=outputs,
        lineage=lineage,
        manifest=manifest,
        problems=tuple(problems),
    )


def _manifest(file: Path) -> tuple[Manifest | None, list[str]]:
    """The manifest, and what is wrong with it: the file is inspected all the same."""
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
        yield "the manifest has another contract (labels, input, normalisation or test-time flip) than the file"
    if stated != manifest.precision.got:
        yield f"the manifest says {manifest.precision.got}, and the file {stated}"


def _with_hash(sha256: str, files: Iterable[Path], suffixes: tuple[str, ...]) -> Path | None:
    if not sha256:
        return None
    return next((path for path in files if path.suffix in suffixes and sha256_file(path) == sha256), None)


def _onnx_facts(model: onnx.ModelProto) -> OnnxFacts:
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    weights: Counter[str] = Counter()
    parameters = 0
    for tensor in graph.initializer:
        count = math.prod(tensor.dims)
        kind, width = _dtype(tensor.data_type)
        weights[kind] += len(tensor.raw_data) or count * width
        parameters += count
    return OnnxFacts(
        inputs=tuple(_spec(value) for value in graph.input if value.name not in constants),
        outputs=tuple(map(_spec, graph.output)),
        opset=next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        nodes=len(GraphView(model).nodes),
        parameters=parameters,
        batch_norms=sum(node.op_type == "BatchNormalization" for node in graph.node),
        weights_bytes=dict(weights),
        layers=_layers(model),
        sizes=layer_sizes(model),
        external_weights=any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer),
    )


def _layers(model: onnx.ModelProto) -> tuple[LayerPrecision, ...]:
    """Each node's type: INT8 as its Q/DQ say, otherwise that of what it writes (``"other"`` for whole numbers)."""
    nodes = GraphView(model).nodes
    integer = {}
    if any(node.op_type in _QUANTISERS for node in nodes):
        how = _json_object(metadata_of(model).get(QUANTISATION_KEY, "{}"))
        integer = precision_of(model, SCHEMES.get(str(how.get("scheme")), TENSORRT_SCHEME))
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except (ValueError, onnx.shape_inference.InferenceError):  # over 2 GB, or contradictory: its own types are left
        inferred = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    rows = []
    for node in nodes:
        if node.op_type in _QUANTISERS:
            continue
        name = layer_name(node)
        kind = "int8" if integer.get(name) == "int8" else _FLOATS.get(types.get(node.output[0], 0), "other")
        rows.append(LayerPrecision(name, node.op_type, kind, kind))
    return tuple(rows)


def _json_object(text: str) -> dict[str, Any]:
    """The JSON object in ``text``; empty where it is none: whoever edited the file must still get an answer."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(d.dim_value if d.WhichOneof("value") == "dim_value" else None for d in tensor.shape.dim)
    return TensorSpec(value.name, _dtype(tensor.elem_type)[0], shape)


def _dtype(number: int) -> tuple[str, int]:
    """NumPy's name of an ONNX type, and bytes per value; ``"?"`` for an unknown type."""
    if number not in onnx.helper.get_all_tensor_dtypes():
        return "?", 0
    kind = onnx.helper.tensor_dtype_to_np_dtype(number)
    return kind.name, kind.itemsize


def inspection_json(found: FileInspection) -> dict[str, Any]:
    """One object; its keys are those of docs/doctor.md, and the same for every kind of file."""
    manifest, precision, graph = found.manifest, found.precision, None
    if found.graph is not None:
        shown = ("opset", "producer", "nodes", "parameters", "macs", "weights_bytes", "external_weights")
        graph = {name: getattr(found.graph, name) for name in shown}
    return {
        "schema": SCHEMA,
        "file": str(found.file),
        "bytes": found.size_bytes,
        "sha256": found.sha256,
        "kind": found.kind,
        "inputs": [_tensor_json(spec) for spec in found.inputs],
        "outputs": [_tensor_json(spec) for spec in found.outputs],
        "contract": None if found.contract is None else found.contract.to_dict(),
        "precision": None
        if precision is None
        else {
            "asked": precision.asked,
            "got": precision.got,
            "counts": found.counts,
            "layers": [{**asdict(layer), **_size_json(found, layer.layer)} for layer in precision.layers],
        },
        "graph": graph,
        "plan": None if found.header is None else {"product": found.header.product, "version": found.header.version},
        "target": found.target,
        "lineage": None if found.lineage is None else _lineage_json(found.lineage),
        "manifest": None if manifest is None else _manifest_json(manifest),
        "weights": None if found.weights is None else _weights_json(found.weights),
        "problems": list(found.problems),
    }


def _size_json(found: FileInspection, layer: str) -> dict[str, Any]:
    size = None if found.graph is None else found.graph.sizes.get(layer)
    return {} if size is None else size.to_dict()


def _weights_json(weights: WeightsFacts) -> dict[str, Any]:
    return {
        "tensors": [{"name": name, "shape": list(s), "dtype": kind} for name, (s, kind) in weights.tensors.items()],
        "networks": list(weights.networks),
        "faces_seen": weights.seen,
    }


def _tensor_json(spec: TensorSpec) -> dict[str, Any]:
    batches = None if spec.batches is None else list(spec.batches)
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape), "batches": batches}


def _lineage_json(lineage: Lineage) -> dict[str, Any]:
    model, weights = (
        {"sha256": one.sha256 or None, "file": None if one.file is None else str(one.file)}
        for one in (lineage.model, lineage.weights)
    )
    return {"architecture": lineage.architecture, "model": model, "weights": weights, "stated": lineage.stated}


def _manifest_json(manifest: Manifest) -> dict[str, Any]:
    calibration = None
    if manifest.calibration is not None:  # without the hash of every face
        calibration = {key: value for key, value in asdict(manifest.calibration).items() if key != "face_hashes"}
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
        "calibration": calibration,
        "golden": {"faces": len(manifest.golden.faces), "tolerance": dict(manifest.golden.tolerance)},
        "fused_layers": [dict(layer) for layer in manifest.audit],
    }


def rows(found: FileInspection) -> Iterator[tuple[str, str]]:
    """``(title, text)``, one fact per line."""
    yield "file", f"{found.file}, {found.size_bytes:,} bytes"
    yield "sha256", found.sha256
    yield "kind", KINDS[found.kind] + (f", for {found.target}" if found.target else "")
    if found.manifest is not None:
        yield from _manifest_rows(found.manifest)
    if found.header is not None:
        product, version = found.header.product, found.header.version
        yield "header", f"written by {product} {version or 'of unknown version'}" if product else "of no plan"
    for title, specs in (("input", found.inputs), ("output", found.outputs)):
        for spec in specs:
            sizes = "" if spec.batches is None or spec.shape[0] is not None else ", N {}…{}".format(*spec.batches)
            yield title, f"{spec}{sizes}"
    if found.contract is not None:
        yield from _contract_rows(found.contract, ", inside the graph" if found.weights is None else "")
    if found.weights is not None:
        yield from _weights_rows(found.weights)
    else:
        yield from _precision_rows(found)
    if found.graph is not None:
        graph = found.graph
        held = ", ".join(f"{count:,} bytes {kind}" for kind, count in graph.weights_bytes.items())
        folded = "" if graph.batch_norms else ", batch norms folded"
        yield (
            "graph",
            f"opset {graph.opset}, {graph.nodes} nodes, {graph.parameters:,} parameters of the engine{folded} ({held})",
        )
        yield "MACs", f"{graph.macs / 1e6:,.2f} M for one face"
        yield "written by", graph.producer or "unknown"
    if found.manifest is not None:
        yield from _golden_rows(found.manifest)
    if found.lineage is not None:
        if found.lineage.model.sha256:
            yield "from model", str(found.lineage.model)
        if found.weights is None:
            yield "from weights", str(found.lineage.weights)
        yield from ((f"  {key}", value) for key, value in found.lineage.stated.items())
    yield from (("problem", problem) for problem in found.problems)


LAYER_COLUMNS: Final = {
    "weights": ("module", "tensors", "values"),
    "plan": ("layer", "", "asked", "got", "from"),
    "": ("layer", "", "output", "parameters", "MACs", "asked", "got"),
}
"""Headings of :func:`layer_rows`, by kind of file; ``""`` is every other kind."""


def layer_rows(found: FileInspection) -> list[tuple[str, ...]]:
    """Headings, then a row for each layer: of an engine its fused layers where the manifest lists them, of weights
    each module with its tensors.
    """
    if found.weights is not None:
        rows = []
        for module, tensors in found.weights.modules.items():
            told = ", ".join(f"{name} {'×'.join(map(str, shape)) or 'number'}" for name, (shape, _) in tensors.items())
            rows.append((module or "–", told, f"{sum(math.prod(shape) for shape, _ in tensors.values()):,}"))
        return [LAYER_COLUMNS["weights"], *rows]
    if found.manifest is not None and found.manifest.audit:
        names = ("layer", "kind", "asked", "got")
        fused = [
            (*(str(layer.get(name, "")) for name in names), ", ".join(map(str, layer.get("origins", ()))))
            for layer in found.manifest.audit
        ]
        return [LAYER_COLUMNS["plan"], *fused]
    sizes = {} if found.graph is None else found.graph.sizes
    listed: list[tuple[str, ...]] = []
    for layer in () if found.precision is None else found.precision.layers:
        size = sizes.get(layer.layer, NO_SIZE)
        numbers = (f"{value:,}" if value else "" for value in (size.parameters, size.macs))
        listed.append((layer.layer, layer.op, "×".join(map(str, size.shape)), *numbers, layer.asked, layer.got))
    return [LAYER_COLUMNS[""], *listed]


def _weights_rows(weights: WeightsFacts) -> Iterator[tuple[str, str]]:
    held: Counter[str] = Counter()
    for shape, kind in weights.tensors.values():
        held[kind] += math.prod(shape)
    count = f"{len(weights.tensors):,} tensors of {len(weights.modules):,} modules"
    yield "tensors", f"{count}: {', '.join(f'{number:,} values in {kind}' for kind, number in held.most_common())}"
    if weights.networks:
        yield "fits", ", ".join(weights.networks)
    if weights.seen:
        yield "trained on", f"{weights.seen:,} faces, by their hashes: bench leaves them out"


def _manifest_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield "runtime", f"{manifest.runtime} {manifest.runtime_version}"
    if manifest.device:
        core = "" if manifest.dla_core is None else f", and DLA core {manifest.dla_core}"
        yield "GPU", manifest.device + core
    if manifest.instruction_set:
        yield "built on", " ".join(manifest.instruction_set)
    yield "built", f"{manifest.created} by edgefer {manifest.edgefer}"
    if manifest.note:
        yield "note", manifest.note


def _contract_rows(contract: Contract, where: str) -> Iterator[tuple[str, str]]:
    norm = contract.normalisation
    yield "network", contract.architecture
    yield "labels", ", ".join(contract.labels)
    listed = {name: ", ".join(f"{value:g}" for value in getattr(norm, name)) for name in ("mean", "std")}
    yield "normalisation", f"(x · {norm.scale:g} − {listed['mean']}) / {listed['std']}{where}"
    if contract.crop_margin:
        yield "crop margin", f"{contract.crop_margin:g} of the box on each side"
    if contract.test_time_flip:
        yield "test-time flip", f"logits are the mean over a face and its horizontal flip{where}"


def _precision_rows(found: FileInspection) -> Iterator[tuple[str, str]]:
    precision = found.precision
    if precision is None:
        yield "precision", "unknown: only the manifest tells it"
        return
    counted = precision.counted()
    asked = f" (asked for {precision.asked.upper()})" if precision.asked != precision.got else ""
    yield "precision", f"{precision.got.upper()}{asked}" + (f"; {counted}" if counted else "")


def _golden_rows(manifest: Manifest) -> Iterator[tuple[str, str]]:
    calibration, golden = manifest.calibration, manifest.golden
    if calibration is not None:
        yield "calibration", f"{calibration.n:,} faces of {calibration.origin}, {calibration.method}"
    if manifest.rewrites:
        yield "rewrites", ", ".join(f"{name} ({places}×)" for name, places in manifest.rewrites.items())
    allowed = ", ".join(f"{limit:g} in {runtime}" for runtime, limit in golden.tolerance.items())
    yield "golden answers", f"{len(golden.faces)} faces, tolerance {allowed}"

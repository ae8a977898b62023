"""Asked against got: what the compiler made of each layer, from its inspector or from its log.

TensorRT tells through ``IEngineInspector``, which needs a GPU. TensorRT-RTX prints the same as text while it builds.
Both name each fused layer, the types that it reads and writes, and the ONNX nodes that it came from.

For machines that cannot load an engine there is :func:`read_header`: its first bytes say whose plan it is, as
``printPlanVersion`` reads them in samples/common/sampleEngines.cpp of https://github.com/NVIDIA/TensorRT (10.3 and
later, where ``trtexec --getPlanVersionOnly`` prints them): a tag, the version of the serialisation, and for version 0
of it the four parts of the version that wrote it, from byte 24 on. TensorRT-RTX 1.7 writes the same with a tag of its
own, as plans that it built show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import onnx
from onnx import TensorProto

from edgefer.engines.tensorrt.compat import import_tensorrt, log_of, make_runtime
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.manifest import LayerPrecision
from edgefer.quantize.graphview import JOINING, POOLING, WEIGHTED, GraphView, layer_name
from edgefer.quantize.plan import make_plan, precision_of
from edgefer.quantize.scheme import TENSORRT_SCHEME
from edgefer.runtimes import TENSORRT, TENSORRT_RTX

FOLDED: Final = "folded"
"""Precision of a node that no layer of the engine names: a reshape, or a node computed while building."""

_VISIBLE: Final = WEIGHTED | POOLING | JOINING | {"MaxPool"}
"""Operators whose type can be seen from outside: functions of one value are done inside other layers' kernels."""

_LIGHT: Final = frozenset({"kgen", "shape_call", "pointwise", "pointwisev2", "shuffle", "reformat", "noop", "copy"})
"""Kinds of engine layers that surround the arithmetic and list the nodes that they begin or end."""

_TYPES: Final = (("int8", "int8"), ("half", "fp16"), ("fp16", "fp16"), ("bf16", "bf16"), ("bfloat", "bf16"))
_ORIGIN: Final = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_LINE: Final = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], "
    r"(?:Constants: \[(?P<constants>.*?)\], )?Outputs: \[(?P<outputs>.*?)\], TacticName: .*?Metadata: (?P<origins>.*)$"
)
_DATATYPE: Final = re.compile(r"Datatype: (\w+)")

HEADER: Final = 28
"""Bytes that are looked at."""

_PRODUCTS: Final = {b"ftrt": TENSORRT.title, b"vtrt": TENSORRT_RTX.title}
_VERSION_AT: Final = 24


@dataclass(frozen=True)
class EngineLayer:
    """A fused layer: ``reads``, ``holds`` and ``writes`` are the types of its inputs, constants and outputs."""

    name: str
    kind: str
    reads: frozenset[str]
    holds: frozenset[str]
    writes: frozenset[str]
    origins: tuple[str, ...]

    @property
    def computes(self) -> bool:
        """Whether the arithmetic of a convolution, product or pool is in it."""
        return self.kind.lower() not in _LIGHT


@dataclass(frozen=True)
class LayerAudit:
    """An engine layer, what its ONNX nodes were asked to be, and what it is."""

    layer: str
    kind: str
    asked: str
    got: str
    origins: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for the manifest."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "asked": self.asked,
            "got": self.got,
            "origins": [*self.origins],
        }


@dataclass(frozen=True)
class Audit:
    """Precision asked for and got, of each ONNX node and each engine layer.

    Attributes:
        nodes: the ONNX nodes in graph order, Q/DQ and casts left out.
        layers: the engine's layers that have an origin, in its order.
        reformats: engine layers that only change a layout or a type.
        stray: engine layers that only quantise or dequantise.
    """

    nodes: tuple[LayerPrecision, ...]
    layers: tuple[LayerAudit, ...]
    reformats: tuple[str, ...]
    stray: tuple[str, ...]

    @property
    def differences(self) -> tuple[LayerPrecision, ...]:
        """Nodes whose type can be seen and is not what was asked."""
        return tuple(n for n in self.nodes if n.op in _VISIBLE and n.got not in (n.asked, FOLDED))

    def got(self, asked: str) -> str:
        """The whole engine's precision: ``asked``, without what no node got."""
        found = {node.got for node in self.nodes}
        return "+".join(part for part in asked.split("+") if part in found) or "fp32"


def audit_dump(model: onnx.ModelProto, text: str) -> Audit:
    """Audit an engine that TensorRT-RTX built of ``model`` from what it printed.

    Raises:
        EdgeferError: it printed no layers.
    """
    layers = tuple(_from_line(line) for line in map(_LINE.match, text.splitlines()) if line is not None)
    if not layers:
        raise EdgeferError(
            "TensorRT-RTX did not print its layers, so what it built cannot be audited",
            hint="its log has another form in this version: install the one that constraints/ names",
        )
    return audit(model, layers, asked_of(model))


def audit_engine(model: onnx.ModelProto, plan: bytes, precision: str, options: BuilderOptions) -> Audit:
    """Audit an engine that TensorRT built of ``model``: it is loaded, which needs its GPU, and inspected.

    Raises:
        EdgeferError: it cannot be loaded.
    """
    trt, target = import_tensorrt(False)
    runtime = make_runtime(trt, target, options.dla)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EdgeferError(
            f"{target.title} cannot load what it built: {log_of(False).reason()}",
            hint="stop what else uses the GPU's memory",
        )
    inspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    flags = precision if options.weakly_typed(target) else None
    return audit(model, layers_of_json(text), asked_of(model, flags, implicit=options.implicit))


def layers_of_json(text: str) -> tuple[EngineLayer, ...]:
    """The layers in what the engine inspector answers.

    Raises:
        EdgeferError: it holds names only, as for an engine that was built without detailed profiling; it has another
            form than that of the versions that are known.
    """
    try:
        found = json.loads(text)["Layers"]
        if any(not isinstance(layer, dict) for layer in found):
            raise EdgeferError(
                "the engine tells only the names of its layers", hint="build it with `edgefer build-engine`"
            )
        return tuple(_from_json(layer) for layer in found)
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise EdgeferError(
            f"what the engine inspector tells cannot be read: {type(cause).__name__}: {cause}",
            hint="this version of TensorRT writes it otherwise",
        ) from cause


def asked_of(model: onnx.ModelProto, weak: str | None = None, *, implicit: bool = False) -> dict[str, tuple[str, str]]:
    """Node → (operator, type asked): from Q/DQ and tensor types; the latter do not count where flags of ``weak`` do."""
    if implicit:
        integer = {p.layer: p.asked for p in make_plan(model, TENSORRT_SCHEME).layers}
    else:
        integer = precision_of(model, TENSORRT_SCHEME)
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    asked = {}
    for node in GraphView(model).nodes:
        name = layer_name(node)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") or name.endswith("/Cast"):
            continue
        if integer.get(name) == "int8":
            kind = "int8"
        elif weak is not None:
            kind = "fp16" if "fp16" in weak else "fp32"
        else:
            kind = "fp16" if types.get(node.output[0]) == TensorProto.FLOAT16 else "fp32"
        asked[name] = (node.op_type, kind)
    return asked


def audit(model: onnx.ModelProto, layers: Sequence[EngineLayer], asked: Mapping[str, tuple[str, str]]) -> Audit:
    """Hold ``layers`` against what was ``asked`` of the nodes of ``model``."""
    homes: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        for origin in layer.origins:
            homes.setdefault(origin, []).append(layer)
    nodes = tuple(
        LayerPrecision(name, op, kind, _node_got(op, kind, homes.get(name, []))) for name, (op, kind) in asked.items()
    )
    rows = tuple(row for row in (_row(layer, asked) for layer in layers) if row is not None)
    reformats = tuple(layer.name for layer in layers if layer.kind.lower() == "reformat")
    stray = tuple(layer.name for layer in layers if layer.origins and all(map(_is_quantiser, layer.origins)))
    return Audit(nodes, rows, reformats, stray)


def _node_got(op: str, asked: str, homes: Iterable[EngineLayer]) -> str:
    """The precision that a node got: for arithmetic from the layer that does it, otherwise from any that names it."""
    listed = list(homes)
    if not listed:
        return FOLDED
    if op in WEIGHTED:
        listed = [layer for layer in listed if layer.computes] or listed
    found = [_layer_got(layer, op, asked) for layer in listed]
    return asked if asked in found else found[0]


def _layer_got(layer: EngineLayer, op: str, asked: str) -> str:
    """The type that a layer computes in, as far as it can be seen.

    INT8 is arithmetic that reads INT8, and anything else that reads or writes it. Of several float types in one kernel
    (FP32 sums with FP16 constants) the one that was asked counts.
    """
    strict = op in WEIGHTED and layer.computes
    integer = layer.reads if strict else layer.reads | layer.writes
    floats = layer.reads | layer.holds | layer.writes
    if "int8" in integer and (strict or asked == "int8"):
        return "int8"
    if asked in floats - {"int8"}:
        return asked
    if strict and asked == "int8":
        floats = layer.reads  # what it multiplies; sums and biases may be wider
    return next((kind for kind in ("fp32", "bf16", "fp16") if kind in floats), "int8" if "int8" in integer else FOLDED)


def _row(layer: EngineLayer, asked: Mapping[str, tuple[str, str]]) -> LayerAudit | None:
    origins = tuple(name for name in layer.origins if name in asked)
    if not origins:
        return None
    weighted = [name for name in origins if asked[name][0] in WEIGHTED]
    others = [name for name in origins if name not in weighted]
    main = (weighted or others)[0] if layer.computes else (others or weighted)[0]
    op, kind = asked[main]
    if not layer.computes and op in WEIGHTED:
        op = "Add"  # the end of a convolution, which adds its bias and rounds: not where it multiplies
    return LayerAudit(layer.name, layer.kind, kind, _layer_got(layer, op, kind), origins)


def _is_quantiser(origin: str) -> bool:
    return origin.endswith(("/QuantizeLinear", "/DequantizeLinear"))


def _from_line(line: re.Match[str]) -> EngineLayer:
    reads, holds, writes = (
        frozenset(map(_type, _DATATYPE.findall(line[part] or ""))) for part in ("inputs", "constants", "outputs")
    )
    return EngineLayer(line["name"], line["kind"], reads, holds, writes, tuple(_ORIGIN.findall(line["origins"])))


def _from_json(layer: Mapping[str, Any]) -> EngineLayer:
    reads, writes = (
        frozenset(_type(str(value.get("Format/Datatype", value.get("Datatype", "")))) for value in layer.get(key, ()))
        for key in ("Inputs", "Outputs")
    )
    weights = layer.get("Weights")
    holds = frozenset([_type(str(weights["Type"]))] if isinstance(weights, dict) and "Type" in weights else [])
    origins = _ORIGIN.findall(str(layer.get("Metadata", ""))) or _parts(str(layer["Name"]))
    return EngineLayer(str(layer["Name"]), str(layer.get("LayerType", "")), reads, holds, writes, tuple(origins))


def _parts(name: str) -> list[str]:
    """The nodes in the name of a layer of TensorRT 8.5, which has no metadata: ``"Conv_0 + Relu_0"``."""
    return [part.strip() for part in re.split(r"\s\+\s|[()]|\|\|", name) if part.strip()]


def _type(text: str) -> str:
    lowered = text.lower()
    if "uint8" in lowered:
        return "uint8"
    return next(
        (kind for sign, kind in _TYPES if sign in lowered),
        "fp32" if "float" in lowered or "fp32" in lowered else lowered,
    )


@dataclass(frozen=True)
class PlanHeader:
    """``product``: whose plan it is, None for nobody's. ``version``: of what wrote it; None where it is not told."""

    product: str | None
    version: str | None


def read_header(content: bytes) -> PlanHeader:
    """Read the first :data:`HEADER` bytes of a plan; shorter content is none."""
    product = _PRODUCTS.get(content[:4])
    if len(content) < HEADER or product is None:
        return PlanHeader(None, None)
    if int.from_bytes(content[4:8], "little") != 0:
        return PlanHeader(product, None)
    return PlanHeader(product, ".".join(map(str, content[_VERSION_AT:HEADER])))

"""Reading an ONNX file that somebody else exported: what goes in, in which layout, and what comes out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import inliner, numpy_helper

from edgefer.contract import METADATA_KEY, Contract
from edgefer.errors import EdgeferError
from edgefer.graph.load import metadata_of
from edgefer.graph.names import canonicalise

LAYOUTS = ("NCHW", "NHWC")
OWN_DOMAINS = ("", "ai.onnx")
_SCALING = ("Sub", "Div", "Mul", "Add", "BatchNormalization")
_MOVING = ("Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze")
_PLAIN = "export the network alone: one float input of images, one output of class scores"

Size: TypeAlias = int | str
"""Of an axis: a number, or a name (``"?"`` for none) where it is free."""


@dataclass(frozen=True)
class Foreign:
    """A foreign graph that can be put behind a contract.

    Attributes:
        raw: as it was read, local functions inlined.
        model: in canonical form; one float32 input of four axes.
        input: its name.
        layout: ``"NCHW"`` or ``"NHWC"``.
        batch: the fixed batch of the input, or None where it is free.
        output: the name of the output with the class scores.
    """

    raw: onnx.ModelProto
    model: onnx.ModelProto
    input: str
    layout: str
    batch: int | None
    output: str


def read_foreign(
    path: str | os.PathLike[str], contract: Contract, *, layout: str | None = None, own_scaling: bool = False
) -> Foreign:
    """Read a foreign ONNX file and find its input and output; spatial axes that it leaves free become the contract's.

    Args:
        path: the file; weights in files beside it are read in.
        contract: what the network is said to take and return.
        layout: ``"NCHW"`` or ``"NHWC"`` where the file does not say.
        own_scaling: the graph scales its input itself, and that comes after the contract's normalisation.

    Raises:
        EdgeferError: not ONNX; an edgefer file; several inputs; a uint8 input, or scaling that the contract repeats;
            sizes or a number of classes other than the contract's; operators that are not ONNX's own.
    """
    origin = Path(path)
    raw = parse_foreign(origin)
    if METADATA_KEY in metadata_of(raw):
        raise EdgeferError(
            f"{origin} is behind a contract already: edgefer wrote it", hint="use it as it is: `edgefer build-engine`"
        )
    _check_domains(raw, origin)
    model = canonicalise(raw)
    entry = only_input(model, origin)
    sizes = sizes_of(entry)
    found = _layout(sizes, contract, layout, origin)
    _fix_size(entry, found, contract, origin)
    if not own_scaling:
        _refuse_scaling(model, entry.name, contract, origin)
    batch = sizes[0] if isinstance(sizes[0], int) else None
    return Foreign(raw, model, entry.name, found, batch, _scores(model, contract, origin))


def sizes_of(value: onnx.ValueInfoProto) -> list[Size]:
    """The sizes of a value's axes."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.WhichOneof("value") == "dim_value" else dim.dim_param or "?" for dim in dims]


def described(value: onnx.ValueInfoProto) -> str:
    """E.g. ``'input' float 1×3×224×224``."""
    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
    return f"'{value.name}' {kind} {'×'.join(map(str, sizes_of(value)))}"


def parse_foreign(path: Path) -> onnx.ModelProto:
    """The model in a file, with the weights of files beside it and its local functions inlined.

    Raises:
        EdgeferError: no such file, not ONNX, or its weights are missing.
    """
    if not path.is_file():
        raise EdgeferError(f"there is no ONNX file {path}", hint="check the path")
    try:
        model = onnx.load_model(path, format="protobuf")
    except (DecodeError, ValueError) as cause:
        raise EdgeferError(f"{path} is not ONNX, or was cut short", hint="export or copy it again") from cause
    except (OSError, onnx.checker.ValidationError) as cause:
        raise EdgeferError(
            f"{path} cannot be read whole: {str(cause).splitlines()[0]}",
            hint="it may keep its weights in a file beside it: copy that too",
        ) from cause
    if not model.graph.node:
        raise EdgeferError(f"{path} is not ONNX, or was cut short: it holds no network", hint="export or copy it again")
    return inliner.inline_local_functions(model) if model.functions else model


def _check_domains(model: onnx.ModelProto, origin: Path) -> None:
    other = next((node for node in model.graph.node if node.domain not in OWN_DOMAINS), None)
    if other is not None:
        raise EdgeferError(
            f"{origin} uses the operator {other.domain}.{other.op_type}, which is not ONNX's own",
            hint="export the float network without graph optimisations of one runtime",
        )
    quantised = next(
        (n for n in model.graph.node if n.op_type.startswith(("QuantizeL", "DequantizeL", "QLinear"))), None
    )
    if quantised is not None:
        raise EdgeferError(
            f"{origin} is quantised already ({quantised.op_type} '{quantised.name}')",
            hint="adopt the float network that it was made from, and quantise that",
        )


def only_input(model: onnx.ModelProto, origin: Path) -> onnx.ValueInfoProto:
    """The one float32 input of four axes.

    Raises:
        EdgeferError: another number of inputs, another type or another number of axes.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        listed = " and ".join(described(value) for value in inputs) or "none"
        raise EdgeferError(f"{origin} has {len(inputs)} inputs ({listed}); a contract is about one", hint=_PLAIN)
    entry: onnx.ValueInfoProto = inputs[0]
    kind = entry.type.tensor_type.elem_type
    if kind == onnx.TensorProto.UINT8:
        raise EdgeferError(
            f"{origin} takes {described(entry)}: preprocessing is already inside, and which one cannot be known",
            hint=_PLAIN,
        )
    if kind != onnx.TensorProto.FLOAT or len(sizes_of(entry)) != 4:
        raise EdgeferError(f"{origin} takes {described(entry)}, not float32 images with four axes", hint=_PLAIN)
    return entry


def _layout(sizes: Sequence[Size], contract: Contract, asked: str | None, origin: Path) -> str:
    """Where the channels are: the axis that has as many as the contract."""
    if asked is not None:
        if asked not in LAYOUTS:
            raise EdgeferError(f"there is no layout '{asked}'", hint=f"one of {', '.join(LAYOUTS)}")
        return asked
    fits = [name for name in LAYOUTS if _matches(sizes, name, contract)]
    if len(fits) == 1:
        return fits[0]
    certain = [name for name in fits if sizes[name.index("C")] == contract.channels]
    if len(certain) == 1:
        return certain[0]
    shown = "×".join(map(str, sizes))
    if fits:
        raise EdgeferError(f"{origin} takes {shown}, which may be NCHW or NHWC", hint="say which: --layout NCHW")
    height, width, channels = contract.face_shape
    raise EdgeferError(
        f"{origin} takes faces of {shown}; the contract says {height}×{width} pixels with {channels} channels",
        hint="make input.height, input.width and input.channels of the contract those of the network",
    )


def _wanted(layout: str, contract: Contract) -> dict[int, int]:
    """Axis → size."""
    height, width, channels = contract.face_shape
    return {layout.index("H"): height, layout.index("W"): width, layout.index("C"): channels}


def _matches(sizes: Sequence[Size], layout: str, contract: Contract) -> bool:
    return all(sizes[axis] == size or isinstance(sizes[axis], str) for axis, size in _wanted(layout, contract).items())


def _fix_size(entry: onnx.ValueInfoProto, layout: str, contract: Contract, origin: Path) -> None:
    sizes = sizes_of(entry)
    if not _matches(sizes, layout, contract):
        raise EdgeferError(
            f"{origin} takes {'×'.join(map(str, sizes))}, which as {layout} is not the contract's "
            f"{'×'.join(map(str, contract.face_shape))} (height×width×channels)",
            hint="give the other --layout, or leave it away",
        )
    for axis, size in _wanted(layout, contract).items():
        entry.type.tensor_type.shape.dim[axis].Clear()
        entry.type.tensor_type.shape.dim[axis].dim_value = size


def _refuse_scaling(model: onnx.ModelProto, entry: str, contract: Contract, origin: Path) -> None:
    """Refuse a graph that begins by scaling where the contract scales too: pixels would be normalised twice."""
    norm = contract.normalisation
    if norm.scale == 1 and not any(norm.mean) and all(value == 1 for value in norm.std):
        return
    found = leading_scaling(model, entry)
    if found:
        raise EdgeferError(
            f"{origin} scales its input itself ({', '.join(found)}), and the contract normalises as well: "
            "preprocessing is already inside",
            hint="where the graph takes pixels from 0 to 255, set scale = 1.0, mean = [0.0, …], std = [1.0, …]; where "
            "it takes what the contract gives, pass --own-scaling",
        )


def leading_scaling(model: onnx.ModelProto, entry: str) -> list[str]:
    """The nodes that shift or scale a graph's input by constants, before anything else reads it."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: list[str] = []
    tensor = entry
    while len(readers.get(tensor, [])) == 1:
        node = readers[tensor][0]
        others = [name for name in node.input if name != tensor and name]
        small = all(name in constants and numpy_helper.to_array(constants[name]).size <= 4 for name in others)
        if node.op_type in _SCALING and small and others:
            found.append(f"{node.op_type} '{node.name}'")
        elif node.op_type not in _MOVING:
            break
        tensor = node.output[0]
    return found


def _scores(model: onnx.ModelProto, contract: Contract, origin: Path) -> str:
    """The output with the class scores; of several, the only one with as many columns as the contract has labels."""
    labels = len(contract.labels)
    inferred = onnx.shape_inference.infer_shapes(model)
    outputs = list(inferred.graph.output)
    floats = [value for value in outputs if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    fits = [value for value in floats if len(sizes_of(value)) == 2 and sizes_of(value)[1] == labels]
    unknown = [value for value in floats if len(sizes_of(value)) == 2 and isinstance(sizes_of(value)[1], str)]
    chosen = fits or (unknown if len(outputs) == 1 else [])
    if len(chosen) == 1:
        return str(chosen[0].name)
    listed = ", ".join(described(value) for value in outputs)
    raise EdgeferError(
        f"{origin} returns {listed}; the contract has {labels} labels ({', '.join(contract.labels)})",
        hint="give the contract one label for each output of the network, in their order"
        if len(outputs) == 1
        else "the network must have one float output N×labels: export it without the others",
    )

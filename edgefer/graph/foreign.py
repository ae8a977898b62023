"""Foreign ONNX files: which there are, what they take and return, and what preprocessing they do themselves."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import inliner, numpy_helper

from edgefer.contract import METADATA_KEY, Contract
from edgefer.errors import EdgeferError
from edgefer.graph.canonical import canonicalise
from edgefer.graph.onnx_file import metadata_of
from edgefer.intake import check_budget, reading

_SCALING = ("Sub", "Div", "Mul", "Add", "BatchNormalization", "Pow", "Clip", "Min", "Max")
"""Change the values of pixels, where everything else that they read is constant."""

_MOVING = (
    *("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile"),
    *("Gather", "GatherND", "GatherElements", "Slice", "Split", "Concat", "Pad", "CenterCropPad"),
    *("Resize", "Upsample", "SpaceToDepth", "DepthToSpace", "ReverseSequence"),
)
"""Say where pixels stand, and how many there are; what they give are pixels still."""


def leading_scaling(model: onnx.ModelProto, entry: str) -> list[str]:
    """The nodes that shift, scale or clip a graph's input by constants before its first layer with weights or pool.

    Every reader of the input is followed, through whatever cuts, moves, resizes or joins pixels; constants may have any
    size.

    Args:
        model: the model in canonical form: nodes in the order in which they can run, constants as initialisers.
        entry: the name of the input.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    pixels = {entry}
    found: list[str] = []
    for node in model.graph.node:
        if not pixels & set(node.input):
            continue
        if node.op_type in _SCALING and _reads_only(node, pixels | constants):
            if node.op_type == "Clip" or not _reads_only(node, pixels):
                found.append(f"{node.op_type} '{node.name}'")
        elif node.op_type not in _MOVING:
            continue
        pixels.update(name for name in node.output if name)
    return found


def _reads_only(node: onnx.NodeProto, known: Collection[str]) -> bool:
    return all(name in known for name in node.input if name)


LAYOUTS = ("NCHW", "NHWC")
OWN_DOMAINS = ("", "ai.onnx")
RESHAPING = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose")
"""Operators that may follow the last real operator of a network without changing its answers."""

_SIXTEEN_BITS = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_PLAIN = "export the network alone: one float input of images, one output of class scores"

Size: TypeAlias = int | str
"""Size of an axis: a number, or a name (``"?"`` for none) where it is free."""


@dataclass(frozen=True)
class Foreign:
    """A foreign graph that can be put behind a contract.

    Attributes:
        raw: the model as it was read, local functions inlined.
        model: the model in canonical form; one float32 input of four axes.
        input: its name.
        layout: ``"NCHW"`` or ``"NHWC"``.
        batch: the fixed batch of the input, or None where it is free.
        output: the name of the output with the class scores.
        notes: decisions on what the file leaves open, one sentence each.
        bound: whether axes of its faces were free, and have the contract's size now.
    """

    raw: onnx.ModelProto
    model: onnx.ModelProto
    input: str
    layout: str
    batch: int | None
    output: str
    notes: tuple[str, ...] = ()
    bound: bool = False


def read_foreign(
    path: str | os.PathLike[str], contract: Contract, *, layout: str | None = None, own_scaling: bool = False
) -> Foreign:
    """Read a foreign ONNX file and find its input and output; spatial axes that it leaves free become the contract's.

    Args:
        path: the file; weights in files beside it are read in.
        contract: the stated input and output of the network.
        layout: ``"NCHW"`` or ``"NHWC"`` where the file does not say.
        own_scaling: the graph scales its input itself, and that comes after the contract's normalisation.

    Raises:
        EdgeferError: not ONNX; an edgefer file; several inputs; a uint8 input, or scaling that the contract repeats;
            sizes or a number of classes other than the contract's; operators that are not ONNX's own; a body in FP16
            or BF16; a Sigmoid at the end.
    """
    origin = Path(path)
    raw = parse_foreign(origin)
    if METADATA_KEY in metadata_of(raw):
        raise EdgeferError(
            f"{origin} is behind a contract already: edgefer wrote it", hint="use it as it is: `edgefer build-engine`"
        )
    _check_domains(raw, origin)
    model = canonicalise(raw)
    _refuse_halves(model, origin)
    entry = only_input(model, origin)
    sizes = sizes_of(entry)
    found = _layout(sizes, contract, layout, origin)
    _fix_size(entry, found, contract, origin)
    if not own_scaling:
        _refuse_scaling(model, entry.name, contract, origin)
    batch = sizes[0] if isinstance(sizes[0], int) else None
    output = _scores(model, contract, origin)
    _refuse_sigmoid(model, output, origin)
    free = [f"{sizes[axis]}" for axis in _wanted(found, contract) if isinstance(sizes[axis], str)]
    notes = _notes(model, output, free, contract)
    return Foreign(raw, model, entry.name, found, batch, output, notes, bound=bool(free))


def _notes(model: onnx.ModelProto, output: str, free: Sequence[str], contract: Contract) -> tuple[str, ...]:
    notes = []
    if free:
        size = "×".join(map(str, contract.face_shape))
        notes.append(f"axes of its input that it leaves free ({', '.join(free)}) became the contract's {size}")
    others = [f"'{value.name}'" for value in model.graph.output if value.name != output]
    if others:
        notes.append(f"'{output}' is taken for the class scores, and its output {' and '.join(others)} was dropped")
    return tuple(notes)


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
    with reading(path, "it is damaged: export or copy it again"):
        _refuse_large(model, path)
        return inliner.inline_local_functions(model) if model.functions else model


def _refuse_large(model: onnx.ModelProto, origin: Path) -> None:
    """A node of a few bytes can ask for a constant of gigabytes."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant" and n.attribute}
    for node in model.graph.node:
        place = _SHAPED.get(node.op_type, len(node.input))
        tensor = constants.get(node.input[place]) if place < len(node.input) else None
        if tensor is not None and tensor.data_type == onnx.TensorProto.INT64:
            size = math.prod(max(1, abs(int(side))) for side in numpy_helper.to_array(tensor).reshape(-1))
            check_budget(4 * size, f"{node.op_type} '{node.name}' of {origin}", "the file is damaged: export it again")


_SHAPED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
"""Operators that make as many values as a constant says → the position of that among their inputs."""


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


def _refuse_halves(model: onnx.ModelProto, origin: Path) -> None:
    """A body in float16 would stay so under every precision that is asked for."""
    kinds = [(f"the constant '{t.name}'", t.data_type) for t in model.graph.initializer]
    casts = [(node, a.i) for node in model.graph.node if node.op_type == "Cast" for a in node.attribute]
    kinds += [(f"{node.op_type} '{node.name}'", kind) for node, kind in casts]
    kinds += [(f"the input '{value.name}'", value.type.tensor_type.elem_type) for value in model.graph.input]
    found = next(((what, kind) for what, kind in kinds if kind in _SIXTEEN_BITS), None)
    if found is not None:
        name = onnx.TensorProto.DataType.Name(found[1]).lower()
        raise EdgeferError(
            f"{origin} computes in {name} ({found[0]})",
            hint="export the FP32 network and adopt that: `edgefer build-engine --fp16` or --bf16 makes it small again",
        )


def _refuse_sigmoid(model: onnx.ModelProto, output: str, origin: Path) -> None:
    maker = {name: node for node in model.graph.node for name in node.output}
    node = maker.get(output)
    while node is not None and node.op_type in RESHAPING:
        node = maker.get(node.input[0])
    if node is not None and node.op_type in ("Sigmoid", "HardSigmoid"):
        raise EdgeferError(
            f"{origin} ends in a {node.op_type}, which scores each class by itself; a contract's logits are for a "
            "softmax over all of them",
            hint="export the network without it, if its classes exclude each other and its logits may be compared",
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
        some = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        raise EdgeferError(
            f"{origin} scales its input itself ({some}), and the contract normalises as well: "
            "preprocessing is already inside",
            hint="where the graph takes pixels from 0 to 255, set scale = 1.0, mean = [0.0, …], std = [1.0, …]; where "
            "it takes what the contract gives, pass --own-scaling",
        )


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

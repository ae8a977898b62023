"""A model.onnx in memory and on disk: read, checked, stamped with its contract, serialised."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from edgefer import __version__
from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.errors import EdgeferError
from edgefer.manifest import PRECISION_KEY

_AGAIN = "export it again: `edgefer export --model NAME --weights FILE -o model.onnx`"


def load_model(path: str | os.PathLike[str]) -> tuple[onnx.ModelProto, Contract]:
    """Read an edgefer ONNX file and its contract, and check that the two agree.

    Returns:
        The model, with one input ``faces`` (uint8 N×H×W×C) and one output ``logits`` (float32 N×classes), and its
        contract.

    Raises:
        EdgeferError: the file is missing, empty, cut short or not ONNX; it keeps weights in other files; it has no
            contract; its input or output is not the contract's; the ONNX checker refuses it.
    """
    origin = Path(path)
    model = read_onnx(origin)
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise EdgeferError(
            f"{origin} keeps weights in other files, which its hash would not cover",
            hint="store it whole: onnx.save(onnx.load('a.onnx'), 'b.onnx')",
        )
    contract = Contract.from_metadata(metadata_of(model), str(origin))
    check_interface(model, contract, str(origin))
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as cause:
        raise EdgeferError(f"{origin} is not valid ONNX: {str(cause).strip().splitlines()[0]}", hint=_AGAIN) from cause
    return model, contract


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """The model's ``metadata_props``."""
    return {entry.key: entry.value for entry in model.metadata_props}


def check_interface(model: onnx.ModelProto, contract: Contract, origin: str) -> None:
    """Check the model's one input and one output against the contract.

    Raises:
        EdgeferError: another number of inputs or outputs, another name, type, size, or a size that is free where the
            contract fixes it; a batch that is fixed.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    wanted = _text(INPUT_NAME, onnx.TensorProto.UINT8, ("N", *contract.face_shape))
    _check_one(inputs, "input", wanted, origin)
    wanted = _text(OUTPUT_NAME, onnx.TensorProto.FLOAT, ("N", len(contract.labels)))
    _check_one(list(model.graph.output), "output", wanted, origin)


def _check_one(values: list[onnx.ValueInfoProto], kind: str, wanted: str, origin: str) -> None:
    found = [_describe(value) for value in values]
    if found == [wanted]:
        return
    raise EdgeferError(
        f"{origin} has the {kind} {' and '.join(found) or 'nothing'}; its contract asks for {wanted}", hint=_AGAIN
    )


def _describe(value: onnx.ValueInfoProto) -> str:
    """The value as text; the first size reads N where it is free, any other free size by its name or ``?``."""
    tensor = value.type.tensor_type
    sizes: list[int | str] = []
    for axis, size in enumerate(tensor.shape.dim):
        if size.WhichOneof("value") == "dim_value":
            sizes.append(size.dim_value)
        else:
            sizes.append("N" if axis == 0 else size.dim_param or "?")
    return _text(value.name, tensor.elem_type, tuple(sizes))


def _text(name: str, elem_type: int, sizes: tuple[int | str, ...]) -> str:
    return f"'{name}' {onnx.TensorProto.DataType.Name(elem_type).lower()} {'×'.join(map(str, sizes))}"


def read_onnx(path: Path) -> onnx.ModelProto:
    """Parse any ONNX file, with or without a contract; weights in other files are left there.

    Raises:
        EdgeferError: it is missing, empty, cut short or not ONNX.
    """
    if not path.is_file():
        raise EdgeferError(
            f"{path} is not a file" if path.exists() else f"there is no model {path}",
            hint="check the path; `edgefer export` writes models",
        )
    content = path.read_bytes()
    if not content:
        raise EdgeferError(f"{path} is empty", hint=_AGAIN)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as cause:
        raise EdgeferError(f"{path} is not ONNX, or was cut short ({len(content)} bytes)", hint=_AGAIN) from cause
    if not model.graph.node:
        raise EdgeferError(f"{path} holds no network, or was cut short ({len(content)} bytes)", hint=_AGAIN)
    return model


def stamp(model: onnx.ModelProto, contract: Contract, precision: str, extra: Mapping[str, str] | None = None) -> None:
    """Replace the model's metadata, in place, by the contract, the precision (``"fp32"``, ``"int8"``, …) and ``extra``.

    The producer becomes this edgefer. Keys are sorted, so that the same model gives the same bytes.
    """
    entries = {**contract.to_metadata(), PRECISION_KEY: precision, **(extra or {})}
    del model.metadata_props[:]
    for key in sorted(entries):
        model.metadata_props.add(key=key, value=entries[key])
    model.producer_name = "edgefer"
    model.producer_version = __version__


def serialise(model: onnx.ModelProto) -> bytes:
    """The model's bytes; equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def opset_of(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that ``model`` is written in."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)

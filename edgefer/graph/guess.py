"""A contract for a file of a well-known layout, as TOML for a person to confirm."""

from __future__ import annotations

import os
from pathlib import Path

import onnx

from edgefer.contract import METADATA_KEY, Contract, Normalisation
from edgefer.errors import EdgeferError
from edgefer.graph.foreign import only_input, parse_foreign, sizes_of
from edgefer.graph.load import metadata_of
from edgefer.models.guess import HDF5, Guess, carried, guess_keras, guess_weights
from edgefer.models.keras import SUFFIXES, WHEEL
from edgefer.models.registry import IMAGENET

HSEMOTION_8 = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""The order of HSEmotion's networks (hsemotion/facial_emotions.py), Anger to Surprise, in edgefer's names."""

HSEMOTION_7 = tuple(label for label in HSEMOTION_8 if label != "contempt")
_HSEMOTION_SIZES = (224, 260, 288, 300)


def guess_contract(path: str | os.PathLike[str]) -> str:
    """TOML of the contract that a file carries or is probably for; comments say what it rests on and what is in doubt.

    Known are edgefer's own files, state dicts of the zoo's networks and of published DDAMFN checkpoints, oarriaga's
    Keras files, and ONNX files of HSEmotion and EmotiEffNet; of other ONNX files the size is read and the rest is left
    to fill in.

    Raises:
        EdgeferError: no such file, it cannot be read, or is of no well-known layout.
    """
    file = Path(path)
    if not file.is_file():
        raise EdgeferError(f"there is no file {file}", hint="give weights (.safetensors, .pth, .pt, .hdf5) or an .onnx")
    if file.suffix == ".onnx":
        return _guess_onnx(file)
    with file.open("rb") as stream:
        keras = stream.read(len(HDF5)) == HDF5
    return guess_keras(file) if keras or file.suffix in (*SUFFIXES, WHEEL) else guess_weights(file)


def _guess_onnx(file: Path) -> str:
    model = parse_foreign(file)
    metadata = metadata_of(model)
    if METADATA_KEY in metadata:
        return carried(Contract.from_metadata(metadata, str(file)), file)
    entry = only_input(model, file)
    sizes = sizes_of(entry)
    layout = next((name for name in ("NCHW", "NHWC") if sizes[name.index("C")] in (1, 3)), None)
    if layout is None:
        raise EdgeferError(
            f"{file} takes {'×'.join(map(str, sizes))}: which axis has the channels cannot be told",
            hint="`edgefer contract new` writes a template to fill in by hand",
        )
    height, width, channels = (_number(sizes[layout.index(axis)]) for axis in "HWC")
    classes = _classes(model)
    why = f"its input is {'×'.join(map(str, sizes))} float ({layout}), its output has {classes or 'unknown'} columns"
    if (channels, height, classes) == (3, width, classes) and height in _HSEMOTION_SIZES and classes in (7, 8):
        return Guess(
            file.stem,
            HSEMOTION_8 if classes == 8 else HSEMOTION_7,
            (height, width, channels),
            IMAGENET,
            f"{why}, as those of HSEmotion and EmotiEffNet, which are normalised as ImageNet and order their classes "
            "Anger Contempt Disgust Fear Happiness Neutral Sadness Surprise (7 classes: without Contempt)",
            ("any other network of that size has the same shapes: compare with the code that it came with",),
        ).to_toml(file)
    norm = Normalisation(0.0, (), ())
    doubts = ("labels and normalisation are left empty: nothing in the file says them",)
    return Guess(file.stem, (), (height, width, channels), norm, why, doubts).to_toml(file)


def _number(size: int | str) -> int:
    """0, which a contract leaves to fill in, where the size is free."""
    return size if isinstance(size, int) else 0


def _classes(model: onnx.ModelProto) -> int | None:
    """Columns of the only output, where the file says so."""
    outputs = onnx.shape_inference.infer_shapes(model).graph.output
    sizes = sizes_of(outputs[0]) if len(outputs) == 1 else []
    return sizes[1] if len(sizes) == 2 and isinstance(sizes[1], int) else None

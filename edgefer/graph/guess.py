"""A contract for a file of a well-known layout, as TOML for a person to confirm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgefer.contract import METADATA_KEY, Contract, Normalisation, named_normalisation
from edgefer.contract_file import Draft, contract_text, render_contract
from edgefer.data.classes import FER2013, FERPLUS, RAFDB
from edgefer.errors import EdgeferError, require
from edgefer.graph.foreign import only_input, parse_foreign, sizes_of
from edgefer.graph.onnx_file import metadata_of
from edgefer.models import create
from edgefer.models.keras import (
    FIRST_CHANNELS,
    NETWORKS,
    POOLS,
    SUFFIXES,
    WHEEL,
    KerasFile,
    first_channels,
    read_keras,
    to_state,
)
from edgefer.models.registry import IMAGENET, architecture, names, probable_labels
from edgefer.models.weights import load_weights

if TYPE_CHECKING:
    from torch import Tensor


HDF5 = b"\x89HDF\r\n\x1a\n"
_DDAMFN = ("features.0.prelu.weight", "cat_head1.CoordAtt.Linear.conv.weight", "fc.weight")
_UNKNOWN = "not a layout that edgefer knows"


@dataclass(frozen=True)
class Guess:
    """A contract that is probably right: ``why`` says what it was told by, ``doubts`` what nothing in the file says."""

    architecture: str
    labels: tuple[str, ...]
    size: tuple[int, int, int]
    normalisation: Normalisation | None
    why: str
    doubts: tuple[str, ...] = field(default=())

    def to_toml(self, origin: Path) -> str:
        """A contract for a person to check, with what it rests on as comments."""
        notes = [f"GUESSED from {origin.name}, and to be checked line by line: {self.why}."]
        notes += [f"In doubt: {doubt}" for doubt in self.doubts]
        return contract_text(
            architecture=self.architecture,
            labels=self.labels,
            size=self.size,
            normalisation=self.normalisation,
            notes=notes,
        )

    def draft(self) -> Draft:
        """What the contract says, and what is left to fill in."""
        height, width, channels = (max(size, 1) for size in self.size)
        known = self.normalisation is not None and bool(self.normalisation.mean)
        norm = self.normalisation if self.normalisation is not None and known else named_normalisation("0..1", channels)
        missing = [
            f"input.{key}" for key, size in zip(("height", "width", "channels"), self.size, strict=True) if not size
        ]
        missing += [] if self.labels else ["labels"]
        missing += [] if known else [f"normalisation.{key}" for key in ("scale", "mean", "std")]
        labels = self.labels or ("a", "b")
        return Draft(Contract(labels, height, width, channels, norm, self.architecture), tuple(missing))


def _of_weights(path: Path) -> Guess | Contract:
    weights = load_weights(path)
    if weights.contract is not None:
        return weights.contract
    found = _published_ddamfn(weights.state) or _of_the_zoo(weights.state)
    if found is None:
        some = ", ".join(list(weights.state)[:4])
        raise EdgeferError(
            f"{path} has {len(weights.state)} tensors ({some}, …), {_UNKNOWN}",
            hint="`edgefer contract new` writes a template to fill in by hand",
        )
    return found


def _of_keras(path: Path) -> Guess:
    """Keras files of oarriaga/face_classification, or a wheel with one."""
    keras = read_keras(path)
    network = _network_of(keras)
    if network is None:
        raise EdgeferError(
            f"{path} is a Keras file of another network than oarriaga's XCEPTIONs",
            hint="convert it to ONNX and adopt that: `edgefer adopt foreign.onnx --contract contract.toml`",
        )
    entry = architecture(network)
    classes = len(to_state(keras, network).get("conv.bias", ()))
    doubts = () if keras.input_shape else ("it holds weights alone: the size of its faces is that of the network",)
    labels = probable_labels(network, classes)
    return Guess(
        network,
        labels,
        (entry.size, entry.size, entry.channels),
        entry.normalisation,
        f"a Keras network of oarriaga/face_classification with {classes} classes for {entry.size}×{entry.size} grey "
        "faces, which its code scales by (x / 255 − 0.5) · 2"
        + (" and labels in FER2013's order" if labels == FER2013 else ""),
        doubts,
    )


def _network_of(keras: KerasFile) -> str | None:
    """The network's name, by its input and pools; for weights alone, by the channels of the first convolution."""
    for name in NETWORKS:
        entry = architecture(name)
        shape = (entry.size, entry.size, entry.channels)
        if (keras.input_shape, keras.pools) == (shape, POOLS[name]):
            return name
        if keras.input_shape is None and first_channels(keras) == FIRST_CHANNELS[name]:
            return name
    return None


def _published_ddamfn(state: Mapping[str, Tensor]) -> Guess | None:
    """simon20010923/DDAMFN's checkpoints."""
    if not all(name in state for name in _DDAMFN):
        return None
    classes = int(state["fc.weight"].shape[0])
    return Guess(
        "ddamfn",
        probable_labels("ddamfn", classes),
        (112, 112, 3),
        IMAGENET,
        f"tensor names of simon20010923/DDAMFN with {classes} classes, whose code resizes to 112×112 and normalises as "
        "ImageNet",
        (
            f"the labels are in AffectNet's order; a checkpoint for RAF-DB has {' '.join(RAFDB)}, one for FER+ has "
            f"{' '.join(FERPLUS)}",
        ),
    )


def _of_the_zoo(state: Mapping[str, Tensor]) -> Guess | None:
    """The network of the zoo whose tensors have these names and shapes."""
    shapes = _shapes(state)
    last = {shape[0] for shape in list(shapes.values())[-4:] if shape}
    for name in names():
        entry = architecture(name)
        for classes in sorted(last & set(range(2, 65))):
            if _meta_shapes(name, classes) == shapes:
                labels = probable_labels(name, classes)
                return Guess(
                    name,
                    labels,
                    (entry.size, entry.size, entry.channels),
                    entry.normalisation,
                    f"names and shapes of the tensors are those of {name} with {classes} classes",
                    (
                        "nothing in the file says how pixels were scaled in training: this is how edgefer trains",
                        "nor in which order the classes are: this is the order of "
                        + {7: "FER2013", 8: "FER+"}.get(classes, "nothing: fill them in"),
                    ),
                )
    return None


def _meta_shapes(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors, by name, without memory for the tensors."""
    torch = require("torch", "export", "reading weights")
    with torch.device("meta"):
        return _shapes(create(name, classes).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Without the counters of batch norms, which not every file has."""
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}


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
    found, file = probable_contract(path), Path(path)
    if isinstance(found, Guess):
        return found.to_toml(file)
    return render_contract(found, [f"Read from {file.name}, which carries it: nothing here is guessed."])


def probable_contract(path: str | os.PathLike[str]) -> Contract | Guess:
    """The contract that a file carries, or a guess as :func:`guess_contract` prints it.

    Raises:
        EdgeferError: as there.
    """
    file = Path(path)
    if not file.is_file():
        raise EdgeferError(f"there is no file {file}", hint="give weights (.safetensors, .pth, .pt, .hdf5) or an .onnx")
    if file.suffix == ".onnx":
        return _of_onnx(file)
    with file.open("rb") as stream:
        keras = stream.read(len(HDF5)) == HDF5
    return _of_keras(file) if keras or file.suffix in (*SUFFIXES, WHEEL) else _of_weights(file)


def _of_onnx(file: Path) -> Guess | Contract:
    model = parse_foreign(file)
    metadata = metadata_of(model)
    if METADATA_KEY in metadata:
        return Contract.from_metadata(metadata, str(file))
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
        )
    norm = Normalisation(0.0, (), ())
    doubts = ("labels and normalisation are left empty: nothing in the file says them",)
    return Guess(file.stem, (), (height, width, channels), norm, why, doubts)


def _number(size: int | str) -> int:
    """0, which a contract leaves to fill in, where the size is free."""
    return size if isinstance(size, int) else 0


def _classes(model: onnx.ModelProto) -> int | None:
    """Columns of the only output, where the file says so."""
    outputs = onnx.shape_inference.infer_shapes(model).graph.output
    sizes = sizes_of(outputs[0]) if len(outputs) == 1 else []
    return sizes[1] if len(sizes) == 2 and isinstance(sizes[1], int) else None

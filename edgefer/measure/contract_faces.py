"""Faces as one hypothesis or another about a contract gives them to a network, and the network's answers.

Batches are run on all cores at once, each on one thread: threads inside an operator wait for each other, which costs a
multiple of the work where others use the cores too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import Contract, name_of_normalisation, named_normalisation
from edgefer.data import FaceSet
from edgefer.faces import prepare, to_channels
from edgefer.graph.float_input import Suspect
from edgefer.measure.environment import available_cores

PER_IMAGE = "per image"
AS_DECLARED = "declared"
"""The name of a declared normalisation that is none of the usual ones."""

_BATCH = 64


@dataclass(frozen=True)
class Hypothesis:
    """How faces are given to the network, and how its outputs are named.

    Attributes:
        normalisation: one of :data:`~edgefer.contract.NORMALISATIONS`, :data:`PER_IMAGE` or :data:`AS_DECLARED`.
        channels: ``"RGB"``, ``"BGR"`` or ``"grey"`` (three equal channels); of a network for grey faces always
            ``"grey"``.
        crop: percent by which the side of the crop is shorter than the face.
        reordered: whether the classes are in another order.
    """

    normalisation: str
    channels: str
    crop: int = 0
    reordered: bool = False


class FacesAsTaken:
    """The faces of a check, and how a network answers to them under a hypothesis.

    Args:
        suspect: the network.
        faces: the faces.

    Attributes:
        channels: the orders of channels that can be told apart, the declared one first.
    """

    def __init__(self, suspect: Suspect, faces: FaceSet) -> None:
        self.suspect = suspect
        self._images = [faces.images([index])[0] for index in range(len(faces))]
        self._coloured = suspect.contract.channels == 3 and any(_is_coloured(image) for image in self._images)
        grey = "grey" if suspect.contract.channels == 1 else "RGB"
        self.channels = ("RGB", "BGR", "grey") if self._coloured else (grey,)
        self._cropped: tuple[tuple[int, slice], NDArray[np.uint8]] | None = None

    def answers(self, one: Hypothesis, rows: slice) -> NDArray[np.int64]:
        """The network's answers, int64 N, to some of the faces."""
        crops = self._crops(one.crop, rows)
        workers = available_cores() if self.suspect.parallel else 1
        size = max(1, min(_BATCH, -(-len(crops) // workers)))

        def answer(start: int) -> NDArray[np.int64]:
            logits = self.suspect.run(self._pixels(one, crops[start : start + size]))
            return np.asarray(np.nan_to_num(logits, nan=-np.inf).argmax(axis=1), dtype=np.int64)

        with ThreadPoolExecutor(workers) as pool:
            return np.concatenate(list(pool.map(answer, range(0, len(crops), size))))

    def _pixels(self, one: Hypothesis, pixels: NDArray[Any]) -> NDArray[Any]:
        """A batch as the network is to see it, on the scale of the declared contract's uint8 pixels."""
        contract = self.suspect.contract
        if self._coloured and one.channels == "BGR":
            pixels = pixels[..., ::-1]
        elif self._coloured and one.channels == "grey":
            pixels = np.stack([np.rint(to_channels(face, 1)).repeat(3, axis=2) for face in pixels]).astype(np.uint8)
        if not self.suspect.floats:
            return np.ascontiguousarray(pixels)
        x = pixels.astype(np.float32)
        if one.normalisation == own_normalisation(contract):
            return x
        a, b = (part.astype(np.float64) for part in contract.normalisation.affine())
        if one.normalisation == PER_IMAGE:
            mean, std = (measure(x, axis=(1, 2, 3), keepdims=True) for measure in (np.mean, np.std))
            y = (x - mean) / np.maximum(std, 1e-3)
        else:
            c, d = named_normalisation(one.normalisation, contract.channels).affine()
            y = x * c + d
        return np.asarray((y - b) / a, dtype=np.float32)

    def _crops(self, percent: int, rows: slice) -> NDArray[np.uint8]:
        """Faces of the network's size; the last ones are kept, for the hypotheses that are asked about in a row."""
        if self._cropped is None or self._cropped[0] != (percent, rows):
            contract = replace(self.suspect.contract, crop_margin=0.0)
            faces = [prepare(image, contract, _centre(image, percent)) for image in self._images[rows]]
            self._cropped = (percent, rows), np.stack(faces)
        return self._cropped[1]


def own_normalisation(contract: Contract) -> str:
    """What hypotheses call the declared normalisation."""
    return name_of_normalisation(contract.normalisation) or AS_DECLARED


def _is_coloured(image: NDArray[np.uint8]) -> bool:
    return image.shape[2] == 3 and bool((image != image[:, :, :1]).any())


def _centre(image: NDArray[np.uint8], percent: int) -> tuple[float, float, float, float] | None:
    if not percent:
        return None
    height, width = image.shape[:2]
    part = percent / 100
    return width * part / 2, height * part / 2, width * (1 - part), height * (1 - part)

"""The faces of a run, brought to the network's size once and kept as uint8 tensors: 2,304 bytes a face of 48×48.

More of them than memory has room for lie in a temporary file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgefer.errors import EdgeferError
from edgefer.training.memory import room_for

if TYPE_CHECKING:
    from edgefer.contract import Contract
    from edgefer.data import FaceSet

_READ_AT_ONCE = 512


@dataclass(frozen=True)
class Prepared:
    """Faces uint8 N×H×W×C, labels int64 N, and what to learn: the labels, or probabilities float32 N×classes."""

    faces: Tensor
    labels: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def prepare_split(split: FaceSet, contract: Contract) -> Prepared:
    """Read all faces of ``split`` in the contract's shape; what to learn are their labels."""
    faces = room_for((len(split), *contract.face_shape))
    start = 0
    for batch, _ in split.batches(_READ_AT_ONCE, contract):
        faces[start : start + len(batch)] = torch.from_numpy(batch.copy())
        start += len(batch)
    labels = torch.tensor(split.labels.tolist(), dtype=torch.int64)
    return Prepared(faces, labels, labels)


def check_classes(fit: FaceSet) -> None:
    """Refuse training faces that lack a class.

    Raises:
        EdgeferError: a class has no face in ``fit``.
    """
    missing = [name for name, count in fit.per_class_counts().items() if count == 0]
    if missing:
        raise EdgeferError(
            f"the training faces of {fit.origin} have none of {', '.join(repr(name) for name in missing)}",
            hint="a network cannot learn a class that it never sees: add faces of it, or leave the class out",
        )


def class_weights(labels: Tensor, num_classes: int, kind: str) -> Tensor | None:
    """Weights of the loss a class: ``N / (K · n)`` (``balanced``), its root (``sqrt``), or None (``none``)."""
    if kind == "none":
        return None
    counts = torch.bincount(labels, minlength=num_classes).to(torch.float32)
    inverse = len(labels) / (num_classes * counts)
    return inverse if kind == "balanced" else inverse.sqrt()

"""The faces of a run, brought to the network's size once and kept as uint8 tensors: 2,304 bytes for a face of 48×48.

More of them than memory has room for lie in a temporary file.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from edgefer.errors import EdgeferError
from edgefer.memory import available_memory
from edgefer.progress import announce

if TYPE_CHECKING:
    from edgefer.contract import Contract
    from edgefer.data import FaceSet


_READ_AT_ONCE = 512


@dataclass(frozen=True)
class PreparedFaces:
    """Faces uint8 N×H×W×C, labels int64 N, and what to learn: the labels, or probabilities float32 N×classes.

    ``taught`` are a teacher's answers, float32 N×classes, where it was asked before.
    """

    faces: Tensor
    labels: Tensor
    targets: Tensor
    taught: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


def prepare_split(split: FaceSet, contract: Contract) -> PreparedFaces:
    """Read all faces of ``split`` in the contract's shape; what to learn are their labels."""
    faces = room_for((len(split), *contract.face_shape))
    start = 0
    for batch, _ in split.batches(_READ_AT_ONCE, contract):
        faces[start : start + len(batch)] = torch.from_numpy(batch.copy())
        start += len(batch)
    labels = torch.tensor(split.labels.tolist(), dtype=torch.int64)
    return PreparedFaces(faces, labels, labels)


def refuse_missing_classes(fit: FaceSet) -> None:
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
    """Weights of the classes in the loss: ``N / (K · n)`` (``balanced``), its root (``sqrt``), or None (``none``)."""
    if kind == "none":
        return None
    counts = torch.bincount(labels, minlength=num_classes).to(torch.float32)
    inverse = len(labels) / (num_classes * counts)
    return inverse if kind == "balanced" else inverse.sqrt()


MAX_SHARE = 0.5
"""Maximum share of the free memory that faces take; more of them lie in a temporary file."""

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for reuse, for the rest of the process; other C libraries are left alone.

    An activation map of several MB is otherwise mapped, zeroed page by page and unmapped again at every step:
    mini_xception trained at 566 faces/s before and 782 after (batch 64, one core of an EPYC). The constants are
    those of malloc.h; see mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def room_for(shape: tuple[int, ...]) -> Tensor:
    """An uninitialised uint8 tensor, in memory or, where that is too small for it, mapped from a temporary file.

    The file has no name, so that it is gone with the process, however that ends.

    Raises:
        EdgeferError: neither memory nor disk has the room.
    """
    size = math.prod(shape)
    if size <= MAX_SHARE * available_memory():
        return torch.empty(shape, dtype=torch.uint8)
    folder = tempfile.gettempdir()
    announce(f"note: {size / 1e9:.1f} GB of faces are more than memory has room for: they lie in a file in {folder}")
    try:
        file = tempfile.TemporaryFile(prefix="edgefer-")  # noqa: SIM115 - the mapping keeps it
        os.posix_fallocate(file.fileno(), 0, size)  # a sparse file would kill the process when the disk is full
    except OSError as cause:
        raise EdgeferError(
            f"there is no room for {size / 1e9:.1f} GB of faces: {cause.strerror} in {folder}",
            hint="set TMPDIR to a folder on a larger disk, or train on fewer faces",
        ) from cause
    return torch.from_numpy(np.memmap(file, dtype=np.uint8, mode="r+", shape=shape))

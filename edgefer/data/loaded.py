"""What a reader hands over before votes are joined and faces without a label are left out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgefer.data.sources import Source


@dataclass(frozen=True)
class Loaded:
    """All rows of a source, a face each.

    Attributes:
        labels: int64; −1 leaves the face out.
        parts: indices into ``splits.DECLARED``, or None where the source declares no splits.
        votes: FER+ votes, N×10, where the source has them.
        names: file names, where the faces are files.
        dropped: reason → how many labels of −1 have it.
        faults: what is wrong on disk → the names of what it is wrong with.
    """

    source: Source
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    parts: NDArray[np.int8] | None
    votes: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    faults: dict[str, tuple[str, ...]] = field(default_factory=dict)


def unlabelled(labels: NDArray[np.int64]) -> dict[str, int]:
    """The reason and count of faces that a source itself labels −1."""
    count = int((labels < 0).sum())
    return {"label −1": count} if count else {}

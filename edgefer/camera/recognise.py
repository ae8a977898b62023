"""Several faces, one inference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgefer.engines.classifier import Classifier

BATCHES = (1, 2, 4, 8)
"""Sizes that batches are filled up to: a runtime that compiles a network a size (OpenVINO, TensorRT profiles) then
compiles four, not one for every number of people who walk past."""


def probabilities(classifier: Classifier, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probabilities, float32 N×classes, of uint8 N×H×W×C faces of the contract's shape; N may be 0."""
    if not len(faces):
        return np.zeros((0, len(classifier.contract.labels)), np.float32)
    rows = [classifier.probabilities(batch)[:count] for batch, count in _batches(faces, _sizes(classifier))]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


def _sizes(classifier: Classifier) -> tuple[int, ...]:
    least, most = classifier.session.inputs[0].limits
    return tuple(sorted({max(least, size if most is None else min(most, size)) for size in BATCHES}))


def _batches(faces: NDArray[np.uint8], sizes: tuple[int, ...]) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Batches of one of ``sizes`` each, and how many of their faces are real; the last face fills the rest."""
    for start in range(0, len(faces), sizes[-1]):
        batch = faces[start : start + sizes[-1]]
        size = next(size for size in sizes if size >= len(batch))
        if size > len(batch):
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        yield batch, min(sizes[-1], len(faces) - start)

"""What one timed call is: the scopes, and the faces that go round in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME
from edgefer.data import FaceSet
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError

Scope = Literal["compute", "e2e", "paced"]
SCOPES: tuple[str, ...] = get_args(Scope)
MEANING = {
    "compute": "the runtime's call alone, on a uint8 batch that is ready",
    "e2e": "uint8 batch in, checked scores out",
    "paced": "e2e at a frame rate: from the moment that a frame is due to its scores",
}

TIMED_FACES = 64
"""So many different faces (or one batch, if that is more) go round while timing."""


def check_scope(scope: str) -> None:
    """Refuse a scope that does not exist.

    Raises:
        EdgeferError: naming those that do.
    """
    if scope not in SCOPES:
        raise EdgeferError(f"there is no scope '{scope}'", hint=f"scopes are {', '.join(SCOPES)}")


def caller(classifier: Classifier, batches: Sequence[NDArray[np.uint8]], scope: str) -> Callable[[], object]:
    """A call that runs the next of ``batches`` in ``scope``; ``paced`` calls what ``e2e`` calls."""
    check_scope(scope)
    faces = itertools.cycle(batches)
    if scope == "compute":
        session = classifier.session
        return lambda: session.run({INPUT_NAME: next(faces)})
    return lambda: classifier.logits(next(faces))


def timed_batches(classifier: Classifier, faces: FaceSet, batch: int) -> list[NDArray[np.uint8]]:
    """Whole batches, uint8 batch×H×W×C, of real faces from all over ``faces``, prepared beforehand."""
    count = min(len(faces), max(batch, TIMED_FACES))
    spread = np.arange(count) * len(faces) // count
    pool = np.concatenate([part for part, _ in faces.subset(spread).batches(TIMED_FACES, classifier.contract)])
    starts = range(0, max(len(pool) - batch, 0) + 1, batch)
    # fewer faces than a batch holds: they go round
    return [np.ascontiguousarray(pool[(start + np.arange(batch)) % len(pool)]) for start in starts]

"""Whether two forms of a network answer alike: the numbers, and an error when they do not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefer.contract import INPUT_NAME, OUTPUT_NAME, Contract
from edgefer.engines.session import Session
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces

BATCHES = (1, 5)
"""One face, and an odd number of them: a batch size that was baked into the graph shows in one of the two."""

_SMALLEST_SCALE = 1e-6  # below it logits are all but zero, and a relative difference says nothing


@dataclass(frozen=True)
class Parity:
    """Distance of a candidate's logits from the reference's, on the same faces.

    Attributes:
        max_abs_diff: largest absolute difference of a logit.
        logit_scale: largest absolute logit of the reference.
        top1_agreement: share of faces with the same top class, 0…1.
        faces: number of compared faces.
    """

    max_abs_diff: float
    logit_scale: float
    top1_agreement: float
    faces: int

    @property
    def relative(self) -> float:
        """``max_abs_diff / logit_scale``."""
        return self.max_abs_diff / max(self.logit_scale, _SMALLEST_SCALE)


def parity_faces(contract: Contract, seed: int = 0) -> list[NDArray[np.uint8]]:
    """The batches that are compared: synthetic faces, then noise over all of 0…255."""
    noise = np.random.default_rng(seed).integers(0, 256, (max(BATCHES), *contract.face_shape), dtype=np.uint8)
    faces = np.concatenate([golden_faces(contract, 4), noise])
    return [faces[:1], faces[1:4], *(noise[:size] for size in BATCHES)]


def measure_parity(reference: Session, candidate: Session, contract: Contract, seed: int = 0) -> Parity:
    """Run both on :func:`parity_faces` and compare their logits.

    Raises:
        EdgeferError: the candidate cannot run one of the batch sizes, or a logit is not finite.
    """
    wanted, found = [], []
    for batch in parity_faces(contract, seed):
        wanted.append(np.asarray(reference.run({INPUT_NAME: batch})[OUTPUT_NAME], dtype=np.float64))
        found.append(np.asarray(candidate.run({INPUT_NAME: batch})[OUTPUT_NAME], dtype=np.float64))
        if found[-1].shape != wanted[-1].shape:
            raise EdgeferError(
                f"a batch of {len(batch)} gave logits of shape {found[-1].shape} in {candidate.name}, "
                f"{wanted[-1].shape} in {reference.name}",
                hint="the network bakes a batch size in: flatten with torch.flatten(x, 1), not with view(1, …)",
            )
    a, b = np.concatenate(wanted), np.concatenate(found)
    for session, logits in ((reference, a), (candidate, b)):
        if not np.isfinite(logits).all():
            raise EdgeferError(
                f"the network gives logits that are not finite in {session.name}", hint="check its weights"
            )
    agreement = float((a.argmax(axis=1) == b.argmax(axis=1)).mean())
    return Parity(float(np.abs(a - b).max()), float(np.abs(a).max()), agreement, len(a))


def require_parity(parity: Parity, tolerance: float, what: str) -> None:
    """Raise unless ``parity.relative`` is within ``tolerance``; ``what`` names the two that were compared.

    Raises:
        EdgeferError: with the difference and the tolerance.
    """
    if parity.relative > tolerance:
        raise EdgeferError(
            f"{what} differ by {parity.max_abs_diff:.3g} in logits of up to {parity.logit_scale:.3g} "
            f"({parity.relative:.3g} of their scale, {tolerance:.3g} is allowed; same top class for "
            f"{parity.top1_agreement:.0%} of {parity.faces} faces)",
            hint="an operator means something else in ONNX, or depends on the data it was traced with",
        )

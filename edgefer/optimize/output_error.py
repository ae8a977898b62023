"""How far an engine's logits are from the float network's: figures that need no labels and no large sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgefer.measure.accuracy import Predictions

_MOST_DB = 200.0
"""What equal logits get: no number is above the precision of what was compared."""


@dataclass(frozen=True)
class OutputError:
    """Attributes:
    sqnr_db: signal to quantisation noise of the logits, 10·log₁₀(Σ y² / Σ (ŷ − y)²), dB; at most 200.
    kl: mean Kullback–Leibler divergence of the answer's probabilities from the float network's, nats.
    """

    sqnr_db: float
    kl: float

    @classmethod
    def of(cls, reference: Predictions, candidate: Predictions) -> OutputError:
        """Compare two predictions of the same faces."""
        wanted, found = (p.logits.astype(np.float64) for p in (reference, candidate))
        noise, signal = float(((found - wanted) ** 2).sum()), float((wanted**2).sum())
        sqnr = _MOST_DB if noise <= signal * 10 ** (-_MOST_DB / 10) else 10 * np.log10(max(signal, 1e-300) / noise)
        p, q = _log_softmax(wanted), _log_softmax(found)
        return cls(float(sqnr), max(0.0, float((np.exp(p) * (p - q)).sum(axis=1).mean())))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))

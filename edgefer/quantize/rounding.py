"""Round weights up or down so that a layer's answers, not its weights, stay close.

The objective is AdaRound's (Nagel et al. 2020, "Up or down? Adaptive rounding for post-training quantization",
https://arxiv.org/abs/2004.10568, eq. 12): ``E‖W·x − Ŵ·x̂‖²`` with each level one of the two that enclose the weight.
It is quadratic in the levels, so it is solved here by coordinate descent on second moments: no gradient steps, no
learning rate, no torch, the same result each time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgefer.quantize.moments import Array, Moments

SWEEPS = 4
RIDGE = 0.02
"""Added to the diagonal, of its mean: holds levels of inputs that hardly vary at their weights."""

_ON_A_LEVEL = 1e-3


def rounded_levels(
    weights: Array, scales: Array, moments: Moments, limit: int, *, sweeps: int = SWEEPS, ridge: float = RIDGE
) -> NDArray[np.int8]:
    """Levels, G×O×K, whose layer answers most like ``weights``.

    Args:
        weights: G×O×K, float.
        scales: G×O, of one level.
        moments: of what the layer reads.
        limit: levels lie in −limit … limit.
        sweeps: over the K inputs.
        ridge: regularisation, a share of the mean variance of an input.
    """
    second, cross = moments.centred()
    size = second.shape[1]
    diagonal = np.einsum("gkk->gk", second)
    extra = ridge * diagonal.mean(axis=1, keepdims=True) + np.finfo(np.float64).tiny
    diagonal = diagonal + extra
    steps = scales[:, :, None]
    exact = weights / steps
    nearest = np.rint(exact)
    exact = np.where(np.abs(exact - nearest) < _ON_A_LEVEL, nearest, exact)  # the largest weight stays: it is the scale
    low, high = np.clip(np.floor(exact), -limit, limit), np.clip(np.ceil(exact), -limit, limit)
    levels = np.clip(np.rint(exact), -limit, limit)
    target = weights @ cross + extra[:, None, :] * weights
    slope = (levels * steps) @ second + extra[:, None, :] * (levels * steps) - target
    for _ in range(sweeps):
        moved = 0
        for k in range(size):
            wanted = levels[:, :, k] - slope[:, :, k] / (diagonal[:, None, k] * scales)
            new = np.clip(np.rint(wanted), low[:, :, k], high[:, :, k])
            change = (new - levels[:, :, k]) * scales
            changed = int(np.count_nonzero(change))
            if not changed:
                continue
            moved += changed
            levels[:, :, k] = new
            slope += change[:, :, None] * second[:, None, k, :]
            slope[:, :, k] += change * extra
        if not moved:
            break
    return levels.astype(np.int8)

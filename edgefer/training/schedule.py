"""The learning rate over a run."""

from __future__ import annotations

import math

from edgefer.training.config import TrainConfig

STEPS = (0.5, 0.75)
"""Where the step schedule divides the rate by ten, as parts of the run (He et al. 2016 did about there)."""


def learning_rate(config: TrainConfig, done: float) -> float:
    """The rate when a part ``done`` of the run, 0…1, is behind: a linear warm-up, then a cosine to 0, or steps."""
    peak = config.lr or 0.0
    if done < config.warmup:
        return peak * done / config.warmup
    if config.schedule == "step":
        return peak * float(0.1 ** sum(done >= step for step in STEPS))
    return peak * 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))

"""Latency, accuracy and paired statistics: measurements with their doubt."""

from edgefer.measure.accuracy import Predictions, predict, wilson_interval
from edgefer.measure.environment import describe_environment
from edgefer.measure.latency import Interleaved, Latency, Ratio, interleave
from edgefer.measure.paired import Paired

__all__ = [
    "Interleaved",
    "Latency",
    "Paired",
    "Predictions",
    "Ratio",
    "describe_environment",
    "interleave",
    "predict",
    "wilson_interval",
]

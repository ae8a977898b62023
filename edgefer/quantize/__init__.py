"""INT8 by Q/DQ: ranges, thresholds, a plan, a scheme; ONNX in, ONNX out."""

from edgefer.quantize.observation import batch_for_budget, observe, observed_tensors, with_outputs
from edgefer.quantize.plan import LayerPlan, Plan, make_plan, precision_of
from edgefer.quantize.qdq import Quantised, quantise
from edgefer.quantize.ranges import METHODS, Ranges, threshold
from edgefer.quantize.scheme import SCHEMES, Scheme, named_scheme

__all__ = [
    "METHODS",
    "SCHEMES",
    "LayerPlan",
    "Plan",
    "Quantised",
    "Ranges",
    "Scheme",
    "batch_for_budget",
    "make_plan",
    "named_scheme",
    "observe",
    "observed_tensors",
    "precision_of",
    "quantise",
    "threshold",
    "with_outputs",
]

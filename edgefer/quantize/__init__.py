"""INT8 by Q/DQ: ranges, thresholds, a plan, a flavour; ONNX in, ONNX out."""

from edgefer.quantize.flavour import FLAVOURS, Flavour, named_flavour
from edgefer.quantize.observation import batch_for_budget, observe, observed_tensors, with_outputs
from edgefer.quantize.plan import LayerPlan, Plan, make_plan
from edgefer.quantize.precision import precision_of
from edgefer.quantize.qdq import Quantised, quantise
from edgefer.quantize.ranges import Ranges
from edgefer.quantize.thresholds import METHODS, threshold

__all__ = [
    "FLAVOURS",
    "METHODS",
    "Flavour",
    "LayerPlan",
    "Plan",
    "Quantised",
    "Ranges",
    "batch_for_budget",
    "make_plan",
    "named_flavour",
    "observe",
    "observed_tensors",
    "precision_of",
    "quantise",
    "threshold",
    "with_outputs",
]

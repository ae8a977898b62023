"""INT8 by Q/DQ: ranges, a plan, a scheme, corrections; ONNX in, ONNX out."""

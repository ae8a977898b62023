"""Files for a version of TensorRT: written, and looked at."""

import onnx
from onnx import TensorProto

import edgefer
from edgefer.graph.onnx_file import metadata_of


def write(model, output, precision, version, calib=None, **builder):
    return edgefer.build_engine(
        model,
        output,
        precision=precision,
        target=edgefer.BuildTarget("tensorrt", version=version, builder=builder),
        onnx_only=True,
        quantisation=edgefer.Quantisation(calib) if precision.startswith("int8") else None,
    )


def facts(path):
    file = onnx.load(path)
    kinds = {tensor.data_type for tensor in file.graph.initializer}
    return {
        "opset": file.opset_import[0].version,
        "fp16": TensorProto.FLOAT16 in kinds,
        "q": sum(node.op_type == "QuantizeLinear" for node in file.graph.node),
        "precision": metadata_of(file)["edgefer.precision"],
    }

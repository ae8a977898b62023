"""Foreign ONNX files, as others export them."""

import warnings

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgefer.contract import Normalisation

LABELS = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = Normalisation(1 / 255, MEAN, STD)


class Net(nn.Module):
    """With a batch norm, a squeeze-and-excite gate and a reshape by the batch, as the usual ones have."""

    def __init__(self, classes=8, softmax=True, channels=3):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.last = nn.Linear(8 * 4 * 4, classes)
        self.softmax = softmax

    def forward(self, x):
        x = self.first(x)
        x = nn.functional.avg_pool2d(x * self.gate(x), 2)
        x = self.last(x.reshape(x.shape[0], -1)) * 3
        return x.softmax(1) if self.softmax else x


def save(network, path, shape, axes=None, opset=17, names=("input", "output")):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.randn(shape),),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=axes and {names[0]: axes, names[1]: {0: "b"}},
        )
    return path


def nhwc(path, opset=17, sizes=(1, 16, 16, 3), kind=TensorProto.FLOAT, first=(), inputs=(), domain="", rows=1):
    """A tiny network in channels-last order, as Keras converters write it."""
    generator = np.random.default_rng(0)
    constants = {
        "w": generator.normal(size=(8, 3, 16, 16)).astype(np.float32) * 0.05,
        "shape": np.array([rows, 8]),
        "c": np.array([2.0], np.float32),
    }
    last = first[-1].output[0] if first else "x"
    nodes = [
        *first,
        helper.make_node("Transpose", [last], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["v"]),
        helper.make_node("Reshape", ["v", "shape"], ["y"]),
    ]
    for node in nodes[len(first) :]:
        node.domain = domain if node.op_type == "Conv" else ""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, sizes), *inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1 if rows == 1 else "n", 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return path

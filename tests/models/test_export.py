"""Every network becomes a static graph that answers as PyTorch does."""

import onnx
import pytest
import torch

from edgefer.contract import Contract, named_normalisation
from edgefer.data.classes import FER2013
from edgefer.graph.export import export
from tests.models.zoo import BIG, networks

FORBIDDEN = {"If", "Loop", "Scan", "Shape", "NonZero", "RandomUniformLike", "Dropout", "Pad"}
# Of cliquenet: its stem, 10 layers per block, 2 transitions; the kernels that a layer joins are one constant.
CONVOLUTIONS = {"cliquenet": 1 + 3 * 10 + 2, "resnet18": 20, "vgg11": 8, "mini_xception_keras": 2 + 4 * 5 + 1}


@pytest.mark.parametrize("name", networks(slow=BIG | {"vgg9"}))
def test_every_network_exports(name, tmp_path):
    torch.set_num_threads(1)
    result = export(name, tmp_path / "m.onnx", random_weights=True)  # parity at batches 1, 3 and 5 is inside
    assert result.max_abs_diff <= 1e-4 * result.logit_scale
    assert result.top1_agreement == 1.0
    model = onnx.load(result.path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert {node.domain for node in model.graph.node} == {""}
    assert not {node.op_type for node in model.graph.node} & FORBIDDEN
    assert model.graph.node[0].op_type == "Cast"
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    for value in (*inferred.graph.input, *inferred.graph.output, *inferred.graph.value_info):
        dims = value.type.tensor_type.shape.dim
        assert all(dim.HasField("dim_value") for dim in dims[1:]), value.name
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert all(abs(value).max() < 1e6 for value in constants.values() if value.dtype.kind == "f")  # no −∞ for padding
    weighted = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert all(node.input[1] in constants for node in weighted)
    if name in CONVOLUTIONS:
        assert sum(node.op_type == "Conv" for node in weighted) == CONVOLUTIONS[name]


class Pooled(torch.nn.Module):
    """A pool to 5×7 of 12×12 pixels, as a module or as a function."""

    def __init__(self, function):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.MaxPool2d(4))
        self.pool = torch.nn.AdaptiveAvgPool2d((5, 7))
        self.function, self.last = function, torch.nn.Linear(4 * 35, 7)

    def forward(self, x):
        x = self.layers(x)
        pooled = torch.nn.functional.adaptive_avg_pool2d(x, (5, 7)) if self.function else self.pool(x)
        return self.last(pooled.flatten(1))


@pytest.mark.parametrize("function", [False, True])
def test_an_adaptive_pool_that_does_not_divide_is_exported(function, tmp_path):
    contract = Contract(FER2013, 48, 48, 1, named_normalisation("0..1", 1), "pooled")
    result = export(Pooled(function), tmp_path / "m.onnx", contract=contract)  # parity with PyTorch is inside
    assert result.max_abs_diff <= 1e-5 * result.logit_scale
    assert [node.op_type for node in onnx.load(result.path).graph.node].count("MatMul") == 2

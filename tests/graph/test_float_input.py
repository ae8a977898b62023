"""Networks of every kind behind one input of float pixels: they answer as they do with the faces themselves."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgefer.contract import named_normalisation
from edgefer.data.classes import FER2013
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.graph.float_input import Place, open_suspect
from edgefer.models import create, default_contract
from edgefer.models.weights import save_weights

FACES = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), dtype=np.uint8)


@pytest.fixture
def weights(tmp_path):
    network = create("lenet", 7)
    save_weights(tmp_path / "w.safetensors", network.state_dict(), default_contract("lenet", FER2013))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    export("lenet", tmp_path / "m.onnx", weights=tmp_path / "w.safetensors", simplify=False)
    return tmp_path


def test_weights_and_models_of_one_network_answer_alike(weights):
    wanted = OnnxRuntimeSession(weights / "m.onnx").run({"faces": FACES})["logits"]
    for name, assumed in (("w.safetensors", ()), ("w.pth", ("labels", "normalisation")), ("m.onnx", ())):
        suspect = open_suspect(Place(weights / name, threads=1), FER2013)
        assert suspect.assumed == assumed
        assert np.allclose(suspect.run(FACES.astype(np.float32)), wanted, atol=1e-4)
        assert not np.allclose(suspect.run(FACES.astype(np.float32) * 0.5), wanted, atol=1e-3)
    with pytest.raises(EdgeferError, match="carries a contract"):
        open_suspect(Place(weights / "m.onnx", contract="c.toml"), FER2013)


def test_a_foreign_file_without_labels_takes_those_of_the_data(tmp_path):
    kernel = np.random.default_rng(1).normal(size=(7, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 48, 48])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 7])],
        [numpy_helper.from_array(kernel, "w")],
    )
    path = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    suspect = open_suspect(Place(path, threads=1), FER2013)
    assert (suspect.kind, suspect.assumed, suspect.contract.labels) == ("foreign", ("labels", "normalisation"), FER2013)
    assert suspect.contract.normalisation == named_normalisation("0..1", 1)
    own = OnnxRuntimeSession(path).run({"x": FACES.transpose(0, 3, 1, 2).astype(np.float32) / 255})["y"]
    assert np.allclose(suspect.run(FACES.astype(np.float32)), own, atol=1e-4)

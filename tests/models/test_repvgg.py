"""Branches that training needs, folded into plain convolutions for everything after it."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgefer.engines.load import load_baseline
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.graph.torch_export import export_model
from edgefer.models import create, default_contract, repvgg
from edgefer.models.deployable import Deployable
from edgefer.models.repvgg import inference_form
from edgefer.models.weights import load_weights, save_weights
from tests.models.test_families import randomised

LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    found = randomised(create("repvgg_small"))
    nn.init.normal_(found.fc.weight, std=0.1)
    return found


def test_folded_branches_answer_as_the_branches(network):
    faces = torch.randn(3, 1, 48, 48)
    plain = inference_form(network)
    with torch.inference_mode():
        wanted, got = network(faces), plain(faces)
    assert wanted.std() > 0.1
    assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    kinds = [type(module) for module in plain.modules() if not list(module.children())]
    assert kinds == [nn.Conv2d, nn.ReLU] * 11 + [nn.Dropout, nn.Linear]


@pytest.mark.parametrize("branch", ["bn0", "bn1", "bn3"])
def test_each_branch_is_in_what_is_folded(network, branch):
    conv, _ = network.blocks[2].folded()
    norm = getattr(network.blocks[2], branch)
    kept = norm.weight.detach().clone()
    with torch.no_grad():
        norm.weight.mul_(2)
        changed, _ = network.blocks[2].folded()
        norm.weight.copy_(kept)
    assert (changed.weight - conv.weight).abs().max() > 1e-3


def test_folding_leaves_the_network_as_it_is(network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    assert not inference_form(network).training
    assert network.training
    network.eval()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    other = create("lenet")
    assert inference_form(other) is other


def test_the_exported_graph_is_plain_and_answers_as_the_branches(network, tmp_path):
    contract = default_contract("repvgg_small", LABELS)
    result = export_model(network, contract, tmp_path / "m.onnx")
    nodes = [node.op_type for node in onnx.load(result.path).graph.node]
    assert nodes.count("Conv") == 11
    assert "BatchNormalization" not in nodes
    assert nodes.count("Add") == 1  # the normalisation's
    faces = golden_faces(contract, 4)
    with torch.inference_mode():
        wanted = Deployable(network, contract)(torch.from_numpy(faces)).numpy()
    got = OnnxRuntimeSession(result.path.read_bytes()).run({"faces": faces})["logits"]
    assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_an_export_whose_folding_is_wrong_is_refused(network, tmp_path, monkeypatch):
    genuine = repvgg._scaled

    def wrong(kernel, norm):
        scaled, bias = genuine(kernel, norm)
        return scaled, bias * 1.01

    monkeypatch.setattr(repvgg, "_scaled", wrong)
    with pytest.raises(EdgeferError, match="PyTorch and ONNX Runtime"):
        export_model(network, default_contract("repvgg_small", LABELS), tmp_path / "m.onnx", simplify=False)
    assert not (tmp_path / "m.onnx").exists()


def test_weights_hold_the_branches_and_the_baseline_runs_without_them(network, tmp_path):
    contract = default_contract("repvgg_small", LABELS)
    path = tmp_path / "w.safetensors"
    save_weights(path, network.state_dict(), contract)
    assert "blocks.2.bn0.weight" in load_weights(path).state
    classifier = load_baseline(path)
    assert classifier.size_bytes == 4 * 707_143
    faces = golden_faces(contract, 2)
    with torch.inference_mode():
        wanted = Deployable(network, contract)(torch.from_numpy(faces)).numpy()
    assert np.allclose(classifier.logits(faces), wanted, atol=1e-4 * np.abs(wanted).max())

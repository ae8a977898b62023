"""`edgefer.export`: by name or by module, and which weights they are."""

from dataclasses import replace

import pytest
import torch

import edgefer
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.graph.onnx_file import load_model
from edgefer.models import architecture, create, default_contract, weights


def test_the_package_exports_it():
    assert edgefer.export is export


def test_random_weights_are_the_same_each_time_and_say_so(tmp_path):
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = export("lenet", tmp_path / "a.onnx", random_weights=True, simplify=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    second = export("lenet", tmp_path / "b.onnx", random_weights=True, simplify=False)
    assert first.sha256 == second.sha256
    contract = load_model(first.path)[1]
    assert contract.lineage["weights"] == "random, seed 0"
    assert contract.labels[3] == "happy"


@pytest.mark.parametrize("name", ["lenet", None])
def test_weights_from_a_file_leave_its_hash_and_name_their_network(name, tmp_path):
    labels = ("a", "b", "c")
    contract = default_contract("lenet", labels)
    weights.save_weights(tmp_path / "w.safetensors", create("lenet", 3).state_dict(), contract)
    result = export(name, tmp_path / "m.onnx", weights=tmp_path / "w.safetensors", simplify=False)
    found = load_model(result.path)[1]
    assert (found.labels, found.architecture) == (labels, "lenet")
    assert result.parameters == sum(parameter.numel() for parameter in create("lenet", 3).parameters())
    assert result.macs == architecture("lenet").macs - 4 * 84  # 3 classes instead of 7 after the last 84 numbers
    assert found.lineage["weights_sha256"] == weights.load_weights(tmp_path / "w.safetensors").sha256


def test_a_bare_state_dict_needs_labels(tmp_path):
    torch.save(create("lenet", 3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(EdgeferError, match="does not say which classes"):
        export("lenet", tmp_path / "m.onnx", weights=tmp_path / "w.pth")
    result = export("lenet", tmp_path / "m.onnx", weights=tmp_path / "w.pth", labels=("x", "y", "z"), simplify=False)
    assert load_model(result.path)[1].labels == ("x", "y", "z")


def test_weights_that_name_no_network_of_the_zoo(tmp_path):
    torch.save(create("lenet", 3).state_dict(), tmp_path / "w.pth")
    with pytest.raises(EdgeferError, match="does not say which network it is for") as error:
        export(None, tmp_path / "m.onnx", weights=tmp_path / "w.pth")
    assert "--model NAME" in error.value.hint
    own = replace(default_contract("lenet", ("a", "b")), architecture="mine", lineage={"factory": "nets:Net"})
    weights.save_weights(tmp_path / "w.safetensors", create("lenet", 2).state_dict(), own)
    with pytest.raises(EdgeferError, match="is for 'mine', which is no network of the zoo") as error:
        export(None, tmp_path / "m.onnx", weights=tmp_path / "w.safetensors")
    assert "--module nets:Net --weights" in error.value.hint


def test_a_module_of_ones_own(network, contract, tmp_path):
    result = export(network, tmp_path / "m.onnx", contract=contract, simplify=False)
    assert load_model(result.path)[1].architecture == "small"


def test_no_shipped_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "shipped", lambda name: None)
    with pytest.raises(EdgeferError, match="no weights ship for vgg9") as error:
        export("vgg9", tmp_path / "m.onnx")
    assert "--random-weights" in error.value.hint


def test_arguments_that_exclude_each_other(network, contract, tmp_path):
    out = tmp_path / "m.onnx"
    with pytest.raises(EdgeferError, match="exclude each other"):
        export("lenet", out, weights="w.safetensors", random_weights=True)
    with pytest.raises(EdgeferError, match="'lenet' has a contract of its own"):
        export("lenet", out, contract=contract)
    with pytest.raises(EdgeferError, match="and with a contract") as error:
        export(network, out)
    assert "contract=Contract(" in error.value.hint
    with pytest.raises(EdgeferError, match="weights it has"):
        export(network, out, contract=contract, random_weights=True)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_network(tmp_path):
    with pytest.raises(EdgeferError, match="no network is called 'mini_xeption'") as error:
        export("mini_xeption", tmp_path / "m.onnx")
    assert "mini_xception" in error.value.hint

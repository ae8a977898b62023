"""A network of one's own by the place of its factory, and all that can go wrong there."""

import sys
from dataclasses import replace

import pytest
import torch

from edgefer.contract import Contract, Normalisation
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.graph.onnx_file import load_model
from edgefer.models.factory import build_from_factory
from edgefer.models.weights import save_weights

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=7):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, num_classes)
    def forward(self, x):
        return self.fc(self.conv(x).mean((2, 3)))

def plain(): return Net(3)
def counted(classes): return Net(classes)
def keyword(*, num_classes): return Net(num_classes)
def wide(num_classes, width): return Net(num_classes)
def two(a, b): return Net(3)
def text(): return "no network"
def breaks(num_classes): raise ValueError("width must be even\\nsecond line")
ready = Net(3)
def leaves(): raise SystemExit(3)
def talks(): print("hello"); return Talking(3)
def parallel(): return nn.DataParallel(Net(3))
def normed():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
def lazy(): return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(3))
class Talking(Net):
    def forward(self, x): print("forward"); return super().forward(x)
class WrongCall(Net):
    def forward(self, x): return self.conv(x, 1)
class NoKey(Net):
    def forward(self, x): return {}["a"]
class Asserts(Net):
    def forward(self, x):
        assert x.shape[1] == 3, "three channels"
        return x
class NoAttribute(Net):
    def forward(self, x): return self.nope(x)
class Index(Net):
    def forward(self, x): return x[0, 0, 0, 0, 0, 0]
class Later(Net):
    def forward(self, x): raise NotImplementedError("later")
class Leaves(Net):
    def forward(self, x): raise SystemExit(0)
class Probable(Net):
    def forward(self, x): return super().forward(x).softmax(1)
class Halved(Net):
    def forward(self, x): return super().forward(x).half()
class Branches(Net):
    def forward(self, x):
        y = super().forward(x)
        return y * 2 if y.sum() > 0 else y
class Items(Net):
    def forward(self, x): return super().forward(x) * x.max().item()
class ByShape(Net):
    def __init__(self, num_classes=3):
        super().__init__(num_classes)
        self.register_buffer("flag", torch.tensor(True))
    def forward(self, x):
        if x.shape[2] != 8: raise ValueError("8x8 only")
        return super().forward(x) if self.flag else x
number = 3
"""


@pytest.fixture
def contract():
    return Contract(("a", "b", "c"), 8, 8, 1, Normalisation(1 / 255, (0.5,), (0.5,)), "own")


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    folder = tmp_path / "ownpkg"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "nets.py").write_text(SOURCE)
    (folder / "broken.py").write_text("import no_such_thing\n")
    (folder / "raises.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "ownpkg"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["plain", "counted", "keyword", "Net", "ready"])
def test_what_a_factory_may_be(name, contract, capsys):
    before = list(sys.path)
    network, same = build_from_factory(f"ownpkg.nets:{name}", contract)
    assert network.fc.out_features == 3
    assert not network.training
    assert same.labels == contract.labels
    assert same.lineage == {"factory": f"ownpkg.nets:{name}"}
    assert sys.path == before
    assert "has the weights that its factory gave it" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_are_loaded_and_leave_their_hash(suffix, contract, package):
    state = build_from_factory("ownpkg.nets:Net", contract)[0].state_dict()
    path = package / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": state}, path)
    else:
        save_weights(path, state, contract)
    network, found = build_from_factory("ownpkg.nets:Net", contract, path)
    assert torch.equal(network.fc.weight, state["fc.weight"])
    assert len(found.lineage["weights_sha256"]) == 64
    result = export("ownpkg.nets:Net", package / "m.onnx", weights=path, contract=contract, simplify=False)
    assert load_model(result.path)[1].lineage["factory"] == "ownpkg.nets:Net"


def refused(spec, contract, weights=None):
    with pytest.raises(EdgeferError) as caught:
        build_from_factory(spec, contract, weights)
    assert "\n" not in caught.value.message
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("ownpkg.nets", "'ownpkg.nets' does not name a factory", "--module package.module:factory"),
        ("ownpkg.nets:", "does not name a factory", "--module"),
        ("ownpgk.nets:Net", "there is no Python module 'ownpgk'", "run it in the folder that has ownpgk"),
        ("ownpkg.nest:Net", "there is no Python module 'ownpkg.nest'", "PYTHONPATH"),
        ("ownpkg.nets:Nett", "ownpkg.nets has no 'Nett'", "did you mean 'ownpkg.nets:Net'?"),
        (
            "ownpkg.broken:Net",
            "importing ownpkg.broken raised ModuleNotFoundError: No module named 'no_such",
            "own code",
        ),
        ("ownpkg.raises:Net", "importing ownpkg.raises raised ZeroDivisionError", "own code"),
        ("ownpkg.nets:number", "ownpkg.nets:number is a int", "--module"),
        ("ownpkg.nets:text", "ownpkg.nets:text returned a str, not a torch.nn.Module", "logits N×classes"),
        ("ownpkg.nets:two", "needs the arguments a, b", "def build(num_classes)"),
        (
            "ownpkg.nets:breaks",
            "ownpkg.nets:breaks(num_classes=3) raised ValueError: width must be even at ",
            "own code",
        ),
        ("ownpkg/nets.py:Net", "'ownpkg/nets.py' is a file", "--module ownpkg.nets:Net"),
        ("nets.py:Net", "'nets.py' is a file", "--module nets:Net"),
        ("ownpkg.nets:leaves", "ownpkg.nets:leaves() raised SystemExit: 3 at ", "own code"),
        ("ownpkg.nets:lazy", "ownpkg.nets:lazy has a LazyConv2d ('0'), whose shape is not known", "its number of ch"),
        ("ownpkg.nets:wide", "ownpkg.nets:wide(num_classes=3) raised TypeError: wide() missing 1", "own code"),
    ],
)
def test_what_is_wrong_with_a_factory_is_named(spec, message, hint, contract):
    found = refused(spec, contract)
    assert message in found[0]
    assert hint in found[1]


def test_a_factory_that_raises_says_where(contract, package):
    assert f"{package / 'ownpkg' / 'nets.py'}:19" in refused("ownpkg.nets:breaks", contract)[0]


def test_weights_that_do_not_fit_are_listed(contract, package):
    torch.save({"conv.weight": torch.zeros(4, 1, 3, 3), "fc.weight": torch.zeros(7, 4), "x": torch.zeros(1)}, "w.pth")
    message, hint = refused("ownpkg.nets:Net", contract, "w.pth")
    for part in (
        "w.pth does not fit ownpkg.nets:Net: 2 missing: conv.bias, fc.bias",
        "1 unknown: x",
        "1 misshapen: fc.weight (7×4 instead of 3×4)",
    ):
        assert part in message
    assert "number of classes" in hint


def test_weights_of_other_labels(contract, package):
    other = Contract(("c", "b", "a"), 8, 8, 1, contract.normalisation, "own")
    save_weights("w.safetensors", build_from_factory("ownpkg.nets:Net", contract)[0].state_dict(), other)
    message, hint = refused("ownpkg.nets:Net", contract, "w.safetensors")
    assert "is for the classes c, b, a, and the contract says a, b, c" in message
    assert "contract guess" in hint


def test_weights_that_flip_where_the_contract_is_not(contract, package):
    state = build_from_factory("ownpkg.nets:Net", contract)[0].state_dict()
    for given in (False, True):
        save_weights("w.safetensors", state, replace(contract, test_time_flip=not given))
        message, hint = refused("ownpkg.nets:Net", replace(contract, test_time_flip=given), "w.safetensors")
        assert (
            f"says test_time_flip = {str(not given).lower()}, and the contract test_time_flip = {str(given).lower()}"
            in message
        )
        assert hint.startswith(f"test_time_flip = {str(not given).lower()} in the contract")


def test_a_flipped_contract_does_not_hide_what_is_wrong(contract, package):
    with pytest.raises(EdgeferError, match="own returns float16, not float32"):
        export("ownpkg.nets:Halved", package / "m.onnx", contract=replace(contract, test_time_flip=True))


def test_a_pickled_module_is_not_run(contract, package):
    torch.save(torch.nn.Linear(2, 2), "w.pth")
    assert "is a pickled module" in refused("ownpkg.nets:Net", contract, "w.pth")[0]


def test_a_class_count_that_is_not_the_labels(package):
    four = Contract(("a", "b", "c", "d"), 8, 8, 1, Normalisation(), "own")
    with pytest.raises(EdgeferError, match=r"returns \(2, 3\) for two faces; the contract has 4 labels"):
        export("ownpkg.nets:plain", package / "m.onnx", contract=four)
    assert not (package / "m.onnx").exists()


def test_a_factory_needs_a_contract(contract, package):
    with pytest.raises(EdgeferError, match="is exported with a contract") as caught:
        export("ownpkg.nets:Net", package / "m.onnx")
    assert "edgefer contract new" in caught.value.hint
    with pytest.raises(EdgeferError, match="there is no contract"):
        export("ownpkg.nets:Net", package / "m.onnx", contract="none.toml")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("WrongCall", "the forward pass of own raised TypeError: ", "own code"),
        ("NoKey", "the forward pass of own raised KeyError: 'a' at ", "own code"),
        ("Asserts", "the forward pass of own raised AssertionError: three channels at ", "own code"),
        ("NoAttribute", "raised AttributeError: 'NoAttribute' object has no attribute 'nope' at ", "own code"),
        ("Index", "the forward pass of own raised IndexError: ", "own code"),
        ("Later", "the forward pass of own raised NotImplementedError: later at ", "own code"),
        ("Leaves", "the forward pass of own raised SystemExit: 0 at ", "own code"),
        (
            "Probable",
            "own returns probabilities: no value is under 0, and each face's add up to 1",
            "softmax at the end",
        ),
        ("Halved", "own returns float16, not float32", "network.float()"),
        ("Branches", "own makes a Python value of a tensor (__bool__ at ", "torch.where"),
        ("Items", "own makes a Python value of a tensor (item at ", ".item()"),
    ],
)
def test_what_is_wrong_with_a_forward_pass_is_named(name, message, hint, contract, package):
    with pytest.raises(EdgeferError) as caught:
        export(f"ownpkg.nets:{name}", package / "m.onnx", contract=contract)
    assert message in caught.value.message
    assert hint in caught.value.hint
    if " at " in caught.value.message:
        assert f"{package / 'ownpkg' / 'nets.py'}:" in caught.value.message
    assert not (package / "m.onnx").exists()


def test_branches_on_shapes_and_on_the_networks_own_flags_are_its_own(contract, package):
    assert export("ownpkg.nets:ByShape", package / "m.onnx", contract=contract, simplify=False).top1_agreement == 1


def test_a_lazy_module_is_refused_as_a_module_too(contract, package):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    with pytest.raises(EdgeferError, match=r"own has a LazyLinear \('1'\)"):
        export(network, package / "m.onnx", contract=contract)


def test_what_a_network_prints_is_no_result(contract, package, capsys):
    export("ownpkg.nets:talks", package / "m.onnx", contract=contract, simplify=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert "hello" in said.err
    assert "forward" in said.err


def test_a_network_in_data_parallel_is_taken_out(contract, package, capsys):
    state = build_from_factory("ownpkg.nets:parallel", contract)[0].state_dict()
    assert "conv.weight" in state
    assert "returned a DataParallel: the network inside it is taken" in capsys.readouterr().err
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, "w.pth")
    assert torch.equal(
        build_from_factory("ownpkg.nets:parallel", contract, "w.pth")[0].conv.weight, state["conv.weight"]
    )


def test_weights_without_counters_of_batches(contract):
    state = build_from_factory("ownpkg.nets:normed", contract)[0].state_dict()
    state["1.running_mean"] += 1
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, "w.pth")
    network = build_from_factory("ownpkg.nets:normed", contract, "w.pth")[0]
    assert torch.equal(network[1].running_mean, torch.ones(4))

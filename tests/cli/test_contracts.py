"""``edgefer contract`` and the options of ``export --module`` and ``adopt``, as a user types them."""

import importlib
import json
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.contract import named_normalisation
from edgefer.contract_file import read_contract
from edgefer.data import synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.data.npz import save_npz
from edgefer.errors import EdgeferError
from edgefer.models import create
from edgefer.models.weights import load_weights


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(cli, [str(a) for a in arguments])


def test_a_new_contract_is_written_once(run, tmp_path):
    assert run("contract", "new").exit_code == 0
    text = (tmp_path / "contract.toml").read_text(encoding="utf-8")
    assert "labels = []" in text
    assert text.count("#") > 8
    fault = run("contract", "new").exception
    assert isinstance(fault, EdgeferError)
    assert fault.message == "contract.toml exists already"
    assert run("contract", "new", "-o", "b.toml").exit_code == 0


def test_a_contract_of_a_missing_file(run):
    assert "there is no file none.onnx" in run("contract", "guess", "none.onnx").exception.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say which network"),
        (("--model", "lenet", "--module", "a:b"), "say which network"),
        (("--module", "a", "--contract", "c.toml"), "names no factory"),
        (("--module", "a:b"), "--module goes with --contract FILE"),
        (("--module", "a:b", "--contract", "c.toml", "--random-weights"), "not with --random-weights"),
        (("--model", "lenet", "--contract", "c.toml"), "--contract goes with --module"),
    ],
)
def test_options_that_do_not_go_together(run, arguments, message):
    done = run("export", *arguments, "-o", "m.onnx")
    assert done.exit_code == 2
    assert message in done.output


def test_reading_options_without_data_to_read(run):
    fault = run("build-engine", "m.onnx", "--fp32", "--map", "a=b", "-o", "x.onnx").exception
    assert isinstance(fault, EdgeferError)
    assert fault.message == "--map has no effect without --calib"


def test_a_bad_map_is_named(run):
    fault = run("bench", "e.onnx", "--data", "d.npz", "--baseline", "lenet", "--map", "happy").exception
    assert isinstance(fault, EdgeferError)
    assert "'happy' is no pair of classes" in fault.message


def test_a_factory_that_raises_is_two_lines(tmp_path):
    (tmp_path / "nets.py").write_text("def build():\n    raise RuntimeError('no GPU here')\n", encoding="utf-8")
    (tmp_path / "c.toml").write_text(
        'architecture = "x"\nlabels = ["a", "b"]\n[input]\nheight = 8\nwidth = 8\nchannels = 1\n'
        "[normalisation]\nscale = 1.0\nmean = [0.0]\nstd = [1.0]\n",
        encoding="utf-8",
    )
    arguments = ["export", "--module", "nets:build", "--contract", "c.toml", "-o", "m.onnx"]
    done = subprocess.run(
        [sys.executable, "-m", "edgefer", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: nets:build() raised RuntimeError: no GPU here at ")
    assert lines[0].endswith("nets.py:2")
    assert lines[1].startswith("hint: ")
    assert not (tmp_path / "m.onnx").exists()


NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(4))
        self.classifier = nn.Linear(4 * 36, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A network in a module whose name no other test has, its weights, and faces."""
    (tmp_path / "nets_to_probe.py").write_text(NETS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    network = importlib.import_module("nets_to_probe").Net(7)
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    images, labels = synthetic_faces(260, seed=3)
    save_npz(tmp_path / "faces.npz", images, labels, FER2013, ["train"] * 220 + ["test"] * 40)
    yield ("--module", "nets_to_probe:Net", "--weights", "mine.pth")
    del sys.modules["nets_to_probe"]


def test_a_new_contract_has_what_the_network_tells_and_lists_the_rest(run, own, tmp_path):
    done = run("contract", "new", *own)
    assert done.exit_code == 0, done.output
    assert "48×48 pixels (the usual size among 47 to 54, which run), 1 channel (grey), 7 classes found" in done.output
    assert "labels (7 names, in the order of the outputs; FER2013's order is angry" in done.output
    assert "next: edgefer contract check --module nets_to_probe:Net --weights mine.pth" in done.output
    with pytest.raises(
        EdgeferError, match="labels, normalisation.scale, normalisation.mean, normalisation.std are empty"
    ):
        read_contract(tmp_path / "contract.toml")


def test_a_check_fills_in_what_is_missing_and_says_when_nothing_follows(run, own, tmp_path):
    run("contract", "new", *own)
    asked = ("contract", "check", *own, "--contract", "contract.toml", "--data", "faces.npz")
    done = run(*asked, "-o", "filled.toml")
    assert done.exit_code == 3, "the weights are random"
    assert "220 faces of faces.npz:train" in done.output
    assert "assumed, for nothing says it: normalisation and labels of the contract" in done.output
    assert "Nothing can be concluded" in done.output
    assert read_contract(tmp_path / "filled.toml").labels == FER2013
    assert "exists already" in run(*asked, "-o", "filled.toml").exception.message
    done = run(*asked, "--json")
    assert json.loads(done.stdout)["verdict"] == "unknown"
    assert json.loads(done.stdout)["comparisons"] == 49


def test_imported_weights_say_what_was_assumed_or_stated(run, tmp_path):
    torch.save(create("lenet", 7).state_dict(), tmp_path / "w.pth")
    done = run("import-weights", "w.pth", "--model", "lenet", "-o", "a.safetensors")
    assert "assumed, for the file does not say: pixels are scaled as -1..1 (else: --normalisation)" in done.output
    stated = ("--normalisation", "0..1", "--crop-margin", "0.1")
    done = run("import-weights", "w.pth", "--model", "lenet", *stated, "-o", "b.safetensors")
    assert "pixels are scaled" not in done.output
    contract = load_weights(tmp_path / "b.safetensors").contract
    assert contract.normalisation == named_normalisation("0..1", 1)
    assert contract.crop_margin == 0.1
    done = run("import-weights", "w.pth", "--model", "lenet", "--drop-head", "--data", "x.npz", "-o", "c.safetensors")
    assert done.exit_code == 2
    assert "--data has no effect with --drop-head" in done.output


def test_a_check_needs_one_network(run):
    for arguments in ((), ("m.onnx", "--module", "a:b")):
        done = run("contract", "check", *arguments, "--data", "d.npz")
        assert done.exit_code == 2
        assert "say which network" in done.output

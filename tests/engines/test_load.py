"""Loading: what is served, what is refused, and what is announced."""

import base64
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.engines import load
from edgefer.engines.classifier import check_golden, make_golden, relative_difference
from edgefer.engines.load import TorchBaseline, load_baseline, load_engine
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.manifest import manifest_path, read_manifest
from edgefer.runtimes import ONNXRUNTIME

from .conftest import CONTRACT, WEIGHT, classify, tiny, write

VNNI = ("avx2", "avx512_vnni")
OLD = ("sse4_1", "avx2")


def test_an_engine_with_its_manifest_is_served(tmp_path, faces, capfd):
    written = write(tmp_path / "x.onnx")
    with load_engine(tmp_path / "x.onnx") as engine:
        np.testing.assert_allclose(engine.logits(faces), faces.reshape(5, 16) @ WEIGHT, rtol=1e-4)
        assert engine.manifest.to_dict() == written.to_dict()
        assert engine.size_bytes == (tmp_path / "x.onnx").stat().st_size
        assert (engine.precision, engine.name) == ("fp32", str(tmp_path / "x.onnx"))
    assert capfd.readouterr().err == ""


def test_a_float_export_needs_no_manifest(tmp_path, faces):
    (tmp_path / "model.onnx").write_bytes(tiny())
    with load_engine(tmp_path / "model.onnx") as engine:
        assert engine.manifest is None
        assert engine.contract == CONTRACT
        assert engine.precision == "fp32"
        assert engine.logits(faces).shape == (5, 3)


def test_a_quantised_file_without_manifest_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(tiny(precision="int8"))
    with pytest.raises(EdgeferError, match="has no manifest beside it, and its precision is int8") as error:
        load_engine(tmp_path / "model.onnx")
    assert "copy model.onnx.json beside it" in error.value.hint


def test_an_onnx_file_without_contract_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(tiny(contract=None))
    with pytest.raises(EdgeferError, match=r"model\.onnx carries no edgefer contract"):
        load_engine(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("name", "content", "said", "hint"),
    [
        ("none.onnx", None, "there is no engine", "check the path"),
        ("x.engine", b"x", "x.engine has no manifest", "build the engine again"),
        ("x.safetensors", b"x", "'.safetensors' is neither .onnx nor .engine", "edgefer export"),
        ("x.onnx", b"", "x.onnx is empty", "build it again"),
        ("x.onnx", b"rubbish", "refuses", "damaged"),
    ],
)
def test_files_that_are_no_engines(tmp_path, name, content, said, hint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgeferError) as error:
        load_engine(tmp_path / name)
    assert said in error.value.message
    assert name in error.value.message
    assert hint in error.value.hint


def test_a_folder_is_no_engine(tmp_path):
    with pytest.raises(EdgeferError, match="is not a file"):
        load_engine(tmp_path)


def test_a_changed_engine_is_refused_before_it_is_opened(tmp_path):
    write(tmp_path / "x.onnx")
    (tmp_path / "x.onnx").write_bytes(tiny(WEIGHT + 1))
    with pytest.raises(EdgeferError, match="not the engine its manifest describes"):
        load_engine(tmp_path / "x.onnx")


def test_an_unknown_runtime_is_refused(tmp_path):
    write(tmp_path / "x.onnx", runtime="abacus")
    with pytest.raises(EdgeferError, match="no runtime 'abacus'") as error:
        load_engine(tmp_path / "x.onnx")
    assert "onnxruntime" in error.value.hint


def test_another_version_of_the_runtime_is_announced(tmp_path, capfd):
    write(tmp_path / "x.onnx", runtime_version="0.1")
    load_engine(tmp_path / "x.onnx").close()
    assert "was built with onnxruntime 0.1 and runs in" in capfd.readouterr().err


def test_golden_vectors_that_differ_are_refused_with_both_numbers(tmp_path):
    path = tmp_path / "x.onnx"
    write(path)
    content = json.loads(manifest_path(path).read_text())
    logits = np.array(content["golden"]["logits"])
    content["golden"]["logits"] = (logits + 0.02 * np.abs(logits).max()).tolist()
    manifest_path(path).write_text(json.dumps(content))
    with pytest.raises(EdgeferError, match=r"differ by 0\.0[12]\d* of their scale .*, 0\.001 is allowed") as error:
        load_engine(path)
    assert "build the engine again on this machine" in error.value.hint


def test_golden_faces_that_were_changed_are_noticed(tmp_path):
    path = tmp_path / "x.onnx"
    write(path)
    content = json.loads(manifest_path(path).read_text())
    pixels = bytearray(base64.b64decode(content["golden"]["faces"]))
    pixels[0] ^= 0xFF
    content["golden"]["faces"] = base64.b64encode(bytes(pixels)).decode()
    manifest_path(path).write_text(json.dumps(content))
    with pytest.raises(EdgeferError, match="does not answer here as when it was built"):
        load_engine(path)


def test_int8_for_vnni_is_refused_where_sums_saturate(tmp_path, monkeypatch):
    write(tmp_path / "x.onnx", precision="int8", instruction_set=VNNI)
    monkeypatch.setattr(load, "instruction_set", lambda: OLD)
    with pytest.raises(
        EdgeferError, match="8-bit weights, made on a CPU with avx2 avx512_vnni; this one .* no VNNI"
    ) as error:
        load_engine(tmp_path / "x.onnx")
    assert "build the engine again on this machine" in error.value.hint


@pytest.mark.parametrize(
    ("precision", "built", "here"),
    [("int8", OLD, VNNI), ("fp32", VNNI, OLD), ("int8", OLD, ("avx", "avx2")), ("int8", VNNI, ("asimd", "asimddp"))],
)
def test_any_other_cpu_is_announced(tmp_path, monkeypatch, capfd, precision, built, here):
    write(tmp_path / "x.onnx", precision=precision, instruction_set=built)
    monkeypatch.setattr(load, "instruction_set", lambda: here)
    load_engine(tmp_path / "x.onnx").close()
    assert f"measured on a CPU with {' '.join(built)}; this one has {' '.join(here)}" in capfd.readouterr().err


def test_golden_vectors_are_the_engines_own_answers():
    with classify(tiny()) as classifier:
        golden = make_golden(classifier, count=3)
        np.testing.assert_array_equal(golden.faces, golden_faces(CONTRACT, 3))
        np.testing.assert_array_equal(golden.logits, classifier.logits(golden.faces))
        assert golden.tolerance == {"onnxruntime": 1e-3}
        assert check_golden(classifier, golden) == 0.0


def test_a_runtime_without_tolerance_is_refused(tmp_path):
    with classify(tiny(), name="x.onnx") as classifier:
        golden = make_golden(classifier)
        classifier.runtime = "other"
        with pytest.raises(EdgeferError, match="never checked with other: .* for onnxruntime") as error:
            check_golden(classifier, golden)
    assert "build it for other" in error.value.hint


def test_difference_is_relative_to_the_largest_logit():
    golden = np.array([[1.0, -4.0]], np.float32)
    assert relative_difference(np.array([[1.2, -4.0]], np.float32), golden) == pytest.approx(0.05)


def test_tolerances_grow_with_coarseness():
    fp32, fp16, bf16, int8 = map(ONNXRUNTIME.tolerance_of, ("fp32", "fp16", "bf16", "int8"))
    assert fp32 < fp16 < bf16 < int8
    assert ONNXRUNTIME.tolerance_of("int8+bf16") == int8
    with pytest.raises(EdgeferError, match="no tolerance is known for the precision 'int3'"):
        ONNXRUNTIME.tolerance_of("int3")


def test_a_baseline_may_be_an_engine(tmp_path):
    write(tmp_path / "x.onnx")
    with load_baseline(tmp_path / "x.onnx") as engine:
        assert engine.runtime == "onnxruntime"
        assert engine.manifest.engine_sha256 == read_manifest(tmp_path / "x.onnx").engine_sha256


def test_a_baseline_may_be_weights(tmp_path):
    torch = pytest.importorskip("torch")
    from edgefer.models import create, default_contract
    from edgefer.models.weights import save_weights

    torch.manual_seed(0)
    labels = tuple("abcdefg")
    network = create("mini_xception", 7).eval()
    contract = default_contract("mini_xception", labels)
    save_weights(tmp_path / "w.safetensors", network.state_dict(), contract)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    faces = golden_faces(contract, 2)
    with load_baseline(tmp_path / "w.safetensors") as saved:
        wanted = saved.logits(faces)
        assert (saved.runtime, saved.precision, saved.contract) == ("pytorch", "fp32", contract)
        assert saved.size_bytes == sum(t.nbytes for t in network.state_dict().values())
    with load_baseline(tmp_path / "w.pth", contract=contract) as bare:
        np.testing.assert_array_equal(bare.logits(faces), wanted)
    with pytest.raises(EdgeferError, match="does not say which network"):
        load_baseline(tmp_path / "w.pth")


NETS = """
from torch import nn

def Net(num_classes):
    pooled = nn.Conv2d(1, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*pooled, nn.Linear(4, num_classes))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A network of one's own in the current folder, its state dict, and its contract as a file."""
    torch = pytest.importorskip("torch")
    from edgefer.contract_file import render_contract

    monkeypatch.chdir(tmp_path)
    Path("ownbaseline.py").write_text(NETS)
    made: dict = {}
    exec(NETS, made)
    torch.manual_seed(3)
    network = made["Net"](3).eval()
    torch.save(network.state_dict(), "mine.pth")
    contract = Contract(("a", "b", "c"), 20, 20, 1, Normalisation(), "mine")
    Path("c.toml").write_text(render_contract(contract))
    yield network, contract
    sys.modules.pop("ownbaseline", None)


def test_a_baseline_may_be_a_network_of_ones_own(own):
    import torch

    network, contract = own
    faces = golden_faces(contract, 3)
    wanted = network(torch.from_numpy(faces).permute(0, 3, 1, 2) / 255).detach().numpy()
    with load_baseline(TorchBaseline("ownbaseline:Net", "mine.pth", "c.toml")) as given:
        np.testing.assert_allclose(given.logits(faces), wanted, atol=1e-5)
        assert (given.contract.labels, given.name) == (contract.labels, "ownbaseline:Net")
    with load_baseline(TorchBaseline("ownbaseline:Net", "mine.pth"), contract=contract) as assumed:
        np.testing.assert_allclose(assumed.logits(faces), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "said", "hint"),
    [
        (TorchBaseline("ownbaseline:Net", "mine.pth"), "nothing says what ownbaseline:Net takes", "--contract"),
        (TorchBaseline("mine.pth", None, "c.toml"), "'mine' is no network of the zoo", "--weights mine.pth"),
        (TorchBaseline("mine.pth", "other.pth"), "is a weights file, and other.pth another", "leave --weights out"),
        (TorchBaseline("lenet", None, "c.toml"), "lenet has a contract of its own", "leave --contract out"),
        (TorchBaseline("x.onnx", "mine.pth"), "x.onnx brings its own weights", "leave --weights and --contract out"),
    ],
)
def test_weights_and_contracts_of_a_baseline_that_go_with_nothing(own, spec, said, hint):
    with pytest.raises(EdgeferError) as error:
        load_baseline(spec)
    assert said in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("spec", "said", "hint"),
    [
        ("p.npz", "p.npz holds predictions", "edgefer bench --baseline"),
        ("none.safetensors", "there are no weights none.safetensors", "check the path"),
        ("mini_xeption", "the baseline 'mini_xeption' is neither a network nor", "did you mean 'mini_xception'?"),
        (
            "cliquenet_fer",
            "the baseline 'cliquenet_fer' is",
            "did you mean 'cliquenet_ferplus'? give one of cliquenet, ",
        ),
        ("weights.h5", "'weights.h5' is neither", ".safetensors, .pth, .pt"),
        ("none.onnx", "there is no engine none.onnx", "check the path"),
    ],
)
def test_baselines_that_are_refused(spec, said, hint):
    if spec.endswith(".safetensors"):
        pytest.importorskip("torch")
    with pytest.raises(EdgeferError) as error:
        load_baseline(spec)
    assert said in error.value.message
    assert hint in error.value.hint


def test_a_network_without_shipped_weights_is_refused(monkeypatch):
    from edgefer.models import weights

    monkeypatch.setattr(weights, "shipped", lambda name: None)
    with pytest.raises(EdgeferError, match="ships no weights for 'vgg9'") as error:
        load_baseline("vgg9")
    assert "edgefer train --model vgg9" in error.value.hint

"""PyTorch → ONNX: interface, numbers, determinism, and every refusal."""

import hashlib

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgefer import __version__
from edgefer.contract import Contract
from edgefer.engines.onnxruntime import OnnxRuntimeSession, open_runner
from edgefer.errors import EdgeferError
from edgefer.graph import torch_export
from edgefer.graph.onnx_file import load_model, metadata_of
from edgefer.graph.rewrite import rewrite
from edgefer.graph.torch_export import export_model, tensors_sha256
from edgefer.quantize.observation import observe
from edgefer.quantize.plan import make_plan
from edgefer.quantize.qdq import quantise
from edgefer.quantize.scheme import SCHEMES


def test_exported_file_is_opset_17_and_takes_uint8_faces(network, contract, tmp_path):
    result = export_model(network, contract, tmp_path / "model.onnx", simplify=False)
    model, read = load_model(result.path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert [node.op_type for node in model.graph.node][:4] == ["Cast", "Transpose", "Mul", "Add"]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert read.labels == contract.labels
    assert read.normalisation == contract.normalisation
    assert model.producer_name == "edgefer"
    assert result.nodes == len(model.graph.node)
    assert result.sha256 == hashlib.sha256(result.path.read_bytes()).hexdigest()
    assert result.bytes == result.path.stat().st_size


def test_metadata_carries_lineage_and_precision(network, contract, tmp_path):
    result = export_model(network, contract, tmp_path / "model.onnx", simplify=False)
    model, read = load_model(result.path)
    assert metadata_of(model)["edgefer.precision"] == "fp32"
    assert read.lineage["weights_sha256"] == tensors_sha256(network)
    assert read.lineage["edgefer"] == __version__
    assert read.lineage["exporter"] == f"torch {torch.__version__}"


def test_the_hash_of_a_weights_file_is_kept(network, contract, tmp_path):
    named = Contract(**{**vars(contract), "lineage": {"weights_sha256": "ab" * 32, "trained_on": "synthetic"}})
    result = export_model(network, named, tmp_path / "model.onnx", simplify=False)
    lineage = load_model(result.path)[1].lineage
    assert lineage["weights_sha256"] == "ab" * 32
    assert lineage["trained_on"] == "synthetic"


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_logits_equal_a_hand_normalised_pytorch_run(network, contract, tmp_path, batch):
    result = export_model(network, contract, tmp_path / "model.onnx", simplify=False)
    faces = np.random.default_rng(batch).integers(0, 256, (batch, 8, 8, 1), dtype=np.uint8)
    with torch.no_grad():
        x = (torch.from_numpy(faces.astype(np.float32)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        wanted = network.eval()(x).numpy()
    found = OnnxRuntimeSession(result.path).run({"faces": faces})["logits"]
    assert found.shape == (batch, 3)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert result.max_abs_diff < 1e-5
    assert result.top1_agreement == 1.0


@pytest.mark.parametrize("simplify", [False, True])
def test_same_weights_give_the_same_bytes(network, small_class, contract, tmp_path, simplify):
    twin = small_class()
    twin.load_state_dict(network.state_dict())
    first = export_model(network, contract, tmp_path / "a.onnx", simplify=simplify)
    second = export_model(twin, contract, tmp_path / "b.onnx", simplify=simplify)
    assert first.sha256 == second.sha256
    with torch.no_grad():
        network.last.bias[0] += 1
    assert export_model(network, contract, tmp_path / "c.onnx", simplify=False).sha256 != first.sha256


def test_tensor_names_survive_simplification(network, contract, tmp_path):
    raw, _ = load_model(export_model(network, contract, tmp_path / "a.onnx", simplify=False).path)
    result = export_model(network, contract, tmp_path / "b.onnx")
    simple, _ = load_model(result.path)
    assert result.simplified, result.note
    floats = {"Conv", "Relu", "PRelu", "Add", "MaxPool", "Gemm", "Mul"}
    names = [[node.output[0] for node in m.graph.node if node.op_type in floats] for m in (raw, simple)]
    assert names[0] == names[1]
    assert "Conv_1_out" in names[0]


class Nested(nn.Module):
    """Containers in containers, a module that is called twice, and arithmetic outside any module."""

    def __init__(self):
        super().__init__()
        inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.PReLU(4))
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Sequential(nn.SiLU(), inner))
        self.blocks = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(2))
        self.act_1, self.last = nn.ReLU(), nn.Linear(4, 3)

    def forward(self, x):
        x = self.body(x)
        for block in self.blocks:
            x = self.act_1(block(x))
        return self.last((x * 2).mean((2, 3)))


@pytest.mark.parametrize("simplify", [False, True])
def test_nodes_are_called_by_modules(contract, tmp_path, simplify):
    pytest.importorskip("onnxsim")
    result = export_model(Nested(), contract, tmp_path / "model.onnx", simplify=simplify)
    model, read = load_model(result.path)
    behind = [(node.op_type, node.name) for node in model.graph.node]
    assert behind[4:] == [
        *(("Conv", "body.0"), ("Relu", "body.1"), ("Sigmoid", "body.2.0/Sigmoid"), ("Mul", "body.2.0/Mul")),
        *(("Conv", "body.2.1.0"), ("PRelu", "body.2.1.2"), ("Conv", "blocks.0"), ("Relu", "act_1/Relu")),
        *(("Conv", "blocks.1"), ("Relu", "act_1/Relu_1"), ("Mul", "Mul_1"), ("ReduceMean", "ReduceMean_0")),
        ("Gemm", "last"),
    ]
    assert model.graph.node[8].output[0] == "Conv_1_out"  # what tables are keyed by hangs on no module
    rewritten = rewrite(model, read).model
    names = [node.name for node in rewritten.graph.node]
    assert names[9:11] == ["body.2.1.2/Mul", "body.2.1.2/Max"]
    plan = make_plan(rewritten, SCHEMES["x86-vnni"])
    faces = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    made = quantise(rewritten, plan, observe(rewritten, open_runner, [faces])).model
    pairs = ("QuantizeLinear", "DequantizeLinear")
    assert [node.name for node in made.graph.node if node.op_type not in pairs] == names


def test_training_mode_of_each_module_is_given_back(network, contract, tmp_path):
    network.train()
    network.first[1].eval()
    threads = torch.get_num_threads()
    export_model(network, contract, tmp_path / "model.onnx", simplify=False)
    assert network.training
    assert network.last.training
    assert not network.first[1].training
    assert torch.get_num_threads() == threads


def test_no_deprecation_warning_reaches_the_user(network, contract, tmp_path, recwarn):
    export_model(network, contract, tmp_path / "model.onnx", simplify=False)
    assert not [str(w.message) for w in recwarn if issubclass(w.category, DeprecationWarning)]


def test_wrong_face_size_is_named(network, contract, tmp_path):
    wrong = Contract(**{**vars(contract), "height": 10})
    with pytest.raises(EdgeferError, match=r"small cannot take faces of 10×8×1") as error:
        export_model(network, wrong, tmp_path / "model.onnx")
    assert "height, width and channels" in error.value.hint


def test_wrong_number_of_labels_is_named(network, contract, tmp_path):
    wrong = Contract(**{**vars(contract), "labels": ("a", "b")})
    with pytest.raises(EdgeferError, match=r"returns \(2, 3\) for two faces; the contract has 2 labels") as error:
        export_model(network, wrong, tmp_path / "model.onnx")
    assert "as many labels" in error.value.hint


def test_a_tuple_instead_of_logits_is_named(contract, tmp_path):
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    with pytest.raises(EdgeferError, match="returns tuple for two faces"):
        export_model(Pair(), contract, tmp_path / "model.onnx")


def test_an_operator_without_onnx_form_is_refused(contract, tmp_path):
    class Odd(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvalsh(x[:, 0] @ x[:, 0].mT)[:, :3]

    with pytest.raises(EdgeferError, match="cannot write the network as ONNX opset 17") as error:
        export_model(Odd(), contract, tmp_path / "model.onnx")
    assert "replace that operator" in error.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_branch_on_data_that_tracing_froze_is_caught_and_nothing_is_written(contract, tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            x = x.mean(dim=(2, 3)).repeat(1, 3)
            return x * 3 if x.numpy().sum() > 0 else x - 1  # zeros normalise to −2: the trace takes the second

    with pytest.raises(EdgeferError, match=r"differ by [\d.]+ .* 0\.0001 is allowed") as error:
        export_model(Branching(), contract, tmp_path / "model.onnx", simplify=False)
    assert "traced" in error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_tolerance_that_is_too_strict_leaves_the_old_file(network, contract, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(EdgeferError, match="-1 is allowed"):
        export_model(network, contract, path, simplify=False, tolerance=-1)
    assert path.read_bytes() == b"old"


def test_control_flow_is_refused(contract, tmp_path):
    @torch.jit.script
    def choose(x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            return x * 2
        return x + 1

    class Scripted(nn.Module):
        def forward(self, x):
            return choose(x.mean(dim=(2, 3)).repeat(1, 3))

    with pytest.raises(EdgeferError, match="control flow") as error:
        export_model(Scripted(), contract, tmp_path / "model.onnx")
    assert "data-dependent" in error.value.hint


def test_another_opset_in_the_file_is_refused(network, contract, tmp_path, monkeypatch):
    traced = torch_export._traced

    def newer(module, contract):
        model = traced(module, contract)
        model.opset_import[0].version = 18
        return model

    monkeypatch.setattr(torch_export, "_traced", newer)
    with pytest.raises(EdgeferError, match=r"wrote operator sets \{'ai.onnx': 18\}; ai.onnx 17"):
        export_model(network, contract, tmp_path / "model.onnx")


def test_tensors_sha256_sees_values_names_and_shapes():
    base = nn.Linear(2, 2, bias=False)
    twin = nn.Linear(2, 2, bias=False)
    twin.load_state_dict(base.state_dict())
    assert tensors_sha256(base) == tensors_sha256(twin)
    with torch.no_grad():
        twin.weight[0, 0] += 1e-3
    assert tensors_sha256(base) != tensors_sha256(twin)
    assert tensors_sha256(nn.Sequential(base)) != tensors_sha256(base)


def test_the_file_passes_onnx_full_check(network, contract, tmp_path):
    result = export_model(network, contract, tmp_path / "model.onnx")
    onnx.checker.check_model(str(result.path), full_check=True)

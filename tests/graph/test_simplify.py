"""onnxsim may crash, hang or be wrong: each is announced, and the original kept."""

import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgefer.graph.onnx_file import load_model, metadata_of
from edgefer.graph.simplify import simplify_model
from edgefer.graph.torch_export import export_model


@pytest.fixture
def model(network, contract, tmp_path):
    return load_model(export_model(network, contract, tmp_path / "model.onnx", simplify=False).path)[0]


def _worker(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_result_keeps_metadata_and_dynamic_batch(model, contract):
    result = simplify_model(model, contract)
    assert result.applied
    assert result.note.startswith(f"onnxsim: {len(model.graph.node)} nodes to")
    assert metadata_of(result.model) == metadata_of(model)
    assert result.model.producer_name == "edgefer"
    assert result.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert len(result.model.graph.node) <= len(model.graph.node)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", "onnxsim crashed (SIGABRT)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "onnxsim crashed (SIGSEGV)"),
        ("import sys; sys.exit('onnxsim cannot be imported: no')", "onnxsim failed: onnxsim cannot be imported: no"),
        ("import sys; sys.exit(3)", "onnxsim failed with exit code 3"),
        ("pass", "onnxsim left no readable model (FileNotFoundError)"),
        ("import sys; open(sys.argv[2], 'wb').write(b'no')", "onnxsim left no readable model (DecodeError)"),
    ],
)
def test_a_worker_that_dies_is_announced_and_the_original_kept(model, contract, capfd, code, reason):
    result = simplify_model(model, contract, worker=_worker(code))
    assert not result.applied
    assert result.note == reason
    assert result.model is model
    assert reason in capfd.readouterr().err


def test_a_worker_that_hangs_is_stopped(model, contract):
    result = simplify_model(model, contract, timeout_s=0.5, worker=_worker("import time; time.sleep(60)"))
    assert result.note == "onnxsim did not end within 0.5 s"
    assert not result.applied


def _writing(path) -> list[str]:
    return _worker(f"import shutil, sys; shutil.copy({str(path)!r}, sys.argv[2])")


def test_wrong_numbers_are_rejected(model, contract, tmp_path):
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    bias = next(tensor for tensor in wrong.graph.initializer if tensor.name == "Gemm_0_bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    onnx.save(wrong, tmp_path / "wrong.onnx")
    result = simplify_model(model, contract, worker=_writing(tmp_path / "wrong.onnx"))
    assert not result.applied
    assert "before and after onnxsim differ by 0.5 " in result.note


def test_a_fixed_batch_is_rejected(model, contract, tmp_path):
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(fixed, tmp_path / "fixed.onnx")
    result = simplify_model(model, contract, worker=_writing(tmp_path / "fixed.onnx"))
    assert not result.applied
    assert "'faces' uint8 1×8×8×1; its contract asks for 'faces' uint8 N×8×8×1" in result.note


def test_another_opset_is_rejected(model, contract, tmp_path):
    other = onnx.ModelProto()
    other.CopyFrom(model)
    other.opset_import[0].version = 18
    onnx.save(other, tmp_path / "other.onnx")
    result = simplify_model(model, contract, worker=_writing(tmp_path / "other.onnx"))
    assert result.note == "onnxsim changed the operator sets from {'': 17} to {'': 18}"

"""What is refused on the way to a file for TensorRT, before anything is written."""

import sys

import numpy as np
import pytest
from onnx import TensorProto

import edgefer
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import load_model
from edgefer.optimize import tensorrt
from edgefer.optimize.settings import BuildTarget, Quantisation
from edgefer.optimize.tensorrt_file import prepare_file

from .tensorrt_files import write


@pytest.fixture
def model(mini_xception):
    return mini_xception


@pytest.fixture
def calib(synthetic_set):
    return synthetic_set


@pytest.mark.parametrize("place", ["x.onnx", "file/x.onnx"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(model, tmp_path, monkeypatch, place):
    (tmp_path / "x.onnx").mkdir()
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(tensorrt, "prepare_file", lambda *_, **__: pytest.fail("the work was begun"))
    with pytest.raises(EdgeferError, match="cannot write"):
        write(model, tmp_path / place, "fp16", "jetpack6")


@pytest.mark.parametrize(
    ("written", "asked", "target", "said", "hint"),
    [
        (("int8", "jetpack6"), "int8+fp16", "jetpack6", "its tensors, which are FP32", "--for jetpack6"),
        (("int8+fp16", "jetpack5"), "int8+fp16", "jetpack6", "its tensors, which are FP32", "--for jetpack6"),
        (("int8+fp16", "jetpack6"), "int8+fp16", "jetpack5", "decided by the builder", "--for jetpack5"),
        (("int8+fp16", "jetpack6"), "int8", "jetpack6", "the file is FP16", "--int8 --fp16"),
        (("int8+fp16", "jetpack5"), "int8", "jetpack5", "is INT8+FP16, and INT8 is asked for", "--int8 --fp16"),
        (("int8", "jetpack6"), "fp32", "jetpack6", "has Q/DQ already", "float model.onnx"),
    ],
)
def test_a_written_file_is_not_taken_for_another(model, calib, tmp_path, written, asked, target, said, hint):
    path = tmp_path / "x.onnx"
    write(model, path, *written, calib)
    with pytest.raises(EdgeferError) as error:
        prepare_file(path, load_model(path), asked, target_of(target), Quantisation(), BuilderOptions())
    assert said in error.value.message
    assert hint in error.value.hint


def test_a_file_quantised_for_a_cpu_is_refused(model, calib, tmp_path):
    edgefer.build_engine(model, tmp_path / "cpu.onnx", precision="int8", quantisation=Quantisation(calib))
    with pytest.raises(EdgeferError, match="the model was quantised for a CPU: it has") as error:
        write(tmp_path / "cpu.onnx", tmp_path / "x.onnx", "int8", "jetpack6")
    assert "float model.onnx" in error.value.hint


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        ({"precision": "int8"}, "no calibration table ships for these weights of ", "--calib DATA"),
        ({"precision": "bf16"}, "not built in BF16", "--fp16"),
        ({"version": None}, "which TensorRT is the file for?", "--for jetpack5"),
        ({"version": "jetpack4"}, "neither a JetPack nor", "did you mean jetpack"),
        ({"output": "x.engine"}, "--onnx-only writes an ONNX file", "x.onnx"),
        ({"onnx_only": False}, "does not end in .engine", "x.engine"),
        ({"builder": {"sparsity": True}}, "no layer of the model has 2:4 sparse weights", "leave --sparsity out"),
        ({"builder": {"sparsity": True}, "precision": "fp32"}, "--sparsity has no effect with --fp32", "leave it out"),
        ({"batch": 5, "threads": 2}, "--threads, --batch have no effect with --target tensorrt", "leave"),
        ({"target": "cpu", "precision": "fp32"}, "--for has no effect with --target cpu", "leave"),
        (
            {"target": "cpu", "precision": "fp32", "version": None, "builder": {"refit": True}},
            *("--refit has no effect with --target cpu", "leave"),
        ),
        ({"version": "12"}, "edgefer does not know TensorRT 12", "8.6, 10.3"),
        ({"builder": {"shapes": "faces:1x64x64x1"}}, "whose faces are 48x48x1", "faces:1x48x48x1"),
        ({"builder": {"min_batch": 9, "max_batch": 4}}, "out of order", "--min-batch"),
        ({"builder": {"workspace": "some"}}, "no amount of memory", "512M"),
        ({"target": "tensorrt-rtx"}, "--for jetpack6 names a version of TensorRT", "leave --for out"),
        ({"target": "tpu"}, "there is no target 'tpu'", "tensorrt-rtx"),
    ],
)
def test_bad_input_leaves_no_file(model, tmp_path, arguments, said, hint):
    given = {"precision": "fp16", "target": "tensorrt", "version": "jetpack6", "onnx_only": True, **arguments}
    output, precision, onnx_only = (given.pop(n, "x.onnx") for n in ("output", "precision", "onnx_only"))
    target = BuildTarget(given.pop("target"), **given)
    with pytest.raises(EdgeferError) as error:
        edgefer.build_engine(model, tmp_path / output, precision=precision, target=target, onnx_only=onnx_only)
    assert said in error.value.message
    assert hint in error.value.hint
    assert list(tmp_path.iterdir()) == []


def test_the_model_is_not_overwritten(model, tmp_path):
    path = tmp_path / "x.onnx"
    path.write_bytes(model.read_bytes())
    (tmp_path / "link.onnx").symlink_to(path)
    for output in (path, tmp_path / "link.onnx", tmp_path / "." / "x.onnx"):
        with pytest.raises(EdgeferError, match=r"\.onnx is the model itself, which would be lost"):
            write(path, output, "fp16", "jetpack6")
        with pytest.raises(EdgeferError, match="is the model itself"):
            edgefer.build_engine(path, output, precision="fp32")
    assert path.read_bytes() == model.read_bytes()


def test_without_tensorrt_it_says_what_a_host_can_do(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EdgeferError, match="needs the Python package 'tensorrt'") as error:
        edgefer.build_engine(model, tmp_path / "x.engine", precision="fp16", target="tensorrt")
    assert "--system-site-packages" in error.value.hint
    assert "--onnx-only --for" in error.value.hint


def test_another_version_than_the_one_installed_is_refused(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorrt, "import_tensorrt", lambda rtx: (None, target_of("10.3")))
    with pytest.raises(
        EdgeferError, match=r"--for jetpack7 is TensorRT 10\.13\.3 \(jetpack7\), and TensorRT 10\.3\.0"
    ) as e:
        edgefer.build_engine(
            model, tmp_path / "x.engine", precision="fp16", target=BuildTarget("tensorrt", version="jetpack7")
        )
    assert "--onnx-only --for jetpack7" in e.value.hint


def test_a_network_that_overflows_in_half_is_refused(tmp_path):
    from onnx import helper, numpy_helper

    from edgefer.contract import Contract, Normalisation
    from edgefer.graph.onnx_file import serialise, stamp

    nodes = [
        helper.make_node("Cast", ["faces"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "a"], ["large"]),
        helper.make_node("MatMul", ["large", "b"], ["logits"]),
    ]
    constants = [np.full((64, 4), 9.0, np.float32), np.full((4, 2), 1e-4, np.float32)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("faces", TensorProto.UINT8, ["N", 8, 8, 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for value, name in zip(constants, "ab", strict=True)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    stamp(proto, Contract(("a", "b"), 8, 8, 1, Normalisation(), "tiny"), "fp32")
    (tmp_path / "m.onnx").write_bytes(serialise(proto))
    with pytest.raises(EdgeferError, match=r"does not survive FP16: MatMul 'large' reaches \d") as error:
        write(tmp_path / "m.onnx", tmp_path / "x.onnx", "fp16", "jetpack6")
    assert "--fp32" in error.value.hint
    write(tmp_path / "m.onnx", tmp_path / "x.onnx", "fp16", "8.6")  # there the builder decides, layer by layer

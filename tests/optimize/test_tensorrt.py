"""The file for a version of TensorRT, the lines to type on the device, and everything that is refused on the way."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import edgefer
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.accept import sparse_layers
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.graph.load import load_model, metadata_of
from edgefer.optimize import tensorrt
from edgefer.optimize.ranging import write_table
from edgefer.optimize.tensorrt_file import ORIGIN_KEY, Faces, prepare_file

from .tensorrt_files import facts, write


@pytest.fixture
def model(mini_xception):
    return mini_xception


@pytest.fixture
def calib(drawn_faces):
    return drawn_faces


@pytest.mark.parametrize(
    ("version", "precision", "opset", "half", "quantised"),
    [
        ("jetpack5", "fp32", 17, False, False),
        ("jetpack5", "fp16", 17, False, False),
        ("jetpack5", "int8", 17, False, True),
        ("jetpack5", "int8+fp16", 17, False, True),
        ("jetpack6.0", "int8+fp16", 17, False, True),
        ("jetpack6", "fp16", 17, True, False),
        ("jetpack6", "int8", 17, False, True),
        ("jetpack6", "int8+fp16", 19, True, True),
        ("jetpack7", "int8+fp16", 19, True, True),
        ("11.4", "int8+fp16", 19, True, True),
    ],
)
def test_each_version_gets_what_it_reads(model, calib, tmp_path, version, precision, opset, half, quantised):
    path = tmp_path / "x.onnx"
    result = write(model, path, precision, version, calib)
    found = facts(path)
    assert (found["opset"], found["half"], found["q"] > 0) == (opset, half, quantised)
    assert found["opset"] <= target_of(version).opset
    assert result.manifest is None
    assert list(tmp_path.iterdir()) == [path]
    loaded, contract = load_model(path)
    biases = [n.input[2] for n in loaded.graph.node if n.op_type == "Conv" and len(n.input) > 2]
    stored = {t.name: t.data_type for t in loaded.graph.initializer}
    assert biases
    assert {stored[name] for name in biases} == {TensorProto.FLOAT16 if half else TensorProto.FLOAT}
    faces = golden_faces(contract, 4)
    wanted, got = (OnnxRuntimeSession(p, optimise=False).run({"faces": faces})["logits"] for p in (model, path))
    tolerance = 0.2 if quantised else 5e-3
    assert np.abs(wanted - got).max() <= tolerance * np.abs(wanted).max()


def test_scales_survive_float16_exactly(model, calib, tmp_path):
    write(model, tmp_path / "x.onnx", "int8+fp16", "jetpack6", calib)
    file = onnx.load(tmp_path / "x.onnx")
    scales = [onnx.numpy_helper.to_array(t) for t in file.graph.initializer if "_scale" in t.name]
    assert scales
    assert all(s.dtype == np.float16 and np.isfinite(s).all() and (s > 0).all() for s in scales)


@pytest.mark.parametrize(
    ("version", "precision", "builder", "present", "absent"),
    [
        (
            *("jetpack5", "int8+fp16", {"max_batch": 8, "workspace": "512M"}),
            ["--int8", "--fp16", "--maxShapes=faces:8x48x48x1", "--memPoolSize=workspace:512", "--buildOnly"],
            ["--stronglyTyped", "edgefer build-engine"],
        ),
        (
            *("jetpack6", "int8+fp16", {"shapes": "faces:1x48x48x1", "opt_level": 4}),
            ["--stronglyTyped", "--shapes=faces:1x48x48x1", "--builderOptimizationLevel=4", "--skipInference"],
            ["--int8 --fp16 --noTF32", "--buildOnly", "--minShapes"],
        ),
        ("11.4", "int8", {"refit": True}, ["trtexec --onnx=x.onnx", "--refit"], ["--stronglyTyped", "/usr/src"]),
        ("jetpack6", "fp16", {}, ["edgefer build-engine x.onnx --fp16 --target tensorrt -o x.engine"], []),
        (
            *("jetpack6.2", "fp16", {"sparsity": False, "timing_cache": "t.cache", "version_compatible": True}),
            ["--timingCacheFile=t.cache", "--versionCompatible", "--timing-cache t.cache --version-compatible"],
            ["--sparsity"],
        ),
    ],
)
def test_the_lines_for_the_device(model, calib, tmp_path, version, precision, builder, present, absent):
    text = write(model, tmp_path / "x.onnx", precision, version, calib, **builder).summary()
    for words in present:
        assert words in text
    for words in absent:
        assert words not in text


def test_for_dla_the_builder_decides_about_fp16_before_11(model, tmp_path):
    on_dla = {"dla": 0, "gpu_fallback": True, "max_batch": 1}
    text = write(model, tmp_path / "x.onnx", "fp16", "jetpack6", **on_dla).summary()
    assert facts(tmp_path / "x.onnx") == {"opset": 17, "half": False, "q": 0, "precision": "fp32"}
    assert "--fp16 --noTF32 --useDLACore=0 --allowGPUFallback" in text
    assert "--stronglyTyped" not in text
    text = write(model, tmp_path / "y.onnx", "fp16", "11.4.1", **on_dla).summary()
    assert facts(tmp_path / "y.onnx")["half"]
    assert "--fp16 --noTF32" not in text


@pytest.mark.parametrize("place", ["x.onnx", "file/x.onnx"])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(model, tmp_path, monkeypatch, place):
    (tmp_path / "x.onnx").mkdir()
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setattr(tensorrt, "prepare_file", lambda *_, **__: pytest.fail("the work was begun"))
    with pytest.raises(EdgeferError, match="cannot write"):
        write(model, tmp_path / place, "fp16", "jetpack6")


def test_what_rtx_builds_from_comes_with_its_line(model, tmp_path):
    given = {"precision": "fp16", "target": "tensorrt-rtx", "onnx_only": True, "builder": {"max_batch": 8}}
    text = edgefer.build_engine(model, tmp_path / "x.onnx", **given).summary()
    assert "edgefer build-engine x.onnx --fp16 --target tensorrt-rtx --min-batch 1 --opt-batch 1 --max-batch 8" in text
    assert "trtexec" not in text


def test_ranges_from_a_table_give_the_int8_file_without_faces(model, calib, tmp_path):
    table = write_table(model, calib, tmp_path / "ranges.jsonl", calib_faces=28)
    loaded, target = load_model(model), target_of("jetpack6")
    prepared = prepare_file(model, loaded, "int8+fp16", target, Faces(table=table))
    assert any(node.op_type == "QuantizeLinear" for node in prepared.model.graph.node)
    assert prepared.calibration.face_hashes == table.calibration.face_hashes
    faces = golden_faces(loaded[1])
    floats, eights = (
        OnnxRuntimeSession(content, optimise=False).run({"faces": faces})["logits"]
        for content in (model.read_bytes(), prepared.content)
    )
    assert 0 < np.abs(floats - eights).max() < 0.3 * np.abs(floats).max(), "equalised weights are the same network"


def test_a_written_file_is_taken_as_it_is_on_the_device(model, calib, tmp_path):
    path = tmp_path / "x.onnx"
    write(model, path, "int8+fp16", "jetpack6", calib)
    again = prepare_file(path, load_model(path), "int8+fp16", target_of("10.3"), Faces(), BuilderOptions())
    assert again.content == path.read_bytes()
    origin = json.loads(metadata_of(onnx.load(path))[ORIGIN_KEY])
    assert again.model_sha256 == origin["model_sha256"] == edgefer.atomic.sha256_file(model)
    assert again.calibration.n == len(again.calibration.face_hashes) > 20


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
        prepare_file(path, load_model(path), asked, target_of(target), Faces(), BuilderOptions())
    assert said in error.value.message
    assert hint in error.value.hint


def test_a_file_quantised_for_a_cpu_is_refused(model, calib, tmp_path):
    edgefer.build_engine(model, tmp_path / "cpu.onnx", precision="int8", calib=calib)
    with pytest.raises(EdgeferError, match="the model was quantised for a CPU: it has") as error:
        write(tmp_path / "cpu.onnx", tmp_path / "x.onnx", "int8", "jetpack6")
    assert "float model.onnx" in error.value.hint


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        ({"precision": "int8"}, "is another model's: different weights", "--calib DATA"),
        ({"precision": "bf16"}, "not built in BF16", "--fp16"),
        ({"version": None}, "which TensorRT is the file for?", "--for jetpack5"),
        ({"version": "jetpack4"}, "neither a JetPack nor", "did you mean jetpack"),
        ({"output": "x.engine"}, "--onnx-only writes an ONNX file", "x.onnx"),
        ({"onnx_only": False}, "does not end in .engine", "x.engine"),
        ({"builder": {"sparsity": True}}, "no layer of the model has 2:4 sparse weights", "leave --sparsity out"),
        ({"builder": {"sparsity": True}, "precision": "fp32"}, "--sparsity would change nothing with --fp32", "--fp16"),
        ({"per_class": 5, "threads": 2}, "threads, per_class would change nothing for the target 'tensorrt'", "leave"),
        ({"refine": (), "max_drop": 1.0}, "refine, max_drop would change nothing", "leave"),
        ({"target": "cpu", "precision": "fp32"}, "version would change nothing for the target 'cpu'", "leave"),
        (
            {"target": "cpu", "precision": "fp32", "version": None, "builder": {"refit": True}},
            *("builder would change nothing for the target 'cpu'", "leave"),
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
    output = tmp_path / given.pop("output", "x.onnx")
    with pytest.raises(EdgeferError) as error:
        edgefer.build_engine(model, output, **given)
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
        edgefer.build_engine(model, tmp_path / "x.engine", precision="fp16", target="tensorrt", version="jetpack7")
    assert "--onnx-only --for jetpack7" in e.value.hint


def test_a_network_that_overflows_in_half_is_refused(tmp_path):
    from onnx import helper, numpy_helper

    from edgefer.contract import Contract, Normalisation
    from edgefer.graph.save import serialise, stamp

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


def test_a_device_needs_neither_torch_nor_onnxruntime(model, calib, tmp_path):
    """Up to the moment where TensorRT itself is asked for."""
    path = tmp_path / "x.onnx"
    write(model, path, "int8+fp16", "jetpack6", calib)
    program = (
        "import sys\n"
        "for name in ('torch', 'onnxruntime', 'onnxsim', 'cv2', 'openvino'): sys.modules[name] = None\n"
        "from edgefer.engines.tensorrt.compat import target_of\n"
        "from edgefer.engines.tensorrt.options import BuilderOptions\n"
        "from edgefer.graph.load import load_model\n"
        "from edgefer.optimize.tensorrt_file import Faces, prepare_file\n"
        "import edgefer.optimize.tensorrt, edgefer.engines.tensorrt.loading\n"
        "loaded = load_model(sys.argv[1])\n"
        "made = prepare_file(sys.argv[1], loaded, 'int8+fp16', target_of('10.3'), Faces(), BuilderOptions())\n"
        "print(made.precision, made.calibration.n > 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.stdout == "int8+fp16 True\n", done.stderr


def test_two_of_four_weights_stay_so_in_every_file(model, calib, tmp_path):
    """Folding batch norms and rounding to INT8 keep a zero a zero."""
    network = onnx.load(model)
    wide = {node.input[1] for node in network.graph.node if node.op_type == "Conv"}
    pruned = 0
    for tensor in network.graph.initializer:
        weights = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name in wide and weights.shape[1] >= 16:
            weights[:, 0::4] = weights[:, 2::4] = 0
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights, tensor.name))
            pruned += 1
    path = tmp_path / "pruned.onnx"
    path.write_bytes(network.SerializeToString())
    for version, precision in (("jetpack5", "int8"), ("jetpack6", "int8+fp16"), ("11.4", "fp16")):
        text = write(path, tmp_path / "x.onnx", precision, version, calib, sparsity=True).summary()
        sparse, dense = sparse_layers(onnx.load(tmp_path / "x.onnx"))
        assert (len(sparse), dense) == (pruned, [])
        assert "--sparsity=enable" in text
    assert pruned > 5

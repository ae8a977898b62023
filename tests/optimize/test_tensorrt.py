"""The file for a version of TensorRT, and the lines to type on the device."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import edgefer
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.inputs import sparse_layers
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.faces import golden_faces
from edgefer.graph.onnx_file import load_model, metadata_of
from edgefer.optimize.prepared import write_table
from edgefer.optimize.settings import Quantisation
from edgefer.optimize.tensorrt_file import ORIGIN_KEY, prepare_file

from .tensorrt_files import facts, write


@pytest.fixture
def model(mini_xception):
    return mini_xception


@pytest.fixture
def calib(synthetic_set):
    return synthetic_set


@pytest.mark.parametrize(
    ("version", "precision", "opset", "fp16", "quantised"),
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
def test_each_version_gets_what_it_reads(model, calib, tmp_path, version, precision, opset, fp16, quantised):
    path = tmp_path / "x.onnx"
    result = write(model, path, precision, version, calib)
    found = facts(path)
    assert (found["opset"], found["fp16"], found["q"] > 0) == (opset, fp16, quantised)
    assert found["opset"] <= target_of(version).opset
    assert result.manifest is None
    assert list(tmp_path.iterdir()) == [path]
    loaded, contract = load_model(path)
    biases = [n.input[2] for n in loaded.graph.node if n.op_type == "Conv" and len(n.input) > 2]
    stored = {t.name: t.data_type for t in loaded.graph.initializer}
    assert biases
    assert {stored[name] for name in biases} == {TensorProto.FLOAT16 if fp16 else TensorProto.FLOAT}
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
    assert facts(tmp_path / "x.onnx") == {"opset": 17, "fp16": False, "q": 0, "precision": "fp32"}
    assert "--fp16 --noTF32 --useDLACore=0 --allowGPUFallback" in text
    assert "--stronglyTyped" not in text
    text = write(model, tmp_path / "y.onnx", "fp16", "11.4.1", **on_dla).summary()
    assert facts(tmp_path / "y.onnx")["fp16"]
    assert "--fp16 --noTF32" not in text


def test_what_rtx_builds_from_comes_with_its_line(model, tmp_path):
    target = edgefer.BuildTarget("tensorrt-rtx", builder={"max_batch": 8})
    text = edgefer.build_engine(model, tmp_path / "x.onnx", precision="fp16", target=target, onnx_only=True).summary()
    assert "edgefer build-engine x.onnx --fp16 --target tensorrt-rtx --min-batch 1 --opt-batch 1 --max-batch 8" in text
    assert "trtexec" not in text


def test_ranges_from_a_table_give_the_int8_file_without_faces(model, calib, tmp_path):
    table = write_table(model, tmp_path / "ranges.jsonl", Quantisation(calib, faces=28))
    loaded, target = load_model(model), target_of("jetpack6")
    prepared = prepare_file(model, loaded, "int8+fp16", target, Quantisation(table=tmp_path / "ranges.jsonl"))
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
    again = prepare_file(path, load_model(path), "int8+fp16", target_of("10.3"), Quantisation(), BuilderOptions())
    assert again.content == path.read_bytes()
    origin = json.loads(metadata_of(onnx.load(path))[ORIGIN_KEY])
    assert again.model_sha256 == origin["model_sha256"] == edgefer.atomic.sha256_file(model)
    assert again.calibration.n == len(again.calibration.face_hashes) > 20


def test_a_device_needs_neither_torch_nor_onnxruntime(model, calib, tmp_path):
    """Up to the moment where TensorRT itself is asked for."""
    path = tmp_path / "x.onnx"
    write(model, path, "int8+fp16", "jetpack6", calib)
    program = (
        "import sys\n"
        "for name in ('torch', 'onnxruntime', 'onnxsim', 'cv2', 'openvino'): sys.modules[name] = None\n"
        "from edgefer.engines.tensorrt.compat import target_of\n"
        "from edgefer.engines.tensorrt.options import BuilderOptions\n"
        "from edgefer.graph.onnx_file import load_model\n"
        "from edgefer.optimize.settings import Quantisation\n"
        "from edgefer.optimize.tensorrt_file import prepare_file\n"
        "import edgefer.optimize.tensorrt, edgefer.engines.tensorrt.run\n"
        "loaded = load_model(sys.argv[1])\n"
        "made = prepare_file(sys.argv[1], loaded, 'int8+fp16', target_of('10.3'), Quantisation(), BuilderOptions())\n"
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

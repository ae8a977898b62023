"""The file for a version of TensorRT, the lines to type on the device, and everything that is refused on the way."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import edgefer
from edgefer.data import draw, open_dataset, save_npz
from edgefer.data.classes import FER2013
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.calibration_table import from_table
from edgefer.engines.tensorrt.compat import target_of
from edgefer.errors import EdgeferError
from edgefer.faces import golden_faces
from edgefer.graph.load import load_model, metadata_of
from edgefer.optimize import tensorrt
from edgefer.optimize.tensorrt_file import ORIGIN_KEY, Faces, prepare_file


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """mini_xception with weights drawn from a seed, as exported."""
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    edgefer.export("mini_xception", path, random_weights=True)
    return path


@pytest.fixture(scope="module")
def calib(tmp_path_factory):
    path = tmp_path_factory.mktemp("faces") / "faces.npz"
    images, labels = draw(420, seed=3)
    save_npz(path, images, labels, FER2013, ["train"] * 420)
    return open_dataset(str(path))


def write(model, output, precision, version, calib=None, **builder):
    return edgefer.build_engine(
        model,
        output,
        precision=precision,
        target="tensorrt",
        version=version,
        onnx_only=True,
        calib=calib if precision.startswith("int8") else None,
        builder=builder,
    )


def facts(path):
    file = onnx.load(path)
    kinds = {tensor.data_type for tensor in file.graph.initializer}
    return {
        "opset": file.opset_import[0].version,
        "half": TensorProto.FLOAT16 in kinds,
        "q": sum(node.op_type == "QuantizeLinear" for node in file.graph.node),
        "precision": metadata_of(file)["edgefer.precision"],
    }


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


def test_a_calibration_table_from_our_ranges(model, calib, tmp_path):
    result = write(
        *(model, tmp_path / "x.onnx", "int8+fp16", "jetpack6", calib),
        **{"calibrator": "entropy", "dla": 0, "gpu_fallback": True, "max_batch": 1},
    )
    assert facts(tmp_path / "x.onnx") == {"opset": 17, "half": False, "q": 0, "precision": "fp32"}
    text = (tmp_path / "x.calib").read_text()
    assert text.startswith("TRT-100300-EntropyCalibration2\n")
    algorithm, scales = from_table(text, "x.calib")
    assert algorithm == "EntropyCalibration2"
    prepared = prepare_file(
        *(model, load_model(model), "int8+fp16", target_of("jetpack6"), Faces(calib)), implicit=True
    )
    tops = {name: max(-h.minimum, h.maximum) / 127 for name, h in prepared.ranges.histograms.items()}
    assert len(set(tops) & set(scales)) > 20
    for name in set(tops) & set(scales):
        assert 0 < scales[name] <= tops[name] * 1.0001
    summary = result.summary()
    assert "--useDLACore=0 --allowGPUFallback" in summary.replace("--fp16 ", "")
    assert "--calib=x.calib" in summary
    assert "--calibrator entropy --gpu-fallback --calib-cache x.calib" in summary


def test_a_written_file_is_taken_as_it_is_on_the_device(model, calib, tmp_path):
    path = tmp_path / "x.onnx"
    write(model, path, "int8+fp16", "jetpack6", calib)
    again = prepare_file(path, load_model(path), "int8+fp16", target_of("10.3"), Faces())
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
        prepare_file(path, load_model(path), asked, target_of(target), Faces())
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
        "from edgefer.graph.load import load_model\n"
        "from edgefer.optimize.tensorrt_file import Faces, prepare_file\n"
        "import edgefer.optimize.tensorrt, edgefer.engines.tensorrt.loading\n"
        "made = prepare_file(sys.argv[1], load_model(sys.argv[1]), 'int8+fp16', target_of('10.3'), Faces())\n"
        "print(made.precision, made.calibration.n > 20)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.stdout == "int8+fp16 True\n", done.stderr

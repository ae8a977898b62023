"""TensorRT-RTX builds on this CPU, for real: parsed, built, the same bytes twice, audited. Nothing is run."""

import hashlib
import importlib.util
import re
import signal
import subprocess
import sys
import time
from collections import Counter

import onnx
import pytest
from onnx import TensorProto, helper

from edgefer.engines.load import load_engine
from edgefer.engines.tensorrt.build import build_plan
from edgefer.engines.tensorrt.compat import RTX, log_of
from edgefer.engines.tensorrt.inspect import read_header
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.graph.onnx_file import load_model
from edgefer.manifest import read_manifest
from edgefer.models import names
from edgefer.optimize.build import build_engine
from edgefer.optimize.settings import BuildTarget, Quantisation

from .uses import collect

if importlib.util.find_spec("tensorrt_rtx") is None:
    pytest.skip("tensorrt-rtx is not installed: pip install 'edgefer[rtx]'", allow_module_level=True)

FAST = ("lenet", "mini_xception", "resnet11")
WEIGHTED = ("Conv", "Gemm", "MatMul")
NETWORKS = [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in names()]
PRECISIONS = ("fp32", "fp16", "int8", "int8+fp16")
STRAY = {"lenet": 1, "big_xception": 4, "cliquenet": 2, "mini_xception_keras": 8, "mini_xception_keras48": 8}
TEXT, KERNEL = re.compile(rb"[\t\n -~]{64,}"), b"#undef __HAS_"
DYNAMIC = {"min_batch": 1, "opt_batch": 8, "max_batch": 32}


def build(model, output, faces, precision, **options):
    settings = Quantisation(faces, faces=21) if precision.startswith("int8") else None
    target = BuildTarget("tensorrt-rtx", builder=options.pop("builder", {}))
    return build_engine(model, output, precision=precision, quantisation=settings, target=target, **options)


def without_serial_numbers(layers):
    """The compiler numbers its tensors as it goes, in another order each time; nothing else may differ."""
    return re.sub(r"(_mye|__myln_k_arg__bb\d+_)\d+", r"\1#", layers)


def parts_without_names(plan):
    """Of a plan for several batch sizes: the kernels' sources, the weights, the words of the programs.

    For several batch sizes a program computes shapes. The compiler, which has threads, numbers those scalars, and the
    constants beside them, in another order in each build, even where addresses are not randomised. Comments in the
    kernels' sources name such constants.
    """
    runs = TEXT.findall(plan)
    kernels = [re.sub(rb"__mye\d+", b"__mye#", run) for run in runs if KERNEL in run]
    words = re.sub(rb"_?\d+_?", b"#", b" ".join(run for run in runs if KERNEL not in run)).split()
    # zeros pad, here more and there less; what is shorter than 32 bytes may be a name
    weights = [piece for piece in TEXT.sub(b"\0", plan).split(b"\0") if len(piece) >= 32]
    return kernels, weights, Counter(words)


def digest(plan):
    return hashlib.sha256(plan).hexdigest()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", PRECISIONS[:3])
@pytest.mark.parametrize("batches", ["static", "dynamic"])
def test_networks_are_built_as_they_were_asked(exported, faces, tmp_path, name, precision, batches):
    model = exported(name)
    shape = "x".join(map(str, contract_of(model).face_shape))
    builder = DYNAMIC if batches == "dynamic" else {"shapes": f"faces:1x{shape}"}
    file = tmp_path / "x.onnx"
    build(model, file, faces, precision, onnx_only=True)  # once: calibration is not what is tested here
    first = build_again(file, tmp_path / "a.engine", precision, builder)
    made = without_serial_numbers(log_of(True).layers)
    build_again(file, tmp_path / "b.engine", precision, builder)
    assert without_serial_numbers(log_of(True).layers) == made
    one, two = ((tmp_path / name).read_bytes() for name in ("a.engine", "b.engine"))
    if batches == "static":
        assert digest(one) == digest(two)
    else:
        for part, again in zip(parts_without_names(one), parts_without_names(two), strict=True):
            assert part
            assert part == again
    layers = [layer for layer in first.manifest.precision.layers if layer.op in WEIGHTED]
    assert layers
    assert [layer for layer in layers if layer.got != layer.asked] == []
    assert {layer.asked for layer in layers} == {precision}
    assert first.audit.differences == ()
    assert first.audit.reformats == ()
    # a Quantize stands alone in its kernel behind a pool that is float, and behind a convolution without a bias
    assert len(first.audit.stray) <= (STRAY.get(name, 0) if precision == "int8" else 0)
    assert first.manifest.note == "RTX, SM86, built ahead of time, not run"


def test_a_flipped_network_is_built_as_it_was_asked(faces, tmp_path):
    model = export("mini_xception", tmp_path / "m.onnx", weights="mini_xception_64").path
    assert contract_of(model).test_time_flip
    made = build(model, tmp_path / "x.engine", faces, "int8", builder=DYNAMIC)
    layers = {layer.got for layer in made.manifest.precision.layers if layer.op == "Conv"}
    assert (layers, made.audit.differences, made.audit.stray) == ({"int8"}, (), ())
    assert made.manifest.contract.test_time_flip


def build_again(file, output, precision, builder):
    return build_engine(file, output, precision=precision, target=BuildTarget("tensorrt-rtx", builder=builder))


def contract_of(model):
    return load_model(model)[1]


def test_the_manifest_says_what_it_is(exported, faces, tmp_path):
    path = tmp_path / "x.engine"
    result = build(exported("mini_xception"), path, faces, "int8+fp16")
    manifest = read_manifest(path)
    assert manifest.to_dict() == result.manifest.to_dict()
    assert (manifest.target, manifest.runtime, manifest.device) == ("tensorrt-rtx", "tensorrt-rtx", "SM86")
    assert manifest.note == "RTX, SM86, built ahead of time, not run"
    assert manifest.instruction_set == ()
    assert manifest.calibration.n == 21
    assert manifest.precision.got == "int8+fp16"
    assert set(manifest.golden.tolerance) == {"tensorrt-rtx"}
    convolutions = {node.name for node in onnx.load(exported("mini_xception")).graph.node if node.op_type == "Conv"}
    rows = [row for row in manifest.audit if convolutions & set(row["origins"])]
    assert len(rows) >= 23
    assert {row["got"] for row in rows if row["kind"] == "correlation"} == {"int8"}
    assert "built ahead of time, not run" in result.summary()
    header = read_header(path.read_bytes())
    assert (header.product, header.version) == ("TensorRT-RTX", manifest.runtime_version)


def test_it_is_not_served_without_a_driver(exported, faces, tmp_path, monkeypatch):
    from edgefer.engines.tensorrt import cuda

    monkeypatch.setattr(cuda, "_LIBRARY", "libcuda-is-not-here.so.1")
    build(exported("lenet"), tmp_path / "x.engine", faces, "fp16")
    with pytest.raises(EdgeferError, match="there is no NVIDIA driver here") as error:
        load_engine(tmp_path / "x.engine")
    assert "--onnx-only --for JETPACK" in error.value.hint


def test_the_api_that_is_used_is_there():
    import tensorrt_rtx as trt

    for use in collect():
        if use.condition and not getattr(RTX.has, use.condition):
            continue
        owner = getattr(trt, use.owner) if use.owner else trt
        assert hasattr(owner, use.member), use


def test_a_parser_error_names_node_and_operator(exported, tmp_path):
    model = onnx.load(exported("lenet"))
    node = next(n for n in model.graph.node if n.op_type == "Sigmoid")
    node.op_type, node.domain, node.name = "Squish", "com.example", "squish_me"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(EdgeferError, match=r"TensorRT-RTX 1\.7.* refuses the model: Squish 'squish_me'") as error:
        build_plan(model.SerializeToString(), contract_of(exported("lenet")), "fp32", BuilderOptions(), rtx=True)
    assert "an operator that this version lacks" in error.value.hint


def test_a_builder_that_gives_up_says_why_and_what_to_raise(exported, tmp_path):
    """An FP16 typed network for which no kernel fits into a kilobyte."""
    model = tmp_path / "x.onnx"
    build(exported("cliquenet"), model, None, "fp16", onnx_only=True)
    with pytest.raises(EdgeferError, match="could not build the engine: .*[Ww]orkspace|OutOfMemory") as error:
        build_plan(model.read_bytes(), contract_of(model), "fp16", BuilderOptions(workspace=1 << 10), rtx=True)
    assert "raise --workspace, which is 0 MiB" in error.value.hint


def test_uint8_must_meet_a_cast_first(exported):
    """What the exporter promises: a Transpose on uint8 is refused, so the Cast comes first."""
    model = onnx.load(exported("lenet"))
    assert model.graph.node[0].op_type == "Cast"
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8


@pytest.mark.parametrize("option", ["refit", "version_compatible", "hardware_compat", "sparsity"])
def test_what_it_cannot_do_is_refused(exported, tmp_path, option):
    with pytest.raises(EdgeferError, match=f"--{option.replace('_', '-')}: TensorRT-RTX"):
        build(exported("lenet"), tmp_path / "x.engine", None, "fp16", builder={option: True})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_stops_the_builder_and_leaves_no_file(exported, tmp_path):
    """ddamfn takes ten seconds; the monitor answers False at its next step."""
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # whatever the shell ignores
    program = f"{heard}; from edgefer.cli import main; main()"
    command = [sys.executable, "-c", program, "build-engine", str(exported("ddamfn")), "--fp32"]
    output = tmp_path / "x.engine"
    running = subprocess.Popen(
        [*command, "--target", "tensorrt-rtx", "-o", str(output)],
        stderr=subprocess.PIPE,
    )
    time.sleep(5)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.decode().strip().endswith("interrupted")
    assert list(tmp_path.iterdir()) == []

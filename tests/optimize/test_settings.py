"""What has no effect with what, what excludes what and what needs what: decided in one place, before any work."""

import sys

import pytest

import edgefer
from edgefer import BuildTarget, Quantisation
from edgefer.errors import EdgeferError
from edgefer.optimize.settings import parse_corrections

OPENVINO = BuildTarget("cpu", "openvino", threads=2)
JETSON = BuildTarget("tensorrt", version="jetpack6")
CACHE_ONLY = BuildTarget("tensorrt", builder={"calib_cache": "x.calib"})
SPARSE = BuildTarget("tensorrt", builder={"sparsity": True})
ENTROPY = BuildTarget("tensorrt", builder={"calibrator": "entropy"})
CACHED = BuildTarget("tensorrt", builder={"calibrator": "entropy", "calib_cache": "t.calib"})


@pytest.mark.parametrize(
    ("settings", "target", "precision", "more"),
    [
        ({}, "cpu", "fp32", {"onnx_only": True}),
        ({}, "cpu", "int8", {}),  # a table may ship
        ({"method": "mse", "corrections": ("equalise",)}, OPENVINO, "int8", {}),
        ({"table": "t.jsonl"}, JETSON, "int8+fp16", {}),
        ({"data": "x.npz", "faces": 9, "seed": 0, "method": "auto", "max_drop": 0.0}, OPENVINO, "int8+bf16", {}),
        ({"data": "x.npz", "per_class": 9}, BuildTarget(batch=8), "auto", {}),
        ({"data": "x.npz", "per_class": 9, "seed": 1}, ENTROPY, "int8", {}),
        ({"data": "x.npz", "method": "mse", "corrections": ("equalise",)}, ENTROPY, "int8", {"onnx_only": True}),
        ({}, CACHED, "int8", {}),
        ({"data": "x.npz", "corrections": ()}, "cpu", "int8", {"command": "calibrate"}),
        ({"data": "x.npz", "corrections": ("rounding",)}, OPENVINO, "int8", {"command": "sensitivity"}),
        ({"data": "x.npz", "per_class": 9}, "tensorrt", "int8+fp16", {"command": "deploy bundle"}),
    ],
)
def test_what_goes_together(settings, target, precision, more):
    Quantisation(**settings).check(target, precision, **more)


@pytest.mark.parametrize(
    ("settings", "target", "precision", "more", "said", "hint"),
    [
        ({"seed": 1, "method": "mse"}, "cpu", "fp32", {}, "--method, --seed have no effect with --fp32", "leave them"),
        ({"data": "x"}, JETSON, "fp16", {}, "--calib has no effect with --fp16", "leave it out"),
        ({"max_drop": 1}, "cpu", "bf16", {}, "--max-drop has no effect with --bf16", "leave it out"),
        ({}, OPENVINO, "fp32", {}, "--threads has no effect with --fp32", "leave it out"),
        ({"faces": 7, "seed": 1}, "cpu", "int8", {}, "--calib-faces, --seed have no effect without --calib", "leave"),
        ({"data": "x"}, JETSON, "auto", {}, "--auto chooses among what this CPU can run", "leave out --target"),
        ({"data": "x"}, OPENVINO, "auto", {"onnx_only": True}, "--runtime, --onnx-only have no effect with --auto", ""),
        ({"table": "t"}, "cpu", "auto", {}, "--calibration-table has no effect with --auto", ""),
        ({}, "cpu", "auto", {}, "--auto needs faces to set ranges and to evaluate", "--calib DATA"),
        ({"method": "auto"}, "cpu", "int8", {}, "--method auto needs faces to evaluate", "--calib DATA"),
        (
            {},
            BuildTarget("cpu", version="10.3", builder={"dla": 0}),
            "fp32",
            {},
            "--for, --dla have no effect",
            "leave",
        ),
        ({}, BuildTarget("tensorrt", "openvino", 1), "fp32", {}, "--runtime, --threads have no effect", "leave"),
        ({}, "tpu", "fp32", {}, "there is no target 'tpu'", "cpu, tensorrt, tensorrt-rtx"),
        ({"max_drop": float("nan"), "data": "x"}, "cpu", "int8", {}, "--max-drop is nan", "--max-drop 0.5"),
        ({"faces": 1, "per_class": 1, "data": "x"}, "cpu", "int8", {}, "exclude each other", "leave out --calib-faces"),
        ({"data": "x", "table": "y"}, "cpu", "int8", {}, "--calib and --calibration-table both set the ranges", "one"),
        ({"data": "x", "method": "kl"}, "cpu", "int8", {}, "there is no calibration method 'kl'", "minmax, percentile"),
        ({"corrections": ("adaround",)}, "cpu", "int8", {}, "there is no correction 'adaround'", "equalise, rounding"),
        ({"corrections": "bias"}, "cpu", "int8", {}, "there is no correction 'b'", "a list of"),  # text, not a list
        (
            {"data": "x", "corrections": ()},
            ENTROPY,
            "int8",
            {},
            "--corrections has no effect with --calibrator",
            "leave",
        ),
        ({"data": "x", "corrections": ("bias",)}, ENTROPY, "int8", {}, "--corrections and --calibrator exclude", ""),
        ({"data": "x", "method": "auto"}, ENTROPY, "int8", {}, "--method auto and --calibrator exclude", ""),
        ({"table": "x"}, ENTROPY, "int8", {}, "--calibration-table and --calibrator exclude each other", ""),
        ({"data": "x"}, ENTROPY, "fp16", {}, "--calib, --calibrator have no effect with --fp16", "leave them out"),
        ({}, ENTROPY, "fp16", {}, "--calibrator has no effect with --fp16", "leave it out"),
        ({}, CACHE_ONLY, "int8", {}, "--calib-cache has no effect without --calibrator", "leave it out"),
        ({}, SPARSE, "fp32", {}, "--sparsity has no effect with --fp32: sparse kernels", "leave it out"),
        ({"data": "x", "method": "auto"}, "cpu", "int8", {"command": "sensitivity"}, "--method auto has no effect", ""),
        ({"data": "x", "max_drop": 1}, "cpu", "int8", {"command": "calibrate"}, "no effect with calibrate", "leave"),
        ({}, "cpu", "int8", {"command": "calibrate"}, "calibrate needs faces, and none were given", "--calib DATA"),
        ({"data": "x", "corrections": ("bias",)}, "cpu", "int8", {"command": "calibrate"}, "bias depends on the", ""),
        ({"data": "x", "max_drop": 1}, "tensorrt", "int8", {"command": "deploy bundle"}, "with deploy bundle", "leave"),
    ],
)
def test_what_does_not_go_together(settings, target, precision, more, said, hint):
    with pytest.raises(EdgeferError) as caught:
        Quantisation(**settings).check(target, precision, **more)
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_a_build_checks_before_anything_is_read(tmp_path):
    for precision, settings in (("fp32", Quantisation(seed=1)), ("int8", Quantisation(seed=1))):
        with pytest.raises(EdgeferError, match="--seed has no effect"):
            edgefer.build_engine(tmp_path / "none.onnx", tmp_path / "x", precision=precision, quantisation=settings)


def test_corrections_are_parsed_in_their_order():
    assert parse_corrections("bias, equalise") == ("equalise", "bias")
    assert parse_corrections("none") == ()
    with pytest.raises(EdgeferError, match="there is no correction 'adaround'"):
        parse_corrections("adaround")


def test_a_recipe_keeps_what_was_not_asked_for():
    usual = Quantisation().recipe("lenet")
    assert Quantisation(method="auto").recipe("lenet") == usual
    asked = Quantisation(faces=7, seed=3, method="mse").recipe("lenet")
    assert (asked.faces, asked.seed, asked.method, asked.per_class) == (7, 3, "mse", None)


@pytest.mark.parametrize(
    ("settings", "target", "precision", "message"),
    [
        ({"faces": 0}, "cpu", "int8", "--calib-faces is 0, not a whole number from 1 to"),
        ({"per_class": -1}, "cpu", "int8", "--per-class is -1, not a whole number from 1 to"),
        ({"seed": -1}, "cpu", "int8", "--seed is -1, not a whole number from 0 to"),
        ({"faces": "10"}, "cpu", "int8", "--calib-faces is '10', not a whole number"),
        ({}, BuildTarget("cpu", threads=0), "int8", "--threads is 0, not a whole number from 1 to"),
        ({}, BuildTarget("cpu", batch=-2), "int8", "--batch is -2, not a whole number from 1 to"),
        ({"data": "x.npz"}, "cpu", "INT8", "there is no precision 'INT8'"),
    ],
)
def test_numbers_and_precisions_that_mean_nothing(settings, target, precision, message):
    with pytest.raises(EdgeferError) as fault:
        Quantisation(**settings).check(target, precision)
    assert message in fault.value.message


def test_tensorrts_own_calibrator_needs_no_runtime_of_a_cpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    settings = Quantisation(data="faces.npz")
    with pytest.raises(EdgeferError, match="needs the Python package 'onnxruntime'"):
        settings.check(BuildTarget("tensorrt"), "int8")
    settings.check(BuildTarget("tensorrt", builder={"calibrator": "entropy"}), "int8")

"""The options of `build-engine` that TensorRT's targets have."""

import importlib.util

import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.engines.tensorrt.options import NAMES
from edgefer.errors import EdgeferError
from edgefer.optimize import tensorrt

RTX = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="tensorrt-rtx is not installed: pip install 'edgefer[rtx]'",
)


def build(*arguments):
    return CliRunner().invoke(cli, ["build-engine", *map(str, arguments)])


def test_every_builder_option_is_on_the_command_line():
    shown = build("--help").output
    assert [name for name in NAMES if f"--{name.replace('_', '-')}" not in shown] == []
    assert "--for VERSION" in shown
    assert "--strict" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--fp32", "--workspace", "512M"), "--workspace has no effect with --target cpu"),
        (("--fp32", "--dla", 0), "--dla has no effect with --target cpu"),  # 0 is a core, not none
        (("--fp32", "--for", "jetpack6"), "--for has no effect with --target cpu"),
        (("--fp32", "--strict"), "--strict has no effect with --target cpu"),
        (("--fp16", "--target", "tensorrt", "--runtime", "openvino"), "--runtime has no effect with --target tensorrt"),
        (("--fp16", "--target", "tensorrt", "--calib", "x.npz"), "--calib has no effect with --fp16"),
        (("--fp16", "--target", "tensorrt", "--seed", 0), "--seed has no effect with --fp16"),
        (("--int8", "--target", "tensorrt", "--seed", 0), "--seed has no effect without --calib"),
        (("--int8", "--target", "tensorrt", "--max-drop", 1), "--max-drop needs faces to evaluate"),
        (("--fp16", "--target", "tensorrt", "--onnx-only", "--strict"), "--strict has no effect with --onnx-only"),
        (("--auto", "--target", "tensorrt"), "--auto chooses among what this CPU can run"),
    ],
)
def test_options_without_effect(tmp_path, options, said):
    done = build(tmp_path / "m.onnx", *options, "-o", tmp_path / "x.engine")
    assert isinstance(done.exception, EdgeferError)
    assert said in done.exception.message
    assert list(tmp_path.iterdir()) == []


def test_a_host_writes_what_a_jetson_builds_from(exported, tmp_path):
    done = build(
        *(exported("lenet"), "--fp16", "--target", "tensorrt", "--for", "jetpack6", "--onnx-only"),
        *("--dla", 0, "--gpu-fallback", "--max-batch", 1, "-o", tmp_path / "x.onnx"),
    )
    assert done.exit_code == 0, done.output
    assert "on the device, with TensorRT 10.3.0 (jetpack6):" in done.output
    assert "edgefer build-engine x.onnx --fp16 --target tensorrt" in done.output
    assert "--dla 0" in done.output
    assert "--useDLACore=0" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]


@RTX
def test_asked_against_got_is_printed(exported, tmp_path):
    done = build(exported("lenet"), "--fp16", "--target", "tensorrt-rtx", "--strict", "-o", tmp_path / "x.engine")
    assert done.exit_code == 0, done.output
    assert "asked against got: 0 nodes differ, 0 reformats, 0 stray Q/DQ" in done.output
    assert "RTX, SM86, built ahead of time, not run" in done.output
    assert "features.0" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.engine", "x.engine.json"]


@RTX
def test_strict_exits_1_where_a_layer_is_another_type(exported, faces, tmp_path, monkeypatch):
    """What the compiler really made is as asked; here its log is changed to say that one convolution is not."""
    audit = tensorrt.audit_dump

    def with_one_in_fp16(model, text):
        lines = [
            line.replace("Int8", "Half") if "[ONNX Layer: module1.left.0.point_conv]" in line else line
            for line in text.splitlines()
        ]
        return audit(model, "\n".join(lines))

    arguments = ("--int8", "--calib", faces.origin, "--calib-faces", 21, "--target", "tensorrt-rtx", "--strict")
    done = build(exported("mini_xception"), *arguments, "-o", tmp_path / "x.engine")
    assert done.exit_code == 0, done.output
    monkeypatch.setattr(tensorrt, "audit_dump", with_one_in_fp16)
    done = build(exported("mini_xception"), *arguments, "-o", tmp_path / "y.engine")
    assert done.exit_code == 1, done.output
    assert "asked against got: 1 nodes differ" in done.output
    assert "Conv 'module1.left.0.point_conv': asked int8, got fp16" in done.output
    assert (tmp_path / "y.engine").is_file()


def test_errors_pass_through(exported, tmp_path):
    done = build(exported("lenet"), "--fp16", "--target", "tensorrt", "--onnx-only", "-o", tmp_path / "x.onnx")
    assert isinstance(done.exception, EdgeferError)
    assert "which TensorRT is the file for?" in done.exception.message

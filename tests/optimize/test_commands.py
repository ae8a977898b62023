"""The commands over sensitivity, calibration tables, methods and budgets."""

import json
import sys

import onnx
import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.errors import EdgeferError
from edgefer.graph.onnx_file import metadata_of
from edgefer.manifest import read_manifest


@pytest.fixture(scope="module")
def data(faces, tmp_path_factory):
    return faces.origin


def run(*arguments):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_sensitivity_prints_json_and_draws(model, data, tmp_path):
    pytest.importorskip("matplotlib")
    result = done(
        *("sensitivity", model, "--calib", data, "--calib-faces", 30, "--limit", 30, "--json"),
        *("--png", tmp_path / "layers.png"),
    )
    found = json.loads(result.stdout)
    assert {layer["layer"] for layer in found["layers"]} == {"Conv_0", "Conv_1", "Conv_2", "Gemm_0"}
    assert (tmp_path / "layers.png").stat().st_size > 1000


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_work(model, data, tmp_path, monkeypatch):
    monkeypatch.setattr("edgefer.optimize.sensitivity.sensitivity", lambda *_, **__: pytest.fail("it was measured"))
    command = ("sensitivity", model, "--calib", data, "--png")
    assert "x.jpg does not end in .png" in run(*command, "x.jpg").exception.message
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    fault = run(*command, tmp_path / "x.png").exception
    assert isinstance(fault, EdgeferError)
    assert "edgefer[plots]" in fault.hint


def test_calibrate_then_build_without_faces(model, data, tmp_path):
    table, engine = tmp_path / "t.jsonl", tmp_path / "x.onnx"
    result = done("calibrate", model, "--calib", data, "--per-class", 10, "-o", table)
    assert "tensors over 30 faces" in result.stdout
    assert "for tiny with weights aaaaaaaaaaaa…" in result.stdout
    done("build-engine", model, "--int8", "--calibration-table", table, "-o", engine)
    assert read_manifest(engine).calibration.n == 30


def test_the_model_is_not_overwritten_with_its_ranges(model, data):
    before = model.read_bytes()
    result = run("calibrate", model, "--calib", data, "-o", model)
    assert "does not end in .jsonl" in str(result.exception)
    assert model.read_bytes() == before


def test_tables_and_methods_for_tensorrt(model, data, tmp_path):
    """What a table holds hangs on no target; and of the methods one is chosen, before the layers are."""
    table, file = tmp_path / "t.jsonl", tmp_path / "x.onnx"
    target = ("--int8", "--target", "tensorrt", "--for", "jetpack6", "--onnx-only", "-o", file)
    done("calibrate", model, "--calib", data, "--calib-faces", 30, "-o", table)
    done(
        "build-engine", model, *target, "--calibration-table", table, "--method", "minmax", "--corrections", "equalise"
    )
    how = metadata_of(onnx.load(file))
    assert '"method": "minmax"' in how["edgefer.quantisation"]
    faces = ("--calib", data, "--calib-faces", 30, "--corrections", "none", "--max-drop", 100)
    result = done("build-engine", model, *target, *faces, "--method", "auto")
    for method in ("minmax", "percentile", "mse", "entropy"):  # the chosen one too, beside its plans
        assert f"TensorRT INT8 (tensorrt), {method}  " in result.stdout


def test_corrections_and_max_drop_reach_the_build(model, data, tmp_path):
    engine = tmp_path / "x.onnx"
    common = ("build-engine", model, "--int8", "--calib", data, "--calib-faces", 30, "-o", engine)
    done(*common, "--corrections", "none")
    assert "equalise" not in read_manifest(engine).rewrites
    done(*common)
    assert read_manifest(engine).rewrites["equalise"] == 3
    result = done(*common, "--max-drop", 100)
    assert "No layer had to be kept out of INT8" in result.stdout
    assert "0 of 4 layers in float" in result.stdout  # the front


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--int8", "--calib", "DATA", "--calibration-table", "t.jsonl"), "both set the ranges"),
        (("--fp32", "--calibration-table", "t.jsonl"), "--calibration-table has no effect with --fp32"),
        (("--fp32", "--corrections", "none"), "--corrections has no effect with --fp32"),
        (("--int8", "--map", "a=b"), "--map has no effect without --calib"),
        (("--int8", "--votes", "npz", "--seed", "3"), "--seed has no effect without --calib"),
    ],
)
def test_options_without_effect(model, tmp_path, flags, message):
    result = run("build-engine", model, *flags, "-o", tmp_path / "x.onnx")
    assert isinstance(result.exception, EdgeferError)
    assert message in result.exception.message
    assert list(tmp_path.iterdir()) == []


def test_auto_without_faces_says_so(model, tmp_path):
    result = run("build-engine", model, "--auto", "-o", tmp_path / "x.onnx")
    assert isinstance(result.exception, EdgeferError)
    assert "--auto needs faces to set ranges and to evaluate" in result.exception.message

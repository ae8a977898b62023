"""Weights whose contract is test_time_flip, from import to engines: a face and its horizontal flip get one answer."""

import numpy as np
import pytest
from click.testing import CliRunner

import edgefer
from edgefer.cli import cli
from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.deploy.inspect import inspect_file, rows
from edgefer.engines.load import load_baseline
from edgefer.optimize.candidates import variants_of
from edgefer.optimize.prepared import prepare_model
from edgefer.runtimes import CPU, for_target


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    path = tmp_path_factory.mktemp("synthetic") / "faces.npz"
    save_npz(path, *synthetic_faces(400, seed=0), FER2013, splits=["train"] * 400)
    return open_dataset(path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "test_time_flip.safetensors"
    arguments = ["import-weights", "mini_xception", "--model", "mini_xception", "--test-time-flip", "-o", str(path)]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("neutral; test-time flip\n")
    return path


@pytest.fixture(scope="module")
def model(weights):
    return edgefer.export("mini_xception", weights.with_name("model.onnx"), weights=weights).path


def test_pytorch_and_the_export_are_the_mean_of_both_sides(weights, model, faces):
    images = faces.images(np.arange(12))
    with load_baseline("mini_xception") as plain:
        sides = plain.logits(images), plain.logits(np.ascontiguousarray(images[:, :, ::-1]))
    assert np.abs(sides[0] - sides[1]).max() > 0.1
    wanted = (sides[0] + sides[1]) / 2
    with load_baseline(weights) as baseline:
        np.testing.assert_allclose(baseline.logits(images), wanted, atol=1e-4)
    edgefer.build_engine(model, model.with_name("float.onnx"), precision="fp32")
    with edgefer.load_engine(model.with_name("float.onnx")) as engine:
        for batch in (1, 5, 12):
            np.testing.assert_allclose(engine.logits(images[:batch]), wanted[:batch], atol=1e-4)
    assert dict(rows(inspect_file(model)))["test-time flip"].startswith(
        "logits are the mean over a face and its horizontal flip"
    )


@pytest.mark.parametrize("variant", [v for runtime in for_target(CPU) for v in variants_of("int8", runtime)], ids=str)
def test_int8_too(model, weights, faces, variant, capsys):
    prepared = prepare_model(model, "int8", edgefer.Quantisation(faces, faces=64))
    assert "no INT8 rule" not in capsys.readouterr().err  # the mean is the network's output: float by rule
    built = prepared.build(variant)
    got = {(layer.op, layer.got) for layer in built.precision.layers}
    assert {("Conv", "int8"), ("ReduceMean", "fp32")} <= got
    images = faces.images(np.arange(100))
    with built.open(prepared.contract) as engine, load_baseline(weights) as baseline:
        logits, wanted = engine.logits(images), baseline.logits(images)
        np.testing.assert_allclose(engine.logits(np.ascontiguousarray(images[:, :, ::-1])), logits, atol=1e-4)
    assert np.abs(logits - wanted).max() < 0.2 * np.abs(wanted).max()
    assert (logits.argmax(axis=1) == wanted.argmax(axis=1)).mean() > 0.9

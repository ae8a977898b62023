"""Whether an engine runs here, why not, and what is typed to have one that does."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import edgefer
from edgefer.cli import cli
from edgefer.doctor import advice, probe
from edgefer.doctor.advice import engine_verdict
from edgefer.golden import Golden
from edgefer.manifest import Manifest, Precision, write_engine
from tests.doctor.machines import NO_DRIVER, WHOLE, machine
from tests.optimize.conftest import contract, network, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A float model, and an engine made of it."""
    folder = tmp_path_factory.mktemp("engines")
    write_model(folder / "model.onnx", network(), contract())
    edgefer.build_engine(folder / "model.onnx", folder / "face.onnx", precision="fp32")
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The packages of this machine are asked in another file's tests."""
    monkeypatch.setattr(probe, "probe_software", lambda: (NO_DRIVER, {"onnxruntime": WHOLE["onnxruntime"]}))


def plan(path, **changes):
    """A fake TensorRT engine with its manifest."""
    about = contract()
    faces = np.zeros((1, *about.face_shape), np.uint8)
    settings = {
        **{"model_sha256": "ab" * 32, "weights_sha256": "", "target": "tensorrt", "runtime": "tensorrt"},
        **{"runtime_version": "10.3.0", "instruction_set": (), "contract": about, "device": "Orin, SM87"},
        **{"precision": Precision("int8+fp16", "int8+fp16"), "calibration": None},
        "golden": Golden(faces, np.ones((1, 3), np.float32), {"tensorrt": 0.1}),
    }
    write_engine(path, b"ftrt" + bytes(40), Manifest(**{**settings, **changes}))
    return path


def run(*arguments):
    return CliRunner().invoke(cli, ["doctor", *map(str, arguments)], standalone_mode=False)


def test_an_engine_that_runs(folder):
    done = run(folder / "face.onnx")
    assert (done.return_value, done.exception) == (None, None)
    assert "FP32 for onnxruntime" in done.output
    assert "runs here: yes, it answers its golden faces as when it was built" in done.output
    exported = run(folder / "model.onnx").output
    assert "without a manifest\nruns here: yes, and there are no golden faces" in exported


def test_an_engine_of_tensorrt_on_a_machine_without_a_gpu(tmp_path):
    done = run(plan(tmp_path / "x.engine"), "--json")
    assert done.return_value == 1
    verdict = json.loads(done.output)
    assert set(verdict) == {"schema", "engine", "what", "runs", "why", "hint", "install", "build"}
    assert verdict["what"] == "INT8+FP16 for tensorrt 10.3.0 on Orin, SM87"
    assert "there is no NVIDIA driver here" in verdict["why"]
    assert verdict["build"] == f"edgefer build-engine model.onnx --int8 --calib DATA -o {tmp_path / 'x.onnx'}"


def test_a_changed_engine(folder, tmp_path):
    for name in ("face.onnx", "face.onnx.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "face.onnx").write_bytes((folder / "face.onnx").read_bytes()[:-5])
    done = run(tmp_path / "face.onnx")
    assert done.return_value == 1
    assert "not the engine its manifest describes" in done.output
    assert "to make one that runs here:\n  edgefer build-engine model.onnx --fp32" in done.output


def test_an_engine_without_a_manifest(tmp_path):
    (tmp_path / "x.engine").write_bytes(b"ftrt" + bytes(40))
    done = run(tmp_path / "x.engine")
    assert done.return_value == 1
    assert "without a manifest" in done.output
    assert "has no manifest: there is no" in done.output


@pytest.mark.parametrize(
    ("name", "said"), [("none.onnx", "there is no engine"), ("x.safetensors", "is not an engine"), ("x.txt", "neither")]
)
def test_what_is_no_engine_at_all(tmp_path, name, said):
    if name != "none.onnx":
        (tmp_path / name).write_text("x")
    with pytest.raises(edgefer.EdgeferError, match=said):
        engine_verdict(tmp_path / name, machine("jetpack6", WHOLE))


def test_a_runtime_that_kills_its_process(folder, tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    verdict = engine_verdict(folder / "face.onnx", machine("jetpack6", WHOLE))
    assert not verdict.runs
    assert verdict.why == "loading it failed: ended its process by SIGSEGV"


def problem(monkeypatch, message="it is another GPU's"):
    monkeypatch.setattr(advice, "engine_verdict", lambda path: {"problem": {"message": message, "hint": None}})


def test_a_jetson_is_told_to_build_with_tensorrt_from_the_model_beside(folder, tmp_path, monkeypatch):
    problem(monkeypatch)
    model = tmp_path / "exported.onnx"
    model.write_bytes((folder / "model.onnx").read_bytes())
    sha256 = edgefer.atomic.sha256_file(model)
    engine = plan(tmp_path / "x.engine", model_sha256=sha256)
    verdict = engine_verdict(engine, machine("jetpack6", WHOLE))
    line = f"edgefer build-engine {model} --int8 --fp16 --calib DATA --target tensorrt -o {engine}"
    assert (verdict.build, verdict.install) == (line, ())


def test_what_is_missing_comes_first(tmp_path, monkeypatch):
    problem(monkeypatch)
    verdict = engine_verdict(plan(tmp_path / "x.engine"), machine("jetpack6", {"onnxruntime": WHOLE["onnxruntime"]}))
    assert verdict.install[1] == "python3 -m venv --system-site-packages edgefer-env"
    openvino = plan(tmp_path / "y.onnx", runtime="openvino", target="cpu", precision=Precision("int8", "int8"))
    verdict = engine_verdict(openvino, machine("desktop", {"onnxruntime": WHOLE["onnxruntime"]}, NO_DRIVER))
    assert verdict.install == ("pip install 'edgefer[openvino]'",)
    assert verdict.build == f"edgefer build-engine model.onnx --int8 --calib DATA -o {openvino}"


def test_it_does_not_overwrite_the_model_that_it_builds_from(folder, tmp_path, monkeypatch):
    problem(monkeypatch)
    (tmp_path / "x.onnx").write_bytes((folder / "model.onnx").read_bytes())
    engine = plan(tmp_path / "x.engine", model_sha256=edgefer.atomic.sha256_file(tmp_path / "x.onnx"))
    verdict = engine_verdict(engine, machine("desktop", WHOLE, NO_DRIVER))
    assert verdict.build.endswith(f"-o {tmp_path / 'x.int8.onnx'}")

"""A package that is missing is named before any work: before data are read, which here do not exist."""

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data.sources import FileSource
from edgefer.errors import EdgeferError
from edgefer.graph.export import export
from edgefer.optimize.build import build_engine
from edgefer.quickstart import run as quickstart


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    export("lenet", folder / "m.onnx", simplify=False)
    build_engine(folder / "m.onnx", folder / "e.onnx", precision="fp32")
    return folder / "m.onnx"


COMMANDS = {
    "build-engine M --int8 --calib nodata -o x.onnx": "onnxruntime",
    "build-engine M --int8 --runtime openvino --calib nodata -o x.onnx": "openvino",
    "build-engine M --auto --calib nodata -o x.onnx": "onnxruntime",
    "build-engine M --int8 --target tensorrt --calib nodata -o x.engine": "tensorrt",
    "calibrate M --calib nodata -o x.jsonl": "onnxruntime",
    "sensitivity M --calib nodata": "onnxruntime",
    "sweep E --data nodata": "onnxruntime",
    "bench E --baseline M --data nodata": "onnxruntime",
    "bench E --baseline lenet --data nodata": "torch",
    "contract check M --data nodata": "onnxruntime",
    "deploy bundle M --calib nodata -o x": "onnxruntime",
    "train --model lenet --data nodata -o x.safetensors --plots x": "matplotlib",
    "train --model lenet --data nodata -o x.safetensors --tensorboard x": "tensorboardX",
    "export --model lenet -o x.onnx": "onnxruntime",
}


@pytest.mark.parametrize(("line", "package"), COMMANDS.items())
def test_a_missing_package_is_named_before_any_work(line, package, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    names = {"M": str(model), "E": str(model.with_name("e.onnx"))}
    with pytest.raises(EdgeferError, match=f"needs the Python package '{package}'") as caught:
        CliRunner().invoke(cli, [names.get(word, word) for word in line.split()], catch_exceptions=False)
    assert "pip install 'edgefer[" in caught.value.hint or "JetPack" in caught.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("package", ["cv2", "onnxruntime"])
def test_quickstart_names_a_missing_package_before_it_trains(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EdgeferError, match=f"needs the Python package '{package}'"):
        quickstart(tmp_path / "q", data=None, model="lenet", seconds=1, seed=0)
    assert not (tmp_path / "q").exists()


def test_without_opencv_images_are_not_taken_for_damaged(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(EdgeferError, match="reading image files needs the Python package 'cv2'"):
        FileSource([Path("a.png")])

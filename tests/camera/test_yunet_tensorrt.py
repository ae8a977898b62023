"""YuNet in TensorRT: built for real by TensorRT-RTX; the rest over fakes, since there is no GPU."""

import ctypes
import importlib.util

import onnx
import pytest

from edgefer.camera import yunet_tensorrt
from edgefer.camera.detectors import open_detector
from edgefer.camera.yunet import resized
from edgefer.engines.tensorrt.build import SerialisedEngine, build_static
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.driver import Device
from edgefer.errors import EdgeferError


@pytest.fixture
def yunet_file(shared):
    path = shared / "detectors" / "face_detection_yunet_2023mar.onnx"
    if not path.is_file():
        pytest.skip("YuNet is not here: no ../shared/detectors beside the project")
    return path


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="there is a GPU here")
def test_without_a_gpu_it_is_refused_at_once_with_what_works(yunet_file):
    with pytest.raises(EdgeferError, match="YuNet cannot run in TensorRT: there is no NVIDIA driver here") as fault:
        open_detector(str(yunet_file), runtime="tensorrt")
    assert "--detector-runtime onnxruntime" in fault.value.hint


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx")
def test_tensorrt_s_compiler_takes_the_network(yunet_file):
    built = build_static(resized(onnx.load(yunet_file), 320, 448), rtx=True)
    assert len(built.plan) > 100_000
    assert built.device == "SM86"
    assert "Int8" not in built.layers


def test_an_engine_is_built_once_for_a_model_a_gpu_and_a_version(tmp_path, monkeypatch, capsys):
    built, opened = [], []

    def fake_build(model):
        built.append(model)
        return SerialisedEngine(b"a fake plan", target_of("10.3.0"), "", "")

    place = [(Device("Orin", "SM87", True), target_of("10.3.0"))]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(yunet_tensorrt, "place", lambda: place[0])
    monkeypatch.setattr(yunet_tensorrt, "build_static", fake_build)
    monkeypatch.setattr(yunet_tensorrt, "TensorRtSession", lambda path: opened.append(path.read_bytes()))
    for model in (b"one", b"one", b"two"):
        yunet_tensorrt.open_built(model)
    place[0] = (place[0][0], target_of("10.16.1"))
    yunet_tensorrt.open_built(b"one")
    assert built == [b"one", b"two", b"one"]
    assert opened == [b"a fake plan"] * 4
    assert len(list((tmp_path / "edgefer").glob("yunet-*.engine"))) == 3
    assert capsys.readouterr().err.count("building YuNet for Orin, SM87 with TensorRT") == 3

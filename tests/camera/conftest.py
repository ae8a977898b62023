"""Synthetic faces in synthetic rooms, an engine that tells bright from dark, and fakes of what has to be plugged in."""

import atexit
import functools
import shutil
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefer.camera.detection import Detection, Square
from edgefer.camera.detectors import YUNET_FILE
from edgefer.camera.frame import Frame, LabelledFrame
from edgefer.contract import Contract, Normalisation
from edgefer.data import synthetic_faces
from edgefer.engines.classifier import Classifier
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.graph.onnx_file import serialise, stamp

HAAR = hasattr(cv2, "CascadeClassifier")
"""OpenCV 4 has the cascade; with 5, tests that look for faces take YuNet where it lies beside the project."""

YUNET = Path(__file__).resolve().parents[3] / "shared" / "detectors" / YUNET_FILE
DETECTOR = "haar" if HAAR else str(YUNET)
needs_detector = pytest.mark.skipif(
    not HAAR and not YUNET.is_file(), reason="OpenCV 5 has no cascade, and there is no YuNet in ../shared/detectors"
)


@functools.cache
def empty_cache():
    """A user's cache without anything in it, but for YuNet where OpenCV has no detector of its own."""
    folder = Path(tempfile.mkdtemp(prefix="edgefer-cache-"))
    atexit.register(shutil.rmtree, folder)
    if not HAAR and YUNET.is_file():
        (folder / "edgefer").mkdir()
        shutil.copy(YUNET, folder / "edgefer")
    return folder


CONTRACT = Contract(("dark", "medium", "bright"), 24, 24, 1, Normalisation(), "brightness")


def brightness_model(contract=CONTRACT, batch="N", sharpness=16.0):
    """Logits that are greatest where the mean grey is 0, 128 or 255: −sharpness · (mean − level)²."""
    size = contract.height * contract.width * contract.channels
    levels = np.array([0.0, 0.5, 1.0], np.float32)
    weight = np.repeat(2 * sharpness * levels[None], size, axis=0).astype(np.float32) / size / 255
    nodes = [
        helper.make_node("Cast", ["faces"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["logits"]),
    ]
    faces = helper.make_tensor_value_info("faces", TensorProto.UINT8, [batch, *contract.face_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    constants = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(-sharpness * levels**2, "b")]
    graph = helper.make_graph(nodes, "brightness", [faces], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    stamp(model, contract, "fp32")
    return serialise(model)


@pytest.fixture
def classifier():
    content = brightness_model()
    with Classifier(
        OnnxRuntimeSession(content), CONTRACT, precision="fp32", size_bytes=len(content), name="brightness"
    ) as opened:
        yield opened


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "brightness.onnx"
    path.write_bytes(brightness_model())
    return path


def room(width=320, height=240):
    return _room(width, height).copy()


@functools.cache
def _room(width, height):
    down, across = np.mgrid[0:height, 0:width]
    grey = (110 + 40 * across / width + 20 * down / height)[:, :, None]
    return np.clip(grey + np.random.default_rng(0).normal(0, 2, (height, width, 3)), 0, 255).astype(np.uint8)


@functools.cache
def synthetic(side):
    return synthetic_faces(5, 3, side)[0]


def with_face(picture, x, y, side, index=1):
    """A synthetic face of ``side`` pixels with its centre at x, y."""
    face = synthetic(side)[index].reshape(side, side, 1)
    weight = np.zeros((side, side), np.float32)
    rim = max(2, side // 16)
    weight[rim:-rim, rim:-rim] = 1
    weight = cv2.GaussianBlur(weight, (0, 0), rim / 2)[:, :, None]
    left, top = round(x - side / 2), round(y - side / 2)
    part = picture[top : top + side, left : left + side]
    part[:] = (part * (1 - weight) + face * weight).astype(np.uint8)
    return picture


@pytest.fixture
def video(tmp_path):
    """Thirty frames of a synthetic face that moves by four pixels a frame."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
    for index in range(30):
        writer.write(with_face(room(), 100 + 4 * index, 120, 120))
    writer.release()
    return path


def detection(x, y, size=50.0, score=0.9):
    return Detection((x, y, size, size), score, Square(x + size / 2, y + size / 2, size))


class FakeDetector:
    """Finds what it is told to: ``script(call number, pixels)`` gives detections."""

    name = "fake"
    confirmations = 1

    def __init__(self, script, seconds=0.0):
        self._script, self._seconds, self.calls = script, seconds, 0

    def detect(self, pixels):
        time.sleep(self._seconds)
        self.calls += 1
        return self._script(self.calls - 1, pixels)

    def close(self):
        pass


class FakeSource:
    """Gives ``frames`` pictures of ``level``, at ``fps`` if live; then ends, or raises ``fault``."""

    stills = False
    name = "fake"

    def __init__(self, frames, *, live=False, fps=100.0, level=200, fault=None, size=(120, 160)):
        self.live, self.fps, self._left, self._fault = live, fps, frames, fault
        self._picture = np.full((*size, 3), level, np.uint8)
        self._closed = threading.Event()

    def read(self):
        if self._closed.is_set():
            return None
        if not self._left:
            if self._fault is not None:
                raise self._fault
            return None
        if self.live:
            time.sleep(1 / self.fps)
        self._left -= 1
        return self._picture.copy()

    def close(self):
        self._closed.set()


class KeepingSink:
    """Remembers what was seen; ``stop_after`` frames it asks for the end."""

    def __init__(self, wants_picture=False, stop_after=None, fault=None):
        self.wants_picture, self._stop, self._fault = wants_picture, stop_after, fault
        self.seen, self.closed = [], False

    def write(self, seen):
        if self._fault is not None:
            raise self._fault
        self.seen.append(seen)
        return self._stop is None or len(self.seen) < self._stop

    def close(self):
        self.closed = True


def seen(number=0, *, captured=0.0, level=90, size=(48, 64), faces=(), clock=1000.5):
    frame = Frame(number, np.full((*size, 3), level, np.uint8), number / 30, captured, clock)
    return LabelledFrame(frame, tuple(faces), 0, True, 1.0, 2.0, captured + 0.012)

import ctypes
import hashlib
import http.server
import importlib.util
import threading

import cv2
import numpy as np
import onnx
import pytest

from edgefer.camera import detectors
from edgefer.camera.detectors import (
    SIDE_OF_BOX,
    STRIDES,
    YUNET_FILE,
    YUNET_SHA256,
    NoDetectorError,
    YuNet,
    decode,
    open_detector,
    resized,
    tensorrt_opener,
    yunet_file,
)
from edgefer.engines.tensorrt import build, compat, cuda, run
from edgefer.engines.tensorrt.build import SerialisedEngine, build_plan
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.cuda import Device
from edgefer.engines.tensorrt.options import DEFAULTS
from edgefer.errors import EdgeferError

from .conftest import DETECTOR, HAAR, brightness_model, needs_detector, room, with_face


@pytest.fixture
def yunet_model(shared):
    path = shared / "detectors" / "face_detection_yunet_2023mar.onnx"
    if not path.is_file():
        pytest.skip("YuNet is not here: no ../shared/detectors beside the project")
    return path


@needs_detector
def test_it_finds_a_synthetic_face_where_it_is():
    picture = with_face(room(), 170, 120, 140)
    found = open_detector(DETECTOR).detect(picture)
    assert len(found) == 1
    assert found[0].crop.x == pytest.approx(170, abs=14)
    assert found[0].crop.y == pytest.approx(120, abs=14)
    assert 98 < found[0].crop.side < 168
    assert open_detector(DETECTOR).detect(room()) == []


def test_opencv_5_has_no_cascades_and_that_is_said(monkeypatch):
    monkeypatch.delattr(detectors.cv2, "CascadeClassifier", raising=False)
    with pytest.raises(EdgeferError, match="has no Haar cascades") as fault:
        open_detector("haar")
    assert "opencv-python<5" in fault.value.hint
    assert "--detector yunet" in fault.value.hint


@pytest.mark.skipif(not HAAR, reason="OpenCV 5 has no cascades in any system")
def test_a_system_s_opencv_without_cascades_names_the_package(monkeypatch):
    monkeypatch.setattr(detectors, "CASCADE", "none.xml")
    with pytest.raises(EdgeferError, match=r"none\.xml is not where OpenCV keeps it") as fault:
        open_detector("haar")
    assert "apt install opencv-data" in fault.value.hint


def test_auto_takes_yunet_where_it_is_kept_else_haar_and_downloads_nothing(monkeypatch, tmp_path, yunet_model):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(detectors.urllib.request, "urlopen", lambda *_, **__: pytest.fail("nobody asked for it"))
    if HAAR:
        assert open_detector("auto").name == "haar"
    with pytest.raises(EdgeferError, match="openvino can run YuNet only, and YuNet is not in"):
        open_detector("auto", runtime="openvino")
    kept = tmp_path / "edgefer" / YUNET_FILE
    kept.parent.mkdir()
    kept.write_bytes(yunet_model.read_bytes())
    assert open_detector("auto").name == "yunet"
    kept.write_bytes(b"damaged")
    monkeypatch.delattr(detectors.cv2, "CascadeClassifier", raising=False)
    with pytest.raises(NoDetectorError, match="no face detector here: OpenCV .* has no Haar cascades.*YuNet is not in"):
        open_detector("auto")


SIZE = (64, 96)


def empty_outputs():
    found = {}
    for stride in STRIDES:
        cells = (SIZE[0] // stride) * (SIZE[1] // stride)
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            found[f"{kind}_{stride}"] = np.zeros((1, cells, width), np.float32)
    return found


def test_a_cell_is_decoded_by_its_place_and_stride():
    outputs = empty_outputs()
    cell = 2 * (SIZE[1] // 16) + 3  # row 2, column 3 of stride 16
    outputs["cls_16"][0, cell], outputs["obj_16"][0, cell] = 0.81, 1.0
    outputs["bbox_16"][0, cell] = [0.5, -0.25, np.log(2), np.log(3)]
    outputs["kps_16"][0, cell] = [0, 0, 1, 0, 0.5, 0.5, 0, 1, 1, 1]
    outputs["cls_8"][0, 5], outputs["obj_8"][0, 5] = 0.3, 0.3
    boxes, scores, points = decode(outputs, SIZE, 0.5)
    np.testing.assert_allclose(scores, [0.9], rtol=1e-6)
    np.testing.assert_allclose(boxes, [[56 - 16, 28 - 24, 32, 48]], rtol=1e-5)
    np.testing.assert_allclose(points[0], [[48, 32], [64, 32], [56, 40], [48, 48], [64, 48]])


def test_scores_outside_0_to_1_are_clipped_and_nothing_found_is_empty():
    outputs = empty_outputs()
    outputs["cls_32"][0, 0], outputs["obj_32"][0, 0] = 7.0, 1.0
    _, scores, _ = decode(outputs, SIZE, 0.5)
    assert scores.tolist() == [1.0]
    boxes, scores, points = decode(empty_outputs(), SIZE, 0.5)
    assert (boxes.shape, scores.shape, points.shape) == ((0, 4), (0,), (0, 5, 2))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_finds_what_opencv_s_own_decoder_finds(shared, yunet_model, runtime):
    pytest.importorskip(runtime)
    picture = cv2.imread(str(shared / "data" / "astronaut.png"))
    expected = cv2.FaceDetectorYN.create(str(yunet_model), "", picture.shape[1::-1], 0.5, 0.3).detect(picture)[1]
    detector = YuNet(yunet_model, smallest=40, runtime=runtime)
    found = detector.detect(picture)
    detector.close()
    assert len(found) == len(expected) == 1
    np.testing.assert_allclose(found[0].box, expected[0, :4], atol=0.05)
    np.testing.assert_allclose(found[0].landmarks.ravel(), expected[0, 4:14], atol=0.05)
    assert found[0].score == pytest.approx(expected[0, 14], abs=1e-3)
    assert found[0].crop.side == pytest.approx(SIDE_OF_BOX * np.sqrt(expected[0, 2] * expected[0, 3]), rel=1e-3)


def test_boxes_are_in_pixels_of_the_picture_whatever_it_is_shrunk_to(yunet_model):
    picture = with_face(room(), 150, 120, 160)
    boxes = []
    for smallest in (40, 60, 80):
        detector = YuNet(yunet_model, smallest=smallest)
        boxes.append(detector.detect(picture)[0].box)
        detector.close()
    np.testing.assert_allclose(boxes[1], boxes[0], atol=18)
    np.testing.assert_allclose(boxes[2], boxes[0], atol=18)


def test_sessions_are_kept_for_a_few_sizes_only(yunet_model):
    detector = YuNet(yunet_model)
    for size in range(100, 700, 50):
        assert detector.detect(np.zeros((size, size, 3), np.uint8)) == []
    assert len(detector._sessions) == 4
    detector._session((2048, 3200))  # large ones push the others out: each keeps its memory
    detector._session((3200, 2048))
    assert list(detector._sessions) == [(3200, 2048)]
    detector.close()
    assert not detector._sessions


def test_a_runtime_that_is_not_here_is_said_at_once(yunet_model):
    with pytest.raises(EdgeferError, match="no runtime 'ncnn'") as fault:
        open_detector(str(yunet_model), runtime="ncnn")
    assert "onnxruntime" in fault.value.hint


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (None, "there is no face detector", "--detector haar"),
        (b"this is no ONNX file at all", "is not an ONNX file", "face_detection_yunet_2023mar.onnx"),
        (brightness_model(), "is not YuNet: its outputs are logits", "face_detection_yunet_2023mar.onnx"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, content, message, hint):
    path = tmp_path / "detector.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeferError) as fault:
        open_detector(str(path))
    assert message in fault.value.message
    assert "detector.onnx" in fault.value.message
    assert hint in fault.value.hint


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(EdgeferError, match="no face detector is called 'mtcnn'") as fault:
        open_detector("mtcnn")
    assert "yunet" in fault.value.hint
    with pytest.raises(EdgeferError, match="10 to 10,000 pixels wide, not 3") as fault:
        open_detector("haar", smallest=3)
    assert "--smallest-face" in fault.value.hint
    with pytest.raises(EdgeferError, match="runs in OpenCV, not in openvino"):
        open_detector("haar", runtime="openvino")
    for senseless in (float("inf"), float("nan")):
        with pytest.raises(EdgeferError, match="10 to 10,000 pixels wide"):
            open_detector("haar", smallest=senseless)


def has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="there is a GPU here")
def test_without_a_gpu_it_is_refused_at_once_with_what_works(yunet_model):
    with pytest.raises(EdgeferError, match="YuNet cannot run in TensorRT: there is no NVIDIA driver here") as fault:
        open_detector(str(yunet_model), runtime="tensorrt")
    assert "--detector-runtime onnxruntime" in fault.value.hint


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs tensorrt-rtx")
def test_tensorrt_s_compiler_takes_the_network(yunet_model):
    built = build_plan(resized(onnx.load(yunet_model), 320, 448), None, "fp32", DEFAULTS, rtx=True)
    assert len(built.plan) > 100_000
    assert built.device == "SM86"
    assert "Int8" not in built.layers


def test_an_engine_is_built_once_for_a_model_a_gpu_and_a_version(tmp_path, monkeypatch, capsys):
    built, opened = [], []

    def fake_build(model, *_):
        built.append(model)
        return SerialisedEngine(b"a fake plan", target_of("10.3.0"), "", "")

    version = ["10.3.0"]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(cuda, "find_gpu", lambda: Device("Orin", "SM87", True))
    monkeypatch.setattr(compat, "import_tensorrt", lambda rtx: (None, target_of(version[0])))
    monkeypatch.setattr(build, "build_plan", fake_build)
    monkeypatch.setattr(run, "TensorRtSession", lambda path: opened.append(path.read_bytes()))
    for model in (b"one", b"one", b"two"):
        tensorrt_opener()(model)
    version[0] = "10.16.1"
    tensorrt_opener()(b"one")
    assert built == [b"one", b"two", b"one"]
    assert opened == [b"a fake plan"] * 4
    assert len(list((tmp_path / "edgefer").glob("yunet-*.engine"))) == 3
    assert capsys.readouterr().err.count("building YuNet for Orin, SM87 with TensorRT") == 3


CONTENT = b"a small file that stands for YuNet"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A server with the file, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/yunet", asked
        server.shutdown()


def test_it_is_downloaded_once_and_said(site, capsys, tmp_path):
    url, asked = site
    path = yunet_file(url=url, sha256=SHA256)
    assert path == tmp_path / "cache" / "edgefer" / YUNET_FILE
    assert path.read_bytes() == CONTENT
    told = capsys.readouterr().err
    assert url in told
    assert "MIT" in told
    assert yunet_file(url=url, sha256=SHA256) == path
    assert len(asked) == 1
    assert capsys.readouterr().err == ""


def test_a_damaged_cache_is_fetched_again(site):
    url, asked = site
    path = yunet_file(url=url, sha256=SHA256)
    path.write_bytes(CONTENT[:10])
    assert yunet_file(url=url, sha256=SHA256).read_bytes() == CONTENT
    assert len(asked) == 2


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(site, tmp_path):
    with pytest.raises(EdgeferError) as fault:
        yunet_file(url=site[0])
    assert f"its sha256 is {SHA256[:16]}…, not {YUNET_SHA256[:16]}…" in fault.value.message
    assert "--detector FILE" in fault.value.hint
    assert not (tmp_path / "cache" / "edgefer" / YUNET_FILE).exists()


def test_without_a_network_the_file_can_be_given(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(EdgeferError, match="cannot be downloaded from http://127.0.0.1:9/x") as fault:
        yunet_file(url="http://127.0.0.1:9/x")
    assert "--detector haar" in fault.value.hint


def test_the_pinned_hash_is_that_of_the_file_of_opencv_s_zoo(shared):
    path = shared / "detectors" / YUNET_FILE
    if not path.is_file():
        pytest.skip("YuNet is not here: no ../shared/detectors beside the project")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == YUNET_SHA256

import cv2
import numpy as np
import pytest

from edgefer.camera.detectors import open_detector
from edgefer.camera.yunet import SIDE_OF_BOX, STRIDES, YuNet, decode
from edgefer.errors import EdgeferError

from .conftest import brightness_model, room, with_face

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


@pytest.fixture
def yunet_file(shared):
    path = shared / "detectors" / "face_detection_yunet_2023mar.onnx"
    if not path.is_file():
        pytest.skip("YuNet is not here: no ../shared/detectors beside the project")
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_it_finds_what_opencv_s_own_decoder_finds(shared, yunet_file, runtime):
    pytest.importorskip(runtime)
    picture = cv2.imread(str(shared / "data" / "astronaut.png"))
    expected = cv2.FaceDetectorYN.create(str(yunet_file), "", picture.shape[1::-1], 0.5, 0.3).detect(picture)[1]
    detector = YuNet(yunet_file, smallest=40, runtime=runtime)
    found = detector.detect(picture)
    detector.close()
    assert len(found) == len(expected) == 1
    np.testing.assert_allclose(found[0].box, expected[0, :4], atol=0.05)
    np.testing.assert_allclose(found[0].landmarks.ravel(), expected[0, 4:14], atol=0.05)
    assert found[0].score == pytest.approx(expected[0, 14], abs=1e-3)
    assert found[0].crop.side == pytest.approx(SIDE_OF_BOX * np.sqrt(expected[0, 2] * expected[0, 3]), rel=1e-3)


def test_boxes_are_in_pixels_of_the_picture_whatever_it_is_shrunk_to(yunet_file):
    picture = with_face(room(), 150, 120, 160)
    boxes = []
    for smallest in (40, 60, 80):
        detector = YuNet(yunet_file, smallest=smallest)
        boxes.append(detector.detect(picture)[0].box)
        detector.close()
    np.testing.assert_allclose(boxes[1], boxes[0], atol=18)
    np.testing.assert_allclose(boxes[2], boxes[0], atol=18)


def test_sessions_are_kept_for_a_few_sizes_only(yunet_file):
    detector = YuNet(yunet_file)
    for size in range(100, 700, 50):
        assert detector.detect(np.zeros((size, size, 3), np.uint8)) == []
    assert len(detector._sessions) == 4
    detector._session((2048, 3200))  # large ones push the others out: each keeps its memory
    detector._session((3200, 2048))
    assert list(detector._sessions) == [(3200, 2048)]
    detector.close()
    assert not detector._sessions


def test_a_runtime_that_is_not_here_is_said_at_once(yunet_file):
    with pytest.raises(EdgeferError, match="no runtime 'ncnn'") as fault:
        open_detector(str(yunet_file), runtime="ncnn")
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

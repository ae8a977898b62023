import cv2
import numpy as np
import pytest

from edgefer.camera.detection import Detection, Square, cut, cut_all, overlaps, suppress
from edgefer.contract import Contract, Normalisation
from edgefer.faces import prepare

from .conftest import room, with_face


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0.0, 0, 10, 10], [100, 100, 5, 5]])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [20, 0, 10, 10]])
    np.testing.assert_allclose(overlaps(boxes, others), [[1, 50 / 150, 0], [0, 0, 0]])


def test_of_boxes_that_overlap_the_best_remains():
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 10, 10], [50, 0, 10, 10], [6, 0, 10, 10]])
    assert suppress(boxes, np.array([0.7, 0.9, 0.8, 0.6]), 0.3) == [1, 2]
    assert suppress(boxes, np.array([0.7, 0.9, 0.8, 0.6]), 0.5) == [1, 2, 3]
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.3) == []


def test_crop_and_landmarks_move_and_grow_with_the_box():
    points = np.array([[12, 14], [18, 14], [15, 17], [13, 20], [17, 20]], np.float32)
    face = Detection((10, 10, 10, 20), 0.9, Square(15, 21, 12, 5.0), points)
    moved = face.moved((115, 120), (20, 40))
    assert moved.box == (105, 100, 20, 40)
    assert moved.crop == Square(115, pytest.approx(122), 24, 5.0)
    np.testing.assert_allclose(moved.landmarks[0], [109, 108])
    same = face.moved(face.centre, (10, 20))
    assert same.crop == face.crop
    np.testing.assert_allclose(same.landmarks, points)


def contract(size=48, channels=1, margin=0.0):
    norm = Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels)
    return Contract(("a", "b"), size, size, channels, norm, "none", margin)


PICTURE = cv2.GaussianBlur(with_face(room(), 160, 120, 120), (0, 0), 2)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_a_level_face_is_cut_by_prepare(margin):
    wanted = contract(margin=margin)
    face = cut(PICTURE, Square(160, 120, 100, 1.0), wanted)
    np.testing.assert_array_equal(face, prepare(PICTURE[:, :, ::-1], wanted, (110, 70, 100, 100)))


def test_colours_are_turned_from_bgr_to_rgb():
    blue = np.zeros((60, 60, 3), np.uint8)
    blue[:, :, 0] = 200
    for angle in (0.0, 30.0):
        face = cut(blue, Square(30, 30, 20, angle), contract(8, channels=3))
        assert (face == [0, 0, 200]).all()


@pytest.mark.parametrize("angle", [-25.0, -5.0, 4.0, 20.0])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_a_tilted_face_comes_out_as_it_would_upright(angle, margin):
    turn = cv2.getRotationMatrix2D((159.5, 119.5), -angle, 1.0)  # negative: clockwise as seen
    tilted = cv2.warpAffine(PICTURE, turn, (320, 240), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    upright = cut(PICTURE, Square(160, 120, 90), contract(margin=margin)).astype(int)
    levelled = cut(tilted, Square(160, 120, 90, angle), contract(margin=margin)).astype(int)
    as_is = cut(tilted, Square(160, 120, 90, angle), contract(margin=margin), level=False).astype(int)
    assert np.abs(levelled - upright).mean() < 1.0
    assert np.abs(levelled - upright).max() < 12
    assert np.abs(as_is - upright).mean() > 2 * np.abs(levelled - upright).mean()


def test_sampling_along_the_axes_agrees_with_prepare(monkeypatch):
    square = Square(160.0, 120.0, 100.0, 1e-6)
    straight = cut(PICTURE, square, contract())
    monkeypatch.setattr("edgefer.camera.detection.LEVEL_ENOUGH", 0.0)
    assert np.abs(cut(PICTURE, square, contract()).astype(int) - straight).max() <= 2


def test_faces_over_the_edge_repeat_it_and_none_is_an_empty_batch():
    square = Square(0, 0, 80, 10.0)
    batch = cut_all(PICTURE, [Detection((0, 0, 1, 1), 1.0, square)] * 2, contract())
    assert batch.shape == (2, 48, 48, 1)
    assert batch.std() > 0
    assert cut_all(PICTURE, [], contract()).shape == (0, 48, 48, 1)

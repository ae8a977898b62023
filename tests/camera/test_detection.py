import numpy as np
import pytest

from edgefer.camera.detection import Detection, Square, overlaps, suppress


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

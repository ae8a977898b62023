import pytest

from edgefer.camera import haar
from edgefer.camera.detectors import open_detector
from edgefer.errors import EdgeferError

from .conftest import room, with_face


def test_it_finds_a_drawn_face_where_it_is():
    picture = with_face(room(), 170, 120, 140)
    found = open_detector("haar").detect(picture)
    assert len(found) == 1
    assert found[0].crop.x == pytest.approx(170, abs=14)
    assert found[0].crop.y == pytest.approx(120, abs=14)
    assert 98 < found[0].crop.side < 168
    assert open_detector("haar").detect(room()) == []


def test_opencv_5_has_no_cascades_and_that_is_said(monkeypatch):
    monkeypatch.delattr(haar.cv2, "CascadeClassifier")
    with pytest.raises(EdgeferError, match="has no Haar cascades") as fault:
        open_detector("haar")
    assert "opencv-python<5" in fault.value.hint
    assert "--detector yunet" in fault.value.hint


def test_a_system_s_opencv_without_cascades_names_the_package(monkeypatch):
    monkeypatch.setattr(haar, "CASCADE", "none.xml")
    with pytest.raises(EdgeferError, match=r"none\.xml is not where OpenCV keeps it") as fault:
        open_detector("haar")
    assert "apt install opencv-data" in fault.value.hint

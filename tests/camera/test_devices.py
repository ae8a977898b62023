import pytest

from edgefer.camera import devices
from edgefer.camera.sources import open_source
from edgefer.errors import EdgeferError


def video4linux(folder, **names):
    for node, (name, index) in names.items():
        (folder / node).mkdir(parents=True)
        (folder / node / "name").write_text(f"{name}\n")
        (folder / node / "index").write_text(f"{index}\n")
    return folder


def test_a_missing_camera_names_those_that_exist(tmp_path):
    folder = video4linux(tmp_path, video0=("HD Webcam", 0), video1=("HD Webcam", 1), video10=("Capture", 0))
    assert devices.cameras(folder) == ["0 (HD Webcam)", "10 (Capture)"]
    fault = devices.no_camera(3, folder)
    assert fault.message == "there is no camera 3; this machine has 0 (HD Webcam), 10 (Capture)"
    assert fault.hint == "--source 0"
    held = devices.no_camera(0, folder)
    assert "another program may hold it" in held.message
    assert "fuser /dev/video0" in held.hint
    none = devices.no_camera(0, tmp_path / "nothing")
    assert none.message == "camera 0 does not open: this machine has no camera"
    assert "rtsp://" in none.hint


def test_opening_a_camera_that_is_not_there_is_that_error(monkeypatch, tmp_path):
    real = devices.no_camera
    monkeypatch.setattr(devices, "no_camera", lambda index: real(index, tmp_path))
    with pytest.raises(EdgeferError, match="camera 77 does not open: this machine has no camera"):
        open_source("77")


def test_a_webcam_is_a_number_a_device_or_a_link_to_one(tmp_path, monkeypatch):
    monkeypatch.setattr(devices.os.path, "realpath", {"/dev/v4l/by-id/usb": "/dev/video3"}.get)
    assert devices.webcam_index("/dev/v4l/by-id/usb") == 3
    monkeypatch.undo()
    found = [devices.webcam_index(text) for text in ("0", "12", "/dev/video7", "/dev/video", "²", "99999999999", "x")]
    assert found == [0, 12, 7, None, None, None, None]

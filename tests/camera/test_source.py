import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgefer.camera import source as module
from edgefer.camera.source import CaptureSource, open_source
from edgefer.errors import EdgeferError

from .conftest import room


class FakeCapture:
    """What OpenCV gives for a device: hands out ``frames``, then reports that there is none."""

    def __init__(self, frames, opens=True):
        self._frames, self._opens = list(frames), opens

    def isOpened(self):
        return self._opens

    def read(self):
        return (True, self._frames.pop(0)) if self._frames else (False, None)

    def get(self, _):
        return 0.0

    def release(self):
        pass


PICTURE = np.full((4, 6, 3), 7, np.uint8)
EMPTY = np.zeros((0, 0, 3), np.uint8)


def camera(captures, patience=5.0):
    left = iter(captures)
    refusal = EdgeferError("it does not open", hint="plug it in")
    return CaptureSource(
        lambda: FakeCapture(*next(left)), "the camera", live=True, refusal=lambda: refusal, patience=patience
    )


def test_a_video_is_read_to_its_end(video):
    source = open_source(str(video))
    assert (source.live, source.stills, source.fps) == (False, False, 30.0)
    frames = []
    while (pixels := source.read()) is not None:
        frames.append(pixels)
    source.close()
    assert len(frames) == 30
    assert frames[0].shape == (240, 320, 3)


def test_a_video_cut_short_plays_what_there_is(tmp_path):
    whole = tmp_path / "whole.mkv"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
    for _ in range(40):
        writer.write(room())
    writer.release()
    content = whole.read_bytes()
    short = tmp_path / "short.mkv"
    short.write_bytes(content[: len(content) // 2])
    source = open_source(str(short))
    count = 0
    while source.read() is not None:
        count += 1
    assert 5 < count < 35


def test_a_picture_is_one_frame_and_a_folder_is_all_of_them(tmp_path):
    for name, level in (("b.png", 2), ("a.jpg", 1), ("notes.txt", None)):
        if level is None:
            (tmp_path / name).write_text("not a picture, not asked for")
        else:
            cv2.imwrite(str(tmp_path / name), np.full((8, 8, 3), 100 * level, np.uint8))
    one = open_source(str(tmp_path / "b.png"))
    assert one.stills
    assert one.read().mean() == 200
    assert one.read() is None
    folder = open_source(str(tmp_path))
    assert [folder.read().mean() for _ in range(2)] == [100, 200]
    assert folder.read() is None


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("none.mp4", None, "there is no source", "webcam's number"),
        ("video.mp4", b"", "video.mp4 is empty", "mp4, avi"),
        ("video.mp4", b"this is a text, not a video", "video.mp4 is not a video that OpenCV can read", "mp4, avi"),
        ("folder", "folder", "has no pictures", ".jpg"),
    ],
)
def test_what_is_no_source_is_refused_by_name(tmp_path, name, content, message, hint):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(EdgeferError) as fault:
        open_source(str(path))
    assert message in fault.value.message
    assert name in fault.value.message
    assert hint in fault.value.hint


def test_a_text_named_jpg_is_refused_by_name(tmp_path):
    (tmp_path / "face.jpg").write_text("I am a text")
    with pytest.raises(EdgeferError, match=r"face\.jpg is not an image: it begins with the text 'I am a text'"):
        open_source(str(tmp_path / "face.jpg")).read()


@pytest.mark.parametrize(("text", "name"), [("csi://0", "csi://0"), ("videotestsrc ! appsink", "GStreamer pipeline")])
def test_what_needs_gstreamer_says_so(text, name):
    if module.has_gstreamer():
        pytest.skip("this OpenCV has GStreamer")
    with pytest.raises(EdgeferError) as fault:
        open_source(text)
    assert name in fault.value.message
    assert "needs GStreamer" in fault.value.message
    assert "--system-site-packages" in fault.value.hint


def test_a_size_is_asked_of_cameras_only(video):
    with pytest.raises(EdgeferError, match=r"--size asks a camera for its size, and .*video\.avi is none") as fault:
        open_source(str(video), size=(640, 480))
    assert "leave it out" in fault.value.hint


def test_a_video_on_a_web_server_ends(video):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=video.parent)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        source = open_source(f"http://127.0.0.1:{server.server_port}/{video.name}")
        assert not source.live
        assert [source.read() is None for _ in range(31)] == [False] * 30 + [True]
        source.close()
        server.shutdown()


def test_the_csi_pipeline_names_sensor_and_size():
    pipeline = module.csi_pipeline(1, (1920, 1080))
    assert "nvarguscamerasrc sensor-id=1" in pipeline
    assert "width=1920,height=1080" in pipeline
    assert "drop=true max-buffers=1" in pipeline
    with pytest.raises(EdgeferError, match="'csi://left' is no camera port"):
        open_source("csi://left")


def test_a_stream_where_nobody_answers_is_refused_without_its_password():
    with pytest.raises(EdgeferError) as fault:
        open_source("http://me:secret@127.0.0.1:9/stream")
    assert "http://…@127.0.0.1:9/stream" in fault.value.message
    assert "secret" not in str(fault.value)
    assert "VLC" in fault.value.hint


@pytest.mark.parametrize("text", ["rtsp://me:my secret@cam?x", "RTSP:/me:secret@cam", "me:secret@cam", "what://secret"])
def test_a_source_that_is_none_is_named_without_its_password(text):
    with pytest.raises(EdgeferError) as fault:
        open_source(text, size=(640, 480))
    assert "secret" not in str(fault.value)


def test_a_camera_that_drops_comes_back(capsys):
    source = camera([([PICTURE],), ([], False), ([],), ([PICTURE, PICTURE],)])
    for _ in range(3):
        np.testing.assert_array_equal(source.read(), PICTURE)
    assert source.reconnects == 1
    told = capsys.readouterr().err
    assert "gives no more frames: trying again for 5 s" in told
    assert "the camera is back" in told


def test_a_stream_over_http_comes_back_after_its_server_did():
    from edgefer.camera.sink import Stream

    ended = threading.Event()
    streams = [Stream("127.0.0.1", 0)]
    port = int(streams[0].address.rstrip("/").rsplit(":", 1)[1])

    def give():
        while not ended.wait(0.01):
            streams[-1].write(SimpleNamespace(frame=SimpleNamespace(pixels=room())))

    giver = threading.Thread(target=give, daemon=True)
    giver.start()
    source = open_source(f"http://127.0.0.1:{port}/stream")
    try:
        assert source.live
        assert source.read().shape == (240, 320, 3)
        streams[0].close()
        streams.append(Stream("127.0.0.1", port))
        for _ in range(200):
            assert source.read().shape == (240, 320, 3)
            if source.reconnects:
                break
        assert source.reconnects == 1
    finally:
        source.close()
        ended.set()
        giver.join(2)
        streams[-1].close()


def test_a_camera_that_dies_is_an_error_with_its_name():
    source = camera([([PICTURE],), *[([],)] * 20], patience=0.6)
    source.read()
    with pytest.raises(EdgeferError) as fault:
        source.read()
    assert fault.value.message == "the camera stopped after 1 frames and did not come back within 0.6 s"
    assert "--patience" in fault.value.hint


def test_frames_without_pixels_are_skipped_and_many_count_as_a_drop():
    source = camera([([EMPTY, EMPTY, PICTURE],)])
    np.testing.assert_array_equal(source.read(), PICTURE)
    source = camera([([EMPTY] * 100,), ([PICTURE],)])
    np.testing.assert_array_equal(source.read(), PICTURE)
    assert source.reconnects == 1


def test_closing_ends_a_wait_for_a_camera_at_once():
    source = camera([([PICTURE],), *[([],)] * 100], patience=60)
    source.read()
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(source.read()), daemon=True)
    waiting.start()
    time.sleep(0.1)
    start = time.monotonic()
    source.close()
    waiting.join(2)
    assert answers == [None]
    assert time.monotonic() - start < 0.5


def test_closing_does_not_wait_for_a_read_that_hangs():
    ended = threading.Event()

    class Hanging(FakeCapture):
        def read(self):
            return super().read() if self._frames else (ended.wait(10), None)

    source = CaptureSource(lambda: Hanging([PICTURE]), "it", live=True, refusal=lambda: EdgeferError("no"))
    source.read()
    threading.Thread(target=source.read, daemon=True).start()
    time.sleep(0.05)
    start = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - start < 0.5
    ended.set()


def test_a_device_that_does_not_open_is_its_refusal():
    with pytest.raises(EdgeferError, match="it does not open"):
        camera([([], False)])


def test_16_bit_and_grey_cameras_become_bgr():
    source = camera([([np.full((2, 2), 65535, np.uint16), np.full((2, 2, 1), 9, np.uint8)],)])
    assert source.read().tolist() == [[[255] * 3] * 2] * 2
    assert source.read().tolist() == [[[9] * 3] * 2] * 2


def video4linux(folder, **names):
    for node, (name, index) in names.items():
        (folder / node).mkdir(parents=True)
        (folder / node / "name").write_text(f"{name}\n")
        (folder / node / "index").write_text(f"{index}\n")
    return folder


def test_a_missing_camera_names_those_that_exist(tmp_path):
    folder = video4linux(tmp_path, video0=("HD Webcam", 0), video1=("HD Webcam", 1), video10=("Capture", 0))
    assert module.cameras(folder) == ["0 (HD Webcam)", "10 (Capture)"]
    fault = module.no_camera(3, folder)
    assert fault.message == "there is no camera 3; this machine has 0 (HD Webcam), 10 (Capture)"
    assert fault.hint == "--source 0"
    held = module.no_camera(0, folder)
    assert "another program may hold it" in held.message
    assert "fuser /dev/video0" in held.hint
    none = module.no_camera(0, tmp_path / "nothing")
    assert none.message == "camera 0 does not open: this machine has no camera"
    assert "rtsp://" in none.hint


def test_opening_a_camera_that_is_not_there_is_that_error(monkeypatch, tmp_path):
    real = module.no_camera
    monkeypatch.setattr(module, "no_camera", lambda index: real(index, tmp_path))
    with pytest.raises(EdgeferError, match="camera 77 does not open: this machine has no camera"):
        open_source("77")


def test_a_webcam_is_a_number_a_device_or_a_link_to_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module.os.path, "realpath", {"/dev/v4l/by-id/usb": "/dev/video3"}.get)
    assert module.webcam_index("/dev/v4l/by-id/usb") == 3
    monkeypatch.undo()
    found = [module.webcam_index(text) for text in ("0", "12", "/dev/video7", "/dev/video", "²", "99999999999", "x")]
    assert found == [0, 12, 7, None, None, None, None]

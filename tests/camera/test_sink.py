import json
import socket
import threading
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgefer.camera.frame import LabelledFace
from edgefer.camera.sink import Events, Stream, Window, check_display
from edgefer.camera.track import TrackedFace
from edgefer.errors import EdgeferError

from .conftest import detection, seen

LABELS = ("dark", "medium", "bright")
VALUES = np.array([0.1, 0.2, 0.7], np.float32)


def face(label="bright"):
    return LabelledFace(TrackedFace(3, detection(10, 20, 30.04), False), VALUES, label)


def test_events_are_a_line_a_face_and_can_be_followed(tmp_path):
    path = tmp_path / "events.jsonl"
    events = Events(str(path), LABELS, video=True)
    events.write(seen(0))
    events.write(seen(6, faces=[face(), face(label=None)]))
    first, second = (json.loads(line) for line in path.read_text().splitlines())  # before it is closed
    events.close()
    assert first == {
        "time": 1000.5,
        "frame": 6,
        "video_s": 0.2,
        "track": 3,
        "box": [10, 20, 30.0, 30.0],
        "score": 0.9,
        "predicted": False,
        "label": "bright",
        "probabilities": {"dark": 0.1, "medium": 0.2, "bright": 0.7},
        "age_ms": 12.0,
    }
    assert second["label"] is None


def test_events_go_to_stdout_by_a_dash_which_stays_open(capsys):
    events = Events("-", LABELS, video=False)
    events.write(seen(0, faces=[face()]))
    events.close()
    print("still open")
    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first)["video_s"] is None
    assert second == "still open"


def test_events_that_cannot_be_written_are_named(tmp_path):
    with pytest.raises(EdgeferError, match="cannot write .*: Is a directory") as fault:
        Events(str(tmp_path), LABELS, video=False)
    assert "--events" in fault.value.hint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_events_on_a_full_disk_are_an_error(capsys):
    events = Events("/dev/full", LABELS, video=False)
    with pytest.raises(EdgeferError, match="cannot write /dev/full: No space left on device"):
        events.write(seen(0, faces=[face()]))
    events.close()


@pytest.mark.parametrize("display", [{"DISPLAY": ":4711"}, {"WAYLAND_DISPLAY": "wayland-4711"}])
def test_a_display_that_is_gone_is_refused_before_opencv_aborts(monkeypatch, display):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(*display.popitem())
    with pytest.raises(EdgeferError) as fault:
        check_display()
    assert "--no-window" in fault.value.hint or "opencv-python-headless" in fault.value.hint


def test_a_window_without_a_display_is_refused_before_opencv_aborts(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for opened in (check_display, lambda: Window("x")):
        with pytest.raises(EdgeferError, match="a window needs a display") as fault:
            opened()
        assert "--no-window" in fault.value.hint


@pytest.mark.parametrize(
    ("stays", "keys", "goes_on"),
    [
        (False, [-1], True),
        (False, [ord("q")], False),
        (True, [-1, -1, ord(" ")], True),
        (True, [-1, 27], False),
    ],
)
def test_a_window_keeps_a_single_picture_until_a_key_is_pressed(monkeypatch, stays, keys, goes_on):
    pressed, titles = list(keys), []
    fake = SimpleNamespace(
        imshow=lambda *_: None,
        waitKey=lambda _: pressed.pop(0),
        getWindowProperty=lambda *_: 1.0,
        namedWindow=lambda title, *_: titles.append(title),
        WND_PROP_VISIBLE=4,
        WINDOW_NORMAL=0,
        WINDOW_KEEPRATIO=0,
    )
    monkeypatch.setattr("edgefer.camera.sink.cv2", fake)
    monkeypatch.setattr("edgefer.camera.sink.check_display", lambda: None)
    window = Window("x", stays=stays)
    assert window.write(seen()) is goes_on
    assert pressed == []
    assert "q or Esc ends" in titles[0]
    assert ("any other key: next picture" in titles[0]) is stays


def test_an_opencv_without_windows_says_so(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("edgefer.camera.sink.cv2.getBuildInformation", lambda: "  GUI:                 NONE\n")
    with pytest.raises(EdgeferError, match="built without windows") as fault:
        check_display()
    assert "opencv-python-headless" in fault.value.hint


def test_the_stream_gives_a_page_a_snapshot_and_a_video():
    stream = Stream("127.0.0.1", 0)
    ended = threading.Event()

    def give():
        number = 0
        while not ended.wait(0.01):
            number += 1
            stream.write(seen(number, level=number % 200))

    giver = threading.Thread(target=give, daemon=True)
    giver.start()
    try:
        assert b"/stream" in urllib.request.urlopen(stream.address, timeout=5).read()
        snapshot = urllib.request.urlopen(f"{stream.address}snapshot.jpg?time=1", timeout=5).read()
        assert cv2.imdecode(np.frombuffer(snapshot, np.uint8), cv2.IMREAD_COLOR).shape == (48, 64, 3)
        video = cv2.VideoCapture(f"{stream.address}stream", cv2.CAP_FFMPEG)
        frames = [video.read()[0] for _ in range(5)]
        video.release()
        assert frames == [True] * 5
    finally:
        stream.close()
        ended.set()
        giver.join(2)


def test_frames_are_not_encoded_for_nobody(monkeypatch):
    monkeypatch.setattr("edgefer.camera.sink.encode_jpeg", lambda _: pytest.fail("nobody looks"))
    stream = Stream("127.0.0.1", 0)
    stream.write(seen())
    stream.close()


def test_a_port_in_use_is_named_with_another():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EdgeferError) as fault:
            Stream("127.0.0.1", port)
    assert fault.value.message == f"port {port} of 127.0.0.1 is in use"
    assert f"--port {port + 1}" in fault.value.hint


def test_an_ipv6_host_is_served():
    try:
        stream = Stream("::1", 0)
    except EdgeferError as fault:
        pytest.skip(f"no IPv6 here: {fault.message}")
    assert stream.address.startswith("http://[::1]:")
    assert b"/stream" in urllib.request.urlopen(stream.address, timeout=5).read()
    stream.close()


def test_a_host_that_is_not_this_machine_is_refused():
    with pytest.raises(EdgeferError, match="cannot listen on 192.0.2.1") as fault:
        Stream("192.0.2.1", 0)
    assert "0.0.0.0" in fault.value.hint

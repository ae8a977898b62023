"""How the C++ app ends: signals, cameras that vanish, readers that go; and what it serves meanwhile."""

import functools
import http.server
import json
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np
import pytest

from edgefer.manifest import manifest_path

from .program import QUIET, ended_by, events_of, flat, frames_of, program, run, until_lines, write_boxes, write_video

SECOND = 1.0


class Camera(http.server.ThreadingHTTPServer):
    """An MJPEG camera of the network: what each connection gets, in turn, is decided by the test.

    A plan is a number of frames after which the connection is closed, or None: two seconds of frames, then silence.
    """

    daemon_threads = True

    def __init__(self, *plans):
        self.plans, self.level = list(plans), 200
        self.over, self.silent = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), _CameraHandler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/video.mjpg"

    def __exit__(self, *_):
        self.over.set()
        self.shutdown()
        self.server_close()


class _CameraHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        if not self.server.plans:
            self.send_error(503)
            return
        plan = self.server.plans.pop(0)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        jpeg = cv2.imencode(".jpg", flat(self.server.level))[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
        try:
            for _ in range(100 if plan is None else plan):
                if self.server.over.wait(0.02):
                    return
                self.wfile.write(head + jpeg + b"\r\n")
            if plan is None:
                self.server.silent.set()
                self.server.over.wait(60)
        except OSError:
            pass  # the app has gone


@pytest.fixture
def boxes(tmp_path):
    """A face in every frame."""
    return write_boxes(tmp_path / "boxes", {number: [(20, 20, 60, 60)] for number in range(3000)})


def start(*arguments):
    return subprocess.Popen(
        [program(), *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=QUIET
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_a_second_and_the_video_plays(brightness, boxes, tmp_path, number):
    program()
    source = write_video(tmp_path / "video.avi", [flat(level % 250) for level in range(900)])
    video, events = tmp_path / "out.mp4", tmp_path / "events.jsonl"
    app = start(brightness, "--source", source, "--realtime", "--boxes", boxes, "--video", video, "--events", events)
    until_lines(app, events, 20)
    seconds, said = ended_by(app, number)
    assert seconds < SECOND
    assert app.returncode == 0, said
    assert "stopping" in said
    assert "frames shown" in said
    assert len(frames_of(video)) >= 15
    for line in events.read_text().splitlines():
        json.loads(line)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_signal_ends_it_while_a_camera_is_silent(brightness, boxes, tmp_path):
    program()
    events, video = tmp_path / "events.jsonl", tmp_path / "out.mp4"
    with Camera(None) as camera:
        app = start(brightness, "--source", camera.url, "--boxes", boxes, "--events", events, "--video", video)
        until_lines(app, events, 5)
        camera.silent.wait(20)
        time.sleep(0.6)  # now it waits inside the driver
        seconds, said = ended_by(app, signal.SIGINT)
    assert seconds < SECOND
    assert app.returncode == 0, said
    assert len(frames_of(video)) > 2


def test_a_second_signal_cannot_spoil_the_video(brightness, boxes, tmp_path):
    program()
    source = write_video(tmp_path / "video.avi", [flat(level % 250) for level in range(900)])
    video, events = tmp_path / "out.mp4", tmp_path / "events.jsonl"
    app = start(brightness, "--source", source, "--realtime", "--boxes", boxes, "--video", video, "--events", events)
    until_lines(app, events, 10)
    app.send_signal(signal.SIGINT)
    for _ in range(20):
        app.send_signal(signal.SIGINT)
        app.send_signal(signal.SIGTERM)
    _, said = app.communicate(timeout=20)
    assert app.returncode == 0, said
    assert len(frames_of(video)) > 2


def test_a_camera_that_vanishes_is_tried_again_and_then_the_error(brightness, boxes, tmp_path):
    program()
    events, video = tmp_path / "events.jsonl", tmp_path / "out.mp4"
    with Camera(20) as camera:
        done = run(
            *(brightness, "--source", camera.url, "--boxes", boxes, "--patience", "0.5"),
            *("--events", events, "--video", video),
        )
    assert done.returncode == 2, done.stderr
    assert "gives no more frames: trying again for 0.5 s" in done.stderr
    assert re.search(r"stopped after \d+ frames and did not come back within 0.5 s", done.stderr)
    assert "hint: check its cable" in done.stderr
    assert events_of(events)
    assert frames_of(video)


@pytest.mark.slow
def test_a_camera_that_comes_back_goes_on(brightness, boxes, tmp_path):
    program()
    events = tmp_path / "events.jsonl"
    with Camera(20, 20) as camera:
        done = run(brightness, "--source", camera.url, "--boxes", boxes, "--patience", "1.5", "--events", events)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("is back") == 1
    assert max(event["frame"] for event in events_of(events)) > 21


def test_who_reads_the_events_may_go(brightness, boxes, tmp_path):
    program()
    source = write_video(tmp_path / "video.avi", [flat(30)] * 600)
    app = start(brightness, "--source", source, "--boxes", boxes, "--events", "-")
    assert json.loads(app.stdout.readline())["label"] == "dark"
    app.stdout.close()
    assert app.wait(timeout=20) == 0
    assert "error" not in app.stderr.read()
    app.stderr.close()


def test_the_stream_shows_the_picture_with_its_boxes(brightness, boxes, tmp_path):
    program()
    source = write_video(tmp_path / "video.avi", [flat(30)] * 900)
    app = start(brightness, "--source", source, "--realtime", "--boxes", boxes, "--serve", "0")
    try:
        line = ""
        while "streaming on" not in line:
            line = app.stderr.readline()
        url = line.split()[-1]
        page = urllib.request.urlopen(url, timeout=10).read().decode()
        assert '<img src="/stream"' in page
        content = urllib.request.urlopen(url + "snapshot.jpg", timeout=10).read()
        (tmp_path / "snapshot.jpg").write_bytes(content)
        picture = cv2.imread(str(tmp_path / "snapshot.jpg")).astype(int)
        assert picture.shape == (120, 160, 3)
        box = picture[70, 18:23].max(axis=0)  # the box's left side, in the colour of "dark"
        assert box[2] > 150
        assert box[0] < 120
        request = urllib.request.Request(url, headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError) as fault:
            urllib.request.urlopen(request, timeout=10)
        assert fault.value.code == 403
        with urllib.request.urlopen(url + "stream", timeout=10) as stream:
            assert stream.readline() == b"--frame\r\n"
            seconds, said = ended_by(app, signal.SIGINT)
        assert seconds < SECOND
        assert app.returncode == 0, said
    finally:
        if app.poll() is None:
            app.kill()
            app.wait()


def test_a_video_on_a_web_server_has_an_end(brightness, boxes, tmp_path):
    program()
    write_video(tmp_path / "video.avi", [flat(30)] * 12)
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/video.avi"
        done = run(brightness, "--source", url, "--boxes", boxes, "--events", tmp_path / "e", "--patience", "0.2")
        server.shutdown()
    assert done.returncode == 0, done.stderr
    assert [event["frame"] for event in events_of(tmp_path / "e")] == list(range(12))


def test_bench_has_the_keys_of_pythons_bench(brightness, boxes, tmp_path):
    from edgefer import BenchSettings, benchmark
    from edgefer.data.npz import save_npz

    program()
    faces = np.arange(30, dtype=np.uint8)[:, None, None, None] * np.ones((1, 24, 24, 1), np.uint8)
    save_npz(tmp_path / "faces.npz", faces, np.arange(30) % 3, ("dark", "medium", "bright"), ["test"] * 30)
    settings = BenchSettings(seconds=0.1)
    python = benchmark(brightness, str(tmp_path / "faces.npz"), brightness, settings, telemetry=False).to_json()
    engine = tmp_path / "engine.onnx"
    shutil.copy(brightness, engine)
    manifest = json.loads(manifest_path(brightness).read_text())
    version, manifest["runtime"]["version"] = manifest["runtime"]["version"], "2020.1"
    manifest_path(engine).write_text(json.dumps(manifest))
    source = write_video(tmp_path / "video.avi", [flat(30)] * 40)
    held = b"x" * 600_000_000  # of this process; it must not count
    done = run(engine, "--bench", "--source", source, "--boxes", boxes, "--seconds", "0.4")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) - {"camera"} == set(python) - {"schema", "details", "engine", "verdict", "speedup", "disturbed"}
    assert set(found["latency_ms"]) == set(python["latency_ms"])
    assert set(found["environment"]) - {"language", "compiler"} <= set(python["environment"])
    assert found["environment"]["packages"]["openvino"] == version  # what runs it, not what built it
    assert 30e6 < found["camera"]["peak_rss_bytes"] < len(held)
    assert found["runtime"] == "openvino"
    assert found["size_bytes"] == brightness.stat().st_size
    assert found["images_per_s"] == pytest.approx(1000 / found["latency_ms"]["p50"])
    camera = found["camera"]
    assert camera["read"] == camera["shown"] == 40
    assert set(camera["dropped"].values()) == {0}
    assert camera["tracks"] == 1
    assert camera["overhead_ms"]["mean"] > 0
    assert camera["parts_ms"]["wait"]["mean"] > 0

"""The three commands as users run them."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import cv2
import numpy as np
import pytest

from edgefer.contract import METADATA_KEY
from edgefer.models import DEFAULT, default_engine

from .conftest import CONTRACT, HAAR, empty_cache, needs_detector, room, with_face

pytestmark = needs_detector

ENVIRONMENT = {
    **{name: text for name, text in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")},
    "OMP_NUM_THREADS": "1",
    "XDG_CACHE_HOME": str(empty_cache()),  # whether YuNet was downloaded here must not decide what the tests see
}


def start(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "edgefer", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        **options,
    )


def run(*arguments, **options):
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), with_face(room(), 170, 120, 140))
    return path


def test_predict_prints_a_table_json_and_pictures(tmp_path, picture, engine):
    nobody = tmp_path / "nobody.jpg"
    cv2.imwrite(str(nobody), room())
    done = run("predict", engine, picture, nobody, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    head, first, second = done.stdout.splitlines()
    assert head.split()[:2] == ["picture", "face"]
    assert first.split()[0] == str(picture)
    assert " medium " in first
    assert second.split(maxsplit=1) == [str(nobody), "no face found"]
    assert "1 face in 2 pictures" in done.stderr
    assert "no face was found in 1 of 2 pictures: --whole takes each picture as a face" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"face.png", "nobody.png"}
    assert (cv2.imread(str(tmp_path / "out" / "face.png")) != cv2.imread(str(picture))).any()

    done = run("predict", engine, picture, "--json", "--whole")
    (found,) = json.loads(done.stdout)["pictures"]
    assert (found["width"], found["height"]) == (320, 240)
    (face,) = found["faces"]
    assert face["box"] == [0, 0, 320, 240]
    assert face["label"] == "medium"
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-3)


def test_predict_goes_on_after_a_bad_file_and_ends_with_2(tmp_path, picture, engine):
    (tmp_path / "text.jpg").write_text("I am a text")
    head = b"P7\nWIDTH 30000\nHEIGHT 30000\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n"  # read by OpenCV only
    (tmp_path / "bomb.pam").write_bytes(head + bytes(100))
    done = run("predict", engine, tmp_path / "text.jpg", tmp_path / "bomb.pam", picture)
    assert done.returncode == 2
    assert " medium " in done.stdout
    assert "text.jpg is not an image" in done.stderr
    assert "OpenCV refuses to decode" in done.stderr
    assert "error: 2 of 3 pictures could not be read" in done.stderr
    assert "hint: give a JPEG" in done.stderr


def test_pictures_of_one_name_are_kept_apart_and_none_that_is_read_is_replaced(tmp_path, picture, engine):
    (tmp_path / "other").mkdir()
    shutil.copy(picture, tmp_path / "other" / "face.png")
    before = picture.read_bytes()
    done = run("predict", engine, picture, tmp_path / "other" / "face.png", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"face.png", "face-2.png"}
    done = run("predict", engine, picture, "-o", tmp_path)
    assert done.returncode == 2
    assert "face.png is read and would be replaced" in done.stderr
    assert picture.read_bytes() == before


def test_an_engine_without_the_crop_contract_is_refused(tmp_path, picture, engine):
    import onnx

    model = onnx.load(engine)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            contract = json.loads(entry.value)
            del contract["crop_margin"]
            entry.value = json.dumps(contract)
    onnx.save(model, tmp_path / "old.onnx")
    done = run("predict", tmp_path / "old.onnx", picture)
    assert done.returncode == 2
    assert f"error: {tmp_path / 'old.onnx'}: the contract cannot be read: it lacks 'crop_margin'" in done.stderr
    assert (
        "hint: the file was written by something other than edgefer, or edited; export the model again" in done.stderr
    )


def test_camera_writes_a_video_events_and_faces(tmp_path, video, engine):
    done = run(
        *("camera", engine, "--source", video, "--video", tmp_path / "out.mp4", "--events", tmp_path / "out.jsonl"),
        *("--record-faces", tmp_path / "faces", "--mirror"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "30 frames shown" in done.stderr
    assert "fps · 1 face · frame" not in done.stderr  # the line is for a terminal
    assert "out.mp4: 30 frames, " in done.stderr
    assert "1 face" in done.stderr
    assert "recorded in" in done.stderr
    assert "made the folder" not in done.stderr, "'recording faces into' names it"
    assert re.search(r"out\.jsonl: \d+ lines, one per face and frame", done.stderr)
    played = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert sum(1 for _ in iter(lambda: played.read()[0], False)) == 30
    events = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(events) >= 25
    assert {event["track"] for event in events} == {1}
    middles = [event["box"][0] + event["box"][2] / 2 for event in events]
    assert middles[0] - middles[-1] > 80  # flipped: it moves to the left
    assert len(list((tmp_path / "faces").rglob("*.png"))) >= 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_within_a_second_and_the_video_plays(tmp_path, video, engine, ending):
    folder = tmp_path / "pictures"
    folder.mkdir()
    long = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(long), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
    for _ in range(900):
        writer.write(np.full((240, 320, 3), 90, np.uint8))
    writer.release()
    events = tmp_path / "events.jsonl"
    process = start(
        *("camera", engine, "--source", long, "--realtime", "--video", tmp_path / "out.mp4", "--events", events)
    )
    for _ in range(300):
        if list(tmp_path.glob(".out.*")) and events.exists():
            break
        time.sleep(0.05)
    time.sleep(1.0)
    before = time.monotonic()
    process.send_signal(ending)
    time.sleep(0.05)
    process.send_signal(ending)  # once more, as the impatient do
    _, err = process.communicate(timeout=10)
    took = time.monotonic() - before
    assert process.returncode == 0, err
    assert took < 1.5  # a second, and the interpreter's own end on a busy machine
    assert "stopping" in err
    played = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert sum(1 for _ in iter(lambda: played.read()[0], False)) > 5


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("camera", "{engine}", "--source", "77", "--no-window"), "camera 77", "--source"),
        (("camera", "{engine}", "--source", "{video}"), "a window needs a display", "--no-window"),
        (("camera", "{engine}", "--source", "none.mp4", "--no-window"), "no source 'none.mp4'", "webcam's number"),
        (
            ("camera", "{engine}", "--source", "{video}", "--video", "{video}"),
            "video.avi is the source",
            "another file",
        ),
        (
            ("camera", "{engine}", "--source", "{video}", "--host", "0.0.0.0"),
            "--host 0.0.0.0 has no effect without --serve",
            "--serve",
        ),
        (("camera", "none.onnx", "--source", "{video}", "--no-window"), "no engine none.onnx", "build-engine"),
        (("camera", "{engine}", "--source", "{video}", "--detector", "dlib"), "called 'dlib'", "yunet"),
        (("web", "{engine}", "--port", "{port}"), "port {port} of 127.0.0.1 is in use", "--port"),
        (("camera", "{engine}", "--source", "{video}", "--no-window", "--serve", "{port}"), "{port}", "--port"),
        (("predict", "{engine}", "none.jpg"), "none.jpg", "check the path"),
        (("predict", "{engine}"), "no picture was given", "edgefer predict {engine} photo.jpg"),
        (("predict", "photo.jpg", "{engine}"), "one engine stands first", "edgefer predict {engine} photo.jpg"),
        (("camera", "{video}"), "video.avi is not an engine", "edgefer camera --source {video}"),
        (("camera", "a.safetensors"), "is not an engine", "`edgefer export --weights a.safetensors -o a.onnx`"),
        (("predict", "a.pth", "b.jpg"), "is not an engine", "export --model NAME --weights a.pth -o a.onnx`"),
    ],
)
def test_bad_input_is_two_lines_and_exit_2(tmp_path, video, engine, arguments, message, hint):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for name in ("a.safetensors", "a.pth"):
            (tmp_path / name).write_bytes(b"weights")
        values = {"engine": engine, "video": video, "port": taken.getsockname()[1]}
        done = run(*(text.format(**values) for text in arguments), cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert lines[-2].startswith("error: ")
    assert message.format(**values) in lines[-2]
    assert lines[-1].startswith("hint: ")
    assert hint.format(**values) in lines[-1]
    assert done.stdout == ""
    assert done.stderr.count("error: ") == 1


def test_a_terminal_shows_a_line_that_lives(video, engine):
    ours, its = pty.openpty()
    command = ("camera", engine, "--source", video, "--realtime", "--serve", "0")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgefer", *map(str, command)], env={**ENVIRONMENT, "TERM": "xterm"}, stderr=its
    )
    os.close(its)
    told = b""
    with suppress(OSError):  # Linux's way to say that the other side is closed
        while chunk := os.read(ours, 4096):
            told += chunk
    os.close(ours)
    assert process.wait(20) == 0
    lines = re.findall(r"(\d+\.\d) fps · 1 face · frame (\d+) · \d+ dropped · frame to label \d+ ms", told.decode())
    assert len(lines) >= 2
    assert 5 < float(lines[-1][0]) < 60
    assert int(lines[-1][1]) > 15


def test_a_video_plays_in_a_window(video, engine, display):
    done = subprocess.run(
        [sys.executable, "-m", "edgefer", "camera", str(engine), "--source", str(video)],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "DISPLAY": display},
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "a window is open: q or Esc ends" in done.stderr
    assert "30 frames shown" in done.stderr


def test_ctrl_c_while_a_dead_address_is_opened_ends_within_a_second(engine):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(30)
        process = start("camera", engine, "--no-window", "--source", f"rtsp://127.0.0.1:{silent.getsockname()[1]}/x")
        line, _ = silent.accept()  # it is in there now, and gets no answer
        before = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert time.monotonic() - before < 1.5
        assert process.returncode == 130
        line.close()


def test_web_serves_until_ctrl_c(engine):
    process = start("web", engine, "--port", "0")
    line = process.stderr.readline() if not HAAR else [process.stderr.readline(), process.stderr.readline()][1]
    assert "the page is at http://localhost:" in line
    url = line.split()[4]
    assert json.load(urllib.request.urlopen(f"{url}api/about", timeout=10))["engines"][0]["network"] == "brightness"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert err.strip() == "stopped"


def test_opening_the_page_to_everybody_is_said(engine):
    process = start("web", engine, "--port", "0", "--host", "0.0.0.0")
    lines = [process.stderr.readline() for _ in range(3 if HAAR else 2)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert "everybody who reaches 0.0.0.0 can use it" in lines[-1]


def test_a_manifest_without_the_crop_contract_is_refused(tmp_path, engine):
    from edgefer.engines.load import load_engine
    from edgefer.errors import EdgeferError

    path = tmp_path / "x.onnx"
    path.write_bytes(engine.read_bytes())
    content = {"schema": 1, "model_sha256": "", "weights_sha256": "", "target": "cpu", "instruction_set": []}
    content |= {"runtime": {"name": "onnxruntime", "version": "1"}, "precision": {}, "calibration": None, "engine": {}}
    content["contract"] = {**CONTRACT.to_dict()}
    del content["contract"]["crop_margin"]
    (tmp_path / "x.onnx.json").write_text(json.dumps(content))
    with pytest.raises(
        EdgeferError, match=r"x\.onnx\.json: the contract cannot be read: it lacks 'crop_margin'"
    ) as fault:
        load_engine(path)
    assert "export the model again" in fault.value.hint


def test_folders_are_searched_for_pictures_and_the_engine_that_ships_is_the_default(tmp_path, picture):
    folder = tmp_path / "photos"
    for name in ("b.png", "in/a.PNG", ".hidden/c.png", "marked/old.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder / name)
    (folder / "notes.txt").write_text("no picture")
    done = run("predict", folder, "-o", folder / "marked", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [p["picture"] for p in found["pictures"]] == [str(folder / "b.png"), str(folder / "in" / "a.PNG")]
    assert all(len(p["faces"]) == 1 for p in found["pictures"])
    assert found["engine"] == str(default_engine())
    assert {path.name for path in (folder / "marked").iterdir()} == {"old.png", "b.png", "a.png"}
    assert f"{folder}: 2 pictures (1 other file left out)" in done.stderr
    assert f"engine: {DEFAULT}, which ships (FP32, onnxruntime)" in done.stderr
    assert ("faces are found by OpenCV's Haar cascade; --detector yunet" in done.stderr) is HAAR

"""What the C++ app refuses, and what it survives: engines, sources, disks and ports that are not as they should be."""

import json
import os
import re
import shutil
import socket
import subprocess

import cv2
import numpy as np
import pytest

from edgefer.manifest import manifest_path

from ..camera.conftest import room
from .program import events_of, flat, frames_of, program, refused, run, write_boxes, write_sequence, write_video


@pytest.fixture
def engine(brightness, tmp_path):
    """A copy that may be spoilt."""
    path = tmp_path / "engine.onnx"
    shutil.copy(brightness, path)
    shutil.copy(manifest_path(brightness), manifest_path(path))
    return path


@pytest.fixture
def video(tmp_path):
    program()
    return write_video(tmp_path / "video.avi", [flat(40 + number) for number in range(20)])


def test_options_are_those_of_the_python_app():
    from edgefer.cli.tryout import camera

    done = run("--help")
    ours = set(re.findall(r"^ +(?:-h, )?(--[a-z-]+)", done.stdout, re.MULTILINE))
    python = {option for parameter in camera.params for option in parameter.opts if option.startswith("--")}
    assert python - ours == {"--record-faces", "--detector-runtime"}
    assert ours - python == {"--every-frame", "--boxes", "--bench", "--version", "--help"}


def test_an_engine_without_manifest(engine, video):
    manifest_path(engine).unlink()
    said = refused(engine, "--source", video, "--events", "-")
    assert "engine.onnx" in said
    assert "manifest" in said
    assert "hint: " in said


def test_an_engine_that_is_not_its_manifests(engine, video):
    engine.write_bytes(engine.read_bytes() + b"\0")
    said = refused(engine, "--source", video, "--events", "-")
    assert json.loads(manifest_path(engine).read_text())["engine"]["sha256"][:16] in said


def test_golden_vectors_that_differ_are_both_printed(engine, video):
    content = json.loads(manifest_path(engine).read_text())
    content["golden"]["logits"][1] = [7.25, -3.5, 0.125]
    manifest_path(engine).write_text(json.dumps(content))
    said = refused(engine, "--source", video, "--events", "-")
    assert "golden" in said
    assert "7.25" in said
    original = json.loads(manifest_path(engine).read_text())["golden"]["logits"][0]
    assert "-3.5" in said
    assert original != content["golden"]["logits"][1]


def test_an_engine_that_is_not_there(video, tmp_path):
    assert "none.onnx" in refused(tmp_path / "none.onnx", "--source", video, "--events", "-")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--source", "63"], "camera"),
        (["--source", "nothing/here.mp4"], "there is no source 'nothing/here.mp4'"),
        (["--source", "csi://0"], "csi://0 needs"),
        (["--source", "nonsense pattern=1 ! video/x-raw,format=BGR ! appsink"], "needs"),
        (["--source", "rtsp://me:secret@127.0.0.1:9/live"], "rtsp://…@127.0.0.1:9/live"),
        (["--rotate", "45"], "rotated by 45°"),
        (["--window"], "neither DISPLAY nor WAYLAND_DISPLAY"),
        ([], "neither DISPLAY nor WAYLAND_DISPLAY"),
        (["--host", "0.0.0.0", "--no-window"], "--host 0.0.0.0 is of --serve"),
        (["--video", "out.avi"], "written as .mp4"),
        (["--events", "no/such/folder/e.jsonl"], "No such file or directory"),
        (["--events", "-", "--detector", "dlib"], "no face detector is called 'dlib'"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(brightness, video, arguments, part):
    source = [] if "--source" in arguments else ["--source", video]
    said = refused(brightness, *source, *arguments)
    assert part in said
    assert "hint: " in said
    assert "secret" not in said


def test_a_display_that_is_gone(brightness, video):
    assert "cannot open a window on this display" in refused(
        brightness, "--source", video, environment={"DISPLAY": ":997"}
    )


def test_events_that_are_there_stay_where_the_video_cannot_be_written(brightness, video, tmp_path):
    events = tmp_path / "events.jsonl"
    events.write_text("precious")
    said = refused(brightness, "--source", video, "--events", events, "--video", tmp_path / "none" / "out.mp4")
    assert "there is no folder" in said
    assert events.read_text() == "precious"


def test_a_port_in_use(brightness, video):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use" in refused(brightness, "--source", video, "--serve", port)


def test_pictures_that_are_none(brightness, tmp_path):
    program()
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    assert "text.jpg" in refused(brightness, "--source", text, "--events", "-")
    huge = tmp_path / "huge.ppm"
    huge.write_bytes(b"P6 40000 40000 255\n" + bytes(1000))
    assert "huge.ppm" in refused(brightness, "--source", huge, "--events", "-")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "has no pictures" in refused(brightness, "--source", folder, "--events", "-")


def test_pictures_of_sixteen_bits_and_with_transparency(brightness, tmp_path):
    program()
    folder = tmp_path / "frames"
    folder.mkdir()
    cv2.imwrite(str(folder / "0.png"), np.full((60, 80, 3), 65535, np.uint16))
    cv2.imwrite(str(folder / "1.png"), np.dstack([flat(0, (60, 80)), np.zeros((60, 80), np.uint8)]))
    boxes = write_boxes(tmp_path / "boxes", {number: [(5, 5, 40, 40)] for number in range(2)})
    done = run(brightness, "--source", folder / "%d.png", "--boxes", boxes, "--events", "-")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["bright", "bright"]


@pytest.mark.parametrize("kind", ["pictures", "video"])
def test_a_source_that_changes_its_resolution(brightness, tmp_path, kind):
    program()
    pictures = [flat(30, size) for size in [(120, 160)] * 12 + [(240, 320)] * 12]
    source = tmp_path / "video.mjpeg"
    if kind == "video":
        source.write_bytes(b"".join(cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures))
    else:
        source = write_sequence(tmp_path / "frames", pictures)
    places = {number: [(10, 10, 50, 50) if number < 12 else (200, 150, 80, 80)] for number in range(24)}
    boxes = write_boxes(tmp_path / "boxes", places)
    out, video = tmp_path / "events.jsonl", tmp_path / "out.mp4"
    done = run(brightness, "--source", source, "--boxes", boxes, "--events", out, "--video", video)
    assert done.returncode == 0, done.stderr
    shown = frames_of(video)
    assert len(shown) == 24
    assert {picture.shape for picture in shown} == {(120, 160, 3)}
    if kind == "pictures":  # some versions of OpenCV bring a video's pictures to the size of its first by themselves
        assert "pictures were 160×120 and are 320×240 now" in done.stderr
        events = events_of(out)
        assert [event["frame"] for event in events] == list(range(24))
        assert [event["track"] for event in events] == [1] * 12 + [2] * 12
        assert events[12]["box"] == [200, 150, 80, 80]


def test_a_video_cut_short_and_one_of_rubbish(brightness, video, tmp_path):
    cut = tmp_path / "cut.avi"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    done = run(brightness, "--source", cut, "--events", tmp_path / "e")
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stderr.split(" frames shown")[0].split()[-1]) < 20
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_bytes(bytes(range(256)) * 100)
    assert "is not a video that OpenCV can read" in refused(brightness, "--source", rubbish, "--events", "-")


def test_a_full_disk_ends_the_video_while_it_still_plays(brightness, tmp_path):
    program()
    disk = tmp_path / "disk"
    disk.mkdir()
    frames = [np.random.default_rng(number).integers(0, 255, (240, 320, 3), dtype=np.uint8) for number in range(100)]
    source = write_sequence(tmp_path / "frames", frames)
    script = (
        'mount -t tmpfs -o size=4600k tmpfs "$1" || exit 77; shift; video=$1; copy=$2; shift 2; "$@"; code=$?; '
        'cp "$video" "$copy"; ls -A "$(dirname "$video")" >&2; exit $code'
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", disk, disk / "out.mp4"]
    command += [tmp_path / "copy.mp4", program(), brightness, "--source", source, "--video", disk / "out.mp4"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no disk of our own can be mounted here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 2, done.stderr
    assert "is full" in done.stderr
    assert "the video until here plays" in done.stderr
    assert done.stderr.splitlines()[-1] == "out.mp4"
    assert 2 < len(frames_of(tmp_path / "copy.mp4")) < 100


def test_events_onto_a_full_disk(brightness, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    program()
    source = write_sequence(tmp_path / "frames", [room()] * 3)
    boxes = write_boxes(tmp_path / "boxes", {0: [(5, 5, 50, 50)]})
    assert "No space left on device" in refused(
        brightness, "--source", source, "--boxes", boxes, "--events", "/dev/full"
    )

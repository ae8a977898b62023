"""The wheel in an empty environment, without PyTorch: pictures, camera, page, and the C++ program with its engine."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import pytest

from ..camera.conftest import room, with_face
from ..cpp.program import run as run_cpp

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with ``edgefer[cpu,camera]`` from the wheel, and the newest OpenCV."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install here: {done.stderr[-200:]}")
    (wheel,) = folder.glob("edgefer-*.whl")
    venv.create(folder / "env", with_pip=True)
    found = folder / "env" / "bin" / "python"
    install(found, f"{wheel}[cpu,camera]")
    return found


def install(python, *what):
    done = subprocess.run([python, "-m", "pip", "install", "-q", *what], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"pip cannot install here: {done.stderr[-200:]}")


@pytest.fixture
def start(python, tmp_path):
    """Start ``edgefer`` as it was installed, in a folder without the sources."""
    names = ("PYTHONPATH", "DISPLAY", "WAYLAND_DISPLAY")
    environment = {k: v for k, v in os.environ.items() if k not in names} | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    program = python.parent / "edgefer"

    def started(*arguments):
        command = [program, *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes)

    return started


def finished(process):
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out, err


def test_nothing_but_the_line_to_type_is_missing(python, start, tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "face.png"), with_face(room(), 170, 120, 140))
    probe = (
        "import importlib.util as u, cv2; print([n for n in ('torch', 'onnxsim') if u.find_spec(n)], cv2.__version__)"
    )
    done = subprocess.run([python, "-I", "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    out, _ = finished(start("predict", "face.png", "--whole"))
    assert "face.png" in out
    if done.stdout.startswith("[] 5"):  # no cascade: what finds faces must be downloaded, which is not done unasked
        process = start("predict", "face.png")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (2, "")
        assert "edgefer predict face.png --detector yunet\n" in err
        install(python, "opencv-python<5")
    out, err = finished(start("predict", "face.png"))
    assert re.search(r"face\.png +1 +\d+,\d+ \d+×\d+ ", out)
    assert "engine: cliquenet_ferplus, which ships" in err


def test_camera_page_and_cpp_run_with_the_engine_that_ships(python, start, tmp_path):
    import cv2

    install(python, "opencv-python<5")
    source = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (320, 240))
    for number in range(90):
        writer.write(with_face(room(), 100 + number, 120, 120))
    writer.release()
    _, err = finished(start("camera", "--source", source, "--no-window", "--video", "out.mp4", "--events", "out.jsonl"))
    assert "90 frames shown" in err
    events = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {len(event["probabilities"]) for event in events} == {8}
    assert cv2.VideoCapture(str(tmp_path / "out.mp4")).read()[0]

    process = start("camera", "--source", source, "--no-window", "--realtime", "--serve", 0)
    url = address_said(process)
    assert urllib.request.urlopen(f"{url}snapshot.jpg", timeout=30).read()[:2] == b"\xff\xd8"
    finished(process)

    process = start("web", "--port", 0)
    url = address_said(process)
    about = json.load(urllib.request.urlopen(f"{url}api/about", timeout=30))
    assert about["engines"][0]["network"] == "cliquenet"
    sample = urllib.request.urlopen(f"{url}sample.jpg", timeout=30).read()
    answer = json.load(urllib.request.urlopen(f"{url}api/predict", data=sample, timeout=30))
    assert answer["found"] >= 1
    process.send_signal(signal.SIGINT)
    finished(process)

    where = [python, "-I", "-c", "import edgefer; print(edgefer.models.default_engine())"]
    engine = subprocess.run(where, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
    assert "site-packages" in engine
    done = run_cpp(engine, "--source", source, "--no-window", "--events", tmp_path / "cpp.jsonl")
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "cpp.jsonl").read_text().splitlines()]
    assert {len(event["probabilities"]) for event in found} == {8}


def address_said(process):
    for line in process.stderr:
        if found := re.search(r"http://\S+/", line):
            return found[0]
    raise AssertionError("no address was said")

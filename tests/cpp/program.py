"""The C++ program as tests run it, engines for it, and videos of synthetic pictures."""

import json
import os
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgefer.engines.classifier import Classifier, make_golden
from edgefer.engines.cpu import instruction_set
from edgefer.manifest import Manifest, Precision, write_engine

from ..camera.conftest import CONTRACT, brightness_model

REPOSITORY = Path(__file__).resolve().parents[2]
# pip's OpenCV puts its own Qt into the environment.
QUIET = {
    key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY") and key[:3] != "QT_"
}


def program():
    """What ``make cpp`` built, or EDGEFER_CAMERA; the test is skipped where there is none."""
    built = REPOSITORY / "cpp_demo" / "build" / "cpu" / "app" / "edgefer_camera"
    found = Path(os.environ.get("EDGEFER_CAMERA", built))
    if not found.is_file():
        pytest.skip("edgefer_camera is not built: make cpp")
    return str(found)


def run(*arguments, seconds=60.0, environment=None):
    return subprocess.run(
        [program(), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**QUIET, **(environment or {})},
        check=False,
    )


def until_lines(app, path, lines, seconds=30.0):
    """Wait for a number of events of a program that runs."""
    end = time.monotonic() + seconds
    while not path.exists() or path.read_text().count("\n") < lines:
        assert app.poll() is None, app.stderr.read()
        assert time.monotonic() < end, "too few events"
        time.sleep(0.02)


def ended_by(app, number):
    """Send the signal; return the seconds until the end, and what was said."""
    begin = time.monotonic()
    app.send_signal(number)
    _, said = app.communicate(timeout=20)
    return time.monotonic() - begin, said


def refused(*arguments, **how):
    """What the program says when it refuses: exit code 2, an error and nothing on stdout."""
    done = run(*arguments, **how)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "error: " in done.stderr
    return done.stderr


def write_brightness_engine(path):
    """An engine for OpenVINO that tells dark from bright, with its manifest."""
    from edgefer.engines.openvino import OpenVinoSession

    content = brightness_model()
    session = OpenVinoSession(content)
    with Classifier(session, CONTRACT, precision="fp32", size_bytes=len(content), name=str(path)) as classifier:
        manifest = Manifest(
            model_sha256="0" * 64,
            weights_sha256="",
            target="cpu",
            runtime="openvino",
            runtime_version=session.version,
            instruction_set=instruction_set(),
            contract=CONTRACT,
            precision=Precision("fp32", "fp32"),
            calibration=None,
            golden=make_golden(classifier),
        )
    write_engine(path, content, manifest)
    return path


def events_of(path):
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def write_boxes(path, boxes):
    """``boxes``: frame → list of x, y, width, height."""
    lines = [json.dumps({"frame": frame, "box": box}) for frame, many in boxes.items() for box in many]
    Path(path).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_sequence(folder, pictures):
    folder.mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:04d}.png"), picture)
    return folder / "%04d.png"


def write_video(path, pictures, fps=30.0):
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), fps, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    return path


def frames_of(path):
    """All pictures of a video that plays."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    pictures = []
    while True:
        found, picture = capture.read()
        if not found:
            return pictures
        pictures.append(picture)


def flat(level, size=(120, 160)):
    return np.full((*size, 3), level, np.uint8)

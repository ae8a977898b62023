"""Ctrl-C, SIGTERM and a kill in the middle of every long command."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Road, edgefer


@dataclass(frozen=True)
class Long:
    """A command that takes a while, and a sign that it is in the middle of its work."""

    arguments: Callable[[Road, Path], tuple[object, ...]]
    sign: Callable[[Path], bool]


LONG = {
    "train": Long(
        lambda road, out: ("train", "--model", "lenet", "--data", road.faces, "-o", out / "w.safetensors", *FOREVER),
        lambda out: (out / "w.safetensors").exists(),
    ),
    "export": Long(
        lambda road, out: ("export", "--model", "vgg9", "--random-weights", "-o", out / "x.onnx"),
        lambda out: any((out / ".tmp").glob("edgefer-simplify-*/in.onnx")),
    ),
    "build": Long(
        lambda road, out: ("build-engine", road.model, "--auto", "--calib", road.faces, "-o", out / "x.onnx"),
        lambda out: any(out.glob(".x.candidates.*.partial/*.onnx")),
    ),
    "bench": Long(
        lambda road, out: ("bench", road.fp32, "--data", road.faces, "--baseline", road.weights, "--seconds", "60"),
        lambda out: "timing" in (out / ".tmp" / "stderr").read_text(encoding="utf-8"),
    ),
}
FOREVER = ("--epochs", "100000", "--threads", "1")


@pytest.mark.parametrize(
    ("command", "how"),
    [*((command, how) for command in LONG for how in (signal.SIGINT, signal.SIGKILL)), ("build", signal.SIGTERM)],
)
def test_interrupted_commands_leave_nothing_half_written(road, tmp_path, command, how):
    (tmp_path / ".tmp").mkdir()
    arguments = [sys.executable, "-m", "edgefer", *map(str, LONG[command].arguments(road, tmp_path))]
    with (tmp_path / ".tmp" / "stderr").open("w+", encoding="utf-8") as stream:
        environment = {**os.environ, "TMPDIR": str(tmp_path / ".tmp")}
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=stream, env=environment)
        deadline = time.monotonic() + 120
        while not LONG[command].sign(tmp_path) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be interrupted"
        os.kill(process.pid, how)
        assert process.wait(timeout=60) == (-signal.SIGKILL if how == signal.SIGKILL else 130)
        stream.seek(0)
        stderr = stream.read()
    assert "Traceback" not in stderr
    hidden = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    if how != signal.SIGKILL:
        assert stderr.endswith("interrupted\n")
        assert hidden == {".tmp"}
        assert not list((tmp_path / ".tmp").glob("edgefer-*"))
    left = {path.name for path in tmp_path.iterdir()} - hidden
    if command != "train":
        assert left == set()
        return
    assert {"w.safetensors"} <= left <= {"w.safetensors", "w.safetensors.state"}
    again = ("export", "--model", "lenet", "--weights", tmp_path / "w.safetensors", "-o", tmp_path / "y.onnx")
    assert edgefer(*again).returncode == 0  # the best checkpoint so far is a whole file

"""One small road from synthetic faces to engines, made once and shared by the tests."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013


def edgefer(*arguments, timeout=300, **options):
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "edgefer", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        **options,
    )


@dataclass(frozen=True)
class Road:
    folder: Path

    def __getattr__(self, name):
        files = {
            "faces": "faces.npz",
            "weights": "lenet.safetensors",
            "model": "lenet.onnx",
            "fp32": "lenet.fp32.onnx",
            "int8": "lenet.int8.onnx",
        }
        return self.folder / files[name]


@pytest.fixture(scope="session")
def road(tmp_path_factory) -> Road:
    """faces → weights → model → FP32 and INT8 engines, through the commands."""
    road = Road(tmp_path_factory.mktemp("road"))
    images, labels = synthetic_faces(1400, seed=1)
    save_npz(road.faces, images, labels, FER2013, ["test"] * 400 + ["train"] * 1000)
    for arguments in (
        ("train", "--model", "lenet", "--data", road.faces, "-o", road.weights, "--epochs", 2, "--threads", 1),
        ("export", "--model", "lenet", "--weights", road.weights, "-o", road.model),
        ("build-engine", road.model, "--fp32", "-o", road.fp32),
        ("build-engine", road.model, "--int8", "--calib", road.faces, "-o", road.int8),
    ):
        done = edgefer(*arguments)
        assert done.returncode == 0, done.stderr
    return road

"""Networks as they are exported, with weights drawn from a seed, and a few drawn faces to calibrate with."""

from pathlib import Path

import pytest
import torch

from edgefer.data import draw, open_dataset, save_npz
from edgefer.data.classes import FER2013
from edgefer.graph.exporting import export


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """``exported(name)`` is the path of that network as ONNX, made once."""
    folder, made = tmp_path_factory.mktemp("models"), {}

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            made[name] = export(name, folder / f"{name}.onnx", random_weights=True).path
        return made[name]

    return make


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """24 drawn faces of a ``calib`` part."""
    path = tmp_path_factory.mktemp("faces") / "faces.npz"
    images, labels = draw(420, seed=3)
    save_npz(path, images, labels, FER2013, ["train"] * 420)
    return open_dataset(str(path))

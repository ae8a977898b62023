"""Small data sets of synthetic faces, and settings that finish in seconds."""

from pathlib import Path

import pytest

from edgefer.data import FaceSet, open_dataset, save_npz, synthetic_faces
from edgefer.training import TrainConfig


def synthetic(path: Path, count: int = 240, seed: int = 0) -> FaceSet:
    images, labels = synthetic_faces(count, seed, 24)[:2]
    if not path.exists():
        save_npz(path, images, labels, splits=["train"] * len(labels))
    return open_dataset(path)


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> FaceSet:
    return synthetic(tmp_path_factory.mktemp("synthetic") / "synthetic.npz")


def quick(**changes) -> TrainConfig:
    settings = {"epochs": 3, "batch_size": 32, "lr": 3e-3, "threads": 1, "checkpoint_seconds": 1000.0}
    return TrainConfig(**{**settings, **changes})

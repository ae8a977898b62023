"""Small data sets of drawn faces, and settings that finish in seconds."""

from pathlib import Path

import pytest

from edgefer.data import FaceSet, draw, open_dataset, save_npz
from edgefer.training import TrainConfig


def drawn(path: Path, count: int = 240, seed: int = 0) -> FaceSet:
    images, labels = draw(count, seed, 24)[:2]
    if not path.exists():
        save_npz(path, images, labels)
    return open_dataset(path)


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> FaceSet:
    return drawn(tmp_path_factory.mktemp("drawn") / "drawn.npz")


def quick(**changes) -> TrainConfig:
    settings = {"epochs": 3, "batch_size": 32, "lr": 3e-3, "threads": 1, "checkpoint_seconds": 1000.0}
    return TrainConfig(**{**settings, **changes})

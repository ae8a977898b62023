"""The faces that the benchmarks run on: a data set where there is one, drawn ones where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgefer.data import FaceSet, open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.progress import announce

REPOSITORY = Path(__file__).resolve().parents[1]
BESIDE = REPOSITORY.parent / "shared" / "data" / "fer2013"
"""Where FER2013 (not ours to ship) is looked for if --data is not given: train.npz and public_test.npz."""


def real_faces(data: str | None, folder: Path) -> tuple[FaceSet, str] | None:
    """``data``, or FER2013 beside the repository, with what to call it in results; None if there is neither."""
    if data is not None:
        return open_dataset(data), Path(data).name
    if not (BESIDE / "train.npz").is_file() or not (BESIDE / "public_test.npz").is_file():
        announce("no data set: accuracies are left out, ranges come from synthetic faces (--data DATA has both)")
        return None
    # One file with both parts, so that training faces which also are test faces are found and left out.
    parts = {
        name: open_dataset(f"{BESIDE / file}:all")
        for name, file in (("train", "train.npz"), ("test", "public_test.npz"))
    }
    images = np.concatenate([faces.images(np.arange(len(faces))) for faces in parts.values()])
    labels = np.concatenate([faces.labels for faces in parts.values()])
    splits = [name for name, faces in parts.items() for _ in range(len(faces))]
    save_npz(folder / "fer2013.npz", images, labels, FER2013, splits)
    return open_dataset(folder / "fer2013.npz"), "FER2013"


def synthetic_set(count: int, seed: int, path: Path) -> FaceSet:
    """``count`` synthetic faces, all in the split ``train``."""
    images, labels = synthetic_faces(count, seed)
    save_npz(path, images, labels, FER2013)
    return open_dataset(f"{path}:train")

"""Small data sets, made of synthetic faces."""

from pathlib import Path

import numpy as np
import pytest

from edgefer.data import synthetic_faces


@pytest.fixture(scope="session")
def faces():
    """210 synthetic faces, N×48×48×1, 30 a class, with labels."""
    return synthetic_faces(210, seed=5)


@pytest.fixture
def write_csv(tmp_path):
    """Write rows (label, 2304 pixels, usage) as a FER2013 csv; returns its path."""

    def write(rows, header="emotion,pixels,Usage", name="fer.csv") -> Path:
        lines = [header] + [f"{label},{' '.join(map(str, np.ravel(pixels)))},{usage}" for label, pixels, usage in rows]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n")
        return path

    return write

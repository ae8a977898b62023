"""Fakes that the report's tests share: a runtime in NumPy and a few faces. No figure comes from them."""

import time

import numpy as np
import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.data import FaceSet
from edgefer.data.npz import save_npz
from edgefer.data.opening import open_dataset
from edgefer.engines.classifier import Classifier
from edgefer.engines.session import TensorSpec

CLASSES = ("angry", "happy", "sad")


class FakeSession:
    """Reads the class from a face's first pixel, and errs where ``mistakes`` divides the second."""

    version = "0"

    def __init__(self, name, classes, mistakes, milliseconds):
        self.name = name
        self.classes = classes
        self.mistakes = mistakes
        self.seconds = milliseconds / 1000
        self.closed = False
        self.batches = []

    @property
    def inputs(self):
        return (TensorSpec("faces", "uint8", (None, 4, 4, 1)),)

    @property
    def outputs(self):
        return (TensorSpec("logits", "float32", (None, self.classes)),)

    def run(self, feeds):
        faces = feeds["faces"]
        self.batches.append(len(faces))
        time.sleep(self.seconds)
        wrong = (faces[:, 0, 1, 0] % self.mistakes == 0) if self.mistakes else 0
        return {"logits": np.eye(self.classes, dtype=np.float32)[(faces[:, 0, 0, 0] + wrong) % self.classes]}

    def close(self):
        self.closed = True


@pytest.fixture(scope="session")
def fake_classifier():
    def make(
        runtime="onnxruntime", precision="fp32", *, labels=CLASSES, mistakes=0, ms=0.2, name="fake", manifest=None
    ):
        session = FakeSession(runtime, len(labels), mistakes, ms)
        contract = Contract(labels, 4, 4, 1, Normalisation(), architecture="fakenet")
        return Classifier(session, contract, precision=precision, size_bytes=1234, name=name, manifest=manifest)

    return make


@pytest.fixture
def faces_file(tmp_path) -> str:
    """An npz of 150 different faces, 4×4: a third train, two thirds (100) test; its path."""
    count = 150
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(count) % len(CLASSES)
    images[:, 0, 0, 0] = labels
    images[:, 0, 1, 0] = np.arange(count)
    save_npz(tmp_path / "faces.npz", images, labels, CLASSES, ["train"] * 50 + ["test"] * 100)
    return str(tmp_path / "faces.npz")


@pytest.fixture
def faces(faces_file) -> FaceSet:
    return open_dataset(faces_file)

"""A small float model with labels that synthetic faces have, and a bundle of it."""

import numpy as np
import pytest

from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.deploy.bundle import make_bundle
from edgefer.optimize.settings import Quantisation
from tests.optimize.conftest import contract, network, write_model

SIZE = 12


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """model.onnx: seven classes, faces of 12×12."""
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    return write_model(path, network(classes=7), contract(labels=FER2013))


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """An npz of synthetic faces, shrunk: 700 to train on, 84 to test on."""
    path = tmp_path_factory.mktemp("faces") / "faces.npz"
    images, labels = synthetic_faces(784, seed=3)
    save_npz(path, np.ascontiguousarray(images[:, ::4, ::4]), labels, FER2013, ["train"] * 700 + ["test"] * 84)
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory, model, faces):
    """INT8 and FP16, calibrated and evaluated on those faces."""
    path = tmp_path_factory.mktemp("bundles") / "bundle"
    make_bundle(model, path, quantisation=Quantisation(open_dataset(str(faces))), data=open_dataset(str(faces)))
    return path

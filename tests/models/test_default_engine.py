"""The ready-to-run engine that ships is the network of the shipped weights, and runs wherever edgefer does."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

from edgefer.atomic import sha256_file
from edgefer.engines.classifier import check_golden
from edgefer.engines.load import load_baseline, load_engine
from edgefer.engines.session import open_session
from edgefer.faces import golden_faces
from edgefer.manifest import read_manifest, verify_file
from edgefer.models import DEFAULT, default_engine
from edgefer.models.weights import load_weights, shipped

MAKE = "python benchmarks/default_engine.py makes it anew"


def test_it_is_made_of_the_weights_that_ship():
    pytest.importorskip("torch")
    manifest = read_manifest(default_engine())
    verify_file(default_engine(), manifest)
    assert manifest.weights_sha256 == sha256_file(shipped(DEFAULT)), MAKE
    contract = load_weights(shipped(DEFAULT)).contract
    assert (manifest.contract.labels, manifest.contract.face_shape) == (contract.labels, contract.face_shape), MAKE
    assert manifest.contract.normalisation == contract.normalisation, MAKE
    with load_engine(default_engine()) as engine, load_baseline(DEFAULT) as network:
        faces = np.concatenate(
            [golden_faces(contract, 8), np.random.default_rng(0).integers(0, 256, (8, *contract.face_shape), np.uint8)]
        )
        wanted = network.logits(faces)
        assert np.abs(engine.logits(faces) - wanted).max() <= 1e-4 * np.abs(wanted).max(), MAKE


@pytest.mark.slow
def test_it_is_what_export_writes(tmp_path):
    from edgefer.graph.export import export

    export(load_weights(shipped(DEFAULT)).contract.architecture, tmp_path / "model.onnx", weights=shipped(DEFAULT))
    with load_engine(default_engine()) as engine, load_engine(tmp_path / "model.onnx") as exported:
        faces = golden_faces(engine.contract, 16)
        difference = np.abs(engine.logits(faces) - exported.logits(faces)).max()
        assert difference <= 1e-5 * np.abs(exported.logits(faces)).max(), MAKE
        assert engine.contract == exported.contract, MAKE
    layers = [
        [node.name for node in onnx.load(path).graph.node] for path in (default_engine(), tmp_path / "model.onnx")
    ]
    assert layers[0] == layers[1], MAKE


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_its_golden_vectors_hold_in_each_runtime_of_its_manifest(runtime):
    from edgefer.engines.classifier import Classifier

    pytest.importorskip(runtime)
    manifest = read_manifest(default_engine())
    assert runtime in manifest.golden.tolerance
    session = open_session(runtime, default_engine(), 1, "fp32")
    with Classifier.of_engine(session, manifest, "the engine") as classifier:
        assert check_golden(classifier, manifest.golden) < 1e-5


def test_it_opens_without_torch_and_without_a_note():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import edgefer\n"
        "with edgefer.load_engine(edgefer.models.default_engine()) as engine: print(engine.precision)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fp32\n", "")

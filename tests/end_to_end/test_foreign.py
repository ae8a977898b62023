"""A foreign network all the way: float NCHW, ImageNet normalisation, softmax, labels in another order."""

import json
import warnings

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.manifest import read_manifest
from tests.end_to_end.conftest import edgefer

ORDER = ("angry", "contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise")
CONTRACT = f"""
architecture = "foreign"
labels = {json.dumps(ORDER)}
[input]
height = 48
width = 48
channels = 3
[normalisation]
scale = "1/255"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"""
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("foreign")
    images, labels = synthetic_faces(700, seed=2)
    happy_first = ["happiness" if name == "happy" else name for name in FER2013]
    splits = ["test"] * 200 + ["train"] * 500
    save_npz(root / "faces.npz", images, labels, FER2013, splits)
    save_npz(root / "others.npz", images, labels, happy_first, splits)
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 8, 5, stride=3), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 8), nn.Softmax(1)),
    )
    network[-2].weight.data *= 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (torch.zeros(1, 3, 48, 48),), str(root / "foreign.onnx"), dynamo=False, opset_version=13
        )
    (root / "contract.toml").write_text(CONTRACT, encoding="utf-8")
    for arguments in (
        ("adopt", "foreign.onnx", "--contract", "contract.toml", "-o", "model.onnx"),
        ("build-engine", "model.onnx", "--fp32", "-o", "fp32.onnx"),
    ):
        done = edgefer(*arguments, cwd=root)
        assert done.returncode == 0, done.stderr
    return root


def test_accuracy_is_what_the_foreign_file_has_by_its_own_labels(folder):
    with np.load(folder / "faces.npz") as archive:
        images, labels = archive["images"][:200], archive["labels"][:200]
    session = ort.InferenceSession(str(folder / "foreign.onnx"), providers=["CPUExecutionProvider"])
    pixels = ((np.repeat(images, 3, axis=3) / 255 - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2)
    answers = [session.run(None, {session.get_inputs()[0].name: pixel[None]})[0][0] for pixel in pixels]
    right = np.mean([ORDER[a.argmax()] == FER2013[label] for a, label in zip(answers, labels, strict=True)])
    done = edgefer(
        *("bench", "fp32.onnx", "--data", "faces.npz", "--baseline", "model.onnx", "--seconds", 0.2, "--json"),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["accuracy"] == {"top1": pytest.approx(right), "n": 200, "left_out": 0}
    assert report["paired"]["agreement"] == 1.0
    assert "it has none of contempt" in done.stderr


def test_int8_of_a_network_with_a_class_more_than_the_data(folder):
    done = edgefer("build-engine", "model.onnx", "--int8", "--calib", "faces.npz", "-o", "x.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "images set the ranges" in done.stderr
    assert "agreement with float: " in done.stdout


def test_a_choice_needs_a_map_and_ranges_do_not(folder):
    """Faces of all eight classes, under other names."""
    images, labels = synthetic_faces(900, seed=3)
    names = [f"AU {name}" for name in (*FER2013, "contempt")]
    labels[::11] = 7
    save_npz(folder / "eight.npz", images, labels, names, ["train"] * 700 + ["test"] * 200)
    mapping = ",".join(f"{name}={name[3:]}" for name in names)
    arguments = ("build-engine", "model.onnx", "--int8", "--calib", "eight.npz", "-o", "int8.onnx")
    done = edgefer(*arguments, "--max-drop", 90, cwd=folder)
    assert done.returncode == 2
    assert "--map OLD=NEW" in done.stderr
    done = edgefer(*arguments, "--map", mapping, cwd=folder)
    assert done.returncode == 0, done.stderr
    manifest = read_manifest(folder / "int8.onnx")
    assert manifest.precision.has_int8
    assert manifest.contract.labels == ORDER
    bench = ("bench", "int8.onnx", "--baseline", "model.onnx", "--seconds", 0.2, "--json", "--data", "eight.npz")
    done = edgefer(*bench, "--map", mapping, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["paired"]["agreement"] > 0.6


def test_names_that_differ_are_not_guessed(folder):
    bench = ("bench", "fp32.onnx", "--baseline", "model.onnx", "--seconds", 0.2, "--json", "--data", "others.npz")
    done = edgefer(*bench, cwd=folder)
    assert done.returncode == 2
    assert "happiness" in done.stderr
    assert "--map" in done.stderr
    done = edgefer(*bench, "--map", "happiness=happy", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_refusals_are_two_lines(folder, tmp_path):
    (tmp_path / "f.onnx").write_bytes(b"nothing")
    done = edgefer("adopt", tmp_path / "f.onnx", "--contract", "contract.toml", "-o", tmp_path / "m.onnx", cwd=folder)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert "is not ONNX" in lines[0]
    assert lines[1].startswith("hint: ")
    assert not (tmp_path / "m.onnx").exists()

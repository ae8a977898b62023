import json

import onnx
import pytest
import torch

from edgefer.contract import Contract
from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.models import create, names
from tests.end_to_end.conftest import edgefer
from tests.models.keras_files import network_like, write_keras


def test_from_a_keras_file_to_an_int8_engine(tmp_path):
    name = "mini_xception_keras48"
    weights, model, engine = tmp_path / "w.safetensors", tmp_path / "m.onnx", tmp_path / "m.int8.onnx"
    keras = write_keras(tmp_path / "k.hdf5", network_like(name), name)
    done = edgefer("import-weights", keras, "--model", "mini_xception_keras", "-o", weights)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{weights}: 80 tensors of {name}; 48×48×1 faces, 7 classes: angry, disgust")
    assert f"is of mini_xception_keras's variant {name}" in done.stderr
    done = edgefer("export", "--model", "mini_xception_keras", "--weights", weights, "-o", model)
    assert done.returncode == 0, done.stderr
    metadata = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    lineage = Contract.from_metadata(metadata, "m").lineage
    assert lineage["imported_from"] == "k.hdf5"
    images, labels = synthetic_faces(1000, seed=1)
    save_npz(tmp_path / "faces.npz", images, labels, FER2013, ["train"] * 1000)
    arguments = ("--int8", "--calib", tmp_path / "faces.npz", "-o", engine)
    done = edgefer("build-engine", model, *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "m.int8.onnx.json").read_text())["precision"]["got"] == "int8"


def test_what_is_assumed_and_unused_is_said(tmp_path):
    torch.save({"model_state_dict": create("ddamfn", 8).state_dict()}, tmp_path / "w.pth")
    out = tmp_path / "w.safetensors"
    done = edgefer("import-weights", tmp_path / "w.pth", "--model", "ddamfn", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "assumed, for the file does not say: its classes are neutral, happy" in done.stderr
    assert "221 tensors known to be unused: features.*.conv_dw.bn (15 tensors)" in done.stderr
    chosen = ("--verbose", "--classes", "neutral, happy,sad,surprise,fear,disgust,angry,contempt")
    done = edgefer("import-weights", tmp_path / "w.pth", "--model", "ddamfn", *chosen, "-o", out)
    assert "its classes are" not in done.stderr
    assert "pixels are scaled as imagenet (else: --normalisation)" in done.stderr
    assert "features.3.model.8.conv_dw.prelu.weight" in done.stderr
    assert done.stdout.strip().endswith("8 classes: neutral, happy, sad, surprise, fear, disgust, angry, contempt")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("none.hdf5", "--model", "big_xception"), "there are no weights none.hdf5", "check the path"),
        (("w.pth", "--model", "mini_xception"), "w.pth does not fit mini_xception with 7 classes", "--model"),
        (("w.pth", "--model", "lenet", "--classes", "a,b"), "misshapen: classifier.4.weight", "--drop-head"),
        (("k.hdf5", "--model", "big_xception"), "k.hdf5 holds another network", "--model mini_xception_keras"),
    ],
)
def test_bad_input_is_two_lines(tmp_path, arguments, message, hint):
    torch.save(create("lenet").state_dict(), tmp_path / "w.pth")
    write_keras(tmp_path / "k.hdf5", network_like("mini_xception_keras"), "mini_xception_keras")
    done = edgefer("import-weights", *arguments, "-o", "out.safetensors", cwd=tmp_path)
    assert done.returncode == 2
    error, help_ = done.stderr.strip().splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert help_.startswith("hint: ")
    assert hint in help_
    assert not (tmp_path / "out.safetensors").exists()


def test_models_lists_every_network_with_its_counts_and_sources():
    done = edgefer("models")
    assert done.returncode == 0
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line and not line.startswith(" ")}
    assert set(names()) <= set(rows)
    assert "65.04 % FER2013" in rows["mini_xception"]
    assert "65.5 %" in rows["mini_xception_keras"]
    for heading in ("input", "M params", "MMACs", "weights", "top-1", "published"):
        assert heading in done.stdout.splitlines()[0]
    networks = {row["name"]: row for row in json.loads(edgefer("models", "--json").stdout)["networks"]}
    assert networks["mini_xception"]["parameters"] == {"7": 58_047, "8": 59_200}
    assert "oarriaga" in networks["mini_xception_keras"]["measured"]

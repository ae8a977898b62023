import json

import numpy as np
import pytest

from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.models import names
from tests.end_to_end.conftest import edgefer

FILES = {
    "weights.safetensors",
    "model.onnx",
    "model.fp32.onnx",
    "model.fp32.onnx.json",
    "model.int8.onnx",
    "model.int8.onnx.json",
    "report.json",
    "contact-sheet.png",
}
UNTRAINED = "mini_xception_keras48"  # small, and no weights of it ship


def check(done, folder, expected, agreement=1.0):
    assert done.returncode == 0, done.stderr
    for row in ("PyTorch FP32", "onnxruntime FP32", "onnxruntime INT8", "p95 ms", "drop"):
        assert row in done.stdout
    assert {path.name for path in folder.iterdir()} == expected
    assert all(str(folder / name) in done.stdout for name in expected)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [report["precision"], report["others"][0]["precision"]] == ["fp32", "int8"]
    assert report["paired"]["agreement"] >= agreement
    cv2 = pytest.importorskip("cv2")
    sheet = cv2.imread(str(folder / "contact-sheet.png"))
    assert sheet.shape[0] > 400
    assert np.std(sheet) > 20
    return report


def test_quickstart_needs_no_data(tmp_path):
    folder = tmp_path / "out"
    check(edgefer("quickstart", "-o", folder, "--seconds", 4), folder, FILES | {"faces.npz"})


def test_quickstart_on_a_dataset_without_splits(tmp_path):
    images, labels = synthetic_faces(1500, seed=2)
    save_npz(tmp_path / "mine.npz", images, labels, FER2013)
    folder = tmp_path / "out"
    done = edgefer("quickstart", "--data", tmp_path / "mine.npz", "--model", UNTRAINED, "-o", folder, "--seconds", 3)
    assert "divided 80 : 20" in done.stderr
    report = check(done, folder, FILES)
    assert 200 < report["accuracy"]["n"] < 400


def test_quickstart_on_data_that_are_not_there(tmp_path):
    done = edgefer("quickstart", "--data", tmp_path / "none.csv", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_small_network_learns_the_synthetic_faces_but_not_all_of_them(tmp_path):
    folder = tmp_path / "out"
    report = check(edgefer("quickstart", "-o", folder, "--seconds", 120), folder, FILES | {"faces.npz"})
    assert 0.85 <= report["baseline"]["accuracy"]["top1"] <= 0.99
    assert report["others"][0]["accuracy"]["top1"] > 0.83


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name != "mini_xception"])
def test_every_network_goes_the_whole_road(name, tmp_path):
    folder = tmp_path / "out"
    done = edgefer("quickstart", "--model", name, "-o", folder, "--seconds", 5, timeout=1800)
    report = check(done, folder, FILES | {"faces.npz"}, agreement=0.99)  # logits after seconds are all but equal
    assert report["model"] == name

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.measure.disturbance import UNDISTURBED
from edgefer.models import names
from edgefer.quickstart import _start, int8_verdict
from tests.end_to_end.conftest import edgefer

FILES = {
    "weights.safetensors",
    "model.onnx",
    "model.fp32.onnx",
    "model.fp32.onnx.json",
    "model.int8.onnx",
    "model.int8.onnx.json",
    "report.html",
    "report.json",
    "contact-sheet.png",
}


def check(done, folder, expected, agreement=1.0, where=None):
    assert done.returncode == 0, done.stderr
    for row in ("weights.safetensors", "model.fp32.onnx", "model.int8.onnx", "p95 ms", "drop", "INT8 "):
        assert row in done.stdout
    assert len(re.findall(r"^  edgefer \S+", done.stdout.partition("\nnext:\n")[2], re.MULTILINE)) == 3
    assert "</html>" in (folder / "report.html").read_text(encoding="utf-8")
    assert {path.name for path in folder.iterdir()} == expected
    assert all(str(Path(where or folder) / name) in done.stdout for name in expected)
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [report["precision"], report["others"][0]["precision"]] == ["fp32", "int8"]
    assert report["paired"]["agreement"] >= agreement
    cv2 = pytest.importorskip("cv2")
    sheet = cv2.imread(str(folder / "contact-sheet.png"))
    assert sheet.shape[0] > 250
    assert np.std(sheet) > 20
    return report


def test_quickstart_needs_no_data_and_begins_with_the_weights_that_ship(tmp_path):
    folder = tmp_path / "out"
    done = edgefer("quickstart", "--model", "mini_xception", "-o", folder, "--seconds", 4)
    check(done, folder, FILES | {"faces.npz"})
    assert "fine-tuning the weights that ship as mini_xception\n" in done.stderr


def test_quickstart_on_a_folder_for_each_of_three_classes(tmp_path):
    cv2 = pytest.importorskip("cv2")
    images, labels = synthetic_faces(900, seed=2)
    for index, name in ((3, "glad"), (4, "not_glad"), (6, "other")):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for face in np.flatnonzero(labels == index):
            cv2.imwrite(str(tmp_path / "mine" / name / f"{face}.png"), images[face])
    done = edgefer("quickstart", "--data", "mine", "--model", "lenet", "-o", "out", "--seconds", 2, cwd=tmp_path)
    check(done, tmp_path / "out", FILES, where="out")
    assert "divided 80 : 20" in done.stderr
    assert "with a new last layer for 3 classes: glad, not_glad, other" in done.stderr
    assert "edgefer train --model lenet --init out/weights.safetensors --data mine" in done.stdout


@pytest.mark.parametrize(
    ("int8_ms", "said"),
    [
        (1.0, "INT8 is 2.5 × as fast as FP32"),
        (2.5, "INT8 does not pay"),
        (3.0, "INT8 does not pay"),
        (None, "not timed"),
    ],
)
def test_the_verdict_says_in_words_whether_int8_pays(int8_ms, said):
    fp32, int8 = (
        SimpleNamespace(latency=SimpleNamespace(p50=ms), size_bytes=size, disturbed=UNDISTURBED)
        for ms, size in ((2.5, 4000), (int8_ms, 1000))
    )
    assert said in int8_verdict(fp32, int8)


def test_weights_that_met_the_test_faces_are_not_begun_with(shared, tmp_path, capsys):
    with np.load(shared / "data" / "fer2013" / "train.npz") as content:
        save_npz(tmp_path / "met.npz", content["images"][:600, ..., None], content["labels"][:600])
    faces = open_dataset(tmp_path / "met.npz").redivided()
    assert _start("lenet", faces, tmp_path / "x.safetensors", real=True).weights is None
    assert "are too few to measure on: training starts from random weights" in capsys.readouterr().err


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
@pytest.mark.parametrize("name", [name for name in names() if name != "cliquenet"])
def test_every_network_goes_the_whole_road(name, tmp_path):
    folder = tmp_path / "out"
    done = edgefer("quickstart", "--model", name, "-o", folder, "--seconds", 5, timeout=1800)
    report = check(done, folder, FILES | {"faces.npz"}, agreement=0.99)  # logits after seconds are all but equal
    assert report["model"] == name

"""The quantisation benchmark: what it keeps of a run that was stopped, its peers' environments, its table."""

import json
import subprocess

import numpy as np
import pytest

from edgefer.data import open_dataset, save_npz
from edgefer.errors import EdgeferError


@pytest.fixture
def faces(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 1), dtype=np.uint8)
    save_npz(tmp_path / "faces.npz", images, np.arange(12) % 2, ["a", "b"])
    return open_dataset(f"{tmp_path / 'faces.npz'}:train")


def row(label, agreement=0.98, drop=0.1, **more):
    return {
        "label": label,
        "runtime": "onnxruntime",
        "seconds": 3.2,
        "bytes": 1_300_000,
        "agreement": agreement,
        "agreement_ci95": [agreement - 0.01, agreement + 0.01],
        "drop_pp": drop,
        "ci95_pp": [drop - 1, drop + 1],
        "sqnr_db": 29.0,
        "kl": 0.00123,
        **more,
    }


ABOUT = {"architecture": "net", "weights_sha256": "w", "top1": 0.65, "top1_ci95": [0.6, 0.7]}


def test_a_stopped_run_goes_on_with_the_rows_that_still_hold(faces, tmp_path, monkeypatch):
    import quantisation

    path = tmp_path / "q.json"
    first = quantisation.Record(path, faces, faces, 500)
    entry = first.network("net", ABOUT)
    entry["rows"] = [row("edgefer"), row("OpenVINO NNCF"), {"label": "nvidia-modelopt", "skipped": "no network"}]
    first.result["networks"]["net"] = entry
    first.write()

    def kept(weights="w", count=500):
        record = quantisation.Record(path, faces, faces, count)
        return [r["label"] for r in record.network("net", {**ABOUT, "weights_sha256": weights})["rows"]]

    assert kept() == ["edgefer", "OpenVINO NNCF"]  # what was left out is tried again
    assert kept(weights="others") == []
    assert kept(count=100) == []
    monkeypatch.setattr(quantisation, "_code", lambda: "changed")
    assert kept() == ["OpenVINO NNCF"]
    monkeypatch.undo()
    assert json.loads(path.read_text())["quick"] is True  # no page shows it
    first.finish(quick=False)
    assert kept() == []  # a whole run is not gone on with
    assert json.loads(path.read_text())["quick"] is False


def test_an_environment_is_made_once_and_again_for_other_versions(tmp_path, monkeypatch):
    import quantisation

    made, asked = [], []
    monkeypatch.setattr(quantisation.venv, "create", lambda home, **_: (made.append(home), home.mkdir(exist_ok=True)))

    def pip(command, **_):
        asked.append(command[command.index("--quiet") + 1 :])
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    python = quantisation.environment("modelopt", tmp_path)
    assert python == tmp_path / "modelopt" / "bin" / "python"
    assert asked == [list(step) for step in quantisation.PEERS["modelopt"]]
    quantisation.environment("modelopt", tmp_path)
    assert len(made) == 1
    monkeypatch.setitem(quantisation.PEERS, "modelopt", (("nvidia-modelopt==99",),))
    quantisation.environment("modelopt", tmp_path)
    assert len(made) == 2

    def no_network(command, **_):
        return subprocess.CompletedProcess(command, 1, "", "trying\nno route to host\n")

    monkeypatch.setattr(subprocess, "run", no_network)
    with pytest.raises(EdgeferError, match=r"pip could not install nncf==.* no route to host"):
        quantisation.environment("nncf", tmp_path)


def test_the_table_shows_what_held_and_what_did_not():
    from quantisation import page

    rows = [row("edgefer", 0.9821), row("edgefer, all steps", 0.9830), row("OpenVINO NNCF", 0.9729)]
    rows.append({"label": "nvidia-modelopt", "skipped": "pip could not install it"})
    result = {
        "calibration": {"data": "train.npz", "faces": 500},
        "test": {"data": "test.npz", "faces": 3573},
        "networks": {"net": {**ABOUT, "rows": rows}},
    }
    text = page(result)
    assert "| edgefer | ONNX Runtime | 98.21 % [97.21, 99.21] | +0.10 [-0.90, +1.10] | 29.0 | 1.23 | 1.30 | 3 |" in text
    assert "| edgefer, all steps | ONNX Runtime | **98.30 %** [" in text
    assert "| nvidia-modelopt | – | not run: pip could not install it |" in text
    assert (
        "At the defaults: agreement of 98.5 % **not held**; drop of at most 0.3 points held; "
        "first in agreement held (the best peer is OpenVINO NNCF, 97.29 %)." in text
    )
    result["networks"]["net"]["rows"] = [row("edgefer", 0.99, 0.4), row("OpenVINO NNCF", 0.995)]
    assert (
        "agreement of 98.5 % held; drop of at most 0.3 points **not held**; first in agreement **not held** "
        "(the best peer is OpenVINO NNCF, 99.50 %)." in page(result)
    )

"""Every file that a command writes is named once, and so is a folder that it makes."""

import json
import os
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from tests.report.conftest import invented  # noqa: F401 - a fixture

COMMANDS = (
    "report report.json --html new/a.html --markdown new/a.md",
    "compare report.json report.json --json new/a.json",
    "gate report.json --min-top1 1% --junit new/a.xml --json new/a.json",
    "contract new -o new/a.toml",
    "export --model lenet --random-weights -o new/a.onnx",
    "build-engine lenet.onnx --fp32 -o new/a.onnx",
    "build-engine lenet.onnx --int8 --calib faces.npz -o new/a.onnx",
    "calibrate lenet.onnx --calib faces.npz -o new/a.jsonl",
    "sweep lenet.fp32.onnx --data faces.npz --seconds 0.05 --batches 1 --json new/a.json",
    "data inspect faces.npz --sheet new/a.png",
    "predict lenet.fp32.onnx face.png --whole -o new",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, invented):  # noqa: F811
    made = tmp_path_factory.mktemp("written")
    images, labels = synthetic_faces(280, 0)
    save_npz(made / "faces.npz", images, labels, FER2013, ["test"] * 80 + ["train"] * 200)
    cv2.imwrite(str(made / "face.png"), images[0])
    (made / "report.json").write_text(json.dumps(invented().to_json()), encoding="utf-8")
    model, engine = str(made / "lenet.onnx"), str(made / "lenet.fp32.onnx")
    for line in (
        ["export", "--model", "lenet", "--random-weights", "-o", model],
        ["build-engine", model, "--fp32", "-o", engine],
    ):
        assert CliRunner().invoke(cli, line).exit_code == 0
    return made


@pytest.mark.parametrize("line", COMMANDS)
def test_what_is_written_is_named_once(folder, monkeypatch, tmp_path, line):
    for name in os.listdir(folder):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = [part for part in done.output.splitlines() if not part.startswith("next: ")]
    assert sum(part.startswith("made the folder ") and part.endswith("/new") for part in said) == 1
    written = sorted(Path("new").iterdir())
    assert written
    for path in written:
        if path.name != "face.png":  # pictures are counted, and their folder is named
            named = [
                part
                for part in said
                if path.name in part.replace(",", " ").replace(":", " ").split() or str(path) in part
            ]
            assert len([part for part in named if not part.startswith("made the folder")]) == 1, (path, done.output)
    if line.startswith("predict"):
        assert "1 picture written to new, with boxes and labels" in said

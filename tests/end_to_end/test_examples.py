"""Every example of the help, run as it stands there, in a folder that has the files it names."""

import csv
import shlex
import shutil
import subprocess
import sys

import click
import numpy as np
import pytest

from edgefer.cli import cli
from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013, FERPLUS, canonical

SHORTER = {
    "edgefer quickstart": ("--seconds", "2"),
    "edgefer train": ("--max-seconds", "2"),
    "edgefer bench": ("--seconds", "2"),
    "edgefer sweep": ("--seconds", "0.2"),
}
"""Options that are added so that a run takes seconds; the last one given counts."""

NOT_RUN = {
    "edgefer camera": "a webcam",
    "edgefer web": "a browser, and somebody who ends it",
    "edgefer web model.int8.onnx --beside model.onnx --port 8080": "a browser, and somebody who ends it",
    "edgefer deploy check bundle bundle/engines/model.engine": "an engine that a device with a GPU built",
}
"""Parsed by tests/cli/test_help.py only; what they need."""

MAY_SAY_NO = {"edgefer contract check", "edgefer gate", "edgefer data inspect", "edgefer doctor"}
"""Commands whose exit code is an answer, 1 or 3, about what was measured."""

NETS = """
from torch import nn

def Net(num_classes):
    pooled = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*pooled, nn.Linear(4, num_classes))
"""
MODULE = [sys.executable, "-m", "edgefer"]


def examples():
    for name, command in cli.commands.items():
        parts = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for part, leaf in parts:
            yield from (pytest.param(f"edgefer {name} {part}".strip(), e, id=e.split("\n")[0]) for e in leaf.examples)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with everything that the examples name."""
    import cv2
    import onnx
    import torch
    from onnx import helper

    from edgefer.models import create
    from tests.models.keras_files import network_like, write_keras

    place = tmp_path_factory.mktemp("examples")
    images, labels = synthetic_faces(900, seed=3)
    splits = ["test"] * 300 + ["train"] * 600
    save_npz(place / "faces.npz", images, labels, FER2013, splits)
    for name in ("f.npz", "t.npz", "test.npz"):
        shutil.copy(place / "faces.npz", place / name)
    with (place / "fer2013.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("emotion", "pixels", "Usage"))
        for image, label, split in zip(images, labels, splits, strict=True):
            pixels = " ".join(map(str, image.ravel()))
            rows.writerow((label, pixels, {"test": "PublicTest", "train": "Training"}[split]))
    for index in range(280):
        path = place / "faces" / FER2013[index % 7] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), images[np.flatnonzero(labels == index % 7)[index // 7]])
    (place / "photos").mkdir()
    for index in range(60):
        cv2.imwrite(str(place / "photos" / f"{index}.png"), images[index])
    votes = 10 * np.eye(10, dtype=np.int64)[[FERPLUS.index(canonical(FER2013[label])) for label in labels]]
    np.savez(place / "fer.npz", images=images, labels=labels, splits=splits, ferplus_votes=votes)
    picture = np.full((240, 320, 3), 120, np.uint8)
    picture[60:204, 90:234] = cv2.cvtColor(cv2.resize(images[0], (144, 144)), cv2.COLOR_GRAY2BGR)
    cv2.imwrite(str(place / "photo.jpg"), picture)
    cv2.imwrite(str(place / "face.png"), images[0])
    (place / "holidays").mkdir()
    cv2.imwrite(str(place / "holidays" / "1.jpg"), picture)
    video = cv2.VideoWriter(str(place / "in.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (320, 240))
    for _ in range(10):
        video.write(picture)
    video.release()

    (place / "nets.py").write_text(NETS)
    torch.save(create("mini_xception").state_dict(), place / "net.pth")
    layers: dict = {}
    exec(NETS, layers)
    torch.save(layers["Net"](7).state_dict(), place / "n.pth")
    shutil.copy(place / "n.pth", place / "weights.pth")
    from edgefer.models.registry import default_contract
    from edgefer.models.weights import save_weights

    save_weights(place / "a.safetensors", create("lenet").state_dict(), default_contract("lenet", FER2013))
    teacher = create("lenet", 8).state_dict()
    save_weights(place / "teacher.safetensors", teacher, default_contract("lenet", FERPLUS))
    write_keras(place / "net.hdf5", network_like("mini_xception_keras"), "mini_xception_keras")
    body = [helper.make_node("GlobalAveragePool", ["x"], ["m"]), helper.make_node("Flatten", ["m"], ["f"])]
    body += [helper.make_node("Gemm", ["f", "w"], ["y"])]
    weights = onnx.numpy_helper.from_array(np.linspace(-1, 1, 7, dtype=np.float32)[None], "w")
    ends = [helper.make_tensor_value_info("x", 1, ["N", 1, 48, 48]), helper.make_tensor_value_info("y", 1, ["N", 7])]
    graph = helper.make_graph(body, "foreign", ends[:1], ends[1:], [weights])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), place / "foreign.onnx"
    )
    tall = [helper.make_node("Transpose", ["n"], ["x"], perm=[0, 3, 1, 2]), *body]
    ends[0] = helper.make_tensor_value_info("n", 1, ["N", 48, 48, 1])
    nhwc = helper.make_graph(tall, "foreign", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(nhwc, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), place / "nhwc.onnx")
    from edgefer.contract_file import render_contract

    contract = default_contract("lenet", FER2013)
    (place / "contract.toml").write_text(render_contract(contract))
    shutil.copy(place / "contract.toml", place / "c.toml")

    def run(line):
        done = subprocess.run(
            [*MODULE, *shlex.split(line)], cwd=place, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout

    run("export --model mini_xception -o model.onnx")
    run("calibrate model.onnx --calib faces.npz -o t.jsonl")
    run("build-engine model.onnx --int8 --calib faces.npz -o model.int8.onnx")
    run("build-engine model.onnx --auto --calib faces.npz -o model.auto.onnx")
    run("build-engine model.onnx --fp32 -o a.onnx")
    run("build-engine model.onnx --fp32 -o b.onnx")
    run("export --module nets:Net --weights n.pth --contract c.toml -o n.onnx")
    run("build-engine n.onnx --int8 --calib faces.npz -o n.int8.onnx")
    run("deploy bundle model.onnx --calib faces.npz -o bundle")
    report = run("bench model.int8.onnx --data t.npz --baseline model.onnx --seconds 2 --json")
    for name in ("report", "main", "old", "new", "pi5", "orin"):
        (place / f"{name}.json").write_text(report)
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("command", "example"), list(examples()))
def test_an_example_runs_as_it_stands(command, example, folder, tmp_path):
    if example in NOT_RUN:
        pytest.skip(f"needs {NOT_RUN[example]}")
    place = tmp_path / "here"
    shutil.copytree(folder, place)
    if command == "edgefer deploy bundle":
        shutil.rmtree(place / "bundle")
    if command == "edgefer contract new":
        (place / "contract.toml").unlink()
    if "--layout NHWC" in example:
        shutil.copy(place / "nhwc.onnx", place / "foreign.onnx")
    words = shlex.split(example.replace("\\\n", " "))
    end = next((i for i, word in enumerate(words) if word in ("|", ">")), len(words))
    line = [*MODULE, *words[1:end], *SHORTER.get(command, ())]
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, check=False, timeout=900)
    assert "Traceback" not in done.stderr
    assert done.returncode in ((0, 1, 3) if command in MAY_SAY_NO else (0,)), done.stderr
    for flag in ("-o", "--html", "--png", "--junit", "--video", "--sheet"):
        if flag in words:
            written = place / words[words.index(flag) + 1]
            assert written.exists(), f"{written} was not written"
            assert written.stat().st_mtime_ns != before.get(written)


def test_what_is_not_run_is_an_example():
    assert set(NOT_RUN) <= {parameter.values[1] for parameter in examples()}

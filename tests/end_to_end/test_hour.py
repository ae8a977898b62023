"""The hour of a new user: an own network, own images and no patience, on a machine that does something else too.

An own CNN with SiLU and squeeze-excite, 600 images without labels, 3,000 with labels in a folder for each class, a
foreign ONNX of eight classes, and a process beside it that uses 0.3 of a core. Every command must end well, and the
files that one writes are what the next one takes.
"""

import json
import re
import subprocess
import sys

import pytest

from edgefer.data import synthetic_faces
from edgefer.data.classes import FER2013, FERPLUS
from edgefer.manifest import read_manifest
from tests.end_to_end.conftest import edgefer

torch = pytest.importorskip("torch")
cv2 = pytest.importorskip("cv2")

pytestmark = pytest.mark.slow

NETS = """
from torch import nn


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        squeeze = nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels // 4, 1), nn.SiLU()
        self.gate = nn.Sequential(*squeeze, nn.Conv2d(channels // 4, channels, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.gate(x)


class Net(nn.Module):
    def __init__(self, num_classes=7):
        super().__init__()
        layers, before = [], 1
        for width in (8, 16, 32):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.SiLU()]
            layers += [SqueezeExcite(width), nn.MaxPool2d(2)]
            before = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(before * 36, num_classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))
"""

BUSY = """
import time
while True:
    end = time.process_time() + 0.03
    while time.process_time() < end:
        pass
    time.sleep(0.07)
"""
"""Uses 0.3 of a core."""

CONTRACT = """
architecture = "mine"
labels = {labels}

[input]
height = 48
width = 48
channels = 1

[normalisation]
scale = "1/255"
mean = [0.0]
std = [1.0]
"""


def write_faces(folder, images, labels=None):
    for index, image in enumerate(images):
        path = folder / (FER2013[labels[index]] if labels is not None else ".") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of the user, with a trained checkpoint; something else runs on the machine meanwhile."""
    folder = tmp_path_factory.mktemp("hour")
    (folder / "nets.py").write_text(NETS)
    images, labels = synthetic_faces(3600, seed=11)
    write_faces(folder / "photos", images[:600])
    write_faces(folder / "faces", images[600:], labels[600:])
    (folder / "c.toml").write_text(CONTRACT.format(labels=json.dumps(list(FER2013))))
    train = ("train", "--module", "nets:Net", "--contract", "c.toml", "--data", "faces", "-o", "trained.safetensors")
    run(folder, *train, "--epochs", 6, "--lr", 5e-3, "--ema-decay", 0.95, "--augment", 0.5, "--threads", 1)
    made: dict = {}
    exec(NETS, made)
    network = made["Net"](7)
    from edgefer.models.weights import load_weights

    network.load_state_dict(load_weights(folder / "trained.safetensors").state)
    torch.save(network.state_dict(), folder / "mine.pth")
    foreign = torch.nn.Sequential(made["Net"](8), torch.nn.Softmax(dim=1)).eval()
    torch.onnx.export(
        foreign, (torch.zeros(1, 1, 48, 48),), str(folder / "foreign.onnx"), dynamo=False, opset_version=17
    )
    beside = subprocess.Popen([sys.executable, "-c", BUSY])
    yield folder
    beside.kill()
    beside.wait()


def run(folder, *arguments):
    done = edgefer(*arguments, cwd=folder, timeout=1200)
    assert done.returncode == 0, f"edgefer {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
    return done


def next_command(done):
    """What the command said to type next, without its program."""
    (line,) = re.findall(r"^next: edgefer (.*)$", done.stderr, re.MULTILINE)
    return line.split()


def test_from_an_own_checkpoint_to_a_report(place):
    new = run(place, "contract", "new", "--module", "nets:Net", "--weights", "mine.pth", "-o", "new.toml")
    assert "new.toml" in new.stdout
    export = ("export", "--module", "nets:Net", "--weights", "mine.pth", "--contract", "c.toml", "-o", "mine.onnx")
    build = next_command(run(place, *export))
    assert build[:2] == ["build-engine", "mine.onnx"]
    built = run(place, *(word if word != "FACES" else "photos" for word in build))
    assert (place / "mine.int8.onnx").exists()
    assert read_manifest(place / "mine.int8.onnx").precision.got == "int8"
    assert re.search(r"agree", built.stdout), built.stdout
    bench = next_command(built)
    assert bench[:2] == ["bench", "mine.int8.onnx"]
    own = ("--baseline", "nets:Net", "--weights", "mine.pth", "--contract", "c.toml")
    done = run(place, "bench", "mine.int8.onnx", "--data", "faces", *own, "--seconds", 5, "--json", "report.json")
    assert "p50 ms" in done.stdout + done.stderr
    report = json.loads((place / "report.json").read_text())
    assert report["latency_ms"]["p50"] > 0  # shown, though something else ran
    assert 400 < report["accuracy"]["n"] <= 700  # a fifth of the labelled faces
    assert report["paired"]["agreement"] > 0.9
    run(place, "report", "report.json", "--html", "report.html")
    assert "</html>" in (place / "report.html").read_text()


def test_the_contract_is_checked_and_a_wrong_one_is_found(place):
    wrong = CONTRACT.format(labels=json.dumps(list(FER2013))).replace("mean = [0.0]", "mean = [0.5]")
    (place / "wrong.toml").write_text(wrong.replace("std = [1.0]", "std = [0.5]"))
    own = ("--module", "nets:Net", "--weights", "mine.pth")
    check = edgefer("contract", "check", *own, "--contract", "c.toml", "--data", "faces", cwd=place, timeout=1200)
    assert check.returncode == 0, check.stdout + check.stderr
    found = edgefer("contract", "check", *own, "--contract", "wrong.toml", "--data", "faces", cwd=place, timeout=1200)
    assert found.returncode == 1, found.stdout + found.stderr
    assert re.search(r"0\D+1\b", found.stdout), found.stdout


def test_a_foreign_onnx_of_eight_classes(place):
    (place / "eight.toml").write_text(CONTRACT.format(labels=json.dumps(list(FERPLUS))))
    build = next_command(run(place, "adopt", "foreign.onnx", "--contract", "eight.toml", "-o", "adopted.onnx"))
    run(place, *(word if word != "FACES" else "photos" for word in build))
    done = run(place, "bench", "adopted.int8.onnx", "--data", "faces", "--baseline", "adopted.onnx", "--seconds", 3)
    assert re.search(r"^adopted\.int8\.onnx +~?\d", done.stdout, re.MULTILINE), done.stdout  # a latency, marked or not
    assert re.search(r"^INT8 \(adopted\.int8\.onnx\): ", done.stdout, re.MULTILINE)  # the verdict

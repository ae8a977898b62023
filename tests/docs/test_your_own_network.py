"""The tutorial is run: every block of docs/your-own-network.md, in order, in an empty folder."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgefer.graph.onnx_file import load_model
from edgefer.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "your-own-network.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run(line, folder):
    """A line of a shell block, with this interpreter as ``python`` and as ``edgefer``."""
    words = shlex.split(line)
    program = {"python": [sys.executable], "edgefer": [sys.executable, "-m", "edgefer"]}[words[0]]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [*program, *words[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The folder after the page, and what each command printed."""
    folder = tmp_path_factory.mktemp("tutorial")
    printed = {}
    for kind, name, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "sh":
            for line in filter(None, text.splitlines()):
                result = run(line, folder)
                assert result.returncode == 0, f"{line}\n{result.stderr}"
                printed[line] = result
        else:
            assert name, f"a {kind} block without a file name"
            (folder / name).write_text(text, encoding="utf-8")
    return folder, printed


def output(printed, start):
    return next(result for line, result in printed.items() if line.startswith(start))


def test_it_ends_in_an_int8_engine(done):
    folder, _ = done
    manifest = read_manifest(folder / "model.int8.onnx")
    assert manifest.precision.has_int8
    assert manifest.contract.architecture == "my_net"
    assert manifest.contract.labels[4] == "neutral"
    assert len(manifest.weights_sha256) == 64


def test_labels_in_another_order_cost_nothing(done):
    """Above chance by far: faces in FER2013's order, a network in alphabetical order."""
    folder, printed = done
    assert "brought by name into the network's order" in output(printed, "edgefer bench model").stderr
    result = run("edgefer bench model.int8.onnx --data faces.npz --baseline model.onnx --seconds 0.2 --json", folder)
    report = json.loads(result.stdout)
    assert report["baseline"]["accuracy"]["top1"] > 0.4
    assert report["accuracy"]["top1"] > 0.35


def test_the_adopted_file_is_the_same_network(done):
    from edgefer.engines.onnxruntime import OnnxRuntimeSession

    folder, printed = done
    faces = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 1), dtype=np.uint8)
    exported, adopted = (
        OnnxRuntimeSession(folder / name).run({"faces": faces})["logits"] for name in ("model.onnx", "adopted.onnx")
    )
    assert np.abs(exported - adopted).max() < 1e-3
    assert load_model(folder / "adopted.onnx")[1].lineage["adopted_from"] == "foreign.onnx"
    assert "the Softmax at the end was cut off" in output(printed, "edgefer adopt").stderr
    assert "height = 48" in output(printed, "edgefer contract guess").stdout


def test_what_is_printed(done):
    _, printed = done
    assert "1,000 faces, 7 classes" in output(printed, "edgefer data inspect").stdout
    assert len(output(printed, "python use.py").stdout.splitlines()) == 5
    assert "INT8" in output(printed, "edgefer bench model").stdout

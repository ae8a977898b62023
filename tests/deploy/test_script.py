"""The script of a bundle: with edgefer on this CPU without PyTorch, and with a fake of trtexec."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import edgefer

HOME = Path(edgefer.__file__).resolve().parents[1]

FAKE = """#!{python}
'''A fake of trtexec: an engine is the ONNX file that it was built from, and runs in ONNX Runtime.'''
import json, shutil, sys
import numpy as np
given = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
print("&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] [b1] # trtexec " + " ".join(sys.argv[1:]))
if "saveEngine" in given:
    shutil.copy(given["onnx"], given["saveEngine"])
elif "exportOutput" in given:
    import onnxruntime
    name, _, sizes = given["shapes"].partition(":")
    file = given["loadInputs"].partition(":")[2]
    faces = np.fromfile(file, np.uint8).reshape([int(size) for size in sizes.split("x")])
    logits = onnxruntime.InferenceSession(given["loadEngine"]).run(["logits"], {{name: faces}})[0] + {shift}
    values = ", ".join(str(value) for value in logits.reshape(-1))
    dimensions = "x".join(map(str, logits.shape))
    line = '  {{ "name" : "logits"\\n  , "dimensions" : "' + dimensions + '"\\n  , "values" : [ ' + values + ' ]\\n  }}'
    open(given["exportOutput"], "w").write("[\\n" + line + "\\n]\\n")
elif "exportTimes" in given:
    open(given["exportTimes"], "w").write("[]")
    print("[I] === Performance summary ===")
    print("[I] Throughput: 1 qps")
"""


@pytest.fixture
def elsewhere(bundle, tmp_path):
    """A copy of the bundle, in a folder with a space in its name."""
    return Path(shutil.copytree(bundle, tmp_path / "a device" / "bundle"))


def run(folder, *arguments, **variables):
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(HOME), **variables}
    words = ["sh", str(folder / "run.sh"), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=folder.parent)


def without_torch(folder):
    """PYTHONPATH for an interpreter in which torch cannot be imported."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    return f"{folder}{os.pathsep}{HOME}"


def trtexec(folder, version, shift=0.0):
    tool = folder / f"trtexec-{version}"
    tool.write_text(FAKE.format(python=sys.executable, version=version, shift=shift))
    tool.chmod(0o755)
    return str(tool)


@pytest.mark.slow
def test_it_builds_checks_and_benches_on_a_cpu_without_torch(elsewhere, tmp_path):
    path = without_torch(tmp_path / "site")
    probe = [sys.executable, "-c", "import torch"]
    assert (
        subprocess.run(probe, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": path}).returncode == 1
    )
    before = {file.name: file.read_bytes() for file in elsewhere.iterdir()}
    done = run(elsewhere, "--target", "onnxruntime", "--seconds", "0.5", "-o", "out", PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert "12 files, as they were written" in done.stdout
    assert "model.onnx in ONNX Runtime" in done.stdout
    assert "| --" not in done.stdout, "a summary, no Markdown"
    report = json.loads((elsewhere.parent / "out/report.json").read_text())
    assert (report["runtime"], report["precision"], report["accuracy"]["n"]) == ("onnxruntime", "int8", 84)
    assert report["latency_ms"]["n"] > 0
    assert report["paired"]["agreement"] > 0.8
    assert report["details"]["rows"][0]["name"] == "model.onnx in ONNX Runtime"
    assert {file.name: file.read_bytes() for file in elsewhere.iterdir()} == before, "the bundle stays as it is"


@pytest.mark.parametrize(
    ("version", "flags", "file"),
    [
        ("8502", "--int8 --fp16 --noTF32 --profilingVerbosity=detailed --buildOnly", "flags"),
        ("8602", "--int8 --fp16 --noTF32 --profilingVerbosity=detailed --skipInference", "flags"),
        ("100300", "--stronglyTyped --noTF32 --profilingVerbosity=detailed --skipInference", "types"),
        ("101602", "--stronglyTyped --noTF32 --profilingVerbosity=detailed --skipInference", "types"),
        ("110400", "--maxShapes=faces:32x12x12x1 --noTF32 --profilingVerbosity=detailed --skipInference", "types"),
    ],
)
def test_what_trtexec_of_every_generation_is_given(bundle, version, flags, file):
    text = (bundle / "run.sh").read_text(encoding="utf-8")
    settings = text[text.index("trtexec_settings()") : text.index("target=tensorrt")]
    words = ["sh", "-c", f'{settings}\ntrtexec_settings {version}; echo "$file $flags"']
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"tensorrt.{file}.onnx --minShapes=faces:1x12x12x1 ")
    assert said.rstrip().endswith(flags)


def test_with_trtexec(elsewhere, tmp_path):
    done = run(elsewhere, "--with", "trtexec", TRTEXEC=trtexec(tmp_path, "100300"))
    assert done.returncode == 0, done.stderr
    log = (elsewhere / "results/build.log").read_text()
    assert "--onnx=tensorrt.types.onnx" in log
    assert "--stronglyTyped" in log
    assert "is allowed" in done.stdout
    assert "Throughput: 1 qps" in done.stdout
    assert (elsewhere / "results/face.engine").read_bytes() == (elsewhere / "tensorrt.types.onnx").read_bytes()


def test_tools_are_named_from_where_it_is_typed(elsewhere):
    """As docs/jetson.md does: PYTHON=edgefer-env/bin/python sh bundle/run.sh."""
    here = elsewhere.parent
    (here / "python").write_text('#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "it was asked to $3" >&2\nexit 1\n')
    (here / "python").chmod(0o755)
    done = run(elsewhere, "--target", "onnxruntime", PYTHON="./python")
    assert (done.returncode, done.stderr) == (1, "it was asked to build-engine\n")
    done = run(elsewhere, "--with", "trtexec", TRTEXEC="bin/trtexec")
    assert f"there is no trtexec at {here}/bin/trtexec" in done.stderr


def test_an_engine_that_answers_otherwise_ends_it(elsewhere, tmp_path):
    done = run(elsewhere, "--with", "trtexec", TRTEXEC=trtexec(tmp_path, "100300", shift=5.0))
    assert done.returncode == 2
    assert "the engine does not answer as the network does" in done.stderr
    assert "the engine is not to be used" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "coral"), "there is no target coral"),
        (("--with", "make"), "--with is edgefer, trtexec or both, not make"),
        (("--with", "trtexec", "--target", "openvino"), "trtexec builds for TensorRT only"),
        (("--fast",), "there is no option --fast"),
        (("-o",), "-o needs a value"),
        (("--with", "trtexec"), "there is no trtexec at /nowhere"),
        ((), "has no edgefer"),
    ],
)
def test_bad_input(elsewhere, arguments, said):
    done = run(elsewhere, *arguments, TRTEXEC="/nowhere", PYTHON="/nowhere/python")
    assert done.returncode == 2
    assert said in done.stderr
    assert not (elsewhere / "results").exists()


def test_help(elsewhere):
    done = run(elsewhere, "--help")
    assert done.returncode == 0
    assert "--target tensorrt|onnxruntime|openvino" in done.stdout


def test_first_contact_runs_both_and_packs_all_but_engines(elsewhere, tmp_path):
    """TensorRT's Python is not here, so edgefer's part fails; trtexec's is run all the same."""
    done = run(elsewhere, "--with", "both", TRTEXEC=trtexec(tmp_path, "100300"))
    assert done.returncode == 2
    assert "cannot import tensorrt" in done.stdout
    assert "Throughput: 1 qps" in done.stdout
    with tarfile.open(elsewhere / "results.tar.gz") as packed:
        names = set(packed.getnames())
    assert {"./device.txt", "./edgefer.log", "./trtexec.log", "./trtexec/build.log", "./trtexec/times.json"} <= names
    assert not [name for name in names if name.endswith((".engine", ".npz"))]
    assert (elsewhere / "results/trtexec/face.engine").is_file()


def test_the_bundle_carries_edgefer_and_the_hosts_figures(bundle):
    wheel = next(path.name for path in bundle.glob("*.whl"))
    readme = (bundle / "README.md").read_text(encoding="utf-8")
    assert f"pip install ./{wheel} 'numpy<2'" in readme
    assert "WHEEL" not in readme
    said = r"host, (.+: the float model in ONNX Runtime, one thread: [\d.]+ ms for a face .*)\.$"
    figure = re.search(said, readme, re.MULTILINE)
    assert figure is not None
    assert shlex.quote(figure[1]) in (bundle / "run.sh").read_text(encoding="utf-8")

"""NVIDIA's own polygraphy takes the files that edgefer writes, without being told anything about them."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgefer

POLYGRAPHY = Path(sys.executable).with_name("polygraphy")

pytestmark = [
    pytest.mark.skipif(not POLYGRAPHY.is_file(), reason="polygraphy is not installed: pip install polygraphy"),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None,
        reason="tensorrt-rtx is not installed: pip install 'edgefer[rtx]'",
    ),
]


def polygraphy(*words):
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1"}
    done = subprocess.run([POLYGRAPHY, *map(str, words)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def file(exported, faces, tmp_path_factory):
    """mini_xception for TensorRT 10.3: INT8 with the rest in FP16."""
    path = tmp_path_factory.mktemp("outsider") / "x.onnx"
    edgefer.build_engine(
        *(exported("mini_xception"), path),
        precision="int8+fp16",
        quantisation=edgefer.Quantisation(faces, faces=21),
        target=edgefer.BuildTarget("tensorrt", version="jetpack6"),
        onnx_only=True,
    )
    return path


def test_it_reads_the_file(file):
    said = polygraphy("inspect", "model", file, "--show", "layers")
    assert "ONNX Opset: 19" in said
    assert "faces [dtype=uint8, shape=('N', 48, 48, 1)]" in said
    assert said.count("Op: DequantizeLinear") > 40


def test_it_builds_the_file(file, tmp_path):
    shapes = {"min": 1, "opt": 8, "max": 32}
    sizes = [word for which, n in shapes.items() for word in (f"--trt-{which}-shapes", f"faces:[{n},48,48,1]")]
    said = polygraphy("convert", file, "--convert-to", "trt", "-o", tmp_path / "x.engine", *sizes)
    assert "STRONGLY_TYPED" in said
    assert (tmp_path / "x.engine").stat().st_size > 100_000

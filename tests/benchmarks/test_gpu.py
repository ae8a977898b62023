"""The script of `make test-gpu`: over a fake machine its figures are not looked at, without a GPU it stops."""

import subprocess
import sys

import pytest

from edgefer.engines.tensorrt.cuda import survey

from .conftest import BENCHMARKS


@pytest.mark.skipif(survey().problem is None, reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_stops(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu.py")]
    for arguments in (["--check"], ["--output", str(tmp_path / "x.json")]):
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "error: " + survey().problem.message in done.stderr
        assert not (tmp_path / "x.json").exists()

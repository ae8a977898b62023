"""The script of `make gpu-smoke`, step by step on the CPU and over a fake GPU; no figure of it is looked at."""

import json
import shutil
import subprocess
import sys

import pytest

from edgefer.engines.tensorrt.cuda import open_cuda, survey
from tests.engines.tensorrt.conftest import machine  # noqa: F401 - a fixture

from .conftest import BENCHMARKS

WITHOUT_GPU = pytest.mark.skipif(survey().problem is None, reason="there is a GPU here")


def test_what_a_session_needs_of_cuda_is_tried_and_given_back(machine):  # noqa: F811 - it is that fixture
    import gpu_smoke

    machine()
    found = gpu_smoke.through_cuda(open_cuda())
    assert found["copied"]
    assert found["replayed"]
    assert found["passed"]
    assert found["bytes_not_given_back"] == 0


def test_baselines_are_timed_in_their_forms():
    import gpu_smoke

    rows = gpu_smoke.baselines("cpu", "mini_xception")["batch 1"]
    assert list(rows) == ["eager", "channels-last"]
    assert all(row["latency_ms"]["n"] >= 50 and row["difference_from_cpu"] < 1e-5 for row in rows.values())
    assert rows["eager"]["gpu_ms"] is None, "a CPU has no such figure"


def test_training_is_interrupted_and_resumed():
    import gpu_smoke

    found = gpu_smoke.training("cpu")
    assert (found["resumed"], found["epochs"]) == (True, 2)
    assert found["faces_per_s"] > 0


def test_what_fails_is_written_down_and_what_lacks_is_not_run(monkeypatch):
    import gpu_smoke

    def fails(_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setitem(gpu_smoke.STEPS, "runtime", (fails, 1.0))
    assert gpu_smoke._tried("runtime", "cuda")["reason"].startswith("RuntimeError: CUDA error: an illegal")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert gpu_smoke._tried("kernel", "cuda") == {"status": "not run", "reason": "there is no nvcc"}
    monkeypatch.setitem(gpu_smoke.STEPS, "runtime", (lambda _: {"passed": False}, 1.0))
    assert gpu_smoke._tried("runtime", "cuda")["status"] == "failed"
    assert sum(seconds for _, seconds in gpu_smoke.STEPS.values()) < 480, "eight minutes at most"


@WITHOUT_GPU
def test_without_a_gpu_nothing_is_written(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "gpu_smoke.py"), "--output", str(tmp_path / "x.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: " + survey().problem.message in done.stderr
    assert not list(tmp_path.iterdir())


@WITHOUT_GPU
@pytest.mark.slow
def test_a_dry_run_says_of_each_step_what_became_of_it(tmp_path):
    output = tmp_path / "x.json"
    command = [sys.executable, str(BENCHMARKS / "gpu_smoke.py"), "--dry", "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["device"] == "dry run on the CPU"
    statuses = {name: step["status"] for name, step in found["steps"].items()}
    networks = {"PyTorch, mini_xception": "ran", "PyTorch, cliquenet": "ran"}
    assert statuses == {"runtime": "not run", "kernel": "not run", **networks, "training": "ran"}
    said = found["steps"]["kernel"]["reason"]
    assert said == ("there is no nvcc" if shutil.which("nvcc") is None else "compiled for sm_90, and this is a dry run")

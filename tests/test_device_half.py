"""The half of edgefer that a JetPack 6 runs: Python 3.10, NumPy 1.26, onnxruntime 1.23.2, and no PyTorch.

Both tests fetch packages; where an index cannot be reached they are skipped.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgefer.deploy.wheel import write_wheel

HOME = Path(__file__).resolve().parents[1]
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
UNREACHABLE = ("Temporary failure", "ConnectionError", "NewConnectionError", "Network is unreachable", "Max retries")
PLATFORMS = [word for n in range(35, 16, -1) for word in ("--platform", f"manylinux_2_{n}_aarch64")]
"""Of JetPack 6, whose glibc is 2.35, and all older ones, which older pips do not add themselves."""

TESTS = (
    *("test_faces.py", "test_contract.py", "test_manifest.py", "engines/test_load.py", "engines/test_cpu.py"),
    *(f"engines/tensorrt/test_{name}.py" for name in ("run", "graphs", "run_failures", "embedding", "cuda", "device")),
    *(f"engines/tensorrt/test_{name}.py" for name in ("inputs", "compat")),
    *("measure/test_paired.py", "measure/test_accuracy.py", "camera/test_track.py", "camera/test_smooth.py"),
)
"""Of what the device half does; none of them exports a network."""


def install(*words):
    done = subprocess.run([*words], capture_output=True, text=True, check=False)
    if any(sign in done.stderr for sign in UNREACHABLE):
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["cpu", "openvino", "camera", "plots", "jetson"])
def test_every_extra_of_it_resolves_for_a_jetson(tmp_path, extra):
    wheel = write_wheel(tmp_path)
    only = ("--dry-run", "--ignore-installed", "--target", str(tmp_path / "none"), "--only-binary", ":all:")
    install(sys.executable, *PIP, *only, "--python-version", "3.10", *PLATFORMS, f"{wheel}[{extra}]")


def interpreter():
    """Python 3.10 where there is one, as on JetPack 6, otherwise 3.11."""
    named = [os.environ.get("EDGEFER_PYTHON310"), *(shutil.which(f"python3.{minor}") for minor in (10, 11))]
    known = sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python"))
    for program in [named[0], *map(str, known), *named[1:]]:
        if program and subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode == 0:
            return program
    return None


@pytest.mark.slow
def test_it_passes_its_tests_with_what_jetpack_6_has(tmp_path):
    program = interpreter()
    if program is None:
        pytest.skip("there is neither Python 3.10 nor 3.11")
    subprocess.run([program, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    pinned = ("numpy==1.26.4", "onnxruntime==1.23.2", "opencv-python-headless==4.10.0.84", "pytest>=8")
    install(python, *PIP, str(write_wheel(tmp_path)), *pinned)
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow"]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    environment.pop("EDGEFER_ALL_TESTS", None)  # torch and OpenVINO are left out on purpose
    found = subprocess.run(
        [*command, *(f"tests/{name}" for name in TESTS)],
        cwd=HOME,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-3000:]
    passed = re.search(r"(\d+) passed", found.stdout)
    assert passed is not None
    assert int(passed[1]) > 300

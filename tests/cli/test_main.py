import json
import os
import subprocess
import sys

import pytest

PROBE = """
import sys, runpy
sys.argv = ["edgefer", "--help"]
try:
    runpy.run_module("edgefer", run_name="__main__")
except SystemExit as done:
    assert done.code == 0, done.code
print("LOADED", sorted({"torch", "onnxruntime", "cv2", "onnx", "openvino", "numpy", "onnxsim"} & set(sys.modules)))
"""


def edgefer(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "edgefer", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )


def test_help_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert "build-engine" in done.stdout
    assert "LOADED []" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *("quickstart", "train", "export", "contract", "adopt", "calibrate", "build-engine", "sensitivity", "bench"),
        *("compare", "gate", "sweep", "predict", "camera", "web", "models", "doctor", "inspect", "deploy"),
    ],
)
def test_every_command_explains_itself(command):
    done = edgefer(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: edgefer {command}")


def test_models_lists_the_zoo():
    done = edgefer("models")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    own = next(line.split() for line in lines if line.startswith("mini_xception "))
    assert own[1:3] == ["48×48×1", "0.06"]
    found = json.loads(edgefer("models", "--json").stdout)
    network = next(row for row in found["networks"] if row["name"] == "mini_xception")
    assert network["parameters"] == {"7": 58_047, "8": 59_200}
    assert network["weights"] == ["mini_xception", "mini_xception_64"]
    assert own[4:6] == [f"{network['latency_ms'][kind]:.3f}" for kind in ("fp32", "int8")]
    assert found["latency"]["machine"] in done.stdout, "milliseconds are some machine's"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("build-engine", "none.onnx", "--fp32", "-o", "x.onnx"), "none.onnx", "edgefer export"),
        (("export", "--model", "mini_xceptoin", "-o", "x.onnx", "--random-weights"), "mini_xceptoin", "mini_xception"),
        (("bench", "none.onnx", "--data", "none.csv", "--baseline", "lenet"), "none.onnx", "edgefer build-engine"),
        (("train", "--model", "lenet", "--data", "none.npz", "-o", "w.safetensors"), "none.npz", ""),
    ],
)
def test_errors_are_two_lines_and_exit_2(tmp_path, arguments, message, hint):
    done = edgefer(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    first, *rest = done.stderr.strip().splitlines()
    assert first.startswith("error: ")
    assert message in first
    assert hint in "\n".join(rest)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_names_itself(tmp_path):
    blocker = "import sys; sys.modules['torch'] = None; from edgefer.cli import main; main()"
    arguments = ["export", "--model", "lenet", "--random-weights", "-o", str(tmp_path / "x.onnx")]
    done = subprocess.run([sys.executable, "-c", blocker, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'edgefer[export]'" in done.stderr


def test_notices_are_printed_as_they_are():
    program = "from edgefer.progress import announce; announce('a.npz:train: [b] :smile:')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "a.npz:train: [b] :smile:\n"


def test_the_names_of_normalisations_are_those_of_contracts():
    from edgefer.cli import contracts
    from edgefer.contract import NORMALISATIONS

    assert tuple(NORMALISATIONS) == contracts.NORMALISATIONS


FAULTY = """
import sys
import edgefer.cli
def fail(*_, **__):
    raise ValueError("line one\\x1b[31m\\nline two")
edgefer.cli.models.callback = fail
sys.argv = ["edgefer", "models"]
edgefer.cli.main()
"""


@pytest.mark.parametrize("debug", [False, True])
def test_an_internal_error_is_one_line_and_exit_code_70(debug):
    environment = {**os.environ, "EDGEFER_DEBUG": "1"} if debug else None
    done = subprocess.run([sys.executable, "-c", FAULTY], capture_output=True, text=True, check=False, env=environment)
    assert ("Traceback" in done.stderr) is debug
    if not debug:
        assert done.returncode == 70
        first, hint = done.stderr.splitlines()
        assert first.startswith("internal error: ValueError: line one?[31m at help.py:")
        assert "EDGEFER_DEBUG=1" in hint

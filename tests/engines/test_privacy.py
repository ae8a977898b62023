"""Nothing is reported to anybody: https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parents[2]
SOURCES = [path for part in ("edgefer", "benchmarks", "cpp_demo") for path in (HERE / part).rglob("*.py")]
GUARD = """
import os, sys

def note(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        with open(os.environ["NOTES"], "a") as notes:
            print(event, arguments, file=notes)
        raise OSError("the test lets nobody out")

sys.addaudithook(note)
"""
OPEN = (
    "from edgefer.engines.session import open_session; import sys; "
    "open_session(sys.argv[1], sys.argv[2], 1, 'fp32').close()"
)
DOCTOR = "import sys; from edgefer.cli import cli; cli.main(['doctor', *sys.argv[1:]], standalone_mode=False)"


def identity():
    tensor = {"elem_type": TensorProto.FLOAT, "shape": [1]}
    ends = [helper.make_tensor_value_info(name, **tensor) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture
def watched(tmp_path):
    """Run a script with an empty home folder; the files that it left there, and what it asked of the network."""
    guard, home = tmp_path / "guard", tmp_path / "home"
    guard.mkdir()
    home.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    (tmp_path / "model.onnx").write_bytes(identity())
    kept = {name: text for name, text in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    ours = {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "PYTHONPATH": f"{guard}{os.pathsep}{HERE}",
        "NOTES": str(tmp_path / "notes"),
    }

    def run(script, *arguments):
        done = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**kept, **ours},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        notes = tmp_path / "notes"
        asked = notes.read_text().splitlines() if notes.exists() else []
        return [str(path.relative_to(home)) for path in home.rglob("*")], asked

    return run


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_leaves_no_identifier_and_no_events_behind(watched, tmp_path, runtime):
    pytest.importorskip(runtime)
    assert watched(OPEN, runtime, tmp_path / "model.onnx") == ([], [])


def test_doctor_leaves_nothing_behind_and_asks_nobody(watched, tmp_path):
    assert watched(DOCTOR) == ([], [])
    assert watched(DOCTOR, tmp_path / "model.onnx") == ([], [])


def test_the_guard_sees_what_a_plain_import_of_openvino_does(watched):
    pytest.importorskip("openvino")
    left, asked = watched("import openvino")
    assert left
    assert any("google-analytics" in line for line in asked)


def test_openvino_is_imported_nowhere_but_by_the_one_function_that_keeps_it_silent():
    faults = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
                "import_module",
                "__import__",
            ):
                names = [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
            if any(name.split(".")[0] in ("openvino", "nncf") for name in names):
                faults.append(f"{path.relative_to(HERE)}:{node.lineno}")
    assert not faults

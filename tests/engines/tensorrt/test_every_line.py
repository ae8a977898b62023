"""Every line of what builds and runs engines is executed by the tests over the fakes, so no line waits for a device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .uses import FOLDER

HERE = Path(__file__).parent
FILES = ("run.py", "build.py", "cuda.py")
TESTS = (
    *("test_run.py", "test_graphs.py", "test_run_failures.py", "test_embedding.py", "test_serving.py"),
    *("test_cuda.py", "test_build.py", "test_device.py"),
)

TRACED = """
import json, sys, threading
files, arguments, output = json.loads(sys.argv[1])
seen = {name: set() for name in files}

def line(frame, event, argument):
    if event == "line":
        seen[frame.f_code.co_filename].add(frame.f_lineno)
    return line

def call(frame, event, argument):
    found = seen.get(frame.f_code.co_filename)
    if found is None:
        return None
    found.add(frame.f_lineno)
    return line

threading.settrace(call)
sys.settrace(call)
import pytest
code = pytest.main(arguments)
sys.settrace(None)
with open(output, "w") as file:
    json.dump([int(code), {name: sorted(lines) for name, lines in seen.items()}], file)
"""


def lines_of(code):
    """The lines that hold code, in ``code`` and in all that it defines; docstrings and headers are none."""
    found = {line for _, _, line in code.co_lines() if line}
    for inner in code.co_consts:
        if hasattr(inner, "co_lines"):
            found |= lines_of(inner)
    return found


@pytest.mark.slow
def test_every_line_is_executed(tmp_path):
    paths, output = [str(FOLDER / name) for name in FILES], tmp_path / "seen.json"
    arguments = ["-q", "-p", "no:cacheprovider", "-m", "not slow", *(str(HERE / name) for name in TESTS)]
    root = FOLDER.parents[2]
    command = [sys.executable, "-c", TRACED, json.dumps([paths, arguments, str(output)])]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    code, seen = json.loads(output.read_text())
    assert code == 0, done.stdout[-3000:]
    missed = {
        name: sorted(lines_of(compile(Path(path).read_text(encoding="utf-8"), path, "exec")) - set(seen[path]))
        for name, path in zip(FILES, paths, strict=True)
    }
    assert {name: lines for name, lines in missed.items() if lines} == {}

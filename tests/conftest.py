"""Fixtures that several test folders share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importorskip("openvino") would report to Google

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights beside the project, where there is one."""
    if not (SHARED / "data" / "fer2013").is_dir():
        pytest.skip("the real faces are not here: no ../shared/data/fer2013 beside the project")
    return SHARED


@pytest.fixture
def display() -> Iterator[str]:
    """A screen that nobody sees."""
    if shutil.which("Xvfb") is None:
        pytest.skip("a window needs a display: apt install xvfb")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as stream:
        number = stream.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()

"""Fixtures that several test folders share."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importorskip("openvino") would report to Google

NOT_IN_CI = re.compile(r"there is no GPU|pycuda is not installed|no \.\./shared/data")
"""Why a test may be skipped where ``EDGEFER_ALL_TESTS`` is set, as ``.ci/run`` does: all else can be installed."""

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights beside the project, where there is one."""
    if not (SHARED / "data" / "fer2013").is_dir():
        pytest.skip("the real faces are not here: no ../shared/data/fer2013 beside the project")
    return SHARED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Make a disk of so many kB and return its folder."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting a small tmpfs needs root")
    mounted: list[Path] = []

    def make(kilobytes: int) -> Path:
        place = tmp_path / "disk"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        done = subprocess.run(command, check=False, capture_output=True)
        if done.returncode:
            pytest.skip(f"this machine does not let us mount a tmpfs: {done.stderr.decode().strip()}")
        mounted.append(place)
        return place

    yield make
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that was to run everything and skipped a test for another reason than those of ``NOT_IN_CI``."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("EDGEFER_ALL_TESTS") or reporter is None:
        return
    reasons = {str(report.longrepr[2]) for report in reporter.stats.get("skipped", ())}
    wrong = sorted(reason for reason in reasons if not NOT_IN_CI.search(reason))
    if wrong:
        reporter.write_line("skipped, though everything was to run: " + "; ".join(wrong), red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

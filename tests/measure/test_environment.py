"""The machine and the software, and nothing that names a host, a user or a folder."""

import getpass
import json
import platform
import socket
import sys
from pathlib import Path

import numpy as np

from edgefer.measure import environment


def test_it_says_what_a_reader_needs():
    found = environment.describe_environment()
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 1 << 28
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["numpy"] == np.__version__
    assert found["machine"] == platform.machine()
    assert isinstance(found["instruction_set"], (list, tuple))
    json.dumps(found)


def test_it_names_no_host_user_or_folder():
    values = json.dumps(environment.describe_environment())
    assert socket.gethostname() not in values
    assert f'"{getpass.getuser()}"' not in values
    assert str(Path.home()) not in values
    assert str(Path.cwd()) not in values


def test_a_kernels_suffix_is_cut(monkeypatch):
    monkeypatch.setattr(platform, "release", lambda: "6.8.0-1012-acme-lab-7")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert environment.describe_environment()["os"].endswith("Linux 6.8.0")


def test_what_the_system_does_not_tell_is_none(monkeypatch):
    monkeypatch.setattr(environment, "text", lambda path: None)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.delattr(environment.os, "getloadavg")
    found = environment.describe_environment()
    assert (found["cpu"], found["board"], found["governor"], found["load_average"]) == (None, None, None, None)

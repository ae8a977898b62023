"""The machine and the software, and nothing that names a host, a user or a folder."""

import getpass
import json
import platform
import socket
import sys
from pathlib import Path

import numpy as np

from edgefer.engines.tensorrt import cuda
from edgefer.engines.tensorrt.cuda import Device, Driver
from edgefer.measure import environment
from edgefer.measure.sensors import Nvml
from tests.measure.test_telemetry import CUDAS, FakeNvml


def test_it_says_what_a_reader_needs():
    found = environment.describe_environment()
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 1 << 28
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["numpy"] == np.__version__
    assert found["machine"] == platform.machine()
    assert isinstance(found["instruction_set"], (list, tuple))
    json.dumps(found)


def test_it_names_the_gpu_its_driver_and_its_clock(monkeypatch):
    device = Device("Orin", "SM87", integrated=True, uuid=CUDAS)
    monkeypatch.setattr(cuda, "survey", lambda: Driver("12.6", (device,), None))
    monkeypatch.setattr(environment.Nvml, "here", lambda uuid: Nvml(FakeNvml(f"GPU-{CUDAS}"), uuid))
    found = environment.describe_environment()
    assert (found["gpu"], found["cuda"], found["gpu_driver"]) == ("Orin, SM87", "12.6", "570.86.10")
    assert found["gpu_clock"] == {"mhz": 1200, "max_mhz": 1980}
    second = environment.describe_gpu(1)
    assert (second["gpu"], second["cuda"]) == (None, "12.6"), "there is one"
    monkeypatch.setattr(environment.Nvml, "here", lambda uuid: None)
    monkeypatch.setattr(environment.Sensors, "read", lambda self: {"gpu_mhz": 306.0, "gpu_max_mhz": 1020.0})
    found = environment.describe_environment()
    assert (found["gpu_driver"], found["gpu_clock"]) == (None, {"mhz": 306.0, "max_mhz": 1020.0}), "a board's devfreq"
    monkeypatch.setattr(cuda, "survey", lambda: Driver(None, (), None))
    assert environment.describe_environment()["gpu"] is None


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

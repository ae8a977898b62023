"""The fakes against the real packages, so that they cannot drift: nothing of their own, and all that is used."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .bindings import CACHE, VERSIONS, api_of, stub_libraries
from .fakes.cuda_bindings import FakeDriver
from .fakes.gpu import ERRORS, FakeGpu
from .fakes.pycuda import FakePycuda
from .fakes.trt import FakeTensorRt
from .test_bindings import applies
from .uses import FOLDER, collect

USES = collect()
CUDA_BINDINGS = ("12.8.0", "12.9.10", "13.5.0")


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    return stub_libraries(tmp_path_factory.mktemp("stubs"))


def members(cls):
    """What a class of a fake shows: methods, properties, enum members; of its bases too, but not of ``object``."""
    if issubclass(cls, int):
        return set(cls.__members__)
    found = {name for base in cls.__mro__[:-1] for name in vars(base)}
    return {name for name in found if not name.startswith("_")}


def surface(module):
    return {name: members(cls) for name, cls in vars(module).items() if isinstance(cls, type)}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_nothing_that_the_real_tensorrt_lacks(version, libraries):
    real = api_of(version, libraries)
    fake = surface(FakeTensorRt(FakeGpu(), version).module)
    assert set(fake) <= set(real)
    invented = {f"{name}.{member}" for name, found in fake.items() for member in found if member not in real[name]}
    assert invented == set()


def test_the_fake_has_nothing_that_the_real_tensorrt_rtx_lacks():
    real = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    fake = surface(FakeTensorRt(FakeGpu(), "1.7.1", rtx=True).module)
    # timing caches and the inspector are names there, and edgefer leaves them alone
    invented = {f"{name}.{m}" for name, found in fake.items() for m in found if not hasattr(getattr(real, name), m)}
    assert invented == set()


@pytest.mark.parametrize("version", [*VERSIONS, "1.7.1"])
def test_the_fake_has_all_that_is_used(version):
    """So no line that runs on a device is left out of what the fakes run."""
    rtx = version == "1.7.1"
    module = FakeTensorRt(FakeGpu(), version, rtx=rtx).module
    fake = surface(module)
    has = FakeTensorRt(FakeGpu(), version, rtx=rtx).has
    lacking = []
    for use in USES:
        if not (getattr(has, use.condition) if use.condition else True) or (not rtx and not applies(use, version)):
            continue
        if use.owner == "":
            there = hasattr(module, use.member)
        else:
            there = use.member in fake.get(use.owner, ()) or (use.member == "__init__" and use.owner in fake)
        if not there:
            lacking.append(str(use))
    assert lacking == []


def uses_of(adapter, *names):
    """Attributes of the variables ``names`` in a class of cuda.py."""
    found = set()
    body = ast.parse((FOLDER / "cuda.py").read_text(encoding="utf-8")).body
    for node in ast.walk(next(one for one in body if isinstance(one, ast.ClassDef) and one.name == adapter)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if name in names:
                found.add(node.attr)
    return found


PROBE = """
import inspect, json, re
from cuda.bindings import driver
found = {}
for name in %r:
    thing = getattr(driver, name, None)
    if thing is None:
        continue
    if not callable(thing) or isinstance(thing, type):
        found[name] = None
        continue
    returns = re.search(r"Returns\\s*-+\\s*(.*?)(?:See Also|Notes|$)", thing.__doc__, re.S)[1]
    values = re.findall(r"^\\s*\\w+ : ", returns, re.M)
    found[name] = [list(inspect.signature(thing).parameters), len(values)]
errors = {member.name: int(member) for member in driver.CUresult}
modes = {member.name: int(member) for member in driver.CUstreamCaptureMode}
print(json.dumps([found, errors, modes, driver.CUDA_VERSION]))
"""


@pytest.mark.parametrize("version", CUDA_BINDINGS)
def test_the_fake_driver_is_that_of_cuda_bindings(version):
    used = uses_of("CudaBindings", "driver", "_driver")
    fake = {name for name in dir(FakeDriver) if not name.startswith("_")}
    assert {"cuMemAlloc", "cuStreamBeginCapture", "cuGraphLaunch"} <= used <= fake | {"CUDA_VERSION"}
    found, errors, modes, number = json.loads(real_cuda_bindings(version, sorted(fake | used)))
    assert fake | used == set(found)
    driver = FakeDriver(FakeGpu())
    for name, real in found.items():
        if real is None or not name.startswith("cu"):
            continue
        code = getattr(FakeDriver, name).__code__
        assert list(code.co_varnames[1 : code.co_argcount]) == real[0], name
        given = re.search(r"of=\(([^)]*)\)", source_of(name))
        values = len([kind for kind in given[1].split(",") if kind.strip()]) if given else 0
        assert (values or (name == "cuCtxGetCurrent")) == real[1], name
    assert {name: errors[name] for name in ERRORS} == ERRORS
    assert {m.name: int(m) for m in driver.CUstreamCaptureMode} == {k: v for k, v in modes.items() if v < 3}
    assert number // 1000 == int(version.split(".")[0])


def source_of(name):
    text = (Path(__file__).parent / "fakes" / "cuda_bindings.py").read_text(encoding="utf-8")
    return text.split(f"def {name}(")[1].split("\n    def ")[0]


def real_cuda_bindings(version, names):
    """What :data:`PROBE` prints in the real package, kept beside TensorRT's bindings; skips where it cannot be had."""
    folder = CACHE.parent / "cuda-bindings" / f"{version}-{sys.implementation.cache_tag}"
    if not (folder / "cuda").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
        wanted = f"cuda-bindings=={version}"
        done = subprocess.run(
            [*command, "--only-binary", ":all:", "--target", str(folder), wanted], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"{wanted} cannot be installed here: {done.stderr.decode()[-200:]}")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", PROBE % names], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PYCUDA = {
    "Error",
    "MemoryError",
    "LogicError",
    "init",
    "Device",
    "Context",
    "Stream",
    "Event",
    "DeviceAllocation",
    "PagelockedHostAllocation",
    "mem_alloc",
    "mem_get_info",
    "mem_get_address_range",
    "pagelocked_empty",
    "memcpy_htod_async",
    "memcpy_dtoh_async",
}
"""Of pycuda 2025.1's src/wrapper/wrap_cudadrv.cpp. It has no wheel and compiles for minutes, so no test installs it."""


def test_the_fake_pycuda_has_what_is_used():
    fake = {name for name in dir(FakePycuda(FakeGpu())) if not name.startswith("_")}
    assert fake == PYCUDA
    used = uses_of("PyCuda", "_pycuda", "pycuda")
    assert {"mem_alloc", "Stream"} <= used <= fake | {"driver"}


@pytest.mark.skipif(importlib.util.find_spec("pycuda") is None, reason="pycuda is not installed")
def test_the_fake_pycuda_is_that_of_pycuda():
    driver = pytest.importorskip("pycuda.driver")
    fake = FakePycuda(FakeGpu())
    for name in PYCUDA:
        assert hasattr(driver, name), name
        if isinstance(getattr(fake, name), type):
            shown = members(getattr(fake, name)) - {"args", "with_traceback", "add_note"}
            assert [m for m in shown if not hasattr(getattr(driver, name), m)] == [], name

"""NVIDIA's real Python bindings of five versions, imported over libraries that are empty.

The bindings are small wheels that link against TensorRT's libraries, which are not: each library is replaced by one
that only exports the names that the bindings look up when they are loaded. Nothing can be built that way, but every
class, method, property and enum of the real API is there to be looked at.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

VERSIONS = {
    "8.6.1": "tensorrt-bindings",
    "10.3.0": "tensorrt-cu12-bindings",
    "10.8.0.43": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.4.0.106": "tensorrt-cu12-bindings",
}
SYMBOLS = (
    *("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL"),
    *("createNvOnnxParserRefitter_INTERNAL", "createNvOnnxParser_INTERNAL", "getBuilderPluginRegistry"),
    *("getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins", "getInferLibVersion", "getLogger"),
    # C++ names that 8.6 still has: the parsers of Caffe and UFF
    *("_ZN11nvuffparser15createUffParserEv", "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi"),
    *("_ZN14nvcaffeparser117createCaffeParserEv", "_ZN14nvcaffeparser123shutdownProtobufLibraryEv"),
)
PACKAGE_ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser", "nvparsers")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgefer-tests" / "tensorrt-bindings"

PROBE = """
import enum, inspect, json
from tensorrt_bindings import tensorrt as trt
found = {}
for name, value in vars(trt).items():
    if inspect.isclass(value):
        members = {m: getattr(getattr(value, m), "__doc__", None) or "" for m in dir(value)}
        found[name] = members
    elif callable(value):
        found[name] = {"__call__": value.__doc__ or ""}
print(json.dumps(found))
"""


def stub_libraries(folder: Path) -> Path:
    """Compile the empty libraries of the majors 8, 10 and 11 into ``folder``; skips without a compiler."""
    source = folder / "stub.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in SYMBOLS))
    for major in (8, 10, 11):
        for library in LIBRARIES:
            name = f"lib{library}.so.{major}"
            try:
                command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
                subprocess.run(command, check=True, capture_output=True)
            except FileNotFoundError:
                pytest.skip("there is no gcc to compile stub libraries with")
    return folder


def api_of(version: str, libraries: Path) -> dict[str, dict[str, str]]:
    """Class → member → docstring of the real API of ``version``; skips where its wheel cannot be had."""
    done = run_over(version, libraries, PROBE)
    assert done.returncode == 0, done.stderr
    api: dict[str, dict[str, str]] = json.loads(done.stdout)
    return api


def run_over(version: str, libraries: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program where ``tensorrt`` is the real bindings of ``version`` over empty libraries."""
    folder = installed(version)
    paths = [str(folder), str(PACKAGE_ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "LD_LIBRARY_PATH": str(libraries)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)


def installed(version: str) -> Path:
    """The folder with the wheel of ``version``, and a package ``tensorrt`` as NVIDIA's own meta-package makes it."""
    folder = CACHE / f"{version}-{sys.implementation.cache_tag}"
    if not (folder / "tensorrt_bindings").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        wanted = f"{VERSIONS[version]}=={version}"
        done = subprocess.run(
            [*command, "--only-binary", ":all:", "--target", str(folder), wanted], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip(f"the bindings {wanted} cannot be installed here: {done.stderr.decode()[-200:]}")
    alias = folder / "tensorrt" / "__init__.py"
    if not alias.is_file():
        alias.parent.mkdir(exist_ok=True)
        alias.write_text("from tensorrt_bindings import *\nfrom tensorrt_bindings import __version__\n")
    return folder

"""Networks as they are exported, with weights from a seed, a few synthetic faces, and a machine that is a fake."""

import ctypes
import gc
import sys
import types
from pathlib import Path

import pytest

from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.tensorrt import compat, cuda
from edgefer.engines.tensorrt.build import build_plan
from edgefer.engines.tensorrt.options import Batches, BuilderOptions
from edgefer.engines.tensorrt.run import TensorRtSession
from tests.engines.conftest import CONTRACT, tiny
from tests.engines.tensorrt.fakes.cuda_bindings import FakeDriver
from tests.engines.tensorrt.fakes.gpu import FakeGpu
from tests.engines.tensorrt.fakes.pycuda import FakePycuda
from tests.engines.tensorrt.fakes.trt import FakeTensorRt


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """``exported(name)`` is the path of that network as ONNX, made once."""
    import torch  # a device that runs the GPU's tests need not have it

    from edgefer.graph.export import export

    folder, made = tmp_path_factory.mktemp("models"), {}

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            made[name] = export(name, folder / f"{name}.onnx", random_weights=True).path
        return made[name]

    return make


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """24 synthetic faces of a ``calib`` part."""
    path = tmp_path_factory.mktemp("faces") / "faces.npz"
    images, labels = synthetic_faces(420, seed=3)
    save_npz(path, images, labels, FER2013, ["train"] * 420)
    return open_dataset(str(path))


class Machine:
    """A machine with fakes of a GPU, of TensorRT and of one CUDA package, which edgefer imports like real ones."""

    def __init__(self, gpu, tensorrt):
        self.gpu, self.tensorrt = gpu, tensorrt

    def plan(self, *, smallest=1, usual=2, largest=8, model=None):
        """A serialised engine of a tiny network, as edgefer builds it."""
        options = BuilderOptions(batches=Batches(smallest, usual, largest), workspace=1 << 24)
        return build_plan(tiny() if model is None else model, CONTRACT, "fp32", options).plan

    def session(self, **sizes):
        return TensorRtSession(self.plan(**sizes))


@pytest.fixture
def machine(monkeypatch):
    """``machine(version, package)`` puts the fakes in place; when the test is over nothing may be left on the GPU."""
    made = []

    def make(version="10.3.0", package="cuda-bindings", *, rtx=False, **gpu):
        fake = FakeGpu(**gpu)
        tensorrt = FakeTensorRt(fake, version, rtx=rtx)
        real = ctypes.CDLL
        monkeypatch.setattr(
            ctypes, "CDLL", lambda name, *a, **k: fake if name == "libcuda.so.1" else real(name, *a, **k)
        )
        monkeypatch.setitem(sys.modules, tensorrt.module.__name__, tensorrt.module)
        parents = {name: types.ModuleType(name) for name in ("cuda", "cuda.bindings", "pycuda")}
        parents["cuda.bindings"].__path__ = parents["cuda"].__path__ = parents["pycuda"].__path__ = []
        parents["cuda.bindings"].driver = FakeDriver(fake) if package == "cuda-bindings" else None
        parents["pycuda"].driver = FakePycuda(fake) if package == "pycuda" else None
        for name, module in parents.items():
            monkeypatch.setitem(sys.modules, name, module)
        for name, parent in (("cuda.bindings.driver", "cuda.bindings"), ("pycuda.driver", "pycuda")):
            monkeypatch.setitem(sys.modules, name, parents[parent].driver)
            if parents[parent].driver is None:
                del parents[parent].driver
        _forget()
        made.append(Machine(fake, tensorrt))
        return made[-1]

    yield make
    _forget()
    if any(one.gpu.left() for one in made):
        gc.collect()  # what an exception's frames still held
    for one in made:
        assert one.gpu.violations == []
        assert one.gpu.left() == {}
        assert one.gpu.stack == []  # an application finds its own context again


def _forget():
    """What is made once a process."""
    cuda._opened.cache_clear()
    compat.log_of.cache_clear()
    compat.logger_of.cache_clear()

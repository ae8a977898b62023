"""The session's own logic over fakes of TensorRT and of the CUDA runtime: buffers, shapes, order, freeing.

Nothing here says anything about TensorRT: the fake engine adds up pixels in host memory.
"""

import ctypes
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest

from edgefer.engines.tensorrt import buffers, calibrator, run
from edgefer.engines.tensorrt.binding import log_of
from edgefer.engines.tensorrt.compat import target_of
from edgefer.engines.tensorrt.driver import Device
from edgefer.errors import EdgeferError


class OutOfMemory(int):
    name = "cudaErrorMemoryAllocation"


class FakeCuda:
    """A fake of cuda.bindings.runtime whose device memory is host memory; counts what is allocated."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)

    def __init__(self, most=99):
        self.most, self.blocks, self.streams, self.allocations = most, {}, 0, 0

    def _allocate(self, size):
        if self.allocations == self.most:
            return (OutOfMemory(2),)
        self.allocations += 1
        block = ctypes.create_string_buffer(size)
        self.blocks[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    cudaMalloc = cudaMallocHost = _allocate

    def _free(self, address):
        del self.blocks[int(address)]
        return (0,)

    cudaFree = cudaFreeHost = _free

    def cudaMemcpyAsync(self, destination, source, size, kind, stream):
        ctypes.memmove(destination, source, size)
        return (0,)

    def cudaStreamCreate(self):
        self.streams += 1
        return 0, 77

    def cudaStreamSynchronize(self, stream):
        return (0,)

    def cudaStreamDestroy(self, stream):
        self.streams -= 1
        return (0,)


class Mode(Enum):
    INPUT = 1
    OUTPUT = 2


class FakeEngine:
    """A fake of ICudaEngine and IExecutionContext: logits = (sum of pixels, 2 · sum, number of faces)."""

    num_io_tensors = 2

    def __init__(self, batch=-1, profile=(1, 4, 8)):
        self.batch, self.profile, self.addresses, self.shape, self.calls = batch, profile, {}, None, []

    def get_tensor_name(self, index):
        return ("faces", "logits")[index]

    def get_tensor_mode(self, name):
        return Mode.INPUT if name == "faces" else Mode.OUTPUT

    def get_tensor_shape(self, name):
        return (self.batch, 4, 4, 1) if name == "faces" else (self.batch, 3)

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="UINT8" if name == "faces" else "FLOAT")

    def get_tensor_profile_shape(self, name, index):
        return [(size, 4, 4, 1) for size in self.profile]

    def create_execution_context(self):
        return self

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        return self.shape[1:] == (4, 4, 1)

    def execute_async_v3(self, stream):
        assert stream == 77
        count = self.shape[0]
        pixels = np.ctypeslib.as_array((ctypes.c_uint8 * (count * 16)).from_address(self.addresses["faces"]))
        sums = pixels.reshape(count, 16).sum(axis=1, dtype=np.float32)
        out = np.ctypeslib.as_array((ctypes.c_float * (count * 3)).from_address(self.addresses["logits"]))
        out[:] = np.stack([sums, 2 * sums, np.full(count, count, np.float32)], axis=1).ravel()
        self.calls.append(count)
        return True


@pytest.fixture
def opened(monkeypatch):
    """``opened(engine)`` is a session over the fakes, and the fake CUDA."""

    def make(engine, cuda=None):
        cuda = cuda or FakeCuda()
        package = SimpleNamespace(
            TensorIOMode=Mode, Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
        )
        monkeypatch.setattr(run, "probe", lambda: Device("Orin", "SM87", integrated=True))
        monkeypatch.setattr(run, "import_tensorrt", lambda rtx: (package, target_of("10.3")))
        monkeypatch.setattr(run, "logger_of", lambda rtx: None)
        monkeypatch.setattr(buffers, "runtime", lambda: cuda)
        return run.TensorRtSession(b"plan"), cuda

    return make


def faces(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)


def expected(batch):
    sums = batch.reshape(len(batch), -1).sum(axis=1, dtype=np.float32)
    return np.stack([sums, 2 * sums, np.full(len(batch), len(batch), np.float32)], axis=1)


def test_any_batch_of_the_profile_goes_through_the_same_buffers(opened):
    session, cuda = opened(FakeEngine())
    allocated = cuda.allocations
    assert [str(spec) for spec in (*session.inputs, *session.outputs)] == [
        "'faces' uint8 N×4×4×1",
        "'logits' float32 N×3",
    ]
    kept = []
    for count in (1, 8, 3, 8):
        batch = faces(count, count)
        kept.append((session.run({"faces": batch})["logits"], expected(batch)))
    for got, wanted in kept:  # what was returned earlier is the caller's own
        np.testing.assert_array_equal(got, wanted)
    assert cuda.allocations == allocated
    session.close()
    session.close()
    assert (cuda.blocks, cuda.streams) == ({}, 0)


def test_faces_that_are_not_contiguous(opened):
    session, _ = opened(FakeEngine())
    batch = faces(6)[::2]
    np.testing.assert_array_equal(session.run({"faces": batch})["logits"], expected(np.ascontiguousarray(batch)))


@pytest.mark.parametrize(
    ("engine", "count"), [(FakeEngine(), 9), (FakeEngine(batch=2), 1), (FakeEngine(profile=(2, 4, 8)), 1)]
)
def test_batches_outside_the_profile(opened, engine, count):
    session, _ = opened(engine)
    with pytest.raises(EdgeferError, match=f"a batch of {count} is outside the engine's profile"):
        session.run({"faces": faces(count)})
    assert engine.calls == []


def test_a_closed_session_is_refused(opened):
    session, _ = opened(FakeEngine())
    session.close()
    with pytest.raises(EdgeferError, match="used after it was closed"):
        session.run({"faces": faces(1)})


def test_an_engine_that_tensorrt_cannot_load(opened, monkeypatch):
    with pytest.raises(EdgeferError, match=r"TensorRT 10\.3\.0 cannot load the engine: its log has no error") as error:
        opened(None)
    assert "build it again here" in error.value.hint


@pytest.mark.parametrize("most", range(4))
def test_memory_that_runs_out_is_given_back(opened, most):
    cuda = FakeCuda(most)
    with pytest.raises(EdgeferError, match="cudaErrorMemoryAllocation") as error:
        opened(FakeEngine(), cuda)
    assert "smaller --max-batch" in error.value.hint
    assert (cuda.blocks, cuda.streams) == ({}, 0)


def test_a_face_of_another_shape(opened):
    session, _ = opened(FakeEngine())
    with pytest.raises(EdgeferError, match="the engine takes 'faces' uint8 N×4×4×1, not uint8"):
        session.run({"faces": np.zeros((1, 8, 2, 1), np.uint8)})


def test_a_calibrator_streams_whole_batches(monkeypatch):
    cuda, done = FakeCuda(), []
    monkeypatch.setattr(buffers, "runtime", lambda: cuda)
    package = SimpleNamespace(IInt8EntropyCalibrator2=object, IInt8MinMaxCalibrator=object)
    batches = [faces(4, seed) for seed in range(3)]
    made = calibrator.make_calibrator(
        package, "entropy", iter(batches), 4, advance=lambda steps, note="": done.append(steps)
    )
    seen = []
    while (pointers := made.get_batch(["faces"])) is not None:
        seen.append(ctypes.string_at(pointers[0], 64))
    assert seen == [batch.tobytes() for batch in batches]
    assert done == [4, 4, 4]
    assert cuda.allocations == 2  # one buffer, on both sides
    made.close()
    assert (cuda.blocks, cuda.streams) == ({}, 0)
    assert log_of(False).reason() == "its log has no error"

"""The driver, the loader and the session, as far as they go without a GPU."""

import contextlib
import ctypes
from dataclasses import replace

import numpy as np
import pytest

from edgefer.engines.load import load_engine
from edgefer.engines.tensorrt import cuda, run
from edgefer.engines.tensorrt.build import gave_up
from edgefer.engines.tensorrt.compat import Log, target_of
from edgefer.engines.tensorrt.cuda import Device, Driver, called, find_gpu, survey
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.engines.tensorrt.run import LoadedEngine, TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.golden import Golden
from edgefer.manifest import Manifest, Precision, read_manifest, write_engine
from tests.engines.conftest import CONTRACT

ORIN = Device("Orin", "SM87", integrated=True)


def engine(path, **changes):
    faces = np.zeros((1, 4, 4, 1), np.uint8)
    manifest = Manifest(
        *("ab" * 32, "", "tensorrt", "tensorrt", "10.3.0", ()),
        contract=CONTRACT,
        precision=Precision("int8", "int8"),
        calibration=None,
        golden=Golden(faces, np.zeros((1, 3), np.float32), {"tensorrt": 0.1}),
        device=str(ORIN),
    )
    return write_engine(path, b"an engine", replace(manifest, **changes))


def test_no_driver_is_said_before_tensorrt_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(cuda, "_LIBRARY", "libcuda-is-not-here.so.1")
    with pytest.raises(EdgeferError, match=r"there is no NVIDIA driver here: libcuda-is-not-here\.so\.1") as error:
        find_gpu()
    assert "--onnx-only --for JETPACK" in error.value.hint
    engine(tmp_path / "x.engine")
    with pytest.raises(EdgeferError, match="there is no NVIDIA driver here"):
        load_engine(tmp_path / "x.engine")
    with pytest.raises(EdgeferError, match="there is no NVIDIA driver here"):
        TensorRtSession(tmp_path / "x.engine")


class FakeDriver:
    """A fake of libcuda: one GPU, an Orin, unless told otherwise."""

    def __init__(self, count=1, start=0):
        self.count, self.start = count, start

    def cuInit(self, flags):
        return self.start

    def cuDriverGetVersion(self, version):
        ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = 12060
        return 0

    def cuDeviceGetCount(self, count):
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = self.count
        return 0

    def cuDeviceGet(self, handle, index):
        return 0

    def cuDeviceGetName(self, text, size, handle):
        text.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value, which, handle):
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = {75: 8, 76: 7, 18: 1}[which]
        return 0


@pytest.mark.parametrize(
    ("fake", "said"),
    [(FakeDriver(count=0), "no GPU number 0: it has 0"), (FakeDriver(start=999), "cuInit returned 999")],
)
def test_a_driver_without_a_gpu(monkeypatch, fake, said):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    with pytest.raises(EdgeferError, match=said):
        find_gpu()
    found = survey()
    assert found.devices == ()
    assert found.cuda == (None if fake.start else "12.6")
    assert said in found.problem.message


def test_a_call_of_the_driver_that_fails(monkeypatch):
    fake = FakeDriver()
    fake.cuDeviceGetAttribute = lambda value, which, handle: 719
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake)
    assert survey().problem.message == "the NVIDIA driver failed: cuDeviceGetAttribute returned 719"


def test_what_a_driver_says_of_its_gpu(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeDriver())
    assert find_gpu() == ORIN
    assert str(find_gpu()) == "Orin, SM87"
    assert survey() == Driver("12.6", (ORIN,), None)


def test_the_name_by_which_nvml_finds_the_gpu_too(monkeypatch):
    class Newer(FakeDriver):
        """A fake of libcuda since 11.4, with a GPU that has a name."""

        def cuDeviceGetUuid_v2(self, octets, handle):
            octets._obj[:] = range(16)
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Newer())
    assert find_gpu().uuid == "00010203-0405-0607-0809-0a0b0c0d0e0f"


@pytest.mark.parametrize(
    ("changes", "version", "device", "said"),
    [
        ({}, "10.13.3", ORIN, "was built with tensorrt 10.3.0, and 10.13.3 is installed here"),
        (
            {},
            "10.3.0",
            Device("Thor", "SM110", integrated=True),
            "was built for Orin, SM87, and this GPU is Thor, SM110",
        ),
    ],
)
def test_an_engine_of_another_place_is_refused(tmp_path, changes, version, device, said):
    manifest = engine(tmp_path / "x.engine", **changes)
    with pytest.raises(EdgeferError) as error:
        run.check_place(tmp_path / "x.engine", manifest, version, device)
    assert said in error.value.message
    assert "build it again here: `edgefer build-engine model.onnx --int8 --calib DATA --target" in error.value.hint


def test_an_engine_of_this_place_is_let_through(tmp_path, capfd):
    run.check_place(tmp_path / "x.engine", engine(tmp_path / "x.engine"), "10.3.0", ORIN)
    assert capfd.readouterr().err == ""
    note = "RTX, SM86, built ahead of time, not run"
    rtx = engine(tmp_path / "x.engine", runtime="tensorrt-rtx", device="SM86", note=note)
    run.check_place(tmp_path / "x.engine", rtx, "10.3.0", Device("RTX 3060", "SM86", integrated=False))
    assert "built ahead of time, not run; this GPU is RTX 3060" in capfd.readouterr().err


A100, L40 = Device("A100", "SM80", integrated=False), Device("L40", "SM89", integrated=False)


@pytest.mark.parametrize(
    ("portable", "version", "device", "loaded"),
    [
        ((), "10.3.0", A100, True),
        ((), "10.13.3", A100, False),
        (("version",), "10.13.3", A100, True),
        (("version",), "10.2.0", A100, False),
        (("version",), "10.3.0", L40, False),
        (("hardware",), "10.3.0", L40, True),
        (("hardware",), "10.13.3", L40, False),
        (("hardware",), "10.3.0", Device("T4", "SM75", integrated=False), False),
        (("hardware",), "10.3.0", ORIN, False),
        (("version", "hardware"), "11.4.1", L40, True),
    ],
)
def test_what_an_engine_was_built_for_besides_this_place(tmp_path, portable, version, device, loaded):
    engine(tmp_path / "x.engine", device=str(A100), portable=portable)
    manifest = read_manifest(tmp_path / "x.engine")
    with contextlib.nullcontext() if loaded else pytest.raises(EdgeferError, match="was built"):
        run.check_place(tmp_path / "x.engine", manifest, version, device)


def test_an_engine_of_another_runtime_is_refused(tmp_path):
    engine(tmp_path / "x.engine", runtime="onnxruntime")
    with pytest.raises(EdgeferError, match="its manifest says it is for onnxruntime") as error:
        load_engine(tmp_path / "x.engine")
    assert "x.onnx" in error.value.hint


def test_a_changed_engine_is_refused_before_anything_else(tmp_path):
    engine(tmp_path / "x.engine")
    (tmp_path / "x.engine").write_bytes(b"another")
    with pytest.raises(EdgeferError, match="not the engine its manifest describes"):
        load_engine(tmp_path / "x.engine")


@pytest.mark.parametrize(
    ("smallest", "largest", "batch", "said", "hint"),
    [
        (1, 8, 9, "a batch of 9 is outside the engine's profile, 1…8", "--max-batch 9"),
        (4, 8, 2, "a batch of 2 is outside the engine's profile, 4…8", "--min-batch 2"),
        (1, 1, 4, "a batch of 4 is outside the engine's profile, 1", "feed 1 at a time"),
    ],
)
def test_a_batch_out_of_the_profile(smallest, largest, batch, said, hint):
    engine = LoadedEngine.__new__(LoadedEngine)
    engine.min_batch, engine.max_batch = smallest, largest
    with pytest.raises(EdgeferError) as error:
        engine.check_batch(batch)
    assert said in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("line", "options", "hint"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 9207254 bytes.)", {}, "lower --max-batch"),
        ("no tactics within workspace limit", {"workspace": 64 << 20}, "raise --workspace, which is 64 MiB"),
        ("Error Code 10: Could not find any implementation for node", {}, "--verbose shows all"),
    ],
)
def test_a_builder_that_gives_up(line, options, hint):
    log = Log()
    log.add(2, "a warning")
    log.add(1, line)
    log.add(1, line)
    error = gave_up(target_of("jetpack6"), log, BuilderOptions(**options))
    assert error.message == f"TensorRT 10.3.0 (jetpack6) could not build the engine: {line}"
    assert hint in error.hint


def test_a_log_without_an_error_says_so():
    assert "its log has no error" in gave_up(target_of("10.3"), Log(), BuilderOptions()).message


class FakeError(int):
    """A fake of cudaError_t."""

    @property
    def name(self):
        return {0: "cudaSuccess", 2: "cudaErrorMemoryAllocation", 35: "cudaErrorInsufficientDriver"}[int(self)]


def test_what_a_cuda_call_returns():
    assert called((FakeError(0), 7), "x") == 7
    assert called((FakeError(0), 1, 2), "x") == (1, 2)
    assert called((FakeError(0),), "x") == ()
    with pytest.raises(EdgeferError, match="cudaMalloc: cudaErrorMemoryAllocation") as error:
        called((FakeError(2),), "cudaMalloc")
    assert "smaller --max-batch" in error.value.hint
    with pytest.raises(EdgeferError, match="cudaErrorInsufficientDriver") as error:
        called((FakeError(35),), "cudaMalloc")
    assert "nvidia-smi" in error.value.hint

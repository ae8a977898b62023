"""Which package is taken, that it fits the driver, and what its errors say."""

import sys

import pytest

from edgefer.engines.tensorrt.cuda import cuda_error, find_gpu, open_cuda
from edgefer.errors import EdgeferError
from tests.engines.tensorrt.fakes.cuda_bindings import FakeDriver
from tests.engines.tensorrt.running import PACKAGES, counted, inside


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_one_a_process_and_it_takes_the_primary_context(machine, package):
    here = machine(package=package)
    found = []
    inside(lambda _: found.append(open_cuda()), 4)
    assert len(set(map(id, found))) == 1
    assert found[0].package == package
    assert (found[0].graphs is None) is (package == "pycuda")
    assert here.gpu.retained == 1
    with found[0].current():
        assert here.gpu.current is here.gpu.primary
    assert here.gpu.current is None


@pytest.mark.parametrize("package", PACKAGES)
def test_a_stream_does_not_wait_for_the_default_one(machine, package):
    here = machine(package=package)
    made = counted(here.gpu, "make_stream")
    with here.session():
        assert made == [(1,)]  # CU_STREAM_NON_BLOCKING


def test_neither_package(machine):
    machine(package="")
    with pytest.raises(EdgeferError, match="needs cuda-bindings or pycuda, and neither can be imported: ") as error:
        open_cuda()
    assert "'cuda-python<13'" in error.value.hint


def test_bindings_that_are_newer_than_the_driver(machine):
    here = machine(cuda=12060)
    sys.modules["cuda.bindings"].driver = FakeDriver(here.gpu, version=13000)
    with pytest.raises(EdgeferError, match=r"cuda-bindings is for CUDA 13, and the driver serves CUDA 12\.6") as error:
        open_cuda()
    assert "pip install 'cuda-python<13'" in error.value.hint


@pytest.mark.parametrize("package", PACKAGES)
def test_errors_of_the_package_name_their_call(machine, package):
    here = machine(package=package, total=1 << 20)
    cuda = open_cuda()
    with cuda.current():
        with pytest.raises(
            EdgeferError, match=r"CUDA failed: cuMemAlloc\(2097152\): .*(out of memory|OUT_OF_MEMORY)"
        ) as e:
            cuda.allocate(2 << 20)
        assert "smaller --max-batch" in e.value.hint
        assert cuda.free_bytes() == 1 << 20
        memory = cuda.allocate(1024)
        assert cuda.extent(memory.number + 256) == 768
        memory.close()
        memory.close()
    here.gpu.fail["cuCtxPushCurrent"] = "CUDA_ERROR_INVALID_CONTEXT"
    with pytest.raises(EdgeferError, match="CUDA failed: cuCtxPushCurrent"), cuda.current():
        pass


def test_an_illegal_address_is_no_lack_of_memory():
    assert "start the process anew" in cuda_error("cuStreamSynchronize", "CUDA_ERROR_ILLEGAL_ADDRESS").hint
    assert "start the process anew" in cuda_error("x", "an illegal memory address was encountered").hint


def test_a_capture_that_fails_leaves_the_stream_usable(machine):
    here = machine()
    find_gpu()
    cuda = open_cuda()

    def spoil():
        cuda.wait(stream)
        return True

    with cuda.current():
        stream = cuda.stream()
        with pytest.raises(EdgeferError, match="CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
            cuda.graphs.capture(stream, spoil)
        with pytest.raises(EdgeferError, match="could not enqueue"):
            cuda.graphs.capture(stream, lambda: False)
        graph = cuda.graphs.capture(stream, lambda: True)
        cuda.graphs.launch(graph, stream)
        cuda.wait(stream)
        assert len(here.gpu.graphs) == 1
        graph.close()
        stream.close()

"""Memory that runs out, faults of the GPU, engines that do not load: an error that says so, and nothing is left."""

import pytest

from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from tests.engines.conftest import tiny
from tests.engines.tensorrt.fakes.strict import ERROR, SCRATCH
from tests.engines.tensorrt.running import PACKAGES, check, faces, without_session


@pytest.mark.parametrize("package", PACKAGES)
def test_memory_that_runs_out_is_given_back(machine, package):
    """Wherever it runs out: nothing is left, as the fixture sees, and the error says what to lower."""
    here = machine(package=package)
    plan = here.plan()
    with TensorRtSession(plan) as session:
        check(session, 8)
        needed = here.gpu.used()
    refused = 0
    for total in (*range(0, needed, needed // 8), SCRATCH, needed - 1):
        here.gpu.total = total
        with pytest.raises(EdgeferError) as error:
            TensorRtSession(plan)
        assert "memory" in error.value.message.lower()
        assert "smaller --max-batch" in error.value.hint
        assert here.gpu.left() == {}
        refused += 1
    assert refused == 10 or refused == 11
    here.gpu.total = needed * 4
    with TensorRtSession(plan) as session:
        check(session, 8)


@pytest.mark.parametrize("call", ["cuMemAllocHost", "cuStreamCreate", "cuEventCreate"])
def test_a_failure_half_way_gives_back_the_first_half(machine, call):
    here = machine()
    plan = here.plan()
    here.gpu.fail[call] = "CUDA_ERROR_OUT_OF_MEMORY"
    with pytest.raises(EdgeferError, match=f"CUDA failed: {call}.*CUDA_ERROR_OUT_OF_MEMORY"):
        TensorRtSession(plan)
    assert here.gpu.left() == {}


def test_a_fault_of_the_gpu_is_an_error_and_the_rest_is_freed(machine):
    here = machine()
    session = here.session()
    here.gpu.fail["cuStreamSynchronize"] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(EdgeferError, match="CUDA_ERROR_ILLEGAL_ADDRESS") as error:
        session.run({"faces": faces(1)})
    assert "start the process anew" in error.value.hint
    here.gpu.fail["cuCtxSynchronize"] = "CUDA_ERROR_ILLEGAL_ADDRESS"
    with pytest.raises(EdgeferError, match="cuCtxSynchronize"):
        session.close()


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (lambda plan: plan[:-1], "Plan is truncated"),
        (lambda plan: plan[:10], "Plan is truncated"),
        (lambda plan: b"", "Plan is truncated"),
    ],
)
def test_an_engine_that_is_cut_short(machine, plan, said):
    here = machine()
    whole = here.plan()
    with pytest.raises(EdgeferError, match=rf"TensorRT 10\.3\.0 cannot load the engine: .*{said}") as error:
        TensorRtSession(plan(whole))
    assert "build it again here" in error.value.hint


def test_an_engine_that_memory_has_no_room_for(machine):
    here = machine()
    plan, runtime = here.plan(), here.tensorrt.module.Runtime
    said = "[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)"
    runtime.deserialize_cuda_engine = lambda self, plan: here.tensorrt.log(self._logger, ERROR, said)
    with pytest.raises(EdgeferError, match=r"cannot load the engine: .*out of memory") as error:
        TensorRtSession(plan)
    assert "smaller --max-batch" in error.value.hint


def test_an_engine_that_is_not_there(machine, tmp_path):
    machine()
    with pytest.raises(EdgeferError, match=r"x\.engine cannot be read: No such file"):
        TensorRtSession(tmp_path / "x.engine")


def test_an_engine_of_another_version_or_gpu(machine, tmp_path):
    path = tmp_path / "x.engine"
    path.write_bytes(machine("10.16.1").plan())
    machine("10.3.0")
    with pytest.raises(EdgeferError, match="expecting library version 10.16.1 got 10.3.0"):
        TensorRtSession(path)
    machine("10.16.1", name="Thor", capability=(11, 0))
    with pytest.raises(EdgeferError, match="was built for"):
        TensorRtSession(path)


def test_a_tensor_of_a_type_that_numpy_lacks(machine):
    from onnx import TensorProto, load_from_string

    model = load_from_string(tiny())
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    here = machine()
    plan = here.plan(model=model.SerializeToString())
    here.tensorrt.module.ICudaEngine.__init__ = without_session(here.tensorrt.module.ICudaEngine.__init__)
    with pytest.raises(EdgeferError, match="the engine's tensor 'logits' is FP8, which NumPy does not have"):
        TensorRtSession(plan)

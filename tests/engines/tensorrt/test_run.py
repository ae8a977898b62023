"""The session line by line, over fakes that enforce the rules of CUDA and TensorRT and compute with ONNX Runtime."""

import threading

import numpy as np
import pytest

from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.engines.tensorrt.binding import log_of
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from tests.engines.conftest import tiny
from tests.engines.tensorrt.fakes.strict import COMPUTE_MS, SCRATCH

VERSIONS = ("8.5.2", "8.6.1", "10.3.0", "10.16.1", "11.4.0")
PACKAGES = ("cuda-bindings", "pycuda")


def faces(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)


def expected(batch):
    session = OnnxRuntimeSession(tiny())
    return session.run({"faces": batch})["logits"]


def check(session, count, seed=0):
    batch = faces(count, seed)
    np.testing.assert_allclose(session.run({"faces": batch})["logits"], expected(batch), rtol=1e-5)


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("version", VERSIONS)
def test_any_batch_of_the_profile_goes_through_the_same_buffers(machine, version, package):
    here = machine(version, package)
    with here.session() as session:
        assert (session.name, session.version, session.least, session.most) == ("tensorrt", version, 1, 8)
        assert [str(s) for s in (*session.inputs, *session.outputs)] == [
            "'faces' uint8 N×4×4×1",
            "'logits' float32 N×3",
        ]
        before = here.gpu.allocated
        kept = []
        for count in (1, 8, 3, 3, 3, 8, 1, 1, 2, 5, 6, 7, 7, 1):
            batch = faces(count, count)
            kept.append((session.run({"faces": batch})["logits"], expected(batch)))
        for got, wanted in kept:  # what was returned earlier is the caller's own
            np.testing.assert_allclose(got, wanted, rtol=1e-5)
        scratch = sum(block.size == SCRATCH for block in here.gpu.blocks.values())
        assert scratch == (1 if version.startswith("8") else 4)
        assert here.gpu.allocated - before == scratch - 1  # of further contexts; no call allocates anything else
        assert here.gpu.stack == []


def test_faces_that_are_not_contiguous(machine):
    with machine().session() as session:
        batch = faces(6)[::2]
        got = session.run({"faces": batch})["logits"]
        np.testing.assert_allclose(got, expected(np.ascontiguousarray(batch)), rtol=1e-5)


def test_calls_are_captured_once_a_batch_size_and_replayed(machine):
    here = machine()
    captures = counted(here.gpu, "begin_capture")
    launches = counted(here.gpu, "launch")
    with here.session() as session:
        for count in (2, 2, 2, 3, 2, 3, 3):
            check(session, count, count)
            assert session.without_graphs is None
        # the first call of each size is enqueued, the second captured, and it and all others are replayed
        assert len(captures) == 2
        assert len(launches) == 5
        assert session.timing.graph


def test_the_batch_size_that_was_used_least_lately_loses_its_graph(machine):
    here = machine()
    captures = counted(here.gpu, "begin_capture")
    with here.session() as session:
        for count in (1, 2, 3, 4, 1):
            for _ in range(2):
                check(session, count)
        assert len(captures) == 4
        check(session, 5)  # takes the place of 2
        check(session, 1)
        assert len(captures) == 4
        for _ in range(2):
            check(session, 2)
        assert len(captures) == 5
        assert len(here.gpu.graphs) == 3


def test_a_profile_that_cannot_be_shared_has_one_context(machine):
    """TensorRT 8 gives a profile to one execution context at a time."""
    here = machine("8.6.1")
    with here.session() as session:
        for count in (1, 1, 1, 2, 2, 1):
            check(session, count)
        assert here.gpu.graphs == {}  # the last change of shape took it away
        check(session, 1)
        assert len(here.gpu.graphs) == 1
    assert log_of(False).errors() == []  # and no second one is asked for


def test_a_context_too_many_for_memory_is_done_without(machine):
    here = machine(total=SCRATCH + 8192)
    with here.session() as session:
        for count in (1, 2, 1, 2):
            check(session, count)
        assert sum(block.size == SCRATCH for block in here.gpu.blocks.values()) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_each_call_is_timed_on_the_gpu(machine, package):
    with machine(package=package).session() as session:
        assert session.timing is None
        check(session, 8)
        found = session.timing
        assert found.upload == pytest.approx(8 * 16 * 1e-6)
        assert found.compute == pytest.approx(COMPUTE_MS)
        assert found.download == pytest.approx(8 * 3 * 4 * 1e-6)
        assert not found.graph


@pytest.mark.parametrize(
    ("package", "version", "rtx", "reason"),
    [
        ("pycuda", "10.3.0", False, "pycuda has no CUDA graphs"),
        ("cuda-bindings", "1.7.1", True, "TensorRT-RTX 1.7.1 captures CUDA graphs itself"),
    ],
)
def test_where_graphs_cannot_be_captured_that_is_said(machine, package, version, rtx, reason):
    here = machine(version, package, rtx=rtx)
    plan = here.plan() if not rtx else rtx_plan(here)
    with TensorRtSession(plan, rtx=rtx) as session:
        assert session.without_graphs == reason
        for _ in range(3):
            check(session, 2)
        assert not session.timing.graph
        if rtx:
            settings = session._lanes._lanes[0].context._settings
            assert settings.cuda_graph_strategy == here.tensorrt.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE


def test_an_engine_that_cannot_be_captured_runs_without(machine, capfd):
    here = machine()
    with here.session() as session:
        check(session, 2)
        here.tensorrt.capturable = False
        for _ in range(3):
            check(session, 2)
        assert "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" in session.without_graphs
        assert not session.timing.graph
    assert capfd.readouterr().err.count("are not replayed as a CUDA graph") == 1


def test_an_engine_that_refuses_while_captured_leaves_no_graph(machine):
    here = machine()
    with here.session() as session:
        check(session, 2)
        here.tensorrt.working = False
        with pytest.raises(EdgeferError, match=r"tensorrt 10\.3\.0 could not run: enqueueV3 failed"):
            session.run({"faces": faces(2)})
        assert "could not enqueue" in session.without_graphs
        here.tensorrt.working = True
        check(session, 2)
        assert here.gpu.graphs == {}


@pytest.mark.parametrize(("sizes", "count"), [({}, 9), ({"least": 2}, 1), ({"least": 2, "most": 2}, 1)])
def test_batches_outside_the_profile(machine, sizes, count):
    with (
        machine().session(**sizes) as session,
        pytest.raises(EdgeferError, match=f"a batch of {count} is outside the engine's profile"),
    ):
        session.run({"faces": faces(count)})


@pytest.mark.parametrize(
    ("feeds", "said"),
    [
        ({"faces": np.zeros((1, 8, 2, 1), np.uint8)}, "the engine takes 'faces' uint8 N×4×4×1, not uint8"),
        ({"faces": np.zeros((1, 4, 4, 1), np.float32)}, "the engine takes 'faces' uint8 N×4×4×1, not float32"),
        ({"images": np.zeros((1, 4, 4, 1), np.uint8)}, "the engine takes 'faces', not 'images'"),
        ({}, "the engine takes 'faces', not nothing"),
    ],
)
def test_feeds_that_do_not_fit(machine, feeds, said):
    with machine().session() as session, pytest.raises(EdgeferError) as error:
        session.run(feeds)
    assert said in error.value.message


def test_a_fixed_batch(machine):
    with machine().session(least=4, best=4, most=4) as session:
        assert (session.least, session.most, session.inputs[0].shape) == (4, 4, (4, 4, 4, 1))
        check(session, 4)


def test_a_batch_that_tensorrt_refuses_all_the_same(machine):
    here = machine()
    with here.session() as session:
        here.tensorrt.module.IExecutionContext.set_input_shape = lambda self, name, shape: False
        with pytest.raises(EdgeferError, match=r"TensorRT 10\.3\.0 refuses a batch of 2: its log has no error"):
            session.run({"faces": faces(2)})


def test_a_closed_session_is_refused(machine):
    session = machine().session()
    session.close()
    session.close()
    with pytest.raises(EdgeferError, match="was used after it was closed") as error:
        session.run({"faces": faces(1)})
    assert "every thread" in error.value.hint
    with pytest.raises(EdgeferError, match="was used after it was closed"):
        session.run_device({}, 1, 0)


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


def test_two_engines_in_one_process(machine):
    here = machine()
    other = tiny(weight=-np.ones((16, 3), np.float32))
    with here.session() as first, TensorRtSession(here.plan(model=other)) as second:
        for count in (1, 2, 2):
            check(first, count)
            batch = faces(count)
            sums = -batch.reshape(count, -1).sum(axis=1, dtype=np.float32)
            np.testing.assert_allclose(second.run({"faces": batch})["logits"], np.repeat(sums[:, None], 3, axis=1))
        first.close()
        assert second.run({"faces": faces(1)})["logits"].shape == (1, 3)


@pytest.mark.parametrize("package", PACKAGES)
def test_several_threads_share_one_session(machine, package):
    here = machine(package=package)
    failures, left = [], []

    def work(seed):
        try:
            for count in (1, 2, 3, 2):
                check(session, count, seed)
            left.append(list(here.gpu.stack))
        except BaseException as error:
            failures.append(error)

    with here.session() as session:
        inside(work, 4)
    assert failures == []
    assert left == [[]] * 4


def test_a_session_may_be_closed_in_another_thread_than_it_was_made_in(machine):
    for package in PACKAGES:
        here = machine(package=package)
        session = here.session()
        inside(lambda _, session=session: session.close(), 1)
        assert here.gpu.left() == {}
        with pytest.raises(EdgeferError, match="after it was closed"):
            session.run({"faces": faces(1)})


def test_a_thread_that_uses_a_closed_engine_gets_an_error(machine):
    here = machine()
    session, said, started = here.session(), [], threading.Event()

    def work(_):
        try:
            while True:
                check(session, 2)
                started.set()
        except EdgeferError as error:
            said.append(error.message)

    thread = threading.Thread(target=work, args=(0,))
    thread.start()
    assert started.wait(20)
    session.close()
    thread.join()
    assert said == ["a session of tensorrt was used after it was closed"]


def test_the_driver_is_asked_before_tensorrt(machine):
    """The fake takes it amiss: the real one would end the process where there is no driver."""
    plan = machine().plan()
    here = machine(package="pycuda")
    assert not here.gpu.probed
    with TensorRtSession(plan) as session:
        check(session, 1)


def counted(owner, name):
    """Every call of ``owner.name`` is kept in the list that is returned."""
    calls, real = [], getattr(owner, name)

    def call(*arguments):
        calls.append(arguments)
        return real(*arguments)

    setattr(owner, name, call)
    return calls


def inside(work, threads):
    started = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def without_session(real):
    import onnxruntime

    def init(self, runtime, header, model):
        kept, onnxruntime.InferenceSession = onnxruntime.InferenceSession, lambda *a, **k: None
        try:
            real(self, runtime, header, model)
        finally:
            onnxruntime.InferenceSession = kept

    return init


def rtx_plan(here):
    from edgefer.engines.tensorrt.build import build_plan
    from edgefer.engines.tensorrt.options import Batches, BuilderOptions
    from tests.engines.conftest import CONTRACT

    return build_plan(tiny(), CONTRACT, "fp32", BuilderOptions(batches=Batches(1, 2, 8)), rtx=True).plan

"""CUDA graphs and execution contexts of a session, one a batch size, and what each call took."""

import pytest

from edgefer.engines.tensorrt.compat import log_of
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from tests.engines.tensorrt.fakes.strict import COMPUTE_MS, SCRATCH
from tests.engines.tensorrt.running import PACKAGES, check, counted, faces, rtx_plan


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


def test_a_replayed_call_is_one_launch_with_copies_and_events_inside(machine):
    """The driver is asked for times only when somebody asks for them, and they are those of the last call."""
    here = machine()
    with here.session() as session:
        for _ in range(2):
            check(session, 4)
        names = ("record", "copy", "launch", "synchronise", "elapsed")
        calls = {name: counted(here.gpu, name) for name in names}
        check(session, 4, 1)
        assert {name: len(found) for name, found in calls.items()} == {
            **dict.fromkeys(names, 0),
            "launch": 1,
            "synchronise": 1,
        }
        timing = session.timing
        assert (timing.upload, timing.compute) == (pytest.approx(4 * 16 * 1e-6), pytest.approx(COMPUTE_MS))
        assert len(calls["elapsed"]) == 3
        assert session.timing is timing
        check(session, 2)  # the first call of another size is enqueued: other copies, other times
        assert not session.timing.graph
        assert session.timing.upload == pytest.approx(2 * 16 * 1e-6)


def test_the_batch_size_whose_last_use_is_longest_ago_loses_its_graph(machine):
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


def test_a_context_too_many_for_memory_is_done_without(machine, capfd):
    here = machine(total=SCRATCH + 8192)
    with here.session() as session:
        tried = counted(here.tensorrt.module.ICudaEngine, "create_execution_context")
        for count in (1, 2, 1, 2):
            check(session, count)
        assert sum(block.size == SCRATCH for block in here.gpu.blocks.values()) == 1
        assert len(tried) == 1
        assert capfd.readouterr().err.count("no room for more execution contexts than 1") == 1
        here.tensorrt.working = False
        with pytest.raises(EdgeferError, match="could not run: enqueueV3 failed"):  # and not what was said before
            session.run({"faces": faces(2)})


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
            settings = session._contexts._all[0].context._settings
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
        here.tensorrt.working = False
        with pytest.raises(EdgeferError, match="could not run: enqueueV3 failed"):  # and not why it was not captured
            session.run({"faces": faces(2)})
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

"""The session line by line, over fakes that enforce the rules of CUDA and TensorRT and compute with ONNX Runtime."""

import threading

import numpy as np
import pytest

from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from tests.engines.conftest import tiny
from tests.engines.tensorrt.fakes.strict import SCRATCH
from tests.engines.tensorrt.running import PACKAGES, VERSIONS, check, expected, faces, inside


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("version", VERSIONS)
def test_any_batch_of_the_profile_goes_through_the_same_buffers(machine, version, package):
    here = machine(version, package)
    with here.session() as session:
        assert (session.name, session.version, session.min_batch, session.max_batch) == ("tensorrt", version, 1, 8)
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


@pytest.mark.parametrize(("sizes", "count"), [({}, 9), ({"smallest": 2}, 1), ({"smallest": 2, "largest": 2}, 1)])
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
    with machine().session(smallest=4, usual=4, largest=4) as session:
        assert (session.min_batch, session.max_batch, session.inputs[0].shape) == (4, 4, (4, 4, 4, 1))
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

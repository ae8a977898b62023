"""An engine inside an application: its own stream, its own memory, its own context, its own CUDA graph."""

import threading
import time

import numpy as np
import pytest

from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from tests.engines.conftest import tiny
from tests.engines.tensorrt.fakes.gpu import THREAD_LOCAL
from tests.engines.tensorrt.running import PACKAGES, VERSIONS, check, counted, expected, faces


class Application:
    """What torch does: memory and streams in the primary context, made through the driver and not through edgefer."""

    def __init__(self, gpu):
        self.gpu = gpu
        gpu.started = True
        gpu.retain()
        gpu.push(gpu.primary)
        self.streams, self.memory = [], []

    def stream(self):
        self.streams.append(self.gpu.make_stream())
        return self.streams[-1]

    def room(self, nbytes):
        self.memory.append(self.gpu.allocate(nbytes))
        return self.memory[-1]

    def faces(self, batch):
        """A tensor of faces on the device."""
        pointer = self.room(batch.nbytes)
        self.gpu.device(pointer, batch.nbytes, self.gpu.primary)[:] = batch.ravel()
        return pointer

    def logits(self, pointer, count):
        return self.gpu.device(pointer, count * 12, self.gpu.primary).view(np.float32).reshape(count, 3).copy()

    def close(self):
        for pointer in self.memory:
            self.gpu.free(pointer)
        for stream in self.streams:
            self.gpu.destroy(self.gpu.streams, stream, "cuStreamDestroy")
        assert self.gpu.stack == [self.gpu.primary]  # as the application left it
        self.gpu.pop()


@pytest.fixture
def application(machine):
    """``application(version, package)``: the fake machine and the application on it."""
    made = []

    def make(*arguments, **named):
        here = machine(*arguments, **named)
        made.append(Application(here.gpu))
        return here, made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("version", VERSIONS)
def test_on_a_stream_and_in_memory_of_the_application(application, version, package):
    here, torch = application(version, package)
    with here.session() as session:
        stream, batches = torch.stream(), [faces(count, count) for count in (1, 8, 3)]
        outs = []
        for batch in batches:
            out = torch.room(12 * len(batch))
            session.run_device({"faces": torch.faces(batch), "logits": out}, len(batch), stream)
            outs.append(out)
        assert here.gpu.time == 0, "the calls return before they are done"
        here.gpu.synchronise(stream)
        for batch, out in zip(batches, outs, strict=True):
            np.testing.assert_allclose(torch.logits(out, len(batch)), expected(batch), rtol=1e-5)


def test_on_the_default_stream(application):
    here, torch = application()
    with here.session() as session:
        batch, out = faces(2), torch.room(24)
        session.run_device({"faces": torch.faces(batch), "logits": out}, 2, 0)
        here.gpu.synchronise(0)
        np.testing.assert_allclose(torch.logits(out, 2), expected(batch), rtol=1e-5)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0"])
def test_both_ways_in_turn(application, version):
    """Its own calls keep their buffers and graphs, and nothing runs a context on two streams at a time."""
    here, torch = application(version)
    with here.session() as session:
        stream, other = torch.stream(), torch.stream()
        for seed, where in enumerate((stream, stream, other, stream)):
            check(session, 2, seed)
            batch, out = faces(2, seed + 50), torch.room(24)
            session.run_device({"faces": torch.faces(batch), "logits": out}, 2, where)
            if seed == 1:
                continue  # the next call finds the GPU busy
            here.gpu.synchronise(where)
            np.testing.assert_allclose(torch.logits(out, 2), expected(batch), rtol=1e-5)
        check(session, 2)


def test_an_application_may_capture_the_engine_in_a_graph_of_its_own(application):
    here, torch = application()
    gpu = here.gpu
    with here.session() as session:
        stream, batch, out = torch.stream(), faces(2), torch.room(24)
        pointers = {"faces": torch.faces(batch), "logits": out}
        session.run_device(pointers, 2, stream)
        gpu.synchronise(stream)
        gpu.begin_capture(stream, THREAD_LOCAL)
        session.run_device(pointers, 2, stream)
        graph = gpu.instantiate(gpu.end_capture(stream))
        new = faces(2, 9)
        gpu.device(pointers["faces"], 32, gpu.primary)[:] = new.ravel()
        gpu.launch(graph, stream)
        gpu.synchronise(stream)
        np.testing.assert_allclose(torch.logits(out, 2), expected(new), rtol=1e-5)
    gpu.graphs.clear()


def test_another_engines_capture_is_not_disturbed(application):
    """Waiting for the whole GPU fails while any stream of the context is captured, and spoils the capture."""
    here, torch = application()
    capturing, real = threading.Event(), here.gpu.end_capture

    def slow(number):
        capturing.set()
        time.sleep(0.1)
        return real(number)

    here.gpu.end_capture = slow
    with here.session() as first, here.session() as second:
        check(first, 2)
        pointers = {"faces": torch.faces(faces(2)), "logits": torch.room(24)}
        second.run_device(pointers, 2, torch.stream())
        thread = threading.Thread(target=check, args=(first, 2))
        thread.start()
        assert capturing.wait(20)
        torch.room(24)  # nor does what an application allocates meanwhile spoil it
        second.run_device(pointers, 2, torch.stream())  # on another stream: the context's scratch memory is in use
        thread.join()
        assert first.without_graphs is None
        assert first.timing.graph


def test_closing_waits_for_the_application(application):
    here, torch = application()
    session, batch, out = here.session(), faces(2), torch.room(24)
    session.run_device({"faces": torch.faces(batch), "logits": out}, 2, torch.stream())
    waits = counted(here.gpu, "synchronise_all")
    session.close()
    assert len(waits) == 1  # before anything is freed, not because cuMemFree waits too
    np.testing.assert_allclose(torch.logits(out, 2), expected(batch), rtol=1e-5)


def test_two_engines_one_after_the_other_on_one_stream(application):
    here, torch = application()
    with here.session() as first, TensorRtSession(here.plan(model=tiny(weight=np.ones((16, 3), np.float32)))) as second:
        stream, batch = torch.stream(), faces(2)
        pointer, outs = torch.faces(batch), [torch.room(24), torch.room(24)]
        for session, out in zip((first, second), outs, strict=True):
            session.run_device({"faces": pointer, "logits": out}, 2, stream)
        here.gpu.synchronise(stream)
        np.testing.assert_allclose(torch.logits(outs[0], 2), expected(batch), rtol=1e-5)
        sums = batch.reshape(2, -1).sum(axis=1, dtype=np.float32)
        np.testing.assert_array_equal(torch.logits(outs[1], 2), np.repeat(sums[:, None], 3, axis=1))


@pytest.mark.parametrize("package", PACKAGES)
def test_pointers_that_would_crash_are_refused(application, package):
    here, torch = application(package=package)
    with here.session() as session:
        good = {"faces": torch.faces(faces(4)), "logits": torch.room(48)}
        on_the_host = np.zeros((4, 4, 4, 1), np.uint8)
        for change, batch, said in (
            ({"faces": good["faces"] + 16}, 1, "is no multiple of 256 bytes"),
            ({}, 5, "there are 64 bytes, and 'faces' needs 80 for this batch"),
            ({"logits": torch.room(16)}, 4, "there are 16 bytes, and 'logits' needs 48"),
            ({"faces": on_the_host.ctypes.data & ~255}, 4, "CUDA failed: cuMemGetAddressRange"),
            ({"faces": 0}, 4, "CUDA failed: cuMemGetAddressRange"),
            ({}, 9, "a batch of 9 is outside the engine's profile"),
            ({"images": 0}, 4, "the engine's tensors are 'faces', 'logits', not 'faces', 'logits', 'images'"),
        ):
            with pytest.raises(EdgeferError) as error:
                session.run_device({**good, **change}, batch, 0)
            assert said in error.value.message
        with pytest.raises(EdgeferError, match="not nothing"):
            session.run_device({}, 4, 0)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_private_context_is_named(machine, package):
    """As pycuda.autoinit makes it: the application's memory would not be the engine's."""
    here = machine(package=package)
    with here.session() as session:
        if package == "pycuda":
            import pycuda.driver

            private = pycuda.driver.Device(0).make_context()
        else:
            from tests.engines.tensorrt.fakes.gpu import Thing

            here.gpu.push(Thing(0x99))
        with pytest.raises(EdgeferError, match="context is a private one") as error:
            session.run_device({"faces": 0, "logits": 0}, 1, 0)
        assert "pycuda.autoprimaryctx" in error.value.hint
        check(session, 2)  # its own calls go to its own context
        if package == "pycuda":
            assert pycuda.driver.Context.get_current() == private
            private.pop()
        else:
            here.gpu.pop()


def test_an_engine_that_fails_on_the_applications_stream_says_why(application):
    here, mine = application()
    with here.session() as session:
        batch = faces(2)
        pointers = {"faces": mine.faces(batch), "logits": mine.room(2 * 12)}
        here.tensorrt.working = False
        with pytest.raises(EdgeferError, match=r"tensorrt 10\.3\.0 could not run: enqueueV3 failed"):
            session.run_device(pointers, 2, mine.stream())

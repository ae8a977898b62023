"""The half of the fake GPU that does work in order: streams, events, copies, graphs."""

import threading
from collections import deque

from tests.engines.tensorrt.fakes.errors import GLOBAL, MS_A_BYTE, DriverError


class Thing:
    """A context, stream, event or graph."""

    def __init__(self, number, context=None):
        self.number, self.context, self.live = number, context, True


class Stream(Thing):
    def __init__(self, number, context):
        super().__init__(number, context)
        self.queue = deque()
        self.graph = None  # the list that is captured into
        self.invalid = False
        self.mode = self.thread = None


class Event(Thing):
    def __init__(self, number, context):
        super().__init__(number, context)
        self.pending, self.time, self.captured = 0, None, False


class Streams:
    """For :class:`~tests.engines.tensorrt.fakes.gpu.FakeGpu`."""

    # streams and events

    def make_stream(self, flags=0):
        stream = Stream(self._handle(), self.need("cuStreamCreate"))
        self.streams[stream.number] = stream
        return stream.number

    def make_event(self, flags=0):
        event = Event(self._handle(), self.need("cuEventCreate"))
        self.events[event.number] = event
        return event.number

    def destroy(self, kind, number, call):
        with self.lock:
            context = self.need(call)
            thing = self._known(kind, number)
            if thing.context is not context:
                raise DriverError("CUDA_ERROR_INVALID_HANDLE")
            if isinstance(thing, Stream):
                self._drain(thing)
            del kind[number]
            thing.live = False

    def _known(self, kind, number):
        if number not in kind:
            self.violate(f"the handle {number:#x} was destroyed, or never was one")
        return kind[number]

    def stream(self, number, call):
        context = self.need(call)
        if number == 0:  # the default stream of the context
            number = -context.number
            self.streams.setdefault(number, Stream(0, context))
        stream = self._known(self.streams, number)
        if stream.context is not context:
            raise DriverError("CUDA_ERROR_INVALID_HANDLE")
        return stream

    def put(self, stream, work, cost=0.0):
        """Enqueue ``work``, or capture it."""
        with self.lock:
            (stream.queue if stream.graph is None else stream.graph).append((work, cost))

    def record(self, event_number, stream_number, *, external=False):
        with self.lock:
            stream = self.stream(stream_number, "cuEventRecord")
            event = self._known(self.events, event_number)
            if stream.graph is not None and external:

                def happen_in_graph():
                    event.captured, event.time = False, self.time

                self.put(stream, happen_in_graph)
                return
            if stream.graph is not None:
                event.captured = True
                return
            event.captured, event.time = False, None
            event.pending += 1

            def happen():
                event.pending -= 1
                event.time = self.time

            self.put(stream, happen)

    def elapsed(self, start_number, end_number):
        with self.lock:
            self.need("cuEventElapsedTime")
            start, end = (self._known(self.events, number) for number in (start_number, end_number))
            if start.captured or end.captured:
                raise DriverError("CUDA_ERROR_CAPTURED_EVENT")
            if start.pending or end.pending:
                raise DriverError("CUDA_ERROR_NOT_READY")
            if start.time is None or end.time is None:
                raise DriverError("CUDA_ERROR_INVALID_HANDLE")
            return end.time - start.time

    def copy(self, destination, source, size, stream_number, *, up):
        with self.lock:
            stream = self.stream(stream_number, "cuMemcpyHtoDAsync" if up else "cuMemcpyDtoHAsync")
            context = stream.context
            host = self.host(source if up else destination, size)
            self.device(destination if up else source, size, context)

            def move():
                device = self.device(destination if up else source, size, context)
                self.host(source if up else destination, size)
                (device if up else host)[:] = host if up else device

            self.put(stream, move, size * MS_A_BYTE)

    def synchronise(self, stream_number):
        with self.lock:
            stream = self.stream(stream_number, "cuStreamSynchronize")
            if stream.graph is not None:
                stream.invalid = True
                raise DriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
            self._drain(stream)

    def synchronise_all(self):
        with self.lock:
            self.need("cuCtxSynchronize")
            for stream in self.streams.values():
                if stream.graph is not None:
                    stream.invalid = True
                    raise DriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
            self._drain_all()

    def _drain(self, stream):
        while stream.queue:
            work, cost = stream.queue.popleft()
            self.time += cost
            work()

    def _drain_all(self):
        for stream in list(self.streams.values()):
            self._drain(stream)

    # graphs

    def _unsafe(self):
        """A call that disturbs captures: this thread's, and anyone's that is global."""
        for stream in self.streams.values():
            mine = stream.thread == threading.get_ident()
            if stream.graph is not None and (mine or stream.mode == GLOBAL):
                stream.invalid = True
                raise DriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def begin_capture(self, stream_number, mode):
        with self.lock:
            stream = self.stream(stream_number, "cuStreamBeginCapture")
            if stream.number == 0:
                raise DriverError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
            if stream.graph is not None:
                raise DriverError("CUDA_ERROR_ILLEGAL_STATE")
            stream.graph, stream.invalid, stream.mode, stream.thread = [], False, mode, threading.get_ident()

    def end_capture(self, stream_number):
        with self.lock:
            stream = self.stream(stream_number, "cuStreamEndCapture")
            if stream.graph is None:
                raise DriverError("CUDA_ERROR_ILLEGAL_STATE")
            if stream.thread != threading.get_ident():
                raise DriverError("CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD")
            work, stream.graph = stream.graph, None
            if stream.invalid:
                raise DriverError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
            graph = Thing(self._handle(), stream.context)
            graph.work = work
            self.graphs[graph.number] = graph
            return graph.number

    def instantiate(self, graph_number):
        with self.lock:
            self.need("cuGraphInstantiate")
            made = Thing(self._handle(), self._known(self.graphs, graph_number).context)
            made.work = list(self.graphs[graph_number].work)
            self.graphs[made.number] = made
            return made.number

    def launch(self, graph_number, stream_number):
        with self.lock:
            stream = self.stream(stream_number, "cuGraphLaunch")
            for work, cost in self._known(self.graphs, graph_number).work:
                self.put(stream, work, cost)

"""A fake GPU with its driver, which enforces CUDA's rules; the fakes of both CUDA packages and of TensorRT stand on it.

Work on a stream is done when somebody waits for it and not before, so whoever reads too early reads stale bytes. Time
is counted, not measured: a byte that is copied takes a nanosecond. Nothing here says how fast anything is.

What the real driver would answer with an error is a :class:`DriverError`. What it would not notice, and what would end
in a crash or in wrong answers, is a :class:`Violation`, which no code that is tested can mistake for an error.
"""

import ctypes
import threading
from collections import deque

import numpy as np

ERRORS = {
    "CUDA_SUCCESS": 0,
    "CUDA_ERROR_INVALID_VALUE": 1,
    "CUDA_ERROR_OUT_OF_MEMORY": 2,
    "CUDA_ERROR_NOT_INITIALIZED": 3,
    "CUDA_ERROR_INVALID_CONTEXT": 201,
    "CUDA_ERROR_INVALID_HANDLE": 400,
    "CUDA_ERROR_ILLEGAL_STATE": 401,
    "CUDA_ERROR_NOT_FOUND": 500,
    "CUDA_ERROR_NOT_READY": 600,
    "CUDA_ERROR_ILLEGAL_ADDRESS": 700,
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": 900,
    "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED": 901,
    "CUDA_ERROR_CAPTURED_EVENT": 907,
    "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD": 908,
}
"""Of CUresult in cuda.h; a test holds them against the real packages."""

MS_A_BYTE = 1e-6
GLOBAL, THREAD_LOCAL = 0, 1


class DriverError(Exception):
    def __init__(self, name):
        super().__init__(name)
        self.name, self.code = name, ERRORS[name]


class Violation(BaseException):
    """Undefined behaviour."""


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


class Block:
    """An allocation on the device."""

    def __init__(self, base, size, context):
        self.base, self.size, self.context, self.live = base, size, context, True
        self.memory = np.full(size, 0xCD, np.uint8)


class FakeGpu:
    """One GPU. ``total`` bytes of memory; ``fail[call]`` is an error that the next such call answers with."""

    def __init__(self, total=1 << 28, name="Orin", capability=(8, 7), integrated=True, cuda=12060):
        self.total, self.name, self.capability, self.integrated, self.cuda = total, name, capability, integrated, cuda
        self.lock = threading.RLock()
        self.violations = []
        self.fail = {}
        self.probed = self.started = False
        self.time = 0.0
        self.retained = 0
        self.allocated = 0  # calls that allocated, on either side
        self._local = threading.local()
        self._next = {"address": 0x7_0000_0000, "handle": 0x1000}
        self.primary = Thing(self._handle())
        self.blocks, self.pinned, self.streams, self.events, self.graphs = {}, {}, {}, {}, {}
        self._graveyard = []  # freed host memory is kept, so that a stale read shows poison and does not crash

    # contexts

    @property
    def stack(self):
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        return self._local.stack

    @property
    def current(self):
        return self.stack[-1] if self.stack else None

    def violate(self, what):
        self.violations.append(what)
        raise Violation(what)

    def enter(self, call):
        """What every call of the driver but a few begins with."""
        if call in self.fail:
            raise DriverError(self.fail.pop(call))
        if not self.started:
            raise DriverError("CUDA_ERROR_NOT_INITIALIZED")

    def need(self, call):
        self.enter(call)
        if self.current is None:
            raise DriverError("CUDA_ERROR_INVALID_CONTEXT")
        return self.current

    def retain(self):
        self.enter("cuDevicePrimaryCtxRetain")
        self.retained += 1
        return self.primary

    def push(self, context):
        self.enter("cuCtxPushCurrent")
        if context is self.primary and not self.retained:
            self.violate("a primary context is pushed that was not retained")
        self.stack.append(context)

    def pop(self):
        self.need("cuCtxPopCurrent")
        return self.stack.pop()

    # memory

    def _handle(self):
        self._next["handle"] += 0x10
        return self._next["handle"]

    def used(self):
        return sum(block.size for block in self.blocks.values())

    def allocate(self, size, call="cuMemAlloc"):
        with self.lock:
            context = self.need(call)
            self._unsafe()
            if size <= 0:
                raise DriverError("CUDA_ERROR_INVALID_VALUE")
            if self.used() + size > self.total:
                raise DriverError("CUDA_ERROR_OUT_OF_MEMORY")
            self.allocated += 1
            base = self._next["address"]
            self._next["address"] += -(-size // 512) * 512 + 4096
            self.blocks[base] = Block(base, size, context)
            return base

    def free(self, base, call="cuMemFree"):
        with self.lock:
            self.need(call)
            self._unsafe()
            if base not in self.blocks:
                raise DriverError("CUDA_ERROR_INVALID_VALUE")
            self._drain_all()  # cuMemFree waits for the device
            self.blocks.pop(base).live = False

    def block_of(self, address):
        return next((b for b in self.blocks.values() if b.base <= address < b.base + b.size), None)

    def range_of(self, address):
        self.need("cuMemGetAddressRange")
        block = self.block_of(address)
        if block is None:
            raise DriverError("CUDA_ERROR_NOT_FOUND")
        return block.base, block.size

    def device(self, address, size, context):
        """The bytes there, for a kernel or a copy in ``context``."""
        block = self.block_of(address)
        if block is None or address + size > block.base + block.size:
            self.violate(f"{size} bytes at {address:#x} are not allocated on the device")
        if block.context is not context:
            self.violate(f"the memory at {address:#x} is another context's")
        return block.memory[address - block.base : address - block.base + size]

    def pin(self, size, call="cuMemAllocHost"):
        with self.lock:
            self.need(call)
            self._unsafe()
            if self.used() + size > self.total:
                raise DriverError("CUDA_ERROR_OUT_OF_MEMORY")
            self.allocated += 1
            memory = (ctypes.c_uint8 * size)()
            self.pinned[ctypes.addressof(memory)] = memory
            return ctypes.addressof(memory)

    def unpin(self, address, call="cuMemFreeHost"):
        with self.lock:
            self.need(call)
            self._unsafe()
            if address not in self.pinned:
                raise DriverError("CUDA_ERROR_INVALID_VALUE")
            memory = self.pinned.pop(address)
            ctypes.memset(memory, 0xDD, len(memory))
            self._graveyard.append(memory)

    def host(self, address, size):
        for base, memory in self.pinned.items():
            if base <= address and address + size <= base + len(memory):
                return np.frombuffer(memory, np.uint8, size, address - base)
        return self.violate("an asynchronous copy to or from host memory that is not pinned")

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

    def record(self, event_number, stream_number):
        with self.lock:
            stream = self.stream(stream_number, "cuEventRecord")
            event = self._known(self.events, event_number)
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

    def left(self):
        """What was taken and not given back, by kind; empty where nothing was."""
        kinds = {
            "device": self.blocks,
            "host": self.pinned,
            "streams": [n for n in self.streams if n > 0],
            "events": self.events,
            "graphs": self.graphs,
        }
        return {name: len(kind) for name, kind in kinds.items() if kind}

    # libcuda.so.1, as ctypes sees it

    def cuInit(self, flags):
        self.probed = self.started = True
        return 0

    def cuDriverGetVersion(self, version):
        ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = self.cuda
        return 0

    def cuDeviceGetCount(self, count):
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = 1
        return 0

    def cuDeviceGet(self, handle, index):
        return 0

    def cuDeviceGetName(self, text, size, handle):
        text.value = self.name.encode()
        return 0

    def cuDeviceGetAttribute(self, value, which, handle):
        known = {75: self.capability[0], 76: self.capability[1], 18: int(self.integrated)}
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = known[which]
        return 0

"""A fake GPU with its driver, which enforces CUDA's rules; the fakes of both CUDA packages and of TensorRT stand on it.

Work on a stream is done when somebody waits for it and not before, so whoever reads too early reads stale bytes. Time
is counted, not measured: a byte that is copied takes a nanosecond. Nothing here says how fast anything is.

What the real driver would answer with an error is a :class:`DriverError`. What it would not notice, and what would end
in a crash or in wrong answers, is a :class:`Violation`, which no code that is tested can mistake for an error.
"""

import ctypes
import threading

import numpy as np

from tests.engines.tensorrt.fakes.errors import ERRORS, GLOBAL, THREAD_LOCAL, DriverError, Violation
from tests.engines.tensorrt.fakes.streams import Streams, Thing

__all__ = ["ERRORS", "GLOBAL", "THREAD_LOCAL", "DriverError", "FakeGpu", "Thing", "Violation"]


class Block:
    """An allocation on the device."""

    def __init__(self, base, size, context):
        self.base, self.size, self.context, self.live = base, size, context, True
        self.memory = np.full(size, 0xCD, np.uint8)


class FakeGpu(Streams):
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

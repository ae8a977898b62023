"""A fake of ``pycuda.driver`` over a :class:`FakeGpu`, with pycuda's own stack of contexts (its src/cpp/cuda.hpp).

Streams and events have no method that frees them: the last reference does, and only where their context is the current
one or the thread is the one that made it. Elsewhere pycuda warns and leaks, which is a violation here.
"""

import threading

import numpy as np

from tests.engines.tensorrt.fakes.gpu import DriverError, Violation


class Error(Exception):
    pass


class MemoryError(Error):
    pass


class LogicError(Error):
    pass


class FakePycuda:
    """The module."""

    Error, MemoryError, LogicError = Error, MemoryError, LogicError

    def __init__(self, gpu):
        self._gpu = gpu
        self._local = threading.local()
        module = self

        class Context:
            def __init__(self, thing):
                self._thing, self._thread = thing, threading.get_ident()

            def push(self):
                module._do("cuCtxPushCurrent", module._push, self)

            @staticmethod
            def pop():
                if not module._stack:
                    raise LogicError("context::pop failed: invalid device context - cannot pop non-current context")
                module._do("cuCtxPopCurrent", gpu.pop)
                module._stack.pop()
                if module._stack:
                    module._do("cuCtxPushCurrent", gpu.push, module._stack[-1]._thing)

            @staticmethod
            def get_current():
                return module._stack[-1] if module._stack else None

            @staticmethod
            def synchronize():
                module._do("cuCtxSynchronize", gpu.synchronise_all)

            def __eq__(self, other):
                return self._thing is other._thing

            __hash__ = None

        class Device:
            def __init__(self, index):
                assert index == 0

            def retain_primary_context(self):
                return Context(module._do("cuDevicePrimaryCtxRetain", gpu.retain))

            def make_context(self):
                from tests.engines.tensorrt.fakes.gpu import Thing

                context = Context(Thing(gpu._handle()))
                context.push()
                return context

        class Dependent:
            def _acquire(self):
                if not module._stack:
                    raise LogicError("explicit_context_dependent failed: invalid device context - no currently active")
                self._ward = module._stack[-1]

            def _release(self, free, *arguments):
                away = not module._stack or module._stack[-1] is not self._ward
                if away and threading.get_ident() != self._ward._thread:
                    gpu.violations.append(
                        f"pycuda leaks a {type(self).__name__}: freed in a thread without its context"
                    )
                    return
                if away:
                    self._ward.push()
                module._do("cleaning up", free, *arguments)
                if away:
                    Context.pop()

        class DeviceAllocation(Dependent):
            def __init__(self, size):
                self._acquire()
                self._base = module._do("cuMemAlloc", gpu.allocate, size)

            def __int__(self):
                return self._base

            def free(self):
                if self._base is None:
                    raise LogicError("device_allocation::free failed: invalid resource handle")
                base, self._base = self._base, None
                self._release(gpu.free, base)

        class PagelockedHostAllocation(Dependent):
            def __init__(self, size):
                self._acquire()
                self._address = module._do("cuMemHostAlloc", gpu.pin, size, "cuMemHostAlloc")
                self.__array_interface__ = {
                    "data": (self._address, False),
                    "shape": (size,),
                    "typestr": "|u1",
                    "version": 3,
                }

            def free(self):
                if self._address is None:
                    raise LogicError("pagelocked_host_allocation::free failed: invalid resource handle")
                address, self._address = self._address, None
                self._release(gpu.unpin, address)

        class Stream(Dependent):
            def __init__(self, flags=0):
                self._acquire()
                self.handle = module._do("cuStreamCreate", gpu.make_stream, flags)

            def synchronize(self):
                module._do("cuStreamSynchronize", gpu.synchronise, self.handle)

            def __del__(self):
                if hasattr(self, "handle"):
                    self._release(gpu.destroy, gpu.streams, self.handle, "cuStreamDestroy")

        class Event(Dependent):
            def __init__(self, flags=0):
                self._acquire()
                self._handle = module._do("cuEventCreate", gpu.make_event, flags)

            def record(self, stream=None):
                module._do("cuEventRecord", gpu.record, self._handle, 0 if stream is None else stream.handle)
                return self

            def time_till(self, event):
                return module._do("cuEventElapsedTime", gpu.elapsed, self._handle, event._handle)

            def __del__(self):
                if hasattr(self, "_handle"):
                    self._release(gpu.destroy, gpu.events, self._handle, "cuEventDestroy")

        self.Context, self.Device, self.Stream, self.Event = Context, Device, Stream, Event
        self.DeviceAllocation, self.PagelockedHostAllocation = DeviceAllocation, PagelockedHostAllocation

    @property
    def _stack(self):
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        return self._local.stack

    def _push(self, context):
        if self._stack:
            self._gpu.pop()
        self._gpu.push(context._thing)
        self._stack.append(context)

    def _do(self, call, function, *arguments, **named):
        try:
            return function(*arguments, **named)
        except DriverError as error:
            kind = MemoryError if error.name.endswith("OUT_OF_MEMORY") else LogicError
            text = error.name.removeprefix("CUDA_ERROR_").lower().replace("_", " ")
            raise kind(f"{call} failed: {text}") from error

    def init(self, flags=0):
        self._gpu.started = True

    def mem_alloc(self, size):
        return self.DeviceAllocation(size)

    def pagelocked_empty(self, shape, dtype, order="C", mem_flags=0):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        owner = self.PagelockedHostAllocation(size)
        array = np.asarray(owner).view(dtype).reshape(shape)
        while not isinstance(getattr(array, "base", None), self.PagelockedHostAllocation):
            array = array.base
        return array

    def mem_get_info(self):
        self._do("cuMemGetInfo", self._gpu.need, "cuMemGetInfo")
        return self._gpu.total - self._gpu.used(), self._gpu.total

    def mem_get_address_range(self, pointer):
        return self._do("cuMemGetAddressRange", self._gpu.range_of, pointer)

    def memcpy_htod_async(self, dest, src, stream=None):
        self._copy(int(dest), src.ctypes.data, src, stream, up=True)

    def memcpy_dtoh_async(self, dest, src, stream=None):
        self._copy(dest.ctypes.data, int(src), dest, stream, up=False)

    def _copy(self, destination, source, array, stream, *, up):
        if not array.flags.c_contiguous:
            raise Violation("ndarray is not contiguous")
        handle = 0 if stream is None else stream.handle
        self._do("cuMemcpyAsync", self._gpu.copy, destination, source, array.nbytes, handle, up=up)

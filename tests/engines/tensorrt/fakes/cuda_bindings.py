"""A fake of ``cuda.bindings.driver`` over a :class:`FakeGpu`: every function answers ``(CUresult, values…)``."""

import enum

from tests.engines.tensorrt.fakes.gpu import ERRORS, GLOBAL, THREAD_LOCAL, DriverError

CUresult = enum.IntEnum("CUresult", ERRORS)


class Handle:
    """As the package's classes: a number only where it is asked for one."""

    def __init__(self, number=0):
        self._number = number

    def __int__(self):
        return self._number


class CUdeviceptr(Handle):
    pass


class CUstream(Handle):
    pass


class CUevent(Handle):
    pass


class CUgraph(Handle):
    pass


class CUgraphExec(Handle):
    pass


class CUcontext(Handle):
    pass


class CUdevice(Handle):
    pass


class CUstreamCaptureMode(enum.IntEnum):
    CU_STREAM_CAPTURE_MODE_GLOBAL = GLOBAL
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = THREAD_LOCAL
    CU_STREAM_CAPTURE_MODE_RELAXED = 2


class FakeDriver:
    """The module."""

    CUresult, CUstreamCaptureMode = CUresult, CUstreamCaptureMode
    CUdeviceptr, CUstream, CUevent, CUgraph, CUgraphExec = CUdeviceptr, CUstream, CUevent, CUgraph, CUgraphExec
    CUcontext, CUdevice = CUcontext, CUdevice

    def __init__(self, gpu, version=12090):
        self._gpu = gpu
        self.CUDA_VERSION = version
        self._contexts = {gpu.primary.number: gpu.primary}

    def _answer(self, function, *arguments, of=None, **named):
        try:
            value = function(*arguments, **named)
        except DriverError as error:
            return (CUresult(error.code),) if of is None else (CUresult(error.code), *(None for _ in of))
        if of is None:
            return (CUresult.CUDA_SUCCESS,)
        values = value if isinstance(value, tuple) else (value,)
        return (CUresult.CUDA_SUCCESS, *(kind(v) for kind, v in zip(of, values, strict=True)))

    def cuInit(self, Flags):
        self._gpu.started = True
        return (CUresult.CUDA_SUCCESS,)

    def cuDeviceGet(self, ordinal):
        return self._answer(lambda: ordinal, of=(CUdevice,))

    def cuDevicePrimaryCtxRetain(self, dev):
        return self._answer(lambda: self._gpu.retain().number, of=(CUcontext,))

    def cuCtxPushCurrent(self, ctx):
        return self._answer(lambda: self._gpu.push(self._contexts[int(ctx)]))

    def cuCtxPopCurrent(self):
        return self._answer(lambda: self._gpu.pop().number, of=(CUcontext,))

    def cuCtxGetCurrent(self):
        current = self._gpu.current
        return CUresult.CUDA_SUCCESS, CUcontext(0 if current is None else current.number)

    def cuCtxSynchronize(self):
        return self._answer(self._gpu.synchronise_all)

    def cuMemGetInfo(self):
        def asked():
            self._gpu.need("cuMemGetInfo")
            return self._gpu.total - self._gpu.used(), self._gpu.total

        return self._answer(asked, of=(int, int))

    def cuMemGetAddressRange(self, dptr):
        return self._answer(self._gpu.range_of, int(dptr), of=(CUdeviceptr, int))

    def cuMemAlloc(self, bytesize):
        return self._answer(self._gpu.allocate, bytesize, of=(CUdeviceptr,))

    def cuMemFree(self, dptr):
        return self._answer(self._gpu.free, int(dptr))

    def cuMemAllocHost(self, bytesize):
        return self._answer(self._gpu.pin, bytesize, of=(int,))

    def cuMemFreeHost(self, p):
        return self._answer(self._gpu.unpin, int(p))

    def cuStreamCreate(self, Flags):
        return self._answer(self._gpu.make_stream, Flags, of=(CUstream,))

    def cuStreamSynchronize(self, hStream):
        return self._answer(self._gpu.synchronise, int(hStream))

    def cuStreamDestroy(self, hStream):
        return self._answer(self._gpu.destroy, self._gpu.streams, int(hStream), "cuStreamDestroy")

    def cuEventCreate(self, Flags):
        return self._answer(self._gpu.make_event, Flags, of=(CUevent,))

    def cuEventRecord(self, hEvent, hStream):
        return self._answer(self._gpu.record, int(hEvent), int(hStream))

    def cuEventRecordWithFlags(self, hEvent, hStream, flags):
        return self._answer(self._gpu.record, int(hEvent), int(hStream), external=flags == 1)

    def cuEventElapsedTime(self, hStart, hEnd):
        return self._answer(self._gpu.elapsed, int(hStart), int(hEnd), of=(float,))

    def cuEventDestroy(self, hEvent):
        return self._answer(self._gpu.destroy, self._gpu.events, int(hEvent), "cuEventDestroy")

    def cuMemcpyHtoDAsync(self, dstDevice, srcHost, ByteCount, hStream):
        return self._answer(self._gpu.copy, int(dstDevice), int(srcHost), ByteCount, int(hStream), up=True)

    def cuMemcpyDtoHAsync(self, dstHost, srcDevice, ByteCount, hStream):
        return self._answer(self._gpu.copy, int(dstHost), int(srcDevice), ByteCount, int(hStream), up=False)

    def cuStreamBeginCapture(self, hStream, mode):
        assert isinstance(mode, CUstreamCaptureMode)
        return self._answer(self._gpu.begin_capture, int(hStream), int(mode))

    def cuStreamEndCapture(self, hStream):
        return self._answer(self._gpu.end_capture, int(hStream), of=(CUgraph,))

    def cuGraphInstantiate(self, hGraph, flags):
        return self._answer(self._gpu.instantiate, int(hGraph), of=(CUgraphExec,))

    def cuGraphLaunch(self, hGraphExec, hStream):
        return self._answer(self._gpu.launch, int(hGraphExec), int(hStream))

    def cuGraphDestroy(self, hGraph):
        return self._answer(self._gpu.destroy, self._gpu.graphs, int(hGraph), "cuGraphDestroy")

    def cuGraphExecDestroy(self, hGraphExec):
        return self._answer(self._gpu.destroy, self._gpu.graphs, int(hGraphExec), "cuGraphExecDestroy")

"""A fake of the packages ``tensorrt`` and ``tensorrt_rtx``, in any version, over a :class:`FakeGpu`.

It has the names that edgefer uses, each only in the versions that have it, and computes with ONNX Runtime. It enforces
the rules of NvInfer.h: objects that must outlive others, shapes and addresses before a call, alignment, one call at a
time in a context, what may be captured. Classes refuse attributes that they do not have, as the real ones do.
"""

import enum
import types

from edgefer.engines.tensorrt.compat import Target, parse_version
from tests.engines.tensorrt.fakes.trt_build import BuildTime
from tests.engines.tensorrt.fakes.trt_run import RunTime


class FakeTensorRt(BuildTime, RunTime):
    """Makes the package of one version; ``module`` is what is imported.

    Attributes:
        during_build: called by the builder, for tests that interrupt it or make it fail.
        say: what the builder logs as an error; it then gives up.
        capturable: whether an engine may be enqueued while its stream is captured.
        working: whether execute_async_v3 works.
        seen: what was set on the last builder config.
        cores: the DLA core of each engine that was loaded, in order.
    """

    def __init__(self, gpu, version="10.3.0", *, rtx=False):
        self.gpu, self.version, self.rtx = gpu, version, rtx
        self.has = Target(version, parse_version(version), rtx=rtx).has
        self.during_build = None
        self.say = None
        self.capturable = self.working = True
        self.parser_error = None
        self.seen = None
        self.fed, self.cores = [], []
        self.module = types.ModuleType("tensorrt_rtx" if rtx else "tensorrt")
        self.module.__version__ = version
        for name, value in {**self._enums(), **self._callbacks(), **self._build_time(), **self._run_time()}.items():
            setattr(self.module, name, value)

    def need(self, what):
        """What a builder needs: TensorRT-RTX builds without a GPU."""
        if not self.rtx:
            self.need_gpu(what)

    def need_gpu(self, what):
        """Without a driver the real one ends the process; in another context its memory is lost to everyone else."""
        if not self.gpu.probed:
            self.gpu.violate(f"{what} before the driver was asked: the process would end here")
        if self.gpu.current is not self.gpu.primary:
            self.gpu.violate(f"{what} while the primary context is not the current one")

    def log(self, logger, severity, message):
        logger.log(self.module.ILogger.Severity(severity), message)

    def _enums(self):
        def enum_of(name, *members):
            return enum.IntEnum(name, members, start=0)

        has, found = self.has, {}
        flags = ["TF32", "GPU_FALLBACK", "REFIT", "SPARSE_WEIGHTS"]
        flags += ["FP16", "INT8"] if has.precision_flags else []
        flags += ["VERSION_COMPATIBLE"] if has.version_compatible else []
        found["BuilderFlag"] = enum_of("BuilderFlag", *flags)
        network = ["EXPLICIT_BATCH"] if has.explicit_batch_flag or has.strong_typing_flag else []
        network += ["STRONGLY_TYPED"] if has.strong_typing else []
        found["NetworkDefinitionCreationFlag"] = enum_of("NetworkDefinitionCreationFlag", *network)
        found["TensorIOMode"] = enum_of("TensorIOMode", "NONE", "INPUT", "OUTPUT")
        found["DataType"] = enum_of("DataType", "FLOAT", "HALF", "INT8", "INT32", "BOOL", "UINT8", "FP8")
        found["MemoryPoolType"] = enum_of("MemoryPoolType", "WORKSPACE")
        found["ProfilingVerbosity"] = enum_of("ProfilingVerbosity", "LAYER_NAMES_ONLY", "NONE", "DETAILED")
        found["LayerInformationFormat"] = enum_of("LayerInformationFormat", "ONELINE", "JSON")
        found["DeviceType"] = enum_of("DeviceType", "GPU", "DLA")
        if has.hardware_compat or has.ahead_of_time:
            found["HardwareCompatibilityLevel"] = enum_of("HardwareCompatibilityLevel", "NONE", "AMPERE_PLUS")
        if has.ahead_of_time:
            found["ComputeCapability"] = enum_of("ComputeCapability", "NONE", "CURRENT", "SM86")
        if has.own_graphs:
            found["CudaGraphStrategy"] = enum_of("CudaGraphStrategy", "DISABLED", "WHOLE_GRAPH_CAPTURE")
        return found

    def _callbacks(self):
        """Base classes for Python: whoever does not call their ``__init__`` is not known to C++."""

        class Base:
            def __init__(self):
                self._made = True

        severity = enum.IntEnum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"], start=0)
        found = {"ILogger": type("ILogger", (Base,), {"Severity": severity})}
        if self.has.progress:
            found["IProgressMonitor"] = type("IProgressMonitor", (Base,), {})
        if self.has.implicit_calibration:
            found |= {n: type(n, (Base,), {}) for n in ("IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator")}
        return found

    def known(self, callback):
        if not getattr(callback, "_made", False):
            self.gpu.violate(f"{type(callback).__name__} was made without its base's __init__")

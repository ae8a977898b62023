"""A fake of the packages ``tensorrt`` and ``tensorrt_rtx``, in any version, over a :class:`FakeGpu`.

It has the names that edgefer uses, each only in the versions that have it, and computes with ONNX Runtime. It enforces
the rules of NvInfer.h: objects that must outlive others, shapes and addresses before a call, alignment, one call at a
time in a context, what may be captured. Classes refuse attributes that they do not have, as the real ones do.
"""

import enum
import hashlib
import json
import time
import types
import weakref

import numpy as np
import onnx
import onnxruntime as ort

from edgefer.engines.tensorrt.compat import Target, parse_version
from tests.engines.tensorrt.fakes.gpu import DriverError

MAGIC = b"fake plan "
ERROR, WARNING, VERBOSE = 1, 2, 4
SCRATCH = 1 << 20  # bytes of device memory that an execution context takes
COMPUTE_MS = 0.25
_NAMES = {1: "FLOAT", 2: "UINT8", 10: "HALF"}


class Strict:
    """Only what the class declares can be set, as on pybind11's classes."""

    def __setattr__(self, name, value):
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        object.__setattr__(self, name, value)


class FakeTensorRt:
    """Makes the package of one version; ``module`` is what is imported.

    Attributes:
        during_build: called by the builder, for tests that interrupt it or make it fail.
        say: what the builder logs as an error; it then gives up.
        capturable: whether an engine may be enqueued while its stream is captured.
        working: whether execute_async_v3 works.
        seen: what was set on the last builder config.
    """

    def __init__(self, gpu, version="10.3.0", *, rtx=False):
        self.gpu, self.version, self.rtx = gpu, version, rtx
        self.has = Target(version, parse_version(version), rtx=rtx).has
        self.during_build = None
        self.say = None
        self.capturable = self.working = True
        self.parser_error = None
        self.seen = None
        self.fed = []
        self.module = types.ModuleType("tensorrt_rtx" if rtx else "tensorrt")
        self.module.__version__ = version
        for name, value in {**self._enums(), **self._callbacks(), **self._build_time(), **self._run_time()}.items():
            setattr(self.module, name, value)

    def need(self, what):
        """Without a driver the real one ends the process; in another context its memory is lost to everyone else."""
        if not self.rtx and not self.gpu.probed:
            self.gpu.violate(f"{what} before the driver was asked: the process would end here")
        if not self.rtx and self.gpu.current is not self.gpu.primary:
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

    def _build_time(self):
        fake, has = self, self.has

        class ITensor(Strict):
            shape = None

            def __init__(self, name, shape):
                object.__setattr__(self, "_name", name)
                object.__setattr__(self, "shape", shape)

        class INetworkDefinition(Strict):
            _model = _parser = None

            def get_input(self, index):
                return self._inputs[index]

        class ParserError:
            def node(self):
                return 3

            def desc(self):
                return fake.parser_error

        if has.node_names:
            ParserError.node_operator = lambda self: "Strange"
            ParserError.node_name = lambda self: "blocks/3/Strange"

        class OnnxParser:
            def __init__(self, network, logger):
                fake.known(logger)
                self._network = network

            @property
            def num_errors(self):
                return 0 if fake.parser_error is None else 1

            def get_error(self, index):
                return ParserError()

            def parse(self, model):
                if fake.parser_error is not None:
                    return False
                loaded = onnx.load_from_string(model)
                self._network._model, self._network._parser = loaded, weakref.ref(self)
                self._network._inputs = [
                    ITensor(i.name, tuple(d.dim_value or -1 for d in i.type.tensor_type.shape.dim))
                    for i in loaded.graph.input
                ]
                return True

        class IOptimizationProfile:
            def set_shape(self, input, min, opt, max):
                if not all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True)):
                    raise ValueError("min <= opt <= max")
                self._shapes = {input: (min, opt, max)}

        class ITimingCache:
            def __init__(self, content):
                self._content = content

            def serialize(self):
                return memoryview(self._content or b"timings of " + fake.gpu.name.encode())

        class IBuilderConfig(Strict):
            profiling_verbosity = default_device_type = None
            DLA_core = -1
            _cache = None

            def __init__(self):
                self._flags, self._limits, self._profiles, self._calibration = {"TF32"}, {}, [], None
                fake.seen = self

            def set_flag(self, flag):
                self._flags.add(flag.name)

            def clear_flag(self, flag):
                self._flags.discard(flag.name)

            def set_memory_pool_limit(self, pool, pool_size):
                self._limits[pool.name] = pool_size

            def add_optimization_profile(self, profile):
                self._profiles.append(profile)
                return len(self._profiles) - 1

        if has.timing_cache or has.ahead_of_time:

            def set_timing_cache(self, cache, ignore_mismatch):
                if cache._content and not cache._content.endswith(fake.gpu.name.encode()):
                    return False
                self._cache = cache
                return True

            IBuilderConfig.create_timing_cache = lambda self, serialized_timing_cache: ITimingCache(
                bytes(serialized_timing_cache)
            )
            IBuilderConfig.set_timing_cache = set_timing_cache
            IBuilderConfig.get_timing_cache = lambda self: self._cache
        if has.opt_level:
            IBuilderConfig.builder_optimization_level = 3
        if has.hardware_compat or has.ahead_of_time:
            IBuilderConfig.hardware_compatibility_level = None
        if has.progress:
            IBuilderConfig.progress_monitor = None
        if has.implicit_calibration:
            IBuilderConfig.int8_calibrator = None
            IBuilderConfig.set_calibration_profile = lambda self, profile: setattr(self, "_calibration", profile)
        if has.ahead_of_time:
            IBuilderConfig.num_compute_capabilities = 0
            IBuilderConfig.set_compute_capability = lambda self, capability, index: (
                index < self.num_compute_capabilities
            )

        class IHostMemory:
            def __init__(self, content):
                self._content = content

            def __bytes__(self):
                return self._content

        class Builder:
            num_DLA_cores = 0

            def __init__(self, logger):
                fake.need("a builder")
                fake.known(logger)
                if fake.say == "no library":
                    raise TypeError("pybind11::init(): factory function returned nullptr")
                self._logger = logger

            def create_network(self, flags=0):
                if has.explicit_batch_flag and not flags & 1:
                    fake.gpu.violate("a network without EXPLICIT_BATCH in TensorRT 8")
                made = INetworkDefinition()
                made._typed = has.strong_typing and (not has.strong_typing_flag or bool(flags & 2))
                return made

            def create_builder_config(self):
                return IBuilderConfig()

            def create_optimization_profile(self):
                return IOptimizationProfile()

            def build_serialized_network(self, network, config):
                fake.need("building")
                plan = fake._build(self._logger, network, config)
                return None if plan is None else IHostMemory(plan)

        if has.precision_flags:
            Builder.platform_has_fast_int8 = True
        return {
            cls.__name__: cls
            for cls in (
                *(ITensor, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile),
                *(ITimingCache, IBuilderConfig, IHostMemory, Builder),
            )
        }

    def _build(self, logger, network, config):
        if network._parser is None or network._parser() is None:
            self.gpu.violate("the parser is gone, and the network refers to what it owns")
        if self.say is not None:
            self.log(logger, ERROR, self.say)
            return None
        if network._typed and config._flags & {"FP16", "INT8"}:
            self.log(logger, ERROR, "A strongly typed network takes no precision flags.")
            return None
        monitor = getattr(config, "progress_monitor", None)
        if monitor is not None:
            self.known(monitor)
            monitor.phase_start("building", None, 2)
        if self.during_build is not None:
            self.during_build()
        if monitor is not None:
            if not monitor.step_complete("building", 0):
                return None
            monitor.phase_finish("building")
        if getattr(config, "int8_calibrator", None) is not None:
            self._calibrate(config.int8_calibrator, network)
        if self.rtx:
            self.log(logger, VERBOSE, "Layers:\n")
        tensor = network._inputs[0]
        dynamic = tensor.shape[0] == -1
        if dynamic and not config._profiles:
            self.log(
                logger, ERROR, "Network has dynamic or shape inputs, but no optimization profile has been defined."
            )
            return None
        shapes = config._profiles[0]._shapes[tensor._name] if dynamic else (tensor.shape,) * 3
        header = {
            "version": self.version,
            "device": [self.gpu.name, *self.gpu.capability],
            "batch": -1 if dynamic else tensor.shape[0],
            "profile": [shape[0] for shape in shapes],
        }
        body = json.dumps(header).encode() + b"\n" + network._model.SerializeToString()
        return MAGIC + hashlib.sha256(body).hexdigest().encode() + body

    def _calibrate(self, calibrator, network):
        self.known(calibrator)
        size = calibrator.get_batch_size()
        if calibrator.read_calibration_cache() is not None:
            return
        nbytes = size * int(np.prod(network._inputs[0].shape[1:]))
        while (pointers := calibrator.get_batch([network._inputs[0]._name])) is not None:
            self.fed.append(self.gpu.device(int(pointers[0]), nbytes, self.gpu.primary).copy())
        calibrator.write_calibration_cache(memoryview(b"TRT-fake-EntropyCalibration2\nfaces: 3c010a14\n"))

    def _run_time(self):
        fake, has, trt = self, self.has, self.module

        class IExecutionContext(Strict):
            def __init__(self, engine, settings=None):
                self._engine, self._settings = engine, settings
                self._scratch = fake.gpu.allocate(SCRATCH, "scratch")
                self._shapes, self._addresses = {}, {}
                self._set = 0  # how often its shapes changed
                self._ran = -1
                self._busy, self._pending = False, {}

            def __del__(self):
                if hasattr(self, "_scratch"):
                    fake.gpu.blocks.pop(self._scratch, None)
                    if any(self._pending.values()):
                        fake.gpu.violations.append("an execution context was freed while the GPU runs it")

            def set_input_shape(self, name, shape):
                engine = self._engine
                wanted = engine._shape(name)
                if wanted is None or len(shape) != len(wanted):
                    return False
                if any(w not in (-1, s) for w, s in zip(wanted, shape, strict=True)):
                    return False
                if not engine._header["profile"][0] <= shape[0] <= engine._header["profile"][2]:
                    fake.log(engine._logger, ERROR, f"IExecutionContext::setInputShape: {shape} is out of range")
                    return False
                if self._shapes.get(name) != tuple(shape):
                    self._shapes[name] = tuple(shape)
                    self._set += 1
                return True

            def get_tensor_shape(self, name):
                batch = next(iter(self._shapes.values()))[0]
                return tuple(batch if size == -1 else size for size in self._engine._shape(name))

            def set_tensor_address(self, name, memory):
                if not isinstance(memory, int):
                    raise TypeError("set_tensor_address(): incompatible function arguments")
                if self._engine._shape(name) is None:
                    return False
                self._addresses[name] = memory
                return True

            def execute_async_v3(self, stream_handle):
                fake.need("execute_async_v3")
                return fake._execute(self, stream_handle)

        class IRuntimeConfig(Strict):
            cuda_graph_strategy = None

        class EngineInspector:
            def __init__(self, engine):
                self._engine = engine

            def get_engine_information(self, format):
                assert format == trt.LayerInformationFormat.JSON
                rows = [
                    {"Name": n.name or n.output[0], "LayerType": n.op_type, "Inputs": [], "Outputs": []}
                    for n in self._engine._model.graph.node
                ]
                return json.dumps({"Layers": rows})

        class ICudaEngine(Strict):
            def __init__(self, runtime, header, model):
                self._runtime, self._logger = weakref.ref(runtime), runtime._logger
                self._header, self._model = header, onnx.load_from_string(model)
                options = ort.SessionOptions()
                options.intra_op_num_threads, options.log_severity_level = 1, 3
                self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
                self._tensors = [*self._model.graph.input, *self._model.graph.output]

            def _shape(self, name):
                found = next((t for t in self._tensors if t.name == name), None)
                if found is None:
                    return None
                rest = [d.dim_value for d in found.type.tensor_type.shape.dim[1:]]
                return (self._header["batch"], *rest)

            @property
            def num_io_tensors(self):
                return len(self._tensors)

            def get_tensor_name(self, index):
                return self._tensors[index].name

            def get_tensor_mode(self, name):
                inputs = [t.name for t in self._model.graph.input]
                return trt.TensorIOMode.INPUT if name in inputs else trt.TensorIOMode.OUTPUT

            def get_tensor_shape(self, name):
                return self._shape(name)

            def get_tensor_dtype(self, name):
                kind = next(t for t in self._tensors if t.name == name).type.tensor_type.elem_type
                return trt.DataType[_NAMES.get(kind, "FP8")]

            def get_tensor_profile_shape(self, name, profile_index):
                assert profile_index == 0
                return [(size, *self._shape(name)[1:]) for size in self._header["profile"]]

            def create_execution_context(self, *settings):
                fake.need("an execution context")
                if self._runtime() is None:
                    fake.gpu.violate("the runtime is gone, and its engine is used")
                others = sum(alive() is not None for alive in self.__dict__.setdefault("_contexts", []))
                if others and not has.profile_sharing and self._header["batch"] == -1:
                    fake.log(self._logger, ERROR, "Profile 0 has been chosen by another IExecutionContext.")
                    return None
                try:
                    made = IExecutionContext(self, *settings)
                except DriverError as error:
                    fake.log(self._logger, ERROR, f"Error Code 2: OutOfMemory ({error.name})")
                    return None
                self._contexts.append(weakref.ref(made))
                return made

            def create_engine_inspector(self):
                return EngineInspector(self)

        if has.own_graphs:
            ICudaEngine.create_runtime_config = lambda self: IRuntimeConfig()

        class Runtime:
            def __init__(self, logger):
                fake.need("a runtime")
                fake.known(logger)
                self._logger = logger

            def deserialize_cuda_engine(self, serialized_engine):
                fake.need("deserialising")
                return fake._deserialise(self, bytes(serialized_engine), ICudaEngine)

        names = [IExecutionContext, EngineInspector, ICudaEngine, Runtime]
        return {cls.__name__: cls for cls in (*names, *([IRuntimeConfig] if has.own_graphs else []))}

    def _deserialise(self, runtime, plan, engine_class):
        body = plan[len(MAGIC) + 64 :]
        whole = plan.startswith(MAGIC) and hashlib.sha256(body).hexdigest().encode() == plan[len(MAGIC) :][:64]
        if not whole:
            self.log(runtime._logger, ERROR, "Serialization assertion stdArchiveReader failed. Plan is truncated")
            return None
        head, _, model = body.partition(b"\n")
        header = json.loads(head)
        here = [self.gpu.name, *self.gpu.capability]
        if header["version"] != self.version:
            text = f"expecting library version {header['version']} got {self.version}"
            self.log(runtime._logger, ERROR, f"Serialization (Version tag does not match: {text})")
            return None
        if header["device"] != here and not self.rtx:
            self.log(runtime._logger, ERROR, f"The engine was built for {header['device']}, and this is {here}")
            return None
        return engine_class(runtime, header, model)

    def _execute(self, context, stream_number):
        gpu, engine = self.gpu, context._engine
        if context._busy:
            gpu.violate("two threads enqueue one execution context at a time")
        context._busy = True
        try:
            time.sleep(0.0005)  # lets another thread in, as the real one does by giving up the GIL
            return self._enqueued(gpu, engine, context, stream_number)
        finally:
            context._busy = False

    def _enqueued(self, gpu, engine, context, stream_number):
        stream = gpu.stream(stream_number, "enqueue")
        inputs, outputs = ([v.name for v in kind] for kind in (engine._model.graph.input, engine._model.graph.output))
        missing = [name for name in inputs if name not in context._shapes]
        missing += [name for name in (*inputs, *outputs) if not context._addresses.get(name)]
        if missing or not self.working:
            self.log(engine._logger, ERROR, f"enqueueV3: not set: {missing}" if missing else "enqueueV3 failed")
            return False
        for name, address in context._addresses.items():
            if address % 256:
                gpu.violate(f"{name} lies at {address:#x}, no multiple of 256")
            gpu.device(address, self._bytes(engine, context, name), gpu.primary)
        if stream.graph is not None and (context._ran != context._set or not self.capturable):
            stream.invalid = True  # what the first call after a change of shape sets up cannot be captured
            self.log(engine._logger, ERROR, "operation not permitted when stream is capturing")
            return False
        others = [n for n, count in context._pending.items() if count and n != stream_number]
        if others:
            gpu.violate("an execution context is enqueued on two streams at a time: they share its scratch memory")
        context._ran, captured = context._set, stream.graph is not None
        addresses, at, scratch = dict(context._addresses), context._set, context._scratch
        shapes = {name: context.get_tensor_shape(name) for name in addresses}
        alive = weakref.ref(context)
        if not captured:
            context._pending[stream_number] = context._pending.get(stream_number, 0) + 1

        def compute():
            there = alive()
            if there is None or scratch not in gpu.blocks:
                return gpu.violate("the GPU runs an execution context that is gone")
            if captured and there._set != at:
                return gpu.violate("a graph is replayed whose context was set to another shape")
            if not captured:
                there._pending[stream_number] -= 1
            feeds = {n: self._array(engine, n, addresses[n], shapes[n]) for n in inputs}
            for name, value in zip(outputs, engine._session.run(outputs, feeds), strict=True):
                self._array(engine, name, addresses[name], shapes[name])[...] = value
            return None

        gpu.put(stream, compute, COMPUTE_MS)
        return True

    def _bytes(self, engine, context, name):
        return int(np.prod(context.get_tensor_shape(name))) * self._dtype(engine, name).itemsize

    def _dtype(self, engine, name):
        kind = next(t for t in engine._tensors if t.name == name).type.tensor_type.elem_type
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))

    def _array(self, engine, name, address, shape):
        dtype = self._dtype(engine, name)
        raw = self.gpu.device(address, int(np.prod(shape)) * dtype.itemsize, self.gpu.primary)
        return raw.view(dtype).reshape(shape)

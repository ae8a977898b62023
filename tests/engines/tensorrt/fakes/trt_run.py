"""The half of the fake of TensorRT that runs: runtime, engine, execution context."""

import hashlib
import json
import time
import weakref

import numpy as np
import onnx

from tests.engines.tensorrt.fakes.gpu import DriverError
from tests.engines.tensorrt.fakes.strict import COMPUTE_MS, ERROR, MAGIC, SCRATCH, Strict

_NAMES = {1: "FLOAT", 2: "UINT8", 10: "HALF"}


class RunTime:
    """For :class:`~tests.engines.tensorrt.fakes.trt.FakeTensorRt`."""

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
                fake.need_gpu("execute_async_v3")
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
                import onnxruntime as ort  # a device that runs the GPU's tests need not have it

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
                fake.need_gpu("an execution context")
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

        class Runtime(Strict):
            num_DLA_cores = DLA_core = 0

            def __init__(self, logger):
                fake.need_gpu("a runtime")
                fake.known(logger)
                self._logger = logger

            def deserialize_cuda_engine(self, serialized_engine):
                fake.need_gpu("deserialising")
                return fake._deserialise(self, bytes(serialized_engine), ICudaEngine)

        if has.version_compatible:
            Runtime.engine_host_code_allowed = False
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
        if header["code"] and not getattr(runtime, "engine_host_code_allowed", False):
            self.log(runtime._logger, ERROR, "The engine holds host code, which is not allowed.")
            return None
        self.cores.append(runtime.DLA_core)
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

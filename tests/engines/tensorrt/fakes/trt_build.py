"""The half of the fake of TensorRT that builds: networks, parser, configuration, builder."""

import hashlib
import json
import weakref

import numpy as np
import onnx

from tests.engines.tensorrt.fakes.strict import ERROR, MAGIC, VERBOSE, Strict


class BuildTime:
    """For :class:`~tests.engines.tensorrt.fakes.trt.FakeTensorRt`."""

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
            _cache = _network = None

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

            def create_timing_cache(self, serialized_timing_cache):
                content = bytes(serialized_timing_cache)
                return ITimingCache(content) if content.startswith(b"timings of ") or not content else None

            IBuilderConfig.create_timing_cache = create_timing_cache
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
        config._network = network
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
            "code": "VERSION_COMPATIBLE" in config._flags,
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

"""Every name of TensorRT that edgefer uses, against the real Python API of five versions."""

import ast
import re
from pathlib import Path

import pytest

from edgefer.engines.tensorrt.compat import Target, parse_version

from .bindings import VERSIONS, api_of, run_over, stub_libraries
from .uses import Collector, Use, collect

USES = collect()


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    return stub_libraries(tmp_path_factory.mktemp("stubs"))


@pytest.fixture(scope="session", params=VERSIONS)
def version_and_api(request, libraries):
    return request.param, api_of(request.param, libraries)


def applies(use: Use, version: str) -> bool:
    """Whether edgefer runs this line with ``version``."""
    return not use.condition or getattr(Target(version, parse_version(version)).has, use.condition)


def missing(use: Use, api) -> str | None:
    """What of the use is not in the API, or None."""
    if use.owner == "":
        known = set(api) | {"__version__"}
        return None if use.member in known else f"tensorrt.{use.member}"
    if use.owner not in api or use.member not in api[use.owner]:
        return f"{use.owner}.{use.member}"
    documentation = api[use.owner][use.member]
    unknown = [k for k in use.keywords if not re.search(rf"\b{k}: ", documentation)]
    return f"{use.owner}.{use.member}({', '.join(unknown)}=…)" if unknown else None


def test_the_code_uses_what_each_version_has(version_and_api):
    version, api = version_and_api
    wrong = [str(use) for use in USES if applies(use, version) and missing(use, api)]
    assert wrong == []


def test_a_new_use_without_a_rule_is_found(libraries):
    source = (
        "def f(config, has):\n    config.int8_calibrator = None\n    if has.progress:\n        config.no_such_thing()"
    )
    collector = Collector(Path("new.py"))
    collector.visit(ast.parse(source))
    bare, guarded = collector.uses
    assert missing(bare, api_of("10.3.0", libraries)) is None
    assert missing(bare, api_of("11.4.0.106", libraries)) == "IBuilderConfig.int8_calibrator"
    assert not applies(guarded, "8.6.1")
    assert missing(guarded, api_of("10.3.0", libraries)) == "IBuilderConfig.no_such_thing"


@pytest.mark.parametrize(
    "source",
    [
        "def f(engine):\n    made = engine.create_execution_context()\n    made.anything()",
        "def f(trt):\n    lean = trt.Runtime()\n    lean.anything()",
        "def f(trt):\n    trt.Runtime().anything()",
        "def f(self, engine):\n    self._made = engine.create_execution_context()\n    self._made.anything()",
        "def f(engine):\n    for one in engine.all():\n        one.anything()",
    ],
)
def test_an_object_under_a_name_without_a_type_is_found(source):
    collector = Collector(Path("new.py"))
    collector.visit(ast.parse(source))
    assert [use.owner[:4] for use in collector.uses if use.member == "anything"] == ["what"]
    assert missing(collector.uses[-1], {}) is not None


def test_a_call_that_lacks_its_condition_is_found():
    with pytest.raises(AssertionError, match="make_monitor is called without its condition"):
        Collector(Path("new.py")).visit(ast.parse("config.progress_monitor = make_monitor(trt)"))


def test_the_collector_sees_the_code():
    names = {(use.owner, use.member) for use in USES}
    assert {
        ("Builder", "build_serialized_network"),
        ("IBuilderConfig", "progress_monitor"),
        ("IExecutionContext", "execute_async_v3"),
        ("BuilderFlag", "INT8"),
        ("", "IInt8EntropyCalibrator2"),
        ("ParserError", "node_operator"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
    } <= names
    conditions = {(use.owner, use.member): use.condition for use in USES}
    assert conditions["BuilderFlag", "INT8"] == "precision_flags"
    assert conditions["", "IInt8MinMaxCalibrator"] == "implicit_calibration"
    assert conditions["ParserError", "node_operator"] == "node_names"


@pytest.mark.parametrize(
    ("capability", "owner", "member"),
    [
        ("explicit_batch_flag", "NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"),
        ("strong_typing_flag", "NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("precision_flags", "BuilderFlag", "FP16"),
        ("implicit_calibration", "IBuilderConfig", "int8_calibrator"),
        ("progress", "IProgressMonitor", "step_complete"),
        ("node_names", "ParserError", "node_name"),
        ("opt_level", "IBuilderConfig", "builder_optimization_level"),
        ("hardware_compat", "IBuilderConfig", "hardware_compatibility_level"),
        ("version_compatible", "BuilderFlag", "VERSION_COMPATIBLE"),
        ("timing_cache", "IBuilderConfig", "create_timing_cache"),
        ("refit", "BuilderFlag", "REFIT"),
        ("sparsity", "BuilderFlag", "SPARSE_WEIGHTS"),
    ],
)
def test_capabilities_say_what_the_api_has(version_and_api, capability, owner, member):
    """A capability is never claimed where the name is missing; that a name is there is not yet support."""
    version, api = version_and_api
    if getattr(Target(version, parse_version(version)).has, capability):
        assert member in api[owner]


OBJECTS = """
from edgefer.contract import Contract, Normalisation
from edgefer.engines.tensorrt import build, compat, cuda
from edgefer.engines.tensorrt.options import BuilderOptions
from edgefer.errors import EdgeferError

trt, target = compat.import_tensorrt(False)
print(target.title)
logger = compat.logger_of(False)
logger.log(trt.ILogger.Severity.INTERNAL_ERROR, "first")
logger.log(trt.ILogger.Severity.ERROR, "second")
logger.log(trt.ILogger.Severity.WARNING, "third")
print(compat.log_of(False).reason())
if target.has.progress:
    import threading
    from edgefer.engines.tensorrt.build import make_monitor
    said, stop = [], threading.Event()
    monitor = make_monitor(trt, lambda steps, note: said.append(note), stop.is_set)
    monitor.phase_start("tactics", None, 4)
    assert monitor.step_complete("tactics", 0) is True
    stop.set()
    assert monitor.step_complete("tactics", 1) is False
    monitor.phase_finish("tactics")
    print(said)
if target.has.implicit_calibration:
    from edgefer.engines.tensorrt.build import make_calibrator
    for kind in ("entropy", "minmax"):
        calibrator = make_calibrator(trt, kind, (), 8, b"table")
        assert (calibrator.get_batch_size(), calibrator.read_calibration_cache()) == (8, b"table")
        assert calibrator.get_batch(["faces"]) is None
        calibrator.write_calibration_cache(memoryview(b"new"))
        assert calibrator.table == b"new"
        broken = make_calibrator(trt, kind, (1 // 0 for _ in range(2)), 8)
        assert broken.get_batch(["faces"]) is None
        assert isinstance(broken.failure, ZeroDivisionError)
        print(kind)
import contextlib, types
build.open_cuda = lambda: types.SimpleNamespace(current=contextlib.nullcontext)
build.find_gpu = lambda: cuda.Device("Orin", "SM87", True)
contract = Contract(("a", "b"), 4, 4, 1, Normalisation(), "tiny")
try:
    build.build_plan(b"", contract, "fp32", BuilderOptions(workspace=1 << 29))
except EdgeferError as error:
    print(error.message)
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_our_classes_are_made_from_the_real_ones(version, libraries):
    """Logger, monitor and calibrators are subclasses; a library that makes no builder is an error, not a crash."""
    done = run_over(version, libraries, OBJECTS)
    assert done.returncode == 0, done.stderr
    has = Target(version, parse_version(version)).has
    title, reason, *rest = done.stdout.splitlines()
    number = ".".join(map(str, parse_version(version)))
    assert title == f"TensorRT {number}"
    assert reason == "first · second"
    wanted = ["['tactics 1/4', 'tactics 2/4']"] if has.progress else []
    wanted += ["entropy", "minmax"] if has.implicit_calibration else []
    assert rest[:-1] == wanted
    assert rest[-1].startswith(f"TensorRT {number} could not start: ")

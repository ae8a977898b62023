"""Every name of TensorRT that edgefer uses, against the real Python API of five versions."""

import ast
import re
from pathlib import Path

import pytest

from edgefer.engines.tensorrt.compat import Target, parse_version

from .bindings import VERSIONS, api_of, stub_libraries
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

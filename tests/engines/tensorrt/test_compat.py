"""What is refused for which version, and what is said about it."""

import ast
from dataclasses import fields

import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.engines.tensorrt.compat import JETPACKS, RTX, SPANS, Capabilities, loads, need, parse_version, target_of
from edgefer.engines.tensorrt.options import (
    Batches,
    BuilderOptions,
    check_options,
    parse_batches,
    parse_size,
    read_options,
)
from edgefer.errors import EdgeferError

from .uses import FOLDER, collect

CONTRACT = Contract(("a", "b"), 48, 48, 1, Normalisation(), "lenet")
FIXED = Batches(1, 1, 1)


def test_every_capability_has_a_span_with_a_source():
    assert {field.name for field in fields(Capabilities)} == set(SPANS)
    assert all(span.source and span.what for span in SPANS.values())


@pytest.mark.parametrize(
    ("name", "version", "opset", "strong", "flags"),
    [
        ("jetpack5", (8, 5, 2), 17, False, True),
        ("jetpack6.0", (8, 6, 2), 17, False, True),
        ("jetpack6", (10, 3, 0), 20, True, True),
        ("jetpack7", (10, 13, 3), 20, True, True),
        ("JetPack7.2", (10, 16, 2), 20, True, True),
        ("8.6", (8, 6, 0), 17, False, True),
        ("11", (11, 0, 0), 25, True, False),
        ("11.4.0.106", (11, 4, 0), 25, True, False),
    ],
)
def test_names_of_versions(name, version, opset, strong, flags):
    target = target_of(name)
    assert (target.version, target.opset) == (version, opset)
    assert (target.has.strong_typing, target.has.precision_flags) == (strong, flags)
    assert target.jetpack == name.lower().startswith("jetpack")


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("jetpak6", "'jetpak6' is neither a JetPack nor a version", "did you mean jetpack6"),
        ("ten", "neither a JetPack nor a version", "8.6, 10.3"),
        ("8.4", "TensorRT 8.4.0 is older than anything", "--for jetpack5"),
        ("7.1.3", "older than anything", "8.5"),
        ("12", "edgefer does not know TensorRT 12: it builds for 8, 10, 11", "10.3"),
        ("103", "does not know TensorRT 103", "10.3"),
        ("9.3", "does not know TensorRT 9.3", "10.3"),
        ("10.3.0.26.1", "neither a JetPack nor a version", "10.3"),
        ("10.", "neither", "10.3"),
        ("", "neither", "10.3"),
        ("9" * 5000, "neither", "10.3"),
    ],
)
def test_names_that_are_no_version(name, said, hint):
    with pytest.raises(EdgeferError) as error:
        target_of(name)
    assert said in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("name", "dla"),
    [
        *(("jetpack5", True), ("jetpack6", True), ("10.7", True), ("10.8", False), ("jetpack7", False)),
        *(("jetpack7.2", False), ("11.3", False), ("11.4", False), ("11.4.1", True)),
    ],
)
def test_dla_went_and_came_back(name, dla):
    assert target_of(name).has_dla is dla


def test_versions_as_packages_write_them():
    assert parse_version("10.16.1.11") == (10, 16, 1)
    assert parse_version("8.6.1.post1") == (8, 6, 1)
    assert parse_version("10.3") == (10, 3, 0)


@pytest.mark.parametrize(
    ("target", "options", "precision", "said", "hint"),
    [
        ("jetpack5", {"hardware_compat": True}, "fp16", "--hardware-compat: TensorRT 8.5.2 (jetpack5) has no", "8.6"),
        ("jetpack5", {"opt_level": 4}, "fp16", "--opt-level: TensorRT 8.5.2", "TensorRT 8.6 and later"),
        ("jetpack5", {"version_compatible": True}, "fp16", "--version-compatible: TensorRT 8.5.2", "--for jetpack"),
        ("11", {"calibrator": "entropy"}, "int8", "--calibrator: TensorRT 11.0.0 has no calibrators", "before 11.0"),
        ("jetpack6", {"hardware_compat": True}, "fp16", "builds for the Jetson it runs on only", "each kind of Jetson"),
        ("jetpack6", {"gpu_fallback": True}, "fp16", "--gpu-fallback is for layers that DLA cannot run", "--dla 0"),
        ("jetpack7", {"dla": 0}, "fp16", "does not run networks on DLA", "up to 10.7"),
        ("11.4", {"dla": 0}, "fp16", "does not run networks on DLA", "11.4.1 on AGX Orin"),
        ("jetpack6", {"dla": 0}, "fp32", "DLA computes in FP16 and INT8, not in FP32", "--fp16"),
        ("jetpack6", {"dla": 0}, "int8", "not in FP32", "--int8 --fp16"),
        ("jetpack6", {"dla": 0}, "fp16", "begins with a Cast from uint8", "--gpu-fallback"),
        (
            "jetpack6",
            {"dla": 0, "gpu_fallback": True},
            "fp16",
            "takes one batch size, and the profile has 1…32",
            "--sh",
        ),
        (
            "jetpack6",
            {"dla": 0, "gpu_fallback": True, "batches": FIXED},
            "int8+fp16",
            "needs ranges from an entropy calibrator",
            "--calibrator entropy",
        ),
        ("jetpack6", {}, "bf16", "are not built in BF16", "--fp16"),
        ("jetpack6", {}, "int8+bf16", "are not built in INT8+BF16", "--int8 --fp16"),
        ("rtx", {"timing_cache": "x"}, "fp16", "--timing-cache: TensorRT-RTX 1.7.1 has no timing cache", "leave"),
        (
            "8.6",
            {"refit": True, "version_compatible": True},
            "fp16",
            "--refit with --version-compatible: TensorRT 8.6.0 has no",
            "10.0 and later",
        ),
        ("rtx", {"dla": 0}, "fp16", "TensorRT-RTX 1.7.1 does not run networks on DLA", "jetpack6"),
        ("rtx", {"calibrator": "entropy"}, "int8", "--calibrator: TensorRT-RTX", "leave --calibrator out"),
        ("rtx", {"opt_level": 5}, "fp16", "--opt-level: TensorRT-RTX 1.7.1 has no builder optimisation level", "8.6"),
        (
            "rtx",
            {"refit": True},
            "fp16",
            "--refit: TensorRT-RTX 1.7.1 has no refitting",
            "build for TensorRT (--target",
        ),
    ],
)
def test_options_that_a_version_lacks(target, options, precision, said, hint):
    with pytest.raises(EdgeferError) as error:
        check_options(BuilderOptions(**options), RTX if target == "rtx" else target_of(target), precision)
    assert said in error.value.message
    assert hint in error.value.hint


def test_what_a_version_has_is_let_through():
    on_orin = BuilderOptions(Batches(1, 1, 1), dla=0, gpu_fallback=True, calibrator="entropy", opt_level=5, refit=True)
    check_options(on_orin, target_of("jetpack6"), "int8+fp16")
    check_options(BuilderOptions(hardware_compat=True, version_compatible=True, refit=True), target_of("10.3"), "fp16")
    check_options(BuilderOptions(Batches(1, 1, 1), dla=1, gpu_fallback=True), target_of("11.4.1"), "int8+fp16")


@pytest.mark.parametrize(
    ("target", "options", "weak"),
    [
        ("jetpack5", {}, True),
        ("8.6", {}, True),
        ("jetpack6", {}, False),
        ("jetpack6", {"dla": 0}, True),
        ("jetpack6", {"calibrator": "entropy"}, True),
        ("11.4.1", {"dla": 0}, False),
    ],
)
def test_who_decides_about_fp16(target, options, weak):
    assert BuilderOptions(**options).weakly_typed(target_of(target)) is weak


@pytest.mark.parametrize(
    ("built", "here", "loaded"),
    [
        *(("10.3.0", "10.3.0", True), ("10.3.0", "10.13.3", True), ("10.13.3", "10.3.0", False)),
        *(("8.6.2", "10.3.0", True), ("10.3.0", "11.4.1", True), ("8.6.2", "11.4.1", False)),
        *(("8.5.2", "8.6.2", False), ("11.4.1", "10.3.0", False)),
    ],
)
def test_which_versions_load_a_version_compatible_engine(built, here, loaded):
    assert loads(built, here) is loaded


def test_a_refusal_names_the_source():
    with pytest.raises(EdgeferError, match=r"NvInfer\.h, v8\.6\.1"):
        need(target_of("jetpack5"), "opt_level", "--opt-level")


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("2G", 2 << 30), ("65536k", 64 << 20), ("1.5GiB", 3 << 29), ("16777216", 1 << 24)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "said"),
    [("lots", "no amount of memory"), ("-1G", "no amount"), ("1M", "1,048,576 bytes, too little"), ("", "no")],
)
def test_sizes_that_are_none(text, said):
    with pytest.raises(EdgeferError) as error:
        parse_size(text)
    assert said in error.value.message
    assert "512M" in error.value.hint


def test_batches():
    assert parse_batches(CONTRACT) == Batches(1, 1, 32)
    assert parse_batches(CONTRACT, max_batch=8) == Batches(1, 1, 8)
    assert parse_batches(CONTRACT, min_batch=4) == Batches(4, 4, 32)
    assert parse_batches(CONTRACT, opt_batch=64) == Batches(1, 64, 64)
    assert parse_batches(CONTRACT, shapes="faces:8x48x48x1") == Batches(8, 8, 8)
    assert parse_batches(CONTRACT, shapes="faces:8x48x48x1").fixed


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        (
            {"min_batch": 4, "max_batch": 2},
            "out of order: min 4, opt 2, max 2",
            "--min-batch ≤ --opt-batch ≤ --max-batch",
        ),
        ({"opt_batch": 16, "max_batch": 8}, "out of order: min 1, opt 16, max 8", "1, 1 and 8"),
        ({"shapes": "faces:8x48x48x1", "max_batch": 8}, "--shapes fixes the batch size", "one or the other"),
        (
            {"shapes": "faces:8x64x64x1"},
            "8x64x64x1 does not fit the network, whose faces are 48x48x1",
            "faces:8x48x48x1",
        ),
        ({"shapes": "input:8x48x48x1"}, "names the input 'input'", "faces:1x48x48x1"),
        ({"shapes": "8"}, "'8' cannot be read", "faces:1x48x48x1"),
        ({"shapes": "faces:0x48x48x1"}, "does not fit", "faces:1x48x48x1"),
        ({"min_batch": 0}, "out of order: min 0, opt 1, max 32", "1, 1 and 32"),
        (
            {"max_batch": 10**7},
            "a batch of 10000000 faces is more than a tensor of TensorRT holds",
            "932067 is the maximum",
        ),
        ({"shapes": "faces:9999999x48x48x1"}, "a batch of 9999999 faces is more", "--max-batch 32"),
    ],
)
def test_shapes_out_of_the_profile(given, said, hint):
    with pytest.raises(EdgeferError) as error:
        parse_batches(CONTRACT, **given)
    assert said in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"work_space": 1}, "no option 'work_space'", "workspace"),
        ({"opt_level": 6}, "--opt-level 6 is outside 0 … 5", "3"),
        ({"calibrator": "kl"}, "no calibrator 'kl'", "entropy, minmax"),
    ],
)
def test_builder_options_that_are_none(given, said, hint):
    with pytest.raises(EdgeferError) as error:
        read_options(given, CONTRACT)
    assert said in error.value.message
    assert hint in error.value.hint


def test_builder_options_by_name():
    options = read_options({"workspace": "1G", "max_batch": 4, "refit": True, "dla": 0, "timing_cache": "t"}, CONTRACT)
    assert (options.workspace, options.batches, options.refit, options.dla) == (1 << 30, Batches(1, 1, 4), True, 0)
    assert str(options.timing_cache) == "t"


def test_jetpacks_are_all_supported():
    assert {name.split(".")[0] for name in JETPACKS} == {"jetpack5", "jetpack6", "jetpack7"}
    assert all(target_of(name).version == version for name, version in JETPACKS.items())


def test_only_compat_compares_versions():
    """Elsewhere there are capabilities: a version in a condition is a rule that the table does not show."""
    found = []
    for path in [*FOLDER.glob("*.py"), *FOLDER.parents[1].glob("optimize/tensorrt*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and path.name != "compat.py":
                text = ast.unparse(node)
                if "version" in text and any(isinstance(o, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for o in node.ops):
                    found.append(f"{path.name}: {text}")
    assert found == []


def test_every_capability_is_used():
    used = {use.condition for use in collect()}
    text = "".join(
        path.read_text(encoding="utf-8") for path in [*FOLDER.glob("*.py"), *FOLDER.parents[1].glob("optimize/*.py")]
    )
    asked = (FOLDER / "options.py").read_text(encoding="utf-8")  # what check_options needs, by name
    assert [n for n in SPANS if n not in used and f"has.{n}" not in text and f'"{n}"' not in asked] == []

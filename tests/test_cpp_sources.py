"""What holds for the C++ sources and can be seen without a compiler."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CPP = ROOT / "cpp_demo"
SOURCES = sorted(
    path
    for pattern in ("*.cpp", "*.hpp", "*.h", "*.cu", "*.py", "*.cmake", "CMakeLists.txt")
    for path in CPP.rglob(pattern)
    if (CPP / "build") not in path.parents
)
PUBLIC = [path for path in SOURCES if (CPP / "include") in path.parents]


@pytest.mark.parametrize("path", PUBLIC, ids=lambda p: p.name)
def test_public_headers_need_nothing_but_the_standard_library(path):
    included = re.findall(r'#include [<"]([^>"]+)[>"]', path.read_text("utf-8"))
    assert included
    outside = {name for name in included if not name.startswith("edgefer/") and ("/" in name or name.endswith(".hpp"))}
    assert not outside


def test_every_source_is_built():
    lists = "".join(path.read_text("utf-8") for path in CPP.rglob("*.txt")) + (CPP / "cmake/Runtimes.cmake").read_text()
    sources = [path.name for folder in ("src", "app", "tools") for path in (CPP / folder).glob("*.c*")]
    assert len(sources) > 20
    assert not [name for name in sources if name not in lists]


def test_presets_that_the_readme_names():
    presets = json.loads((CPP / "CMakePresets.json").read_text("utf-8"))
    names = {preset["name"] for preset in presets["configurePresets"] if not preset.get("hidden")}
    assert names == {"cpu", "jetson", "aarch64-cross", "asan"}
    assert {preset["name"] for preset in presets["testPresets"]} == names
    readme = (CPP / "README.md").read_text("utf-8")
    assert all(f"| `{name}` |" in readme for name in names)


def test_tolerances_and_instructions_are_pythons():
    from edgefer.engines import cpu
    from edgefer.runtimes import TOLERANCE

    tool = (CPP / "tools/write_manifest.cpp").read_text("utf-8")
    known = dict(re.findall(r'\{"(\w+)", (\de-\d)\}', tool))
    assert {name: float(value) for name, value in known.items()} == TOLERANCE
    source = (CPP / "src/cpu.cpp").read_text("utf-8")
    for name, wanted in (("x86", cpu.X86 + cpu.X86_TILES), ("arm", cpu.ARM), ("vnni", tuple(cpu.VNNI))):
        listed = re.search(rf"> {name} = \{{(.*?)\}};", source, re.DOTALL)
        assert listed is not None
        assert set(re.findall(r'"(\w+)"', listed.group(1))) == set(wanted)

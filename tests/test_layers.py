"""Dependencies point downwards only; this reads every import and holds it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "edgefer"
LAYERS = (
    ("errors", "atomic", "progress", "memory", "interrupts", "intake", "limits", "runtimes"),
    ("contract", "contract_file", "faces", "golden", "manifest", "provenance"),
    ("data", "models", "training"),
    ("engines", "quantize", "graph"),
    ("measure",),
    ("optimize",),
    ("report", "camera", "deploy", "doctor"),
    ("quickstart",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
TORCH_ALLOWED = (
    "models/",
    "training/",
    "graph/torch_export.py",
    "graph/guess.py",
    "graph/parity.py",
    "engines/pytorch.py",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            if node.module == "edgefer":
                yield from (f"edgefer.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[0] in ("__init__", "__main__"):
        return
    assert parts[0] in RANK, f"{parts[0]} has no layer yet: give it one in LAYERS"
    for module in imports(path):
        names = module.split(".")
        if names[0] == "edgefer" and len(names) > 1 and names[1] in RANK:
            assert RANK[names[1]] <= RANK[parts[0]], f"{path.name} imports {module}, which lies above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_training_half_imports_torch(path):
    relative = path.relative_to(PACKAGE).as_posix()
    uses = {name.split(".")[0] for name in imports(path)} & {"torch"}
    if relative == "models/registry.py" or not relative.startswith(TORCH_ALLOWED):
        assert not uses


def test_imports_form_no_cycle():
    """Those inside functions count too; those for type checkers do not."""
    names = {
        ".".join(("edgefer", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): p for p in FILES
    }
    graph = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typed = {
            id(node)
            for branch in ast.walk(tree)
            if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
            for node in ast.walk(branch)
        }
        found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module and id(n) not in typed]
        imported = {
            f"{n.module}.{a.name}" if f"{n.module}.{a.name}" in names else n.module for n in found for a in n.names
        }
        graph[name] = imported & names.keys()
    TopologicalSorter(graph).prepare()  # a CycleError names the modules


SHARED_NAMES = {
    "main": "each program that edgefer starts as a process of its own has one",
    "open_model": "the table of runtimes names one in each runtime's module",
    "schemes": "the table of runtimes names one in each runtime's module",
    "facts": "the table of runtimes names one in each runtime's module",
}


def test_a_public_name_is_defined_once():
    """So that a reader who meets it, or searches for it, knows which one it is; commands are called by their names."""
    places = {}
    for path in FILES:
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] == "cli":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name.startswith("_"):
                continue
            if not any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list):
                places.setdefault(node.name, []).append(relative.as_posix())
    twice = {name: found for name, found in places.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in SHARED_NAMES} == {}
    assert twice.keys() == SHARED_NAMES.keys(), "an exception that is none any more is deleted"

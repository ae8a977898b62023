"""What edgefer uses of TensorRT's API, read from its source, and under which condition."""

import ast
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "edgefer" / "engines" / "tensorrt"

TYPES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "parser": "OnnxParser",
    "error": "ParserError",
    "tensor": "ITensor",
    "cache": "ITimingCache",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "inspector": "EngineInspector",
    "settings": "IRuntimeConfig",
}
"""The names that stand for objects of TensorRT in that folder, and their types."""

BASES = ("ILogger", "IProgressMonitor", "IInt8EntropyCalibrator2", "IInt8MinMaxCalibrator")


@dataclass(frozen=True)
class Use:
    """``member`` of ``owner`` (a class or enum of the package), with ``keywords``, in ``where``; ``condition`` is the
    capability under which it stands, or ""."""

    owner: str
    member: str
    keywords: tuple[str, ...]
    condition: str
    where: str

    def __str__(self) -> str:
        return f"{self.where}: {self.owner}.{self.member}" + (f" if has.{self.condition}" if self.condition else "")


class Collector(ast.NodeVisitor):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.uses: list[Use] = []
        self.conditions: list[str] = []
        self.keywords: dict[int, tuple[str, ...]] = {}
        self.foreign: set[str] = set()  # names that are imported: modules and functions of ours

    def visit_Assign(self, node: ast.Assign) -> None:
        named = isinstance(node.targets[0], ast.Name) and node.targets[0].id == "NEEDS"
        assert not named, f"{self.path.name}: NEEDS is annotated"
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name) and node.target.id == "NEEDS" and isinstance(node.value, ast.Constant):
            self.conditions.append(str(node.value.value))  # the whole module
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        conditions = [c for c in map(capability, conjuncts(node.test)) if c]
        self.visit(node.test)
        self.conditions += conditions
        for child in node.body:
            self.visit(child)
        del self.conditions[len(self.conditions) - len(conditions) :]
        for child in node.orelse:
            self.visit(child)

    def visit_Call(self, node: ast.Call) -> None:
        self.keywords[id(node.func)] = tuple(k.arg for k in node.keywords if k.arg)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = owner_of(node.value)
        if owner is not None:
            condition = self.conditions[-1] if self.conditions else ""
            where = f"{self.path.name}:{node.lineno}"
            self.uses.append(Use(owner, node.attr, self.keywords.get(id(node), ()), condition, where))
        self.generic_visit(node)


def owner_of(node: ast.expr) -> str | None:
    """The class that ``node`` is, or is an object of; "" for the package itself; None for what is not TensorRT's."""
    if isinstance(node, ast.Name):
        return "" if node.id == "trt" else TYPES.get(node.id)
    if isinstance(node, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id == "trt":
            return node.attr
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return TYPES.get(node.attr.lstrip("_"))
    return None


def conjuncts(test: ast.expr) -> list[ast.expr]:
    return test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]


def capability(test: ast.expr) -> str | None:
    """``has.x`` or ``target.has.x`` → ``"x"``."""
    if not isinstance(test, ast.Attribute):
        return None
    value = test.value
    named = isinstance(value, ast.Name) and value.id == "has"
    owned = isinstance(value, ast.Attribute) and value.attr == "has"
    return test.attr if named or owned else None


def collect() -> list[Use]:
    """Every use in every module of the folder."""
    found: list[Use] = []
    for path in sorted(FOLDER.glob("*.py")):
        collector = Collector(path)
        collector.visit(ast.parse(path.read_text(encoding="utf-8")))
        found += collector.uses
    return found

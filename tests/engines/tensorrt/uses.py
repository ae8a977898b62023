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
"""The names that stand for objects of TensorRT in that folder, and their types.

What a call of TensorRT returns must get one of these names before a member of it is used.
"""

NEEDS = {"make_monitor": "progress", "make_calibrator": "implicit_calibration"}
"""Function → the capability that a version must have for it to be called."""

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
        self.unnamed: set[str] = set()  # what calls of TensorRT returned, under a name that TYPES does not know

    def visit_Assign(self, node: ast.Assign) -> None:
        if returned_by_tensorrt(node.value):
            self.unnamed |= {name for target in node.targets for name in bound(target) if name not in TYPES}
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before, conditions = set(self.unnamed), [NEEDS[node.name]] if node.name in NEEDS else []
        self.conditions += conditions
        self.generic_visit(node)
        del self.conditions[len(self.conditions) - len(conditions) :]
        self.unnamed = {name for name in self.unnamed if name in before}

    def visit_For(self, node: ast.For) -> None:
        if returned_by_tensorrt(node.iter):
            self.unnamed |= {name for name in bound(node.target) if name not in TYPES}
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
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        assert called not in NEEDS or NEEDS[called] in self.conditions, f"{called} is called without its condition"
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = owner_of(node.value)
        unknown = returned_by_tensorrt(node.value) or bound(node.value) & self.unnamed
        if unknown and node.attr != "name":  # every enum has one
            owner = f"what {ast.unparse(node.value)} is"  # in no API: it needs a name of TYPES
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


def returned_by_tensorrt(node: ast.expr) -> bool:
    """Whether ``node`` calls something of the package, or a method of one of its objects."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and owner_of(node.func.value) is not None


def bound(target: ast.expr) -> set[str]:
    """The names in ``target``, and ``x`` of ``self._x``."""
    if isinstance(target, ast.Tuple):
        return set().union(*map(bound, target.elts))
    if isinstance(target, ast.Name):
        return {target.id}
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self":
        return {target.attr.lstrip("_")}
    return set()


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

"""A diagnosis as facts, capabilities and commands: lines for a person, one object for a program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from edgefer import __version__
from edgefer.doctor.advice import EngineVerdict, before_measuring, capabilities_of, kind_of
from edgefer.doctor.probe import Diagnosis, Library
from edgefer.runtimes import PYTORCH, RUNTIMES, TENSORRT

SCHEMA: Final = 1

_OTHERS: Final = {
    "cuda": ("cuda_bindings", "cuda-bindings"),
    "pycuda": ("pycuda", "pycuda"),
    "cv2": ("opencv", "OpenCV"),
}
"""Package that is no runtime → its fact's key and title."""


@dataclass(frozen=True)
class Fact:
    """One thing about the machine.

    Attributes:
        key: name for programs; the same in every version of the schema.
        title: name for people.
        found: whether it is there.
        text: the fact, on one line.
        parts: values for programs.
    """

    key: str
    title: str
    found: bool
    text: str
    parts: Mapping[str, Any] = field(default_factory=dict)


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """One object; its keys are those of docs/doctor.md, and the same on every machine."""
    return {
        "schema": SCHEMA,
        "edgefer": __version__,
        "kind": kind_of(found),
        "facts": {fact.key: {"found": fact.found, "text": fact.text, **fact.parts} for fact in facts_of(found)},
        "capabilities": {
            one.key: {"what": one.what, "works": one.works, "why": one.why, "commands": list(one.commands)}
            for one in capabilities_of(found)
        },
        "before_measuring": list(before_measuring(found)),
    }


def lines(found: Diagnosis) -> Iterator[str]:
    """The facts, one per line; what edgefer can do here; what to type for the rest."""
    facts, capabilities = facts_of(found), capabilities_of(found)
    width = max(len(fact.title) for fact in facts)
    for fact in facts:
        yield f"{fact.title:<{width}}  {fact.text}"
    yield from ("", "What edgefer can do here")
    for one in capabilities:
        yield f"  {'yes' if one.works else 'no ':<3}  {one.what}{f': {one.why}' if one.why else ''}"
    missing: dict[tuple[str, ...], list[str]] = {}  # two that lack the same are one entry
    for one in capabilities:
        if one.commands:
            missing.setdefault(one.commands, []).append(one.what)
    if missing:
        yield from ("", "To get the rest")
    for commands, wants in missing.items():
        yield f"  to {'; to '.join(wants)}"
        yield from (f"    {command}" for command in commands)
    before = before_measuring(found)
    if before:
        yield from ("", "Before you measure", *(f"    {command}" for command in before))


def verdict_json(verdict: EngineVerdict) -> dict[str, Any]:
    """One object; its keys are those of docs/doctor.md."""
    return {"schema": SCHEMA, **asdict(verdict), "engine": str(verdict.engine)}


def verdict_lines(verdict: EngineVerdict) -> Iterator[str]:
    """Whether an engine runs here; if not: why, what to install for it, and how to build one that runs."""
    yield f"{verdict.engine}: {verdict.what or 'without a manifest'}"
    if verdict.runs:
        checked = "it answers its golden faces as when it was built"
        yield f"runs here: yes, {checked if verdict.what else 'and there are no golden faces to ask it about'}"
        return
    yield from ("runs here: no", f"why: {verdict.why}")
    if verdict.hint:
        yield f"hint: {verdict.hint}"
    if verdict.install:
        yield from ("", "to run this one, install what it lacks:", *(f"  {command}" for command in verdict.install))
    yield from ("", "to make one that runs here:", f"  {verdict.build}")


def facts_of(found: Diagnosis) -> tuple[Fact, ...]:
    """All facts, in the order in which they are shown; every key is there on every machine."""
    return (
        _machine(found),
        _memory(found),
        _power(found),
        Fact("python", "Python", True, found.python, {"version": found.python}),
        _extras(found),
        _jetpack(found),
        _driver(found),
        _gpu(found),
        _library("cuda", "CUDA", found.libraries.cuda),
        _library("cudnn", "cuDNN", found.libraries.cudnn),
        _library("tensorrt_library", "TensorRT", found.libraries.tensorrt),
        *_tensorrt(found),
        *_modules(found),
    )


def _machine(found: Diagnosis) -> Fact:
    machine = found.machine
    kernel = None if machine.kernel is None else f"Linux {machine.kernel}"
    cores = f"{machine.cores} cores" if machine.cores else None
    words = (machine.board, machine.cpu, machine.architecture, cores, machine.system, kernel)
    parts = {
        "board": machine.board,
        "cpu": machine.cpu,
        "architecture": machine.architecture,
        "cores": machine.cores or None,
        "instruction_set": list(machine.instructions),
        "system": machine.system,
        "kernel": machine.kernel,
    }
    return Fact("machine", "machine", True, ", ".join(word for word in words if word), parts)


def _memory(found: Diagnosis) -> Fact:
    machine = found.machine
    sizes = {
        "total_bytes": machine.memory_bytes,
        "available_bytes": machine.available_bytes,
        "swap_bytes": machine.swap_bytes,
    }
    total, free, swap = ("unknown" if n is None else f"{n / (1 << 30):.1f} GiB" for n in sizes.values())
    return Fact("memory", "memory", machine.memory_bytes is not None, f"{total}, {free} of it free, swap {swap}", sizes)


def _power(found: Diagnosis) -> Fact:
    mode, governor = found.power, found.machine.governor
    parts: dict[str, Any] = {"mode": None, "name": None, "unlimited_mode": None, "governor": governor}
    words = [] if governor is None else [f"CPU governor {governor}"]
    if mode is None:
        return Fact("power_mode", "power mode", False, ", ".join(["no nvpmodel", *words]), parts)
    parts |= {"mode": mode.number, "name": mode.name or None, "unlimited_mode": mode.unlimited}
    line = f"{mode.name or 'unnamed'} (nvpmodel {mode.number})"
    return Fact("power_mode", "power mode", True, ", ".join([line, *words]), parts)


def _extras(found: Diagnosis) -> Fact:
    lacking = {name: list(packages) for name, packages in found.extras.items() if packages}
    words = [f"{name} (lacks {', '.join(packages)})" for name, packages in lacking.items()]
    complete = [name for name in found.extras if name not in lacking]
    text = f"{__version__}; extras that are complete: {', '.join(complete) or 'none'}"
    text += f"; incomplete: {', '.join(words)}" if words else ""
    return Fact("edgefer", "edgefer", True, text, {"version": __version__, "complete": complete, "lacking": lacking})


def _jetpack(found: Diagnosis) -> Fact:
    parts = {"version": found.jetpack, "l4t": found.l4t}
    if found.l4t is None:
        return Fact("jetpack", "JetPack", False, "none: not a Jetson", parts)
    known = f"{found.jetpack} (L4T {found.l4t})" if found.jetpack else f"unknown (L4T {found.l4t})"
    return Fact("jetpack", "JetPack", True, known, parts)


def _driver(found: Diagnosis) -> Fact:
    driver, version = found.driver, found.machine.driver
    parts = {"version": version, "cuda": driver.cuda, "problem": driver.problem and driver.problem.message}
    if driver.cuda is None:
        reason = driver.problem.message if driver.problem else "it does not say its version"
        return Fact("driver", "driver", False, reason, parts)
    return Fact("driver", "driver", True, f"{version or 'unknown version'}, for CUDA up to {driver.cuda}", parts)


def _gpu(found: Diagnosis) -> Fact:
    devices = found.driver.devices
    parts = {"devices": [asdict(device) for device in devices], "in_a_slot": found.machine.nvidia_pci}
    if devices:
        shared = ", memory shared with the CPU" if devices[0].integrated else ""
        return Fact("gpu", "GPU", True, "; ".join(map(str, devices)) + shared, parts)
    line = "an NVIDIA GPU is in a slot, and no driver runs it" if found.machine.nvidia_pci else "no NVIDIA GPU"
    return Fact("gpu", "GPU", False, line, parts)


def _library(key: str, title: str, library: Library | None) -> Fact:
    if library is None:
        return Fact(key, title, False, "no system library", {"version": None, "source": None, "for_cuda": None})
    parts = {"version": library.version, "source": library.source, "for_cuda": library.cuda}
    made_for = f", for CUDA {library.cuda}" if library.cuda else ""
    return Fact(key, title, True, f"{library.version} ({library.source}{made_for})", parts)


def _tensorrt(found: Diagnosis) -> Iterator[Fact]:
    module, bindings = found.module(TENSORRT.package), found.libraries.python_bindings
    line = module.version or module.problem or ""
    if not module.works and bindings:
        line += "; the system's python3-libnvinfer is there, and this environment does not see it"
    parts = {"version": module.version, "problem": module.problem, "system_package": bindings}
    yield Fact(TENSORRT.package, "TensorRT's Python", module.works, line, parts)
    tool = found.libraries.trtexec
    yield Fact("trtexec", "trtexec", tool is not None, tool or "not found", {"path": tool})


def _modules(found: Diagnosis) -> Iterator[Fact]:
    rows = (row for row in RUNTIMES.values() if row not in (TENSORRT, PYTORCH))
    runtimes = {row.package: (row.package, row.title) for row in rows}
    last = {PYTORCH.package: (PYTORCH.package, PYTORCH.title)}
    for name, (key, title) in {**runtimes, **_OTHERS, **last}.items():
        module = found.module(name)
        words = [module.version or module.problem or ""]
        if "providers" in module.details:
            words.append(", ".join(module.details["providers"]))
        if "gstreamer" in module.details:
            words.append("with GStreamer" if module.details["gstreamer"] else "without GStreamer")
        parts = {"version": module.version, "problem": module.problem, **module.details}
        yield Fact(key, title, module.works, "; ".join(words), parts)

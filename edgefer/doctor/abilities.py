"""What edgefer can do on a machine and, where it cannot, what to type so that it can."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from edgefer.doctor import remedies
from edgefer.doctor.diagnosis import Diagnosis
from edgefer.engines.tensorrt.compat import Target, parse_version, supported
from edgefer.errors import EdgeferError

ADAPTERS: Final = ("cuda", "pycuda")
"""Python packages through which GPU memory is taken; one is enough."""


@dataclass(frozen=True)
class Ability:
    """One thing that edgefer does.

    Attributes:
        key: for programs.
        what: to complete "edgefer can …".
        works: whether it can here.
        why: why not; ``""`` where it works.
        commands: what to type so that it works; empty where nothing helps.
    """

    key: str
    what: str
    works: bool
    why: str = ""
    commands: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"what": self.what, "works": self.works, "why": self.why, "commands": list(self.commands)}


def abilities_of(found: Diagnosis) -> tuple[Ability, ...]:
    """All of them, in the order in which they are shown; every key is there on every machine."""
    return (
        _with_module(found, "onnxruntime", "build, run and bench engines for this CPU with ONNX Runtime", "cpu"),
        _with_module(found, "openvino", "build, run and bench engines for this CPU with OpenVINO", "openvino"),
        tensorrt_ability(found),
        _trtexec(found),
        _ahead_of_time(found),
        _files(found),
        _with_module(found, "torch", "train networks, export them, compare with PyTorch", "export", key="train"),
        _with_module(found, "cv2", "read pictures and cameras", "camera", key="camera"),
        _csi(found),
    )


def tensorrt_ability(found: Diagnosis) -> Ability:
    """Whether TensorRT engines are built and run here."""
    key, what = "tensorrt", "build, run and bench TensorRT engines"
    why = next(_against_tensorrt(found), "")
    if not why:
        device = found.driver.devices[0]
        return Ability(key, f"{what} for {device} with TensorRT {found.module('tensorrt').version}", True)
    return Ability(key, what, False, why, remedies.for_tensorrt(found))


def _against_tensorrt(found: Diagnosis) -> Iterator[str]:
    """Every reason why TensorRT's Python cannot be used, the most basic first."""
    if found.driver.problem is not None:
        yield found.driver.problem.message
    elif not found.driver.devices:
        yield "the driver has no GPU"
    module = found.module("tensorrt")
    if not module.works and remedies.kind_of(found) == "jetpack5":
        yield "JetPack 5's TensorRT is for Python 3.8, and edgefer needs 3.10: trtexec builds engines there"
    if module.version is None:
        yield f"Python's tensorrt: {module.problem}"
        return
    try:
        supported(Target(module.version, parse_version(module.version)))
    except EdgeferError as fault:
        yield fault.message
    library, serves = found.libraries.tensorrt, found.driver.cuda
    wheel = module.told.get("for_cuda")
    if wheel is not None and serves is not None:
        if wheel > int(serves.split(".", maxsplit=1)[0]):
            yield f"Python's TensorRT {module.version} is for CUDA {wheel}, and the driver serves CUDA up to {serves}"
    elif library is not None and library.cuda is not None and serves is not None:
        wanted, here = library.cuda.split(".", maxsplit=1)[0], serves.split(".", maxsplit=1)[0]
        if int(wanted) > int(here):
            yield f"TensorRT {library.version} is for CUDA {library.cuda}, and the driver serves CUDA up to {serves}"
    bindings = found.module("cuda").told.get("for_cuda", 0)
    if serves is not None and bindings > int(serves.split(".", maxsplit=1)[0]):
        yield f"cuda-bindings is for CUDA {bindings}, and the driver serves CUDA up to {serves}"
    if not any(found.module(name).works for name in ADAPTERS):
        problems = ", ".join(f"{name}: {found.module(name).problem}" for name in ADAPTERS)
        yield f"no Python package takes memory on the GPU ({problems})"


def _with_module(found: Diagnosis, name: str, what: str, extra: str, key: str | None = None) -> Ability:
    module = found.module(name)
    if module.works:
        return Ability(key or name, what, True)
    return Ability(key or name, what, False, f"{name}: {module.problem}", remedies.for_extra(found, name, extra))


def _trtexec(found: Diagnosis) -> Ability:
    what = "build TensorRT engines with trtexec, from a bundle that a host made"
    if found.libraries.trtexec is not None and found.driver.devices:
        return Ability("trtexec", what, True)
    why = "trtexec is not here"
    if found.libraries.trtexec is not None and found.driver.problem is not None:
        why = found.driver.problem.message
    return Ability("trtexec", what, False, why, remedies.for_trtexec(found))


def _ahead_of_time(found: Diagnosis) -> Ability:
    what = "check files ahead of time with TensorRT-RTX's compiler"
    module = found.module("tensorrt_rtx")
    if module.works:
        return Ability("tensorrt_rtx", what, True)
    if found.machine.architecture != "x86_64":
        return Ability("tensorrt_rtx", what, False, f"there is no tensorrt-rtx for {found.machine.architecture}")
    return Ability(
        "tensorrt_rtx", what, False, f"tensorrt_rtx: {module.problem}", remedies.for_extra(found, "tensorrt_rtx", "rtx")
    )


def _files(found: Diagnosis) -> Ability:
    """Ranges are observed, and files checked, in ONNX Runtime."""
    return _with_module(
        found, "onnxruntime", "write what a Jetson builds from: --onnx-only, deploy bundle", "cpu", key="onnx_only"
    )


def _csi(found: Diagnosis) -> Ability:
    what, opencv = "read a Jetson's CSI camera", found.module("cv2")
    if found.l4t is None:
        return Ability("csi", what, False, "this is no Jetson")
    if opencv.told.get("gstreamer"):
        return Ability("csi", what, True)
    why = "OpenCV was built without GStreamer" if opencv.works else f"cv2: {opencv.problem}"
    return Ability("csi", what, False, why, remedies.for_csi(found))

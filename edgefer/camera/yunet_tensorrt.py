"""YuNet in TensorRT: built once for each size of picture, on the GPU that it is for, and kept in the user's cache."""

from __future__ import annotations

import hashlib

from edgefer.atomic import write_bytes
from edgefer.camera.download import cache_folder
from edgefer.engines.session import Session
from edgefer.engines.tensorrt.binding import import_tensorrt
from edgefer.engines.tensorrt.build import build_static
from edgefer.engines.tensorrt.compat import Target
from edgefer.engines.tensorrt.driver import Device, probe
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.progress import announce


def place() -> tuple[Device, Target]:
    """The GPU and the TensorRT that are here.

    Raises:
        EdgeferError: one of them is not.
    """
    try:
        device = probe()  # first: without a driver TensorRT may end the process
        return device, import_tensorrt(False)[1]
    except EdgeferError as fault:
        hint = "--detector-runtime onnxruntime and openvino need no GPU"
        raise EdgeferError(f"YuNet cannot run in TensorRT: {fault.message}", hint=hint) from fault


def open_built(model: bytes) -> Session:
    """A session over ``model``, a serialised ONNX file with a fixed shape.

    An engine is good for one GPU and one version of TensorRT, so both are part of the name that it is kept under.

    Raises:
        EdgeferError: no driver or no TensorRT; TensorRT refuses the model.
    """
    device, target = place()
    key = hashlib.sha256(model + f"{target.title} {device}".encode()).hexdigest()
    kept = cache_folder() / f"yunet-{key[:16]}.engine"
    if not kept.is_file():
        announce(f"building YuNet for {device} with {target.title}, once: {kept}")
        write_bytes(kept, build_static(model).plan)
    return TensorRtSession(kept)

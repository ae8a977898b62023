"""The trees as diagnoses, with the software that such a machine would have told of."""

from pathlib import Path

from edgefer.doctor.probe import diagnose
from edgefer.doctor.software import Module
from edgefer.engines.tensorrt.cuda import Device, Driver
from edgefer.errors import EdgeferError

TREES = Path(__file__).parent / "trees"
NO_DRIVER = Driver(None, (), EdgeferError("there is no NVIDIA driver here: libcuda.so.1 cannot be loaded"))
ORIN = Driver("12.6", (Device("Orin", "SM87", integrated=True),), None)
DRIVERS = {
    "jetpack5": Driver("11.4", (Device("Orin", "SM87", integrated=True),), None),
    "jetpack6": ORIN,
    "jetpack7": Driver("13.0", (Device("NVIDIA Thor", "SM110", integrated=True),), None),
    "desktop": Driver("12.8", (Device("NVIDIA GeForce RTX 3060", "SM86", integrated=False),), None),
}
WHOLE = {
    "tensorrt": Module("10.3.0"),
    "cuda": Module("12.9.4", None, {"for_cuda": 12}),
    "cv2": Module("4.8.0", None, {"gstreamer": True}),
    "onnxruntime": Module("1.23.2", None, {"providers": ["CPUExecutionProvider"]}),
}


def machine(name, modules=None, driver=None, root=None):
    """The diagnosis of a tree."""
    return diagnose(
        TREES / name if root is None else root,
        architecture="x86_64" if name == "desktop" else "aarch64",
        python="3.10.12",
        software=(driver or DRIVERS[name], modules or {}),
    )

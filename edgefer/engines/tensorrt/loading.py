"""From an ``.engine`` file to a classifier: version and GPU are checked before TensorRT sees a byte of it."""

from __future__ import annotations

from pathlib import Path

from edgefer.engines.classifier import Classifier
from edgefer.engines.tensorrt.binding import import_tensorrt
from edgefer.engines.tensorrt.compat import loads
from edgefer.engines.tensorrt.driver import Device, probe
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.manifest import Manifest, read_manifest, verify_file
from edgefer.progress import announce

RUNTIMES = ("tensorrt", "tensorrt-rtx")


def open_tensorrt(file: Path) -> tuple[Classifier, Manifest]:
    """Open an engine with its manifest; its golden vectors are the caller's to check.

    Raises:
        EdgeferError: no manifest; file and manifest do not belong together; no driver; another version of TensorRT or
            another GPU than the ones it was built with.
    """
    manifest = read_manifest(file)
    verify_file(file, manifest)
    if manifest.runtime not in RUNTIMES:
        raise EdgeferError(
            f"{file} ends in .engine, and its manifest says it is for {manifest.runtime}",
            hint=f"rename it to {file.with_suffix('.onnx').name}, with its manifest",
        )
    rtx = manifest.runtime == "tensorrt-rtx"
    device = probe()
    _, here = import_tensorrt(rtx)
    check_place(file, manifest, here.name, device)
    session = TensorRtSession(file, rtx=rtx, dla_core=manifest.dla_core)
    try:
        return Classifier.of_engine(session, manifest, str(file)), manifest
    except EdgeferError:
        session.close()
        raise


def check_place(file: Path, manifest: Manifest, version: str, device: Device) -> None:
    """Refuse an engine of another TensorRT or another GPU than those that are here, unless it was built for them too.

    TensorRT-RTX engines run on any GPU from Ampere on: theirs is only announced.

    Raises:
        EdgeferError: names both.
    """
    flags = " ".join(f"--{part}" for part in manifest.precision.asked.split("+"))
    flags += " --calib DATA" if "int8" in flags else ""
    flags += "" if manifest.dla_core is None else f" --dla {manifest.dla_core} --gpu-fallback"
    again = f"build it again here: `edgefer build-engine model.onnx {flags} --target {manifest.target} -o {file.name}`"
    later = "version" in manifest.portable and loads(manifest.runtime_version, version)
    if manifest.runtime_version != version and not later:
        raise EdgeferError(
            f"{file} was built with {manifest.runtime} {manifest.runtime_version}, and {version} is installed here",
            hint=again,
        )
    if manifest.runtime == "tensorrt-rtx":
        announce(f"note: {file} was {manifest.note or 'built'}; this GPU is {device}")
    elif manifest.device != str(device) and not ("hardware" in manifest.portable and _from_ampere_on(device)):
        raise EdgeferError(f"{file} was built for {manifest.device}, and this GPU is {device}", hint=again)


def _from_ampere_on(device: Device) -> bool:
    """What a hardware compatible engine runs on (NvInfer.h, HardwareCompatibilityLevel::kAMPERE_PLUS); no Jetson."""
    return int(device.capability.removeprefix("SM")) >= 80 and not device.integrated

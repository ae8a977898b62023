"""From an ``.engine`` file to a session: version and GPU are checked before TensorRT sees a byte of it."""

from __future__ import annotations

from pathlib import Path

from edgefer.engines.session import Source
from edgefer.engines.tensorrt.binding import import_tensorrt
from edgefer.engines.tensorrt.compat import loads
from edgefer.engines.tensorrt.driver import Device, probe
from edgefer.engines.tensorrt.run import TensorRtSession
from edgefer.errors import EdgeferError
from edgefer.manifest import Manifest, read_manifest
from edgefer.progress import announce
from edgefer.runtimes import TENSORRT_RTX


def open_model(engine: Source, threads: int, precision: str) -> TensorRtSession:
    """A session over a serialised engine: its bytes, or its file with the manifest beside it.

    The manifest says whose engine it is and which DLA core it was built for; threads and precision are settled.

    Raises:
        EdgeferError: see :class:`~edgefer.engines.tensorrt.run.TensorRtSession`.
    """
    if isinstance(engine, bytes):
        return TensorRtSession(engine)
    manifest = read_manifest(engine)
    return TensorRtSession(engine, rtx=manifest.runtime == TENSORRT_RTX.name, dla_core=manifest.dla_core)


def check_engine(file: Path, manifest: Manifest) -> None:
    """Refuse an engine before TensorRT sees a byte of it, unless it was built for what is here.

    Raises:
        EdgeferError: no driver; another version of TensorRT or another GPU than those it was built with.
    """
    device = probe()
    _, here = import_tensorrt(manifest.runtime == TENSORRT_RTX.name)
    check_place(file, manifest, here.name, device)


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
    if manifest.runtime == TENSORRT_RTX.name:
        announce(f"note: {file} was {manifest.note or 'built'}; this GPU is {device}")
    elif manifest.device != str(device) and not ("hardware" in manifest.portable and _from_ampere_on(device)):
        raise EdgeferError(f"{file} was built for {manifest.device}, and this GPU is {device}", hint=again)


def _from_ampere_on(device: Device) -> bool:
    """What a hardware compatible engine runs on (NvInfer.h, HardwareCompatibilityLevel::kAMPERE_PLUS); no Jetson."""
    return int(device.capability.removeprefix("SM")) >= 80 and not device.integrated

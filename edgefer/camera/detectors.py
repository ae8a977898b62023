"""From what a user types after ``--detector`` to a detector."""

from __future__ import annotations

from pathlib import Path

from edgefer.camera.detection import SMALLEST, Detector
from edgefer.errors import EdgeferError


def open_detector(spec: str, *, smallest: float = SMALLEST, runtime: str = "onnxruntime", threads: int = 1) -> Detector:
    """Open a face detector.

    Args:
        spec: ``haar``, ``yunet`` (from the user's cache, downloaded once), or the path of a YuNet file.
        smallest: width in pixels of the smallest face to find.
        runtime: for YuNet: ``onnxruntime``, ``openvino`` or ``tensorrt``.
        threads: of that runtime.

    Raises:
        EdgeferError: an unknown name, or what the detector refuses.
    """
    if not 10 <= smallest <= 10_000:
        raise EdgeferError(
            f"the smallest face is 10 to 10,000 pixels wide, not {smallest:g}",
            hint="--smallest-face 60; larger is faster",
        )
    if spec == "haar" and runtime != "onnxruntime":
        raise EdgeferError(f"the Haar cascade runs in OpenCV, not in {runtime}", hint="--detector yunet runs in it")
    if spec == "haar":
        from edgefer.camera.haar import Haar

        return Haar(smallest=smallest)
    if spec == "yunet":
        from edgefer.camera.download import yunet_file

        spec = str(yunet_file())
    if spec.endswith(".onnx"):
        from edgefer.camera.yunet import YuNet

        return YuNet(Path(spec), smallest=smallest, runtime=runtime, threads=threads)
    raise EdgeferError(
        f"no face detector is called '{spec}'", hint="--detector haar, yunet, or the path of a YuNet .onnx file"
    )

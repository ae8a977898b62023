"""YuNet in any runtime that edgefer has: the network runs as a session, its outputs are decoded here.

W. Wu, H. Peng, S. Yu: YuNet: A Tiny Millisecond-level Face Detector. Machine Intelligence Research 20, 2023. The file
is face_detection_yunet_2023mar.onnx of OpenCV's zoo (MIT): BGR float32 1×3×H×W, 0 to 255, in; for each of the strides
8, 16 and 32 a class score, an objectness, a box and five landmarks a cell out.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.camera.detection import SMALLEST, Boxes, Detection, Square, suppress
from edgefer.camera.opencv import Pixels, cv2, shrunk
from edgefer.engines.session import Session, open_session
from edgefer.errors import EdgeferError

STRIDES = (8, 16, 32)
OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)

CONFIDENCE = 0.5
OVERLAP = 0.3
"""Of two boxes that overlap by more than this, the worse is left out; OpenCV's default."""

FACE_PIXELS = 40.0
"""The picture is shrunk until the smallest face that is asked for is so many pixels wide. YuNet sees smaller heads, but
of 48×48 faces pasted into scenes it found 85 to 95 % from about there on, and half of them at two thirds of it."""

SIDE_OF_BOX = 1.1
"""FER2013's square over the geometric mean of the box's sides, centres together. Over 428 FER2013 training faces pasted
into scenes the median was 1.13 (10 to 90 %: 0.93 to 1.41) and the centres lay 0.03 sides apart. The shipped
mini_xception hardly minds: over 737 others it was right for 58 to 60 % with sides from 0.9 to 1.1, and for 64 % of the
faces themselves."""

_CANDIDATES = 2000
_KEPT_SIZES = 4
_KEPT_PIXELS = 8_000_000  # of all inputs together: onnxruntime keeps some 40 bytes for each


class YuNet:
    """The detector over a YuNet file.

    Args:
        path: the ONNX file.
        smallest: width in pixels of the smallest face that has to be found: the larger, the faster.
        runtime: ``onnxruntime``, ``openvino`` or ``tensorrt``.
        threads: of the runtime.
        confidence: 0 to 1; faces below it are not reported.

    Raises:
        EdgeferError: the file is missing, is no ONNX file, or has other outputs than YuNet; the runtime is not here.
    """

    name = "yunet"
    confirmations = 1

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        smallest: float = SMALLEST,
        runtime: str = "onnxruntime",
        threads: int = 1,
        confidence: float = CONFIDENCE,
    ) -> None:
        self._model = _read(Path(path))
        self._smallest = smallest
        self._runtime, self._threads = runtime, threads
        self._confidence = confidence
        self._sessions: dict[tuple[int, int], Session] = {}
        # a runtime that is not here is said now, not at the first picture
        if runtime == "tensorrt":
            from edgefer.camera.yunet_tensorrt import place

            place()
        else:
            self._session((32, 32))
            self.close()

    def detect(self, pixels: Pixels) -> list[Detection]:
        """The faces in uint8 H×W×3 BGR ``pixels``, the most certain first."""
        scale = min(1.0, FACE_PIXELS / self._smallest)
        height, width = (max(1, round(size * scale)) for size in pixels.shape[:2])
        small = pixels if scale == 1.0 else shrunk(pixels, width, height)
        padded = _padded(height), _padded(width)
        small = cv2.copyMakeBorder(
            small, 0, padded[0] - height, 0, padded[1] - width, cv2.BORDER_CONSTANT, value=(0, 0, 0)
        )
        outputs = self._session(padded).run({"input": cv2.dnn.blobFromImage(small)})
        boxes, scores, points = decode(outputs, padded, self._confidence)
        factor = np.array([pixels.shape[1] / width, pixels.shape[0] / height])
        boxes, points = boxes * np.tile(factor, 2), points * factor
        kept = [i for i in suppress(boxes, scores, OVERLAP) if boxes[i, 2] >= self._smallest * 0.8]
        return [_detection(boxes[i], scores[i], points[i]) for i in kept]

    def close(self) -> None:
        """Close the sessions."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def _session(self, size: tuple[int, int]) -> Session:
        """One session a size of picture: the file has its input's size baked in."""
        if size not in self._sessions:
            while self._sessions and (
                len(self._sessions) >= _KEPT_SIZES
                or sum(math.prod(kept) for kept in (*self._sessions, size)) > _KEPT_PIXELS
            ):
                self._sessions.pop(next(iter(self._sessions))).close()
            self._sessions[size] = self._opened(resized(self._model, *size))
        return self._sessions[size]

    def _opened(self, model: bytes) -> Session:
        if self._runtime == "tensorrt":
            from edgefer.camera.yunet_tensorrt import open_built

            return open_built(model)
        return open_session(self._runtime, model, self._threads, "fp32")


def decode(
    outputs: Mapping[str, NDArray[Any]], size: tuple[int, int], confidence: float
) -> tuple[Boxes, NDArray[np.float64], NDArray[np.float64]]:
    """Boxes N×4, scores N and landmarks N×5×2, in pixels of the network's input, before overlaps are resolved.

    A cell at column c and row r of stride s gives ``centre = (c + b₀, r + b₁) · s``, ``size = exp(b₂, b₃) · s``,
    landmarks ``(c + k₂ₙ, r + k₂ₙ₊₁) · s`` and the score ``√(class · objectness)`` (``face_detect.cpp`` of OpenCV 4.8).

    Args:
        outputs: by name, batch of one.
        size: height and width of the input, multiples of 32.
        confidence: cells below it are left out.
    """
    parts = []
    for stride in STRIDES:
        columns = size[1] // stride
        scores = np.sqrt(
            np.clip(outputs[f"cls_{stride}"].reshape(-1), 0, 1) * np.clip(outputs[f"obj_{stride}"].reshape(-1), 0, 1)
        )
        cells = np.flatnonzero(scores >= confidence)
        cells = cells[np.argsort(-scores[cells], kind="stable")[:_CANDIDATES]]
        corner = np.stack([cells % columns, cells // columns], axis=1).astype(np.float64)
        values = outputs[f"bbox_{stride}"].reshape(-1, 4)[cells].astype(np.float64)
        extent = np.exp(np.clip(values[:, 2:], -20, 20)) * stride
        boxes = np.concatenate([(corner + values[:, :2]) * stride - extent / 2, extent], axis=1)
        points = outputs[f"kps_{stride}"].reshape(-1, 5, 2)[cells].astype(np.float64)
        parts.append((boxes, scores[cells].astype(np.float64), (points + corner[:, None]) * stride))
    boxes, scores, points = (np.concatenate(values) for values in zip(*parts, strict=True))
    return boxes, scores, points


def resized(model: Any, height: int, width: int) -> bytes:
    """The YuNet ``model`` (a ModelProto) for pictures of ``height`` × ``width``, serialised."""
    import onnx

    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.value_info[:]  # sizes of inner tensors, which were for the old input
    for axis, value in enumerate((1, 3, height, width)):
        changed.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = value
    for output in changed.graph.output:
        cells = (height // int(output.name.split("_")[1])) * (width // int(output.name.split("_")[1]))
        output.type.tensor_type.shape.dim[1].dim_value = cells
    return bytes(changed.SerializeToString())


def face_square(box: NDArray[np.float64], points: NDArray[np.float64]) -> Square:
    """The square that FER2013 shows of a face with this box (4) and landmarks (5×2), with the angle of its eyes."""
    across = points[1] - points[0]
    side = SIDE_OF_BOX * max(math.sqrt(box[2] * box[3]), 1.0)
    angle = math.degrees(math.atan2(across[1], across[0]))
    return Square(float(box[0] + box[2] / 2), float(box[1] + box[3] / 2), side, angle)


def _detection(box: NDArray[np.float64], score: float, points: NDArray[np.float64]) -> Detection:
    x, y, width, height = (float(v) for v in box)
    return Detection((x, y, width, height), float(score), face_square(box, points), points.astype(np.float32))


def _padded(size: int) -> int:
    return -(-size // 32) * 32


def _read(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not path.is_file():
        raise EdgeferError(
            f"there is no face detector {path}",
            hint="--detector yunet downloads YuNet once; --detector haar needs no file",
        )
    try:
        model = onnx.load(path)
    except DecodeError as cause:
        raise EdgeferError(
            f"the face detector {path} is not an ONNX file",
            hint="--detector takes face_detection_yunet_2023mar.onnx of OpenCV's zoo (232,589 bytes)",
        ) from cause
    found = {output.name for output in model.graph.output}
    if found != set(OUTPUTS) or len(model.graph.input) != 1:
        raise EdgeferError(
            f"{path} is not YuNet: its outputs are {', '.join(sorted(found)) or 'none'}",
            hint="--detector takes face_detection_yunet_2023mar.onnx of OpenCV's zoo",
        )
    return model

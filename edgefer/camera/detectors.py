"""The face detectors: OpenCV's Haar cascade, and YuNet in any runtime that edgefer has.

The cascade comes with OpenCV 4, not with 5: nothing to download, slower, and it misses more faces than YuNet.

YuNet: W. Wu, H. Peng, S. Yu: YuNet: A Tiny Millisecond-level Face Detector. Machine Intelligence Research 20, 2023. The
file is face_detection_yunet_2023mar.onnx of OpenCV's zoo (MIT): BGR float32 1×3×H×W, 0 to 255, in; for each of the
strides 8, 16 and 32 a class score, an objectness, a box and five landmarks per cell out. The network runs as a session;
its outputs are decoded here.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.atomic import sha256_file, write_bytes
from edgefer.camera.detection import SMALLEST, Boxes, Detection, Detector, Square, suppress
from edgefer.camera.pictures import Pixels, cv2, shrunk
from edgefer.engines.session import Session, open_session
from edgefer.errors import EdgeferError
from edgefer.intake import cache_folder
from edgefer.progress import announce
from edgefer.runtimes import REFERENCE, for_detectors, resolve, runtime_named

AUTO = "auto"
"""YuNet where its file is kept already, else the Haar cascade where OpenCV has it; nothing is downloaded."""

CASCADE = "haarcascade_frontalface_default.xml"
_DEBIAN = ("/usr/share/opencv4/haarcascades", "/usr/share/opencv/haarcascades")

HAAR_FACE_PIXELS = 28.0
"""The picture is shrunk until the smallest face has this width; the cascade's own window has 24."""

SCALE_STEP = 1.15
NEIGHBOURS = 5

STRIDES = (8, 16, 32)
OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)

CONFIDENCE = 0.5
OVERLAP = 0.3
"""If two boxes overlap by more than this, the one with the lower score is left out; OpenCV's default."""

YUNET_FACE_PIXELS = 40.0
"""The picture is shrunk until the smallest face that is asked for has this width. YuNet sees smaller heads, but
of 48×48 faces pasted into scenes it found 85 to 95 % from about there on, and half of them at two thirds of it."""

SIDE_OF_BOX = 1.1
"""FER2013's square over the geometric mean of the box's sides, centres together. Over 428 FER2013 training faces pasted
into scenes the median was 1.13 (10 to 90 %: 0.93 to 1.41) and the centres lay 0.03 sides apart. The shipped
mini_xception hardly minds: over 737 others it was right for 58 to 60 % with sides from 0.9 to 1.1, and for 64 % of the
faces themselves."""

_CANDIDATES = 2000
_KEPT_SIZES = 4
_KEPT_PIXELS = 8_000_000  # of all inputs together: onnxruntime keeps some 40 bytes for each

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_URL = f"https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/{YUNET_FILE}"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

_MAX_BYTES = 2_000_000
_SECONDS = 30.0


class NoDetectorError(EdgeferError):
    """``auto`` found no detector: ``--detector yunet`` would download one."""


def open_detector(
    spec: str, *, smallest: float = SMALLEST, runtime: str = REFERENCE.name, threads: int = 1
) -> Detector:
    """Open a face detector.

    Args:
        spec: ``auto``, ``haar``, ``yunet`` (from the user's cache, downloaded once), or the path of a YuNet file. See
            :data:`AUTO`; only ``yunet`` downloads.
        smallest: width in pixels of the smallest face to find.
        runtime: runtime of YuNet, one of :func:`edgefer.runtimes.for_detectors`.
        threads: number of that runtime's threads.

    Raises:
        EdgeferError: an unknown name, no detector here, or what the detector refuses.
    """
    if not 10 <= smallest <= 10_000:
        raise EdgeferError(
            f"the smallest face is 10 to 10,000 pixels wide, not {smallest:g}",
            hint="--smallest-face 60; larger is faster",
        )
    if spec == AUTO:
        spec = _automatic(runtime)
    if spec == "haar" and runtime != REFERENCE.name:
        raise EdgeferError(f"the Haar cascade runs in OpenCV, not in {runtime}", hint="--detector yunet runs in it")
    if spec == "haar":
        return Haar(smallest=smallest)
    if spec == "yunet":
        spec = str(yunet_file())
    if spec.endswith(".onnx"):
        return YuNet(Path(spec), smallest=smallest, runtime=runtime, threads=threads)
    raise EdgeferError(
        f"no face detector is called '{spec}'", hint="--detector auto, haar, yunet, or the path of a YuNet .onnx file"
    )


def _automatic(runtime: str) -> str:
    """What ``auto`` is here: the path of YuNet, or ``haar``."""
    kept = kept_yunet()
    if kept is not None:
        return str(kept)
    lacking = ""
    if runtime != REFERENCE.name:
        lacking = f"{runtime} can run YuNet only"
    else:
        try:
            Haar()
        except EdgeferError as fault:
            lacking = fault.message
    if lacking:
        raise NoDetectorError(
            f"there is no face detector here: {lacking}, and YuNet is not in {cache_folder()}",
            hint="detector='yunet' downloads it once (232 kB)",
        )
    return "haar"


class Haar:
    """The detector over the frontal cascade that comes with OpenCV 4.

    Args:
        smallest: width in pixels of the smallest face that has to be found: the larger, the faster.

    Raises:
        EdgeferError: this OpenCV has no cascades.
    """

    name = "haar"
    confirmations = 2

    def __init__(self, *, smallest: float = SMALLEST) -> None:
        if not hasattr(cv2, "CascadeClassifier"):
            raise EdgeferError(
                f"OpenCV {cv2.__version__} has no Haar cascades: they went with version 5",
                hint="pip install 'opencv-python<5', or --detector yunet",
            )
        self._cascade = cv2.CascadeClassifier(str(_cascade_file()))
        self._smallest = smallest

    def detect(self, pixels: Pixels) -> list[Detection]:
        """The faces in uint8 H×W×3 BGR ``pixels``, sorted by falling score."""
        scale = min(1.0, HAAR_FACE_PIXELS / self._smallest)
        grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        if scale < 1.0:
            height, width = (max(1, round(length * scale)) for length in grey.shape)
            grey = shrunk(grey, width, height)
        min_size = max(24, round(self._smallest * scale * 0.9))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=SCALE_STEP,
            minNeighbors=NEIGHBOURS,
            minSize=(min_size, min_size),
            outputRejectLevels=True,
        )
        found = sorted(zip(boxes, weights, strict=True), key=lambda pair: -float(pair[1]))
        return [_haar_detection(tuple(float(v) / scale for v in box), float(weight)) for box, weight in found]

    def close(self) -> None:
        """Nothing to free."""


def _haar_detection(box: tuple[float, ...], weight: float) -> Detection:
    x, y, width, height = box
    # FER2013 was cut with such a cascade: over 196 of its faces pasted into scenes its square had 1.02 times the box's
    # side (median; 10 to 90 %: 0.91 to 1.29) and the same centre.
    crop = Square(x + width / 2, y + height / 2, width)
    # The last stage's margin has no upper bound; faces have 1 to 6, and 1 is where wrong finds end.
    return Detection((x, y, width, height), max(0.0, min(1.0, weight / 5.0)), crop)


def _cascade_file() -> Path:
    data = getattr(cv2, "data", None)
    folders = ([data.haarcascades] if data is not None else []) + list(_DEBIAN)
    for folder in folders:
        if (Path(folder) / CASCADE).is_file():
            return Path(folder) / CASCADE
    raise EdgeferError(
        f"{CASCADE} is not where OpenCV keeps it ({', '.join(map(str, folders))})",
        hint="apt install opencv-data, or --detector yunet",
    )


class YuNet:
    """The detector over a YuNet file.

    Args:
        path: the ONNX file.
        smallest: width in pixels of the smallest face that has to be found: the larger, the faster.
        runtime: one of :func:`edgefer.runtimes.for_detectors`.
        threads: number of the runtime's threads.
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
        runtime: str = REFERENCE.name,
        threads: int = 1,
        confidence: float = CONFIDENCE,
    ) -> None:
        self._model = _read_yunet(Path(path))
        self._smallest = smallest
        self._confidence = confidence
        self._sessions: dict[tuple[int, int], Session] = {}
        # a runtime that is not here is said now, not at the first picture
        if (row := runtime_named(runtime)).detector:
            self._open: Callable[[bytes], Session] = resolve(row.detector)()
        else:
            self._open = functools.partial(open_session, runtime, threads=threads)
            self._session((32, 32))
            self.close()

    def detect(self, pixels: Pixels) -> list[Detection]:
        """The faces in uint8 H×W×3 BGR ``pixels``, sorted by falling score."""
        scale = min(1.0, YUNET_FACE_PIXELS / self._smallest)
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
        return [_yunet_detection(boxes[i], scores[i], points[i]) for i in kept]

    def close(self) -> None:
        """Close the sessions."""
        while self._sessions:
            self._sessions.popitem()[1].close()

    def _session(self, size: tuple[int, int]) -> Session:
        """One session for each size of picture: the file has its input's size baked in."""
        if size not in self._sessions:
            while self._sessions and (
                len(self._sessions) >= _KEPT_SIZES
                or sum(math.prod(kept) for kept in (*self._sessions, size)) > _KEPT_PIXELS
            ):
                self._sessions.pop(next(iter(self._sessions))).close()
            self._sessions[size] = self._open(resized(self._model, *size))
        return self._sessions[size]


def decode(
    outputs: Mapping[str, NDArray[Any]], size: tuple[int, int], confidence: float
) -> tuple[Boxes, NDArray[np.float64], NDArray[np.float64]]:
    """Boxes N×4, scores N and landmarks N×5×2, in pixels of the network's input, before overlaps are resolved.

    A cell at column c and row r of stride s gives ``centre = (c + b₀, r + b₁) · s``, ``size = exp(b₂, b₃) · s``,
    landmarks ``(c + k₂ₙ, r + k₂ₙ₊₁) · s`` and the score ``√(class · objectness)`` (``face_detect.cpp`` of OpenCV 4.8).

    Args:
        outputs: the network's outputs by name, batch of one.
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


def _yunet_detection(box: NDArray[np.float64], score: float, points: NDArray[np.float64]) -> Detection:
    x, y, width, height = (float(v) for v in box)
    return Detection((x, y, width, height), float(score), face_square(box, points), points.astype(np.float32))


def _padded(size: int) -> int:
    return -(-size // 32) * 32


def _read_yunet(path: Path) -> Any:
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


def tensorrt_opener() -> Callable[[bytes], Session]:
    """What opens a serialised ONNX file with a fixed shape in TensorRT: built once and kept in the user's cache.

    An engine is good for one GPU and one version of TensorRT, so both are part of the name that it is kept under.

    Raises:
        EdgeferError: there is no NVIDIA driver or no TensorRT here.
    """
    from edgefer.engines.tensorrt import build, compat, cuda, options, run

    try:
        device = cuda.find_gpu()  # first: without a driver TensorRT may end the process
        target = compat.import_tensorrt(False)[1]
    except EdgeferError as fault:
        others = " and ".join(name for name in for_detectors() if not runtime_named(name).detector)
        hint = f"--detector-runtime {others} need no GPU"
        raise EdgeferError(f"YuNet cannot run in TensorRT: {fault.message}", hint=hint) from fault

    def opened(model: bytes) -> Session:
        key = hashlib.sha256(model + f"{target.title} {device}".encode()).hexdigest()
        kept = cache_folder() / f"yunet-{key[:16]}.engine"
        if not kept.is_file():
            announce(f"building YuNet for {device} with {target.title}, once: {kept}")
            write_bytes(kept, build.build_plan(model, None, "fp32", options.DEFAULTS).plan)
        return run.TensorRtSession(kept)

    return opened


def kept_yunet(sha256: str = YUNET_SHA256) -> Path | None:
    """YuNet in the user's cache, if it is there and whole."""
    path = cache_folder() / YUNET_FILE
    return path if path.is_file() and sha256_file(path) == sha256 else None


def yunet_file(*, url: str = YUNET_URL, sha256: str = YUNET_SHA256) -> Path:
    """YuNet in the user's cache: downloaded once, and only if asked for; checked against a pinned hash each time.

    Raises:
        EdgeferError: it cannot be downloaded, or what came has another hash.
    """
    kept = kept_yunet(sha256)
    if kept is not None:
        return kept
    path = cache_folder() / YUNET_FILE
    announce(f"downloading YuNet, 232 kB, MIT licence, once: {url} → {path}")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            content: bytes = answer.read(_MAX_BYTES)
    except (urllib.error.URLError, OSError) as cause:
        raise EdgeferError(
            f"YuNet cannot be downloaded from {url}: {cause}",
            hint=f"copy {YUNET_FILE} of OpenCV's zoo here and pass --detector FILE, or --detector haar",
        ) from cause
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise EdgeferError(
            f"what came from {url} is not the YuNet that edgefer knows: its sha256 is {found[:16]}…, not "
            f"{sha256[:16]}… ({len(content)} bytes)",
            hint=f"a proxy may stand between; fetch {YUNET_FILE} by hand and pass --detector FILE",
        )
    write_bytes(path, content)
    return path

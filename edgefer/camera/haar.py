"""OpenCV's Haar cascade: nothing to download, slower and blinder than YuNet."""

from __future__ import annotations

from pathlib import Path

from edgefer.camera.detection import SMALLEST, Detection, Square
from edgefer.camera.opencv import Pixels, cv2, shrunk
from edgefer.errors import EdgeferError

CASCADE = "haarcascade_frontalface_default.xml"
_DEBIAN = ("/usr/share/opencv4/haarcascades", "/usr/share/opencv/haarcascades")

FACE_PIXELS = 28.0
"""The picture is shrunk until the smallest face is so many pixels wide; the cascade's own window has 24."""

SCALE_STEP = 1.15
NEIGHBOURS = 5


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
        """The faces in uint8 H×W×3 BGR ``pixels``, the most certain first."""
        scale = min(1.0, FACE_PIXELS / self._smallest)
        grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
        if scale < 1.0:
            height, width = (max(1, round(length * scale)) for length in grey.shape)
            grey = shrunk(grey, width, height)
        least = max(24, round(self._smallest * scale * 0.9))
        boxes, _, weights = self._cascade.detectMultiScale3(
            grey,
            scaleFactor=SCALE_STEP,
            minNeighbors=NEIGHBOURS,
            minSize=(least, least),
            outputRejectLevels=True,
        )
        found = sorted(zip(boxes, weights, strict=True), key=lambda pair: -float(pair[1]))
        return [_detection(tuple(float(v) / scale for v in box), float(weight)) for box, weight in found]

    def close(self) -> None:
        """Nothing to free."""


def _detection(box: tuple[float, ...], weight: float) -> Detection:
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

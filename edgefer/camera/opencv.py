"""OpenCV, imported in one place: what is missing is said with the extra that brings it.

Pictures are uint8 H×W×3 in OpenCV's order (blue, green, red) everywhere in this package; faces are turned to the
contract's channels when they are cut out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.intake import opencv

Pixels = NDArray[np.uint8]
"""uint8 H×W×3, BGR."""

# It and its decoders write "moov atom not found" and the like to stderr; what a file lacks is said by our errors.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_WITHOUT = "--no-window with --video out.mp4, --events out.jsonl or --serve 8080"

cv2: Any = opencv("reading pictures and cameras")

if hasattr(cv2, "utils") and hasattr(cv2.utils, "logging"):  # systems' older ones have it not
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def shrunk(pixels: Any, width: int, height: int) -> Any:
    """``pixels`` at a smaller size: averaged where much smaller, else interpolated, which takes a sixth of the time."""
    much = 2 * height <= pixels.shape[0]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if much else cv2.INTER_LINEAR)


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer; pip's is not, a Jetson's own is."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None


def check_display() -> None:
    """Refuse to open a window where there is none: OpenCV would abort the process, which nothing can catch.

    Raises:
        EdgeferError: no display, an OpenCV without windows, or one that cannot open any on this display.
    """
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise EdgeferError(
            "a window needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set",
            hint=_WITHOUT,
        )
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise EdgeferError(
            f"this OpenCV ({cv2.__version__}) was built without windows",
            hint="pip uninstall opencv-python-headless, then pip install 'edgefer[camera]'; or --no-window",
        )
    # A display that is named may be gone, of another user, or Wayland's where Qt has X11 only: a child may abort.
    window = "import cv2; cv2.namedWindow('edgefer', cv2.WINDOW_NORMAL)"
    tried = subprocess.run(
        [sys.executable, "-c", window], capture_output=True, text=True, errors="replace", check=False
    )
    if tried.returncode:
        said = next((line for line in tried.stderr.splitlines() if line.strip()), f"it ended with {tried.returncode}")
        raise EdgeferError(f"OpenCV cannot open a window on this display: {said}", hint=_WITHOUT)

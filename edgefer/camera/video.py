"""A video of what the app shows: H.264 where an encoder for it is here."""

from __future__ import annotations

import functools
import shutil
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgefer.atomic import atomic_path
from edgefer.camera.frame import LabelledFrame
from edgefer.camera.pictures import Pixels, cv2
from edgefer.errors import EdgeferError
from edgefer.progress import announce, number_of


class Ffmpeg:
    """``cv2.VideoWriter``'s four methods over the program ffmpeg, which may have an encoder that OpenCV lacks.

    Args:
        path: the file.
        encoder: ffmpeg's name of it, such as ``libx264``.
        fps: frame rate.
        size: width and height; a last odd column or row is left out, since H.264 halves the colours' resolution.
    """

    def __init__(self, path: str, encoder: str, fps: float, size: tuple[int, int]) -> None:
        # In a session of its own: Ctrl-C ends this program, which then ends the video.
        self._process = subprocess.Popen(
            [
                *("ffmpeg", "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24"),
                *("-s", f"{size[0]}x{size[1]}", "-r", f"{fps:g}", "-i", "-", "-an", "-c:v", encoder),
                *(("-preset", "veryfast") if encoder == "libx264" else ("-b:v", "4M")),
                *("-vf", "crop=trunc(iw/2)*2:trunc(ih/2)*2", "-pix_fmt", "yuv420p", "-movflags", "+faststart", path),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def write(self, pixels: Pixels) -> None:
        """Encode one frame; one that ffmpeg no longer takes is missed when the video is counted."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(np.ascontiguousarray(pixels).data)

    def release(self) -> None:
        """Finish the file."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()


@functools.cache
def ffmpeg_encoder() -> str:
    """The H.264 encoder of the program ffmpeg that makes a video here; ``""`` if there is none."""
    if shutil.which("ffmpeg") is None:
        return ""
    for encoder in ("libx264", "libopenh264", "h264_v4l2m2m"):
        tried = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "color=s=64x64:d=0.1", "-c:v", encoder]
        try:
            done = subprocess.run([*tried, "-f", "null", "-"], capture_output=True, check=False, timeout=20)
        except subprocess.TimeoutExpired:  # a GPU's encoder may hang; the next may not
            continue
        if done.returncode == 0:
            return encoder
    return ""


def open_writer(path: str, fps: float, size: tuple[int, int]) -> tuple[Any, str]:
    """A writer of an mp4, and what its video is: H.264 where OpenCV or the program ffmpeg can, else MPEG-4.

    pip's OpenCV has no encoder for H.264. VP9, which it has, is too slow for a camera.

    Raises:
        EdgeferError: this OpenCV has neither encoder.
    """
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"avc1"), fps, size)
    if writer.isOpened():
        return writer, "H.264"
    if encoder := ffmpeg_encoder():
        return Ffmpeg(path, encoder, fps, size), f"H.264 by ffmpeg's {encoder}"
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    if writer.isOpened():
        return writer, "MPEG-4, which browsers may not play: neither OpenCV nor ffmpeg here has an H.264 encoder"
    raise EdgeferError(
        "this OpenCV cannot write an mp4: it has no encoder for H.264 or MPEG-4",
        hint="pip install 'edgefer[camera]' brings an OpenCV with FFmpeg",
    )


class Video:
    """A video with the overlay in it, as mp4. It gets its name when it is closed, and plays then.

    Args:
        path: ends in ``.mp4``.
        fps: frame rate of the video.
        live: frames come at their own times; they are repeated or left out so that the video runs at the right speed.
    """

    wants_picture = True
    _MAX_GAP = 2.0  # seconds of a frozen picture, e.g. while a source was away

    def __init__(self, path: Path, fps: float, *, live: bool) -> None:
        if path.suffix.lower() != ".mp4":
            raise EdgeferError(f"a video is written as .mp4, not as {path}", hint=f"--video {path.with_suffix('.mp4')}")
        self._final, self._fps, self._live = path, fps, live
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(path))
        self._writer: Any = None
        self._codec = ""
        self._size = (0, 0)
        self._written = 0
        self._last = 0.0

    def write(self, labelled: LabelledFrame) -> bool:
        """Add the frame, as often as its time asks for."""
        pixels = labelled.frame.pixels
        if self._writer is None:
            self._size = (pixels.shape[1], pixels.shape[0])
            self._writer, self._codec = open_writer(str(self._temporary), self._fps, self._size)
        if (pixels.shape[1], pixels.shape[0]) != self._size:
            pixels = _fitted(pixels, self._size)
        for _ in range(self._due(labelled.frame.captured)):
            self._writer.write(pixels)
            self._written += 1
        return True

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._writer is None:
            announce(f"note: no frame came, so {self._final} was not written")
            self._give_up()
            return
        self._writer.release()
        played = cv2.VideoCapture(str(self._temporary))
        kept = int(played.get(cv2.CAP_PROP_FRAME_COUNT)) if played.isOpened() else 0
        played.release()
        if kept < self._written:  # OpenCV's writer tells nobody that a disk is full; an interrupt may precede a count
            self._give_up()
            raise EdgeferError(
                f"{self._final} was not written: {kept} of {self._written} frames arrived in it",
                hint="the disk is probably full: free some space, or choose another path",
            )
        self._stack.close()
        announce(f"{self._final}: {number_of(kept, 'frame')}, {self._codec}")

    def _give_up(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self._stack.pop_all()

    def _due(self, captured: float) -> int:
        if not self._live:
            return 1
        elapsed = 0.0 if not self._written else min(captured - self._last, self._MAX_GAP)
        count = 1 if not self._written else int(elapsed * self._fps + 0.5)
        if count:
            # time that was rounded away counts for the next frame
            self._last = captured if not self._written else max(self._last + count / self._fps, captured - 0.5)
        return count


def _fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """``pixels`` at ``size`` (width, height), in their own proportions before black."""
    scale = min(size[0] / pixels.shape[1], size[1] / pixels.shape[0])
    width, height = (max(1, round(length * scale)) for length in (pixels.shape[1], pixels.shape[0]))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    fitted = np.zeros((size[1], size[0], 3), np.uint8)
    fitted[top : top + height, left : left + width] = cv2.resize(pixels, (width, height))
    return fitted

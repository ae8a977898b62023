"""Where pictures come from: cameras, streams, files and folders behind one protocol."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from edgefer.camera.pictures import SUFFIXES, Pixels, cv2, read_picture, to_bgr
from edgefer.errors import EdgeferError, redacted, redacted_address
from edgefer.progress import announce

PATIENCE = 30.0
"""Seconds for which a source that stopped is tried again."""

_OPEN_MS = 5000
_CLOSE_SECONDS = 0.3
_EMPTY_IN_A_ROW = 30
_FIRST_PAUSE, _MAX_PAUSE = 0.25, 4.0
_VIDEO4LINUX = Path("/sys/class/video4linux")
_NUMBER = re.compile(r"[0-9]{1,4}")  # of a camera or a port; str.isdigit would take ² for one


class FrameSource(Protocol):
    """Gives pictures one after the other.

    Attributes:
        name: name in messages, without passwords.
        live: pictures come by themselves and get old; False for files, which wait.
        stills: each picture stands for itself; False for videos.
        fps: pictures per second as the source states them; None if it does not.
    """

    name: str
    live: bool
    stills: bool
    fps: float | None

    def read(self) -> Pixels | None:
        """The next picture, uint8 H×W×3 BGR; None at the end.

        Raises:
            EdgeferError: the source is gone and did not come back.
        """

    def close(self) -> None:
        """Give the device or file back; also ends a wait inside :meth:`read`."""


class CaptureSource:
    """A camera, stream or video file over OpenCV's ``VideoCapture``.

    Args:
        open_capture: opens the device anew; called again to reconnect.
        name: name in messages.
        live: a source that stops is tried again; a file that stops has ended. None: live unless it states a length.
        patience: seconds of trying.

    Raises:
        EdgeferError: it does not open, with ``refusal`` saying why.
    """

    stills = False

    def __init__(
        self,
        open_capture: Callable[[], Any],
        name: str,
        *,
        live: bool | None,
        refusal: Callable[[], EdgeferError],
        patience: float = PATIENCE,
    ) -> None:
        self.name = name
        self.reconnects = 0
        self._open, self._refusal, self._patience = open_capture, refusal, patience
        self._closed = threading.Event()
        self._busy = threading.Lock()
        self._frames = 0
        self._capture: Any = _interruptibly(open_capture)
        if not self._capture.isOpened():
            self._capture.release()
            raise refusal()
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 1.0 <= fps <= 240.0 else None
        length = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.live = length <= 0 if live is None else live
        self._expected = 0 if self.live else length

    def read(self) -> Pixels | None:
        """The next picture; frames without pixels are skipped, and many in a row count as a source that stopped."""
        for _ in range(_EMPTY_IN_A_ROW):
            if self._closed.is_set():
                return None
            pixels = self._grab()
            if pixels is not None and pixels.size:
                self._frames += 1
                return to_bgr(pixels, self.name)
            if pixels is None:
                break
        if self.live:
            return self._reconnected()
        self._check_end()
        return None

    def close(self) -> None:
        """Release the device, unless a read that hangs has it: releasing it under that would crash."""
        patience = 0.0 if self._closed.is_set() else _CLOSE_SECONDS  # in vain once is enough
        self._closed.set()
        if self._busy.acquire(timeout=patience):
            self._capture.release()
            self._busy.release()

    def _grab(self) -> Any:
        """An array of any depth, maybe without pixels, or None."""
        try:
            with self._busy:
                found, pixels = self._capture.read()
        except cv2.error:  # some drivers raise when a device is unplugged
            return None
        return pixels if found else None

    def _check_end(self) -> None:
        if not self._frames:
            raise self._refusal()
        if self._expected and self._frames < 0.9 * self._expected:
            announce(f"note: {self.name} ended after {self._frames} of {self._expected} frames: it may be cut short")

    def _reconnected(self) -> Pixels | None:
        announce(f"{self.name} gives no more frames: trying again for {self._patience:g} s")
        until, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while time.monotonic() < until:
            if self._closed.wait(min(pause, max(0.0, until - time.monotonic()))):
                return None
            with self._busy:
                self._capture.release()
                self._capture = self._open()
            pixels = self._grab() if self._capture.isOpened() else None
            if pixels is not None and pixels.size:
                self.reconnects += 1
                announce(f"{self.name} is back")
                return to_bgr(pixels, self.name)
            pause = min(2 * pause, _MAX_PAUSE)
        raise EdgeferError(
            f"{self.name} stopped after {self._frames} frames and did not come back within {self._patience:g} s",
            hint="check its cable, power and network; --patience SECONDS waits longer",
        )


class PictureSource:
    """One picture file, or a folder of them in the order of their names."""

    live = False
    stills = True

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.fps: float | None = None
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not files:
                raise EdgeferError(
                    f"the folder {path} has no pictures", hint=f"it is searched for {' '.join(SUFFIXES)}"
                )
        self._files: Iterator[Path] = iter(files)

    def read(self) -> Pixels | None:
        """The next picture; a file that cannot be read is an error with its name."""
        file = next(self._files, None)
        return None if file is None else read_picture(file)

    def close(self) -> None:
        """No more pictures."""
        self._files = iter(())


def open_source(text: str, *, size: tuple[int, int] | None = None, patience: float = PATIENCE) -> FrameSource:
    """Open what a user names.

    Args:
        text: ``0`` (webcam), ``/dev/video0`` or a link to it, ``csi://0`` (a Jetson's camera port), ``rtsp://…`` or
            ``http://…``, a GStreamer pipeline with `` ! `` in it, or a path: video, picture, folder of pictures.
        size: width and height to ask a camera for.
        patience: seconds for which a live source that stops is tried again.

    Raises:
        EdgeferError: nothing of that kind is there, or it cannot be opened.
    """
    if (index := webcam_index(text)) is not None:
        return _webcam(index, size, patience)
    if text.startswith("csi://"):
        sensor = text.removeprefix("csi://")
        if not _NUMBER.fullmatch(sensor):
            raise EdgeferError(f"'{text}' is no camera port", hint="csi://0 is the first")
        return _gstreamer(csi_pipeline(int(sensor), size or (1280, 720)), text, patience)
    if size is not None:
        raise EdgeferError(
            f"--size asks a camera for its size, and {_named(text)} is none that can be asked",
            hint="leave it out; a GStreamer pipeline states its size in its caps",
        )
    if " ! " in text:
        return _gstreamer(text, "the GStreamer pipeline", patience)
    if re.match(r"(rtsps?|rtmp|https?|udp|tcp)://", text, re.IGNORECASE):
        return _stream(text, patience)
    path = Path(text)
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return PictureSource(path)
    if path.is_file():
        return _video(path)
    raise EdgeferError(
        f"there is no source '{_named(text)}'",
        hint="give a webcam's number (0), a video or picture file, a folder of pictures, rtsp://… or http://…, "
        "csi://0, or a GStreamer pipeline",
    )


def _named(text: str) -> str:
    """What a user named as a source, for messages: an address whole, whatever its password holds."""
    return redacted_address(text) if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) else redacted(text)


def _interruptibly(open_capture: Callable[[], Any]) -> Any:
    """What ``open_capture`` gives. OpenCV waits for a dead address in C++, where Ctrl-C would wait along."""
    opened: list[Any] = []
    thread = threading.Thread(target=lambda: opened.append(open_capture()), daemon=True, name="open")
    thread.start()
    thread.join()
    return opened[0]


def csi_pipeline(sensor: int, size: tuple[int, int]) -> str:
    """The pipeline for a camera on a Jetson's CSI port: its ISP gives NV12, OpenCV wants BGR.

    Elements and caps as in NVIDIA's Accelerated GStreamer guide; ``drop`` and ``max-buffers`` keep the newest frame.
    """
    width, height = size
    return (
        f"nvarguscamerasrc sensor-id={sensor} ! video/x-raw(memory:NVMM),width={width},height={height},format=NV12 ! "
        "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )


def _webcam(index: int, size: tuple[int, int] | None, patience: float) -> FrameSource:
    def opened() -> Any:
        capture = cv2.VideoCapture(index)
        if size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest frame, where the driver honours it
        return capture

    return CaptureSource(opened, f"camera {index}", live=True, refusal=lambda: no_camera(index), patience=patience)


def _gstreamer(pipeline: str, name: str, patience: float) -> FrameSource:
    if not has_gstreamer():
        raise EdgeferError(
            f"{name} needs GStreamer, and this OpenCV was built without it (pip's always is)",
            hint="on a Jetson use the system's OpenCV: pip uninstall opencv-python, then a virtual environment made "
            "with --system-site-packages; a webcam or rtsp:// needs no GStreamer",
        )
    refusal = EdgeferError(
        f"{name} does not open: {redacted(pipeline)}",
        hint="try the same pipeline with gst-launch-1.0, with fakesink at its end",
    )
    return CaptureSource(
        lambda: cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER),
        name,
        live=True,
        refusal=lambda: refusal,
        patience=patience,
    )


def _stream(url: str, patience: float) -> FrameSource:
    name = redacted_address(url)
    waits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, _OPEN_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, _OPEN_MS]
    refusal = EdgeferError(
        f"nothing answers at {name}, or it is no video stream", hint="check address, port and password; try it in VLC"
    )
    return CaptureSource(
        lambda: cv2.VideoCapture(url, cv2.CAP_FFMPEG, waits),
        name,
        live=None if url.startswith("http") else True,  # a video on a web server has an end
        refusal=lambda: refusal,
        patience=patience,
    )


def _video(path: Path) -> FrameSource:
    refusal = EdgeferError(
        f"{path} is not a video that OpenCV can read" if path.stat().st_size else f"{path} is empty",
        hint="give an mp4, avi, mkv or webm file; `ffmpeg -i FILE out.mp4` converts others",
    )
    return CaptureSource(lambda: cv2.VideoCapture(str(path)), str(path), live=False, refusal=lambda: refusal)


def webcam_index(text: str) -> int | None:
    """The number of ``0``, ``/dev/video0`` and of links to it, as under ``/dev/v4l/by-id``; None for anything else."""
    device = os.path.realpath(text) if text.startswith("/dev/") else text
    number = device.removeprefix("/dev/video")
    return int(number) if _NUMBER.fullmatch(number) else None


def cameras(folder: Path = _VIDEO4LINUX) -> list[str]:
    """Each camera as ``0 (HD Webcam)``; empty where there is none. Linux lists them under /sys/class/video4linux."""
    found = []
    for entry in sorted(folder.glob("video*"), key=lambda path: (len(path.name), path.name)):
        # One camera has several nodes; index 0 is the one that gives pictures.
        index = entry / "index"
        if not index.is_file() or index.read_text(encoding="utf-8").strip() == "0":
            label = entry / "name"
            title = label.read_text(encoding="utf-8", errors="replace").strip() if label.is_file() else "unnamed"
            found.append(f"{entry.name.removeprefix('video')} ({title})")
    return found


def no_camera(index: int, folder: Path = _VIDEO4LINUX) -> EdgeferError:
    """The error for a camera that does not open: which others exist, or that there is none."""
    found = cameras(folder)
    if not found:
        return EdgeferError(
            f"camera {index} does not open: this machine has no camera",
            hint="plug one in, or give a video file, rtsp://… or csi://0 (a Jetson's port) as --source; in a "
            "container, pass the device through (docker run --device /dev/video0)",
        )
    if any(entry.split()[0] == str(index) for entry in found):
        return EdgeferError(
            f"camera {index} is there and does not open: another program may hold it, or you may not read it",
            hint=f"close the other program (`fuser /dev/video{index}`), or add yourself to the group 'video'",
        )
    return EdgeferError(
        f"there is no camera {index}; this machine has {', '.join(found)}", hint=f"--source {found[0].split()[0]}"
    )


def has_gstreamer() -> bool:
    """Whether this OpenCV was built with GStreamer; pip's is not, a Jetson's own is."""
    return re.search(r"GStreamer:\s+YES", cv2.getBuildInformation()) is not None

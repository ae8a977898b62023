"""Where results go: a window, a video, a file of events, a stream over HTTP, a folder of faces."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol, TextIO
from urllib.parse import urlsplit

from edgefer.atomic import make_folder
from edgefer.camera.frame import LabelledFace, LabelledFrame
from edgefer.camera.pictures import cv2, encode_jpeg, write_picture
from edgefer.camera.serving import Handler, address, open_server
from edgefer.errors import EdgeferError
from edgefer.faces import Image
from edgefer.progress import announce, number_of

_WITHOUT = "--no-window with --video out.mp4, --events out.jsonl or --serve 8080"

_BOUNDARY = "frame"
_PAGE = (
    b'<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>edgefer</title>'
    b"<style>body{margin:0;background:#111}img{display:block;width:100%;height:100vh;object-fit:contain}</style>"
    b'<img src="/stream" alt="the camera with its labels">'
)

SECONDS_BETWEEN = 1.0
"""Between two recorded crops of one face; a video of one person is not a thousand people."""

MAX_FACES = 5000


class Sink(Protocol):
    """Takes every labelled frame.

    Attributes:
        wants_picture: the overlay has to be drawn for it.
    """

    wants_picture: bool

    def write(self, labelled: LabelledFrame) -> bool:
        """Take one frame; False asks the app to end."""

    def close(self) -> None:
        """Finish what was written, so that it can be used."""


class Window:
    """A window; q, Esc or its closing button end the app. Its title names the keys.

    Args:
        title: title of the window, to which the keys are added.
        stays: each picture stays until a key is pressed, as single ones must: the next would hide it at once.

    Raises:
        EdgeferError: there is no display.
    """

    wants_picture = True

    def __init__(self, title: str, *, stays: bool = False) -> None:
        check_display()
        keys = "q or Esc ends" + (", any other key: next picture" if stays else "")
        self._title, self._stays = f"{title} ({keys})", stays
        cv2.namedWindow(self._title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        announce(f"a window is open: {keys}")

    def write(self, labelled: LabelledFrame) -> bool:
        """Show the frame."""
        cv2.imshow(self._title, labelled.frame.pixels)
        while True:
            key = cv2.waitKey(100 if self._stays else 1)
            if key in (ord("q"), 27) or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if key != -1 or not self._stays:
                return True

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


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


class Events:
    """One line of JSON for each face of each frame, written at once, so that others can follow the file.

    Keys: ``time`` (seconds since 1970), ``frame``, ``video_s`` (position in a file, else null), ``track``, ``box``
    (x, y, width, height, pixels), ``score``, ``predicted`` (not searched for in this frame), ``label`` (null if
    unsure), ``probabilities`` (label → 0…1, smoothed), ``age_ms``.
    """

    wants_picture = False

    def __init__(self, path: str, labels: Sequence[str], *, video: bool) -> None:
        self._labels, self._video, self._path = labels, video, path
        self._written = 0
        try:
            if path != "-":
                make_folder(Path(path).parent)
            self._stream: TextIO = sys.stdout if path == "-" else Path(path).open("w", encoding="utf-8")  # noqa: SIM115
        except OSError as cause:
            raise self._cannot_write(cause) from cause

    def write(self, labelled: LabelledFrame) -> bool:
        """Write the frame's faces.

        Raises:
            EdgeferError: the disk is full.
            BrokenPipeError: nobody reads stdout any more.
        """
        lines = [json.dumps(self._event(labelled, face), ensure_ascii=False) + "\n" for face in labelled.faces]
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
            self._written += len(lines)
        except BrokenPipeError:
            raise
        except OSError as cause:
            raise self._cannot_write(cause) from cause
        return True

    def close(self) -> None:
        """Close the file; stdout stays open."""
        if self._stream is sys.stdout or self._stream.closed:
            return
        with suppress(OSError):  # of what a full disk did not take, and write has said so
            self._stream.close()
        announce(f"{self._path}: {number_of(self._written, 'line')}, one per face and frame")

    def _cannot_write(self, cause: OSError) -> EdgeferError:
        return EdgeferError(f"cannot write {self._path}: {cause.strerror}", hint="--events FILE.jsonl, or - for stdout")

    def _event(self, labelled: LabelledFrame, face: LabelledFace) -> dict[str, Any]:
        detection = face.tracked.detection
        return {
            "time": round(labelled.frame.clock, 3),
            "frame": labelled.frame.number,
            "video_s": round(labelled.frame.time, 3) if self._video else None,
            "track": face.tracked.number,
            "box": [round(v, 1) for v in detection.box],
            "score": round(detection.score, 3),
            "predicted": face.tracked.predicted,
            "label": face.label,
            "probabilities": {
                name: round(float(p), 4) for name, p in zip(self._labels, face.probabilities, strict=True)
            },
            "age_ms": round(labelled.age_ms, 1),
        }


class Stream:
    """Serves ``/`` (a page), ``/stream`` (MJPEG) and ``/snapshot.jpg``. A slow visitor misses frames.

    Raises:
        EdgeferError: the port is in use.
    """

    wants_picture = True

    def __init__(self, host: str, port: int) -> None:
        self._changed = threading.Condition()
        self._jpeg = b""
        self._number = 0
        self._waiting = 0
        self._closed = False
        self._server = open_server(host, port, _handler_for(self))
        self.address = address(self._server)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="http").start()
        announce(f"streaming on {self.address}")

    def write(self, labelled: LabelledFrame) -> bool:
        """Encode the frame if anybody is waiting for one."""
        with self._changed:
            if self._waiting:
                self._jpeg = encode_jpeg(labelled.frame.pixels)
                self._number += 1
                self._changed.notify_all()
        return True

    def close(self) -> None:
        """End all streams and give the port back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def next_jpeg(self) -> bytes | None:
        """Wait for the next frame; None at the end."""
        with self._changed:
            after = self._number
            self._waiting += 1
            self._changed.wait_for(lambda: self._number > after or self._closed)
            self._waiting -= 1
            return None if self._closed else self._jpeg


def _handler_for(stream: Stream) -> type[Handler]:
    class StreamHandler(Handler):
        def do_GET(self) -> None:  # noqa: N802  # the base class looks for this name
            path = urlsplit(self.path).path  # some add ?time=… against caches
            if path == "/":
                self.answer(200, _PAGE, "text/html; charset=utf-8")
            elif path == "/snapshot.jpg":
                jpeg = stream.next_jpeg()
                if jpeg is not None:
                    self.answer(200, jpeg, "image/jpeg")
            elif path == "/stream":
                self._stream()
            else:
                self.answer_json(404, {"error": "there are /, /stream and /snapshot.jpg"})

        def _stream(self) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")  # no other page shows the camera
            self.end_headers()
            while (jpeg := stream.next_jpeg()) is not None:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode("ascii") + jpeg + b"\r\n")

    return StreamHandler


def folder_named(label: str) -> str:
    """A class's folder: one that lies in the folder of all, and that readers do not pass over as a hidden one."""
    name = re.sub(r"[^\w.-]+", "_", label)[:60]
    return f"class{name}" if name.startswith((".", "__")) or not name else name


class FaceRecorder:
    """Writes crops as ``FOLDER/label/time-track.png``: a dataset that ``--calib FOLDER:train`` reads.

    The folders are named by what the engine thinks, which spreads calibration over its classes; they are no truth.

    Raises:
        EdgeferError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: dict[int, float] = {}
        self.written = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)  # it is named below, and so are those of classes in it
        except OSError as cause:
            raise EdgeferError(
                f"cannot make the folder {folder}: {cause.strerror}", hint="--record-faces FOLDER"
            ) from cause
        announce(
            f"recording faces into {folder.resolve()}: at most one per second of each person, {MAX_FACES:,} in all; "
            "tell the people in front of the camera"
        )

    def offer(self, track: int, face: Image, label: str, clock: float) -> None:
        """Keep ``face`` (uint8 H×W×C, grey or RGB) unless this track's last one is too recent or enough are kept."""
        if self.written >= MAX_FACES or clock - self._last.get(track, float("-inf")) < SECONDS_BETWEEN:
            return
        self._last = {number: last for number, last in self._last.items() if clock - last < 60.0}
        self._last[track] = clock
        stamp = datetime.fromtimestamp(clock, timezone.utc).strftime("%Y%m%dT%H%M%S%f")
        name = self._folder / folder_named(label) / f"{stamp}-{track}.png"
        with suppress(OSError):  # writing says why
            name.parent.mkdir(exist_ok=True)
        write_picture(name, face if face.shape[2] == 1 else cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
        self.written += 1
        if self.written == MAX_FACES:
            announce(f"note: {MAX_FACES:,} faces are recorded: no more are kept")

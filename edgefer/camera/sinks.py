"""Where results go: a window, a film, a file of events. The stream over HTTP is in ``edgefer.camera.mjpeg``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from edgefer.atomic import atomic_path
from edgefer.camera.opencv import Pixels, check_display, cv2
from edgefer.camera.seen import Face, Seen
from edgefer.errors import EdgeferError
from edgefer.progress import announce


class Sink(Protocol):
    """Takes every frame that was seen.

    Attributes:
        wants_picture: the overlay has to be drawn for it.
    """

    wants_picture: bool

    def write(self, seen: Seen) -> bool:
        """Take one frame; False asks the app to end."""

    def close(self) -> None:
        """Finish what was written, so that it can be used."""


class Window:
    """A window; q, Esc or its closing button end the app.

    Args:
        title: of the window.
        stays: each picture stays until a key is pressed, as single ones must: the next would hide it at once.

    Raises:
        EdgeferError: there is no display.
    """

    wants_picture = True

    def __init__(self, title: str, *, stays: bool = False) -> None:
        check_display()
        self._title, self._stays = title, stays
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def write(self, seen: Seen) -> bool:
        """Show the frame."""
        cv2.imshow(self._title, seen.frame.pixels)
        while True:
            key = cv2.waitKey(100 if self._stays else 1)
            if key in (ord("q"), 27) or cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
                return False
            if key != -1 or not self._stays:
                return True

    def close(self) -> None:
        """Close the window."""
        cv2.destroyAllWindows()


class Video:
    """A film with the overlay in it, MPEG-4 in mp4. It gets its name when it is closed, and plays then.

    Args:
        path: ends in ``.mp4``.
        fps: of the film.
        live: frames come at their own times; they are repeated or left out so that the film runs at the right speed.
    """

    wants_picture = True
    _LONGEST_GAP = 2.0  # seconds of a frozen picture, e.g. while a source was away

    def __init__(self, path: Path, fps: float, *, live: bool) -> None:
        if path.suffix.lower() != ".mp4":
            raise EdgeferError(f"a film is written as .mp4, not as {path}", hint=f"--video {path.with_suffix('.mp4')}")
        self._final, self._fps, self._live = path, fps, live
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_path(path))
        self._writer: Any = None
        self._size = (0, 0)
        self._written = 0
        self._last = 0.0

    def write(self, seen: Seen) -> bool:
        """Add the frame, as often as its time asks for."""
        pixels = seen.frame.pixels
        if self._writer is None:
            self._open((pixels.shape[1], pixels.shape[0]))
        if (pixels.shape[1], pixels.shape[0]) != self._size:
            pixels = _fitted(pixels, self._size)
        for _ in range(self._due(seen.frame.captured)):
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
        if kept != self._written:  # OpenCV's writer tells nobody that a disk is full
            self._give_up()
            raise EdgeferError(
                f"{self._final} was not written: {kept} of {self._written} frames arrived in it",
                hint="the disk is probably full: free some space, or choose another path",
            )
        self._stack.close()

    def _give_up(self) -> None:
        self._temporary.unlink(missing_ok=True)
        self._stack.pop_all()

    def _open(self, size: tuple[int, int]) -> None:
        self._size = size
        self._writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter_fourcc(*"mp4v"), self._fps, size)
        if not self._writer.isOpened():
            raise EdgeferError(
                f"this OpenCV cannot write {self._final}: it has no MPEG-4 encoder",
                hint="pip install 'edgefer[camera]' brings an OpenCV with FFmpeg",
            )

    def _due(self, captured: float) -> int:
        if not self._live:
            return 1
        elapsed = 0.0 if not self._written else min(captured - self._last, self._LONGEST_GAP)
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


class Events:
    """A line of JSON for each face of each frame, written at once, so that others can follow the file.

    Keys: ``time`` (seconds since 1970), ``frame``, ``film_s`` (position in a file, else null), ``track``, ``box``
    (x, y, width, height, pixels), ``score``, ``predicted`` (not searched for in this frame), ``label`` (null if
    unsure), ``probabilities`` (label → 0…1, smoothed), ``age_ms``.
    """

    wants_picture = False

    def __init__(self, path: str, labels: Sequence[str], *, film: bool) -> None:
        self._labels, self._film, self._path = labels, film, path
        try:
            self._stream: TextIO = sys.stdout if path == "-" else Path(path).open("w", encoding="utf-8")  # noqa: SIM115
        except OSError as cause:
            raise self._cannot_write(cause) from cause

    def write(self, seen: Seen) -> bool:
        """Write the frame's faces.

        Raises:
            EdgeferError: the disk is full.
            BrokenPipeError: nobody reads stdout any more.
        """
        lines = [json.dumps(self._event(seen, face), ensure_ascii=False) + "\n" for face in seen.faces]
        try:
            self._stream.write("".join(lines))
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as cause:
            raise self._cannot_write(cause) from cause
        return True

    def close(self) -> None:
        """Close the file; stdout stays open."""
        if self._stream is not sys.stdout:
            with suppress(OSError):  # of what a full disk did not take, and write has said so
                self._stream.close()

    def _cannot_write(self, cause: OSError) -> EdgeferError:
        return EdgeferError(f"cannot write {self._path}: {cause.strerror}", hint="--events FILE.jsonl, or - for stdout")

    def _event(self, seen: Seen, face: Face) -> dict[str, Any]:
        detection = face.tracked.detection
        return {
            "time": round(seen.frame.clock, 3),
            "frame": seen.frame.number,
            "film_s": round(seen.frame.time, 3) if self._film else None,
            "track": face.tracked.number,
            "box": [round(v, 1) for v in detection.box],
            "score": round(detection.score, 3),
            "predicted": face.tracked.predicted,
            "label": face.label,
            "probabilities": {
                name: round(float(p), 4) for name, p in zip(self._labels, face.probabilities, strict=True)
            },
            "age_ms": round(seen.age_ms, 1),
        }

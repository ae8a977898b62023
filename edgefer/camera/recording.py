"""Faces kept for a later calibration: off unless asked for, and it says where they go."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path

from edgefer.camera.opencv import cv2
from edgefer.camera.pictures import write_picture
from edgefer.errors import EdgeferError
from edgefer.faces import Image
from edgefer.progress import announce

SECONDS_BETWEEN = 1.0
"""Of one face; a film of one person is not a thousand people."""

MOST = 5000


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
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as cause:
            raise EdgeferError(
                f"cannot make the folder {folder}: {cause.strerror}", hint="--record-faces FOLDER"
            ) from cause
        announce(
            f"recording faces into {folder.resolve()}: at most one a second of each person, {MOST:,} in all; "
            "tell the people in front of the camera"
        )

    def offer(self, track: int, face: Image, label: str, clock: float) -> None:
        """Keep ``face`` (uint8 H×W×C, grey or RGB) unless this track's last one is too recent or enough are kept."""
        if self.written >= MOST or clock - self._last.get(track, float("-inf")) < SECONDS_BETWEEN:
            return
        self._last = {number: last for number, last in self._last.items() if clock - last < 60.0}
        self._last[track] = clock
        stamp = datetime.fromtimestamp(clock, timezone.utc).strftime("%Y%m%dT%H%M%S%f")
        name = self._folder / re.sub(r"[^\w.-]+", "_", label) / f"{stamp}-{track}.png"
        write_picture(name, face if face.shape[2] == 1 else cv2.cvtColor(face, cv2.COLOR_RGB2BGR))
        self.written += 1
        if self.written == MOST:
            announce(f"note: {MOST:,} faces are recorded: no more are kept")

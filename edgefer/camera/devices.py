"""Which cameras this machine has, for messages that help."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgefer.camera.opencv import has_gstreamer
from edgefer.errors import EdgeferError

_VIDEO4LINUX = Path("/sys/class/video4linux")


NUMBER = re.compile(r"[0-9]{1,4}")
"""Of a camera or a port. ``str.isdigit`` would take ² for one."""


def webcam_index(text: str) -> int | None:
    """Of ``0``, ``/dev/video0`` and of links to it, as under ``/dev/v4l/by-id``; None of anything else."""
    device = os.path.realpath(text) if text.startswith("/dev/") else text
    number = device.removeprefix("/dev/video")
    return int(number) if NUMBER.fullmatch(number) else None


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


def check_gstreamer(name: str) -> None:
    """Refuse what only an OpenCV with GStreamer can open.

    Raises:
        EdgeferError: this OpenCV was built without it.
    """
    if not has_gstreamer():
        raise EdgeferError(
            f"{name} needs GStreamer, and this OpenCV was built without it (pip's always is)",
            hint="on a Jetson use the system's OpenCV: pip uninstall opencv-python, then a virtual environment made "
            "with --system-site-packages; a webcam or rtsp:// needs no GStreamer",
        )

"""Options of the commands that look for faces: camera, predict and web."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

_FINDING = (
    click.option(
        "--detector",
        default="haar",
        show_default=True,
        metavar="haar|yunet|FILE",
        help="haar comes with OpenCV; yunet is better and faster, and is downloaded once (232 kB); or a YuNet file.",
    ),
    click.option(
        "--detector-runtime",
        default="onnxruntime",
        show_default=True,
        metavar="NAME",
        help="What YuNet runs in: onnxruntime, openvino or tensorrt.",
    ),
    click.option(
        "--smallest-face",
        type=float,
        default=60.0,
        show_default=True,
        metavar="PIXELS",
        help="Width of the smallest face to find; larger is faster.",
    ),
    click.option("--level/--no-level", default=True, help="Turn tilted faces upright (YuNet).  [default: level]"),
)


def finding(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets ``open_detector``, a function, and ``level``."""

    @functools.wraps(command)
    def with_detector(
        *arguments: Any, detector: str, detector_runtime: str, smallest_face: float, threads: int, **others: Any
    ) -> Any:
        def opened() -> Any:
            from edgefer.camera.detectors import open_detector

            return open_detector(detector, smallest=smallest_face, runtime=detector_runtime, threads=threads)

        return command(*arguments, open_detector=opened, threads=threads, **others)

    decorated: Callable[..., Any] = with_detector
    for option in reversed(_FINDING):
        decorated = option(decorated)
    return decorated

"""``edgefer camera``."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import facing, options
from edgefer.errors import EdgeferError

if TYPE_CHECKING:
    from edgefer.camera.sinks import Sink
    from edgefer.camera.sources import Source
    from edgefer.engines.classifier import Classifier


def _size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    width, _, height = value.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise click.BadParameter(f"'{value}' is not like 1280x720")
    return int(width), int(height)


@click.command()
@click.argument("engine", required=False, type=options.PATH)
@click.option(
    "--source",
    default="0",
    show_default=True,
    help="Webcam number, video, picture, folder of pictures, rtsp://, http://, csi://0, or a GStreamer pipeline.",
)
@click.option("--size", callback=_size, metavar="WxH", help="Ask a camera for this size.")
@click.option("--rotate", type=int, default=0, show_default=True, help="Clockwise: 90, 180 or 270.")
@click.option("--mirror", is_flag=True, help="Swap left and right, as in a mirror.")
@click.option("--patience", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds to reconnect.")
@click.option("--realtime", is_flag=True, help="Play a file at its own speed, dropping frames like a camera.")
@click.option("--seconds", type=click.FloatRange(min=0.1), help="Stop after so many.")
@facing.finding
@click.option(
    "--detect-every", type=click.IntRange(min=1), default=3, show_default=True, help="Frames from search to search."
)
@click.option("--most-faces", type=click.IntRange(min=1), default=32, show_default=True, help="Label the largest.")
@click.option(
    "--smooth", type=click.Choice(["ema", "majority", "none"]), default="ema", show_default=True, help="Calm labels."
)
@click.option("--smooth-seconds", type=float, default=0.4, show_default=True, help="Of ema: its time constant.")
@click.option("--unsure-under", type=float, default=0.4, show_default=True, help="No label below this probability.")
@click.option("--window/--no-window", default=None, help="Show a window.  [default: if there is a display]")
@click.option("--video", type=options.PATH, help="Write an mp4 with boxes and labels.")
@click.option("--events", metavar="FILE", help="Write a line of JSON a face and frame; - for stdout.")
@click.option("--serve", type=click.IntRange(0, 65535), metavar="PORT", help="Stream MJPEG over HTTP.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Of --serve; 0.0.0.0 for all networks.")
@click.option("--record-faces", type=options.PATH, metavar="FOLDER", help="Keep crops for calibration. Off by default.")
@options.threads
def camera(
    engine: Path | None,
    source: str,
    size: tuple[int, int] | None,
    patience: float,
    open_detector: Callable[[], Any],
    threads: int,
    smooth: str,
    smooth_seconds: float,
    unsure_under: float,
    window: bool | None,
    video: Path | None,
    events: str | None,
    serve: int | None,
    host: str,
    record_faces: Path | None,
    detect_every: int,
    **how: Any,
) -> None:
    """Label faces of a camera, stream, video or folder with ENGINE (default: the shipped mini_xception).

    Ends with the source, q in its window, or Ctrl-C.
    """
    from edgefer.camera.app import App, one_interrupt
    from edgefer.camera.defaults import open_engine
    from edgefer.camera.opencv import cv2
    from edgefer.camera.recording import FaceRecorder
    from edgefer.camera.smooth import Smoothing
    from edgefer.camera.sources import open_source
    from edgefer.camera.stages import Options
    from edgefer.progress import announce

    cv2.setNumThreads(threads)
    for written in (video, events):
        if written is not None and Path(source).is_file() and Path(written).resolve() == Path(source).resolve():
            raise EdgeferError(f"{written} is the source: it would be overwritten", hint="write to another file")
    if serve is None and host != "127.0.0.1":
        raise EdgeferError(f"--host {host} is of --serve, which is not given", hint=f"--serve 8080 --host {host}")
    smoothing = Smoothing(kind=smooth, seconds=smooth_seconds, unsure_under=unsure_under)
    wishes = Options(every=detect_every, smoothing=smoothing, **how)
    if window is None:
        window = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or (
            video is None and events is None and serve is None
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a service manager's end is one like Ctrl-C
    with (
        one_interrupt(),
        open_engine(engine, threads) as classifier,
        closing(open_source(source, size=size, patience=patience)) as opened,
        closing(open_detector()) as detector,
    ):
        recorder = None if record_faces is None else FaceRecorder(record_faces)
        sinks = _sinks(opened, classifier, window, video, events, (host, serve), wishes.realtime)
        summary = App(opened, detector, classifier, sinks, wishes, recorder=recorder).run()
        announce(str(summary))
        if recorder is not None:
            announce(f"{recorder.written:,} faces recorded in {record_faces}")


def _sinks(
    source: Source,
    classifier: Classifier,
    window: bool,
    video: Path | None,
    events: str | None,
    serve: tuple[str, int | None],
    realtime: bool,
) -> list[Sink]:
    """What was asked for; those that are open already are closed again if one cannot be opened."""
    from edgefer.camera.mjpeg import Stream
    from edgefer.camera.sinks import Events, Video, Window

    sinks: list[Sink] = []
    try:
        if window:
            sinks.append(Window(f"edgefer · {source.name}", stays=source.stills))
        if serve[1] is not None:
            sinks.append(Stream(serve[0], serve[1]))
        if video is not None:
            sinks.append(Video(video, source.fps or 25.0, live=source.live or realtime))
        if events is not None:  # last: opening it empties a file that is there
            sinks.append(Events(events, classifier.contract.labels, film=not source.live and not source.stills))
    except BaseException:
        for sink in sinks:
            sink.close()
        raise
    return sinks

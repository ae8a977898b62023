"""Commands that try an engine: predict, camera and web."""

from __future__ import annotations

import functools
import json
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import options
from edgefer.cli.help import command, option, section
from edgefer.cli.streams import heed_reader
from edgefer.errors import EdgeferError
from edgefer.runtimes import REFERENCE, engine_suffixes, for_detectors

if TYPE_CHECKING:
    from edgefer.camera.sink import Sink
    from edgefer.camera.source import FrameSource
    from edgefer.engines.classifier import Classifier


_FINDING = (
    option(
        "--detector",
        idle_with="--whole",
        default="auto",
        show_default=True,
        metavar="auto|haar|yunet|FILE",
        help="A YuNet file; yunet downloads it once (232 kB); haar comes with OpenCV 4, is slower and finds less; auto "
        "takes YuNet where it was downloaded, else haar.",
    ),
    option(
        "--detector-runtime",
        idle_with="--whole",
        default=REFERENCE.name,
        show_default=True,
        metavar="NAME",
        help=f"Runtime for YuNet: {', '.join(for_detectors())}.",
    ),
    option(
        "--smallest-face",
        idle_with="--whole",
        type=float,
        default=60.0,
        show_default=True,
        metavar="PIXELS",
        help="Width of the smallest face to find; a larger value is faster.",
    ),
    option(
        "--level/--no-level",
        default=True,
        idle_with="--whole",
        help="Rotate tilted faces upright (YuNet).  [default: level]",
    ),
)


def finding(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets ``open_detector``, a function, and ``level``."""

    @functools.wraps(function)
    def with_detector(
        *arguments: Any, detector: str, detector_runtime: str, smallest_face: float, threads: int, **others: Any
    ) -> Any:
        def opened() -> Any:
            from edgefer.camera.detectors import AUTO, NoDetectorError, open_detector
            from edgefer.progress import announce

            try:
                found = open_detector(detector, smallest=smallest_face, runtime=detector_runtime, threads=threads)
            except NoDetectorError as fault:
                line = shlex.join(["edgefer", *sys.argv[1:], "--detector", "yunet"])
                raise EdgeferError(fault.message, hint=f"this downloads YuNet once, 232 kB: {line}") from fault
            if detector == AUTO and found.name == "haar":
                announce("faces are found by OpenCV's Haar cascade; --detector yunet (232 kB, once) finds more, faster")
            return found

        return function(*arguments, open_detector=opened, threads=threads, **others)

    decorated: Callable[..., Any] = with_detector
    for add in reversed(_FINDING):
        decorated = add(decorated)
    return decorated


def _open(engine: Path | None, threads: int) -> Classifier:
    """The engine, or the one that ships, which is said."""
    from edgefer.camera.predict import open_engine
    from edgefer.models import DEFAULT
    from edgefer.progress import announce

    classifier = open_engine(engine, threads)
    if engine is None:
        announce(f"engine: {DEFAULT}, which ships ({classifier.precision.upper()}, {classifier.runtime})")
    return classifier


def _is_engine(path: Path) -> bool:
    from edgefer.manifest import manifest_path

    return path.suffix in engine_suffixes() or manifest_path(path).is_file()


@command(
    examples=(
        "edgefer predict photo.jpg holidays/ -o marked",
        "edgefer predict model.int8.onnx face.png --whole --json",
    )
)
@click.argument("named", nargs=-1, required=True, type=options.PATH, metavar="[ENGINE] IMAGE|FOLDER...")
@options.threads
@section(
    "Finding faces",
    finding,
    option("--whole", is_flag=True, help="Take each picture as a face, already cropped."),
)
@section(
    "Output",
    option(
        "--min-confidence",
        type=click.FloatRange(0, 1),
        default=0.4,
        show_default=True,
        help="Mark answers below this probability as unsure.",
    ),
    options.as_json,
    option("-o", "--output", type=options.PATH, metavar="FOLDER", help="Write the pictures with boxes and labels."),
)
def predict(
    named: tuple[Path, ...],
    open_detector: Callable[[], Any],
    level: bool,
    whole: bool,
    min_confidence: float,
    as_json: bool,
    output: Path | None,
    threads: int,
) -> None:
    """Find the faces in pictures and print their expressions.

    The first argument is the engine if it is one; without it the engine that ships is used. Folders are searched for
    pictures, and the folders in them.
    """
    from edgefer.camera.pictures import cv2, pictures_of, read_picture
    from edgefer.camera.predict import label_faces, output_names
    from edgefer.progress import announce

    engine, given = _engine_first(named)
    images = pictures_of(given, leave_out=output)
    cv2.setNumThreads(threads)
    names = [] if output is None else output_names(images, output)
    if len(images) == 1:
        read_picture(images[0])  # if it cannot be read, that is the only thing to say
    failed: list[EdgeferError] = []
    results: list[dict[str, Any]] = []
    wide = max(24, min(48, max(len(str(path)) for path in images)))
    with ExitStack() as opened:
        classifier = opened.enter_context(_open(engine, threads))
        detector = None if whole else opened.enter_context(closing(open_detector()))
        for number, path in enumerate(images):
            try:
                pixels = read_picture(path)
            except EdgeferError as fault:
                announce(f"error: {fault.message}")
                failed.append(fault)
                continue
            found = label_faces(pixels, detector, classifier, level=level, min_confidence=min_confidence)
            if not as_json:
                if not results:
                    click.echo(f"{'picture':<{wide}}  face  {'box':<21} {'label':<12} probability  next")
                for row in found.rows() or ["no face found"]:
                    click.echo(f"{path!s:<{wide}}  {row}")
            results.append({"picture": str(path), **found.to_json()})
            if output is not None:
                found.save(names[number], pixels)
        if as_json:
            facts = {"engine": classifier.name, "precision": classifier.precision, "runtime": classifier.runtime}
            click.echo(json.dumps({**facts, "pictures": results}, indent=2, ensure_ascii=False))
    for line in _summed_up([len(result["faces"]) for result in results], output):
        announce(line)
    if failed:
        raise EdgeferError(f"{len(failed):,} of {len(images):,} pictures could not be read", hint=failed[0].hint)


def _engine_first(named: tuple[Path, ...]) -> tuple[Path | None, tuple[Path, ...]]:
    """The engine, if the first of what was typed is one, and the pictures and folders."""
    from edgefer.engines.load import WEIGHTS_SUFFIXES, check_is_engine

    for path in named:
        if path.suffix in WEIGHTS_SUFFIXES:
            check_is_engine(path)
    engine = named[0] if _is_engine(named[0]) else None
    given = named if engine is None else named[1:]
    if not given:
        raise EdgeferError(
            f"{engine} is an engine, and no picture was given", hint=f"edgefer predict {engine} photo.jpg"
        )
    if misplaced := [path for path in given if path.suffix in engine_suffixes()]:
        what = "two engines were given" if engine is not None else f"{misplaced[0]} is an engine, not a picture"
        raise EdgeferError(f"{what}; one engine stands first", hint=f"edgefer predict {misplaced[0]} photo.jpg")
    return engine, given


def _summed_up(faces: list[int], output: Path | None) -> list[str]:
    """What there is to say after the table: ``faces`` has the number found in each picture that was read."""
    count = f"{len(faces):,} picture{'s' if len(faces) != 1 else ''}"
    lines = []
    if len(faces) > 1:
        lines.append(f"{sum(faces):,} face{'s' if sum(faces) != 1 else ''} in {count}")
    if output is not None and faces:
        lines.append(f"{count} written to {output}, with boxes and labels")
    if empty := faces.count(0):
        where = "" if len(faces) == 1 else f" in {empty:,} of {count}"
        lines.append(
            f"no face was found{where}: --whole takes each picture as a face already cropped, "
            "--smallest-face 30 finds smaller faces"
        )
    return lines


def _size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    width, _, height = value.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise click.BadParameter(f"'{value}' is not like 1280x720")
    return int(width), int(height)


@command(
    examples=(
        "edgefer camera",
        "edgefer camera model.int8.onnx --source in.mp4 --video out.mp4",
    )
)
@click.argument("engine", required=False, type=options.PATH)
@section(
    "Source",
    option(
        "--source",
        metavar="WHAT",
        default="0",
        show_default=True,
        help="Webcam number, video, picture, folder of pictures, rtsp://, http://, csi://0, or a GStreamer pipeline.",
    ),
    option("--size", callback=_size, metavar="WxH", help="Ask the camera for this size."),
    option("--rotate", type=int, default=0, show_default=True, help="Rotate clockwise by 90, 180 or 270 degrees."),
    option("--mirror", is_flag=True, help="Swap left and right, as in a mirror."),
    option("--patience", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds to reconnect."),
    option("--realtime", is_flag=True, help="Play a file at its own speed, dropping frames as a camera would."),
    option("--seconds", type=click.FloatRange(min=0.1), help="Stop after X seconds."),
)
@section(
    "Finding faces",
    finding,
    option(
        "--detect-every",
        type=options.Whole("count"),
        default=3,
        show_default=True,
        help="Look for new faces in every Nth frame.",
    ),
    option("--max-faces", type=options.Whole("count"), default=32, show_default=True, help="Label N faces at most."),
)
@section(
    "Labels",
    option(
        "--smooth",
        type=click.Choice(["ema", "majority", "none"]),
        default="ema",
        show_default=True,
        help="How labels are smoothed over time.",
    ),
    option(
        "--smooth-seconds",
        needs="--smooth ema",
        type=float,
        default=0.4,
        show_default=True,
        help="Time constant of ema, in seconds.",
    ),
    option(
        "--min-confidence",
        type=float,
        default=0.4,
        show_default=True,
        help="Show no label below this probability.",
    ),
)
@section(
    "Output",
    option("--window/--no-window", default=None, help="Show a window.  [default: if there is a display]"),
    option("--video", type=options.PATH, help="Write an mp4 with boxes and labels."),
    option("--events", metavar="FILE", help="Write one line of JSON per face and frame; - is stdout."),
    option("--serve", type=click.IntRange(0, 65535), metavar="PORT", help="Stream MJPEG over HTTP."),
    option(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        show_default=True,
        help="Address for --serve; 0.0.0.0 opens it to all.",
    ),
    option("--record-faces", type=options.PATH, metavar="FOLDER", help="Keep face crops for calibration."),
)
@options.threads
def camera(  # noqa: PLR0913 - a click command's options
    engine: Path | None,
    source: str,
    size: tuple[int, int] | None,
    patience: float,
    open_detector: Callable[[], Any],
    threads: int,
    smooth: str,
    smooth_seconds: float,
    min_confidence: float,
    window: bool | None,
    video: Path | None,
    events: str | None,
    serve: int | None,
    host: str,
    record_faces: Path | None,
    detect_every: int,
    **how: Any,
) -> None:
    """Label the faces of a camera, stream, video or folder.

    ENGINE is the one that ships by default. The program ends with its source, on q in its window, or on Ctrl-C.
    """
    from edgefer.camera.app import App, Options, one_interrupt
    from edgefer.camera.pictures import cv2
    from edgefer.camera.sink import FaceRecorder
    from edgefer.camera.smooth import Smoothing
    from edgefer.camera.source import open_source
    from edgefer.engines.load import WEIGHTS_SUFFIXES, check_is_engine
    from edgefer.progress import announce, number_of

    cv2.setNumThreads(threads)
    if events == "-":
        heed_reader()
    if engine is not None and engine.suffix in WEIGHTS_SUFFIXES:
        check_is_engine(engine)
    if engine is not None and engine.exists() and not _is_engine(engine):
        line = f"edgefer camera --source {shlex.quote(str(engine))}"
        raise EdgeferError(f"{engine} is not an engine, which is what stands after `camera`", hint=line)
    for written in (video, events):
        if written is not None and Path(source).is_file() and Path(written).resolve() == Path(source).resolve():
            raise EdgeferError(f"{written} is the source: it would be overwritten", hint="write to another file")
    if serve is None and host != "127.0.0.1":
        raise EdgeferError(f"--host {host} has no effect without --serve", hint=f"--serve 8080 --host {host}")
    smoothing = Smoothing(kind=smooth, seconds=smooth_seconds, min_confidence=min_confidence)
    wishes = Options(every=detect_every, smoothing=smoothing, **how)
    if window is None:
        window = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) or (
            video is None and events is None and serve is None
        )
    with (
        one_interrupt(),
        _open(engine, threads) as classifier,
        closing(open_source(source, size=size, patience=patience)) as opened,
        closing(open_detector()) as detector,
    ):
        recorder = None if record_faces is None else FaceRecorder(record_faces)
        sinks = _sinks(opened, classifier, window, video, events, (host, serve), wishes.realtime)
        summary = App(opened, detector, classifier, sinks, wishes, recorder=recorder).run()
        announce(str(summary))
        if recorder is not None:
            announce(f"{number_of(recorder.written, 'face')} recorded in {record_faces}")


def _sinks(
    source: FrameSource,
    classifier: Classifier,
    window: bool,
    video: Path | None,
    events: str | None,
    serve: tuple[str, int | None],
    realtime: bool,
) -> list[Sink]:
    """The sinks that were asked for; those that are open already are closed again if one cannot be opened."""
    from edgefer.camera.sink import Events, Stream, Window
    from edgefer.camera.status import StatusLine
    from edgefer.camera.video import Video

    sinks: list[Sink] = []
    try:
        if StatusLine.wanted(events):  # first: what the others say at their end comes after it
            sinks.append(StatusLine(live=source.live or realtime))
        if window:
            sinks.append(Window(f"edgefer · {source.name}", stays=source.stills))
        if serve[1] is not None:
            sinks.append(Stream(serve[0], serve[1]))
        if video is not None:
            sinks.append(Video(video, source.fps or 25.0, live=source.live or realtime))
        if events is not None:  # last: opening it empties a file that is there
            sinks.append(Events(events, classifier.contract.labels, video=not source.live and not source.stills))
    except BaseException:
        for sink in sinks:
            sink.close()
        raise
    return sinks


@command(
    examples=(
        "edgefer web",
        "edgefer web model.int8.onnx --beside model.onnx --port 8080",
    )
)
@click.argument("engine", required=False, type=options.PATH)
@option("--beside", metavar="BASELINE", help="Second engine, weights or network to show side by side.")
@option("--report", type=options.PATH, help="Report of `edgefer bench --json`, to show its figures.")
@options.threads
@section("Finding faces", finding)
@section(
    "Server",
    option(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        show_default=True,
        help="Address; 0.0.0.0 opens the page to all networks.",
    ),
    option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."),
    option(
        "--max-megabytes",
        type=click.FloatRange(0.1, 1000),
        default=15.0,
        show_default=True,
        help="Largest upload, in megabytes.",
    ),
)
def web(  # noqa: PLR0913 - a click command's options
    engine: Path | None,
    beside: str | None,
    report: Path | None,
    open_detector: Callable[[], Any],
    level: bool,
    host: str,
    port: int,
    max_megabytes: float,
    threads: int,
) -> None:
    """Try an engine in a browser, on pictures or a webcam.

    ENGINE is the one that ships by default. Pictures stay in memory and are not kept; nothing leaves this
    machine.
    """
    from edgefer.camera.page import Page, report_of_engine
    from edgefer.camera.pictures import cv2
    from edgefer.camera.serving import address
    from edgefer.engines.load import load_baseline
    from edgefer.progress import announce

    cv2.setNumThreads(threads)
    with ExitStack() as opened:
        engines = [opened.enter_context(_open(engine, threads))]
        if beside is not None:
            engines.append(opened.enter_context(load_baseline(beside, threads, contract=engines[0].contract)))
        detector = opened.enter_context(closing(open_detector()))
        measured = None if report is None else report_of_engine(report, engines[0])
        limit = int(max_megabytes * 1e6)
        page = Page(engines, detector, level=level, max_bytes=limit, report=measured, threads=threads)
        server = opened.enter_context(page.open(host, port))
        announce(f"the page is at {address(server)} (Ctrl-C ends it)")
        if host not in ("127.0.0.1", "localhost", "::1"):
            announce(f"note: everybody who reaches {host} can use it; it has no password and no encryption")
        try:
            server.serve_forever(0.2)
        except KeyboardInterrupt:
            announce("stopped")

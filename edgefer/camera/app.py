"""Camera → faces → engine → labels → sinks: four threads, with a newest-frame queue of one between each two."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Generic, TypeVar

from edgefer.camera.detection import Detector, cut_all
from edgefer.camera.frame import Frame, LabelledFace, LabelledFrame, TrackedFrame
from edgefer.camera.overlay import draw
from edgefer.camera.pictures import Pixels, cv2
from edgefer.camera.sink import FaceRecorder, Sink
from edgefer.camera.smooth import Smoothers, Smoothing
from edgefer.camera.source import FrameSource
from edgefer.camera.status import Meter, Summary
from edgefer.camera.track import Tracker
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.progress import announce

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")

VIDEO_FPS = 30.0
"""Assumed of a video that does not state its own."""

_TURNS = {90: "ROTATE_90_CLOCKWISE", 180: "ROTATE_180", 270: "ROTATE_90_COUNTERCLOCKWISE"}
_JOIN_SECONDS = 0.2


@dataclass(frozen=True)
class Options:
    """The settings of the app.

    Attributes:
        every: frames from one search for faces to the next; between, tracks move on.
        level: turn tilted faces upright before they are labelled.
        max_faces: label this number of faces, the largest; the others are counted.
        rotate: clockwise, degrees: 0, 90, 180 or 270.
        mirror: left and right swapped, after the rotation.
        realtime: play a file at its own speed and drop frames as a camera would, instead of using every frame.
        seconds: stop after them; None to go on.
        smoothing: how labels are smoothed over time.
    """

    every: int = 3
    level: bool = True
    max_faces: int = 32
    rotate: int = 0
    mirror: bool = False
    realtime: bool = False
    seconds: float | None = None
    smoothing: Smoothing = field(default_factory=Smoothing)

    def __post_init__(self) -> None:
        if self.every < 1 or self.max_faces < 1:
            raise EdgeferError(
                f"a search every {self.every} frames for at most {self.max_faces} faces makes no sense",
                hint="both are 1 or more",
            )
        if self.rotate not in (0, *_TURNS):
            raise EdgeferError(f"pictures cannot be rotated by {self.rotate}°", hint="--rotate 0, 90, 180 or 270")


def turned(pixels: Pixels, options: Options) -> Pixels:
    """``pixels`` rotated and flipped as the options say."""
    if options.rotate:
        pixels = cv2.rotate(pixels, getattr(cv2, _TURNS[options.rotate]))
    return cv2.flip(pixels, 1) if options.mirror else pixels


class Finder:
    """Second stage: which faces are where."""

    def __init__(self, detector: Detector, options: Options, *, stills: bool) -> None:
        self._detector, self._every, self._stills = detector, options.every, stills
        self._tracker = Tracker(1 if stills else detector.confirmations)
        self._last_search: int | None = None

    def __call__(self, frame: Frame) -> TrackedFrame:
        """Search the frame if it is its turn, else move the tracks on."""
        start = time.perf_counter()
        if self._stills:
            self._tracker.reset()
        due = self._last_search is None or frame.number - self._last_search >= self._every
        searched = due or self._stills or self._tracker.wants_search
        if searched:
            self._last_search = frame.number
            tracks = self._tracker.update(self._detector.detect(frame.pixels), frame.time)
        else:
            tracks = self._tracker.predict(frame.time)
        return TrackedFrame(frame, tracks, searched, 1000.0 * (time.perf_counter() - start))


class Labeller:
    """Third stage: labels of the faces. Recording, where asked for, happens here, before anything is drawn on them."""

    def __init__(self, classifier: Classifier, options: Options, recorder: FaceRecorder | None = None) -> None:
        self._classifier, self._options, self._recorder = classifier, options, recorder
        self._smoothers = Smoothers(options.smoothing)

    def __call__(self, found: TrackedFrame) -> LabelledFrame:
        """Cut, label and smooth all faces of a frame."""
        start = time.perf_counter()
        frame, labels = found.frame, self._classifier.contract.labels
        tracks = sorted(found.tracks, key=lambda t: -t.detection.box[2] * t.detection.box[3])
        shown = tracks[: self._options.max_faces]
        crops = cut_all(
            frame.pixels, [t.detection for t in shown], self._classifier.contract, level=self._options.level
        )
        rows = self._classifier.probabilities_of_all(crops)
        smoothed = self._smoothers.update([t.number for t in shown], rows, frame.time)
        if self._recorder is not None:
            for tracked, crop, row in zip(shown, crops, rows, strict=True):
                if not tracked.predicted:
                    self._recorder.offer(tracked.number, crop, labels[int(row.argmax())], frame.clock)
        faces = tuple(
            LabelledFace(tracked, each.probabilities, None if each.label is None else labels[each.label])
            for tracked, each in zip(shown, smoothed, strict=True)
        )
        return LabelledFrame(
            frame,
            faces,
            left_out=len(tracks) - len(shown),
            searched=found.searched,
            detect_ms=found.ms,
            infer_ms=1000.0 * (time.perf_counter() - start),
            labelled_at=time.monotonic(),
        )


class Mailbox(Generic[T]):
    """Holds at most one item.

    Args:
        newest: a new item replaces one that nobody took (counted in ``dropped``); False makes the giver wait, so that
            nothing is lost and the slowest stage sets the pace.
    """

    def __init__(self, *, newest: bool) -> None:
        self.dropped = 0
        self._newest = newest
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Leave ``item``; after :meth:`close` it is thrown away."""
        with self._changed:
            if not self._newest:
                self._changed.wait_for(lambda: self._item is None or self._closed)
            if self._closed:
                return
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T | None:
        """The item, as soon as there is one; None if the box is closed and empty.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._item is not None or self._closed, timeout):
                raise TimeoutError
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more items will come; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class App:
    """Owns nothing: source, detector, classifier and sinks are opened and closed by the caller, sinks by :meth:`run`.

    A live source (and a file with ``realtime``) drops frames that a slow stage cannot take, and counts them; a file
    waits, and no frame is lost.
    """

    def __init__(
        self,
        source: FrameSource,
        detector: Detector,
        classifier: Classifier,
        sinks: Sequence[Sink],
        options: Options | None = None,
        *,
        recorder: FaceRecorder | None = None,
    ) -> None:
        self._options = options = Options() if options is None else options
        self._source, self._classifier, self._sinks = source, classifier, sinks
        self._recording = recorder is not None
        self._find = Finder(detector, options, stills=source.stills)
        self._label = Labeller(classifier, options, recorder)
        self._newest = newest = source.live or options.realtime
        self._frames: Mailbox[Frame] = Mailbox(newest=newest)
        self._found: Mailbox[TrackedFrame] = Mailbox(newest=newest)
        self._labelled: Mailbox[LabelledFrame] = Mailbox(newest=newest)
        self._stop = threading.Event()
        self._fault: BaseException | None = None
        self._read = 0
        self._meter = Meter()
        self._told = False

    def run(self) -> Summary:
        """Work until the source ends, a window is closed, the time is up or Ctrl-C; then close the sinks.

        Ctrl-C is an end like the others: files are closed so that they play.

        Raises:
            EdgeferError: the source is gone, or a stage failed; the sinks are closed first.
        """
        threads = [
            threading.Thread(target=self._guarded, args=work, daemon=True, name=name)
            for name, work in (
                ("capture", (self._capture, self._frames)),
                ("detect", (lambda: self._stage(self._frames, self._find, self._found), self._found)),
                ("infer", (lambda: self._stage(self._found, self._label, self._labelled), self._labelled)),
            )
        ]
        for thread in threads:
            thread.start()
        with one_interrupt():
            try:
                self._show()
            except KeyboardInterrupt:
                announce("stopping")
            finally:
                self._finish(threads)
        if self._fault is not None:
            raise self._fault
        return self.summary()

    def summary(self) -> Summary:
        """The summary of the run so far."""
        dropped = {"detect": self._frames.dropped, "infer": self._found.dropped, "draw": self._labelled.dropped}
        reconnects = getattr(self._source, "reconnects", 0)
        return self._meter.summary(self._read, dropped, reconnects, ages=self._newest)

    def _capture(self) -> None:
        """First stage: read, turn, stamp; at the video's speed where that is asked for."""
        source, options = self._source, self._options
        fps = source.fps or VIDEO_FPS
        start = time.monotonic()
        while not self._stop.is_set():
            if options.realtime and not source.live:
                self._stop.wait(max(0.0, start + self._read / fps - time.monotonic()))
            pixels = source.read()
            now = time.monotonic()
            if pixels is None or (options.seconds is not None and now - start > options.seconds):
                return
            moment = now if source.live else self._read / fps
            self._frames.put(Frame(self._read, turned(pixels, options), moment, now, time.time()))
            self._read += 1

    def _stage(self, incoming: Mailbox[A], work: Callable[[A], B], outgoing: Mailbox[B]) -> None:
        while (item := incoming.get()) is not None and not self._stop.is_set():
            outgoing.put(work(item))

    def _guarded(self, work: Callable[[], None], outgoing: Mailbox[A]) -> None:
        """Run a stage; whatever ends it closes what it feeds, so the end travels on, and the first fault is kept."""
        try:
            work()
        except BaseException as fault:  # re-raised by run
            self._fault = self._fault or fault
            self._stop.set()
            self._frames.close()
            self._found.close()
        finally:
            outgoing.close()

    def _show(self) -> None:
        """Last stage, in the thread of the caller: windows want that."""
        while (labelled := self._labelled.get()) is not None:
            self._meter.count(labelled)
            if labelled.left_out and not self._told:
                self._told, count = True, len(labelled.faces)
                announce(
                    f"note: {labelled.left_out + count} faces at once: the largest {count} are labelled (--max-faces)"
                )
            if any(sink.wants_picture for sink in self._sinks):
                draw(labelled, self._classifier, self._meter.fps, recording=self._recording)
            wanted = [sink.write(labelled) for sink in self._sinks]
            if not all(wanted):
                return

    def _finish(self, threads: Sequence[threading.Thread]) -> None:
        self._stop.set()
        for box in (self._frames, self._found, self._labelled):
            box.close()
        self._source.close()
        for thread in threads:
            thread.join(_JOIN_SECONDS)
        faults = [fault for sink in self._sinks if (fault := _closed(sink)) is not None]
        self._fault = self._fault or next(iter(faults), None)


@contextmanager
def one_interrupt() -> Iterator[None]:
    """The first Ctrl-C ends the app; those that the impatient add cannot keep it from finishing its files.

    So does a SIGTERM that was made to interrupt. Only the main thread handles signals; elsewhere, and within another of
    these, nothing is changed.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: how for number, how in handlers.items() if how is signal.default_int_handler}

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)


def _closed(sink: Sink) -> Exception | None:
    """Close ``sink``; its fault is returned, so that the others are closed too."""
    try:
        sink.close()
    except (EdgeferError, OSError) as fault:
        return fault
    return None

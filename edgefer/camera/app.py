"""Camera → faces → engine → labels → sinks: four threads, with a newest-frame queue of one between each two."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from edgefer.camera.detection import Detector
from edgefer.camera.mailbox import Mailbox
from edgefer.camera.overlay import draw
from edgefer.camera.recording import FaceRecorder
from edgefer.camera.seen import Frame, Seen
from edgefer.camera.sinks import Sink
from edgefer.camera.sources import Source
from edgefer.camera.stages import Finder, Found, Labeller, Options, turned
from edgefer.camera.summary import Meter, Summary
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.progress import announce

A = TypeVar("A")
B = TypeVar("B")

FILM_FPS = 30.0
"""Assumed of a film that does not state its own."""

_JOIN_SECONDS = 0.2


class App:
    """Owns nothing: source, detector, classifier and sinks are opened and closed by the caller, sinks by :meth:`run`.

    A live source (and a file with ``realtime``) drops frames that a slow stage cannot take, and counts them; a file
    waits, and no frame is lost.
    """

    def __init__(
        self,
        source: Source,
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
        self._found: Mailbox[Found] = Mailbox(newest=newest)
        self._seen: Mailbox[Seen] = Mailbox(newest=newest)
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
                ("infer", (lambda: self._stage(self._found, self._label, self._seen), self._seen)),
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
        """What happened so far."""
        dropped = {"detect": self._frames.dropped, "infer": self._found.dropped, "draw": self._seen.dropped}
        reconnects = getattr(self._source, "reconnects", 0)
        return self._meter.summary(self._read, dropped, reconnects, ages=self._newest)

    def _capture(self) -> None:
        """First stage: read, turn, stamp; at the film's speed where that is asked for."""
        source, options = self._source, self._options
        fps = source.fps or FILM_FPS
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
        while (seen := self._seen.get()) is not None:
            self._meter.count(seen)
            self._tell_left_out(seen)
            if any(sink.wants_picture for sink in self._sinks):
                draw(seen, self._classifier, self._meter, recording=self._recording)
            wanted = [sink.write(seen) for sink in self._sinks]
            if not all(wanted):
                return

    def _tell_left_out(self, seen: Seen) -> None:
        if seen.left_out and not self._told:
            self._told = True
            announce(
                f"note: {seen.left_out + len(seen.faces)} faces at once: the largest {len(seen.faces)} are labelled "
                "(--most-faces)"
            )

    def _finish(self, threads: Sequence[threading.Thread]) -> None:
        self._stop.set()
        for box in (self._frames, self._found, self._seen):
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

"""The page behind `edgefer web`: one HTML file and three addresses, over the standard library's server.

Chosen over Gradio and over a web framework: the page needs one upload and one answer, a device needs nothing installed
for it, and nothing is fetched from or reported to anywhere (Gradio asks its makers' servers unless told not to).
"""

from __future__ import annotations

import base64
import functools
import re
import threading
import time
from collections.abc import Mapping, Sequence
from http.server import ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from edgefer.atomic import sha256_file
from edgefer.camera.detection import Detector
from edgefer.camera.pictures import Pixels, cv2, decode_picture, encode_jpeg
from edgefer.camera.predict import Prediction, label_faces
from edgefer.camera.serving import Handler, open_server
from edgefer.data import synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.engines.classifier import Classifier
from edgefer.errors import EdgeferError
from edgefer.faces import Image
from edgefer.intake import read_json
from edgefer.measure.agreement import Agreement
from edgefer.measure.disturbance import LoadMeter, disturbances
from edgefer.measure.latency import interleave
from edgefer.models.weights import card_accuracy, shipped
from edgefer.runtimes import title_of

LONGEST_SIDE = 1600
"""Larger uploads are shrunk to it before faces are searched for; networks see about fifty pixels of a face."""

MAX_FACES = 64
SAMPLE_LABELS = ("happy", "surprise", "neutral")
_SAMPLE_WIDTH, _SAMPLE_HEIGHT, _SAMPLE_SIDE = 720, 420, 200
_OF_ENGINE = ("model", "runtime", "precision", "size_bytes")
_SECONDS_IN_LINE = 15.0
_TIMED_SECONDS = 0.25
"""Duration of the calls whose median is shown, all engines together; a network of 100 ms takes longer."""
_TIMED_FOR = 10.0
"""Seconds that a median is shown for: a webcam's pictures do not wait for a new one each."""
_DRAINED = 32_000_000  # bytes of a refused upload that are read, so that the browser gets to see the refusal

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Page:
    """State and answers of the page.

    Args:
        engines: one, or two to show side by side; with the same labels.
        detector: finds the faces for all of them.
        level: turn tilted faces upright.
        max_bytes: the maximum of an upload.
        report: an engine's object of `edgefer bench --json`; see :func:`report_of_engine`.
        threads: number of the engines' threads, by which a load beside them disturbs their times.

    Raises:
        EdgeferError: the engines have different labels.
    """

    def __init__(
        self,
        engines: Sequence[Classifier],
        detector: Detector,
        *,
        level: bool = True,
        max_bytes: int = 15_000_000,
        report: Mapping[str, Any] | None = None,
        threads: int = 1,
    ) -> None:
        labels = engines[0].contract.labels
        for other in engines[1:]:
            if other.contract.labels != labels:
                raise EdgeferError(
                    f"{other.name} has the labels {', '.join(other.contract.labels)} and {engines[0].name} "
                    f"{', '.join(labels)}: they cannot stand side by side",
                    hint="--beside takes an engine of the same classes",
                )
        self.engines, self.detector = engines, detector
        self.level, self.max_bytes, self.report, self.threads = level, max_bytes, report, threads
        self._latency: tuple[float, list[dict[str, Any]]] | None = None
        self._turn = threading.Lock()  # sessions and detectors serve one at a time

    def open(self, host: str, port: int) -> ThreadingHTTPServer:
        """A server that answers; the caller runs and closes it.

        Raises:
            EdgeferError: the port is in use.
        """
        return open_server(host, port, _handler_for(self))

    def about(self) -> dict[str, Any]:
        """Engines, limits and the accuracy card, for the page."""
        return {
            "labels": list(self.engines[0].contract.labels),
            "detector": self.detector.name,
            "max_bytes": self.max_bytes,
            "longest_side": LONGEST_SIDE,
            "engines": [_card(engine) for engine in self.engines],
            "report": self.report,
        }

    def predict(self, content: bytes, *, whole: bool) -> dict[str, Any]:
        """Faces of an uploaded picture with every engine's probabilities, for the page.

        Raises:
            EdgeferError: the upload is not a picture, too large a one, or the server is busy.
        """
        if not self._turn.acquire(timeout=_SECONDS_IN_LINE):
            raise EdgeferError("the server is busy", hint="try again in a moment")
        try:
            pixels = _shrunk(decode_picture(content, "the upload"))
            detector = None if whole else self.detector
            first = label_faces(pixels, detector, self.engines[0], level=self.level)
            found = [face.detection for face in first.faces]
            others = [label_faces(pixels, detector, e, level=self.level, found=found) for e in self.engines[1:]]
            predictions = [first, *others]
            latency = self._timed([prediction.crops[:1] for prediction in predictions]) if found else None
        finally:
            self._turn.release()
        return {**_answer(pixels, predictions, whole=whole), "latency": latency}

    def _timed(self, crops: Sequence[tuple[Image, ...]]) -> list[dict[str, Any]]:
        """Each engine's median time of one face, and what disturbed it, as `bench` takes and marks it."""
        if self._latency is not None and time.monotonic() < self._latency[0] + _TIMED_FOR:
            return self._latency[1]
        runners = {
            title_of(engine.runtime) + f" {engine.precision.upper()}" + f" ({index + 1})" * (len(crops) > 1): (
                functools.partial(engine.probabilities_of_all, np.stack(faces))
            )
            for index, (engine, faces) in enumerate(zip(self.engines, crops, strict=True))
        }
        meter = LoadMeter()
        timing = interleave(runners, seconds=_TIMED_SECONDS, min_rounds=5, calls=1, warm_up_seconds=_TIMED_SECONDS)
        marks = disturbances(timing, meter.read(), self.threads)
        times = [
            {
                "p50_ms": round(float(np.median(timing.rounds_ms[name])), 3),
                "calls": timing.rounds_ms[name].size,
                "disturbed": list(marks[name].median),
            }
            for name in runners
        ]
        self._latency = time.monotonic(), times
        return times


def report_of_engine(path: Path, engine: Classifier) -> dict[str, Any]:
    """The part of a `bench --json` report that is about ``engine``: accuracy, latency, the paired drop.

    Reports carry no hash of the engine; network, runtime, precision and size together tell it from others.

    Raises:
        EdgeferError: it cannot be read, is no report, or has no row of this engine.
    """
    again = f"edgefer bench {engine.name} --data DATA --baseline NAME --json report.json"
    content = read_json(path, "report", again)
    try:
        rows = [content, *content.get("others", [])]
        wanted = (engine.contract.architecture, engine.runtime, engine.precision, engine.size_bytes)
        for row in rows:
            if tuple(row[key] for key in _OF_ENGINE) == wanted:
                keys = ("accuracy", "baseline", "paired", "latency_ms", "disturbed", "batch", "threads")
                return {key: row[key] for key in keys} | {"cpu": content["environment"]["cpu"]}
    except (ValueError, KeyError, TypeError, AttributeError) as cause:
        raise EdgeferError(
            f"{path} is not a report of `edgefer bench --json`: {type(cause).__name__}: {cause}",
            hint=f"edgefer bench {engine.name} --data DATA --baseline NAME --json report.json",
        ) from cause
    raise EdgeferError(
        f"{path} reports {', '.join('/'.join(str(row[key]) for key in _OF_ENGINE) for row in rows)}"
        f" and not {'/'.join(map(str, wanted))} (network, runtime, precision, bytes)",
        hint="give the report of this engine",
    )


def _card(engine: Classifier) -> dict[str, Any]:
    contract, manifest = engine.contract, engine.manifest
    calibration = None if manifest is None else manifest.calibration
    if manifest is not None:
        card = card_accuracy(manifest.weights_sha256)
    else:  # a baseline: weights that ship are named by their name
        file = shipped(engine.name)
        card = None if file is None else card_accuracy(sha256_file(file))
    agreement = None if manifest is None or not manifest.agreement else Agreement.from_dict(manifest.agreement)
    return {
        "name": Path(engine.name).name,
        "network": contract.architecture,
        "precision": engine.precision,
        "runtime": title_of(engine.runtime),
        "version": engine.runtime_version,
        "bytes": engine.size_bytes,
        "input": f"{contract.height}×{contract.width} {'grey' if contract.channels == 1 else 'RGB'}",
        "crop_margin": contract.crop_margin,
        "calibration": None if calibration is None else f"{calibration.n} faces, {calibration.method}",
        "accuracy": None if card is None else card.sentence(),
        "agreement": None if agreement is None else agreement.sentence(),
        "sha256": None if manifest is None else manifest.engine_sha256,
    }


def _answer(pixels: Pixels, predictions: Sequence[Prediction], *, whole: bool) -> dict[str, Any]:
    first = predictions[0]
    faces = [
        {
            "box": [round(v, 1) for v in face.detection.box],
            "crop": _data_url(crop),
            "engines": [
                {
                    "label": r.faces[i].label,
                    "sure": r.faces[i].sure,
                    "probabilities": [round(float(p), 4) for p in r.faces[i].probabilities],
                }
                for r in predictions
            ],
        }
        for i, (face, crop) in enumerate(zip(first.faces[:MAX_FACES], first.crops, strict=False))
    ]
    return {
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "found": len(first.faces),
        "detect_ms": None if whole else round(first.detect_ms, 2),
        "infer_ms": [round(prediction.infer_ms, 2) for prediction in predictions],
        "faces": faces,
    }


def _data_url(face: Image) -> str:
    shown = face if face.shape[2] == 1 else np.ascontiguousarray(face[:, :, ::-1])
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", shown)[1]).decode("ascii")


def _shrunk(pixels: Pixels) -> Pixels:
    longest = max(pixels.shape[:2])
    if longest <= LONGEST_SIDE:
        return pixels
    size = [max(1, round(length * LONGEST_SIDE / longest)) for length in (pixels.shape[1], pixels.shape[0])]
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _handler_for(page: Page) -> type[Handler]:
    html = (files("edgefer.camera") / "page.html").read_bytes()

    class PageHandler(Handler):
        def do_GET(self) -> None:  # noqa: N802  # the base class looks for this name
            path = urlsplit(self.path).path
            if path == "/":
                self.answer(200, html, "text/html; charset=utf-8")
            elif path == "/api/about":
                self.answer_json(200, page.about())
            elif path == "/sample.jpg":
                self.answer(200, encode_jpeg(sample_picture(), 92), "image/jpeg")
            else:
                self.answer_json(404, {"error": f"there is no {path}"})

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:  # noqa: N802
            target = urlsplit(self.path)
            if target.path != "/api/predict":
                self._refuse(404, EdgeferError(f"there is no {target.path}"))
                return
            origin = self.headers.get("Origin")
            if origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
                self._refuse(403, EdgeferError(f"a page of {origin} may not use this server"))
                return
            length = self._length()
            if length is None:
                return
            content = self.rfile.read(length)
            if len(content) < length:
                self.close_connection = True  # the visitor went away
                return
            try:
                self.answer_json(200, page.predict(content, whole=parse_qs(target.query).get("whole") == ["1"]))
            except EdgeferError as fault:
                self.answer_json(422, {"error": fault.message, "hint": fault.hint})

        def handle_expect_100(self) -> bool:
            """Clients that ask first (curl does) are told before they send."""
            return self.command != "POST" or (self._length() is not None and super().handle_expect_100())

        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy", _POLICY)
            super().end_headers()

        def _length(self) -> int | None:
            """Bytes of the upload; None, with the refusal sent, if that is unknown or too much."""
            stated = self.headers.get("Content-Length", "")
            if not re.fullmatch("[0-9]{1,15}", stated):
                self._refuse(411, EdgeferError("the upload does not state its length", hint="send Content-Length"))
                return None
            if int(stated) > page.max_bytes:
                what = f"the upload has {int(stated) / 1e6:.1f} MB, and {page.max_bytes / 1e6:g} MB are allowed"
                self._refuse(413, EdgeferError(what, hint="shrink the picture, or start with --max-megabytes"))
                return None
            return int(stated)

        def _refuse(self, status: int, fault: EdgeferError) -> None:
            """Answer and hang up, after reading a little: a connection cut at once loses the answer on its way."""
            self.close_connection = True
            self.answer_json(status, {"error": fault.message, "hint": fault.hint})
            self.connection.settimeout(1.0)
            left, until = _DRAINED, time.monotonic() + 1
            try:
                while left > 0 and time.monotonic() < until and (chunk := self.rfile.read1(65536)):
                    left -= len(chunk)
            except OSError:  # silence, or gone: either way nothing is owed any more
                return

    return PageHandler


@functools.cache
def sample_picture() -> Pixels:
    """A picture to try the page with, of nobody: three synthetic faces before a wall, uint8 420×720×3 BGR.

    They are happy, surprised and neutral: the expressions that networks trained on photographs recognise in drawings.
    Of 60 seeds it is the one with which detectors and the engine that ships are the surest.
    """
    samples, labels = synthetic_faces(40, 0, _SAMPLE_SIDE)
    faces = [samples[labels == FER2013.index(wanted)][0] for wanted in SAMPLE_LABELS]
    down = np.linspace(225, 175, _SAMPLE_HEIGHT)[:, None, None]
    picture = (down * np.array([0.98, 0.96, 0.92])) * np.ones((_SAMPLE_HEIGHT, _SAMPLE_WIDTH, 1))
    for index, face in enumerate(faces):
        left, top = 30 + index * 230, 70 + 50 * (index % 2)
        weight = np.zeros((_SAMPLE_SIDE, _SAMPLE_SIDE), np.float32)
        cv2.rectangle(weight, (12, 12), (_SAMPLE_SIDE - 13, _SAMPLE_SIDE - 13), 1.0, -1)
        weight = cv2.GaussianBlur(weight, (0, 0), 6)[:, :, None]
        part = picture[top : top + _SAMPLE_SIDE, left : left + _SAMPLE_SIDE]
        part[:] = part * (1 - weight) + face.reshape(_SAMPLE_SIDE, _SAMPLE_SIDE, 1).astype(np.float32) * weight
    return np.asarray(picture, np.uint8)

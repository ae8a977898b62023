"""``edgefer predict``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgefer.cli import facing, options
from edgefer.errors import EdgeferError

if TYPE_CHECKING:
    from edgefer.camera.detection import Detector
    from edgefer.camera.opencv import Pixels
    from edgefer.camera.stills import Reading
    from edgefer.engines.classifier import Classifier


@click.command()
@click.argument("images", nargs=-1, required=True, type=options.PATH, metavar="IMAGE...")
@click.option("--engine", type=options.PATH, help="An engine.  [default: the shipped mini_xception]")
@facing.finding
@click.option("--whole", is_flag=True, help="Each picture is a face already: look for none.")
@click.option(
    "--unsure-under",
    type=click.FloatRange(0, 1),
    default=0.4,
    show_default=True,
    help="Mark labels below this probability.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of a table.")
@click.option("-o", "--output", type=options.PATH, metavar="FOLDER", help="Write the pictures with boxes and labels.")
@options.threads
def predict(
    images: tuple[Path, ...],
    engine: Path | None,
    open_detector: Callable[[], Any],
    level: bool,
    whole: bool,
    unsure_under: float,
    as_json: bool,
    output: Path | None,
    threads: int,
) -> None:
    """Find the faces in IMAGEs and say what they show."""
    from edgefer.camera.defaults import open_engine
    from edgefer.camera.opencv import cv2
    from edgefer.camera.pictures import read_picture
    from edgefer.camera.stills import read
    from edgefer.progress import announce

    cv2.setNumThreads(threads)
    names = [] if output is None else _names(images, output)
    failed: list[EdgeferError] = []
    results: list[dict[str, Any]] = []
    with open_engine(engine, threads) as classifier, _opened(None if whole else open_detector) as detector:
        if not as_json:
            click.echo(f"{'picture':<32} face  {'box':<21} {'label':<12} probability  next")
        for number, path in enumerate(images):
            try:
                pixels = read_picture(path)
            except EdgeferError as fault:
                announce(f"error: {fault.message}")
                failed.append(fault)
                continue
            reading = read(pixels, detector, classifier, level=level, unsure_under=unsure_under)
            results.append(_as_json(path, pixels, reading, classifier))
            if not as_json:
                for line in _lines(path, reading, classifier):
                    click.echo(line)
            if output is not None:
                _save(names[number], pixels, reading, classifier)
        if as_json:
            facts = {"engine": classifier.name, "precision": classifier.precision, "runtime": classifier.runtime}
            click.echo(json.dumps({**facts, "pictures": results}, indent=2, ensure_ascii=False))
    if len(failed) == 1 == len(images):
        raise failed[0]
    if failed:
        raise EdgeferError(f"{len(failed)} of {len(images)} pictures could not be read", hint=failed[0].hint)


def _names(images: Sequence[Path], folder: Path) -> list[Path]:
    """What each picture is written as: ``stem.png``, numbered where two would have one name.

    Raises:
        EdgeferError: that is one of the pictures themselves.
    """
    read = {path.resolve() for path in images}
    names: list[Path] = []
    for path in images:
        tries = (path.stem, *(f"{path.stem}-{count}" for count in range(2, len(images) + 2)))
        names.append(next(name for stem in tries if (name := folder / f"{stem}.png") not in names))
        if names[-1].resolve() in read:
            raise EdgeferError(f"{names[-1]} is read and would be replaced", hint="-o takes another folder")
    return names


@contextmanager
def _opened(open_detector: Callable[[], Detector] | None) -> Iterator[Detector | None]:
    if open_detector is None:
        yield None
    else:
        with closing(open_detector()) as detector:
            yield detector


def _lines(path: Path, reading: Reading, classifier: Classifier) -> list[str]:
    labels = classifier.contract.labels
    if not reading.faces:
        return [f"{path!s:<32} no face found"]
    lines = []
    for number, face in enumerate(reading.faces, 1):
        box = "{:.0f},{:.0f} {:.0f}×{:.0f}".format(*face.detection.box)
        order = sorted(range(len(labels)), key=lambda i: -face.probabilities[i])
        others = ", ".join(f"{labels[i]} {100 * face.probabilities[i]:.0f} %" for i in order[1:3])
        doubt = "" if face.sure else "  (unsure)"
        share = f"{100 * face.confidence:.0f} %"
        lines.append(f"{path!s:<32} {number:>4}  {box:<21} {face.label:<12} {share:>11}  {others}{doubt}")
    return lines


def _as_json(path: Path, pixels: Pixels, reading: Reading, classifier: Classifier) -> dict[str, Any]:
    labels = classifier.contract.labels
    return {
        "picture": str(path),
        "width": pixels.shape[1],
        "height": pixels.shape[0],
        "detect_ms": round(reading.detect_ms, 2),
        "infer_ms": round(reading.infer_ms, 2),
        "faces": [
            {
                "box": [round(v, 1) for v in face.detection.box],
                "score": round(face.detection.score, 3),
                "label": face.label,
                "sure": face.sure,
                "probabilities": {n: round(float(p), 4) for n, p in zip(labels, face.probabilities, strict=True)},
            }
            for face in reading.faces
        ],
    }


def _save(path: Path, pixels: Pixels, reading: Reading, classifier: Classifier) -> None:
    from edgefer.camera.overlay import draw_face
    from edgefer.camera.pictures import write_picture

    for number, face in reversed(list(enumerate(reading.faces, 1))):
        draw_face(pixels, face.drawn_as(number), classifier.contract.labels)
    write_picture(path, pixels)

"""Fakes that the report's tests share: a runtime in NumPy and a few faces. No figure comes from them."""

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.data import FaceSet
from edgefer.data.npz import save_npz
from edgefer.data.opening import open_dataset
from edgefer.engines.classifier import Classifier
from edgefer.engines.session import TensorSpec
from edgefer.manifest import LayerPrecision
from edgefer.measure.accuracy import Predictions
from edgefer.measure.disturbance import Disturbed, OtherLoad
from edgefer.measure.latency import Interleaved
from edgefer.measure.pacing import Pace
from edgefer.report import bench
from edgefer.report.bench import make_report
from edgefer.report.report import Accuracy, Raw, Row
from edgefer.report.timing import BenchSettings, Timed

CLASSES = ("angry", "happy", "sad")
KEYWORDS = ("processes", "cache", "telemetry")


def benchmark(engine, data, baseline, **settings):
    """As `edgefer.benchmark`; keywords are settings, and nothing is watched unless it is asked for."""
    others = {"telemetry": False, **{key: settings.pop(key) for key in KEYWORDS if key in settings}}
    return bench.benchmark(engine, data, baseline, BenchSettings(**settings), **others)


class FakeSession:
    """Reads the class from a face's first pixel, and errs where ``mistakes`` divides the second."""

    version = "0"

    def __init__(self, name, classes, mistakes, milliseconds):
        self.name = name
        self.classes = classes
        self.mistakes = mistakes
        self.seconds = milliseconds / 1000
        self.closed = False
        self.batches = []

    @property
    def inputs(self):
        return (TensorSpec("faces", "uint8", (None, 4, 4, 1)),)

    @property
    def outputs(self):
        return (TensorSpec("logits", "float32", (None, self.classes)),)

    def run(self, feeds):
        faces = feeds["faces"]
        self.batches.append(len(faces))
        time.sleep(self.seconds)
        wrong = (faces[:, 0, 1, 0] % self.mistakes == 0) if self.mistakes else 0
        return {"logits": np.eye(self.classes, dtype=np.float32)[(faces[:, 0, 0, 0] + wrong) % self.classes]}

    def close(self):
        self.closed = True


@pytest.fixture(scope="session")
def fake_classifier():
    def make(
        runtime="onnxruntime",
        precision="fp32",
        *,
        labels=CLASSES,
        mistakes=0,
        ms=0.2,
        name="fake",
        manifest=None,
        met=None,
    ):
        session = FakeSession(runtime, len(labels), mistakes, ms)
        contract = Contract(labels, 4, 4, 1, Normalisation(), architecture="fakenet")
        about = {"precision": precision, "size_bytes": 1234, "name": name, "manifest": manifest, "met": met}
        return Classifier(session, contract, **about)

    return make


@pytest.fixture
def faces_file(tmp_path) -> str:
    """An npz of 150 different faces, 4×4: a third train, two thirds (100) test; its path."""
    count = 150
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(count) % len(CLASSES)
    images[:, 0, 0, 0] = labels
    images[:, 0, 1, 0] = np.arange(count)
    save_npz(tmp_path / "faces.npz", images, labels, CLASSES, ["train"] * 50 + ["test"] * 100)
    return str(tmp_path / "faces.npz")


@pytest.fixture
def faces(faces_file) -> FaceSet:
    return open_dataset(faces_file)


EXPRESSIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def invented_predictions(wrong, name, count=3500, faces="ab" * 32, classes=EXPRESSIONS):
    """The first ``wrong`` of ``count`` faces are answered as the next class."""
    labels = np.arange(count) % len(classes)
    answers = np.where(np.arange(count) < wrong, (labels + 1) % len(classes), labels)
    logits = (3 * np.eye(len(classes))[answers]).astype(np.float32)
    return Predictions(logits, labels, classes, faces, name)


def invented_rounds(ms, seed=0, rounds=200, spread=0.03):
    return ms * np.random.default_rng(seed).lognormal(0, spread, (rounds, 5))


def invented_report(
    *,
    base_wrong=1200,
    wrong=1205,
    ms=0.5,
    disturbed=(),
    left_out=None,
    faces="ab" * 32,
    settings=None,
    environment=None,
    rounds=200,
    count=3500,
    engine="onnxruntime INT8",
    misses=None,
    warnings=(),
    telemetry=None,
    energies=None,
    gpu_ms=None,
    images=None,
):
    """A report from invented numbers: nothing is timed. Keywords say what is different from the usual."""
    baseline = "PyTorch FP32"
    answers = (
        invented_predictions(base_wrong, "mini", count, faces),
        invented_predictions(wrong, engine, count, faces),
    )
    samples = {baseline: invented_rounds(2.0, 1, rounds), engine: invented_rounds(ms, 2, rounds)}
    layers = tuple(LayerPrecision(f"conv{i}", "Conv", "int8", "int8" if i else "fp32") for i in range(6))
    rows = (
        Row(baseline, "mini", "pytorch", "2.13.0", "fp32", 238_000, Accuracy.of(answers[0])),
        Row(engine, "mini", "onnxruntime", "1.31.1", "int8", 105_000, Accuracy.of(answers[1]), layers=layers),
    )
    paces = {} if misses is None else {engine: Pace(30, 33.3, 400, misses, 0, (0.004, 0.025), 1.0, 0.1)}
    machine = {
        "cpu": "An Example CPU 9000",
        "board": None,
        "cores": 2,
        "instruction_set": ["avx2"],
        "os": "Linux 6",
        **(environment or {}),
    }
    marks = dict.fromkeys(samples, Disturbed(disturbed, disturbed, disturbed))
    load = OtherLoad(0.25, 2, {"chromium": 0.24})
    timing = Interleaved(samples, ())
    found = Timed(timing, paces, energies or {}, gpu_ms or {}, telemetry, load, marks, warnings)
    images = images or SimpleNamespace(origin="folder/faces.npz:test")
    settings = settings or BenchSettings()
    return make_report(rows, Raw(images, answers, samples), found, settings, machine, left_out=left_out)


@pytest.fixture(scope="session")
def invented():
    """:func:`invented_report`."""
    return invented_report


@pytest.fixture
def written(tmp_path, invented):
    """Write an invented report's JSON; its path."""

    def write(name, **changed):
        path = tmp_path / name
        path.write_text(json.dumps(invented(**changed).to_json()), encoding="utf-8")
        return path

    return write

"""Every reader of files from outside, fed damaged ones: an answer or one error of one line, whatever the damage.

A seed file of each kind is mutated: bytes flipped, cut, repeated and moved, numbers and words of texts replaced. What
a reader raises besides an EdgeferError is a fault, and so is a message that a terminal would obey.
``EDGEFER_FUZZ_SECONDS`` sets the time per reader, ``EDGEFER_FUZZ_INPUTS`` a number of inputs instead.
"""

import gzip
import json
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgefer.contract import Contract, Normalisation
from edgefer.contract_file import read_contract
from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.data.classes import FER2013
from edgefer.data.ferplus import COLUMNS, read_votes
from edgefer.deploy.inspect import inspect_file
from edgefer.errors import EdgeferError, printable
from edgefer.golden import Golden
from edgefer.intake import decode_image
from edgefer.manifest import Calibration, Manifest, Precision, read_manifest, write_engine
from edgefer.measure.accuracy import Predictions
from edgefer.optimize.calibration_table import read_table
from edgefer.optimize.settings import recipes_folder
from edgefer.report.report import read_report
from tests.report.conftest import invented_report

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, about values that are refused

INPUTS = int(os.environ.get("EDGEFER_FUZZ_INPUTS", "0"))
EVIL = ("NaN", "1e999", "-1", "9" * 400, "null", "[]", "{}", '""', "true", "0", "1e308", "\\u001b[31m", "..", "１")


@dataclass(frozen=True)
class Reader:
    """A reader: the suffix of its files, a file of that kind, and how it is read."""

    suffix: str
    seed: Callable[[Path], object]
    read: Callable[[Path], object]


def csv(path: Path) -> None:
    rows = [f"{i % 7},{' '.join(['1', '20', '255'] * 768)},{('Training', 'PublicTest')[i % 2]}" for i in range(4)]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")


def zipped(path: Path) -> None:
    csv(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def votes(path: Path) -> None:
    rows = [f"Training,fer{i:07d}.png,{','.join(str(j % 3) for j in range(len(COLUMNS)))}" for i in range(5)]
    path.write_text("\n".join([f"Usage,Image name,{','.join(COLUMNS)}", *rows]) + "\n")


def npz(path: Path) -> None:
    faces, labels = synthetic_faces(8, seed=0)
    save_npz(path, faces, labels, FER2013, ["train", "test"] * 4)


def compressed(path: Path) -> None:
    faces, labels = synthetic_faces(8, seed=0)
    with path.open("wb") as stream:
        np.savez_compressed(stream, images=faces, labels=labels)


def picture(suffix: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        cv2 = pytest.importorskip("cv2")
        path.write_bytes(cv2.imencode(suffix, synthetic_faces(1, seed=0)[0][0])[1].tobytes())

    return write


def open_and_read(path: Path) -> None:
    faces = open_dataset(path)
    for batch in faces.batches(4):
        assert batch is not None


CONTRACT = Contract(
    labels=("no", "yes"), height=4, width=4, channels=1, normalisation=Normalisation(1 / 255), architecture="x"
)


def manifest(path: Path) -> None:
    golden = Golden(np.zeros((1, 4, 4, 1), np.uint8), np.array([[0.5, 1]], np.float32), {"onnxruntime": 0.1})
    calibration = Calibration("ab" * 32, 3, {"no": 3}, "kl", 0, "faces.npz", ("0123456789abcdef",))
    whole = Manifest(
        "", "", "cpu", "onnxruntime", "1.0", ("avx2",), CONTRACT, Precision("int8", "int8"), calibration, golden
    )
    write_engine(path.with_suffix(""), b"engine", whole)
    path.with_suffix("").unlink()


def contract(path: Path) -> None:
    from edgefer.contract_file import render_contract

    path.write_text(render_contract(CONTRACT))


def predictions(path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    Predictions(logits, np.array([0, 1, 0, 1]), ("no", "yes"), "ab" * 32, "net").save(path)


def report(path: Path) -> None:
    path.write_text(json.dumps(invented_report(base_wrong=50, wrong=52, count=200, rounds=40).to_json()))


def copy_of(pattern: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(sorted(recipes_folder().glob(pattern))[0].read_bytes())

    return write


def weights(suffix: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torch = pytest.importorskip("torch")
        from edgefer.models import create

        network = create("lenet", 7)
        small = {name: tensor[:2].clone() for name, tensor in network.state_dict().items()}
        if suffix == ".pth":
            torch.save(small, path)
        else:
            from safetensors.torch import save

            path.write_bytes(save(small, CONTRACT.to_metadata()))

    return write


def onnx_file(path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import helper, numpy_helper

    kernel = numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w")
    shape = numpy_helper.from_array(np.array([1, 2], np.int64), "s")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Reshape", ["b", "s"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", [1, 1, 4, 4]), ("y", [1, 2]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [kernel, shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def adopted(path: Path) -> None:
    from edgefer.graph.adopt import adopt

    adopt(path, CONTRACT, path.with_name("adopted.onnx"), simplify=False)


READERS = {
    "csv": Reader(".csv", csv, open_and_read),
    "csv.gz": Reader(".csv.gz", zipped, open_and_read),
    "votes": Reader(".csv", votes, read_votes),
    "npz": Reader(".npz", npz, open_and_read),
    "compressed npz": Reader(".npz", compressed, open_and_read),
    "png": Reader(".png", picture(".png"), lambda path: decode_image(path.read_bytes(), path.name)),
    "jpeg": Reader(".jpg", picture(".jpg"), lambda path: decode_image(path.read_bytes(), path.name)),
    "manifest": Reader(".onnx.json", manifest, lambda path: read_manifest(path.with_suffix(""))),
    "contract": Reader(".toml", contract, read_contract),
    "predictions": Reader(".npz", predictions, Predictions.load),
    "calibration table": Reader(".jsonl", copy_of("lenet*.calibration.jsonl"), read_table),
    "report": Reader(
        ".json", lambda path: path.write_text(json.dumps(invented_report(count=200, rounds=40).to_json())), read_report
    ),
    "safetensors": Reader(".safetensors", weights(".safetensors"), inspect_file),
    "pth": Reader(".pth", weights(".pth"), inspect_file),
    "onnx": Reader(".onnx", onnx_file, inspect_file),
    "foreign onnx": Reader(".onnx", onnx_file, adopted),
    "plan": Reader(".engine", lambda path: path.write_bytes(b"ftrt" + bytes(range(200))), inspect_file),
}


def mutated(content: bytes, generator: random.Random) -> bytes:
    """``content`` with one to four faults."""
    found = bytearray(content)
    for _ in range(generator.randint(1, 4)):
        at, length = generator.randrange(len(found) + 1), generator.choice((1, 2, 4, 16, 200))
        match generator.randrange(7):
            case 0:
                found[at : at + length] = generator.randbytes(len(found[at : at + length]))
            case 1:
                del found[at:]
            case 2:
                del found[at : at + length]
            case 3:
                found[at:at] = found[generator.randrange(len(found) + 1) :][:length]
            case 4:
                found[at : at + 8] = generator.choice((0, 1, 255, 2**31, 2**63 - 1)).to_bytes(8, "little")
            case _:
                spots = list(re.finditer(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.e+-]*|\w+', bytes(found[:100_000])))
                if spots:
                    spot = generator.choice(spots)
                    found[spot.start() : spot.end()] = generator.choice(EVIL).encode()
    return bytes(found)


def fuzz(reader: Reader, folder: Path, seconds: float, seed: int = 0) -> int:
    """Number of inputs that were tried."""
    path = folder / f"x{reader.suffix}"
    reader.seed(path)
    content, generator, tried = path.read_bytes(), random.Random(seed), 0
    reader.read(path)
    until = time.monotonic() + seconds
    while tried < INPUTS if INPUTS else time.monotonic() < until:
        damaged = mutated(content, generator)
        path.write_bytes(damaged)
        message = "fine"
        try:
            reader.read(path)
        except EdgeferError as refused:
            message = refused.message + (refused.hint or "")
        except Exception as fault:
            (folder / "fault").write_bytes(damaged)
            raise AssertionError(f"input {tried} of seed {seed}, kept as {folder / 'fault'}") from fault
        assert message, f"input {tried}: an error says what is wrong"
        assert message == printable(message), f"input {tried}: {message!a}"
        tried += 1
    return tried


@pytest.mark.parametrize("name", READERS)
def test_a_little(name, tmp_path):
    assert fuzz(READERS[name], tmp_path, 1.0) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_for_long(name, tmp_path, capsys):
    tried = fuzz(READERS[name], tmp_path, float(os.environ.get("EDGEFER_FUZZ_SECONDS", "60")), seed=1)
    with capsys.disabled():
        print(f"{name}: {tried:,} inputs", flush=True)

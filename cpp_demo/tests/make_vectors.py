"""Write what Python answers, for the C++ tests to be held to.

    python cpp_demo/tests/make_vectors.py FOLDER [--only-geometry]

FOLDER gets ``faces.json``, ``turned.json``, ``tracking.json``, ``smoothing.json`` and, unless left out, the engines
``fp32.onnx`` and ``int8.onnx`` of the shipped mini_xception for OpenVINO with their manifests and ``logits.json``.
Pictures are synthetic or noise.
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgefer.camera.detection import Detection, Square, cut
from edgefer.camera.smooth import Smoother, Smoothing
from edgefer.camera.track import TrackedFace, Tracker
from edgefer.contract import Contract, Normalisation
from edgefer.faces import golden_faces, prepare

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "faces.json"


def contract(height: int, width: int, channels: int, margin: float) -> Contract:
    norm = Normalisation(mean=(0.0,) * channels, std=(1.0,) * channels)
    return Contract(("a", "b"), height, width, channels, norm, "none", margin)


def packed(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "bytes": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()}


def face_case(image: np.ndarray, form: str, about: Contract, box: Any, face: np.ndarray) -> dict[str, Any]:
    return {"image": packed(image), "format": form, "box": box, "margin": about.crop_margin, "face": packed(face)}


def picture(generator: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    """Noise over a synthetic face, so that both smooth and rough places are read."""
    face = golden_faces(contract(height, width, channels, 0.0), 1)[0].astype(np.int64)
    return np.clip(face + generator.integers(-60, 61, face.shape), 0, 255).astype(np.uint8)


def faces() -> list[dict[str, Any]]:
    """The committed golden crops, random crops in every format, and NV12 as OpenCV turns it to colour."""
    cases = []
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        image = {"shape": case["image_shape"], "bytes": case["image"]}
        face = {"shape": case["face_shape"], "bytes": case["face"]}
        form = "rgb" if case["image_shape"][2] == 3 else "grey"
        cases.append({"image": image, "format": form, "box": case["box"], "margin": case["crop_margin"], "face": face})
    generator = np.random.default_rng(11)
    for form in ("grey", "rgb", "bgr", "nv12") * 6:
        height, width = (int(v) * 2 for v in generator.integers(4, 60, 2))
        size = tuple(int(v) for v in generator.integers(1, 70, 2))
        about = contract(*size, int(generator.choice([1, 3])), float(generator.choice([0.0, 0.1, 0.37])))
        corner, extent = generator.uniform(-30, 60, 2), generator.uniform(2, 130, 2)
        box = None if generator.random() < 0.2 else [float(v) for v in (*corner, *extent)]
        image = picture(generator, height, width, 1 if form == "grey" else 3)
        stored, seen = image, image
        if form == "bgr":
            stored = image[:, :, ::-1]
        if form == "nv12":
            stored = picture(generator, height * 3 // 2, width, 1)
            seen = cv2.cvtColor(stored, cv2.COLOR_YUV2RGB_NV12)
        cases.append(face_case(stored, form, about, box, prepare(seen, about, None if box is None else tuple(box))))
    return cases


def turned() -> list[dict[str, Any]]:
    """Squares at an angle, cut from a picture without noise, as cameras' pictures are."""
    generator = np.random.default_rng(12)
    image = cv2.GaussianBlur(picture(generator, 90, 120, 3), (0, 0), 1.5)
    cases = []
    for channels in (1, 3) * 6:
        about = contract(48, 48, channels, float(generator.choice([0.0, 0.2])))
        x, y, side, angle = (float(v) for v in generator.uniform((20, 20, 25, -60), (100, 70, 90, 60)))
        face = cut(image, Square(x, y, side, angle), about)
        case = face_case(image, "bgr", about, None, face)
        cases.append({**case, "square": [x, y, side, angle]})
    return cases


def detection(generator: np.random.Generator, x: float, y: float, size: float) -> Detection:
    box = tuple(float(v) for v in (x, y, size, size * generator.uniform(0.9, 1.2)))
    points = generator.uniform(0, size, (5, 2)).astype(np.float32) + np.float32([x, y])
    side = float(size * 0.9)
    crop = Square(x + size / 2, y + size / 2, side, float(generator.uniform(-20, 20)))
    return Detection(box, float(generator.uniform(0.5, 1)), crop, points if generator.random() < 0.7 else None)


def plain(found: Detection) -> dict[str, Any]:
    points = None if found.landmarks is None else [[float(v) for v in row] for row in found.landmarks]
    crop = [found.crop.x, found.crop.y, found.crop.side, found.crop.angle]
    return {"box": list(found.box), "score": found.score, "crop": crop, "landmarks": points}


def shown(tracks: list[TrackedFace]) -> list[dict[str, Any]]:
    return [{"number": t.number, "predicted": t.predicted, **plain(t.detection)} for t in tracks]


def tracking() -> list[dict[str, Any]]:
    """Videos of faces that move, cross, vanish and come back, with pictures that were not searched between."""
    videos = []
    for seed, confirmations in ((1, 1), (2, 2), (3, 3)):
        generator = np.random.default_rng(seed)
        tracker, steps, at = Tracker(confirmations), [], 0.0
        places, speeds = generator.uniform(0, 500, (4, 2)), generator.uniform(-150, 150, (4, 2))
        for step in range(60):
            elapsed = float(generator.uniform(0.01, 0.2))
            at, places = at + elapsed, places + speeds * elapsed
            if step == 45:
                tracker.reset()
            if generator.random() < 0.3:
                steps.append({"at": at, "found": None, "reset": step == 45, "tracks": shown(tracker.predict(at))})
            else:
                seen = [p + generator.normal(0, 2, 2) for p in places if generator.random() < 0.8]
                found = [detection(generator, *(float(v) for v in p), float(generator.uniform(50, 90))) for p in seen]
                tracks = shown(tracker.update(found, at))
                plains = [plain(one) for one in found]
                steps.append({"at": at, "found": plains, "reset": step == 45, "tracks": tracks})
            steps[-1]["wants_search"] = tracker.wants_search
        videos.append({"confirmations": confirmations, "steps": steps})
    return videos


def smoothing() -> list[dict[str, Any]]:
    """A face whose expression changes, smoothed in every way."""
    videos = []
    for kind in ("ema", "majority", "none"):
        generator = np.random.default_rng(5)
        smoother, steps, at, logits = Smoother(Smoothing(kind)), [], 0.0, np.zeros(7)
        for _ in range(80):
            at += float(generator.uniform(0.0, 0.15))
            logits = 0.8 * logits + generator.normal(0, 1.2, 7)
            row = (np.exp(logits) / np.exp(logits).sum()).astype(np.float32)
            smoothed = smoother.update(row, at)
            answer = [float(v) for v in smoothed.probabilities]
            steps.append({"at": at, "in": [float(v) for v in row], "out": answer, "label": smoothed.label})
        videos.append({"kind": kind, "steps": steps})
    return videos


def engines(folder: Path) -> None:
    """The shipped network as FP32 and INT8 engines for OpenVINO, and what Python answers with them."""
    import edgefer
    from edgefer.data.synthetic import synthetic_faces

    images, _ = synthetic_faces(13, seed=3)
    answers = {}
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.onnx"
        edgefer.export("mini_xception", model)
        for precision in ("fp32", "int8"):
            engine = folder / f"{precision}.onnx"
            edgefer.build_engine(model, engine, precision=precision, target=edgefer.BuildTarget("cpu", "openvino"))
            with edgefer.load_engine(engine) as classifier:
                answers[precision] = [
                    row for i in range(len(images)) for row in rows(classifier.logits(images[i : i + 1]))
                ]
                answers[f"{precision}-batch8"] = rows(classifier.logits(images[:8]))
                answers[f"{precision}-probabilities"] = rows(classifier.probabilities(images[:8]))
        with edgefer.load_engine(model) as classifier:
            answers["onnxruntime"] = rows(classifier.logits(images))
    write(folder / "logits.json", {"faces": packed(images), **answers})


def rows(values: np.ndarray) -> list[list[float]]:
    return [[float(v) for v in row] for row in values]


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only-geometry", action="store_true", help="no engines: for tests without OpenVINO")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    for make in (faces, turned, tracking, smoothing):
        write(folder / f"{make.__name__}.json", make())
    if not arguments.only_geometry:
        engines(folder)


if __name__ == "__main__":
    main()

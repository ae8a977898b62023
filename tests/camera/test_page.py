import base64
import http.client
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import cv2
import numpy as np
import pytest

from edgefer.camera import serving
from edgefer.camera.page import LONGEST_SIDE, SAMPLE_LABELS, Page, report_of_engine, sample_picture
from edgefer.camera.predict import predict
from edgefer.contract import Contract, Normalisation
from edgefer.engines.classifier import Classifier
from edgefer.engines.load import load_baseline, load_engine
from edgefer.engines.onnxruntime import OnnxRuntimeSession
from edgefer.errors import EdgeferError
from edgefer.measure.disturbance import LoadMeter, OtherLoad
from edgefer.models import default_engine

from .browser import CHROMIUM, DRIVER, browser
from .conftest import CONTRACT, DETECTOR, FakeDetector, brightness_model, detection, needs_detector


def jpeg(level, size=(120, 160)):
    return cv2.imencode(".jpg", np.full((*size, 3), level, np.uint8))[1].tobytes()


@pytest.fixture
def page(classifier):
    detector = FakeDetector(lambda _, __: [detection(10, 10, 40), detection(60, 20, 90)])
    return Page([classifier], detector, max_bytes=200_000)


@pytest.fixture
def served(page):
    with page.open("127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def ask(url, body=None, **headers):
    request = urllib.request.Request(url, body, {name.replace("_", "-"): text for name, text in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read(), fault.headers


def test_a_picture_is_answered_with_its_faces_largest_first(served):
    status, body, _ = ask(f"{served}/api/predict", jpeg(250))
    found = json.loads(body)
    assert status == 200
    assert (found["width"], found["height"], found["found"]) == (160, 120, 2)
    assert [face["box"] for face in found["faces"]] == [[60, 20, 90, 90], [10, 10, 40, 40]]
    answer = found["faces"][0]["engines"][0]
    assert answer["label"] == "bright"
    assert answer["sure"]
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-3)
    crop = base64.b64decode(found["faces"][0]["crop"].split(",")[1])
    assert cv2.imdecode(np.frombuffer(crop, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (24, 24)


def test_a_picture_that_is_a_face_already(served):
    found = json.loads(ask(f"{served}/api/predict?whole=1", jpeg(0))[1])
    assert found["detect_ms"] is None
    assert [(face["box"], face["engines"][0]["label"]) for face in found["faces"]] == [([0, 0, 160, 120], "dark")]


def test_a_large_picture_is_shrunk_before_it_is_searched(page):
    found = page.predict(cv2.imencode(".png", np.zeros((900, 3200, 3), np.uint8))[1].tobytes(), whole=False)
    assert (found["width"], found["height"]) == (LONGEST_SIDE, 450)


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(served):
    status, body, headers = ask(f"{served}/")
    text = body.decode()
    assert status == 200
    assert "http://" not in text.replace("http://localhost", "")
    assert "src=" not in text.replace(".src =", "")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_latency_is_a_median_that_says_what_disturbed_it(page, monkeypatch):
    load = OtherLoad(1.2, 2, {"someone": 1.0})
    monkeypatch.setattr(LoadMeter, "read", lambda _: load)
    (told,) = page.predict(jpeg(250), whole=True)["latency"]
    assert told["calls"] >= 5
    assert told["p50_ms"] > 0
    assert load.sentence() in told["disturbed"]  # the idle core does not take all of it
    load = OtherLoad(0.1, 2)
    (again,) = page.predict(jpeg(0), whole=True)["latency"]
    assert again == told, "a webcam's pictures do not wait for a new measurement each"
    page._latency = None
    (fresh,) = page.predict(jpeg(0), whole=True)["latency"]
    assert load.sentence() not in fresh["disturbed"]
    page.detector = FakeDetector(lambda _, __: [])
    assert page.predict(jpeg(250), whole=False)["latency"] is None


def test_an_engine_of_weights_that_ship_shows_their_accuracy(classifier):
    with load_engine(default_engine()) as engine:
        (card,) = Page([engine], FakeDetector(lambda _, __: [])).about()["engines"]
    assert re.match(r"\d\d\.\d % \[[\d.]+, [\d.]+\] of 3,390 faces of FER\+'s public test", card["accuracy"])
    with load_baseline("cliquenet_ferplus", 1) as baseline:
        (named,) = Page([baseline], FakeDetector(lambda _, __: [])).about()["engines"]
    assert named["accuracy"] == card["accuracy"]
    (card,) = Page([classifier], FakeDetector(lambda _, __: [])).about()["engines"]
    assert card["accuracy"] is None  # nobody knows these weights


def test_the_page_knows_engine_and_limits(served):
    about = json.loads(ask(f"{served}/api/about")[1])
    assert about["labels"] == ["dark", "medium", "bright"]
    assert about["max_bytes"] == 200_000
    assert about["report"] is None
    (card,) = about["engines"]
    assert (card["network"], card["precision"], card["input"]) == ("brightness", "fp32", "24×24 grey")


@pytest.mark.parametrize(
    ("body", "status", "message", "hint"),
    [
        (b"I am a text, whatever my name", 422, "not an image: it begins with the text 'I am a text", "JPEG, PNG"),
        (b"", 422, "the upload is empty", "again"),
        (jpeg(1)[:300], 422, "damaged or cut short", "JPEG, PNG"),
        (b"x" * 200_001, 413, "the upload has 0.2 MB, and 0.2 MB are allowed", "--max-megabytes"),
    ],
)
def test_bad_uploads_are_refused_with_a_reason(served, body, status, message, hint):
    found, content, headers = ask(f"{served}/api/predict", body)
    answer = json.loads(content)
    assert found == status
    assert headers["Content-Type"].startswith("application/json")
    assert message in answer["error"]
    assert hint in answer["hint"]


def test_500_megabytes_are_refused_before_they_are_sent(served):
    connection = http.client.HTTPConnection(served.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/api/predict")
    connection.putheader("Content-Length", str(500_000_000))
    connection.endheaders()
    answer = connection.getresponse()  # nothing of the body was sent
    assert answer.status == 413
    assert "500.0 MB" in json.load(answer)["error"]
    connection.close()


def test_a_client_that_asks_first_is_told_before_it_sends(served):
    host, port = served.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        head = f"POST /api/predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 500000000\r\n"
        head += "Expect: 100-continue\r\n\r\n"
        line.sendall(head.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 413")


def test_an_upload_without_a_length_is_refused(served):
    connection = http.client.HTTPConnection(served.removeprefix("http://"), timeout=10)
    connection.request("POST", "/api/predict", iter([b"abc"]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 411
    assert "does not state its length" in json.load(answer)["error"]
    assert ask(f"{served}/api/predict", b"abc", Content_Length="9" * 5000)[0] == 411  # more digits than Python reads


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "message"),
    [
        ("/../../etc/passwd", None, {}, 404, "there is no /../../etc/passwd"),
        ("/api/other", b"x", {}, 404, "there is no /api/other"),
        ("/", None, {"Host": "evil.example"}, 403, "is not called 'evil.example'"),
        ("/api/predict", b"x", {"Origin": "https://evil.example"}, 403, "a page of https://evil.example may not"),
    ],
)
def test_foreign_pages_and_paths_are_refused(served, path, body, headers, status, message):
    found, content, _ = ask(served + path, body, **headers)
    assert found == status
    assert message in json.loads(content)["error"]


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "192.168.1.5:8080", "LOCALHOST", socket.gethostname()])
def test_addresses_and_own_names_are_answered(served, host):
    assert ask(f"{served}/api/about", Host=host)[0] == 200


def connect(served, source="127.0.0.1"):
    host, port = served.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))


def closed(line):
    try:
        return line.recv(1) == b""
    except ConnectionError:
        return True


def test_one_who_trickles_keeps_nobody_out(served, monkeypatch):
    monkeypatch.setattr(serving, "_REQUEST_SECONDS", 0.5)
    with ExitStack() as stack:
        lines = [stack.enter_context(connect(served, "127.0.0.2")) for _ in range(16)]
        for line in lines:
            line.sendall(b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert ask(f"{served}/api/about")[0] == 200
        assert closed(stack.enter_context(connect(served, "127.0.0.2"))), "16 connections are one visitor's share"
        until = time.monotonic() + 10
        while lines and time.monotonic() < until:
            for line in list(lines):
                try:
                    line.sendall(b"x")
                except ConnectionError:
                    lines.remove(line)
            time.sleep(0.05)
        assert not lines, "each had its half second"
        with connect(served, "127.0.0.2") as line:
            line.sendall(b"GET /api/about HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert line.recv(15).startswith(b"HTTP/1.1 200")


def test_many_at_once_are_all_answered(served):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(f"{served}/api/predict", jpeg(250))[0])) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 12


def other(labels):
    contract = Contract(labels, 24, 24, 1, Normalisation(), "other")
    content = brightness_model(contract)
    session = OnnxRuntimeSession(content)
    return Classifier(session, contract, precision="fp32", size_bytes=9, name="other.onnx")


def test_two_engines_stand_side_by_side_on_the_same_faces(classifier):
    detector = FakeDetector(lambda _, __: [detection(10, 10, 40)])
    with other(CONTRACT.labels) as second:
        found = Page([classifier, second], detector).predict(jpeg(250), whole=False)
    assert detector.calls == 1
    assert len(found["infer_ms"]) == 2
    assert [answer["label"] for answer in found["faces"][0]["engines"]] == ["bright", "bright"]


def test_engines_of_other_classes_cannot_stand_side_by_side(classifier):
    with (
        other(("a", "b", "c")) as second,
        pytest.raises(EdgeferError, match=r"other\.onnx has the labels a, b, c") as fault,
    ):
        Page([classifier, second], FakeDetector(lambda _, __: []))
    assert "--beside" in fault.value.hint


def report(size, **changes):
    row = {
        "model": "brightness",
        "runtime": "onnxruntime",
        "precision": "fp32",
        "accuracy": {"top1": 0.62, "n": 3573},
        "baseline": {},
        "paired": None,
        "latency_ms": {"p50": 0.3},
        "disturbed": {"p50": []},
        "size_bytes": size,
        "batch": 1,
        "threads": 1,
        "environment": {"cpu": "a CPU"},
    }
    return json.dumps({**row, **changes})


def test_the_card_shows_the_report_of_this_engine_only(tmp_path, classifier):
    path = tmp_path / "report.json"
    size = classifier.size_bytes
    path.write_text(report(size))
    found = report_of_engine(path, classifier)
    assert found["accuracy"] == {"top1": 0.62, "n": 3573}
    assert found["disturbed"] == {"p50": []}, "the card marks a disturbed median"
    for other in (report(size, precision="int8"), report(size + 1)):  # the same network with other weights
        path.write_text(other)
        with pytest.raises(EdgeferError, match=r"reports brightness/.* and not brightness/onnxruntime/fp32/"):
            report_of_engine(path, classifier)


@pytest.mark.parametrize("content", [None, "no json", "[]", "{}"])
def test_what_is_no_report_is_refused_by_name(tmp_path, classifier, content):
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)
    said = r"there is no report .*report\.json|report\.json (cannot be read|is not a report of `edgefer bench --json`)"
    with pytest.raises(EdgeferError, match=said) as fault:
        report_of_engine(path, classifier)
    assert "--json report.json" in fault.value.hint


BOX_COLOURS = """
const pen = document.querySelector('#canvas').getContext('2d');
return [[60, 60], [10, 40]].map(([x, y]) => {
  const [red, , blue] = pen.getImageData(x, y, 1, 1).data;
  return blue > 200 ? 'blue' : red > 200 ? 'amber' : 'none';
});"""
"""Of the left edges of both boxes."""
LIT = "return [...document.querySelectorAll('.face')].map(card => card.classList.contains('lit'))"


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver (apt install)")
def test_a_picture_is_uploaded_in_a_browser_and_its_label_read(served, tmp_path):
    (tmp_path / "bright.jpg").write_bytes(jpeg(250))
    (tmp_path / "dark.png").write_bytes(cv2.imencode(".png", np.zeros((90, 90, 3), np.uint8))[1].tobytes())
    (tmp_path / "text.jpg").write_text("I am a text")
    (tmp_path / "large.bin").write_bytes(b"\0" * 200_001)
    (tmp_path / "downloads").mkdir()
    with browser(tmp_path / "profile") as page:
        page.downloads_to(tmp_path / "downloads")
        for width, height in ((390, 844), (1280, 800)):
            page.size(width, height)
            page.open(served)
            page.wait("return document.querySelectorAll('#about .card').length == 1")
            page.choose_file("#file", tmp_path / "bright.jpg")
            page.wait("return document.querySelectorAll('.face .label').length == 2")
            assert page.texts(".face .label") == ["bright", "bright"]
            assert page.texts("#say")[0].startswith("2 faces")
            assert page.run("return document.documentElement.scrollWidth") <= width  # nothing sticks out sideways
            assert re.search(r"one face FP32 ~?[\d.]+ ms \(median of \d+ calls\)", page.texts("#say")[0])
            assert page.run(BOX_COLOURS) == ["amber", "amber"]
            page.run("document.querySelectorAll('.face')[1].focus()")
            assert page.run(BOX_COLOURS) == ["amber", "blue"]
            assert page.run(LIT) == [False, True]
            page.run("document.activeElement.blur()")
            assert page.run(BOX_COLOURS) == ["amber", "amber"]
            page.point_at("#canvas", 120 / 160, 100 / 120)  # in the box of the first face alone
            assert page.run(BOX_COLOURS) == ["blue", "amber"]
            assert page.run(LIT) == [True, False]
            page.point_at(".face:nth-child(2)", 0.5, 0.5)
            assert page.run(BOX_COLOURS) == ["amber", "blue"]
            page.run("document.querySelector('#json').click()")
            (answer,) = page.downloaded(tmp_path / "downloads", "*.json")
            assert [face["box"] for face in answer["faces"]] == [[60, 20, 90, 90], [10, 10, 40, 40]]
            assert list(answer["faces"][0]["engines"][0]["probabilities"]) == ["dark", "medium", "bright"]
            page.run("document.querySelector('#whole').click()")  # acts on the picture that is there
            page.wait("return document.querySelectorAll('.face .label').length == 1")
            assert page.texts(".face .label") == ["bright"]
            page.choose_file("#photo", tmp_path / "dark.png")
            page.wait("return document.querySelector('.face .label').innerText == 'dark'")
            assert page.texts(".face .label") == ["dark"]
            for name, message in (
                ("text.jpg", "begins with the text 'I am a text'"),
                ("large.bin", "0.2 MB are allowed"),
            ):
                page.choose_file("#file", tmp_path / name)
                page.wait("return document.querySelector('#say.bad')")
                assert message in page.texts("#say")[0]
                assert page.texts(".face") == []
                assert page.run("return document.querySelector('#json').hidden")
            page.run("document.querySelector('#sample').click()")
            page.wait("return document.querySelectorAll('.face').length == 1")
        assert page.screenshot().startswith(b"\x89PNG")


@needs_detector
def test_the_sample_shows_what_the_engine_that_ships_can():
    from edgefer.camera.detectors import open_detector

    picture = sample_picture()
    assert picture.shape == (420, 720, 3)
    found = predict(picture, None, open_detector(DETECTOR))
    assert tuple(face.label for face in sorted(found.faces, key=lambda face: face.box[0])) == SAMPLE_LABELS
    assert all(face.confidence > 0.7 for face in found.faces)

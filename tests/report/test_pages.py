"""The page and the Markdown: whole, self-contained, readable in a browser; and the samples as files."""

import csv
import re
import shutil
import struct
import subprocess
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from edgefer.data import open_dataset, save_npz
from edgefer.errors import EdgeferError
from edgefer.manifest import LayerPrecision
from edgefer.measure.pacing import Pace
from edgefer.report import charts, svg
from edgefer.report.bench import write_samples
from edgefer.report.evaluated import LeftOut
from edgefer.report.markdown import markdown
from edgefer.report.page import layer_map, page, png
from edgefer.report.report import Report
from edgefer.report.terminal import detail_lines, digits
from edgefer.report.timing import Energy

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects tags and text, and holds that what is opened is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for key, value in attributes if key in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture
def faces(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3500, 6, 5, 1), dtype=np.uint8)
    save_npz(tmp_path / "faces.npz", images, np.arange(3500) % 7)
    return open_dataset(tmp_path / "faces.npz")


def test_the_page_is_whole_and_needs_nothing_from_elsewhere(invented):
    text = page(invented())
    found = read(text)
    assert found.links == []
    assert "script" not in found.tags
    assert not re.search(r"https?://|@import|url\(", text)
    assert found.tags.count("svg") == 7, "histogram, CDF, Pareto, a forest, two confusions and a difference"
    words = "".join(found.text)
    for title in ("Latency", "Accuracy", "Confusion", "Layer by layer", "Measured on"):
        assert title in words
    assert "5 of 6 weighted layers in INT8, 1 in FP32" in words
    assert "An Example CPU 9000" in words
    assert "no worse than 0.5 points: shown" in words
    assert len(text) < 120_000


def test_the_page_has_every_switch(invented, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    text = page(invented())
    assert "<td>variables</td><td>OMP_NUM_THREADS=3" in text
    assert "scope e2e" in text
    assert "{&#x27;" not in text


def test_names_cannot_break_the_page(invented):
    text = page(invented(engine="<b>&\"x' onnxruntime"))
    read(text)
    assert "<b>&\"x'" not in text
    assert "&lt;b&gt;&amp;" in text


def test_disturbed_figures_are_grey_on_the_page_and_marked_in_markdown(invented):
    report = invented(disturbed=("it drifted & fell",))
    text, median = page(report), report.engines[0].latency.p50
    assert f'<span class="disturbed" title="it drifted &amp; fell">{digits(median)}<' in text
    assert "</span> it drifted &amp; fell</p>" in text
    assert 'class="disturbed"' not in page(invented())
    assert f"| ~{digits(median)} |" in markdown(report)
    assert "> ~ disturbed: it drifted & fell" in markdown(report)
    assert "~" not in markdown(invented())


def test_faces_that_were_left_out_are_told_everywhere(invented):
    report = invented(left_out=LeftOut(3514, {"trained mini": 12, "calibrated a.onnx": 2}))
    told = "14 of 3,514 test faces are left out: 12 trained mini, 2 calibrated a.onnx"
    content = report.to_json()
    assert told in page(report)
    assert told in markdown(report)
    assert told in content["environment"]["warnings"]
    assert content["accuracy"]["left_out"] == 14
    assert content["details"]["left_out"]["reasons"] == {"trained mini": 12, "calibrated a.onnx": 2}


def test_pictures_are_in_the_page_only_where_they_were_asked_for(invented, faces):
    report = invented(wrong=1230, images=faces)
    assert "<img" not in page(report)
    found = read(page(report, with_images=True))
    assert found.tags.count("img") == 30
    assert all(link.startswith("data:image/png;base64,") for link in found.links)
    assert "30 of 3,500 answers changed" in "".join(found.text)
    with pytest.raises(EdgeferError, match="evaluated faces are not at hand"):
        page(Report.from_json(report.to_json()), with_images=True)


def test_a_face_as_png_is_decoded_to_the_same_pixels():
    for channels in (1, 3):
        face = np.random.default_rng(0).integers(0, 256, (7, 5, channels), dtype=np.uint8)
        content = png(face)
        width, height = struct.unpack(">II", content[16:24])
        assert (width, height) == (5, 7)
        start = content.index(b"IDAT") + 4
        length = struct.unpack(">I", content[start - 8 : start - 4])[0]
        lines = np.frombuffer(zlib.decompress(content[start : start + length]), np.uint8).reshape(7, 1 + 5 * channels)
        assert np.array_equal(lines[:, 1:].reshape(face.shape), face)
        cv2 = pytest.importorskip("cv2")
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(decoded.reshape(7, 5, channels)[..., ::-1], face)


def test_the_front_has_what_nothing_beats():
    points = [(1.0, 60.0), (2.0, 59.0), (3.0, 65.0), (0.5, 50.0), (3.0, 64.0), (4.0, 65.0)]
    assert charts._front(points) == [(0.5, 50.0), (1.0, 60.0), (3.0, 65.0)]


@pytest.mark.parametrize(
    ("low", "high"), [(0.19, 11.7), (0.24, 0.29), (1.0, 1.02), (0.001, 900), (47, 53), (3.2, 3.3), (95, 1500)]
)
def test_logarithmic_axes_have_a_few_ticks_in_their_range(low, high):
    ticks = svg.Scale(low, high, 0, 100, logarithmic=True).ticks()
    assert 2 <= len(ticks) <= 8
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("low", "high"), [(0, 100), (-3.2, 4.1), (59.3, 64.8), (-0.02, 0.03)])
def test_linear_axes_too(low, high):
    ticks = svg.Scale(low, high, 0, 100).ticks()
    assert 3 <= len(ticks) <= 11
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_scales_put_values_where_they_belong():
    linear = svg.Scale(0, 10, 100, 200)
    assert (linear(0), linear(5), linear(10), linear(99)) == (100, 150, 200, 200)
    assert svg.Scale(1, 100, 0, 10, logarithmic=True)(10) == 5
    assert svg.Scale(1, 100, 0, 10, logarithmic=True)(0) == 0


def test_a_layer_that_got_something_else_than_asked_is_hatched():
    text = layer_map([LayerPrecision("a", "Conv", "int8", "int8"), LayerPrecision("b<", "Conv", "int8", "fp16")])
    assert text.count("layer other") == 1
    assert "b&lt;, Conv: fp16 (asked for: int8)" in text


def test_markdown_has_a_row_a_network_and_a_row_a_class(invented):
    text = markdown(invented())
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert any("PyTorch FP32 (PyTorch FP32, baseline)" in row for row in rows)
    assert sum(row.startswith("| disgust | 500 |") for row in rows) == 1
    widths = {line.count("|") for line in rows if "p50" in line or "INT8) | 0.5" in line}
    assert len(widths) == 1
    assert "- processor: An Example CPU 9000" in text
    assert "- onnxruntime INT8: no worse than 0.5 points: shown" in text


def test_below_the_table_stand_margin_classes_pace_and_energy(invented):
    report = invented(wrong=1300, energies={"onnxruntime INT8": Energy("INA3221", 0.0042)})
    object.__setattr__(report.engines[0], "pace", Pace(30, 20.0, 100, 7, 2, (0.03, 0.14), 1.5, 0.1))
    text = "\n".join(detail_lines(report))
    assert "macro-F1" in text
    assert "worse than 0.5 points: at least +" in text
    assert "at 30 frames per second: 7 of 100 answers missed 20 ms, 2 frames dropped, jitter 1.5 ms" in text
    assert "4.2 mJ an image (INA3221" in text
    read(page(report))


def test_samples_are_all_there(invented, tmp_path):
    report = invented(rounds=3)
    samples = report.raw.rounds_ms
    write_samples(samples, tmp_path / "s.csv")
    with open(tmp_path / "s.csv", encoding="utf-8") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["name", "round", "call", "ms"]
    assert len(rows) == 2 * 3 * 5
    assert float(rows[-1][3]) == pytest.approx(samples["onnxruntime INT8"][2, 4], abs=1e-6)
    write_samples(samples, tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as archive:
        assert np.array_equal(archive["PyTorch FP32"], samples["PyTorch FP32"])
    with pytest.raises(EdgeferError, match=r"\.csv or \.npz, not s\.txt") as caught:
        write_samples(samples, tmp_path / "s.txt")
    assert "samples.csv" in caught.value.hint


def test_a_notebook_shows_the_page_and_keeps_its_own_style(invented):
    report = invented()
    assert repr(report).startswith("<Report mini on faces.npz:test; INT8 (onnxruntime INT8): 4.0 × faster")
    text = report._repr_html_()
    found = read(text)
    assert found.links == []
    assert not {"script", "html", "body", "main"} & set(found.tags)
    assert not re.search(r"https?://|@import|url\(", text)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    selectors = [part.strip() for part in re.findall(r"([^{}]+)\{", style) if not part.strip().startswith("@")]
    assert len(selectors) > 50
    assert all(one.startswith(".edgefer-report") for part in selectors for one in part.split(","))
    assert "@container (max-width" in style
    assert not re.search(r"@media[^{]*width", style), "its width is the cell's, not the window's"


def title_in_chromium(page, width):
    """The title that a page's script set, in a window of ``width`` pixels."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900", "--dump-dom"]
    done = subprocess.run([*command, f"file://{page}"], capture_output=True, text=True, check=True)
    return re.search(r"<title>(.*?)</title>", done.stdout)[1]


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "shown"), [(600, "none"), (1300, "table-header-group")])
def test_in_a_notebook_it_answers_to_the_width_of_its_cell(invented, tmp_path, cell, shown):
    script = (
        "const e=document.querySelector('.edgefer-report');document.title=e.scrollWidth-e.clientWidth+' '"
        "+getComputedStyle(e.querySelector('.stack thead')).display"
    )
    content = invented(engine="cliquenet_ferplus.fine-tuned-on-our-own-faces.x86-vnni.int8.onnx")._repr_html_()
    page = f'<title></title><div style="width:{cell}px">{content}</div><script>{script}</script>'
    (tmp_path / "notebook.html").write_text(f"<!doctype html>{page}", encoding="utf-8")
    assert title_in_chromium(tmp_path / "notebook.html", 1400) == f"0 {shown}"


@pytest.mark.slow
@pytest.mark.parametrize("width", [500, 1000, 1400])  # a window of Chromium is no narrower than 500; a frame is
def test_a_browser_draws_it_without_cutting_anything_off(invented, faces, tmp_path, width):
    long = "cliquenet_ferplus.fine-tuned-on-our-own-faces.x86-vnni.int8.onnx"
    report = invented(wrong=1230, images=faces, engine=long, misses=4, disturbed=("others used 0.31 of 2 cores",))
    check = (
        "<script>document.title=Math.max(document.documentElement.scrollWidth-innerWidth,"
        "...[...document.querySelectorAll('.wide')].map(e=>e.scrollWidth-e.clientWidth))+' '+innerWidth</script></body>"
    )
    whole = page(report, with_images=True).replace("</body>", check)
    (tmp_path / "p.html").write_text(whole, encoding="utf-8")
    excess, there = map(int, title_in_chromium(tmp_path / "p.html", width).split())
    assert there == width
    assert excess <= 0, "neither the page nor a table is wider than the window"

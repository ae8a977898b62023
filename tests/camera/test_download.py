import hashlib
import http.server
import threading

import pytest

from edgefer.camera.download import YUNET_FILE, YUNET_SHA256, yunet_file
from edgefer.errors import EdgeferError

CONTENT = b"a small file that stands for YuNet"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(monkeypatch, tmp_path):
    """A server with the file, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/yunet", asked
        server.shutdown()


def test_it_is_downloaded_once_and_said(site, capsys, tmp_path):
    url, asked = site
    path = yunet_file(url=url, sha256=SHA256)
    assert path == tmp_path / "cache" / "edgefer" / YUNET_FILE
    assert path.read_bytes() == CONTENT
    told = capsys.readouterr().err
    assert url in told
    assert "MIT" in told
    assert yunet_file(url=url, sha256=SHA256) == path
    assert len(asked) == 1
    assert capsys.readouterr().err == ""


def test_a_damaged_cache_is_fetched_again(site):
    url, asked = site
    path = yunet_file(url=url, sha256=SHA256)
    path.write_bytes(CONTENT[:10])
    assert yunet_file(url=url, sha256=SHA256).read_bytes() == CONTENT
    assert len(asked) == 2


def test_another_file_than_the_pinned_one_is_refused_and_not_kept(site, tmp_path):
    with pytest.raises(EdgeferError) as fault:
        yunet_file(url=site[0])
    assert f"its sha256 is {SHA256[:16]}…, not {YUNET_SHA256[:16]}…" in fault.value.message
    assert "--detector FILE" in fault.value.hint
    assert not (tmp_path / "cache" / "edgefer" / YUNET_FILE).exists()


def test_without_a_network_the_file_can_be_given(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(EdgeferError, match="cannot be downloaded from http://127.0.0.1:9/x") as fault:
        yunet_file(url="http://127.0.0.1:9/x")
    assert "--detector haar" in fault.value.hint


def test_the_pinned_hash_is_that_of_the_file_of_opencv_s_zoo(shared):
    path = shared / "detectors" / YUNET_FILE
    if not path.is_file():
        pytest.skip("YuNet is not here: no ../shared/detectors beside the project")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == YUNET_SHA256

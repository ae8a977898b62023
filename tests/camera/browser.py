"""A headless Chromium, driven over WebDriver's plain HTTP (https://www.w3.org/TR/webdriver2/)."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of an element's reference, fixed by the standard

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")


class Browser:
    def __init__(self, base):
        self._base = base

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as fault:
            raise AssertionError(fault.read().decode()) from fault

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def size(self, width, height):
        """Of the page itself, phones' included, which no window can be as narrow as."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    def downloads_to(self, folder):
        settings = {"behavior": "allow", "downloadPath": str(folder)}
        self.call("POST", "/goog/cdp/execute", {"cmd": "Browser.setDownloadBehavior", "params": settings})

    def downloaded(self, folder, pattern, seconds=10):
        """The JSON files that arrive, taken away."""
        until = time.monotonic() + seconds
        while not (files := list(folder.glob(pattern))) or list(folder.glob("*.crdownload")):
            assert time.monotonic() < until, f"nothing was downloaded to {folder}"
            time.sleep(0.05)
        found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        for file in files:
            file.unlink()
        return found

    def point_at(self, selector, across, down):
        """Move the mouse to a place within an element, given as shares of its width and height."""
        script = "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'nearest'});"
        box = self.run(script + "const b = e.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]", selector)
        place = {"x": round(box[0] + across * box[2]), "y": round(box[1] + down * box[3])}
        self.call(
            "POST", "/goog/cdp/execute", {"cmd": "Input.dispatchMouseEvent", "params": {"type": "mouseMoved", **place}}
        )

    def choose_file(self, selector, path):
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        self.call("POST", f"/element/{found[ELEMENT]}/value", {"text": str(path)})

    def texts(self, selector):
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)

    def wait(self, script, seconds=20):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := self.run(script):
                return found
            time.sleep(0.1)
        raise AssertionError(f"in {seconds} s never true: {script}; the page says {self.texts('#say')}")

    def screenshot(self):
        return base64.b64decode(self.call("GET", "/screenshot"))


@contextmanager
def browser(profile):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{base}/status", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--user-data-dir={profile}",
        ]
        options = {"binary": CHROMIUM, "args": arguments}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = Browser(base).call("POST", "/session", wanted)["sessionId"]
        opened = Browser(f"{base}/session/{session}")
        try:
            yield opened
        finally:
            opened.call("DELETE", "")
    finally:
        driver.terminate()
        driver.wait(10)

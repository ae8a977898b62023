"""The film as MJPEG over HTTP: a browser, VLC or another program looks at it while it runs."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

from edgefer.camera.pictures import encode_jpeg
from edgefer.camera.seen import Seen
from edgefer.camera.serving import Handler, address, open_server
from edgefer.progress import announce

_BOUNDARY = "frame"
_PAGE = (
    b'<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>edgefer</title>'
    b"<style>body{margin:0;background:#111}img{display:block;width:100%;height:100vh;object-fit:contain}</style>"
    b'<img src="/stream" alt="the camera with its labels">'
)


class Stream:
    """Serves ``/`` (a page), ``/stream`` (MJPEG) and ``/snapshot.jpg``. A slow visitor misses frames.

    Raises:
        EdgeferError: the port is in use.
    """

    wants_picture = True

    def __init__(self, host: str, port: int) -> None:
        self._changed = threading.Condition()
        self._jpeg = b""
        self._number = 0
        self._waiting = 0
        self._closed = False
        self._server = open_server(host, port, _handler_for(self))
        self.address = address(self._server)
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="http").start()
        announce(f"streaming on {self.address}")

    def write(self, seen: Seen) -> bool:
        """Encode the frame if anybody is waiting for one."""
        with self._changed:
            if self._waiting:
                self._jpeg = encode_jpeg(seen.frame.pixels)
                self._number += 1
                self._changed.notify_all()
        return True

    def close(self) -> None:
        """End all streams and give the port back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def next_jpeg(self) -> bytes | None:
        """Wait for the next frame; None at the end."""
        with self._changed:
            after = self._number
            self._waiting += 1
            self._changed.wait_for(lambda: self._number > after or self._closed)
            self._waiting -= 1
            return None if self._closed else self._jpeg


def _handler_for(stream: Stream) -> type[Handler]:
    class StreamHandler(Handler):
        def do_GET(self) -> None:  # noqa: N802  # the base class looks for this name
            path = urlsplit(self.path).path  # some add ?time=… against caches
            if path == "/":
                self.answer(200, _PAGE, "text/html; charset=utf-8")
            elif path == "/snapshot.jpg":
                jpeg = stream.next_jpeg()
                if jpeg is not None:
                    self.answer(200, jpeg, "image/jpeg")
            elif path == "/stream":
                self._stream()
            else:
                self.answer_json(404, {"error": "there are /, /stream and /snapshot.jpg"})

        def _stream(self) -> None:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            while (jpeg := stream.next_jpeg()) is not None:
                head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode("ascii") + jpeg + b"\r\n")

    return StreamHandler

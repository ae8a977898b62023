"""A small HTTP server for pages and streams: the standard library's, with what a careful one needs.

Nothing has to be installed for it on a device, and nothing phones home. Python's manual calls ``http.server`` not
recommended for production; it is for a laptop and a lab network here, so it listens on this machine only unless a host
is named, answers known paths only, and refuses requests of other web pages. A visitor has a deadline for a request and
a number of connections, so that one who trickles bytes keeps nobody out.
"""

from __future__ import annotations

import errno
import ipaddress
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from edgefer.errors import EdgeferError, one_line

LOCAL = ("127.0.0.1", "localhost", "::1")

_SILENT_SECONDS = 30.0
_REQUEST_SECONDS = 60.0
"""From waiting for a request to its last byte: a photo of 20 MB over 3 Mbit/s."""
_MAX_CONNECTIONS = 32
_MAX_OF_ONE = 16
"""Connections of one address; a browser opens six."""


class Handler(BaseHTTPRequestHandler):
    """The base of all our handlers: short answers, headers against misuse, no log lines."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgefer", ""
    timeout = _SILENT_SECONDS  # of a silent connection

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet: stderr carries the app's notices."""

    def handle_one_request(self) -> None:
        """Read a request within its deadline, and answer it."""
        server: Any = self.server
        with server.deadline(self.connection):
            super().handle_one_request()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer, which takes as long as it takes: the request is here."""
        server: Any = self.server
        server.expect_nothing(self.connection)
        super().send_response(code, message)

    def parse_request(self) -> bool:
        """Refuse a request that a foreign page's name led here (DNS rebinding): such a page has a name of its own."""
        if not super().parse_request():
            return False
        host = urlsplit(f"//{self.headers.get('Host') or ''}").hostname or ""
        server: Any = self.server
        if not server.is_called(host):
            self.close_connection = True
            self.answer_json(403, {"error": f"this server is not called '{one_line(host, 100)}'"})
            return False
        return True

    def answer(self, status: int, content: bytes, kind: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, status: int, content: object) -> None:
        """Send ``content`` as JSON."""
        self.answer(status, json.dumps(content, ensure_ascii=False).encode(), "application/json; charset=utf-8")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._expected: dict[socket.socket, float] = {}
        self._of: Counter[str] = Counter()
        super().__init__(address, handler)

    def is_called(self, host: str) -> bool:
        """Whether a request for ``host`` is meant for us: an address, this machine's name, or what was listened on."""
        name = host.lower().rstrip(".")
        own = socket.gethostname().lower()
        if name in (*LOCAL, str(self.server_address[0]).lower(), own, f"{own.split('.')[0]}.local"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    @contextmanager
    def deadline(self, connection: socket.socket) -> Iterator[None]:
        """Cut ``connection`` off if its request is not here in time."""
        with self._lock:
            self._expected[connection] = time.monotonic() + _REQUEST_SECONDS
        try:
            yield
        finally:
            self.expect_nothing(connection)

    def expect_nothing(self, connection: socket.socket) -> None:
        """The request of ``connection`` is here."""
        with self._lock:
            self._expected.pop(connection, None)

    def service_actions(self) -> None:
        """Called twice a second while the server runs."""
        with self._lock:
            late = [connection for connection, until in self._expected.items() if until < time.monotonic()]
        for connection in late:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # its thread wakes up, and ends

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread a connection, up to a number in all and of one address; more are turned away at once."""
        with self._lock:
            self._of[client_address[0]] += 1
            many = self._of[client_address[0]] > _MAX_OF_ONE
        if many or not self._free.acquire(blocking=False):
            self._leave(client_address)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(client_address)
            self._free.release()

    def _leave(self, client_address: Any) -> None:
        with self._lock:
            self._of[client_address[0]] -= 1
            if not self._of[client_address[0]]:
                del self._of[client_address[0]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A visitor who went away in the middle is no fault of ours."""


def open_server(host: str, port: int, handler: type[Handler]) -> ThreadingHTTPServer:
    """Listen on ``host``:``port`` (port 0: any free one); the caller runs ``serve_forever``.

    Raises:
        EdgeferError: the port is in use or may not be opened, or the host is no address of this machine.
    """
    try:
        return _Server((host, port), handler)
    except OverflowError as cause:
        raise EdgeferError(f"{port} is not a port", hint="ports are 1 to 65535") from cause
    except OSError as cause:
        if cause.errno == errno.EADDRINUSE:
            hint = f"another program serves there; try --port {port + 1}"
            raise EdgeferError(f"port {port} of {host} is in use", hint=hint) from cause
        if cause.errno == errno.EACCES:
            raise EdgeferError(f"port {port} may not be opened by this user", hint="take one above 1023") from cause
        raise EdgeferError(
            f"cannot listen on {host}: {cause.strerror or cause}",
            hint="--host 127.0.0.1 is this machine only, --host 0.0.0.0 every network it is in",
        ) from cause


def address(server: ThreadingHTTPServer) -> str:
    """The address to type into a browser."""
    host, port = str(server.server_address[0]), server.server_address[1]
    name = f"[{host}]" if ":" in host else "localhost" if host in LOCAL else host
    return f"http://{name}:{port}/"

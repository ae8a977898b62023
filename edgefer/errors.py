"""The one error a user sees: what went wrong, with which value, and what to do about it."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import Any


class EdgeferError(Exception):
    """A fault of the input or the environment, printed as ``error: …`` and ``hint: …``; exit code 2.

    Passwords in addresses are left out of both (:func:`redacted`), and what a terminal would obey, which names and
    headers of files may hold, becomes ``?``.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = printable(redacted(message))
        self.hint = None if hint is None else printable(redacted(hint))
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, ends of lines, changes of direction, and halves of letters, which stand for bytes that are no UTF-8."""


def printable(text: str) -> str:
    """``text`` in one line, with ``?`` for what a terminal would obey; names of files keep every letter and space."""
    return text if text.isprintable() else _OBEYED.sub(lambda found: " " if found[0] in "\n\t" else "?", text)


def one_line(text: object, limit: int = 200) -> str:
    """The first line of ``text`` that is not blank, without what a terminal would obey, at most ``limit`` letters."""
    line = next((line.strip() for line in str(text).splitlines() if line.strip()), "")
    line = printable(line[: limit + 1])
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


_SCHEMES = re.compile(r"(rtsp[stu]?|rtmp[st]?|https?|udp|tcp|rtp|srt|mms|ftps?|file|csi)", re.IGNORECASE)
"""Schemes whose addresses have parts that are known; of others nothing is."""

_SETTING = re.compile(r"""\b((?:user|proxy)-(?:id|pw)|password|passwd)(\s*=\s*)("[^"]*"|'[^']*'|[^\s!]+)""")
"""A credential of a GStreamer element."""

_ADDRESS = re.compile(
    r"""(?<![\w/.\\-])(?P<quote>["'])(?P<quoted>[A-Za-z][A-Za-z0-9+.-]+:/.*?)(?P=quote)"""
    r"""|(?<![\w/.\\-])(?P<bare>[A-Za-z][A-Za-z0-9+.-]+:/[^\s"'<>]*)"""
    r"""|(?<![\w.-])[^\s/:@'"=(,]+:[^\s@'"]+@(?=[\w[])"""
)
"""An address with its scheme, up to its closing quote or a space; or ``user:password@`` before a host."""


def redacted(text: str) -> str:
    """``text`` without the users, passwords and queries of the addresses in it: messages end up in logs."""
    if ":" not in text and "=" not in text:
        return text

    def shortened(found: re.Match[str]) -> str:
        if found["quoted"] is not None:
            return f"{found['quote']}{redacted_address(found['quoted'])}{found['quote']}"
        if found["bare"] is None:
            return "…@"
        address = found["bare"].rstrip(",.;:)")  # of the sentence around it
        return redacted_address(address) + found["bare"][len(address) :]

    return _ADDRESS.sub(shortened, _SETTING.sub(r"\1\2…", text))


def redacted_address(address: str) -> str:
    """One address: ``rtsp://user:secret@host/a?token=b`` as ``rtsp://…@host/a?…``, and ``other://…``.

    A password may hold ``/``, ``?``, ``#``, ``@`` and spaces: all up to the last ``@`` is left out.
    """
    scheme, slashes, rest = re.fullmatch(r"([^:]*)(:/*)(.*)", address, re.DOTALL).groups()  # type: ignore[union-attr]
    if not _SCHEMES.fullmatch(scheme):
        return f"{scheme}{slashes}…" if slashes.startswith("://") else address
    user, at, rest = rest.rpartition("@")
    place, mark, query = re.fullmatch(r"([^?#]*)([?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    host, slash, path = place.partition("/")
    if not at and re.search(r":(?![0-9]{0,5}$)", re.sub(r"\[.*\]", "", host)):
        host = "…"  # no port: a user and a password, and no host yet
    return f"{scheme}{slashes}{'…@' if user or at else ''}{host}{slash}{path}{mark}{'…' if query else ''}"


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, or say which extra of edgefer brings it.

    ``purpose`` completes the sentence "… needs MODULE", e.g. ``"training"``.
    """
    try:
        return import_package(module)
    except ImportError as cause:
        raise EdgeferError(
            f"{purpose} needs the Python package '{module}', which cannot be imported here ({cause})",
            hint=f"pip install 'edgefer[{extra}]'",
        ) from cause


def import_package(module: str) -> ModuleType:
    """Import ``module`` with the package ``openvino_telemetry`` hidden meanwhile.

    With it, the mere import of OpenVINO (or NNCF) writes a client ID below the user's home folder and reports to Google
    Analytics; without it, they take a stub (``openvino/tools/ovc/telemetry_utils.py``). They have no setting for that
    but a file in the user's home folder. Every import of OpenVINO in this project goes through here.
    """
    modules: dict[str, Any] = sys.modules
    there, before = "openvino_telemetry" in modules, modules.get("openvino_telemetry")
    modules["openvino_telemetry"] = None
    try:
        return importlib.import_module(module)
    finally:
        if there:
            modules["openvino_telemetry"] = before
        else:
            del modules["openvino_telemetry"]

"""What is printed to: pipes that are closed early, terminals that obey what they are sent or lack a letter."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any


class _Heedless(io.FileIO):
    """A file that takes what nobody reads any more: where a pipe is closed early, the exit code still tells."""

    def write(self, content: Any) -> int:
        """Write to the file, or nowhere."""
        try:
            return super().write(content) or 0
        except BrokenPipeError:
            to_nowhere(self.fileno())
            return len(content)


_OBEYED = re.compile("\x1b(?!\\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys, colours, line breaks and tabs excepted."""


class _Terminal(io.TextIOWrapper):
    """A terminal to which names and headers of files are printed: it shows what they hold, and obeys none of it."""

    def write(self, text: str) -> int:
        """Print ``text`` with ``?`` in place of what would be obeyed."""
        return super().write(_OBEYED.sub("?", text))


def prepare_streams() -> None:
    """No early end of a reader, and no letter that a terminal lacks, stops a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
    plain = sys.stdout
    if not isinstance(plain, io.TextIOWrapper) or plain is not sys.__stdout__:
        return
    plain.flush()
    if plain.isatty():
        sys.stdout = _Terminal(plain.buffer, encoding=plain.encoding, errors=plain.errors, line_buffering=True)
    else:
        binary = io.BufferedWriter(_Heedless(plain.fileno(), "w", closefd=False))
        sys.stdout = io.TextIOWrapper(binary, encoding=plain.encoding, errors=plain.errors)


def heed_reader() -> None:
    """Let stdout fail again where nobody reads it: for what writes line after line, that is the end of the work."""
    buffer = getattr(sys.stdout, "buffer", None)
    if isinstance(getattr(buffer, "raw", None), _Heedless) and sys.__stdout__ is not None:
        sys.stdout.flush()
        sys.stdout = sys.__stdout__


def to_nowhere(descriptor: int) -> None:
    """Let a file take and drop what is written from now on, as /dev/null does."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)

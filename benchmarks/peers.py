#!/usr/bin/env python3
"""Environments for peers that pin other packages than ours: `python benchmarks/peers.py FOLDER` makes them all."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from edgefer.errors import EdgeferError
from edgefer.progress import announce

PEERS = {
    "nncf": (("nncf==3.4.0", "openvino==2026.4.1"),),
    # torch first: from an index that has CPU wheels it is a tenth of the size that modelopt would draw in by itself
    "modelopt": (("torch==2.13.0",), ("nvidia-modelopt[onnx]==0.47.0",)),
}
"""Peer → what pip is asked for, in turn."""

FOLDER = Path(tempfile.gettempdir()) / "edgefer-peers"


def environment(peer: str, folder: Path = FOLDER) -> Path:
    """The Python of ``peer``'s environment under ``folder``, made if it is not there or not of these versions.

    Raises:
        EdgeferError: pip failed; says its last line.
    """
    home = folder / peer
    python, mark = home / "bin" / "python", home / "edgefer-ready"
    wanted = "\n".join(" ".join(step) for step in PEERS[peer])
    if mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
        return python
    announce(f"making an environment for {peer} in {home}")
    venv.create(home, clear=True, with_pip=True)
    for step in PEERS[peer]:
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", *step], capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it said nothing"]
            raise EdgeferError(f"pip could not install {' '.join(step)}: {lines[-1]}", hint="is there a network?")
    mark.write_text(wanted, encoding="utf-8")
    return python


def main() -> None:
    """Make every environment."""
    try:
        for peer in PEERS:
            environment(peer, Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
    except EdgeferError as fault:
        announce(f"error: {fault}")
        sys.exit(fault.exit_code)


if __name__ == "__main__":
    main()

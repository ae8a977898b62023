"""Debian's list of packages, read from its file: no dpkg is run, so that a recorded tree reads the same.

The file's form: deb-control(5), and dpkg(1) for the words of ``Status``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from edgefer.measure.telemetry.sensors import text

STATUS: Final = "var/lib/dpkg/status"


def installed_packages(root: Path = Path("/")) -> dict[str, str]:
    """Package → version of all that is installed, those that were removed left out; empty where there is no dpkg."""
    found = {}
    for stanza in (text(root / STATUS) or "").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] not in " \t")
        if fields.get("Status", "").endswith(" installed") and "Package" in fields:
            found[fields["Package"]] = fields.get("Version", "")
    return found


def upstream(version: str) -> str:
    """The maker's part of a package's version: ``"10.3.0.30-1+cuda12.5"`` → ``"10.3.0.30"``."""
    return version.rpartition(":")[2].split("-")[0].split("+")[0]

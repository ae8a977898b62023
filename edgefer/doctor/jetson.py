"""Jetson Linux (L4T), the JetPack that it belongs to, and the power mode.

L4T: /etc/nv_tegra_release. JetPack: https://developer.nvidia.com/embedded/jetpack-archive. Power mode: nvpmodel keeps
what was chosen in /var/lib/nvpmodel/status (``pmode:0002 fmode:quiet``), and what there is in /etc/nvpmodel.conf
(``< POWER_MODEL ID=2 NAME=MAXN_SUPER >``); numbers and names differ from board to board.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefer.doctor.debian import upstream
from edgefer.measure.telemetry.sensors import text

RELEASES: Final = {
    "35.1.0": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "35.6.2": "5.1.5",
    "36.3.0": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "38.2.0": "7.0",
    "38.2.1": "7.0",
    "38.2.2": "7.0",
    "38.4.0": "7.1",
    "39.2.0": "7.2",
    "39.2.1": "7.2.1",
}
"""L4T → JetPack, for systems that have L4T and not the package nvidia-jetpack."""

_GENERATIONS: Final = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
_RELEASE: Final = re.compile(r"R(\d+) \(release\), REVISION: ([\d.]+)")
_MODE: Final = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>")
_DEFAULT: Final = re.compile(r"<\s*PM_CONFIG\s+DEFAULT=(\d+)\s*>")
_CHOSEN: Final = re.compile(r"pmode:(\d+)")
_UNLIMITED: Final = ("MAXN_SUPER", "MAXN")


@dataclass(frozen=True)
class PowerMode:
    """The power mode of a Jetson.

    Attributes:
        number: nvpmodel's.
        name: ``"15W"``; ``""`` where the list of modes does not name it.
        unlimited: the number of the mode without a limit (MAXN); None where there is none.
    """

    number: int
    name: str
    unlimited: int | None


def read_l4t(packages: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """The L4T release, ``"36.4.3"``; from the package nvidia-l4t-core where its file is not there, as in a container.

    Args:
        packages: as :func:`edgefer.doctor.debian.installed_packages` gives them.
        root: ``/``, or a recorded tree.
    """
    found = _RELEASE.search(text(root / "etc/nv_tegra_release") or "")
    if found is not None:
        return f"{found[1]}.{found[2]}"
    return upstream(packages["nvidia-l4t-core"]) if "nvidia-l4t-core" in packages else None


def jetpack_of(l4t: str, packages: Mapping[str, str]) -> str | None:
    """The JetPack, ``"6.2.1"``, or only its generation, ``"6"``; None for an L4T of which nothing is known."""
    if "nvidia-jetpack" in packages:
        return upstream(packages["nvidia-jetpack"])
    return RELEASES.get(l4t, _GENERATIONS.get(l4t.split(".", maxsplit=1)[0]))


def read_power_mode(root: Path = Path("/")) -> PowerMode | None:
    """The power mode; None where there is no nvpmodel. It starts in the configuration's default mode."""
    listing = text(root / "etc/nvpmodel.conf") or ""
    names = {int(number): name for number, name in _MODE.findall(listing)}
    chosen = _CHOSEN.search(text(root / "var/lib/nvpmodel/status") or "") or _DEFAULT.search(listing)
    if chosen is None:
        return None
    number = int(chosen[1])
    best = (mode for wanted in _UNLIMITED for mode, name in names.items() if name == wanted)
    return PowerMode(number, names.get(number, ""), next(best, None))

"""How the tensors of a weights file fit a network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

_LISTED = 6
COUNTER = ".num_batches_tracked"
"""How the names of batch norms' counters end, which only a norm without momentum reads."""


@dataclass(frozen=True)
class Fit:
    """How the tensors of a file fit a network.

    Attributes:
        missing, extra: names that only the network has, and that only the file has.
        misshapen: names with both shapes, ready to be printed.
        misshapen_names: the same names alone.
        unused: names in the file that the network has and no forward pass uses.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[str, ...]
    misshapen_names: tuple[str, ...]
    unused: tuple[str, ...]

    def faults(self, listed: int = _LISTED) -> str:
        """What does not fit, at most ``listed`` names a kind; empty if all fits."""
        kinds = (("missing", self.missing), ("unknown", self.extra), ("misshapen", self.misshapen))
        return "; ".join(f"{len(names)} {kind}: {listing(names, listed)}" for kind, names in kinds if names)


def compare(network: nn.Module, found: Mapping[str, Tensor], *, needless: bool = False) -> Fit:
    """Compare the tensors of a file with those of a network, which may be on the meta device.

    With ``needless``, tensors that no forward pass reads (known to be unused; counters of batches) may be missing or
    misshapen.
    """
    wanted = network.state_dict()
    patterns = tuple(getattr(network, "UNUSED", ()))
    unused = {name for name in wanted if any(re.fullmatch(pattern, name) for pattern in patterns)}
    free = {name for name in wanted if name in unused or name.endswith(COUNTER)} if needless else set()
    wrong = [n for n in wanted if n in found and n not in free and found[n].shape != wanted[n].shape]
    return Fit(
        missing=tuple(name for name in wanted if name not in found and name not in free),
        extra=tuple(name for name in found if name not in wanted),
        misshapen=tuple(f"{name} ({_shape(found[name])} instead of {_shape(wanted[name])})" for name in wrong),
        misshapen_names=tuple(wrong),
        unused=tuple(name for name in found if name in unused),
    )


def listing(names: Sequence[str], most: int = _LISTED) -> str:
    """Names with commas, cut after ``most``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"

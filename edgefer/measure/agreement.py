"""The agreement of two networks: on how many images they give the same answer. It needs no labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgefer.errors import EdgeferError
from edgefer.measure.accuracy import design_effect, numbered, wilson_interval
from edgefer.progress import number_of, progress

if TYPE_CHECKING:
    from edgefer.data import FaceSet
    from edgefer.engines.classifier import Classifier

_BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """Number of images with the same answer of both networks, or the reason why it was not measured.

    Attributes:
        images: number of images; agreeing: with the same answer.
        origin: the images' set.
        effect: design effect of near-duplicates.
        reason: why there is no measurement; ``""`` where there is one.
    """

    images: int = 0
    agreeing: int = 0
    origin: str = ""
    effect: float = 1.0
    reason: str = ""

    @classmethod
    def of(cls, same: NDArray[np.bool_], groups: NDArray[np.int64], origin: str) -> Agreement:
        """The agreement on images of ``origin``: for each whether the answer is the same, and its near-duplicates."""
        return cls(len(same), int(same.sum()), origin, design_effect(same, groups))

    @property
    def share(self) -> float:
        """Share of images with the same answer, 0–1."""
        return self.agreeing / self.images

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson's 95 % interval of :attr:`share`; near-duplicates count once."""
        return wilson_interval(self.agreeing, self.images, self.effect)

    def to_dict(self) -> dict[str, Any] | None:
        """JSON-ready; None where it was not measured."""
        if self.reason:
            return None
        low, high = self.ci95
        given = {"images": self.images, "agreeing": self.agreeing, "origin": self.origin, "effect": self.effect}
        return {"share": self.share, "ci95": [low, high], **given}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Agreement:
        """Read what :meth:`to_dict` wrote."""
        return cls(int(content["images"]), int(content["agreeing"]), str(content["origin"]), float(content["effect"]))

    def sentence(self) -> str:
        """One line for a person."""
        if self.reason:
            return f"agreement with float: not measured: {self.reason}"
        low, high = (100 * bound for bound in self.ci95)
        return (
            f"agreement with float: {100 * self.share:.1f} % [{low:.1f}, {high:.1f}] on "
            f"{number_of(self.images, 'image')} of {self.origin} that set no range"
        )


def measure_agreement(one: Classifier, other: Classifier, faces: FaceSet) -> Agreement:
    """Ask both networks about ``faces``, read once, a batch at a time.

    Raises:
        EdgeferError: there is no image, or one cannot be read.
    """
    if not len(faces):
        raise EdgeferError(f"{faces.origin} has no image to compare answers on", hint="choose another split")
    with progress("agreement with float", len(faces)) as advance:

        def alike() -> Iterator[NDArray[np.bool_]]:
            for images, _ in faces.batches(_BATCH, one.contract):
                yield one.logits_of_all(images).argmax(axis=1) == other.logits_of_all(images).argmax(axis=1)
                advance(len(images))

        same = np.concatenate(list(alike()))
    return Agreement.of(same, numbered(faces.group_keys()), faces.origin)

"""The networks that edgefer knows: names, inputs, counts and published results. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgefer.contract import Contract, Normalisation
from edgefer.errors import EdgeferError

GREY = Normalisation(scale=1.0 / 255.0, mean=(0.5,), std=(0.5,))
"""Grey faces from −1 to 1."""


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        height, width, channels: of its faces; 1 channel is grey.
        params: number of classes → number of learnable numbers.
        macs: multiply-accumulates of convolutions and fully connected layers for one face, with 7 classes.
        factory: ``package.module:Class``; called with ``num_classes`` it returns the ``torch.nn.Module``.
        published: the accuracy that its authors, or those who trained it on faces, print.
        source_note: where the layers come from.
    """

    name: str
    height: int
    width: int
    channels: int
    params: Mapping[int, int]
    macs: int
    factory: str
    normalisation: Normalisation
    published: str
    source_note: str


def _grey48(
    name: str, seven: int, eight: int, macs: int, factory: str, *, published: str, source_note: str
) -> Architecture:
    params = {7: seven, 8: eight}
    return Architecture(
        name, 48, 48, 1, params, macs, f"edgefer.models.{factory}", GREY, published=published, source_note=source_note
    )


_ALL = (
    _grey48(
        *("lenet", 205_451, 205_536, 1_508_268, "lenet:LeNet"),
        published="42.8 % FER2013",
        source_note="LeCun et al. 1998, with average pooling and sigmoids throughout, for 48×48 faces",
    ),
    _grey48(
        *("mini_xception", 58_047, 59_200, 5_520_448, "mini_xception:MiniXception"),
        published="65.04 % FER2013",
        source_note="Arriaga, Valdenegro-Toro and Plöger 2017",
    ),
    _grey48(
        *("resnet11", 11_176_839, 11_177_352, 94_346_752, "resnet11:ResNet11"),
        published="44.2 % FER2013",
        source_note="He et al. 2016 for grey faces: biases in every convolution, projections without a norm",
    ),
    _grey48(
        *("vgg9", 18_149_639, 18_151_688, 312_244_224, "vgg:Vgg9"),
        published="58.4 % FER2013, 58.8 % balanced and augmented",
        source_note="Simonyan and Zisserman 2014, cut to six convolutions and three fully connected layers",
    ),
)
_BY_NAME = {entry.name: entry for entry in _ALL}


def names() -> tuple[str, ...]:
    """The names of all networks, in alphabetical order."""
    return tuple(sorted(_BY_NAME))


def architecture(name: str) -> Architecture:
    """The entry of one network.

    Raises:
        EdgeferError: no network has that name.
    """
    if name not in _BY_NAME:
        close = difflib.get_close_matches(name, names(), n=1)
        raise EdgeferError(
            f"no network is called '{name}'",
            hint=(f"did you mean '{close[0]}'? " if close else "") + f"known: {', '.join(names())}",
        )
    return _BY_NAME[name]


def default_contract(name: str, labels: Sequence[str]) -> Contract:
    """The contract of network ``name`` for the classes ``labels``, in the order of its logits."""
    entry = architecture(name)
    return Contract(tuple(labels), entry.height, entry.width, entry.channels, entry.normalisation, name)

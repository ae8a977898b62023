"""The networks that edgefer knows: names, inputs, counts and published results. No torch here."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefer.contract import Contract, Normalisation
from edgefer.data.classes import AFFECTNET, FER2013, FERPLUS
from edgefer.errors import EdgeferError

GREY = Normalisation(scale=1.0 / 255.0, mean=(0.5,), std=(0.5,))
"""Grey faces from −1 to 1."""

IMAGENET = Normalisation(scale=1.0 / 255.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""RGB with ImageNet's mean and deviation per channel, as torchvision's weights and DDAMFN's expect."""


@dataclass(frozen=True)
class Architecture:
    """One network of the zoo.

    Attributes:
        size: height and width of its faces, pixels.
        channels: 1 is grey.
        params: number of classes → number of learnable numbers, after branches were folded where the network has some.
        macs: multiply-accumulates of convolutions and fully connected layers for one face, with 7 classes.
        factory: ``module:Class`` in ``edgefer.models``; called with ``num_classes`` it returns the ``torch.nn.Module``.
        source_note: source of the layers.
        published: the accuracy that its authors, or those who trained it on faces, print; empty if none.
        measured: the accuracy that this project measured, with which weights and on what; empty if none.
        variant_of: the network whose name also accepts this one's weights: the same but for details of a file.
    """

    name: str
    size: int
    channels: int
    params: Mapping[int, int]
    macs: int
    factory: str
    source_note: str
    published: str = ""
    measured: str = ""
    variant_of: str = ""

    @property
    def normalisation(self) -> Normalisation:
        """The normalisation of its faces."""
        return GREY if self.channels == 1 else IMAGENET


_KERAS = "Arriaga, Valdenegro-Toro and Plöger 2017, as their Keras files have it"

_ALL = (
    Architecture(
        *("big_xception", 64, 1, {7: 206_375, 8: 208_680}, 65_768_288, "keras_xception:BigXception"),
        measured="65.6 % FER2013 PublicTest (oarriaga's file 54)",
        source_note=_KERAS,
    ),
    Architecture(
        *("cliquenet", 48, 1, {7: 1_527_199, 8: 1_528_164}, 100_422_124, "cliquenet:CliqueNet"),
        published="65.3 % FER+",
        measured="62.6 % FER2013 PublicTest (the weights that ship), 81.5 % FER+ (cliquenet_ferplus)",
        source_note="Yang et al. 2018: three blocks of five layers of 36 channels",
    ),
    Architecture(
        *("cnn_simple", 48, 1, {7: 55_735_175, 8: 55_736_200}, 121_828_608, "plain_cnns:CnnSimple"),
        source_note="two convolutions without padding and three wide fully connected layers",
    ),
    Architecture(
        *("ddamfn", 112, 3, {7: 4_187_421, 8: 4_187_936}, 539_588_896, "ddamfn:DDAMFN"),
        published="90.74 % FER+, 64.25 % AffectNet-8, 67.03 % AffectNet-7, 91.35 % RAF-DB",
        source_note="Zhang et al. 2023: MobileFaceNet with mixed depthwise kernels, dual-direction attention",
    ),
    Architecture(
        *("facecnn", 48, 1, {7: 42_582_919, 8: 42_583_176}, 128_468_736, "plain_cnns:FaceCnn"),
        published="up to 74 % FER2013, says its source",
        source_note="three convolutions with batch norms and randomised leaky ReLUs",
    ),
    Architecture(
        *("lenet", 48, 1, {7: 205_451, 8: 205_536}, 1_508_268, "plain_cnns:LeNet"),
        published="42.8 % FER2013",
        measured="51.5 % FER2013 PublicTest (the weights that ship)",
        source_note="LeCun et al. 1998, with average pooling and sigmoids throughout, for 48×48 faces",
    ),
    Architecture(
        *("lenet7", 48, 1, {7: 247_323, 8: 247_408}, 2_817_068, "plain_cnns:LeNet7"),
        measured="59.2 % FER2013 PublicTest (the weights that ship)",
        source_note="lenet with a third convolution, a fourth fully connected layer, and ReLUs",
    ),
    Architecture(
        *("mini_xception", 48, 1, {7: 58_047, 8: 59_200}, 5_520_448, "mini_xception:MiniXception"),
        published="65.04 % FER2013",
        measured="62.4 % FER2013 PublicTest (the weights that ship), 65.4 % (mini_xception_64, test-time flip)",
        source_note="Arriaga, Valdenegro-Toro and Plöger 2017",
    ),
    Architecture(
        *("mini_xception_keras", 64, 1, {7: 56_951, 8: 58_104}, 10_163_392, "keras_xception:MiniXceptionKeras"),
        measured="65.5 % FER2013 PublicTest (oarriaga's file 102)",
        source_note=_KERAS,
    ),
    Architecture(
        *("mini_xception_keras48", 48, 1, {7: 56_702, 8: 57_855}, 5_484_052, "keras_xception:MiniXceptionKeras48"),
        measured="63.5 % FER2013 PublicTest (oarriaga's file 119)",
        source_note=f"{_KERAS}: five channels first, and a last module that keeps the size",
        variant_of="mini_xception_keras",
    ),
    Architecture(
        *("repvgg_small", 48, 1, {7: 707_143, 8: 707_304}, 52_089_952, "repvgg:RepVgg"),
        source_note="Ding et al. 2021: eleven 3×3 convolutions, trained with branches that are folded at export",
    ),
    Architecture(
        *("resnet11", 48, 1, {7: 11_176_839, 8: 11_177_352}, 94_346_752, "resnet:ResNet11"),
        published="44.2 % FER2013",
        measured="62.1 % FER2013 PublicTest (by its recipe)",
        source_note="He et al. 2016 for grey faces: biases in every convolution, projections without a norm",
    ),
    Architecture(
        *("resnet14", 48, 1, {7: 2_759_143, 8: 2_759_400}, 227_157_760, "resnet:ResNet14"),
        source_note="He et al. 2016 for grey faces: a 3×3 stem without pooling and three stages; teaches repvgg_small",
    ),
    Architecture(
        *("resnet18", 224, 3, {7: 11_180_103, 8: 11_180_616}, 1_813_564_928, "resnet:ResNet18"),
        published="59.1 % FER2013 (from ImageNet weights)",
        source_note="He et al. 2016, with torchvision's tensor names",
    ),
    Architecture(
        *("vgg11", 224, 3, {7: 128_795_015, 8: 128_799_112}, 7_605_022_720, "vgg:Vgg11"),
        published="62.1 % FER2013 (from ImageNet weights)",
        source_note="Simonyan and Zisserman 2014, with torchvision's tensor names",
    ),
    Architecture(
        *("vgg9", 48, 1, {7: 18_149_639, 8: 18_151_688}, 312_244_224, "vgg:Vgg9"),
        published="58.4 % FER2013, 58.8 % balanced and augmented",
        measured="64.9 % FER2013 PublicTest (by its recipe)",
        source_note="Simonyan and Zisserman 2014, cut to six convolutions and three fully connected layers",
    ),
    Architecture(
        *("vgg9_bn", 48, 1, {7: 18_153_095, 8: 18_155_144}, 312_244_224, "vgg:Vgg9Bn"),
        source_note="vgg9 with a batch norm after each convolution",
    ),
    Architecture(
        *("vgg_small", 48, 1, {7: 36_159_399, 8: 36_163_496}, 163_745_792, "vgg:VggSmall"),
        source_note="eight convolutions of 32 to 128 channels and three wide fully connected layers",
    ),
)
_BY_NAME = {entry.name: entry for entry in _ALL}


@dataclass(frozen=True)
class ZooLatency:
    """What networks take on one machine, as `benchmarks/zoo.py` measured it.

    Attributes:
        machine: processor, cores and system; conditions: batch, threads, and what the numbers are.
        packages: name → version of what it was measured with.
        ms: network → median latency of FP32 and of INT8.
    """

    machine: str
    conditions: str
    packages: Mapping[str, str]
    ms: Mapping[str, tuple[float, float]]


def zoo_latency() -> ZooLatency:
    """The latencies that come with edgefer; networks that were not measured are not in it."""
    content = json.loads((Path(__file__).parent / "measured.json").read_text(encoding="utf-8"))
    ms = {name: (float(row["fp32_ms"]), float(row["int8_ms"])) for name, row in content["networks"].items()}
    return ZooLatency(str(content["machine"]), str(content["conditions"]), content["packages"], ms)


def names() -> tuple[str, ...]:
    """The names of all networks, in alphabetical order."""
    return tuple(sorted(_BY_NAME))


def architecture(name: str) -> Architecture:
    """The entry of one network.

    Raises:
        EdgeferError: no network has that name.
    """
    if name not in _BY_NAME:
        if (Path(__file__).parent / "weights" / f"{name}.safetensors").is_file():
            own = max((known for known in names() if name.startswith(known)), key=len)
            hint = f"those are weights of {own}: --model {own} --weights {name}"
            raise EdgeferError(f"no network is called '{name}'", hint=hint)
        close = difflib.get_close_matches(name, names(), n=1)
        raise EdgeferError(
            f"no network is called '{name}'",
            hint=(f"did you mean '{close[0]}'? " if close else "") + f"known: {', '.join(names())}",
        )
    return _BY_NAME[name]


def probable_labels(name: str, count: int) -> tuple[str, ...]:
    """The classes of published weights of ``name`` with ``count`` outputs, which no file says; () if none is usual.

    DDAMFN's authors publish checkpoints of AffectNet; the others are trained on FER2013 or FER+.
    """
    usual = (AFFECTNET[:7], AFFECTNET) if name == "ddamfn" else (FER2013, FERPLUS)
    return next((labels for labels in usual if len(labels) == count), ())


def default_contract(name: str, labels: Sequence[str], size: int | None = None) -> Contract:
    """The contract of network ``name`` for the classes ``labels``, in the order of its logits.

    Faces are ``size`` pixels a side; None: as the network's own are.
    """
    entry = architecture(name)
    side = entry.size if size is None else size
    return Contract(tuple(labels), side, side, entry.channels, entry.normalisation, name)

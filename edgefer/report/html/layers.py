"""The layer precision map: one strip a network, from input to output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from edgefer.manifest import LayerPrecision

TYPES = {"int8": "#009E73", "bf16": "#56B4E9", "fp16": "#E69F00", "fp32": "#9a9a9a"}
_OTHER = "#CC79A7"


def layer_map(layers: Sequence[LayerPrecision]) -> str:
    """A block a layer in the colour of what it computes in, as HTML; asked and got differ where a block is hatched."""
    blocks = "".join(
        f'<span class="layer{"" if layer.asked == layer.got else " other"}" '
        f'style="background-color:{TYPES.get(layer.got, _OTHER)}" title="{escape(_told(layer))}"></span>'
        for layer in layers
    )
    return f'<div class="layers" role="img" aria-label="{escape(counted(layers))}">{blocks}</div>'


def counted(layers: Sequence[LayerPrecision]) -> str:
    """``38 of 43 layers in INT8, 5 in FP32``."""
    counts = Counter(layer.got for layer in layers)
    (first, number), *rest = counts.most_common()
    parts = [f"{number} of {len(layers)} layers in {first.upper()}", *(f"{n} in {kind.upper()}" for kind, n in rest)]
    return ", ".join(parts)


def layer_key() -> str:
    """What the colours mean."""
    items = (
        f'<li><span class="key" style="background:{fill}"></span>{kind.upper()}</li>' for kind, fill in TYPES.items()
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _told(layer: LayerPrecision) -> str:
    asked = "" if layer.asked == layer.got else f" (asked for: {layer.asked})"
    return f"{layer.layer}, {layer.op}: {layer.got}{asked}"

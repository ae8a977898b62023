#!/usr/bin/env python3
"""A peer's quantisation in its own environment: `quantisation_peer.py nncf|modelopt FLOAT.onnx FACES.npz OUT.onnx`.

Imports nothing of edgefer's: the environment has the peer, onnx and numpy only.
"""

from __future__ import annotations

import sys

import numpy as np


def main() -> None:
    """Quantise with the peer's defaults for an ONNX file."""
    peer, model, faces, output = sys.argv[1:]
    {"nncf": _nncf, "modelopt": _modelopt}[peer](model, np.load(faces)["images"], output)


def _nncf(model: str, images: np.ndarray, output: str) -> None:
    import nncf
    import onnx

    dataset = nncf.Dataset([images[i : i + 1] for i in range(len(images))], lambda face: {"faces": face})
    onnx.save(nncf.quantize(onnx.load(model), dataset, subset_size=len(images)), output)


def _modelopt(model: str, images: np.ndarray, output: str) -> None:
    from modelopt.onnx.quantization import quantize

    quantize(model, quantize_mode="int8", calibration_data={"faces": images}, output_path=output)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A peer's quantisation in its own environment: `quantisation_peer.py nncf|modelopt FLOAT.onnx FACES.npz OUTPUT`.

Imports of edgefer only how packages are imported without their telemetry: the environment has the peer and what it
needs, no more. OUTPUT is an OpenVINO .xml (with its .bin) from nncf, an .onnx from modelopt.
"""

from __future__ import annotations

import sys

import numpy as np

from edgefer.errors import import_package


def main() -> None:
    """Quantise with the peer's defaults."""
    peer, model, faces, output = sys.argv[1:]
    {"nncf": _nncf, "modelopt": _modelopt}[peer](model, np.load(faces)["images"], output)


def _nncf(model: str, images: np.ndarray, output: str) -> None:
    nncf, openvino = import_package("nncf"), import_package("openvino")

    dataset = nncf.Dataset([images[i : i + 1] for i in range(len(images))])
    # without subset_size it would look at the first 300 only
    openvino.save_model(
        nncf.quantize(openvino.convert_model(model), dataset, subset_size=len(images)), output, compress_to_fp16=False
    )


def _modelopt(model: str, images: np.ndarray, output: str) -> None:
    from modelopt.onnx.quantization import quantize

    # float32 between the INT8 layers, as everywhere else in the comparison; its default is float16
    quantize(
        model,
        quantize_mode="int8",
        calibration_data={"faces": images},
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=output,
    )


if __name__ == "__main__":
    main()

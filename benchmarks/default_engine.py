#!/usr/bin/env python3
"""Make the ready-to-run engine of the default network, which ships: `python benchmarks/default_engine.py`.

It is the FP32 file that `edgefer export` makes of the shipped weights, with a manifest that holds on any CPU and in
both ONNX Runtime and OpenVINO: each was asked about the golden faces. Run it again after the weights, the exporter or
:data:`edgefer.models.DEFAULT` changed; tests/models/test_default_engine.py fails until then.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from common import one_error

from edgefer.engines.classifier import check_golden
from edgefer.graph.export import export
from edgefer.manifest import write_engine
from edgefer.models import DEFAULT, default_engine
from edgefer.models.weights import load_weights, shipped
from edgefer.optimize.candidates import Variant
from edgefer.optimize.prepared import prepare_model
from edgefer.optimize.settings import Quantisation
from edgefer.progress import announce
from edgefer.runtimes import REFERENCE, runtime_named

RUNTIMES = (REFERENCE.name, "openvino")


def main() -> None:
    """Export, check in both runtimes, write the engine and its manifest."""
    with one_error(), tempfile.TemporaryDirectory() as folder:
        weights = shipped(DEFAULT)
        contract = None if weights is None else load_weights(weights).contract
        assert contract is not None  # weights that ship carry theirs
        model = Path(folder) / "model.onnx"
        export(contract.architecture, model, weights=weights)
        prepared = prepare_model(model, "fp32", Quantisation())
        candidate = prepared.build(Variant(REFERENCE.name, "fp32"))
        manifest = prepared.manifest(candidate)
        tolerance = {name: runtime_named(name).tolerance_of("fp32") for name in RUNTIMES}
        golden = replace(manifest.golden, tolerance=tolerance)
        for name in RUNTIMES:
            with replace(candidate, variant=Variant(name, "fp32")).open(prepared.contract) as classifier:
                found = check_golden(classifier, golden)
                announce(f"{name} {classifier.runtime_version}: golden logits differ by {found:.1e} of their scale")
        content = candidate.content
        write_engine(
            default_engine(), content, replace(manifest, golden=golden, runtime_version="", instruction_set=())
        )
        announce(f"{default_engine()}: {len(content) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

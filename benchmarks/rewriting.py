#!/usr/bin/env python3
"""What each rewrite pass gains: `python benchmarks/rewriting.py`, about four minutes.

Every engine is built from the plain graph, from the graph after one pass alone, and after all; a network's engines
take turns in one run (batch 1, one thread). Weights are random: speed does not depend on them.
`torch.onnx.export` folds batch norms itself, so for `fold-batchnorm` the plain graph gets them back.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import common
import numpy as np
import onnx
from cpu import CALIBRATION_FACES
from onnx import helper, numpy_helper

from edgefer.data import synthetic_faces
from edgefer.faces import prepare_batch
from edgefer.graph.canonical import canonicalise
from edgefer.graph.export import export
from edgefer.graph.onnx_file import load_model, serialise
from edgefer.graph.rewrite import PASSES, rewrite
from edgefer.optimize.calibrate import Calibrated, take_ranges
from edgefer.optimize.candidates import FLOAT, all_variants
from edgefer.optimize.given_faces import Purpose, divide_faces
from edgefer.optimize.prepared import PreparedModel
from edgefer.optimize.settings import Quantisation
from edgefer.progress import announce

PLAIN, ALL = "plain", "all passes"
NETWORKS = ("resnet11", "ddamfn")


@dataclass(frozen=True)
class Plan:
    """How long to measure a network, with ranges from a number of synthetic faces."""

    effort: common.Effort
    faces: int


FULL = Plan(common.Effort(90.0, 30, 5), CALIBRATION_FACES)
QUICK = Plan(common.Effort(0.1, 3, 8), 14)


@click.command()
@common.options("rewriting")
@click.option("--only", multiple=True, type=click.Choice(NETWORKS), help="Measure this network (may be repeated).")
def main(quick: bool, only: tuple[str, ...], output: Path | None) -> None:
    """Time every engine with and without each rewrite pass."""
    plan, networks = QUICK if quick else FULL, only or NETWORKS
    common.run("rewriting", quick, output, lambda watch: measure(plan, networks, watch), part=bool(only))


def measure(plan: Plan, networks: tuple[str, ...], watch: common.Watch) -> dict[str, Any]:
    measured = {}
    with tempfile.TemporaryDirectory() as name:
        for network in networks:
            with watch.over(network):
                measured[network] = _measured(network, Path(name), plan)
    return {"networks": measured}


def _measured(network: str, folder: Path, plan: Plan) -> dict[str, Any]:
    """Places a pass changed, and for each engine the speed-up of each pass over the plain graph."""
    announce(f"{network}: exporting and building")
    plain = folder / f"{network}.onnx"
    export(network, plain, random_weights=True)
    _unfold(plain)
    synthetic = common.synthetic_set(plan.faces, folder / "synthetic.npz")
    skipped = {PLAIN: set(PASSES), **{name: set(PASSES) - {name} for name in PASSES}, ALL: set()}
    model, contract = load_model(plain)
    settings = Quantisation(synthetic, faces=plan.faces, seed=0, method="mse")
    recipe, chosen = settings.recipe(network), divide_faces(settings, contract, Purpose.TABLE).ranges
    graphs = {graph: rewrite(model, contract, skip=skip) for graph, skip in skipped.items()}
    graphs = {graph: done for graph, done in graphs.items() if graph == PLAIN or done.changes}
    variants = all_variants()
    engines, integers = {}, {}
    for graph, done in graphs.items():
        ranges, record = take_ranges(done.model, contract, chosen, recipe)
        prepared = PreparedModel(done, contract, "", recipe.method, Calibrated(done.model, ranges, record))
        for variant in variants:
            built = prepared.build(variant)
            label = f"{variant.label} · {graph}"
            engines[label] = built.open(contract)
            integers[label] = sum(layer.got == "int8" for layer in built.precision.layers)
    faces = prepare_batch(synthetic_faces(16, seed=2)[0], contract)
    announce(f"{network}: timing {len(engines)} engines")
    taken = common.take_turns(
        engines, [np.ascontiguousarray(faces[i : i + 1]) for i in range(len(faces))], 1, plan.effort
    )
    for engine in engines.values():
        engine.close()
    rows = []
    for variant in variants:
        base = f"{variant.label} · {PLAIN}"
        for graph in graphs:
            label = f"{variant.label} · {graph}"
            gain, over = taken.speedup(base, label), taken.speedup(f"{FLOAT.label} · {PLAIN}", label)
            rows.append(
                {
                    "engine": variant.label,
                    "graph": graph,
                    "p50_ms": taken.latency(label).p50,
                    "gain": common.as_json(gain),
                    "over_plain_onnxruntime": common.as_json(over),
                    "int8_layers": integers[label],
                }
            )
    return {"places": graphs.get(ALL, graphs[PLAIN]).changes, "rounds": len(taken.rounds_ms[label]), "rows": rows}


def _unfold(path: Path) -> None:
    """Move the bias of each convolution into a batch norm behind it, as networks are before they are exported."""
    model, _ = load_model(path)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "Conv" or len(node.input) < 3:
            continue
        bias = numpy_helper.to_array(constants[node.input[2]])
        parts = {"scale": np.ones_like(bias), "shift": bias, "mean": np.zeros_like(bias), "var": np.ones_like(bias)}
        names = [f"{node.output[0]}_{part}" for part in parts]
        graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in zip(names, parts.values(), strict=True))
        inner = f"{node.output[0]}_plain"
        nodes.append(helper.make_node("BatchNormalization", [inner, *names], [node.output[0]], epsilon=0.0))
        node.output[0] = inner
        del node.input[2:]
    copies = onnx.GraphProto()
    copies.node.extend(nodes)
    del graph.node[:]
    graph.node.extend(copies.node)
    path.write_bytes(serialise(canonicalise(model)))


def page(result: dict[str, Any]) -> str:
    """A table per network: a row per engine, a column per pass."""
    parts = [
        f"{result['environment']['cpu']}, batch 1, one thread, random weights. Speed-up of each pass over the same "
        "engine of the plain graph, with 95 % intervals.",
        *common.busy_mark(result),
    ]
    for name, network in result["networks"].items():
        found = {(row["engine"], row["graph"]): row for row in network["rows"]}
        graphs = list(dict.fromkeys(row["graph"] for row in network["rows"] if row["graph"] != PLAIN))
        places = {**network["places"], ALL: 0}
        heads = [f"{graph} ({places[graph]}×)" if places[graph] else graph for graph in graphs]
        lines = []
        for engine in dict.fromkeys(row["engine"] for row in network["rows"]):
            rows = [found[engine, graph] for graph in graphs]
            gains = [common.ratio(row["gain"]) for row in rows]
            lines.append([engine, common.number(found[engine, PLAIN]["p50_ms"]), *gains])
            lines[-1].append(common.ratio(rows[-1]["over_plain_onnxruntime"]))
        parts += [f"#### {name}", common.table(["", "plain, ms", *heads, "all, over plain onnxruntime FP32"], lines)]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()

"""The weights that come with edgefer are those that their cards, recipes and the registry speak of."""

import json
from pathlib import Path

import pytest

from edgefer.atomic import sha256_file
from edgefer.data import open_dataset
from edgefer.models.registry import architecture, names
from edgefer.models.weights import SHIPPED, load_weights, met_by_shipped
from edgefer.provenance import beginnings
from edgefer.training.config import load_recipe

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
FILES = sorted(SHIPPED.glob("*.safetensors"))


def test_they_are_small():
    assert FILES
    assert sum(path.stat().st_size for path in FILES) <= 25_000_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_card_results_recipe_and_registry_speak_of_the_same_file(path):
    sha256, name = sha256_file(path), path.stem
    results = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert results["sha256"] == sha256
    assert f"SHA-256 `{sha256}`" in path.with_suffix(".md").read_text(encoding="utf-8")
    assert results["test_faces_also_in_train"] == 0
    top1 = f"{100 * results['test']['top1']:.1f} % "
    assert load_recipe(name).note.startswith(top1)
    if name in names():
        assert architecture(name).measured.startswith(top1)
    loaded = load_weights(path)
    assert loaded.contract is not None
    size = load_recipe(name).settings.get("size", architecture(loaded.contract.architecture).size)
    assert (loaded.contract.height, loaded.contract.width) == (size, size)
    assert results.get("test_time_flip", False) == loaded.contract.test_time_flip
    assert results["input"].startswith(f"{size}×{size} ")
    assert loaded.contract.lineage["fit_sha256"] == results["lineage"]["fit_sha256"]
    assert len(loaded.seen) > 0.9 * results["faces"]["fit"]  # FER2013 has some faces twice
    assert len(loaded.met["chose"]) > 0.9 * results["faces"]["val"]
    assert met_by_shipped(sha256) == loaded.met, "an engine knows what its weights know"
    assert all(tensor.isfinite().all() for tensor in loaded.state.values())


def test_the_faces_that_chose_are_those_of_the_division_that_trained(shared):
    """Both come from one division of FER2013's training part, with the public test kept out."""
    fer2013 = shared / "data" / "fer2013"
    val = open_dataset(fer2013 / "train.npz", exclude=fer2013 / "public_test.npz").split("val")
    met = load_weights("lenet").met
    assert met["chose"] == set(beginnings(val.face_hashes()))
    assert not met["chose"] & met["trained"]
    assert load_weights("cliquenet_ferplus").met["chose"] > met["chose"], "it was begun with cliquenet's"

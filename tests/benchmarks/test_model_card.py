"""The card beside weights says what the weights are, and how sure their results are."""

from dataclasses import replace

import pytest

from edgefer.data import open_dataset, save_npz, synthetic_faces


@pytest.fixture
def files(tmp_path):
    pytest.importorskip("torch")
    from edgefer.models import default_contract
    from edgefer.models.weights import SHIPPED, load_weights, save_weights

    for name, seed in (("train", 3), ("test", 9)):
        save_npz(tmp_path / f"{name}.npz", *synthetic_faces(210, seed=seed)[:2], splits=["train"] * 210)
    train = open_dataset(tmp_path / "train.npz")
    lineage = {"fit_sha256": train.split("fit").fingerprint()}
    contract = replace(default_contract("lenet", train.classes), lineage=lineage)
    state = load_weights(SHIPPED / "lenet.safetensors").state
    save_weights(tmp_path / "w.safetensors", state, contract, fp16=True)
    (tmp_path / "log").write_text("epoch 1: loss 1.9, val top-1 14.2 %\n")
    return tmp_path, train, open_dataset(f"{tmp_path / 'test.npz'}:all")


def test_a_card_has_both_results_with_their_intervals(files):
    import model_card

    from edgefer.engines.load import load_baseline
    from edgefer.measure.accuracy import macro_f1, macro_f1_ci95
    from edgefer.measure.evaluate import evaluate

    folder, train, test = files
    results = model_card.measure(folder / "w.safetensors", train, train, test, folder / "log")
    with load_baseline(folder / "w.safetensors") as network:
        answers = evaluate(network, test)
    low, high = macro_f1_ci95(answers)
    assert results["test"]["macro_f1"] == macro_f1(answers)
    assert results["test"]["macro_f1_ci95"] == [low, high]
    card = model_card.card("w", results, ["edgefer train"])
    (line,) = (line for line in card.splitlines() if line.startswith("| public test"))
    assert line.endswith(f"| {100 * macro_f1(answers):.1f} | {100 * low:.1f}…{100 * high:.1f} |")
    assert "205,451 parameters, in FP16 but for biases and batch norms, 48×48 grey faces, seven classes." in card


def test_a_flipped_networks_card_has_the_other_figure_too(files):
    import model_card

    from edgefer.engines.load import load_baseline
    from edgefer.measure.accuracy import macro_f1
    from edgefer.measure.evaluate import evaluate
    from edgefer.models.importing import Stated, import_weights

    folder, train, test = files
    import_weights(folder / "w.safetensors", "lenet", folder / "m.safetensors", stated=Stated(test_time_flip=True))
    results = model_card.measure(folder / "m.safetensors", train, train, test, folder / "log")
    with load_baseline(folder / "w.safetensors") as one, load_baseline(folder / "m.safetensors") as both:
        without, with_them = evaluate(one, test), evaluate(both, test)
    assert results["flip_gain"]["test"]["macro_f1"] == macro_f1(without) != macro_f1(with_them)
    assert results["test"]["macro_f1"] == macro_f1(with_them)
    gain = 100 * (with_them.top1 - without.top1)
    assert results["flip_gain"]["gain_pp"]["test"] == pytest.approx(gain)
    low, high = results["flip_gain"]["gain_ci95_pp"]["test"]
    assert low < gain < high
    card = model_card.card("m", results, ["edgefer train"])
    rows = [line for line in card.splitlines() if line.startswith(("| public test", "| the same, without test"))]
    assert len(rows) == 2
    assert "Test-time augmentation (horizontal flip): " in card
    assert f"(paired, Tango's interval): {gain:+.2f} [{low:+.2f}, {high:+.2f}] on the public test, " in card


def test_weights_of_other_faces_get_no_card(files):
    import model_card

    from edgefer.errors import EdgeferError

    folder, _, test = files
    with pytest.raises(EdgeferError, match="was not trained on the fit part"):
        model_card.measure(folder / "w.safetensors", test, test, test, folder / "log")

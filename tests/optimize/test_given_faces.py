"""What is given for calibration is used: which images set ranges, and which are apart from those."""

import numpy as np
import pytest

import edgefer
from edgefer.data import open_dataset, save_npz
from edgefer.errors import EdgeferError
from edgefer.manifest import read_manifest
from edgefer.measure.accuracy import wilson_interval
from edgefer.measure.agreement import Agreement, measure_agreement
from edgefer.optimize.given_faces import Purpose, divide_faces, left_to_measure
from edgefer.optimize.sensitivity import sensitivity
from edgefer.optimize.settings import CalibrationRecipe, Quantisation
from edgefer.report.optimization import print_sensitivity

LABELS = ("dark", "bright", "striped")


@pytest.fixture(scope="module")
def images():
    """600 noisy faces; that at 7 k + 1 is that at 7 k in a little more light, up to 70."""
    found = np.random.default_rng(1).integers(20, 200, (600, 12, 12, 1), dtype=np.uint8)
    found[1:71:7] = found[0:70:7] + 9
    return found


@pytest.fixture
def given(images, tmp_path):
    """Write faces as an npz; ``DATA`` for it."""

    def write(count=600, labels=True, splits=None, classes=LABELS):
        path = tmp_path / "photos.npz"
        if labels:
            save_npz(path, images[:count], np.arange(count) % len(classes), classes, splits)
        else:
            np.savez(path, images=images[:count], **({} if splits is None else {"splits": splits}))
        return str(path)

    return write


@pytest.fixture
def divide(about):
    def divide(data, purpose=Purpose.ENGINE, **settings):
        return divide_faces(Quantisation(data, **settings), about(), purpose)

    return divide


def hashes(faces):
    return set(faces.face_hashes())


@pytest.mark.parametrize("form", ["npz", "npz:all", "folder", "list", "class folders:all"])
def test_all_that_is_given_is_used_in_every_form(images, given, divide, tmp_path, capfd, form):
    data = given(labels=form == "npz:all") + (":all" if form == "npz:all" else "")
    if not form.startswith("npz"):
        cv2 = pytest.importorskip("cv2")
        for number, image in enumerate(images):
            path = tmp_path / "photos" / (("x", "y")[number % 2] if "class" in form else "") / f"{number}.png"
            path.parent.mkdir(exist_ok=True, parents=True)
            cv2.imwrite(str(path), image)
        listing = tmp_path / "list.txt"
        listing.write_text("".join(f"photos/{number}.png\n" for number in range(600)))
        data = {"folder": str(tmp_path / "photos"), "list": str(listing)}.get(form, f"{tmp_path / 'photos'}:all")
    found = divide(data)
    assert (len(found.ranges), len(found.apart)) == (540, 60)
    assert len(hashes(found.ranges) | hashes(found.apart)) == 600
    assert f"{data}: 540 of 600 images set the ranges, 60 others measure the agreement" in capfd.readouterr().err
    again = divide(data)
    assert hashes(again.apart) == hashes(found.apart)


def test_a_set_without_splits_keeps_its_test_part_out(given, divide, capfd):
    data = given()
    test = hashes(open_dataset(data).split("test"))
    for purpose in Purpose:
        found = divide(data, purpose)
        used = hashes(found.ranges) | (set() if found.apart is None else hashes(found.apart))
        assert len(used) == 600 - len(test)
        assert not used & test
    assert hashes(found.apart) == hashes(open_dataset(data).split("val")), "on which checkpoints are chosen too"
    assert f"{len(test)} of its 600 faces measure (`test`)" in capfd.readouterr().err


def test_data_with_a_train_split_give_calib_and_val(given, divide):
    data = given(splits=["train"] * 500 + ["test"] * 100)
    found, calib = divide(data), open_dataset(data).split("calib")
    assert hashes(found.ranges) == hashes(calib)
    assert hashes(found.apart) == hashes(open_dataset(data).split("val"))
    assert divide(data, Purpose.TABLE).apart is None
    named = divide(data + ":train")
    assert len(named.ranges) + len(named.apart) == 500, "what is named is used whole"
    with pytest.raises(EdgeferError, match="test faces set no ranges: what `bench` measures on them") as caught:
        divide(data + ":test")
    assert f"--calib {data}, without ':test'" in caught.value.hint


def test_images_without_labels_may_declare_a_test(given, divide):
    found = divide(given(labels=False, splits=["train"] * 500 + ["test"] * 100))
    assert len(found.ranges) + len(found.apart) == 500


def test_a_number_is_a_stratified_sample_and_the_others_measure(given, divide, capfd):
    found = divide(given() + ":all", faces=60)
    assert set(found.ranges.per_class_counts().values()) == {20}
    assert len(found.apart) == 500
    whole = open_dataset(given() + ":all")
    groups = dict(zip(whole.face_hashes(), whole.group_keys().tolist(), strict=True))
    assert not {groups[one] for one in found.ranges.face_hashes()} & {groups[one] for one in found.apart.face_hashes()}


def test_a_number_that_leaves_none_apart_holds_some_back_first(given, divide, capfd):
    for settings, ranges in (({"faces": 600}, 540), ({"faces": 5000}, 540), ({"per_class": 200}, 540)):
        found = divide(given() + ":all", **settings)
        assert (len(found.ranges), len(found.apart)) == (ranges, 60)
        told = capfd.readouterr().err
        assert f"{next(iter(settings.values())):,} would leave fewer than 20 of" in told
        assert ("5,000 images were asked for, and" in told) == (settings == {"faces": 5000})
    few = divide(given(25, labels=False), faces=30)
    assert (len(few.ranges), few.apart) == (25, None)
    assert "40 or more are needed" in few.reason


def test_a_method_is_chosen_and_layers_are_ranked_without_labels(model, given, tmp_path):
    data = Quantisation(given(labels=False), method="auto")
    made = edgefer.build_engine(model, tmp_path / "x.onnx", precision="int8", quantisation=data)
    assert len({row.method for row in made.candidates}) == 4
    assert all(row.drop_pp is None and row.agreement > 0.5 and row.kl >= 0 for row in made.candidates)
    assert made.agreement.images == len(made.manifest.choice_faces) == 60
    ranked = sensitivity(model, Quantisation(given(labels=False)))
    assert (ranked.top1, ranked.faces, ranked.whole.drop_pp) == (None, 60, None)
    assert min(ranked.whole.kl, ranked.layers[0].kl) > 0
    assert sensitivity(model, Quantisation(given(classes=("a", "b", "c", "d")))).top1 is None, "they are other classes"
    print_sensitivity(ranked)
    with pytest.raises(EdgeferError, match="25 images set the ranges, .* none is left to compare answers"):
        sensitivity(model, Quantisation(given(25, labels=False)))
    assert [path.name for path in tmp_path.glob("x*")] == ["x.onnx", "x.onnx.json"]


def test_test_faces_left_to_measure(given):
    for data in (given() + ":all", given(splits=["train"] * 480 + ["test"] * 120) + ":all"):
        faces = open_dataset(data)
        test = hashes(open_dataset(data.removesuffix(":all")).split("test"))
        assert left_to_measure(faces, ()) == left_to_measure(faces, ["0" * 10]) == len(test)
        assert left_to_measure(faces, [face[:10] for face in sorted(test)[:7]]) == len(test) - 7
        assert left_to_measure(faces, faces.face_hashes()) == 0


def test_few_images_all_set_ranges_and_why_is_said(model, given, tmp_path, capfd):
    result = edgefer.build_engine(
        model, tmp_path / "x.onnx", precision="int8", quantisation=Quantisation(given(25, labels=False))
    )
    assert result.manifest.calibration.n == 25
    assert "all 25 images set the ranges" in capfd.readouterr().err
    assert "agreement with float: not measured: all 25 images set the ranges" in result.summary()
    assert read_manifest(result.path).agreement is None


def test_a_named_split_is_divided_where_candidates_are_evaluated(given, divide, capfd):
    data = given() + ":all"
    found = divide(data, Purpose.CHOICE)
    assert len(found.ranges) + len(found.evaluation) == 600
    assert len(found.evaluation) == pytest.approx(300, abs=2)
    assert "others evaluate candidates" in capfd.readouterr().err
    assert hashes(divide(data, Purpose.CHOICE).evaluation) == hashes(found.evaluation)


def test_other_classes_calibrate_and_a_missing_one_is_a_note(given, divide, capfd):
    assert len(divide(given(classes=("a", "b", "c", "d")) + ":all").ranges) == 540
    assert "no image of" not in capfd.readouterr().err
    two = open_dataset(given(classes=("a", "b")) + ":all")
    only_a = two.subset(np.flatnonzero(two.labels == 0))
    found = divide(only_a)
    assert len(found.ranges) + len(found.apart) == 300
    assert "has no image of b: the others set the ranges" in capfd.readouterr().err


def test_choices_need_labels_and_the_networks_classes(given, divide):
    with pytest.raises(EdgeferError, match=r"has no labels, and evaluation by accuracy \(--auto") as caught:
        divide(given(labels=False), Purpose.CHOICE)
    assert "without labels they can calibrate" in caught.value.hint
    with pytest.raises(EdgeferError, match="the network has the classes dark, bright, striped"):
        divide(given(classes=("a", "b")), Purpose.CHOICE)
    with pytest.raises(EdgeferError, match="has no labels, and --per-class needs them"):
        divide(given(labels=False), per_class=5)


def test_images_that_cannot_be_read_are_left_out_and_counted(images, divide, tmp_path, capfd):
    cv2 = pytest.importorskip("cv2")
    for number in range(50):
        cv2.imwrite(str(tmp_path / f"{number}.png"), images[number])
    (tmp_path / "7.png").write_bytes(b"x")
    found = divide(str(tmp_path))
    assert len(found.ranges) + len(found.apart) == 49
    assert "1 of 50 images cannot be read and is left out" in capfd.readouterr().err


def test_the_agreement_is_in_the_result_and_in_the_manifest(model, given, tmp_path):
    quantisation = Quantisation(given(labels=False))
    result = edgefer.build_engine(model, tmp_path / "x.onnx", precision="int8", quantisation=quantisation)
    found = result.agreement
    assert found.images == 60
    low, high = found.ci95
    assert 0.9 < low < found.share == pytest.approx(min(1, high), abs=0.05)
    apart = divide_faces(quantisation, result.manifest.contract, Purpose.ENGINE).apart
    with edgefer.load_engine(result.path) as int8:
        edgefer.build_engine(model, tmp_path / "f.onnx", precision="fp32")
        with edgefer.load_engine(tmp_path / "f.onnx") as plain:
            faces = apart.images(range(60))
            same = int8.logits_of_all(faces).argmax(axis=1) == plain.logits_of_all(faces).argmax(axis=1)
    assert found.agreeing == same.sum()
    assert read_manifest(result.path).agreement == found.to_dict()
    assert f"agreement with float: {100 * found.share:.1f} %" in result.summary()
    assert not hashes(apart) & set(result.manifest.calibration.face_hashes)


class FakeClassifier:
    """Answers 1 where a face is brighter than ``level``, else 0."""

    def __init__(self, contract, level):
        self.contract, self.level = contract, level

    def logits_of_all(self, images):
        return np.eye(3)[(images.mean(axis=(1, 2, 3)) > self.level).astype(int)]


def test_the_agreement_is_a_share_of_images_with_near_duplicates_counted_once(images, given, about):
    faces, level = open_dataset(given(labels=False)), np.median(images.mean(axis=(1, 2, 3)))
    found = measure_agreement(FakeClassifier(about(), level), FakeClassifier(about(), level + 3), faces)
    means = images.mean(axis=(1, 2, 3))
    assert 0 < found.agreeing == 600 - ((means > level) & (means <= level + 3)).sum() < 600 == found.images
    assert found.share == found.agreeing / 600
    assert found.effect > 1
    assert found.ci95 == wilson_interval(found.agreeing, 600, found.effect)
    assert Agreement.from_dict(found.to_dict()) == found


def test_a_file_for_tensorrt_has_its_agreement_too(model, given, tmp_path):
    target = edgefer.BuildTarget("tensorrt", version="jetpack6")
    path, data = tmp_path / "x.onnx", Quantisation(given(labels=False))
    result = edgefer.build_engine(model, path, precision="int8+fp16", quantisation=data, target=target, onnx_only=True)
    assert result.agreement.images == 60
    assert "agreement with float" in result.summary()


def test_the_recipes_number_bounds_only_what_ships(given, divide, monkeypatch):
    monkeypatch.setattr("edgefer.optimize.settings.recipe_for", lambda _: CalibrationRecipe(10, 0, "mse"))
    data = given(splits=["train"] * 600)
    whole = len(divide(data).ranges)
    assert whole > 10
    monkeypatch.setattr("edgefer.optimize.given_faces.shipped_table", lambda *_: object())
    assert len(divide(data).ranges) == 10
    assert len(divide(data + ":train").ranges) == 540

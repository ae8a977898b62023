"""What `edgefer train` leaves for a person to look at."""

import csv

import numpy as np
import pytest
from click.testing import CliRunner

from edgefer.cli import cli
from edgefer.data import open_dataset, save_npz, synthetic_faces
from edgefer.errors import EdgeferError
from edgefer.report.training import CURVE_COLUMNS, TAGS, after_each_epoch, write_training_report
from edgefer.training import TrainConfig, train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_npz(folder / "d.npz", *synthetic_faces(600, seed=3)[:2], splits=["train"] * 600)
    arguments = ["train", "--model", "lenet", "--data", folder / "d.npz", "-o", folder / "w.safetensors"]
    arguments += ["--epochs", 3, "--threads", 1, "--plots", folder / "plots", "--tensorboard", folder / "events"]
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return folder, result.output


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_the_curve_as_numbers(run):
    folder, said = run
    head, *body = rows(folder / "plots" / "curve.csv")
    assert head == ["epoch", "loss", "top1", "val_loss", "val_top1", "lr"]
    assert [row[0] for row in body] == ["1", "2", "3"]
    best = max(float(row[4]) for row in body)
    assert f"top-1 {100 * best:.2f} % on val" in said
    assert str(folder / "plots" / "curve.png") in said


def test_the_confusion_matrix_counts_every_val_face(run):
    folder, said = run
    head, *body = rows(folder / "plots" / "confusion.csv")
    counts = np.array([[int(cell) for cell in row[1:]] for row in body])
    val = open_dataset(folder / "d.npz").split("val")
    assert tuple(head[1:]) == val.classes == tuple(row[0] for row in body)
    assert counts.sum(axis=1).tolist() == list(val.per_class_counts().values())
    assert f"top-1 {100 * counts.trace() / counts.sum():.2f} % on val" in said


def test_the_pictures_are_drawn(run):
    cv2 = pytest.importorskip("cv2")
    for name in ("curve.png", "confusion.png"):
        picture = cv2.imread(str(run[0] / "plots" / name))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 10


def events(path):
    from tensorboardX.proto import event_pb2

    content, position = path.read_bytes(), 0
    while position < len(content):  # length, its checksum, the event, its checksum
        length = int.from_bytes(content[position : position + 8], "little")
        yield event_pb2.Event.FromString(content[position + 12 : position + 12 + length])
        position += length + 16


def test_event_files_have_every_epoch(run):
    (path,) = (run[0] / "events").iterdir()
    found = {}
    for event in events(path):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert set(found) == set(TAGS.values())
    curve = rows(run[0] / "plots" / "curve.csv")
    column = curve[0].index("val_top1")
    assert found["top1/val"] == pytest.approx({int(row[0]): float(row[column]) for row in curve[1:]}, abs=1e-6)


def test_tensorboard_forgets_what_a_resumed_run_does_again(tmp_path):
    from tensorboardX.proto.event_pb2 import SessionLog

    with after_each_epoch(None, tmp_path / "events") as on_epoch:
        assert not (tmp_path / "events").exists()  # a run that is refused leaves none
        for epoch in (3, 4):
            on_epoch([dict.fromkeys(TAGS, 0.5) | {"epoch": epoch}])
    (path,) = (tmp_path / "events").iterdir()
    (begun,) = (event.step for event in events(path) if event.session_log.status == SessionLog.START)
    assert begun == 3


def test_curves_are_drawn_after_each_epoch(tmp_path):
    pytest.importorskip("matplotlib")
    curve = []
    with after_each_epoch(tmp_path, None) as on_epoch:
        for epoch in (1, 2):
            curve.append(dict.fromkeys(CURVE_COLUMNS, 0.5) | {"epoch": epoch})
            on_epoch(curve)
            assert len((tmp_path / "curve.csv").read_text().splitlines()) == 1 + epoch
            assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("option", ["-o", "--plots", "--tensorboard"])
def test_places_that_cannot_be_written_are_refused_before_the_first_step(tmp_path, monkeypatch, option):
    monkeypatch.setattr("edgefer.training.loop.prepare_split", lambda *_: pytest.fail("faces were read"))
    save_npz(tmp_path / "d.npz", *synthetic_faces(100, seed=3)[:2], splits=["train"] * 100)
    (tmp_path / "file").write_text("")
    places = {"-o": tmp_path / "w.safetensors", option: tmp_path / "file" / "w.safetensors"}
    arguments = [
        "train",
        "--model",
        "lenet",
        "--data",
        tmp_path / "d.npz",
        *(a for pair in places.items() for a in pair),
    ]
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert isinstance(result.exception, EdgeferError), result.exception
    assert f"{tmp_path / 'file'} is not a folder" in result.exception.message
    assert {path.name for path in tmp_path.iterdir()} == {"d.npz", "file"}


def test_classes_in_another_order_are_brought_by_name(run, tmp_path):
    folder, _ = run
    result = train(
        open_dataset(folder / "d.npz"), "lenet", tmp_path / "w.safetensors", TrainConfig(epochs=1, threads=1)
    )
    images, labels = synthetic_faces(600, seed=3)[:2]
    classes = ("neutral", "surprise", "sad", "happy", "fear", "disgust", "angry")
    save_npz(tmp_path / "reversed.npz", images, 6 - labels, classes, splits=["train"] * len(labels))
    for name in ("d", "reversed"):
        data = open_dataset((folder if name == "d" else tmp_path) / f"{name}.npz")
        write_training_report(tmp_path / name, result.curve, result.output, data)
    assert rows(tmp_path / "d" / "confusion.csv") == rows(tmp_path / "reversed" / "confusion.csv")


def test_options_go_before_the_recipe(tmp_path):
    save_npz(tmp_path / "d.npz", *synthetic_faces(200, seed=3)[:2], splits=["train"] * 200)
    (tmp_path / "r.toml").write_text('model = "lenet"\nnote = "made up"\n[train]\nepochs = 50\nthreads = 1\n')
    arguments = ["train", "--recipe", tmp_path / "r.toml", "--data", tmp_path / "d.npz", "--epochs", 2]
    result = CliRunner().invoke(cli, [str(a) for a in [*arguments, "-o", tmp_path / "w.safetensors"]])
    assert result.exit_code == 0, result.output
    assert "of 2," in result.output
    assert "r.toml: made up" in result.output, "the note says what came out, and where to get what it begins with"


@pytest.mark.parametrize("option", ["--init", "--teacher"])
def test_what_training_begins_with_is_not_written_over(run, option):
    weights = run[0] / "w.safetensors"
    before = weights.read_bytes()
    arguments = ["train", "--model", "lenet", "--data", run[0] / "d.npz", option, weights, "-o", weights]
    result = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert isinstance(result.exception, EdgeferError)
    assert "is what training begins with" in result.exception.message
    assert weights.read_bytes() == before


def test_a_network_has_to_be_named(tmp_path):
    result = CliRunner().invoke(cli, ["train", "--data", "d.npz", "-o", str(tmp_path / "w.safetensors")])
    assert result.exit_code == 2
    assert "--model NAME, --module PKG.MOD:FACTORY or --recipe" in result.output

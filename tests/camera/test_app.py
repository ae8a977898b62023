import threading
import time

import numpy as np
import pytest

from edgefer.camera.app import App, Mailbox, Options, turned
from edgefer.camera.sink import FaceRecorder
from edgefer.camera.smooth import Smoothing
from edgefer.camera.source import open_source
from edgefer.errors import EdgeferError

from .conftest import DETECTOR, FakeDetector, FakeSource, KeepingSink, detection, needs_detector, room

ONE = FakeDetector(lambda _, __: [detection(30, 30)])


def run(source, detector, classifier, sinks, **options):
    return App(source, detector, classifier, sinks, Options(**options)).run()


def test_a_file_loses_no_frame_and_ends_cleanly(classifier):
    sink = KeepingSink()
    summary = run(FakeSource(40), FakeDetector(lambda _, __: [detection(30, 30)]), classifier, [sink])
    assert [seen.frame.number for seen in sink.seen] == list(range(40))
    assert (summary.read, summary.shown, sum(summary.dropped.values())) == (40, 40, 0)
    assert sink.closed
    assert {face.label for seen in sink.seen for face in seen.faces} == {"bright"}
    assert {face.tracked.number for seen in sink.seen for face in seen.faces} == {1}
    assert "40 frames shown" in str(summary)
    assert "1 face" in str(summary)


def test_the_detector_looks_every_n_frames_and_again_at_once_when_something_is_new(classifier):
    detector = FakeDetector(lambda _, __: [detection(30, 30)])
    sink = KeepingSink()
    run(FakeSource(20), detector, classifier, [sink], every=5)
    searched = [seen.frame.number for seen in sink.seen if seen.searched]
    assert searched == [0, 1, 6, 11, 16]
    assert all(len(seen.faces) == 1 for seen in sink.seen)


def test_a_slow_stage_drops_frames_of_a_camera_and_counts_them(classifier):
    detector = FakeDetector(lambda _, __: [], seconds=0.03)
    sink = KeepingSink()
    summary = run(FakeSource(60, live=True, fps=200), detector, classifier, [sink], every=1)
    assert summary.read == 60
    assert summary.dropped["detect"] > 20
    assert summary.shown + sum(summary.dropped.values()) == 60
    assert "dropped" in str(summary)
    numbers = [seen.frame.number for seen in sink.seen]
    assert numbers == sorted(set(numbers))
    # the age of what is shown is that of one slow stage, not of a queue
    assert summary.age_p95_ms < 200


def test_a_video_in_real_time_takes_its_time(video, classifier):
    sink = KeepingSink()
    start = time.monotonic()
    summary = run(open_source(str(video)), FakeDetector(lambda _, __: []), classifier, [sink], realtime=True)
    assert time.monotonic() - start > 29 / 30 * 0.95
    assert summary.read == 30


@needs_detector
def test_a_real_video_has_one_face_that_moves(video, classifier):
    from edgefer.camera.detectors import open_detector

    sink = KeepingSink(wants_picture=True)
    summary = run(open_source(str(video)), open_detector(DETECTOR), classifier, [sink])
    assert summary.tracks == 1
    middles = {seen.frame.number: seen.faces[0].tracked.detection.centre for seen in sink.seen if seen.faces}
    assert len(middles) >= 25
    for number, (x, y) in middles.items():
        assert x == pytest.approx(100 + 4 * number, abs=16)
        assert y == pytest.approx(120, abs=16)


def test_two_hundred_faces_are_labelled_up_to_the_maximum_and_the_rest_is_counted(classifier, capsys):
    crowd = [detection(12 * (i % 20), 10 * (i // 20), 8 + i / 100) for i in range(200)]
    sink = KeepingSink(wants_picture=True)
    run(FakeSource(3, size=(120, 260)), FakeDetector(lambda _, __: crowd), classifier, [sink], max_faces=50)
    assert [(len(seen.faces), seen.left_out) for seen in sink.seen] == [(50, 150)] * 3
    smallest = min(face.tracked.detection.box[2] for face in sink.seen[0].faces)
    assert smallest > 9.4
    told = capsys.readouterr().err
    assert told.count("200 faces at once: the largest 50 are labelled (--max-faces)") == 1


def test_a_source_that_dies_closes_the_sinks_and_is_the_error(classifier):
    sink = KeepingSink()
    fault = EdgeferError("the camera stopped after 5 frames", hint="check its cable")
    with pytest.raises(EdgeferError, match="stopped after 5 frames"):
        run(FakeSource(5, fault=fault), ONE, classifier, [sink])
    assert sink.closed


@pytest.mark.parametrize("where", ["detector", "sink"])
def test_a_fault_in_any_stage_ends_the_app_with_it(classifier, where):
    def broken(_, __):
        raise EdgeferError("the disk is full", hint="free some space")

    sink = KeepingSink(fault=EdgeferError("the disk is full") if where == "sink" else None)
    detector = FakeDetector(broken) if where == "detector" else ONE
    start = time.monotonic()
    with pytest.raises(EdgeferError, match="the disk is full"):
        run(FakeSource(10_000, live=True), detector, classifier, [sink])
    assert sink.closed
    assert time.monotonic() - start < 2


def test_a_sink_can_end_the_app(classifier):
    sinks = [KeepingSink(stop_after=7), KeepingSink()]
    start = time.monotonic()
    run(FakeSource(10_000, live=True), ONE, classifier, sinks)
    assert [len(sink.seen) for sink in sinks] == [7, 7]
    assert time.monotonic() - start < 2


def test_ctrl_c_closes_the_sinks_within_a_second(classifier):
    class Interrupted(KeepingSink):
        def write(self, seen):
            if len(self.seen) == 5:
                raise KeyboardInterrupt
            return super().write(seen)

    sinks = [KeepingSink(), Interrupted()]
    start = time.monotonic()
    summary = run(FakeSource(10_000, live=True), FakeDetector(lambda _, __: [], seconds=0.05), classifier, sinks)
    assert time.monotonic() - start < 1.5
    assert all(sink.closed for sink in sinks)
    assert summary.shown == 6


def test_seconds_end_it(classifier):
    start = time.monotonic()
    run(FakeSource(10_000, live=True), ONE, classifier, [KeepingSink()], seconds=0.3)
    assert 0.25 < time.monotonic() - start < 1.5


def test_pictures_of_a_folder_have_nothing_to_do_with_each_other(classifier):
    source = FakeSource(4)
    source.stills = True
    sink = KeepingSink()
    run(source, FakeDetector(lambda _, __: [detection(30, 30)]), classifier, [sink], every=9)
    assert [seen.faces[0].tracked.number for seen in sink.seen] == [1, 2, 3, 4]


def test_rotation_and_mirror():
    picture = room(6, 4)
    assert turned(picture, Options(rotate=90)).shape == (6, 4, 3)
    assert (turned(picture, Options(rotate=90))[0, -1] == picture[0, 0]).all()
    assert (turned(picture, Options(rotate=180, mirror=True)) == picture[::-1]).all()
    assert turned(picture, Options()) is picture


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"rotate": 45}, "rotated by 45°", "90, 180 or 270"),
        ({"every": 0}, "every 0 frames", "1 or more"),
        ({"max_faces": 0}, "at most 0 faces", "1 or more"),
    ],
)
def test_senseless_options_are_refused(options, message, hint):
    with pytest.raises(EdgeferError) as fault:
        Options(**options)
    assert message in fault.value.message
    assert hint in fault.value.hint


def test_recording_is_a_dataset_by_label_at_one_face_a_second(classifier, tmp_path, capsys):
    from edgefer.data import open_dataset

    folder = tmp_path / "faces"
    recorder = FaceRecorder(folder)
    assert f"recording faces into {folder}" in capsys.readouterr().err.replace("\n", "")
    two = FakeDetector(lambda _, __: [detection(5, 30), detection(90, 30)])
    App(FakeSource(30, live=True, fps=200), two, classifier, [KeepingSink()], recorder=recorder).run()
    files = sorted(folder.rglob("*.png"))
    assert recorder.written == len(files) == 2
    assert {path.parent.name for path in files} == {"bright"}
    (folder / "dark").mkdir()
    files[0].rename(folder / "dark" / files[0].name)
    faces = open_dataset(f"{folder}:train")
    assert len(faces) == 2
    assert faces.images([0]).shape == (1, 24, 24, 1)


@pytest.mark.parametrize("label", ["..", ".", "", "../../up", "/", "__x", "x" * 300, "\x1b[2J"])
def test_a_class_of_any_name_is_recorded_inside_the_folder(label, tmp_path):
    recorder = FaceRecorder(tmp_path / "faces")
    recorder.offer(1, np.zeros((8, 8, 1), np.uint8), label, 100.0)
    (written,) = tmp_path.rglob("*.png")
    assert written.parent.parent == tmp_path / "faces"
    assert not written.parent.name.startswith((".", "__"))  # else readers pass it over


def test_nothing_is_recorded_unless_asked_for(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(FakeSource(10), ONE, classifier, [KeepingSink(wants_picture=True)], smoothing=Smoothing(kind="none"))
    assert list(tmp_path.iterdir()) == []


def test_a_recording_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(EdgeferError, match="cannot make the folder") as fault:
        FaceRecorder(tmp_path / "file" / "faces")
    assert "--record-faces" in fault.value.hint


def test_the_newest_item_replaces_one_that_nobody_took():
    box = Mailbox(newest=True)
    for item in range(5):
        box.put(item)
    assert box.get() == 4
    assert box.dropped == 4
    with pytest.raises(TimeoutError):
        box.get(timeout=0.01)


def test_a_box_that_loses_nothing_makes_the_giver_wait():
    box = Mailbox(newest=False)
    threading.Thread(target=lambda: [box.put(item) for item in range(20)] + [box.close()], daemon=True).start()
    taken = []
    while (item := box.get(timeout=5)) is not None:
        taken.append(item)
        time.sleep(0.001)
    assert taken == list(range(20))
    assert box.dropped == 0


def test_a_closed_box_gives_its_last_item_and_then_nothing():
    box = Mailbox(newest=True)
    box.put("last")
    box.close()
    box.put("too late")
    assert (box.get(), box.get()) == ("last", None)


def test_closing_frees_who_waits():
    box = Mailbox(newest=False)
    box.put(1)
    giver = threading.Thread(target=box.put, args=(2,), daemon=True)
    giver.start()
    box.close()
    giver.join(2)
    assert not giver.is_alive()

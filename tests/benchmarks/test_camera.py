"""The camera benchmark: that its truth is the truth, and that the script runs at its smallest."""

import json

import numpy as np
import pytest

from .test_scripts import run

cv2 = pytest.importorskip("cv2")


def test_a_face_is_pasted_where_its_place_says():
    from scenes import Place, paste

    from edgefer.camera.detection import cut
    from edgefer.contract import Contract, Normalisation

    contract = Contract(("a", "b"), 48, 48, 1, Normalisation(), "none")
    face = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 48), dtype=np.uint8), (0, 0), 3)
    for place in (Place(200.5, 150.25, 96), Place(300, 200, 120, 15.0), Place(320, 240, 60, -20.0)):
        scene = np.full((480, 640, 3), 128, np.uint8)
        paste(scene, face, place)
        back = cut(scene, place.square, contract)[:, :, 0].astype(int)
        middle = (slice(10, 38), slice(10, 38))  # the rim fades out
        assert np.abs(back - face)[middle].mean() < 2


def test_overlap_of_tilted_squares():
    from scenes import overlap

    from edgefer.camera.detection import Square

    assert overlap(Square(50, 50, 20), Square(50, 50, 20)) == pytest.approx(1)
    assert overlap(Square(50, 50, 20), Square(60, 50, 20)) == pytest.approx(1 / 3)
    octagon = 2 * (np.sqrt(2) - 1)  # of a square and the same turned by 45°
    assert overlap(Square(50, 50, 1), Square(50, 50, 1, 45)) == pytest.approx(octagon / (2 - octagon), abs=1e-4)
    assert overlap(Square(0, 0, 2), Square(9, 9, 2)) == 0


def test_a_video_goes_round_without_a_jump_and_is_evaluated_by_its_truth():
    from scenes import FRAMES, BoxCounter, Video, VideoSource, make_video, right_boxes

    from edgefer.camera.detection import Square
    from edgefer.data import synthetic_faces

    video = make_video([face.squeeze() for face in synthetic_faces(4, 0)[0]])
    assert isinstance(video, Video)
    path = np.array([[(p.x, p.y, p.side) for p in places] for places in video.places])
    steps = np.abs(np.diff(np.concatenate([path, path[:1]]), axis=0))
    assert path.shape == (FRAMES, 4, 3)
    assert steps.max() < 8
    assert steps[-1].max() <= steps.max()
    places = video.places[0]
    squares = [Square(p.x, p.y, p.side) for p in places]
    assert right_boxes(squares, places) == 4
    assert right_boxes([Square(s.x + s.side, s.y, s.side) for s in squares], places) == 0
    source = VideoSource(video, FRAMES + 1)
    frames = [source.read() for _ in range(FRAMES + 1)]
    np.testing.assert_array_equal(frames[0], frames[-1])
    assert source.read() is None
    counter = BoxCounter(video)
    counter.count(squares[:3], places, 5.0)
    assert counter.share == 0.75


@pytest.mark.slow
def test_the_camera_benchmark_measures_loop_and_app(tmp_path):
    pytest.importorskip("torch")
    output = tmp_path / "camera.json"
    done = run("camera.py", "--quick", "--output", output)
    if "YuNet cannot be downloaded" in done.stderr:
        pytest.skip("YuNet is not here and cannot be downloaded")
    assert done.returncode == 0, done.stderr
    result = json.loads(output.read_text())
    names = ["tutorials' loop", "app, Haar", "app, YuNet"]
    for count in ("1", "4"):
        assert list(result["videos"][count]) == list(result["paced"][count]) == names
        assert result["videos"][count]["tutorials' loop"]["over_loop"] == 1
    assert len(result["memory"]["resident_mb"]) == 10
    (tmp_path / "page.md").write_text("no block\n")  # a quick run's figures go on no page that has one
    table = run("tables.py", "camera", "--results", output, "--page", tmp_path / "page.md")
    assert table.returncode == 0, table.stderr
    assert "| app, YuNet |" in table.stdout

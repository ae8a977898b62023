import sys

import cv2
import pytest

from edgefer.camera import video as videos
from edgefer.camera.video import Video
from edgefer.errors import EdgeferError

from .conftest import seen


@pytest.fixture(autouse=True)
def no_ffmpeg(monkeypatch):
    """What is written must not depend on whether the program ffmpeg is installed here."""
    monkeypatch.setenv("PATH", "/nonexistent")
    videos.ffmpeg_encoder.cache_clear()
    yield
    videos.ffmpeg_encoder.cache_clear()


def frames_of(path):
    video = cv2.VideoCapture(str(path))
    frames = []
    while (answer := video.read())[0]:
        frames.append(answer[1])
    return frames, video.get(cv2.CAP_PROP_FPS)


def test_a_video_plays_after_it_was_closed_and_is_not_there_before(tmp_path):
    path = tmp_path / "out.mp4"
    video = Video(path, 30.0, live=False)
    for number in range(12):
        assert video.write(seen(number, level=20 * number))
    assert not path.exists()
    video.close()
    frames, fps = frames_of(path)
    assert (len(frames), fps, frames[0].shape) == (12, 30.0, (48, 64, 3))
    assert frames[6].mean() == pytest.approx(120, abs=4)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_live_video_runs_at_the_right_speed_whatever_was_dropped(tmp_path):
    video = Video(tmp_path / "out.mp4", 30.0, live=True)
    moments = [0, 0.033, 0.066, 0.5, 0.51, 0.52, 1.0, 60.0]  # dropped frames, frames too many, a source that was away
    for moment in moments:
        video.write(seen(captured=100 + moment))
    video.close()
    frames, _ = frames_of(tmp_path / "out.mp4")
    assert len(frames) == pytest.approx(30 * (1.0 + Video._MAX_GAP), abs=3)


def test_a_frame_of_another_size_is_brought_to_the_video_s_in_its_own_proportions(tmp_path):
    video = Video(tmp_path / "out.mp4", 30.0, live=False)
    video.write(seen())
    video.write(seen(size=(96, 96), level=200))
    video.close()
    frames = frames_of(tmp_path / "out.mp4")[0]
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 2
    assert frames[1][:, 12:52].mean() == pytest.approx(200, abs=8)  # 48×48 in the middle
    assert frames[1][:, [0, 1, 2, -3, -2, -1]].mean() == pytest.approx(0, abs=8)


def test_a_video_that_lost_frames_is_an_error_and_not_kept(tmp_path):
    class FullDisk:  # OpenCV's writer says nothing of it
        def __init__(self, writer):
            self._writer, self._left, self.release = writer, 3, writer.release

        def write(self, pixels):
            self._left -= 1
            if self._left >= 0:
                self._writer.write(pixels)

    video = Video(tmp_path / "out.mp4", 30.0, live=False)
    video.write(seen())
    video._writer = FullDisk(video._writer)
    for number in range(9):
        video.write(seen(number))
    with pytest.raises(EdgeferError, match=r"out\.mp4 was not written: 4 of 10 frames") as fault:
        video.close()
    assert "disk" in fault.value.hint
    assert list(tmp_path.iterdir()) == []


def test_without_a_frame_there_is_no_video(tmp_path, capsys):
    Video(tmp_path / "out.mp4", 30.0, live=True).close()
    assert list(tmp_path.iterdir()) == []
    assert "no frame came" in capsys.readouterr().err


def test_a_video_is_an_mp4(tmp_path):
    with pytest.raises(EdgeferError, match=r"written as \.mp4, not as .*out\.avi") as fault:
        Video(tmp_path / "out.avi", 30.0, live=False)
    assert "out.mp4" in fault.value.hint


FAKE_FFMPEG = """#!{python}
import sys, cv2, numpy
if "lavfi" in sys.argv:  # which encoders it has
    sys.exit("libopenh264" not in sys.argv)
size = tuple(map(int, sys.argv[sys.argv.index("-s") + 1].split("x")))
fps = float(sys.argv[sys.argv.index("-r") + 1])
assert sys.argv[sys.argv.index("-c:v") + 1] == "libopenh264"
writer = cv2.VideoWriter(sys.argv[-1], cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
count = 0
while (frame := sys.stdin.buffer.read(size[0] * size[1] * 3)) and count != {frames}:
    writer.write(numpy.frombuffer(frame, numpy.uint8).reshape(size[1], size[0], 3))
    count += 1
writer.release()
"""


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """A program called ffmpeg that takes what ours sends it, of which it keeps the first ``frames``."""

    def made(frames=-1):
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir()
        program.write_text(FAKE_FFMPEG.format(python=sys.executable, frames=frames))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        opened = cv2.VideoWriter
        monkeypatch.setattr(  # an OpenCV without H.264, as pip's is
            videos.cv2, "VideoWriter", lambda path, code, *how: opened(path, 0 if code == AVC1 else code, *how)
        )

    return made


AVC1 = cv2.VideoWriter_fourcc(*"avc1")


def test_ffmpeg_encodes_where_opencv_has_no_h264(tmp_path, fake_ffmpeg, capsys):
    fake_ffmpeg()
    video = Video(tmp_path / "out.mp4", 25.0, live=False)
    for number in range(5):
        video.write(seen(number, level=40 * number))
    video.close()
    frames, fps = frames_of(tmp_path / "out.mp4")
    assert (len(frames), fps) == (5, 25.0)
    assert frames[3].mean() == pytest.approx(120, abs=4)
    assert "out.mp4: 5 frames, H.264 by ffmpeg's libopenh264" in capsys.readouterr().err


def test_an_ffmpeg_that_ends_early_is_an_error_and_no_video(tmp_path, fake_ffmpeg):
    fake_ffmpeg(frames=2)
    video = Video(tmp_path / "out.mp4", 25.0, live=False)
    for number in range(9):
        video.write(seen(number))
    with pytest.raises(EdgeferError, match=r"out\.mp4 was not written: 2 of 9 frames"):
        video.close()
    assert not (tmp_path / "out.mp4").exists()

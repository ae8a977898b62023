"""The C++ app's window, on a display that nobody sees."""

import signal
import subprocess
import time

import cv2

from .program import QUIET, ended_by, events_of, flat, program, until_lines, write_boxes


def test_each_picture_stays_in_the_window_and_a_signal_ends_that(brightness, tmp_path, display):
    program()
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), flat(30))
    events, boxes = tmp_path / "events.jsonl", write_boxes(tmp_path / "b", {n: [(20, 20, 60, 60)] for n in range(3)})
    command = [program(), brightness, "--source", folder, "--boxes", boxes, "--events", events, "--window"]
    said = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    app = subprocess.Popen([str(part) for part in command], env={**QUIET, "DISPLAY": display}, **said)
    until_lines(app, events, 0)  # it is open
    time.sleep(0.7)  # nobody presses a key: it stays at the first picture
    assert app.poll() is None, app.stderr.read()
    seconds, said = ended_by(app, signal.SIGINT)
    assert seconds < 1.0
    assert app.returncode == 0, said
    assert [event["frame"] for event in events_of(events)] == [0]

"""The package as Python sees it: its names, and the road that ``help(edgefer)`` shows."""

import textwrap

import cv2
import numpy as np

import edgefer
from edgefer.data import save_npz, synthetic_faces
from edgefer.data.classes import FER2013


def test_the_names_are_the_api():
    assert dir(edgefer) == sorted(edgefer.__all__, key=str)
    for name in dir(edgefer):
        assert getattr(edgefer, name) is not None


def test_the_road_in_the_help_is_run_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_npz("faces.npz", *synthetic_faces(2000, seed=0), FER2013, ["test"] * 250 + ["train"] * 1750)
    cv2.imwrite("people.png", np.full((120, 160, 3), 90, np.uint8))
    road = textwrap.dedent(str(edgefer.__doc__).split("::\n", 1)[1].split("\n\nFunctions", 1)[0])
    assert len(road.strip().splitlines()) <= 10
    names = {"edgefer": edgefer}
    exec(road, names)
    assert names["probabilities"].shape == (8, 7)
    assert names["report"].engines[-1].name
    assert names["people"].faces == ()

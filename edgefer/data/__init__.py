"""Data sets of faces: every kind is opened by :func:`open_dataset` and is a :class:`FaceSet`."""

from edgefer.data.classes import aligned, parse_map, relabel
from edgefer.data.faceset import FaceSet
from edgefer.data.inspection import contact_sheet
from edgefer.data.npz import save_npz
from edgefer.data.opening import ReadSettings, open_dataset
from edgefer.data.splits import refuse_overlap
from edgefer.data.synthetic import synthetic_faces

__all__ = [
    "FaceSet",
    "ReadSettings",
    "aligned",
    "contact_sheet",
    "open_dataset",
    "parse_map",
    "refuse_overlap",
    "relabel",
    "save_npz",
    "synthetic_faces",
]

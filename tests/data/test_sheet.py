"""Contact sheets: what is where on them."""

import numpy as np
import pytest

from edgefer.data import FaceSet, contact_sheet
from edgefer.data.classes import FER2013
from edgefer.data.sources import ArraySource
from edgefer.errors import EdgeferError

cv2 = pytest.importorskip("cv2")


@pytest.fixture
def opened(faces):
    return FaceSet(ArraySource(faces[0]), faces[1], FER2013, origin="drawn")


def test_a_class_a_row_with_its_faces(opened, faces, tmp_path):
    contact_sheet(opened, tmp_path / "sheet.png", per_class=5)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape == (7 * 80, 96 + 5 * 76 + 4, 3)
    first = opened.images([np.flatnonzero(faces[1] == 3)[0]])[0]
    shown = cv2.resize(sheet[3 * 80 + 4 : 3 * 80 + 76, 96 : 96 + 72, 0], (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - first[..., 0]).mean() < 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["sheet.png"]


def test_columns_break_a_class_into_rows(opened, tmp_path):
    contact_sheet(opened, tmp_path / "sheet.png", per_class=5, columns=2)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape == (7 * 3 * 80, 96 + 2 * 76 + 4, 3)


def test_wrong_predictions_are_red(opened, faces, tmp_path):
    predicted = faces[1].copy()
    predicted[np.flatnonzero(faces[1] == 0)[1]] = 5
    contact_sheet(opened, tmp_path / "sheet.png", per_class=3, predicted=predicted)
    sheet = cv2.imread(str(tmp_path / "sheet.png")).astype(int)
    red = (sheet[..., 2] > 150) & (sheet[..., 1] < 60)
    rows, columns = np.nonzero(red)
    assert rows.max() < 96
    assert columns.min() >= 96 + 76
    assert columns.max() < 96 + 2 * 76
    assert red.sum() > 500


def test_bad_arguments_are_named(opened, tmp_path):
    with pytest.raises(EdgeferError, match="shows nothing"):
        contact_sheet(opened, tmp_path / "s.png", per_class=0)
    with pytest.raises(EdgeferError, match=r"shape \(3,\).*for 210 faces") as caught:
        contact_sheet(opened, tmp_path / "s.png", predicted=[0, 1, 2])
    assert caught.value.hint == "pass one whole number a face"
    with pytest.raises(EdgeferError, match="from 9 to 9 for 7 classes"):
        contact_sheet(opened, tmp_path / "s.png", predicted=np.full(210, 9))
    assert not list(tmp_path.iterdir())

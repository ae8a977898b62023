"""Fixtures that several test folders share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights beside the project, where there is one."""
    if not (SHARED / "data" / "fer2013").is_dir():
        pytest.skip("the real faces are not here: no ../shared/data/fer2013 beside the project")
    return SHARED

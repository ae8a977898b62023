"""Engines for the tests of the C++ program."""

import pytest

pytest.importorskip("cv2")
pytest.importorskip("openvino")


@pytest.fixture(scope="session")
def brightness(tmp_path_factory):
    """An engine that tells dark from bright."""
    from .program import write_brightness_engine

    return write_brightness_engine(tmp_path_factory.mktemp("engine") / "brightness.onnx")

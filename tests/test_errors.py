"""What messages say, and what they must not."""

import pytest

from edgefer.errors import EdgeferError, redacted
from edgefer.progress import announce

ADDRESSES = {
    "rtsp://me:SECRET@cam/1": "rtsp://…@cam/1",
    "RTSP://SECRET@cam:554/1": "RTSP://…@cam:554/1",
    "rtsp://me:a@SECRET@cam": "rtsp://…@cam",
    "rtsp://me:a/SECRET@cam": "rtsp://…@cam",
    "rtsp://me:a?SECRET@cam": "rtsp://…@cam",
    "rtsp://me:a#SECRET@cam": "rtsp://…@cam",
    "rtsp://me:SECRET@[::1]:554/1": "rtsp://…@[::1]:554/1",
    "rtsp://me:SECRET": "rtsp://…",
    "rtsp://me:SECRET%40cam/1": "rtsp://…/1",
    "rtsp:/me:SECRET@cam/1": "rtsp:/…@cam/1",
    "//me:SECRET@cam/1": "//…@cam/1",
    "me:SECRET@cam/1": "…@cam/1",
    "http://cam/v.cgi?user=me&pwd=SECRET": "http://cam/v.cgi?…",
    "http://cam/v#SECRET": "http://cam/v#…",
    "ftp://me:SECRET@host": "ftp://…@host",
    "s3://SECRET": "s3://…",
    "rtspsrc location=rtsp://me:SECRET@cam user-pw=SECRET ! x": "rtspsrc location=rtsp://…@cam user-pw=… ! x",
    'rtspsrc location="rtsp://me:a SECRET@cam" ! x': 'rtspsrc location="rtsp://…@cam" ! x',
}


@pytest.mark.parametrize(("address", "shown"), ADDRESSES.items())
def test_passwords_and_queries_are_in_no_message(address, shown, capfd):
    assert redacted(f"nothing at {address} now") == f"nothing at {shown} now"
    assert redacted(f"({address}), or") == f"({shown}), or"
    fault = EdgeferError(f"there is no {address}", hint=f"try {address}")
    announce(f"opening {address}")
    assert "SECRET" not in f"{fault} {fault.message} {fault.args} {capfd.readouterr().err}"


@pytest.mark.parametrize(
    "text",
    [
        "see https://docs.nvidia.com/a.html: it says why",
        "the page is at http://localhost:8000/ (Ctrl-C ends it)",
        "PATH=/usr/lib:/usr/lib64, nets:Net, faces.npz:test: 3 faces, user@example.org",
        "give rtsp://cam:554/1, rtsp://… or csi://0",
        "at http://[::1]:80/x; C:/a/b.npz; rtsp://…@cam/1?… gives no more",
    ],
)
def test_other_text_stays_as_it_is(text):
    assert redacted(text) == text

import threading
import time

import pytest

from edgefer.camera.mailbox import Mailbox


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

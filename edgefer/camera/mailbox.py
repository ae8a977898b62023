"""A queue of one between two threads."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds at most one item.

    Args:
        newest: a new item replaces one that nobody took (counted in ``dropped``); False makes the giver wait, so that
            nothing is lost and the slowest stage sets the pace.
    """

    def __init__(self, *, newest: bool) -> None:
        self.dropped = 0
        self._newest = newest
        self._item: T | None = None
        self._closed = False
        self._changed = threading.Condition()

    def put(self, item: T) -> None:
        """Leave ``item``; after :meth:`close` it is thrown away."""
        with self._changed:
            if not self._newest:
                self._changed.wait_for(lambda: self._item is None or self._closed)
            if self._closed:
                return
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify_all()

    def get(self, timeout: float | None = None) -> T | None:
        """The item, as soon as there is one; None if the box is closed and empty.

        Raises:
            TimeoutError: nothing came within ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._item is not None or self._closed, timeout):
                raise TimeoutError
            item, self._item = self._item, None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """No more items will come; what is inside can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

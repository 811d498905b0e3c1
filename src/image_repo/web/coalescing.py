"""Requests that are alike, at the same time: the first goes ahead, and the others wait for what comes of it.

They could all go ahead: what they ask for is made once all the same. But each would take its time to be understood
on the way there, and again to be answered, while one interpreter is shared by all.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress

from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import Limiter, Stage
from image_repo.errors import Busy

#: seconds to wait for the first: what takes longer is waited for elsewhere, and what comes of it may be of no use
PATIENCE = 0.5


class RequestCoalescer:
    """Lets the first of those who ask for the same go ahead.

    :param limiter: bounds the requests that wait here; beyond that, a request proceeds uncoalesced
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()
        self._asked: dict[Hashable, _WaitingLine] = {}

    @contextmanager
    def turn(self, what: Hashable) -> Iterator[bool]:
        """Tells the first that it is the first, and the others that it is not, when it has ended."""
        with self._lock:
            line = self._asked.get(what)
            ours = None if line is None else line.join()
            if line is None:
                line = self._asked[what] = _WaitingLine()
        if ours is not None:
            with suppress(Busy), self._limiter.admit(Stage.COALESCED):
                line.wait(ours)
            line.call(ours)
            yield False
            return
        try:
            yield True
        finally:
            with self._lock:
                del self._asked[what]
            line.call()


class _WaitingLine:
    """Those who wait for one answer. Each calls the next: all at once, they would fight for the interpreter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: held until its owner is called
        self._waiting: deque[threading.Lock] = deque()

    def join(self) -> threading.Lock:
        """A place at the end of the line."""
        called = threading.Lock()
        called.acquire()
        self._waiting.append(called)
        return called

    def wait(self, called: threading.Lock) -> None:
        """Waits to be called, or for long enough."""
        called.acquire(timeout=deadline.left(PATIENCE))

    def call(self, own: threading.Lock | None = None) -> None:
        """Calls the next; from who was called himself, or has ended what was waited for."""
        with self._lock:
            with suppress(ValueError):  # else it leaves without having been called
                if own is not None:
                    self._waiting.remove(own)
                    return
            called = self._waiting.popleft() if self._waiting else None
        if called is not None:
            called.release()

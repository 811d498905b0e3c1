"""Request coalescing: of equal requests at the same time the first goes ahead, and the others repeat its response.

All could go ahead, because :mod:`image_repo.concurrency.single_flight` renders once for them. But each would be parsed
and answered by itself, while all threads share one interpreter.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress

from image_repo.concurrency import deadline
from image_repo.concurrency.limiter import Limiter, Stage
from image_repo.errors import Busy

#: seconds to wait for the first; longer waits belong to the application, and may be for a response of no use here
WAIT_S = 0.5


class RequestCoalescer:
    """Lets the first of several equal requests go ahead.

    :param limiter: bounds the requests that wait; beyond that, a request proceeds uncoalesced
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()
        self._queues: dict[Hashable, _Queue] = {}

    @contextmanager
    def turn(self, request: Hashable) -> Iterator[bool]:
        """Yield True to the first at once, and False to the others when it has ended."""
        with self._lock:
            queue = self._queues.get(request)
            place = None if queue is None else queue.join()
            if queue is None:
                queue = self._queues[request] = _Queue()
        if place is not None:
            with suppress(Busy), self._limiter.admit(Stage.COALESCED):
                queue.wait(place)
            queue.wake_next(place)
            yield False
            return
        try:
            yield True
        finally:
            with self._lock:
                del self._queues[request]
            queue.wake_next()


class _Queue:
    """Requests that wait for one response. Each wakes the next: all at once, they would contend for the GIL."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: each is locked until its owner is woken
        self._places: deque[threading.Lock] = deque()

    def join(self) -> threading.Lock:
        """Return a place at the end."""
        place = threading.Lock()
        place.acquire()
        self._places.append(place)
        return place

    def wait(self, place: threading.Lock) -> None:
        """Wait to be woken, at most :data:`WAIT_S`."""
        place.acquire(timeout=deadline.left(WAIT_S))

    def wake_next(self, own: threading.Lock | None = None) -> None:
        """Wake the next request.

        :param own: the caller's place; when it still waits there, it has given up, and nobody is woken
        """
        with self._lock:
            with suppress(ValueError):
                if own is not None:
                    self._places.remove(own)
                    return
            place = self._places.popleft() if self._places else None
        if place is not None:
            place.release()

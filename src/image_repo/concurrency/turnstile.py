"""A turnstile: few threads of a process run Python at a time, the others stand in a line.

A process has hundreds of threads, because connections are slow, and one interpreter. Where all of them want it
at once, each gets its turn after all the others, and what would take a moment takes as long as everything together.
So whoever has much to do takes a place here, and gives it back for as long as he waits for something else.

A place is courtesy, not a lock: after :data:`LENT` seconds it counts no more, whatever its holder does, and the next
one comes in. So nobody can be kept out, by whatever a holder waits for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

#: seconds for which a place counts: much longer than answering takes, and no longer than anybody should stand in line
LENT = 0.025


class _Place:
    """What a thread holds, or stands in line for.

    :param since: monotonic seconds; None while it does not count
    """

    __slots__ = ("called", "since", "turnstile")

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.since: float | None = None
        #: locked while it stands in line
        self.called = threading.Lock()


class _Held(threading.local):
    """The place of this thread."""

    place: _Place | None = None


_held = _Held()


class Turnstile:
    """Lets a bounded number of threads of this process through at a time.

    :param places: how many
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        #: those that count, the oldest first
        self._counted: deque[_Place] = deque()
        self._line: deque[_Place] = deque()
        self._needed = threading.Event()
        self._ticker: threading.Thread | None = None

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place, after those who came before. Who holds one already is let through."""
        if _held.place is not None:
            yield
            return
        place = _held.place = _Place(self)
        try:
            self._enter(place, again=False)
            yield
        finally:
            _held.place = None
            self._leave(place)

    @contextmanager
    def _aside(self, place: _Place) -> Iterator[None]:
        _held.place = None
        self._leave(place)
        try:
            yield
        finally:
            _held.place = place
            self._enter(place, again=True)

    def _enter(self, place: _Place, *, again: bool) -> None:
        with self._lock:
            if not self._line and len(self._counted) < self._places:
                self._count(place)
                return
            place.called.acquire()
            # Who was in already has little left to do, and somebody waits for it the longer.
            (self._line.appendleft if again else self._line.append)(place)
            self._tick()
        with place.called:  # until it is called
            pass

    def _leave(self, place: _Place) -> None:
        with self._lock:
            if place.since is not None:
                place.since = None
                self._counted.remove(place)
            self._call()

    def _count(self, place: _Place) -> None:
        place.since = time.monotonic()
        self._counted.append(place)

    def _call(self) -> None:
        """Calls those for whom there is a place."""
        while self._line and len(self._counted) < self._places:
            place = self._line.popleft()
            self._count(place)
            place.called.release()

    def _tick(self) -> None:
        """Has somebody look after those who stay too long, while there is a line."""
        self._needed.set()
        if self._ticker is None or not self._ticker.is_alive():  # a thread does not live on in a forked child
            self._ticker = threading.Thread(target=self._run, name="image_repo-turnstile", daemon=True)
            self._ticker.start()

    def _run(self) -> None:
        while self._needed.wait():
            time.sleep(LENT / 2)
            with self._lock:
                before = time.monotonic() - LENT
                while self._counted and (self._counted[0].since or 0.0) < before:
                    self._counted.popleft().since = None
                self._call()
                if not self._line:
                    self._needed.clear()


@contextmanager
def aside() -> Iterator[None]:
    """Gives the place of this thread back while it waits for something, and takes one again in front of the line."""
    place = _held.place
    if place is None:
        yield
        return
    with place.turnstile._aside(place):
        yield

"""Bounds on how many requests wait, and how many renders run at a time."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from image_repo.concurrency.locks import _OPEN
from image_repo.errors import Busy

log = logging.getLogger(__name__)


#: seconds after which a waiter looks again although nobody has woken it: the holder may have been killed
_LOOK_AGAIN = 0.1


class Room:
    """A bounded number of places in this process. Who finds none is refused at once: nobody waits for a place."""

    def __init__(self, places: int) -> None:
        self._free = threading.BoundedSemaphore(places)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Takes a place.

        :raises Busy: when there is none
        """
        if not self._free.acquire(blocking=False):
            raise Busy("As many requests wait for pictures as may.")
        try:
            yield
        finally:
            self._free.release()


class RenderLimiter:
    """Lets a bounded number of renders run at a time on a node, and a bounded number wait.

    Each slot is a lock file. Threads of one process wait in a line, and only its head looks
    at the slots; a named pipe wakes the heads of all processes when a slot is freed.

    :param folder: shared by the processes of the node; None for the threads of this process alone
    :param at_once: slots; 0 for as many as there are processors
    :param queue: how many threads of this process may wait
    :param waiting: is told that one more, or one less, waits
    :param heavy: a gate that those pass first who need much memory, so that fewer of them run at a time
    """

    def __init__(
        self,
        folder: Path | None,
        at_once: int,
        queue: int,
        *,
        waiting: Callable[[int], object] = lambda _: None,
        heavy: RenderLimiter | None = None,
    ) -> None:
        self._heavy = heavy
        self._slots = _Slots(folder, at_once or len(os.sched_getaffinity(0)))
        self._queue = queue
        self._waiting = waiting
        self._line: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def slot(self, timeout: float, *, heavy: bool = False) -> Iterator[None]:
        """Holds a slot. Hold it only while working: who waits for another lock with it can block everybody.

        :param timeout: seconds to wait for it
        :param heavy: whether much memory is needed
        :raises Busy: when too many wait already, or time is up
        """
        if heavy and self._heavy:
            with self._heavy.slot(timeout), self.slot(timeout):
                yield
            return
        number = self._take(time.monotonic() + timeout)
        try:
            yield
        finally:
            self._slots.give(number)

    def _take(self, deadline: float) -> int:
        turn = threading.Event()
        with self._lock:
            number = None if self._line else self._slots.take()
            if number is not None:
                return number
            if len(self._line) >= self._queue:
                raise Busy("As many renders wait as may.")
            self._line.append(turn)
            self._waiting(1)
            self._line[0].set()
        try:
            if turn.wait(max(0.0, deadline - time.monotonic())):
                number = self._wait(deadline)
        finally:
            with self._lock:
                self._line.remove(turn)
                self._waiting(-1)
                if self._line:
                    self._line[0].set()
        if number is None:
            raise Busy("Too many renders were ahead of this one.")
        return number

    def _wait(self, deadline: float) -> int | None:
        while (left := deadline - time.monotonic()) > 0:
            self._slots.drain()
            number = self._slots.take()
            if number is not None:
                # Another slot may have been freed at the same time, and its call drained: pass it on.
                self._slots.wake()
                return number
            self._slots.sleep(min(left, _LOOK_AGAIN))
        return None


class _Slots:
    """A lock file for each slot, and the pipe that tells that one was freed."""

    def __init__(self, folder: Path | None, count: int) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._held = [False] * count
        self._handles: list[int] = []
        self._pipe = (-1, -1)
        self._owner = 0

    def take(self) -> int | None:
        """A free slot, without waiting."""
        with self._lock:
            self._ready()
            for number, held in enumerate(self._held):
                if not held and self._lock_file(number):
                    self._held[number] = True
                    return number
        return None

    def give(self, number: int) -> None:
        """Frees a slot, and wakes those who wait."""
        with self._lock:
            self._held[number] = False
            if self._handles:
                with contextlib.suppress(OSError):
                    fcntl.flock(self._handles[number], fcntl.LOCK_UN)
        self.wake()

    def wake(self) -> None:
        """Wakes those who wait. One byte is enough for all of them, so there is never more than a few."""
        with self._lock, contextlib.suppress(OSError):
            if not _readable(self._pipe[0], 0.0):
                os.write(self._pipe[1], b"!")

    def sleep(self, seconds: float) -> None:
        """Waits to be woken."""
        _readable(self._pipe[0], seconds)

    def drain(self) -> None:
        """Forgets calls until now: they are answered by looking."""
        with self._lock, contextlib.suppress(OSError):
            os.read(self._pipe[0], 64)

    def _lock_file(self, number: int) -> bool:
        if not self._handles:
            return True
        try:
            fcntl.flock(self._handles[number], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:  # a file system without locks: the threads of this process are counted all the same
            log.warning("renders are counted in each process alone: %s", error)
            for handle in self._handles:
                os.close(handle)
            self._handles = []
        return True

    def _ready(self) -> None:
        """Opens the files; anew in a forked child, whose locks would be its parent's, and when they were deleted."""
        mine = self._owner == os.getpid()
        if mine and (any(self._held) or not self._handles or os.fstat(self._handles[0]).st_nlink):
            return
        if not mine:
            self._held = [False] * len(self._held)
        for handle in {*self._handles, *self._pipe} - {-1}:
            os.close(handle)
        self._handles, self._pipe, self._owner = [], (-1, -1), os.getpid()
        try:
            self._handles, self._pipe = self._open()
        except OSError as error:
            log.warning("renders are counted in each process alone: %s", error)
        if not self._handles:
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def _open(self) -> tuple[list[int], tuple[int, int]]:
        if self._folder is None:
            return [], (-1, -1)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            handles = []
            for number in range(len(self._held)):
                handles.append(os.open(self._folder / f"render-{number}", _OPEN, 0o600))
                undo.callback(os.close, handles[-1])
            pipe = self._folder / "render-freed"
            with contextlib.suppress(FileExistsError):
                os.mkfifo(pipe, 0o600)
            end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            undo.pop_all()
        return handles, (end, end)


def _readable(handle: int, seconds: float) -> bool:
    poll = select.poll()  # not select(): that cannot wait for handles above 1023
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))

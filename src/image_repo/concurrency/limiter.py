"""Admission control: how many requests wait, fetch and render at a time.

One object with one table of limits. It alone refuses a request because too many others wait (503 ``busy``).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from image_repo.concurrency import deadline
from image_repo.concurrency.backoff import Backoff
from image_repo.concurrency.locks import try_lock, wait_for
from image_repo.errors import Busy

log = logging.getLogger(__name__)

#: seconds between two attempts at a render slot of another process, at first and at most. Measured with three processes
#: at one slot: it stands empty for 0.6 ms between two renders, and a waiting process takes 3 % of a core
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0005, 0.002


class Stage(Enum):
    """A stretch of a request's way through the program that a limited number of requests are in at a time."""

    #: waits for the response to an identical request
    COALESCED = "coalesced"
    #: runs application code: hundreds of threads share one interpreter, and a few get through it sooner
    APPLICATION = "application"
    #: waits for a rendition that no cache has
    RENDITION = "rendition"
    #: makes one: fetches its original, then renders
    FETCH = "fetch"
    #: renders what needs much memory; renders within that as well
    HEAVY_RENDER = "heavy"
    #: renders
    RENDER = "render"


@dataclass(frozen=True, slots=True)
class Limit:
    """A row of the table.

    :param capacity: requests that are admitted at a time
    :param queue: requests of one process that may wait for that; None for any number
    :param is_node_wide: whether the capacity is that of all processes of the node, else of each process
    :param lease: seconds for which an admission counts: afterwards the next request is admitted beside it
    """

    capacity: int
    queue: int | None = 0
    is_node_wide: bool = False
    lease: float = math.inf


def limits(*, threads: int = 64, renders: int = 0, queue: int = 64, lease: float = 0.025) -> dict[Stage, Limit]:
    """Return the table of limits.

    :param threads: of a process
    :param renders: at a time on the node; 0 for as many as there are processors
    :param queue: renders of a process that may wait
    :param lease: seconds for which an application thread counts: much longer than a response takes, and no longer
        than any request should wait for others. Without it, a few slow requests would keep everybody waiting.
    """
    renders = renders or len(os.sched_getaffinity(0))
    return {
        # Half of the threads may wait in the application, and a third before it, which costs less; the others are left
        # for requests that need not wait.
        Stage.COALESCED: Limit(max(1, threads // 3)),
        Stage.APPLICATION: Limit(2, queue=None, lease=lease),
        Stage.RENDITION: Limit(-(-threads // 2)),
        Stage.FETCH: Limit(renders + queue),
        Stage.HEAVY_RENDER: Limit(1, queue, is_node_wide=True),
        Stage.RENDER: Limit(renders, queue, is_node_wide=True),
    }


class Limiter:
    """Admits requests to the stages of their way, first come, first served.

    :param table: stage → limit
    :param folder: of the lock files for what is counted over the processes of the node; None to count in this process
    :param waiting: called with 1 and -1 when a render begins and ends to wait
    """

    def __init__(
        self,
        table: Mapping[Stage, Limit] | None = None,
        folder: Path | None = None,
        *,
        waiting: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._queues = {
            stage: _NodeQueue(stage, limit, waiting, folder)
            if folder and limit.is_node_wide
            else _Queue(stage, limit, waiting if limit.is_node_wide else lambda _: None)
            for stage, limit in (table or limits()).items()
        }

    def admit(self, stage: Stage, timeout: float = 0.0) -> AbstractContextManager[object]:
        """Hold a place in a stage. Hold it only while working: to wait for a lock meanwhile can block everybody.

        :param timeout: seconds to wait for it
        :raises Busy: when too many wait already, or time is up
        """
        return self._queues[stage].admitted(deadline.until(timeout))

    @contextmanager
    def slot(self, timeout: float, *, heavy: bool = False) -> Iterator[None]:
        """Hold a slot to render in; a heavy render waits for its turn among those first.

        :param timeout: seconds to wait for it
        :raises Busy: when too many wait already, or time is up
        """
        with contextlib.ExitStack() as admissions:
            if heavy:
                admissions.enter_context(self.admit(Stage.HEAVY_RENDER, timeout))
            admissions.enter_context(self.admit(Stage.RENDER, timeout))
            admissions.enter_context(deadline.suspended())
            yield

    @contextmanager
    def application(self) -> Iterator[None]:
        """Hold a place among the application threads; within one, no second is taken.

        The line moves on with each lease that ends, so this wait has no other limit.
        """
        if _application.get() is not None:
            yield
            return
        with self._queues[Stage.APPLICATION].admitted(math.inf) as ticket:
            token = _application.set(ticket)
            try:
                yield
            finally:
                _application.reset(token)


#: the place of this thread among the application threads
_application: ContextVar[_Ticket | None] = ContextVar("image_repo_application", default=None)


@contextmanager
def aside() -> Iterator[None]:
    """Release the application place of this thread while it waits, and take one in front of the line afterwards."""
    ticket = _application.get()
    if ticket is None:
        yield
        return
    token = _application.set(None)
    ticket.queue.leave(ticket)
    try:
        yield
    finally:
        _application.reset(token)
        # It has little left to do, and its client has waited longest.
        ticket.queue.enter(ticket, math.inf, first=True)


class _Ticket:
    """The place of a thread in a queue.

    :param since: monotonic seconds; None while it does not count
    """

    __slots__ = ("call", "has_waited", "queue", "since")

    def __init__(self, queue: _Queue) -> None:
        self.queue = queue
        self.since: float | None = None
        self.has_waited = False
        #: locked while it waits
        self.call = threading.Lock()


class _Queue:
    """Admits the threads of this process to one stage."""

    def __init__(self, stage: Stage, limit: Limit, waiting: Callable[[int], object]) -> None:
        self._stage = stage
        self._limit = limit
        self._waiting = waiting
        self._lock = threading.Lock()
        #: those that count, the oldest first
        self._admitted: deque[_Ticket] = deque()
        self._line: deque[_Ticket] = deque()
        #: admitted here, and waiting for another process
        self._polling = 0
        self._line_began = threading.Event()
        self._ticker: threading.Thread | None = None

    @contextmanager
    def admitted(self, end: float) -> Iterator[_Ticket]:
        """Hold a place.

        :param end: of the wait, in monotonic seconds
        :raises Busy: when too many wait already, or time is up
        """
        ticket = _Ticket(self)
        try:
            self.enter(ticket, end)
            yield ticket
        finally:
            self.leave(ticket)

    def enter(self, ticket: _Ticket, end: float, *, first: bool = False) -> None:
        """Wait to be admitted.

        :param first: whether to wait in front of the others
        :raises Busy: when too many wait already, or time is up
        """
        with self._lock:
            if not self._line and len(self._admitted) < self._limit.capacity:
                self._admit(ticket)
                return
            self._check_length()
            ticket.has_waited = True
            ticket.call.acquire()
            (self._line.appendleft if first else self._line.append)(ticket)
            if self._limit.lease < math.inf:
                self._tick()
        self._waiting(1)
        try:
            if not ticket.call.acquire(timeout=-1 if end == math.inf else deadline.remaining(end)):
                raise Busy(f"Too many requests were ahead of this one ({self._stage.value}).")
        finally:
            self._waiting(-1)
        ticket.call.release()

    def leave(self, ticket: _Ticket) -> None:
        """Give the place, or that in the line, to the next."""
        with self._lock:
            if ticket.since is not None:
                ticket.since = None
                self._admitted.remove(ticket)
            elif ticket in self._line:
                self._line.remove(ticket)
            self._call()

    def _check_length(self) -> None:
        if self._limit.queue is not None and len(self._line) + self._polling >= self._limit.queue:
            raise Busy(f"As many requests as may wait do ({self._stage.value}).")

    def _admit(self, ticket: _Ticket) -> None:
        ticket.since = time.monotonic()
        self._admitted.append(ticket)

    def _call(self) -> None:
        while self._line and len(self._admitted) < self._limit.capacity:
            ticket = self._line.popleft()
            self._admit(ticket)
            ticket.call.release()

    def _tick(self) -> None:
        """Have leases ended by a thread while there is a line."""
        self._line_began.set()
        if self._ticker is None or not self._ticker.is_alive():  # a thread does not live on in a forked child
            self._ticker = threading.Thread(target=self._end_leases, name="image_repo-limiter", daemon=True)
            self._ticker.start()

    def _end_leases(self) -> None:
        while self._line_began.wait():
            time.sleep(self._limit.lease / 2)
            with self._lock:
                before = time.monotonic() - self._limit.lease
                while self._admitted and (self._admitted[0].since or 0.0) < before:
                    self._admitted.popleft().since = None
                self._call()
                if not self._line:
                    self._line_began.clear()


class _NodeQueue(_Queue):
    """Admits the threads of all processes of a node to one stage: a lock file for each place."""

    def __init__(self, stage: Stage, limit: Limit, waiting: Callable[[int], object], folder: Path) -> None:
        super().__init__(stage, limit, waiting)
        self._paths = [folder / f"{stage.value}-{number}" for number in range(limit.capacity)]
        self._waiting_path = folder / f"{stage.value}-waiting"
        self._has_warned = False

    @contextmanager
    def admitted(self, end: float) -> Iterator[_Ticket]:
        with super().admitted(end) as ticket:
            try:
                handle = self._take(ticket, end)
            except OSError as error:  # the threads of this process are counted all the same
                if not self._has_warned:
                    log.warning("renders are counted in each process alone: %s", error)
                self._has_warned, handle = True, None
            try:
                yield ticket
            finally:
                _close(handle)

    def _take(self, ticket: _Ticket, end: float) -> int:
        """Return the handle of a locked file."""
        # A thread that was called by one of its own process would always be the first at the slot that this one freed.
        leaves_turn = ticket.has_waited and self._do_others_wait()
        handle = None if leaves_turn else self._try()
        if handle is not None:
            return handle
        with self._lock:
            if not ticket.has_waited:
                self._check_length()
            self._polling += 1
        self._waiting(1)
        announcement = try_lock(self._waiting_path, fcntl.LOCK_SH)
        try:
            if leaves_turn:
                time.sleep(_LONGEST_PAUSE_S)
            handle = wait_for(self._try, end, Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S))
        finally:
            _close(announcement)
            self._waiting(-1)
            with self._lock:
                self._polling -= 1
        if handle is None:
            raise Busy(f"Too many requests were ahead of this one ({self._stage.value}).")
        return handle

    def _try(self) -> int | None:
        return next((handle for path in self._paths if (handle := try_lock(path)) is not None), None)

    def _do_others_wait(self) -> bool:
        handle = try_lock(self._waiting_path)
        _close(handle)
        return handle is None


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)

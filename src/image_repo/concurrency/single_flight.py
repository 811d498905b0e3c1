"""Single flight: each missing thing is made once, for all threads and processes of a node that want it meanwhile.

This keeps a stampede of requests for one rendition (also called dog-piling) from becoming as many renders. Where the
folder of the locks cannot be used (full, read-only), it holds for the threads of one process: work may be done twice,
never wrongly.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from image_repo.concurrency import deadline
from image_repo.concurrency.background import BackgroundWorker
from image_repo.concurrency.limiter import aside
from image_repo.concurrency.locks import LockFolder, rebuild, render_timeout
from image_repo.errors import Problem

T = TypeVar("T")


class Flight(Future[T]):
    """The outcome of something that is being made, or waits for a thread that makes it.

    :ivar began: monotonic seconds
    """

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()

    def outcome(self, end: float) -> T:
        """Wait for the leader, and return what it made.

        :param end: of the wait, in monotonic seconds
        :raises RenderTimeout: when that was not enough
        :raises CancelledError: when the leader was interrupted
        """
        try:
            return self.result(deadline.remaining(end))
        except TimeoutError:
            if not self.done():
                raise render_timeout() from None
            raise
        except Problem as error:
            # Each thread raises its own copy: a shared one would gather the tracebacks of all of them.
            raise _copied(error) from error


class SingleFlight:
    """Makes each missing thing once, however many requests want it at the same time.

    :param folder: of the lock files that the processes of a node share; None for the threads of this process alone
    """

    def __init__(self, folder: Path | None) -> None:
        self._locks = LockFolder(folder) if folder else None
        self._lock = threading.Lock()
        self._flights: dict[str, Flight[Any]] = {}

    def do(self, key: str, make: Callable[[], T], again: Callable[[], T | None], timeout: float) -> T:
        """Return what ``make`` gives; calls that come while it runs get its outcome.

        An error of the leader is raised for all of them, and is not remembered. Other processes share it
        when it is a :class:`~image_repo.errors.Problem`.

        :param again: looks where finished things are stored; called before anything is made, since
            another leader may have ended just now
        :param timeout: seconds to wait for another leader; ``make`` itself is not limited
        :raises RenderTimeout: when that was not enough
        """
        end = deadline.until(timeout)
        while True:
            ours: Flight[T] = Flight()
            with self._lock:
                flight: Flight[T] = self._flights.setdefault(key, ours)
            # A follower blocks no application thread; nor does the leader, since there are few of those.
            with aside():
                if flight is ours:
                    return self._lead(key, flight, make, again, end)
                # A leader that was interrupted has cancelled its flight: a follower takes over.
                with contextlib.suppress(CancelledError):
                    return flight.outcome(end)

    def start(self, key: str, make: Callable[[], T], timeout: float, worker: BackgroundWorker) -> Flight[T] | None:
        """Have a background worker make a thing, unless it is being made already; return its flight.

        :param timeout: seconds to wait for a leader in another process
        :returns: None where too much waits for the worker
        """
        with self._lock:
            flight: Flight[T] | None = self._flights.get(key)
            if flight is None:
                flight = Flight()
                lead = partial(self._lead, key, flight, make, lambda: None, time.monotonic() + timeout)
                if not worker.offer(partial(_without_error, lead)):
                    return None
                self._flights[key] = flight
            return flight

    def _lead(self, key: str, flight: Flight[T], make: Callable[[], T], again: Callable[[], T | None], end: float) -> T:
        try:
            result = self._make(key, make, again, end)
        except Exception as error:
            self._land(key)
            flight.set_exception(error)
            raise
        except BaseException:
            self._land(key)
            flight.cancel()
            raise
        self._land(key)
        flight.set_result(result)
        return result

    def _land(self, key: str) -> None:
        with self._lock:
            del self._flights[key]

    def _make(self, key: str, make: Callable[[], T], again: Callable[[], T | None], end: float) -> T:
        lock = self._locks.take(key, end) if self._locks else None
        with lock or contextlib.nullcontext():
            result = again()
            return make() if result is None else result


def _without_error(lead: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):  # the flight has it
        lead()


def _copied(error: Problem) -> Problem:
    problem = rebuild(type(error), error.detail, error.members)
    problem.__dict__.update(copy.copy(error.__dict__))
    return problem

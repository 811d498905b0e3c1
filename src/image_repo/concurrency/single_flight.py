"""One maker per key, one writer per name, a bounded number of renders at a time: over a node's threads and processes.

All lean on ``flock``: the kernel frees a lock when its holder ends, however it ends, so a
killed process strands nobody. Where the folder of the locks cannot be used (full,
read-only), they hold for the threads of one process only: work may be done twice, never wrongly.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, TypeVar

from image_repo.concurrency.locks import _KeyLocks, _rebuild, _too_long
from image_repo.concurrency.turnstile import aside
from image_repo.errors import Problem

log = logging.getLogger(__name__)
T = TypeVar("T")


class SingleFlight:
    """Makes each missing thing once, however many ask for it at the same time.

    :param folder: of the lock files that the processes of a node share; None for the threads of this process alone
    """

    def __init__(self, folder: Path | None) -> None:
        self._locks = _KeyLocks(folder) if folder else None
        self._lock = threading.Lock()
        self._flying: dict[str, Future[Any]] = {}

    def do(self, key: str, make: Callable[[], T], again: Callable[[], T | None], timeout: float) -> T:
        """What ``make`` gives; for those who ask while it is being made, what the maker got.

        An error of the maker is everybody's, and is not remembered. Other processes share it
        when it is a :class:`~image_repo.errors.Problem`.

        :param again: looks where finished things are kept; called before anything is made, since
            another maker may have ended just now
        :param timeout: seconds to wait for another maker; how long ``make`` takes is its own affair
        :raises RenderTimeout: when that was not enough
        """
        deadline = time.monotonic() + timeout
        while True:
            ours: Future[T] = Future()
            with self._lock:
                flight: Future[T] = self._flying.setdefault(key, ours)
            # Who waits keeps nobody from what takes a moment; nor does the one who makes it, there are few of those.
            with aside():
                if flight is ours:
                    return self._lead(key, flight, make, again, deadline)
                # A leader that was interrupted has cancelled its flight: one of those who waited takes over.
                with contextlib.suppress(CancelledError):
                    return _follow(flight, deadline)

    def _lead(
        self, key: str, flight: Future[T], make: Callable[[], T], again: Callable[[], T | None], deadline: float
    ) -> T:
        try:
            result = self._make(key, make, again, deadline)
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
            del self._flying[key]

    def _make(self, key: str, make: Callable[[], T], again: Callable[[], T | None], deadline: float) -> T:
        while True:
            lock = self._locks.take(key, deadline) if self._locks else None
            with lock or contextlib.nullcontext():
                found = again()
                if found is not None:
                    return found
                if lock is None or lock.holds():
                    return make()


def _follow(flight: Future[T], deadline: float) -> T:
    try:
        return flight.result(max(0.0, deadline - time.monotonic()))
    except TimeoutError:
        if not flight.done():
            raise _too_long() from None
        raise
    except Problem as error:
        # Each thread raises one of its own: a shared one would gather the traces of all of them.
        raise _twin(error) from error


def _twin(error: Problem) -> Problem:
    twin = _rebuild(type(error), error.detail, error.members)
    twin.__dict__.update(copy.copy(error.__dict__))
    return twin

"""One maker per key, one writer per name, a bounded number of renders at a time: over a node's threads and processes.

All lean on ``flock``: the kernel frees a lock when its holder ends, however it ends, so a
killed process strands nobody. Where the folder of the locks cannot be used (full,
read-only), they hold for the threads of one process only: work may be done twice, never wrongly.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import json
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from image_repo import errors
from image_repo.concurrency.turnstile import aside
from image_repo.errors import Busy, Problem, RenderTimeout

log = logging.getLogger(__name__)
T = TypeVar("T")

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
#: the longest text of an error that is left for another process, in bytes
_MOST_OUTCOME = 1 << 16
#: seconds after which a waiter looks again although nobody has woken it: the holder may have been killed
_LOOK_AGAIN = 0.1


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


def _too_long() -> RenderTimeout:
    return RenderTimeout("The picture is being made for somebody else, and that takes too long.")


def _twin(error: Problem) -> Problem:
    twin = _rebuild(type(error), error.detail, error.members)
    twin.__dict__.update(copy.copy(error.__dict__))
    return twin


def _rebuild(kind: type[Problem], detail: str, members: dict[str, object]) -> Problem:
    """A problem as it was; its own constructor may want other arguments."""
    problem = kind.__new__(kind)
    Problem.__init__(problem, detail, **members)
    return problem


class Exclusive:
    """Lets one at a time have a key, over the threads and the processes of a node.

    :param folder: of the lock files; None for the threads of this process alone
    """

    def __init__(self, folder: Path | None) -> None:
        self._files = _KeyLocks(folder) if folder else None
        self._lock = threading.Lock()
        self._users: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def held(self, key: str, timeout: float) -> Iterator[None]:
        """Holds the key. Who waits for another lock with it can block everybody.

        :param timeout: seconds to wait for it
        :raises Busy: when that was not enough
        """
        deadline = time.monotonic() + timeout
        with self._alone(key, deadline):
            file = self._file(key, deadline)
            try:
                yield
            finally:
                if file:
                    file.release()

    @contextmanager
    def _alone(self, key: str, deadline: float) -> Iterator[None]:
        """Holds it among the threads of this process."""
        with self._lock:
            lock, users = self._users.get(key, (threading.Lock(), 0))
            self._users[key] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise Busy("Others write to this name for too long.")
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._lock:
                lock, users = self._users.pop(key)
                if users > 1:
                    self._users[key] = (lock, users - 1)

    def _file(self, key: str, deadline: float) -> _KeyLock | None:
        """Holds it among the processes; None where lock files cannot be kept."""
        while self._files:
            try:
                file = self._files.take(key, deadline)
            except RenderTimeout as error:
                raise Busy("Others write to this name for too long.") from error
            if file is None or file.holds():
                return file
            file.release()
        return None


class _KeyLocks:
    """A folder with a lock file for each key that somebody is at work on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._complained = False

    def take(self, key: str, deadline: float) -> _KeyLock | None:
        """The lock; None when locks cannot be kept here.

        :raises Problem: that of the maker who was waited for
        :raises RenderTimeout: when waiting took too long
        """
        path = self._folder / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        try:
            return _KeyLock(path, self._locked(path, deadline))
        except OSError as error:
            if not self._complained:
                log.warning(
                    "locks cannot be kept, so the processes of this node do not wait for one another: %s", error
                )
            self._complained = True
            return None

    def _locked(self, path: Path, deadline: float) -> int:
        handle = self._open(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _Wait(handle).until(deadline)
            _raise_left(handle)
        except OSError:
            os.close(handle)
            raise
        return handle

    def _open(self, path: Path) -> int:
        try:
            return os.open(path, _OPEN, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, _OPEN, 0o600)


class _KeyLock:
    """A lock that is held; leaving it as a context manager frees it.

    A maker that failed leaves its problem in the file, for those who wait on the same file.
    It is unlinked before it is unlocked, so whoever comes later begins with a new one.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    def holds(self) -> bool:
        """Whether the file is still the one that the path names: else somebody may hold a newer one."""
        ours = os.fstat(self._handle)
        try:
            there = self._path.stat()
        except OSError:
            return False
        return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def __enter__(self) -> _KeyLock:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            with contextlib.suppress(OSError):  # a full disk: those who wait make it themselves
                if isinstance(error, Problem):
                    _leave(self._handle, error)
        finally:
            self.release()

    def release(self) -> None:
        """Frees the lock, and leaves nothing to those who wait for it."""
        try:
            with contextlib.suppress(OSError):
                if self.holds():
                    self._path.unlink()
        finally:
            os.close(self._handle)


class _Wait:
    """Waits for a lock with a bound, woken by the kernel: a thread waits, and is left to itself when time is up."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._given_up = False
        self._error: OSError | None = None
        threading.Thread(target=self._run, name="image_repo-lock", daemon=True).start()

    def until(self, deadline: float) -> None:
        """Returns with the lock.

        :raises RenderTimeout: when time is up; the handle is then closed as soon as that can be done
        """
        if not self._ended.wait(max(0.0, deadline - time.monotonic())):
            with self._lock:
                if not self._ended.is_set():
                    self._given_up = True
                    raise _too_long()
        if self._error:
            os.close(self._handle)
            raise self._error

    def _run(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        with self._lock:
            self._ended.set()
            if self._given_up:
                os.close(self._handle)


def _leave(handle: int, error: Problem) -> None:
    """Leaves a problem to those who wait for this lock."""
    outcome = {"problem": type(error).__name__, "detail": error.detail, "members": error.members}
    os.pwrite(handle, json.dumps(outcome, default=str).encode(), 0)


def _raise_left(handle: int) -> None:
    """Raises the problem that the maker has left, if it left one. Closes the handle then."""
    text = os.pread(handle, _MOST_OUTCOME, 0)
    if not text:
        return
    try:
        outcome = json.loads(text)
        kind = getattr(errors, outcome["problem"])
        problem = _rebuild(kind, outcome["detail"], outcome["members"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return  # it was killed while it wrote; then it is made again
    os.close(handle)
    raise problem


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


class Gate:
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
        heavy: Gate | None = None,
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

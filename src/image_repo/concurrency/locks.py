"""One holder per key, over the threads and processes of a node (``flock``)."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from image_repo import errors
from image_repo.errors import Busy, Problem, RenderTimeout

log = logging.getLogger(__name__)


_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


#: the longest text of an error that is left for another process, in bytes
_MOST_OUTCOME = 1 << 16


class KeyedLock:
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


def _too_long() -> RenderTimeout:
    return RenderTimeout("The picture is being made for somebody else, and that takes too long.")


def _rebuild(kind: type[Problem], detail: str, members: dict[str, object]) -> Problem:
    """A problem as it was; its own constructor may want other arguments."""
    problem = kind.__new__(kind)
    Problem.__init__(problem, detail, **members)
    return problem

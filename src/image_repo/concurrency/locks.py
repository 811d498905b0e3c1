"""One holder per key: over the threads and processes of a node (``flock``), and over nodes (:class:`WriteOrder`).

The kernel frees a file lock when its holder ends, however it ends, so a killed process blocks nobody. Processes wait
for each other by polling: ``flock`` has no timeout, and a thread for each waiter would cost more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from image_repo import errors
from image_repo.concurrency import deadline
from image_repo.concurrency.backoff import Backoff
from image_repo.concurrency.shared_file import open_shared
from image_repo.errors import Busy, Problem, RenderTimeout, StoreUnavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

#: seconds between two attempts at a lock of another process, at first and at most
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05
#: of a pause to the one before. Measured with a holder of 77 ms: its end is seen 6 ms later, with doubled pauses 33
_PAUSE_GROWTH = 1.25
#: the longest text of an error that is left for another process
_MAX_OUTCOME_BYTES = 1 << 16


def open_lock(path: Path) -> int:
    """Return a handle of a lock file; make file and folder where they are not there.

    :raises OSError: when that cannot be done
    """
    try:
        return open_shared(path)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open_shared(path)


def try_lock(path: Path, mode: int = fcntl.LOCK_EX) -> int | None:
    """Return a handle that holds the lock; None where it cannot be had without waiting.

    :param mode: ``LOCK_EX`` or ``LOCK_SH``
    :raises OSError: where lock files cannot be used
    """
    handle = open_lock(path)
    with _closed_on_error(handle):
        if acquire(handle, mode):
            return handle
    os.close(handle)
    return None


def acquire(handle: int, mode: int = fcntl.LOCK_EX) -> bool:
    """Return whether a lock is had without waiting.

    :param mode: ``LOCK_EX`` or ``LOCK_SH``
    """
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_current(handle: int, path: Path) -> bool:
    """Return whether a path still names an open file."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def wait_for(attempt: Callable[[], T | None], end: float, backoff: Backoff | None = None) -> T | None:
    """Return what an attempt gives; repeat it after growing pauses while that is None and time is left.

    :param end: monotonic seconds
    """
    backoff = backoff or Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S, factor=_PAUSE_GROWTH)
    result = attempt()
    while result is None and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, backoff.grow()))
        result = attempt()
    return result


class WriteOrder(Protocol):
    """Orders the writers of one key over the nodes of a repository."""

    def held(self, key: str, end: float, *, to_write: bool = True) -> AbstractContextManager[None]:
        """Hold a key on all nodes.

        :param end: of the wait, in monotonic seconds
        :param to_write: False to read the container and write to the index alone
        :raises Busy: when others hold it until then
        :raises Problem: with status 503, when the order cannot be kept
        """

    def confirm(self) -> None:
        """Check that what this thread holds is still held: called before each write.

        :raises Problem: with status 503, when it may be lost
        """

    def close(self) -> None:
        """Give back what this process holds."""


class KeyedLock:
    """Lets one thread at a time hold a key, over the processes of a node.

    :param folder: of the lock files; None for the threads of this process alone
    :param order: over the nodes; None where there is no other node
    """

    def __init__(self, folder: Path | None, order: WriteOrder | None = None) -> None:
        self._files = LockFolder(folder, writes_keys=True) if folder else None
        self._order = order
        self._lock = threading.Lock()
        #: locks in use
        self._locks: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()

    @contextmanager
    def held(self, key: str, timeout: float, *, to_write: bool = True) -> Iterator[None]:
        """Hold the key. To wait for another lock meanwhile can block everybody.

        :param timeout: seconds to wait for it
        :param to_write: False to read the container and write to the index alone
        :raises Busy: when that was not enough
        """
        end = deadline.until(timeout)
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        if not lock.acquire(timeout=deadline.remaining(end)):
            raise Busy("Others write to this name for too long.")
        try:
            file = self._take_file(key, end)
            try:
                with self._order.held(key, end, to_write=to_write) if self._order else nullcontext():
                    yield
            finally:
                if file:
                    file.release()
        finally:
            lock.release()

    def abandoned(self) -> list[str]:
        """Return the keys whose holder was killed while it held them, once each."""
        return self._files.abandoned() if self._files else []

    def confirm(self) -> None:
        """Check, as :meth:`WriteOrder.confirm` says, that no other node may hold what this thread holds."""
        if self._order:
            self._order.confirm()

    def _take_file(self, key: str, end: float) -> LockFile | None:
        """Return the lock among the processes; None where lock files cannot be used."""
        try:
            return self._files.take(key, end) if self._files else None
        except RenderTimeout as error:
            raise Busy("Others write to this name for too long.") from error


class FileOrder:
    """The order of writers by a lock file beside the originals, for all nodes that mount the folder.

    Each key locks one byte of the file (``F_OFD_SETLK``): the file is never unlinked, so that the caches of a network
    file system cannot show two nodes two files.

    :param path: of the file
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.parent.is_dir():
            with contextlib.suppress(OSError):
                os.close(open_lock(path))

    @contextmanager
    def held(self, key: str, end: float, *, to_write: bool = True) -> Iterator[None]:
        """Hold a key: :meth:`WriteOrder.held`."""
        handle = self._take(key, end)
        try:
            yield
        finally:
            if handle is not None:
                os.close(handle)

    def confirm(self) -> None:
        """Do nothing: the kernel keeps the lock as long as the handle."""

    def close(self) -> None:
        """Do nothing: each handle is closed by its holder."""

    def _take(self, key: str, end: float) -> int | None:
        """Return a handle that holds the byte of a key; None where nobody can write to the folder."""
        byte = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:7]) >> 1
        try:
            handle = open_lock(self._path)
            with _closed_on_error(handle):
                if wait_for(lambda: _lock_byte(handle, byte) or None, end):
                    return handle
                raise Busy("Others write to this name for too long.")
        except OSError as error:
            if error.errno in _CANNOT_WRITE:
                return None
            raise StoreUnavailable(
                f"Writes cannot be ordered: a file beside the originals cannot be locked, {error.strerror or error}."
            ) from error


#: errors of opening a lock file in a folder that nobody here can write to: each write fails there by itself
_CANNOT_WRITE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT})


def _lock_byte(handle: int, byte: int) -> bool:
    """Lock one byte of an open file (``struct flock``); False where another handle has it."""
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, lock)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


class LockFolder:
    """A folder with a lock file for each key in use.

    :param writes_keys: whether each file holds its key, for :meth:`abandoned`; to write it takes 0.1 ms
    """

    def __init__(self, folder: Path, *, writes_keys: bool = False) -> None:
        self._folder = folder
        self._writes_keys = writes_keys
        self._has_warned = False

    def abandoned(self) -> list[str]:
        """Return the keys in lock files that their holders left behind, and remove the files."""
        keys = []
        with contextlib.suppress(OSError):
            for path in list(self._folder.iterdir()):
                handle = try_lock(path)
                if handle is None:
                    continue
                with LockFile(path, handle):
                    keys.append(_key_in(handle))
        return [key for key in keys if key]

    def take(self, key: str, end: float) -> LockFile | None:
        """Return the lock; None where lock files cannot be used.

        :param end: of the wait, in monotonic seconds
        :raises Problem: of the holder that was waited for
        :raises RenderTimeout: when waiting took too long
        """
        path = self._folder / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        try:
            while (handle := _locked(path, end)) is None:
                pass
        except OSError as error:
            if not self._has_warned:
                log.warning("lock files cannot be used, so processes do not wait for each other: %s", error)
            self._has_warned = True
            return None
        with contextlib.suppress(OSError):  # on a full disk, a later sweep finds what its holder leaves behind
            if self._writes_keys:
                os.pwrite(handle, json.dumps({"key": key}).encode(), 0)
            elif os.fstat(handle).st_size:  # the problem of a holder that was killed before it could remove the file
                os.ftruncate(handle, 0)
        return LockFile(path, handle)


def _key_in(handle: int) -> str:
    """Return the key that a lock file is for; empty where its holder has not written it."""
    try:
        return str(json.loads(os.pread(handle, _MAX_OUTCOME_BYTES, 0))["key"])
    except (ValueError, TypeError, KeyError):
        return ""


def _locked(path: Path, end: float) -> int | None:
    """Return the handle of a locked file; None when its holder has ended and unlinked it meanwhile.

    :raises Problem: of that holder
    :raises RenderTimeout: when waiting took too long
    """
    handle = open_lock(path)
    with _closed_on_error(handle):
        if not wait_for(lambda: acquire(handle) or None, end):
            raise render_timeout()
        if is_current(handle, path):
            return handle
        _raise_left_problem(handle)
    os.close(handle)
    return None


@contextmanager
def _closed_on_error(handle: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        os.close(handle)
        raise


class LockFile:
    """A lock that is held; to leave it as a context manager frees it.

    A holder that failed leaves its problem in the file, for those that wait on the same file. The file is unlinked
    before it is unlocked, so that later requests begin with a new one.
    """

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle = handle

    def __enter__(self) -> LockFile:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            with contextlib.suppress(OSError):  # on a full disk, those that wait do the work themselves
                if isinstance(error, Problem):
                    os.ftruncate(self._handle, 0)
                    outcome = {"problem": type(error).__name__, "detail": error.detail, "members": error.members}
                    os.pwrite(self._handle, json.dumps(outcome, default=str).encode(), 0)
        finally:
            self.release()

    def release(self) -> None:
        """Free the lock, and leave nothing to those that wait for it."""
        try:
            with contextlib.suppress(OSError):
                if is_current(self._handle, self._path):
                    self._path.unlink()
        finally:
            os.close(self._handle)


def _raise_left_problem(handle: int) -> None:
    """Raise the problem that the last holder left, if it left one."""
    try:
        outcome = json.loads(os.pread(handle, _MAX_OUTCOME_BYTES, 0))
        problem = rebuild(getattr(errors, outcome["problem"]), outcome["detail"], outcome["members"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return  # nothing, or the holder was killed while it wrote
    raise problem


def render_timeout() -> RenderTimeout:
    """Return the problem of a wait that took too long."""
    return RenderTimeout("The picture is being made for another request, and that takes too long.")


def rebuild(kind: type[Problem], detail: str, members: dict[str, object]) -> Problem:
    """Return a problem as it was; its own constructor may take other arguments."""
    problem = kind.__new__(kind)
    Problem.__init__(problem, detail, **members)
    return problem

"""Uploads in parts: bytes that wait on this node until all of them have arrived.

An upload is a folder with two files: what was announced of it, and the bytes so far. The size of the second one is its
offset, so a process that is killed loses nothing that it has written. The last byte counts only when the whole is
stored: until then it can be sent again, which stores it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from image_repo.concurrency.locks import acquire, is_current, open_lock, wait_for
from image_repo.concurrency.private_folder import make_private
from image_repo.config import UploadsConfiguration
from image_repo.errors import (
    InsufficientStorage,
    OffsetConflict,
    StoreUnavailable,
    TooLarge,
    TooManyUploads,
    UploadLocked,
    UploadNotFound,
)
from image_repo.repository.spool import Spool

#: ids: as secrets makes them, and as a proxy suggests them
_ID = re.compile(r"[0-9a-f]{32}")
_BYTES, _ANNOUNCEMENT = "bytes", "announcement.json"
_LOCK_WAIT_S = 2.0
#: seconds for which it is remembered that an upload was stored, at most: its client may have missed the answer
_FINISHED_S = 3_600.0
#: stored uploads whose outcome is remembered, at most: one takes up to 24 KiB on the disk
_MAX_FINISHED = 10_000
#: seconds after which what a killed process has left of a folder is removed
_ABANDONED_S = 60.0
#: unfinished uploads of all callers: each creation reads the announcements of all (measured: 0.15 s for 1,900)
_MAX_OPEN_OF_ALL = 2_000
#: seconds without a further byte after which an upload may be evicted, where there is no room for others
_IDLE_S = 600.0
#: seconds between two measurements of all uploads by one process (measured: 0.03 s for 1,900)
_MEASURE_INTERVAL_S = 1.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is known of an upload before its bytes.

    :param length: bytes in all
    :param creator: identifies the caller that alone may go on with it
    :param client: identifies the caller as whose it counts
    :param request: what its end needs, as JSON
    """

    length: int
    creator: str
    client: str
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Usage:
    """What an upload takes of the disk.

    :param size: bytes that have arrived
    :param modified: when the last of them came, in seconds since the epoch
    """

    size: int
    modified: float
    folder: Path


@dataclass(frozen=True, slots=True)
class _EvictionPlan:
    """How further bytes, or a further upload, would fit.

    :param evicted: uploads that would be deleted
    :param remaining: the others
    :param excess: bytes beyond ``uploads.max_size`` even then; negative where there is room
    :param surplus: uploads beyond their maximum even then
    """

    evicted: list[_Usage]
    remaining: list[_Usage]
    excess: int
    surplus: int


class PartialUpload:
    """One upload.

    :param folder: of its files
    :param outcome: what its end has answered; None before
    :param touched: when its last byte came, in seconds since the epoch
    """

    def __init__(
        self,
        uploads: PartialUploads,
        upload_id: str,
        announcement: Announcement,
        folder: Path,
        touched: float,
        outcome: Mapping[str, str] | None = None,
    ) -> None:
        self.id = upload_id
        self.announcement = announcement
        self.outcome = outcome
        self.expires = touched + uploads.bounds.lifetime
        self._uploads = uploads
        self._folder = folder
        self._path = folder / _BYTES

    @property
    def size(self) -> int:
        """The bytes that lie here."""
        return _size(self._path)

    @property
    def offset(self) -> int:
        """The bytes that need not be sent again: all of them only when the whole is stored."""
        return self.announcement.length if self.outcome is not None else self._countable(self.size)

    def _countable(self, size: int) -> int:
        return min(size, self.announcement.length - 1)

    def append(self, offset: int, chunks: Iterable[bytes]) -> int:
        """Write the next bytes; return the offset behind them.

        Another request may write meanwhile, where the client has given up this one: then this one ends.

        :param offset: of the first byte
        :raises OffsetConflict: when other bytes are expected
        :raises TooLarge: when there are more than were announced
        :raises InsufficientStorage: when the disk is full, or all uploads together take too many bytes
        :raises UploadNotFound: when it was deleted meanwhile
        """
        length, start = self.announcement.length, offset
        with self._open("r+b") as file:
            self._check_offset(file, offset)
            for chunk in chunks:
                if offset + len(chunk) > length:
                    raise TooLarge(f"Expected {length} bytes, as Upload-Length says, but received more.", limit=length)
                if (further := offset + len(chunk) - self.size) > 0:  # the last byte may be sent again
                    self._uploads.make_room(further, self._folder)
                with self._locked(file):
                    self._check_offset(file, offset)
                    _write(file, chunk, offset)
                offset += len(chunk)
            self._flush(file, start)
        return offset

    def _flush(self, file: BinaryIO, start: int) -> None:
        """Have the disk store what was written; where it cannot, it does not count.

        :param start: offset of what was written
        """
        try:
            os.fdatasync(file.fileno())
        except OSError as error:
            with self._locked(file):  # while it is stored, its pages are mapped
                os.ftruncate(file.fileno(), start)
            raise _write_problem(error) from error

    def _check_offset(self, file: BinaryIO, offset: int) -> None:
        expected = self._countable(os.fstat(file.fileno()).st_size)
        if offset != expected:
            raise OffsetConflict(f"Expected Upload-Offset {expected}, but received {offset}.", offset=expected)

    @contextmanager
    def complete(self) -> Iterator[Spool]:
        """Yield the whole, which no other request changes or completes meanwhile.

        :raises UploadLocked: when another request does that
        :raises UploadNotFound: when another request has ended it
        """
        with self._open("rb") as file, self._locked(file):
            yield Spool.of(file)

    def finish(self, outcome: Mapping[str, str]) -> None:
        """Remember that the whole is stored, and delete the bytes.

        :param outcome: what is answered, by header
        """
        with suppress(OSError):  # the client sends the last byte again, and the same bytes are stored again
            self._uploads.remember(self.id, self.announcement, outcome)
        self._uploads.remove(self._folder)

    def delete(self) -> None:
        """Forget the upload, its bytes, and how it has ended.

        :raises UploadLocked: while another request stores it, because that does not end then
        """
        with suppress(OffsetConflict, UploadNotFound), self._open("rb") as file, self._locked(file):
            self.discard()
            return
        self.discard()

    def discard(self) -> None:
        """Delete it without a lock: for the request that has it, or knows of it alone."""
        self._uploads.remove(self._folder)
        self._uploads.forget(self.id)

    def _open(self, mode: str) -> BinaryIO:
        try:
            return cast("BinaryIO", self._path.open(mode, -1 if mode == "rb" else 0))
        except FileNotFoundError as error:
            raise self._ended() from error
        except OSError as error:
            raise _write_problem(error) from error

    def _ended(self) -> OffsetConflict | UploadNotFound:
        """Return the problem of a request for what is stored or deleted meanwhile."""
        length = self.announcement.length
        if self._uploads.is_finished(self.id):
            return OffsetConflict(f"All {length} bytes of this upload have arrived.", offset=length)
        return upload_not_found()

    @contextmanager
    def _locked(self, file: BinaryIO) -> Iterator[None]:
        """Hold the file alone, over the processes of the node."""
        handle = file.fileno()
        _lock(handle, self._uploads.lock_wait)
        try:
            if not is_current(handle, self._path):
                raise self._ended()
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)


class PartialUploads:
    """The uploads in parts of this node, for all its processes.

    :param folder: private; None where there is no place for them
    :param lock_wait: seconds that a request waits for another one that writes to the same upload
    :param max_finished: stored uploads whose outcome is remembered, at most
    :param max_open: unfinished uploads of all callers together
    :param max_idle: seconds without a further byte after which an upload may be evicted, where there is no room
    :param measure_interval: seconds between two measurements of all uploads
    """

    def __init__(
        self,
        folder: Path | None,
        bounds: UploadsConfiguration,
        *,
        lock_wait: float = _LOCK_WAIT_S,
        max_finished: int = _MAX_FINISHED,
        max_open: int = _MAX_OPEN_OF_ALL,
        max_idle: float = _IDLE_S,
        measure_interval: float = _MEASURE_INTERVAL_S,
    ) -> None:
        self.bounds = bounds
        self.lock_wait = lock_wait
        self._folder = folder
        self._max_finished = max_finished
        self._max_open = max_open
        self._max_idle = max_idle
        self._measure_interval = measure_interval
        self._measured = -math.inf
        self._room = 0
        self._largest: Path | None = None
        self._finished_s = min(_FINISHED_S, bounds.lifetime)
        with suppress(OSError):  # each creation says so
            self._make_folders()
        self.tidy()

    def _make_folders(self) -> None:
        if self._folder is not None:
            for folder in (self._folder, self._open_folder, self._finished_folder):
                make_private(folder)

    @property
    def _open_folder(self) -> Path:
        assert self._folder is not None
        return self._folder / "open"

    @property
    def _finished_folder(self) -> Path:
        assert self._folder is not None
        return self._folder / "finished"

    def create(self, announcement: Announcement, suggested_id: str | None = None) -> PartialUpload:
        """Return a new upload without bytes.

        :param suggested_id: 32 hexadecimal digits, taken where no upload has them
        :raises TooManyUploads: when the caller has too many that are not finished
        :raises InsufficientStorage: when there is no room for its bytes beside those of uploads that are not idle
        """
        if self._folder is None:
            raise InsufficientStorage("There is no place for uploads in parts: local_file_cache_path cannot be used.")
        try:
            self._make_folders()  # another program may have deleted them
            with _held(self._folder / "creating", self.lock_wait):
                self._tidy_open()
                self._admit(announcement)
                return self._create(announcement, suggested_id)
        except OSError as error:
            raise _write_problem(error) from error

    def _create(self, announcement: Announcement, suggested_id: str | None) -> PartialUpload:
        is_free = suggested_id and _ID.fullmatch(suggested_id) and self._load(suggested_id) is None
        upload_id = suggested_id if suggested_id and is_free else secrets.token_hex(16)
        folder, aside = self._open_folder / upload_id, self._open_folder / f".{upload_id}"
        aside.mkdir(mode=0o700)
        (aside / _BYTES).touch(0o600)
        (aside / _ANNOUNCEMENT).write_text(json.dumps(asdict(announcement)), encoding="utf-8")
        aside.rename(folder)
        return PartialUpload(self, upload_id, announcement, folder, time.time())

    def _admit(self, announcement: Announcement) -> None:
        ours = sum(upload.announcement.client == announcement.client for upload in self._all())
        if ours >= self.bounds.max_open:
            raise TooManyUploads(
                f"There are {ours} unfinished uploads of yours, which is as many as may be: end or delete one."
            )
        plan = self._plan_eviction(announcement.length)
        free = shutil.disk_usage(self._open_folder).free
        if plan.excess > 0 or plan.surplus > 0 or announcement.length > free:
            raise _no_room()
        for upload in plan.evicted:
            if not upload.size:  # others lose their bytes for bytes alone, not for an announcement
                self.remove(upload.folder)

    def make_room(self, size: int, folder: Path) -> None:
        """Count bytes that arrive; evict idle uploads where there is no room for them.

        Where that does not suffice, the largest upload alone goes on, beyond ``uploads.max_size`` by what it lacks:
        without that, uploads that fill the room before one is whole would all wait for each other. Announced lengths
        do not count: a few clients could reserve all of it for nothing.

        :param size: how many further bytes
        :param folder: of the upload that they are for
        :raises InsufficientStorage: when they do not fit
        """
        is_due = time.monotonic() - self._measured >= self._measure_interval
        if is_due or (size > self._room and self._largest is None):
            self._measure(size, folder)
        if size > self._room and folder != self._largest:
            raise _no_room()
        self._room -= size

    def _measure(self, size: int, folder: Path) -> None:
        """Note the room for further bytes, after evictions, or the largest upload where there is none."""
        plan = self._plan_eviction(size, folder)
        largest = None
        if plan.excess > 0 and plan.remaining:
            largest = max(plan.remaining, key=lambda upload: (upload.size, upload.folder)).folder
        if largest in (None, folder):
            for upload in plan.evicted:
                self.remove(upload.folder)
        self._measured, self._room, self._largest = time.monotonic(), size - plan.excess, largest

    def _plan_eviction(self, size: int, folder: Path | None = None) -> _EvictionPlan:
        """Return which idle uploads to evict, the longest idle first, until further bytes fit.

        Those without a byte are the first of too many: nothing is lost with them.

        :param size: how many further bytes
        :param folder: of the upload that they are for; None for a new one
        """
        uploads = [
            _Usage(_size(path / _BYTES), _modified(path / _BYTES), path)
            for path in _entries(self._open_folder)
            if not path.name.startswith(".")
        ]
        excess = size + sum(upload.size for upload in uploads) - self.bounds.max_size
        surplus = len(uploads) + (folder is None) - self._max_open
        evicted, remaining = [], []
        idle_since = time.time() - self._max_idle
        for upload in sorted(uploads, key=lambda upload: (upload.size > 0, upload.modified)):
            is_idle = upload.modified < idle_since and upload.folder != folder
            if is_idle and (surplus > 0 or (upload.size > 0 and excess > 0)):
                evicted.append(upload)
                excess, surplus = excess - upload.size, surplus - 1
            else:
                remaining.append(upload)
        return _EvictionPlan(evicted, remaining, excess, surplus)

    def find(self, upload_id: str, creator: str) -> PartialUpload:
        """Return an upload of a caller.

        :raises UploadNotFound: when there is none, or it is another caller's
        """
        upload = self._load(upload_id) if self._folder is not None and _ID.fullmatch(upload_id) else None
        if upload is None or upload.announcement.creator != creator or upload.expires < time.time():
            raise upload_not_found()
        return upload

    def is_finished(self, upload_id: str) -> bool:
        """Return whether an upload was stored, as far as that is remembered."""
        return (self._finished_folder / upload_id).exists()

    def remember(self, upload_id: str, announcement: Announcement, outcome: Mapping[str, str]) -> None:
        """Remember how an upload has ended.

        :raises OSError: when it cannot be written
        """
        path = self._finished_folder / upload_id
        aside = path.with_name(f".{upload_id}")
        aside.write_text(json.dumps({**asdict(announcement), "outcome": outcome}), encoding="utf-8")
        aside.replace(path)

    def forget(self, upload_id: str) -> None:
        """Forget that an upload was stored.

        :raises StoreUnavailable: when that cannot be done
        """
        try:
            (self._finished_folder / upload_id).unlink(missing_ok=True)
        except OSError as error:
            raise _write_problem(error) from error

    def remove(self, folder: Path) -> None:
        """Delete the files of an upload; it is gone at once, whatever happens meanwhile."""
        gone = folder.with_name(f".{folder.name}")
        with suppress(OSError):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        self._measured = -math.inf

    def tidy(self) -> None:
        """Delete uploads that have expired, and what killed processes have left."""
        if self._folder is not None:
            self._tidy_open()
            self._tidy_finished()

    def _tidy_open(self) -> None:
        now = time.time()
        for folder in _entries(self._open_folder):
            if folder.name.startswith("."):
                if now - _modified(folder) > _ABANDONED_S:
                    shutil.rmtree(folder, ignore_errors=True)
            elif now - _modified(folder / _BYTES) > self.bounds.lifetime:
                self.remove(folder)

    def _tidy_finished(self) -> None:
        now = time.time()
        aged = sorted((now - _modified(path), path) for path in _entries(self._finished_folder))
        for place, (age, path) in enumerate(aged):
            if age > self._finished_s or place >= self._max_finished:
                with suppress(OSError):
                    path.unlink()

    def _all(self) -> Iterator[PartialUpload]:
        for folder in _entries(self._open_folder):
            upload = None if folder.name.startswith(".") else self._load(folder.name)
            if upload is not None and upload.outcome is None:
                yield upload

    def _load(self, upload_id: str) -> PartialUpload | None:
        """Return an upload, as it ended where it has; None where there is none."""
        folder, finished = self._open_folder / upload_id, self._finished_folder / upload_id
        for path, dated in ((finished, finished), (folder / _ANNOUNCEMENT, folder / _BYTES)):
            try:
                members = json.loads(path.read_text(encoding="utf-8"))
                outcome = members.pop("outcome", None)
                return PartialUpload(self, upload_id, Announcement(**members), folder, _modified(dated), outcome)
            except (OSError, ValueError, TypeError):
                continue
        return None


def upload_not_found() -> UploadNotFound:
    """Return the problem of an upload that is not there; that of another caller gets the same."""
    return UploadNotFound("There is no such upload here: it has ended, has expired, or lies on another node.")


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _modified(path: Path) -> float:
    """Return when a file was written last; the epoch where it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    """Return the bytes in a file; 0 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _no_room() -> InsufficientStorage:
    return InsufficientStorage("There is no room for an unfinished upload of this size at the moment.")


@contextmanager
def _held(path: Path, wait: float) -> Iterator[None]:
    """Hold a lock file over the processes of the node."""
    handle = open_lock(path)
    try:
        _lock(handle, wait)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, wait: float) -> None:
    if not wait_for(lambda: acquire(handle) or None, time.monotonic() + wait):
        raise UploadLocked("Another request is at work on this upload.")


def _write(file: BinaryIO, chunk: bytes, offset: int) -> None:
    view = memoryview(chunk)
    try:
        while view:
            written = os.pwrite(file.fileno(), view, offset)
            view, offset = view[written:], offset + written
    except OSError as error:
        raise _write_problem(error) from error


def _write_problem(error: OSError) -> InsufficientStorage | StoreUnavailable:
    if error.errno in _NO_ROOM:
        return InsufficientStorage("The disk for uploads is full.")
    return StoreUnavailable("The disk for uploads cannot be written to.")

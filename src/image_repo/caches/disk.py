"""The cache on the disk of a node, shared by its processes; also the folder that keeps what temporary URLs promise.

An entry is one file: ``FOLDER/xx/IMAGE-KEY``, both halves of the name hashes and ``xx`` the first
two digits of ``IMAGE``, so that all entries of one image are found in one folder. It
describes itself::

    "image_repo 1\\n"  length of the facts (4 bytes)  length of the body (8)  SHA-256 (32)  facts (JSON)  body

The digest is that of facts and body, and is looked at in every read. SHA-256 because a checksum
of 32 bits is too short for what a disk does to millions of files in years, and because
processors have an instruction for it: it is faster than BLAKE2 (1.9 against 1.3 GB/s).

The time of change of a file says when it was last used. A file that may not be written to is
promised until that time, and is not evicted before. Nothing is flushed but promises: what
a loss of power leaves half written is found by its digest.
"""

# Paths are text here: a sweep of 100,000 files makes no Path of each.
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH116, PTH120, PTH123, PTH208

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import secrets
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from image_repo.caches.eviction import Item, Limits, evict
from image_repo.caches.tiers import CachedFile
from image_repo.concurrency.private_folder import make_private
from image_repo.model.rendition import Layer, Rendition

log = logging.getLogger(__name__)

_MAGIC = b"image_repo 1\n"
_HEAD = struct.Struct(f">{len(_MAGIC)}sIQ32s")
#: facts are a key, a media type and two short values
_MOST_FACTS = 1 << 14
_CHUNK = 1 << 20
#: what file systems hand out, in bytes: a file takes a multiple of it
_BLOCK = 4096
#: seconds between two notes of a use: it need not be exact, and a write for each read is dear
_TOUCH_EVERY = 3_600.0
#: seconds after which a file that is being written was left behind
_LEFT_BEHIND = 3_600.0
#: seconds after which the folder is looked through in any case, while there are writes
_SWEEP_EVERY = 3_600.0
#: up to this size a kept object is verified before its first byte is handed out
_VERIFIED = 32 << 20
#: part of the room that one process fills before it looks again how much the others have filled
_LOOK_AFTER = 8
#: an entry of this part of the whole is the largest that is taken
_LARGEST_PART = 8

_GONE = (FileNotFoundError, NotADirectoryError)


class DiskTier:
    """Renditions in a folder, bounded in bytes and files over all processes that share it; any thread may call.

    :param folder: for one origin; made when missing, private to this user
    :param limits: its bounds, and what is kept longest
    :param name: what it is called when it answers
    :param lifetime: seconds after its last use when an entry without a promise goes in any case
    :param evicted: is told how many were dropped to make room
    :raises OSError: when the folder cannot be made, or is not ours
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        name: Layer = "disk",
        lifetime: int | None = None,
        evicted: Callable[[int], object] = lambda _: None,
    ) -> None:
        make_private(folder)
        self.name: Layer = name
        self._folder = folder
        self._root = str(folder.absolute())
        self._limits = limits
        self._lifetime = lifetime
        self._evicted = evicted
        self._meter = _Meter(limits)
        self._sweeper = _Sweeper(self.sweep)

    # -- a tier ----------------------------------------------------------------------

    def get(self, key: str) -> Rendition | None:
        """The rendition. One that does not fit its digest is removed, and is a miss."""
        path = self._path(key)
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except _GONE:
            return None
        try:
            found = os.fstat(handle)
            head = _read_head(handle, key, found.st_size)
            body = os.pread(handle, head.size, head.offset) if head else b""
            if head is None or len(body) != head.size or head.checksum(body) != head.digest:
                self._remove_wrong(path, found)
                return None
            _touch(handle, found)
        finally:
            os.close(handle)
        return Rendition(body, head.media_type, head.etag, head.modified)

    def put(self, key: str, rendition: Rendition, *, until: float | None = None) -> None:
        """Keeps it, unless there is no room for it; a promise that was made for it before goes on.

        :raises OSError: when it cannot be written
        """
        size = _taken(len(rendition.body) + _HEAD.size)
        if until is None and not self._meter.has_room(size):
            self.delete(key)  # what is not replaced must not stay
            self._sweeper.wake()
            return
        self._write(key, rendition.body, rendition, until, durable=until is not None)

    def delete(self, key: str) -> bool:
        """Removes one. False when it was not there."""
        return _unlink(self._path(key))

    def purge(self, prefix: str) -> int:
        """Removes all whose key begins so, promised or not, and tells how many they were.

        For the prefix of an image (``a/b@``) one folder is listed; for any other all entries are read.
        """
        image, at, rest = prefix.partition("@")
        if not at:
            return sum(self._purge_among(path, prefix) for path, _ in self._files())
        group = _hash(image)
        shard = f"{self._root}/{group[:2]}"
        try:
            names = [name for name in os.listdir(shard) if name.startswith(group)]
        except _GONE:
            return 0
        paths = [f"{shard}/{name}" for name in names]
        return sum(self._purge_among(path, prefix) if rest else _unlink(path) for path in paths)

    def _purge_among(self, path: str, prefix: str) -> bool:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except _GONE:
            return False
        try:
            head = _read_head(handle, None, os.fstat(handle).st_size)
        finally:
            os.close(handle)
        return head is not None and head.key.startswith(prefix) and _unlink(path)

    def close(self) -> None:
        """Ends the thread that sweeps."""
        self._sweeper.close()

    # -- a keeper --------------------------------------------------------------------

    def keep(self, key: str, body: bytes | BinaryIO, rendition: Rendition, until: float) -> None:
        """Keeps bytes until then at least, also through a loss of power.

        :param body: the bytes, or a seekable file of them, read from its present position
        :raises OSError: when it cannot be written
        """
        self._write(key, body, rendition, until, durable=True)

    def kept_until(self, key: str) -> float | None:
        """Until when it is kept: a time that has passed where nothing is promised; None when it is not there."""
        try:
            found = os.stat(self._path(key))
        except _GONE:
            return None
        now = time.time()
        return found.st_mtime if _is_promised(found, now) else min(found.st_mtime, now)

    def open(self, key: str) -> CachedFile | None:
        """What is kept, open at its first byte.

        Up to 32 MiB it is verified here. Of a larger one, an original, only the length is:
        reading it twice would keep the client waiting.
        """
        path = self._path(key)
        try:
            file = open(path, "rb")  # noqa: SIM115 (the caller closes it)
        except _GONE:
            return None
        try:
            handle = file.fileno()
            found = os.fstat(handle)
            head = _read_head(handle, key, found.st_size)
            if head is None or (head.size <= _VERIFIED and not _fits(handle, head)):
                self._remove_wrong(path, found)
                file.close()
                return None
            _touch(handle, found)
            file.seek(head.offset)
        except BaseException:
            file.close()
            raise
        return CachedFile(file, head.size, head.media_type, head.etag, head.modified)

    # -- files -----------------------------------------------------------------------

    def _path(self, key: str) -> str:
        group = _hash(key.partition("@")[0])
        return f"{self._root}/{group[:2]}/{group}-{_hash(key)}"

    def _write(
        self, key: str, body: bytes | BinaryIO, rendition: Rendition, until: float | None, *, durable: bool
    ) -> None:
        path = self._path(key)
        shard = os.path.dirname(path)
        aside = f"{shard}/.{secrets.token_hex(8)}"
        try:
            with self._create(aside) as file:
                size = _write_entry(file, key, body, rendition)
            if durable:
                _sync(aside)  # here, for it takes time, and others wait for the lock
            with _locked(shard):
                _promise(aside, max(until or 0.0, _promised_until(path)))
                if durable:
                    _sync(aside)
                os.rename(aside, path)
            if durable:
                _sync(shard)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
        if self._meter.add(_taken(size)):
            self._sweeper.wake()

    def _create(self, path: str) -> BinaryIO:
        def create(name: str, _: int) -> int:
            return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

        try:
            return open(path, "wb", opener=create)
        except _GONE:  # the first one here, or the folder was deleted
            make_private(self._folder)
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.dirname(path), 0o700)
            return open(path, "wb", opener=create)

    def _remove_wrong(self, path: str, found: os.stat_result) -> None:
        log.warning("the entry %s of the %s tier is damaged; it is removed", path, self.name)
        with contextlib.suppress(OSError), _locked(os.path.dirname(path)):
            there = os.stat(path)
            if (there.st_ino, there.st_dev) == (found.st_ino, found.st_dev):
                os.unlink(path)

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every entry; files that were left behind by interrupted writes are removed on the way."""
        before = time.time() - _LEFT_BEHIND
        for shard in sorted(_names(self._root)):
            if len(shard) != 2:
                continue
            for name in _names(f"{self._root}/{shard}"):
                path = f"{self._root}/{shard}/{name}"
                try:
                    found = os.stat(path)
                except _GONE:
                    continue
                if not name.startswith("."):
                    yield path, found
                elif found.st_mtime < before:
                    _unlink(path)

    # -- eviction --------------------------------------------------------------------

    def sweep(self) -> int:
        """Evicts what is over the bounds or too old, unless another process is at it; how many went."""
        with self._sweeping() as alone:
            if not alone:
                self._meter.reset(None)
                return 0
            items, old, size, count = self._survey(time.time())
            gone = [*old, *evict(items, size, count, self._limits)]
            dropped = [item for item in gone if self._drop(item)]
            self._meter.reset((size - sum(item.size for item in dropped), count - len(dropped)))
        if dropped:
            self._evicted(len(dropped))
            log.info("%d entries of the %s tier were evicted", len(dropped), self.name)
        return len(dropped)

    def _survey(self, now: float) -> tuple[list[Item], list[Item], int, int]:
        """Those that may go, those that are too old, and the bytes and number of all."""
        items: list[Item] = []
        old: list[Item] = []
        size = count = 0
        oldest = now - self._lifetime if self._lifetime else 0.0
        for path, found in self._files():
            taken = _taken(found.st_size)
            size, count = size + taken, count + 1
            if not _is_promised(found, now):
                item = Item(path, taken, _used(found, now))
                (old if item.used < oldest else items).append(item)
        gone = sum(item.size for item in old)
        return items, old, size - gone, count - len(old)

    def _drop(self, item: Item) -> bool:
        """Removes an item, unless it was used or promised meanwhile."""
        with contextlib.suppress(OSError), _locked(os.path.dirname(item.path)):
            now = time.time()
            found = os.stat(item.path)
            if not _is_promised(found, now) and _used(found, now) <= item.used:
                os.unlink(item.path)
                return True
        return False

    @contextmanager
    def _sweeping(self) -> Iterator[bool]:
        handle = os.open(f"{self._root}/.sweep", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(handle)


class LinkFolder(DiskTier):
    """What temporary URLs promise, and nothing else: beside a store on disk the disk cache holds the rest already."""

    def put(self, key: str, rendition: Rendition, *, until: float | None = None) -> None:
        """Declines what nobody was promised."""
        if until is not None:
            super().put(key, rendition, until=until)


# -- entries -------------------------------------------------------------------------


class _Head:
    """The beginning of an entry: everything but its body."""

    __slots__ = ("digest", "etag", "facts", "key", "media_type", "modified", "offset", "size")

    def __init__(self, size: int, digest: bytes, facts: bytes) -> None:
        members: dict[str, Any] = json.loads(facts)
        self.size = size
        self.digest = digest
        self.facts = facts
        self.offset = _HEAD.size + len(facts)
        self.key: str = members["key"]
        self.media_type: str = members["media_type"]
        self.etag: str = members["etag"]
        self.modified: float = members["modified"]

    def checksum(self, body: bytes) -> bytes:
        """What the digest must be when this is the body."""
        made = hashlib.sha256(self.facts)
        made.update(body)
        return made.digest()


def _read_head(handle: int, key: str | None, length: int) -> _Head | None:
    """The head of an entry; None when it is none, or that of another key."""
    text = os.pread(handle, _HEAD.size + 1024, 0)
    if len(text) < _HEAD.size:
        return None
    magic, facts, size, digest = _HEAD.unpack_from(text)
    if magic != _MAGIC or facts > _MOST_FACTS or length != _HEAD.size + facts + size:
        return None
    if len(text) < _HEAD.size + facts:
        text = os.pread(handle, _HEAD.size + facts, 0)
    try:
        head = _Head(size, digest, text[_HEAD.size : _HEAD.size + facts])
    except (ValueError, KeyError, TypeError):
        return None
    return head if key is None or head.key == key else None


def _fits(handle: int, head: _Head) -> bool:
    """Whether the body is the one that was written, read piece by piece."""
    made = hashlib.sha256(head.facts)
    for offset in range(head.offset, head.offset + head.size, _CHUNK):
        made.update(os.pread(handle, _CHUNK, offset))
    return made.digest() == head.digest


def _write_entry(file: BinaryIO, key: str, body: bytes | BinaryIO, rendition: Rendition) -> int:
    """Writes an entry; how many bytes it has."""
    facts = json.dumps(
        {"key": key, "media_type": rendition.media_type, "etag": rendition.etag, "modified": rendition.modified}
    ).encode()
    made = hashlib.sha256(facts)
    size = 0
    file.write(bytes(_HEAD.size) + facts)
    for chunk in [body] if isinstance(body, bytes) else iter(lambda: body.read(_CHUNK), b""):
        made.update(chunk)
        size += len(chunk)
        file.write(chunk)
    file.seek(0)
    file.write(_HEAD.pack(_MAGIC, len(facts), size, made.digest()))
    return _HEAD.size + len(facts) + size


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _taken(size: int) -> int:
    """What a file of this size takes on the disk, in bytes."""
    return -(-size // _BLOCK) * _BLOCK


# -- times ---------------------------------------------------------------------------


def _touch(handle: int, found: os.stat_result) -> None:
    """Notes a use, once in a while."""
    now = time.time()
    if found.st_mtime < now - _TOUCH_EVERY:
        with contextlib.suppress(OSError):  # a disk that can only be read
            os.utime(handle, (now, now))


def _promise(path: str, until: float) -> None:
    if until > time.time():
        os.chmod(path, stat.S_IRUSR)
        os.utime(path, (until, until))


def _is_promised(found: os.stat_result, now: float) -> bool:
    # Not by the time alone: a clock that was ahead for a while would make everything eternal.
    return not found.st_mode & stat.S_IWUSR and found.st_mtime > now


def _used(found: os.stat_result, now: float) -> float:
    """When a file was used last; a time that is still to come says nothing, and goes first."""
    return found.st_mtime if found.st_mtime < now + _TOUCH_EVERY else 0.0


def _promised_until(path: str) -> float:
    try:
        found = os.stat(path)
    except _GONE:
        return 0.0
    return found.st_mtime if _is_promised(found, time.time()) else 0.0


# -- the file system -----------------------------------------------------------------


@contextmanager
def _locked(shard: str) -> Iterator[None]:
    """Keeps other processes from promising and evicting in this folder."""
    handle = os.open(shard, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sync(path: str) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except _GONE:
        return []


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except _GONE:
        return False
    return True


# -- when to sweep -------------------------------------------------------------------


class _Meter:
    """Guesses how full the folder is between two looks: what was there, and what this process added since."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._known = (0, 0)
        self._added = (0, 0)
        #: how much may be added until the next look; nothing at first, for nobody has looked yet
        self._steps = (0, 0)
        self._looked = 0.0

    def add(self, size: int) -> bool:
        """Counts an entry; whether it is time to look."""
        with self._lock:
            self._added = (self._added[0] + size, self._added[1] + 1)
            limits = (self._limits.max_size, self._limits.max_elements)
            full = any(
                limit and added > step for limit, added, step in zip(limits, self._added, self._steps, strict=True)
            )
            return full or time.monotonic() - self._looked > _SWEEP_EVERY

    def has_room(self, size: int) -> bool:
        """Whether an entry stays within the bounds."""
        most, most_files = self._limits.max_size, self._limits.max_elements
        with self._lock:
            taken, files = (known + added for known, added in zip(self._known, self._added, strict=True))
        large = bool(most) and (size > most // _LARGEST_PART or taken + size > most)
        return not large and not (most_files and files >= most_files)

    def reset(self, found: tuple[int, int] | None) -> None:
        """Takes what a look has found, bytes and files; None when another process is looking."""
        with self._lock:
            self._looked = time.monotonic()
            if found:
                self._known, self._added = found, (0, 0)
            share = 1.0 - self._limits.evict_free_threshold
            limits = (self._limits.max_size, self._limits.max_elements)
            # Other processes add at the same time: one of them may fill a part of the room only.
            room = [int(limit * share) - known for limit, known in zip(limits, self._known, strict=True)]
            step = [max(left // _LOOK_AFTER, limit // 100) for left, limit in zip(room, limits, strict=True)]
            self._steps = (self._added[0] + step[0], self._added[1] + step[1])


class _Sweeper:
    """A thread that sweeps when it is woken, off the path of requests."""

    def __init__(self, sweep: Callable[[], object]) -> None:
        self._sweep = sweep
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    def wake(self) -> None:
        """Has it sweep soon."""
        self._woken.set()
        with self._lock:
            # A thread does not live on in a forked child.
            if not self._closed and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="image_repo-sweep", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._woken.wait() and not self._closed:
            self._woken.clear()
            try:
                self._sweep()
            except OSError as error:
                log.warning("the disk cache could not be swept: %s", error)

    def close(self) -> None:
        """Ends the thread."""
        with self._lock:
            self._closed = True
            thread = self._thread
        self._woken.set()
        if thread:
            thread.join(5.0)

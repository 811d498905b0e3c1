"""Decoded pixels: one bounded cache for the node, so that hundreds of regions of one original cost one decode.

An entry is a file in the node's private folder which the processes map, so that a region reads
what it needs and nothing is held twice; the page cache of the system does the rest. What is
in it is the renderer's affair. Unlike what is kept of renditions it carries no checksum of
its content: 100 MB would have to be read for a region of 1. Instead it ends in a note of its
length and key, written last, and nothing outlives the machine's boot, so that what a loss of
power leaves half written is never taken for pixels.

Files are only ever written under another name and then renamed, and never shortened: a mapped
one stays whole as long as it is looked at, also when it is evicted meanwhile. One that is
being written counts with the size that it will have, and holds a lock, so that what a
killed process has left is known by its lock being free.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from cachetools import LRUCache

from image_repo import render
from image_repo.caches.eviction import Item, Priority, evict
from image_repo.concurrency.limiter import Limiter
from image_repo.concurrency.private_folder import make_private
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import RenderConfiguration
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe

log = logging.getLogger(__name__)

_MAGIC = b"image_repo kept\n"
#: what an entry ends in: magic, length of its content, digest of boot and key
_NOTE = struct.Struct(f">{len(_MAGIC)}sQ32s")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
#: seconds between two notes of a use
_TOUCH_EVERY = 5.0
#: of how many originals it is remembered that they are decoded for each region
_MOST_REMEMBERED = 20_000


@dataclass(frozen=True, slots=True)
class _Limits:
    max_size: int
    max_elements: int = 0
    evict_free_threshold: float = 0.0
    evict_hysteresis: float = 0.1
    priority: Priority = "newest"


class DecodedFiles:
    """Large things in a folder, bounded in bytes over all processes that share it; any thread may call.

    :param folder: private to this user, made when missing; None keeps nothing
    :param most: bytes that all of them take together; 0 keeps nothing
    """

    def __init__(self, folder: Path | None, most: int) -> None:
        self._folder = folder if most else None
        self._limits = _Limits(most)
        self._boot = _boot()

    def fits(self, size: int) -> bool:
        """Whether something of this size may be kept at all."""
        return self._folder is not None and size + _NOTE.size <= self._limits.max_size

    def open(self, key: str) -> memoryview | None:
        """What is kept under this key, mapped; None when there is nothing, or what there is is not whole."""
        if self._folder is None:
            return None
        path = self._path(self._folder, key)
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb", buffering=0) as file:
                kept = self._mapped(file.fileno(), key)
                if kept is None:
                    _drop(path, file.fileno())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read: %s", path, error)
            return None
        return kept

    def keep(self, key: str, size: int, write: Callable[[BinaryIO], None]) -> memoryview | None:
        """Keeps what ``write`` writes.

        :param size: how many bytes that will be
        :param write: given an empty file on a disk, open for reading as well
        :returns: as :meth:`open`; None when it cannot be kept
        :raises Problem: that of ``write``
        """
        if self._folder is None or not self.fits(size):
            return None
        try:
            with self._aside(self._folder, size + _NOTE.size) as (file, aside):
                write(file)
                file.seek(size)
                file.write(_NOTE.pack(_MAGIC, size, self._digest(key)))
                file.flush()
                aside.rename(self._path(self._folder, key))
                return self._mapped(file.fileno(), key)
        except _NoRoom:
            return None
        except (OSError, ValueError) as error:
            log.warning("decoded pixels are not kept: %s", error)
            return None

    def purge(self, prefix: str) -> int:
        """Removes everything whose key begins so up to its ``@``; how many went."""
        if self._folder is None:
            return 0
        return sum(map(_unlink, self._folder.glob(_hash(prefix.partition("@")[0]) + "-*")))

    # -- files -----------------------------------------------------------------------

    def _path(self, folder: Path, key: str) -> Path:
        return folder / f"{_hash(key.partition('@')[0])}-{_hash(key)}"

    def _digest(self, key: str) -> bytes:
        return hashlib.sha256(f"{self._boot}\n{key}".encode("utf-8", "surrogatepass")).digest()

    def _mapped(self, handle: int, key: str) -> memoryview | None:
        found = os.fstat(handle)
        size = found.st_size - _NOTE.size
        if size <= 0 or os.pread(handle, _NOTE.size, size) != _NOTE.pack(_MAGIC, size, self._digest(key)):
            return None
        if found.st_mtime < time.time() - _TOUCH_EVERY:
            with contextlib.suppress(OSError):  # a disk that can only be read
                os.utime(handle)
        return memoryview(mmap.mmap(handle, found.st_size, access=mmap.ACCESS_READ))[:size]

    @contextmanager
    def _aside(self, folder: Path, size: int) -> Iterator[tuple[BinaryIO, Path]]:
        """A file to write to, for which there is room; it is gone in the end unless it was renamed."""
        make_private(folder)
        aside = folder / f".{secrets.token_hex(8)}"
        with _locked(folder):
            self._make_room(folder, size)
            handle = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            file = cast("BinaryIO", os.fdopen(handle, "w+b"))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(handle, size)
        with file:
            try:
                yield file, aside
            finally:
                _unlink(aside)

    def _make_room(self, folder: Path, size: int) -> None:
        """Evicts what was not used for longest, until there is room for so much more.

        :raises _NoRoom: when what is being written at present leaves none
        """
        items: list[Item] = []
        taken = size
        for path in folder.iterdir():
            if path.name.startswith(".") and _is_left_behind(path):
                _unlink(path)
                continue
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                taken += found.st_size
                if not path.name.startswith("."):
                    items.append(Item(str(path), found.st_size, found.st_mtime))
        gone = evict(items, taken, len(items) + 1, self._limits)
        for item in gone:
            _unlink(Path(item.path))
        if taken - sum(item.size for item in gone) > self._limits.max_size:
            raise _NoRoom


class _NoRoom(Exception):
    """There is none at present."""


def _boot() -> str:
    """Which start of the machine this is; where that cannot be told, nothing is found by another process."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return secrets.token_hex(8)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_left_behind(path: Path) -> bool:
    """Whether nobody writes to this file any more."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _drop(path: Path, handle: int) -> None:
    """Removes what is not whole, or of another boot, unless it was replaced meanwhile."""
    with contextlib.suppress(OSError):
        if os.path.samestat(path.stat(), os.fstat(handle)):
            path.unlink()


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


class DecodedCache:
    """The decoded pixels of large originals, for recipes that ask for a region.

    :param gate: what holds the number of renders; decoding is one
    """

    def __init__(
        self, files: DecodedFiles, flight: SingleFlight, limiter: Limiter, limits: RenderConfiguration
    ) -> None:
        self._files = files
        self._flight = flight
        self._limiter = limiter
        self._limits = limits
        self._generation = render.generation()
        self._lock = threading.Lock()
        self._without: LRUCache[str, bool] = LRUCache(_MOST_REMEMBERED)

    def find(self, current: Original, recipe: Recipe, original: Callable[[], BinaryIO]) -> memoryview | None:
        """What :func:`image_repo.render.cut` takes the region out of, decoded once for all who ask.

        :param original: opens the original; called when nothing is kept
        :returns: None where the region is rendered from the original itself, with the same outcome
        :raises Problem: as :func:`image_repo.render.pixels`
        """
        if not self._files.fits(0) or not render.is_region(recipe):
            return None
        key = f"{prefix_of(current.name)}{current.version}+page({recipe.page})+g({self._generation}).pixels"
        found = self._known(key) or self._flight.do(
            key, lambda: self._make(key, recipe.page, original), lambda: self._known(key), self._limits.wait
        )
        return found[0]

    def purge(self, name: ImageName) -> None:
        """Removes what is kept of an image."""
        self._files.purge(prefix_of(name))

    def _known(self, key: str) -> tuple[memoryview | None] | None:
        with self._lock:
            if key in self._without:
                return (None,)
        kept = self._files.open(key)
        return (kept,) if kept is not None and render.is_readable(kept) else None

    def _make(self, key: str, page: int, original: Callable[[], BinaryIO]) -> tuple[memoryview | None]:
        pixels = render.pixels(original(), page, self._limits)
        if pixels is None or not self._files.fits(pixels.size):
            with self._lock:
                self._without[key] = True
            return (None,)
        # four bytes for each pixel, and a third more for the levels
        with self._limiter.slot(self._limits.wait, heavy=pixels.size > 5 * render.HEAVY):
            return (self._files.keep(key, pixels.size, pixels.write),)

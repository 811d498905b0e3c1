"""A folder of plain files: the store that needs no server, and that a person, rsync or cp can fill and read.

:mod:`image_repo.stores.disk_paths` maps keys to files. Our own files are in ``.image_repo``: uploads being written, the
keys of temporary URLs, and sidecars (:mod:`image_repo.stores.disk_sidecars`). The entity tag is size and time of
change: files of other tools have it too, and no two writes of ours share a time.
"""

# Paths are text here: a listing of 100,000 files makes no Path of each.
# ruff: noqa: PTH100, PTH103, PTH104, PTH106, PTH108, PTH112, PTH116, PTH118, PTH119, PTH120, PTH123

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import math
import os
import secrets as random
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn, Self

from image_repo.errors import PreconditionFailed, StoreUnavailable
from image_repo.model.formats import SNIFF_BYTES
from image_repo.stores import tempurl
from image_repo.stores.base import CHUNK, Capabilities, Entry, NotOnDisk, NotReadable, OutOfDescriptors
from image_repo.stores.disk_link_keys import DiskLinkKeys
from image_repo.stores.disk_listing import ABSENT, NOWHERE, Folders, Listing, Window
from image_repo.stores.disk_paths import (
    OWN,
    decode_file,
    decode_folder,
    encode,
    encode_file,
    encode_folder,
    is_plain_file,
    is_plain_folder,
    segments,
)
from image_repo.stores.disk_sidecars import Attributes, Sidecars
from image_repo.stores.disk_sync import DeferredFolders, FolderSyncs, sync_folder
from image_repo.stores.lookup import by_folder
from image_repo.stores.media_types import RecordTable, begins_as_record, first_bytes, implied_type, is_record_file

log = logging.getLogger(__name__)

#: seconds after which a file that is being written was left behind by a dead process
_LEFT_BEHIND_S = 600.0
#: attempts at what another process undoes
_ATTEMPTS = 64


_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

#: errors of one file or folder
_NOT_READABLE = frozenset({errno.EACCES, errno.EPERM, errno.EIO})
#: paths that are named, at most
_MAX_PASSED_OVER = 1_000


# -- entries and bodies ---------------------------------------------------------------


def _etag(status: os.stat_result) -> str:
    return f"{status.st_size:x}-{status.st_mtime_ns:x}"


class DiskBody:
    """An open file; entry and bytes belong together even when the key gets another file meanwhile."""

    def __init__(self, entry: Entry, handle: int) -> None:
        self.entry = entry
        self._handle = handle

    @property
    def handle(self) -> int:
        """The descriptor of the file."""
        return self._handle

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in chunks.

        :raises StoreUnavailable: when it cannot be read, or somebody writes into the file meanwhile
        """
        left = self.entry.size
        while left:
            with _translated("read"):
                chunk = os.read(self._handle, min(CHUNK, left))
                left -= len(chunk)
                if not chunk or (not left and _etag(os.fstat(self._handle)) != self.entry.etag):
                    raise StoreUnavailable(f"The object {self.entry.key!r} is being changed by another program.")
            yield chunk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


@contextmanager
def _translated(verb: str) -> Iterator[None]:
    """Translate errors of the file system into those of a store."""
    try:
        yield
    except OSError as error:
        _unavailable(verb, error)


def _unavailable(verb: str, error: OSError) -> NoReturn:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise OutOfDescriptors("Too many files are open here.") from error
    if verb == "read" and error.errno in _NOT_READABLE:
        raise NotReadable(f"It cannot be read: {error.strerror}.") from error
    raise StoreUnavailable(f"The folder of the originals cannot be {verb}: {error.strerror or error}.") from error


# -- the store -----------------------------------------------------------------------


class DiskStore:
    """A :class:`~image_repo.stores.base.Store` in a folder; any number of threads and processes may share it.

    :param root: the folder; made by :meth:`check` or the first write
    :param secrets: keys of temporary URLs, the first one signs; the folder's own when empty
    :param public_endpoint: scheme and authority under which clients reach this program
    """

    def __init__(self, root: Path, *, secrets: tuple[str, ...] = (), public_endpoint: str | None = None) -> None:
        self.description = f"folder {root}"
        self.identity = f"folder:{os.path.realpath(root)}"
        self._root = Path(os.path.abspath(root))
        self._own = self._root / OWN
        self._real_root = ""
        self._sidecars = Sidecars(self._own)
        self.capabilities = Capabilities(immediate_listing=True, folder=self._own)
        self._link_keys = DiskLinkKeys(self._own, secrets, self._write)
        self._endpoint = public_endpoint or ""
        #: whether the folder was there: a check does not make it anew then, as its disk may not be mounted
        self._seen = self._root.is_dir()
        self._stamp = 0
        self._tidied = -math.inf
        #: paths below the root that a listing could not read
        self._passed_over: dict[str, None] = {}
        self._lock = threading.Lock()
        self._folders = Folders(self._is_inside)
        self._records = RecordTable()
        self._syncs = FolderSyncs(sync_folder)
        self._later = DeferredFolders()

    def check(self, *, create: bool = False) -> None:
        """Make the folder where that is allowed or its parent exists, and look whether it can be used.

        :raises StoreUnavailable: with what is wrong, in words for the person at the command line
        """
        root = self._root
        try:
            if not root.exists() and (create or (root.parent.is_dir() and not self._seen)):
                root.mkdir(mode=0o700, parents=create, exist_ok=True)
            if not root.exists():
                raise StoreUnavailable(f"The folder {root} is not there; with create_new it is made.")
            if not root.is_dir():
                raise StoreUnavailable(f"{root} is not a folder.")
            with os.scandir(root) as listing:
                for entry in itertools.islice(listing, _MAX_PASSED_OVER):
                    if entry.is_dir() and not os.access(entry.path, os.R_OK | os.X_OK, effective_ids=True):
                        self._pass_over(entry.path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
            self._seen = True
        except OSError as error:
            raise StoreUnavailable(f"The folder {root} cannot be used: {_reason(error, root)}.") from error
        try:
            self._tidy()
        except OSError as error:  # a folder that can only be read is served all the same
            log.warning("uploads will be refused, the folder %s cannot be written: %s", root, _reason(error, root))

    def _tidy(self) -> None:
        """Make our own folders, and remove what interrupted writes have left behind."""
        self._tidied = time.monotonic()
        incoming = self._incoming()
        before = time.time() - _LEFT_BEHIND_S
        for left in incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                # The time of the inode: the other one is set while it is written.
                if left.lstat().st_ctime < before:
                    left.unlink()

    def _incoming(self) -> Path:
        if not self._root.is_dir():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(self._root.parent)
        self._seen = True
        for folder in (self._own, self._own / "tmp"):
            folder.mkdir(mode=0o700, exist_ok=True)
        return self._own / "tmp"

    # -- reading ---------------------------------------------------------------------

    def head(self, key: str) -> Entry | None:
        with _translated("read"):
            body = self._open(key)
        if body is None:
            return None
        with body:
            return body.entry

    def get(self, key: str) -> DiskBody | None:
        with _translated("read"):
            return self._open(key)

    def _open(self, key: str) -> DiskBody | None:
        for path in self._places(key):
            handle = self._open_file(path)
            if handle is None:
                continue
            try:
                entry = self._entry(
                    key, os.fstat(handle), partial(begins_as_record, handle), partial(os.pread, handle, SNIFF_BYTES, 0)
                )
            except BaseException:
                os.close(handle)
                raise
            if entry is not None:
                return DiskBody(entry, handle)
            os.close(handle)
        self._must_be_there()
        return None

    def _must_be_there(self) -> None:
        if self._seen and not self._root.is_dir():
            raise StoreUnavailable("The folder of the originals is not there any more.")

    def _open_file(self, path: str) -> int | None:
        """Open a regular file inside the root; None when there is none."""
        real = os.path.realpath(path)
        if not self._is_inside(real):
            return None
        try:
            # Links are resolved by now. O_NONBLOCK: a pipe that somebody put there must not be waited for.
            handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        if stat.S_ISREG(os.fstat(handle).st_mode):
            return handle
        os.close(handle)
        return None

    def _is_inside(self, real: str) -> bool:
        if not self._real_root or not real.startswith(self._real_root):  # the root may be a link to elsewhere by now
            self._real_root = os.path.realpath(self._root).rstrip("/") + "/"
        return real.startswith(self._real_root) and not f"{real}/".startswith(f"{self._real_root}{OWN}/")

    def _entry(
        self, key: str, status: os.stat_result, is_record: Callable[[], bool], begin: Callable[[], bytes]
    ) -> Entry | None:
        """Return the entry of a file and its sidecar; None when it has expired."""
        entry = Entry(key, status.st_size, _etag(status), status.st_mtime_ns / 1e9, implied_type(key, is_record, begin))
        attributes = self._sidecars.read(key, entry)
        if attributes is None:
            return entry
        if attributes.expires is not None and attributes.expires <= time.time():
            return None
        return replace(
            entry, media_type=attributes.media_type, metadata=attributes.metadata, expires=attributes.expires
        )

    def _places(self, key: str) -> Iterator[str]:
        """Yield the paths that an object may have: our own spelling first, then those of other tools."""
        *folders, leaf = segments(key)
        bases = self._bases(folders)
        yield from (f"{base}/{encode_file(leaf)}" for base in bases)
        if is_plain_file(leaf):
            yield from (f"{base}/{leaf}" for base in bases)

    def _bases(self, folders: list[str]) -> list[str]:
        """Return the paths that its folder may have: our own spelling first, then existing ones of other tools."""
        bases = [str(self._root)]
        for segment in folders:
            plain = [f"{base}/{segment}" for base in bases] if is_plain_folder(segment) else []
            bases = [f"{base}/{encode_folder(segment)}" for base in bases] + [p for p in plain if os.path.isdir(p)]
        return bases

    # -- writing ---------------------------------------------------------------------

    def put(
        self,
        key: str,
        data: bytes | BinaryIO,
        *,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        expires: float | None = None,
        overwrite: bool = True,
    ) -> Entry:
        encode(key)  # says at once when it is no key
        attributes = Attributes(media_type, {name.lower(): text for name, text in (metadata or {}).items()}, expires)
        if not overwrite and self.head(key) is not None:
            raise _exists(key)
        path = None
        try:
            path = self._write(data)
            entry = self._stamped(key, path, attributes)
            self._place(key, path, overwrite)
        except OSError as error:
            _unavailable("written", error)
        finally:
            if path:
                with contextlib.suppress(OSError):
                    path.unlink()
        self._sidecars.remove(key, keep=entry.etag)
        return entry

    def _write(self, data: bytes | BinaryIO) -> Path:
        """Write a file aside, flushed to the disk."""
        if time.monotonic() - self._tidied > _LEFT_BEHIND_S:
            self._tidy()
        path = self._own / "tmp" / random.token_hex(16)
        try:
            handle = os.open(path, _NEW_FILE, 0o666)
        except FileNotFoundError:
            self._incoming()
            handle = os.open(path, _NEW_FILE, 0o666)
        try:
            with open(handle, "wb", buffering=0) as file:
                chunks = iter([data]) if isinstance(data, bytes) else iter(lambda: data.read(CHUNK), b"")
                for chunk in chunks:
                    view = memoryview(chunk)
                    while view:
                        view = view[file.write(view) :]
                os.utime(handle, ns=(time.time_ns(), self._now()))
                os.fsync(handle)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return path

    def _now(self) -> int:
        """Return nanoseconds since the epoch, never the same twice."""
        with self._lock:
            self._stamp = max(time.time_ns(), self._stamp + 1)
            return self._stamp

    def _stamped(self, key: str, path: Path, attributes: Attributes) -> Entry:
        """Return the entry of the written file; its sidecar is stored before it can be seen."""
        status = path.stat()
        # Where an older version has a sidecar this one needs its own, or the older attributes would hold on.
        implied = implied_type(key, partial(is_record_file, path), partial(first_bytes, path))
        if attributes != Attributes(implied, {}, None) or self._sidecars.has(key):
            self._sidecars.write(key, _etag(status), attributes)
        entry = Entry(key, status.st_size, _etag(status), status.st_mtime_ns / 1e9, attributes.media_type)
        return replace(entry, metadata=attributes.metadata, expires=attributes.expires)

    def _place(self, key: str, path: Path, overwrite: bool) -> None:
        """Move a written file into place, atomically."""
        target = f"{self._root}/{encode(key)}"
        for _ in range(_ATTEMPTS):
            try:
                self._make_folder(os.path.dirname(target))
                if overwrite:
                    path.rename(target)
                else:
                    Path(target).hardlink_to(path)
            except (IsADirectoryError, FileExistsError) as error:
                if not os.path.isdir(target):
                    raise _exists(key) from error
                self._make_way(target, encode_folder(decode_folder(os.path.basename(target))))
            except FileNotFoundError:
                continue  # the folder was removed because it was empty
            else:
                break
        else:
            raise StoreUnavailable(f"The folder of {key!r} is removed again and again.")
        for other in itertools.islice(self._places(key), 1, None):  # of other tools, behind ours from now on
            with contextlib.suppress(*NOWHERE, PermissionError):
                os.unlink(other)
        self._sync_up(target)

    def _make_folder(self, folder: str) -> None:
        """Make the folder of a file: below the root, and not where a link leads out of it."""
        if not self._is_inside(os.path.realpath(folder) + "/-"):
            raise StoreUnavailable("A link in the folder of the originals leads out of it.")
        for _ in range(_ATTEMPTS):
            try:
                os.makedirs(folder, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                above = folder
                while not os.path.lexists(above):
                    above = os.path.dirname(above)
                if not os.path.isdir(above):  # else it was removed while it was made
                    self._make_way(above, encode_file(decode_file(os.path.basename(above))))
            else:
                return
        raise StoreUnavailable("The folder of the object is removed again and again.")

    def _make_way(self, path: str, name: str) -> None:
        """Rename what another tool put in the way to its marked spelling; its key stays the same."""
        other = os.path.join(os.path.dirname(path), name)
        if other == path or os.path.lexists(other):
            log.error("%s is in the way, and %s is there already", path, other)
            raise StoreUnavailable("Something that another program put there is in the way.")
        os.rename(path, other)

    def _sync_up(self, path: str) -> None:
        """Flush the folders between a file and the root: they may be new."""
        folder = Path(path).parent
        while True:
            if self._later.folders is None:
                self._syncs(folder)
            else:
                self._later.folders[folder] = None
            if folder == self._root:
                return
            folder = folder.parent

    def restore_etag(self, key: str, present: str, former: str) -> bool:
        """Set the time of change that the former entity tag holds: a backup may have lost it."""
        size, _, changed = former.partition("-")
        body = self.get(key)
        if body is None:
            return False
        with body, contextlib.suppress(OSError, ValueError, OverflowError):
            if body.entry.etag == present and body.entry.size == int(size, 16):
                os.utime(body.handle, ns=(time.time_ns(), int(changed, 16)))
                return True
        return False

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Flush the folders of what this thread puts inside at the end, once for each."""
        if self._later.folders is not None:
            yield
            return
        folders = self._later.folders = {}
        try:
            yield
        finally:
            self._later.folders = None
            try:
                for folder in folders:
                    self._syncs(folder)
            except OSError as error:
                raise NotOnDisk(f"What was written might be lost: {error.strerror or error}.") from error

    def delete(self, key: str) -> bool:
        """Delete an object, and folders that are empty then. False when there was none."""
        with _translated("written"):
            gone = [self._remove(key, path) for path in list(self._places(key))]
        return any(gone)

    def _remove(self, key: str, path: str) -> bool:
        folder = os.path.dirname(path)
        if not self._is_inside(os.path.realpath(folder) + "/-"):
            return False
        try:
            etag = _etag(os.lstat(path))
            os.unlink(path)
        except NOWHERE:
            return False
        except PermissionError:
            if os.path.isdir(path):  # POSIX lets unlink of a folder say EPERM
                return False
            raise
        self._sidecars.remove(key, etag=etag)
        with contextlib.suppress(OSError):
            while folder != str(self._root):
                os.rmdir(folder)
                folder = os.path.dirname(folder)
        while not sync_folder(Path(folder)):  # others remove empty folders too
            folder = os.path.dirname(folder)
        return True

    # -- listing ---------------------------------------------------------------------

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        self._must_be_there()
        yield from self._walk("", [str(self._root)], Window(prefix, after, before), frozenset())

    def _walk(self, begins: str, folders: list[str], window: Window, above: frozenset[str]) -> Iterator[Entry]:
        """Yield the objects below some folders that stand for the same segments."""
        with _translated("read"):
            real = {os.path.realpath(folder): folder for folder in folders}
            begin = window.begin(begins)
            listings = [(folder, self._list(folder, begin)) for at, folder in real.items() if at not in above]
        # A link that leads up again would go round for ever.
        above |= real.keys()
        sorts = (
            listings[0][1].sorts
            if len(listings) == 1
            else sorted({sort for _, listing in listings for sort in listing.sorts})
        )
        for sort in window.part(begins, sorts):
            paths = [path for folder, listing in listings for path in listing.paths(folder, sort)]
            if sort.endswith("/"):
                yield from self._walk(begins + sort, paths, window, above)
            elif entry := self._listed(begins + sort, paths[0]):
                yield entry

    def _list(self, folder: str, begin: str) -> Listing:
        """List a folder; one below the root that cannot be read is empty, and named."""
        try:
            listing = self._folders.listing(folder, begin)
        except OSError as error:
            if error.errno not in _NOT_READABLE or folder == str(self._root):
                raise
            self._pass_over(folder, error)
            return Listing([], {})
        self._passed_over.pop(folder, None)
        return listing

    def _pass_over(self, path: str, error: OSError) -> None:
        if path not in self._passed_over and len(self._passed_over) < _MAX_PASSED_OVER:
            self._passed_over[path] = None
            log.warning("%s cannot be read, and is passed over: %s", path, error.strerror)

    def passed_over(self) -> list[str]:
        return sorted(self._passed_over)

    def find(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        self._must_be_there()
        places: dict[str, str] = {}
        for folder, group in by_folder(names):
            stems = [name[len(folder) :] for name in group]
            for base in self._bases(folder.split("/")[:-1]):
                with _translated("read"):
                    if self._is_listed(base):
                        for sort, path in self._folders.find(base, stems, frozenset(endings)):
                            places.setdefault(folder + sort, path)
        entries = (self._listed(key, path) for key, path in places.items())
        return [entry for entry in entries if entry]

    def _is_listed(self, folder: str) -> bool:
        """Return whether a listing enters a folder: inside the root, and not through a link to a folder above."""
        real, root = os.path.realpath(folder), os.path.realpath(self._root)
        below = folder.removeprefix(str(self._root))
        if not self._is_inside(f"{real}/-"):
            return False
        if real == root + below:
            return True
        parts = itertools.accumulate(below.split("/"), lambda above, part: f"{above}/{part}")
        way = [os.path.realpath(f"{self._root}{part}") for part in parts]
        return len(set(way)) == len(way)

    def _listed(self, key: str, path: str) -> Entry | None:
        with _translated("read"):
            try:
                status = os.stat(path)
                state = hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
                is_record = partial(self._records.is_record, state, partial(is_record_file, path))
                entry = self._entry(key, status, is_record, partial(first_bytes, path))
            except NOWHERE:  # gone meanwhile
                return None
            except PermissionError as error:
                self._pass_over(path, error)
                return None
        return replace(entry, metadata={}, expires=None) if entry and (entry.metadata or entry.expires) else entry

    # -- temporary URLs --------------------------------------------------------------

    def presign(self, key: str, expires: int, filename: str) -> str:
        return tempurl.temporary_url(self.link_base(), key, expires, filename)

    def verify_presigned(self, key: str, signature: str, expires: str) -> None:
        tempurl.verify(self.link_secrets(), self.link_base().path + key, signature, expires, time.time())

    def link_base(self) -> tempurl.LinkBase:
        """Return what to sign temporary URLs with.

        :raises LinksNotConfigured: when there is no key, and none can be stored
        """
        return tempurl.LinkBase(self._endpoint, "/temp/", self._link_keys.signing(), "sha256")

    def link_secrets(self) -> tuple[str, ...]:
        """Return the keys that temporary URLs are verified with, at most two."""
        return self._link_keys.verifying()

    def stored_link_keys(self) -> tuple[str, ...]:
        """Return the two keys in the folder, empty for none."""
        return self._link_keys.stored()

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        with _translated("written"):
            self._link_keys.set(secret, second=second)

    def close(self) -> None:
        """Do nothing: there are no connections."""


def _exists(key: str) -> PreconditionFailed:
    return PreconditionFailed(f"There is an object {key!r} already.")


def _reason(error: OSError, folder: Path) -> str:
    """Return what is wrong, and for a missing right the owner of the folder."""
    text = error.strerror or str(error)
    if not isinstance(error, PermissionError):
        return text
    with contextlib.suppress(OSError):
        text += f"; it belongs to user {folder.stat().st_uid}, we are user {os.geteuid()}"
    return text

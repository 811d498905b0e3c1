"""A folder of plain files: the store that needs no server, and that a person, rsync or cp can fill and read.

:mod:`image_repo.stores.disk_paths` says which file is which key. What we keep beside the files is
in ``.image_repo``: files on their way in, the keys of temporary URLs, and what was said of an
object where its ending does not say it. The entity tag is size and time of change: a look at
the file tells it, files of other tools have it too, and no two writes of ours share a time.
"""

# Paths are text here: a listing of 100,000 files makes no Path of each.
# ruff: noqa: PTH100, PTH103, PTH104, PTH106, PTH108, PTH112, PTH116, PTH118, PTH119, PTH120, PTH123, PTH208

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import mmap
import os
import re
import secrets as random
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Self

from image_repo.errors import LinksNotConfigured, PreconditionFailed, StoreUnavailable
from image_repo.model import record
from image_repo.model.formats import BEGIN, BY_KIND, kind_of, split_ending
from image_repo.stores.base import CHUNK, Entry, NotOnDisk
from image_repo.stores.disk_listing import ABSENT, NOWHERE, Folders, Window
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
from image_repo.stores.lookup import by_folder
from image_repo.stores.tempurl import LinkBase

log = logging.getLogger(__name__)

_OCTETS = "application/octet-stream"
#: how :meth:`Record.dump` begins; another tool's JSON does not by chance
_RECORD = re.compile(
    rb'\{"name":"(?:[^"\\]|\\.)*","key":"(?:[^"\\]|\\.)*","version":"(?:[^"\\]|\\.)*","sha256":"(?:[0-9a-f]{64})?",'
)
_SNIFF = 8192
#: seconds after which a file on its way in was left behind by a process that is no more
_LEFT_BEHIND = 86_400.0
#: seconds for which what is said of an older write is kept: it may be in the middle of being replaced
_SUPERSEDED = 3_600.0
#: how often something is done again that another process has undone
_ATTEMPTS = 64
#: JSON files of which it is remembered whether they are records
_MOST_SNIFFED = 1 << 21


# -- what a file tells ---------------------------------------------------------------


def _etag(found: os.stat_result) -> str:
    return f"{found.st_size:x}-{found.st_mtime_ns:x}"


def _implied_type(key: str, is_record: Callable[[], bool], begin: Callable[[], bytes]) -> str:
    """The media type that the ending says; for JSON, and for what has no ending, or only a number, the first bytes."""
    known = split_ending(key)[1]
    if known:
        return known.media_type
    if key.lower().endswith(".json"):
        return record.MEDIA_TYPE if is_record() else "application/json"
    ending = key.rpartition("/")[2].rpartition(".")
    if (ending[1] and not ending[2].isdecimal()) or key.startswith("."):
        return _OCTETS
    kind = kind_of(begin())
    # Two letters are too few to tell a bitmap from a text.
    return BY_KIND[kind].media_type if kind and kind != "bmp" else _OCTETS


@dataclass(frozen=True, slots=True)
class _Said:
    """What was said of an object at its write, where its ending does not say it."""

    media_type: str
    metadata: Mapping[str, str]
    expires: float | None

    def dump(self) -> bytes:
        return json.dumps(
            {"media_type": self.media_type, "metadata": dict(self.metadata), "expires": self.expires}
        ).encode()

    @classmethod
    def load(cls, text: bytes) -> _Said:
        members: dict[str, Any] = json.loads(text)
        return cls(members["media_type"], members["metadata"], members["expires"])


class DiskBody:
    """An open file, whose entry and bytes belong together even when the key gets another file meanwhile."""

    def __init__(self, entry: Entry, handle: int) -> None:
        self.entry = entry
        self._handle = handle

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
    """Says trouble with the disk in the words of a store."""
    try:
        yield
    except OSError as error:
        _unavailable(verb, error)


def _unavailable(verb: str, error: OSError) -> NoReturn:
    raise StoreUnavailable(f"The folder of the originals cannot be {verb}: {error.strerror or error}.") from error


# -- the store -----------------------------------------------------------------------


class DiskStore:
    """A store in a folder; any number of threads and processes may share it.

    :param root: the folder; made by :meth:`check` or the first write
    :param secrets: keys of temporary URLs, the first one signs; the folder's own when empty
    :param public_endpoint: scheme and authority under which clients reach this program
    """

    verifies = False

    def __init__(self, root: Path, *, secrets: tuple[str, ...] = (), public_endpoint: str | None = None) -> None:
        self.description = f"folder {root}"
        self.identity = f"folder:{os.path.realpath(root)}"
        self._root = Path(os.path.abspath(root))
        self._own = self._root / OWN
        self._all_sayings = str(self._own / "meta")
        self._secrets = secrets
        self._endpoint = public_endpoint or ""
        self._seen = False
        self._stamp = 0
        self._lock = threading.Lock()
        self._folders = Folders(self._is_inside)
        self._sniffed = _Sniffed()
        self._syncs = _Syncs(_sync)
        self._later = _Later()

    def check(self, *, create: bool = False) -> None:
        """Makes the folder when it is missing, or at least its parent is there, and looks whether it can be used.

        :raises StoreUnavailable: with what is wrong, in words for the person at the command line
        """
        root = self._root
        try:
            if not root.exists() and (create or root.parent.is_dir()):
                root.mkdir(mode=0o700, parents=create, exist_ok=True)
            if not root.exists():
                raise StoreUnavailable(f"The folder {root} is not there; with create_new it is made.")
            if not root.is_dir():
                raise StoreUnavailable(f"{root} is not a folder.")
            with os.scandir(root) as listing:
                next(listing, None)
            self._seen = True
        except OSError as error:
            raise StoreUnavailable(f"The folder {root} cannot be used: {_reason(error, root)}.") from error
        try:
            self._tidy()
        except OSError as error:  # a folder that can only be read is served all the same
            log.warning("uploads will be refused, the folder %s cannot be written: %s", root, _reason(error, root))

    def _tidy(self) -> None:
        """Makes our own folders, and removes what interrupted writes have left behind."""
        incoming = self._incoming()
        before = time.time() - _LEFT_BEHIND
        for left in incoming.iterdir():
            with contextlib.suppress(FileNotFoundError):
                # The time of the inode: the other one is set while it is written.
                if left.lstat().st_ctime < before:
                    left.unlink()

    def _incoming(self) -> Path:
        if not self._root.is_dir():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(self._root.parent)
        self._seen = True
        for folder in (self._own, self._own / "tmp"):
            folder.mkdir(mode=0o700, exist_ok=True)
        return self._own / "tmp"

    # -- reading ---------------------------------------------------------------------

    def head(self, key: str) -> Entry | None:
        """What is known of an object."""
        with _translated("read"):
            body = self._open(key)
        if body is None:
            return None
        with body:
            return body.entry

    def get(self, key: str) -> DiskBody | None:
        """Opens an object for reading."""
        with _translated("read"):
            return self._open(key)

    def _open(self, key: str) -> DiskBody | None:
        for path in self._places(key):
            handle = self._open_file(path)
            if handle is None:
                continue
            try:
                entry = self._entry(
                    key, os.fstat(handle), partial(_begins_as_record, handle), partial(os.pread, handle, BEGIN, 0)
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
        """Opens a regular file that lies inside the root; None when there is none."""
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
        root = os.path.realpath(self._root).rstrip("/") + "/"
        return real.startswith(root) and not f"{real}/".startswith(f"{root}{OWN}/")

    def _entry(
        self, key: str, found: os.stat_result, is_record: Callable[[], bool], begin: Callable[[], bytes]
    ) -> Entry | None:
        """What a file tells, and what was said of it; None when its time is over."""
        entry = Entry(key, found.st_size, _etag(found), found.st_mtime_ns / 1e9, _implied_type(key, is_record, begin))
        said = self._said(key, entry)
        if said is None:
            return entry
        if said.expires is not None and said.expires <= time.time():
            return None
        return replace(entry, media_type=said.media_type, metadata=said.metadata, expires=said.expires)

    def _places(self, key: str) -> Iterator[str]:
        """Where an object may be, best first: our own spelling, then those of other tools that are there."""
        *folders, leaf = segments(key)
        bases = self._bases(folders)
        yield from (f"{base}/{encode_file(leaf)}" for base in bases)
        if is_plain_file(leaf):
            yield from (f"{base}/{leaf}" for base in bases)

    def _bases(self, folders: list[str]) -> list[str]:
        """Where the folder of an object may be: our own spelling, then those of other tools that are there."""
        bases = [str(self._root)]
        for segment in folders:
            plain = [f"{base}/{segment}" for base in bases] if is_plain_folder(segment) else []
            bases = [f"{base}/{encode_folder(segment)}" for base in bases] + [p for p in plain if os.path.isdir(p)]
        return bases

    # -- what was said ---------------------------------------------------------------

    def _sayings(self, key: str) -> Path:
        return Path(self._all_sayings) / hashlib.sha256(key.encode()).hexdigest()

    def _said(self, key: str, entry: Entry) -> _Said | None:
        """What was said of this very object.

        A copy that lost the times (``cp -r``) is told by its size: its media type and metadata
        still hold, but nothing is dropped for an expiry that may have been another object's.
        """
        if not os.path.isdir(self._all_sayings):  # in most repositories nothing was ever said
            return None
        folder = self._sayings(key)
        try:
            names = sorted(os.listdir(folder), reverse=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        exact = entry.etag in names
        name = entry.etag if exact else next((n for n in names if n.startswith(f"{entry.size:x}-")), None)
        if name is None:
            return None
        try:
            said = _Said.load((folder / name).read_bytes())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return said if exact else replace(said, expires=None)

    def _say(self, key: str, etag: str, said: _Said) -> None:
        folder = self._sayings(key)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(folder / etag, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            file.write(said.dump())
            file.flush()
            os.fsync(handle)
        for path in (folder, folder.parent, self._own):
            _sync(path)

    def _unsay(self, key: str, *, etag: str = "", but: str = "") -> None:
        """Forgets what was said of one object, and of older ones of its key."""
        folder = self._sayings(key)
        before = time.time() - _SUPERSEDED
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                path = folder / name
                if name == etag or (name != but and path.stat().st_mtime < before):
                    path.unlink()
            folder.rmdir()

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
        """Stores an object whole, and returns once it would survive a loss of power.

        :raises PreconditionFailed: when there is one, and ``overwrite`` is False
        """
        encode(key)  # says at once when it is no key
        said = _Said(media_type, {name.lower(): text for name, text in (metadata or {}).items()}, expires)
        if not overwrite and self.head(key) is not None:
            raise _exists(key)
        path = None
        try:
            path = self._write(data)
            entry = self._stamped(key, path, said)
            self._place(key, path, overwrite)
        except OSError as error:
            _unavailable("written", error)
        finally:
            if path:
                with contextlib.suppress(OSError):
                    path.unlink()
        self._unsay(key, but=entry.etag)
        return entry

    def _write(self, data: bytes | BinaryIO) -> Path:
        """Writes a file aside, and brings it to the disk."""
        path = self._incoming() / random.token_hex(16)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
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
        """Nanoseconds since the epoch, never the same twice."""
        with self._lock:
            self._stamp = max(time.time_ns(), self._stamp + 1)
            return self._stamp

    def _stamped(self, key: str, path: Path, said: _Said) -> Entry:
        """What the written file will tell; says the rest of it before it can be seen."""
        found = path.stat()
        # Where something was said of an older object, that there is nothing to say is said too: or that would hold on.
        if (
            said != _Said(_implied_type(key, partial(_is_record, path), partial(_begin, path)), {}, None)
            or self._sayings(key).exists()
        ):
            self._say(key, _etag(found), said)
        times = found.st_mtime_ns / 1e9
        return Entry(key, found.st_size, _etag(found), times, said.media_type, said.metadata, said.expires)

    def _place(self, key: str, path: Path, overwrite: bool) -> None:
        """Gives a written file its place, at once and whole."""
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
        """Makes the folder that a file goes into: below the root, and not where a link leads to."""
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
        """Gives its mark to what another tool put where something of the other kind belongs; its key stays the same."""
        other = os.path.join(os.path.dirname(path), name)
        if other == path or os.path.lexists(other):
            log.error("%s is in the way, and %s is there already", path, other)
            raise StoreUnavailable("Something that another program put there is in the way.")
        os.rename(path, other)

    def _sync_up(self, path: str) -> None:
        """Brings the names between a file and the root to the disk: the folders may be new ones."""
        folder = Path(path).parent
        while True:
            if self._later.folders is None:
                self._syncs(folder)
            else:
                self._later.folders[folder] = None
            if folder == self._root:
                return
            folder = folder.parent

    @contextmanager
    def together(self) -> Iterator[None]:
        """The names of what this thread puts inside are brought to the disk at the end, once for each folder."""
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
        """Removes an object, and folders that are empty then. False when there was none."""
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
        self._unsay(key, etag=etag)
        with contextlib.suppress(OSError):
            while folder != str(self._root):
                os.rmdir(folder)
                folder = os.path.dirname(folder)
        while not _sync(Path(folder)):  # others remove empty folders too
            folder = os.path.dirname(folder)
        return True

    # -- listing ---------------------------------------------------------------------

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        """The objects whose key begins with ``prefix``, by code points of the key, folder by folder.

        :param after: only keys behind this one
        :param before: only keys ahead of this one
        """
        self._must_be_there()
        yield from self._walk("", [str(self._root)], Window(prefix, after, before), frozenset())

    def _walk(self, begins: str, folders: list[str], window: Window, above: frozenset[str]) -> Iterator[Entry]:
        """The objects below some folders that stand for the same segments."""
        with _translated("read"):
            real = {os.path.realpath(folder): folder for folder in folders}
            begin = window.begin(begins)
            listings = [
                (folder, self._folders.listing(folder, begin)) for at, folder in real.items() if at not in above
            ]
        # A link that leads up again would go round for ever.
        above |= real.keys()
        sorts = (
            listings[0][1].sorts if len(listings) == 1 else sorted({s for _, found in listings for s in found.sorts})
        )
        for sort in window.part(begins, sorts):
            paths = [path for folder, listing in listings for path in listing.paths(folder, sort)]
            if sort.endswith("/"):
                yield from self._walk(begins + sort, paths, window, above)
            elif entry := self._listed(begins + sort, paths[0]):
                yield entry

    def called(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        """The objects that are called like one of these names, with one of these endings in any case.

        :param endings: in lower case, with their dot; empty text for the name itself
        """
        self._must_be_there()
        places: dict[str, str] = {}
        for folder, group in by_folder(names):
            stems = [name[len(folder) :] for name in group]
            for base in self._bases(folder.split("/")[:-1]):
                with _translated("read"):
                    if self._is_listed(base):
                        for sort, path in self._folders.called(base, stems, frozenset(endings)):
                            places.setdefault(folder + sort, path)
        found = (self._listed(key, path) for key, path in places.items())
        return [entry for entry in found if entry]

    def _is_listed(self, folder: str) -> bool:
        """Whether a listing goes there: not out of the root, nor by a link to a folder that it has come through."""
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
                found = os.stat(path)
                entry = self._entry(key, found, partial(self._sniffed.is_record, path, found), partial(_begin, path))
            except (*NOWHERE, PermissionError):  # gone meanwhile; what may not be read is not ours to show
                return None
        return replace(entry, metadata={}, expires=None) if entry and (entry.metadata or entry.expires) else entry

    # -- temporary URLs --------------------------------------------------------------

    def link_base(self) -> LinkBase:
        """What to sign temporary URLs with: the configured key, else the folder's own, made at first use.

        :raises LinksNotConfigured: when there is none, and none can be kept
        """
        secret = self._secrets[0] if self._secrets else self._link_key("url_key") or self._make_link_key()
        return LinkBase(self._endpoint, "/temp/", secret, "sha256")

    def link_secrets(self) -> tuple[str, ...]:
        """The keys that temporary URLs are verified with, at most two."""
        if self._secrets:
            return self._secrets[:2]
        found = (self._link_key(name) for name in ("url_key", "url_key_2"))
        return tuple(secret for secret in found if secret)

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Keeps a key of temporary URLs in the folder.

        :param second: as the one that is only verified with
        """
        with _translated("written"):
            path = self._write(secret.encode())
            path.chmod(0o600)
            path.rename(self._own / ("url_key_2" if second else "url_key"))
            _sync(self._own)

    def _link_key(self, name: str) -> str:
        try:
            return (self._own / name).read_text().strip()
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as error:
            raise LinksNotConfigured("The key of temporary URLs cannot be read.") from error

    def _make_link_key(self) -> str:
        try:
            path = self._write(random.token_urlsafe(32).encode())
            try:
                path.chmod(0o600)
                # Of two processes that do this at once, one is the first, and both use its key.
                with contextlib.suppress(FileExistsError):
                    (self._own / "url_key").hardlink_to(path)
                _sync(self._own)
            finally:
                path.unlink()
        except OSError as error:
            raise LinksNotConfigured("There is no key for temporary URLs, and none can be kept.") from error
        return self._link_key("url_key")

    def close(self) -> None:
        """There are no connections to give back."""


# -- what is remembered of files -------------------------------------------------------


class _Sniffed:
    """Remembers which JSON files are records, so that a listing need not read each of them again.

    Of two files that have one place in its table the last is remembered, so it never grows beyond 16 MiB.
    """

    def __init__(self) -> None:
        # No memory is taken before something is written there: by the one process that lists everything.
        self._table = memoryview(mmap.mmap(-1, 8 * _MOST_SNIFFED)).cast("Q")

    def is_record(self, path: str, found: os.stat_result) -> bool:
        """Whether a file is a record.

        :param found: what the file system tells of it, now
        """
        file = hash((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
        at, mark = file % _MOST_SNIFFED, (file & 0xFFFF_FFFF_FFFF_FFFC) | 2
        known = self._table[at]
        if known | 1 == mark | 1:
            return bool(known & 1)
        told = _is_record(path)
        self._table[at] = mark | told
        return told


# -- the file system -----------------------------------------------------------------


class _Syncs:
    """Brings names in folders to the disk, once for all threads that wait for it (group commit).

    :param sync: does it
    """

    def __init__(self, sync: Callable[[Path], object]) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._folders: dict[Path, _Turns] = {}

    def __call__(self, folder: Path) -> None:
        with self._lock:
            turns = self._folders.setdefault(folder, _Turns())
            turns.waiting += 1
            # What is there by now is brought to the disk by the next sync, not by one that has begun.
            needed = turns.begun + 1
        try:
            with turns.lock:
                if turns.done < needed:
                    self._do(folder, turns)
                if turns.trouble:
                    raise OSError(*turns.trouble.args) from turns.trouble
        finally:
            with self._lock:
                turns.waiting -= 1
                if not turns.waiting:
                    self._folders.pop(folder, None)

    def _do(self, folder: Path, turns: _Turns) -> None:
        with self._lock:
            turns.begun += 1
        turns.trouble = None
        try:
            self._sync(folder)
        except OSError as error:  # the same again may well say that all is well: what was lost is told once
            turns.trouble = error
        turns.done = turns.begun


class _Later(threading.local):
    """Folders whose names this thread is to bring to the disk, in the order in which they were told; None at once."""

    folders: dict[Path, None] | None = None


class _Turns:
    """The syncs of one folder: one at a time. ``done`` is the last that has ended, and ``trouble`` how, if not well."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.waiting = self.begun = self.done = 0
        self.trouble: OSError | None = None


def _sync(folder: Path) -> bool:
    """Brings the names in a folder to the disk. False when the folder is not there."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    return True


def _is_record(path: str | Path) -> bool:
    with open(path, "rb", buffering=0) as file:
        return _begins_as_record(file.fileno())


def _begin(path: str | Path) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(BEGIN)


def _begins_as_record(handle: int) -> bool:
    return _RECORD.match(os.pread(handle, _SNIFF, 0)) is not None


def _exists(key: str) -> PreconditionFailed:
    return PreconditionFailed(f"There is an object {key!r} already.")


def _reason(error: OSError, folder: Path) -> str:
    """What is wrong, and for the lack of a right, whose folder it is."""
    text = error.strerror or str(error)
    if not isinstance(error, PermissionError):
        return text
    with contextlib.suppress(OSError):
        text += f"; it belongs to user {folder.stat().st_uid}, we are user {os.geteuid()}"
    return text

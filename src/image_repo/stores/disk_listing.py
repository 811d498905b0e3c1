"""Listings of the disk store's folders, as segments of keys.

A segment of a key is a folder or a file, in our own spelling (:mod:`.disk_paths`) or in another tool's.
"""

# Paths are text here: a listing of 100,000 files makes no Path of each.
# ruff: noqa: PTH113, PTH116

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cachetools import LRUCache

from image_repo.stores.disk_paths import OWN, decode_file, decode_folder, encode_file, encode_folder, is_long, is_part
from image_repo.stores.lookup import is_called

#: absent, in the words of the file system
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO)
#: what looking for a file says where there is none
NOWHERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
#: what a tool may call a file, and no segment is called
_NO_SEGMENTS = frozenset({".", "..", "./", "../"})
#: characters that are never cut into two pieces of a long segment
_SHORT = 48
#: bytes of a folder that a name takes, and that are read in the time in which one file is looked for
_BYTES_A_NAME, _BYTES_A_LOOK = 25, 512
#: least size of a folder, in names, whose size is remembered
_MANY_NAMES = 500
#: seconds for which it is relied upon how endings are spelled in a folder that changes; longer where reading it takes
#: more than one in so many of them
_SPELLED_FOR, _SHARE = 2.0, 20
#: folders whose spellings are remembered
_MOST_SPELLED = 1024
#: nanoseconds after which a change of a folder is sure to have another time than the next
_SETTLED = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """The keys that a listing covers."""

    prefix: str
    after: str
    before: str

    def begin(self, begins: str) -> str:
        """Return the prefix of the names to be found in a folder; marks stand at the end, so it is that of the key."""
        return self.prefix[len(begins) :].partition("/")[0][:_SHORT] if self.prefix.startswith(begins) else ""

    def part(self, begins: str, sorts: list[str]) -> Iterator[str]:
        """Yield the segments of a sorted folder that lie inside, or are folders that may hold such keys.

        :param begins: the key of the folder, with its ``/``
        """
        lowest = max(self.prefix, self.after)
        start = bisect_left(sorts, lowest[len(begins) :].partition("/")[0]) if lowest.startswith(begins) else 0
        for sort in itertools.islice(sorts, start, None):
            key = begins + sort
            if self.before and key >= self.before:
                return
            folder = sort.endswith("/")
            if not key.startswith(self.prefix) and not (folder and self.prefix.startswith(key)):
                if key > self.prefix:
                    return
            elif key > self.after or (folder and self.after.startswith(key)):
                yield sort


@dataclass(frozen=True, slots=True)
class Listing:
    """The segments in a folder, those of folders with a ``/``, by code point.

    :param odd: segment → paths inside the folder, where they are not just our own spelling
    """

    sorts: list[str]
    odd: Mapping[str, list[str]]

    def paths(self, folder: str, sort: str) -> list[str]:
        """Return the paths of a segment, our own spelling first."""
        spellings = self.odd.get(sort)
        return [f"{folder}/{path}" for path in (spellings or [_own_path(sort)])]


def _own_path(sort: str) -> str:
    return encode_folder(sort[:-1]) if sort.endswith("/") else encode_file(sort)


class _Places:
    """Segments and where they are; of a million that are just our own spelling, no path is kept."""

    def __init__(self) -> None:
        self.own: list[str] = []
        self.odd: dict[str, list[str]] = {}

    def add(self, sort: str, path: str) -> None:
        """
        :param path: inside the folder
        """
        if path == _own_path(sort):
            self.own.append(sort)
        else:
            self.odd.setdefault(sort, []).append(path)

    def add_parts(self, name: str, parts: _Places) -> None:
        """Adds the segments that begin with the text of a part; others have no business there."""
        own = ((rest, _own_path(rest)) for rest in parts.own)
        odd = ((rest, path) for rest, paths in parts.odd.items() for path in paths)
        for rest, path in itertools.chain(own, odd):
            sort = name.removesuffix("%+") + rest
            if f"{name}/{path}" == _own_path(sort):
                self.own.append(sort)

    def listing(self) -> Listing:
        """All of them, but for what no segment is called."""
        self.own.sort()
        sorts = [sort for sort in self.own if sort not in _NO_SEGMENTS]
        for sort, paths in self.odd.items():
            at = bisect_left(self.own, sort)
            if self.own[at : at + 1] == [sort]:
                paths.insert(0, _own_path(sort))
            elif sort not in _NO_SEGMENTS:
                sorts.append(sort)
        sorts.sort()
        return Listing(sorts, self.odd)


@dataclass(frozen=True, slots=True)
class _Spelled:
    """The spellings of endings in a folder, except lower case.

    :param changed: the time of the folder for which that is sure; None where it may have changed within one tick
    :param until: monotonic seconds, until when it is relied upon in any case
    """

    endings: frozenset[str]
    changed: int | None
    until: float


class Folders:
    """Lists folders, and finds in them what is called so.

    A folder of 100,000 pictures takes 50 ms to read, so it is not read for each name: in a large one the files are
    looked for. There may be so many spellings of an ending (``.jpeg`` has 32) that only those are looked for that the
    folder was seen to have, besides lower case: where another tool puts the first ``.Jpeg`` into a large folder, that
    may be noticed 2 s later, or in the 20 times that it takes to read it.

    :param is_inside: whether a real path is one of the store
    """

    def __init__(self, is_inside: Callable[[str], bool]) -> None:
        self._is_inside = is_inside
        self._lock = threading.Lock()
        self._spelled: LRUCache[tuple[str, frozenset[str]], _Spelled] = LRUCache(_MOST_SPELLED)
        #: names that were seen in large folders
        self._names: LRUCache[str, int] = LRUCache(_MOST_SPELLED)

    def listing(self, folder: str, begin: str) -> Listing:
        """Return the segments in a folder, at least those with this prefix; none when it is not there."""
        try:
            return self._scan(folder, begin).listing()
        except OSError as error:
            if error.errno in ABSENT:
                return Listing([], {})
            raise

    def find(self, folder: str, stems: Sequence[str], endings: frozenset[str]) -> list[tuple[str, str]]:
        """Segments of files, and where they are, that are called like one of these with one of these endings.

        :param endings: in lower case, with their dot, or empty; any case counts
        """
        try:
            status = os.stat(folder)
            longest = max(endings, key=len, default="")
            large = self._size(folder, status) > _BYTES_A_LOOK * len(stems) * len(endings)
            if large and not any(is_long(stem + longest) for stem in stems):
                return list(self._looked_for(folder, stems, [*endings, *self._spellings(folder, status, endings)]))
        except OSError as error:
            if error.errno in ABSENT:
                return []
            raise
        listing = self.listing(folder, os.path.commonprefix(stems)[:_SHORT])  # noqa: RUF071, characters are meant
        names = frozenset(stems)
        return [(sort, listing.paths(folder, sort)[0]) for sort in listing.sorts if is_called(sort, names, endings)]

    def _size(self, folder: str, status: os.stat_result) -> int:
        """Bytes that are read to list a folder; by what was seen in it, where the file system does not tell."""
        with self._lock:
            return max(status.st_size, _BYTES_A_NAME * self._names.get(folder, 0))

    def _looked_for(self, folder: str, stems: Sequence[str], spelled: Sequence[str]) -> Iterator[tuple[str, str]]:
        """
        :param spelled: endings, those in lower case first
        """
        for stem in stems:
            seen: set[tuple[int, int]] = set()
            for ending in spelled:
                sort = stem + ending
                for suffix in _suffixes(ending):
                    status = self._file(f"{folder}/{stem}{suffix}")
                    if status is None or decode_file(stem + suffix) != sort:
                        continue
                    file = (status.st_dev, status.st_ino)
                    if file not in seen or status.st_nlink > 1:  # else the file system takes one spelling for another
                        seen.add(file)
                        yield sort, f"{folder}/{stem}{suffix}"
                        break

    def _spellings(self, folder: str, status: os.stat_result, endings: frozenset[str]) -> frozenset[str]:
        """Return the spellings of these endings in a folder, except lower case."""
        with self._lock:
            known = self._spelled.get((folder, endings))
        began = time.monotonic()
        if known and (known.changed == status.st_mtime_ns or began < known.until):
            return known.endings
        settled = time.time_ns() - status.st_mtime_ns > _SETTLED
        with os.scandir(folder) as items:
            spelled = frozenset(
                ending
                for item in items
                if (lower := (ending := _ending(item.name)).lower()) != ending and lower in endings
            )
        now = time.monotonic()
        until = now + max(_SPELLED_FOR, _SHARE * (now - began))
        with self._lock:
            self._spelled[folder, endings] = _Spelled(spelled, status.st_mtime_ns if settled else None, until)
        return spelled

    def _file(self, path: str) -> os.stat_result | None:
        """A file that lies inside, if there is one."""
        try:
            status = os.lstat(path)
        except OSError as error:
            if error.errno in ABSENT:
                return None
            raise
        if stat.S_ISLNK(status.st_mode):
            return status if self._is_inside(os.path.realpath(path)) and os.path.isfile(path) else None
        return status if stat.S_ISREG(status.st_mode) else None

    def _scan(self, folder: str, begin: str) -> _Places:
        """Return the entries of a folder with this prefix."""
        places, names = _Places(), 0
        with os.scandir(folder) as entries:
            for names, item in enumerate(entries, 1):  # noqa: B007, how many there were
                if not item.name.startswith(begin):
                    continue
                kind = self._kind(item)
                if kind == "folder" and is_part(item.name):
                    with contextlib.suppress(*NOWHERE):  # an empty one is removed
                        places.add_parts(item.name, self._scan(item.path, ""))
                elif kind == "folder":
                    places.add(decode_folder(item.name) + "/", item.name)
                elif kind == "file":
                    places.add(decode_file(item.name), item.name)
        if names > _MANY_NAMES:
            with self._lock:
                self._names[folder] = names
        return places

    def _kind(self, item: os.DirEntry[str]) -> str | None:
        """``file``, ``folder``, or None for what holds no objects: a pipe, our own, a link that leads out, no UTF-8."""
        try:
            item.name.encode()
        except UnicodeEncodeError:
            return None
        if item.name == OWN or (item.is_symlink() and not self._is_inside(os.path.realpath(item.path))):
            return None
        return "folder" if item.is_dir() else "file" if item.is_file() else None


@lru_cache(64)
def _suffixes(ending: str) -> tuple[str, ...]:
    """Return the endings that a file name may have, our own spelling first."""
    own = encode_file(f"x{ending}")[1:]
    return (own,) if own == ending else (own, ending)


def _ending(name: str) -> str:
    return name[name.rfind(".") :]

"""Folders of the disk store: what lies in them, whoever put it there, in the words of keys.

A segment of a key is a folder or a file, in our own spelling (:mod:`.diskpaths`) or in another tool's.
"""

# Paths are text here: a listing of 100,000 files makes no Path of each.
# ruff: noqa: PTH113, PTH116

from __future__ import annotations

import itertools
import os
import stat
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from image_repo.stores.diskpaths import (
    OWN,
    decode_file,
    decode_folder,
    encode_file,
    encode_folder,
    is_long,
    is_part,
)
from image_repo.stores.listed import is_called

#: what looking for something says where it is not
NOWHERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
#: what a tool may call a file, and no segment is called
_NO_SEGMENTS = frozenset({".", "..", "./", "../"})
#: characters that are never cut into two pieces of a long segment
_SHORT = 48
#: bytes of a folder that are read in the time in which one file is looked for: about 20 names
_BYTES_A_LOOK = 512
#: seconds for which it is relied upon how endings are spelled in a folder that changes
_SPELLED_FOR = 60.0
#: folders of which it is remembered
_MOST_SPELLED = 1024
#: nanoseconds after which a change of a folder is sure to have another time than the next
_SETTLED = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """Which keys are asked for."""

    prefix: str
    after: str
    before: str

    def begin(self, begins: str) -> str:
        """What the names that are asked for begin with in a folder; marks stand at the end, so it is as in the key."""
        return self.prefix[len(begins) :].partition("/")[0][:_SHORT] if self.prefix.startswith(begins) else ""

    def part(self, begins: str, sorts: list[str]) -> Iterator[str]:
        """Those of a sorted folder that lie inside, or are folders that may hold some that do.

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
    """What a folder holds: segments, those of folders with a ``/``, by code point.

    :param odd: segment → paths inside the folder, where they are not just our own spelling
    """

    sorts: list[str]
    odd: Mapping[str, list[str]]

    def paths(self, folder: str, sort: str) -> list[str]:
        """Where a segment is, our own spelling first."""
        found = self.odd.get(sort)
        return [f"{folder}/{path}" for path in (found or [_own_path(sort)])]


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
    """How endings are spelled in a folder, but for lower case.

    :param changed: the time of the folder for which that is sure; None where it may have changed within one tick
    :param read: monotonic seconds
    """

    endings: frozenset[str]
    changed: int | None
    read: float


class Folders:
    """Lists folders, and finds in them what is called so.

    A folder of 100,000 pictures takes 50 ms to read, so it is not read for each name: in a large one the files are
    looked for. There may be so many spellings of an ending (``.jpeg`` has 32) that only those are looked for that the
    folder was seen to have, besides lower case: where another tool puts the first ``.Jpeg`` into a large folder, that
    may be noticed a minute later.

    :param is_inside: whether a real path is one of the store
    """

    def __init__(self, is_inside: Callable[[str], bool]) -> None:
        self._is_inside = is_inside
        self._lock = threading.Lock()
        self._spelled: LRUCache[tuple[str, frozenset[str]], _Spelled] = LRUCache(_MOST_SPELLED)

    def listing(self, folder: str, begin: str) -> Listing:
        """What a folder holds, at least what begins so; nothing when it is not there."""
        try:
            return self._scan(folder, begin).listing()
        except NOWHERE:
            return Listing([], {})

    def called(self, folder: str, stems: Sequence[str], endings: frozenset[str]) -> Iterator[tuple[str, str]]:
        """Segments of files, and where they are, that are called like one of these with one of these endings.

        :param endings: in lower case, with their dot, or empty; any case counts
        """
        try:
            found = os.stat(folder)
        except NOWHERE:
            return
        longest = max(endings, key=len)
        large = found.st_size > _BYTES_A_LOOK * len(stems) * len(endings)
        if large and not any(is_long(stem + longest) for stem in stems):
            yield from self._looked_for(folder, stems, endings | self._spellings(folder, found, endings))
            return
        listing = self.listing(folder, os.path.commonprefix(stems)[:_SHORT])  # noqa: RUF071, characters are meant
        wanted = frozenset(stems)
        for sort in listing.sorts:
            if is_called(sort, wanted, endings):
                yield sort, listing.paths(folder, sort)[0]

    def _looked_for(self, folder: str, stems: Sequence[str], spelled: Collection[str]) -> Iterator[tuple[str, str]]:
        for stem, ending in itertools.product(stems, spelled):
            sort = stem + ending
            # With an ending it has no mark; without, and no known one of its own, it may have ours.
            for name in [sort] if ending else dict.fromkeys((encode_file(sort), sort)):
                path = f"{folder}/{name}"
                if os.access(path, os.F_OK) and decode_file(name) == sort and self._is_file(path):
                    yield sort, path
                    break

    def _spellings(self, folder: str, found: os.stat_result, endings: frozenset[str]) -> frozenset[str]:
        """How these endings are spelled in a folder, but for lower case."""
        with self._lock:
            known = self._spelled.get((folder, endings))
        if known and (known.changed == found.st_mtime_ns or time.monotonic() - known.read < _SPELLED_FOR):
            return known.endings
        settled = time.time_ns() - found.st_mtime_ns > _SETTLED
        read = time.monotonic()
        with os.scandir(folder) as items:
            spelled = frozenset(
                ending
                for item in items
                if (lower := (ending := _ending(item.name)).lower()) != ending and lower in endings
            )
        with self._lock:
            self._spelled[folder, endings] = _Spelled(spelled, found.st_mtime_ns if settled else None, read)
        return spelled

    def _is_file(self, path: str) -> bool:
        try:
            mode = os.lstat(path).st_mode
        except NOWHERE:
            return False
        if stat.S_ISLNK(mode):
            return self._is_inside(os.path.realpath(path)) and os.path.isfile(path)
        return stat.S_ISREG(mode)

    def _scan(self, folder: str, begin: str) -> _Places:
        """What lies in a folder, where the name begins so."""
        places = _Places()
        with os.scandir(folder) as found:
            for item in found:
                if not item.name.startswith(begin):
                    continue
                kind = self._kind(item)
                if kind == "folder" and is_part(item.name):
                    places.add_parts(item.name, self._scan(item.path, ""))
                elif kind == "folder":
                    places.add(decode_folder(item.name) + "/", item.name)
                elif kind == "file":
                    places.add(decode_file(item.name), item.name)
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


def _ending(name: str) -> str:
    return name[name.rfind(".") :]

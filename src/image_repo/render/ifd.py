"""Image file directories, the structure of TIFF files and of EXIF: a reader that is bounded whatever it is given.

TIFF revision 6.0, section 2; BigTIFF. Only what a caller wants is read, so that ten thousand
tags which all point at the same megabyte cost nothing.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

#: type → (bytes of one value, its code for struct)
_TYPES = {
    1: (1, "B"), 2: (1, "s"), 3: (2, "H"), 4: (4, "L"), 5: (8, "LL"), 6: (1, "b"), 7: (1, "s"),
    8: (2, "h"), 9: (4, "l"), 10: (8, "ll"), 11: (4, "f"), 12: (8, "d"),
    13: (4, "L"), 16: (8, "Q"), 17: (8, "q"), 18: (8, "Q"),
}  # fmt: skip
#: no directory of a camera or a scanner comes near
_MOST_ENTRIES = 4096
_MOST_VALUES = 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag of a directory.

    :param offset: of its value, from the beginning of the block
    :param size: of its value in bytes, as declared; not checked against the block
    """

    tag: int
    type: int
    count: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory: its tags, and where the next one is, 0 for none."""

    entries: dict[int, Entry]
    following: int


class Bytes(Protocol):
    """Bytes that are read part by part: a memoryview, or a file whose parts are verified when they are read."""

    def __getitem__(self, part: slice, /) -> memoryview: ...

    def __len__(self) -> int: ...


class Block:
    """A TIFF file or the body of an EXIF segment.

    :raises ValueError: when it does not begin as one
    """

    def __init__(self, data: Bytes) -> None:
        self.data = data
        order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
        if order is None or len(data) < 8:
            raise ValueError("no byte order")
        self.order = order
        magic = self._unpack("H", 2)
        if magic not in (42, 43):
            raise ValueError("no TIFF header")
        self.is_big = magic == 43
        self.first = self._unpack("Q", 8) if self.is_big else self._unpack("L", 4)

    def directory(self, offset: int) -> Directory:
        """Return the directory at this offset.

        :raises ValueError: when it does not lie within the block
        """
        head, code, size, fields = (8, "Q", 20, "HHQQ") if self.is_big else (2, "H", 12, "HHLL")
        count = self._unpack(code, offset)
        if count > _MOST_ENTRIES:
            raise ValueError("too many tags")
        start = offset + head
        end = start + count * size
        table = bytes(self.data[start:end])
        if len(table) < count * size:
            raise ValueError("cut off")
        rows = struct.iter_unpack(self.order + fields, table)
        entries = [self._entry(start + n * size, *row) for n, row in enumerate(rows)]
        try:
            following = self._unpack("Q" if self.is_big else "L", end)
        except ValueError:  # cut off behind the last tag, as cameras do it in EXIF
            following = 0
        return Directory({entry.tag: entry for entry in reversed(entries)}, following)

    def chain(self) -> Iterator[Directory]:
        """Yield the directories of the pages, in order, up to one that is damaged or was there already.

        :raises ValueError: when the first one is damaged
        """
        offset, seen = self.first, set()
        while offset and offset not in seen:
            seen.add(offset)
            try:
                directory = self.directory(offset)
            except ValueError:
                if len(seen) == 1:
                    raise
                return
            yield directory
            offset = directory.following

    def numbers(self, directory: Directory, tag: int) -> tuple[float, ...]:
        """Return the finite values of a tag, at most 64 of them; rationals divided out. Empty when there are none."""
        entry = directory.entries.get(tag)
        if entry is None or _TYPES[entry.type][1] == "s":
            return ()
        unit, code = _TYPES[entry.type]
        data = bytes(self.data[entry.offset : entry.offset + min(entry.count, _MOST_VALUES) * unit])
        rows = struct.iter_unpack(self.order + code, data[: len(data) // unit * unit])
        values = tuple(row[0] if len(row) == 1 else row[0] / row[1] if row[1] else math.nan for row in rows)
        return values if all(math.isfinite(value) for value in values) else ()

    def integer(self, directory: Directory, tag: int) -> int | None:
        """Return the first value of a tag as a whole number."""
        values = self.numbers(directory, tag)
        return int(values[0]) if values else None

    def nth(self, directory: Directory, tag: int, index: int) -> int | None:
        """Return one of many values of a tag of whole numbers; None where there are not so many."""
        entry = directory.entries.get(tag)
        if entry is None or not 0 <= index < entry.count or _TYPES[entry.type][1] not in "BHLQ":
            return None
        unit, code = _TYPES[entry.type]
        return self._unpack(code, entry.offset + index * unit)

    def raw(self, directory: Directory, tag: int, most: int) -> bytes:
        """Return the first bytes of a tag's value, at most so many."""
        entry = directory.entries.get(tag)
        if entry is None:
            return b""
        return bytes(self.data[entry.offset : entry.offset + min(entry.size, most)])

    def _entry(self, at: int, tag: int, kind: int, count: int, value: int) -> Entry:
        kind = kind if kind in _TYPES else 7
        size = count * _TYPES[kind][0]
        room = 8 if self.is_big else 4
        return Entry(tag, kind, count, at + 4 + room if size <= room else value, size)

    def _unpack(self, code: str, offset: int) -> int:
        try:
            size = struct.calcsize(self.order + code)
            value: int = struct.unpack(self.order + code, self.data[offset : offset + size])[0]
        except (struct.error, OverflowError) as error:
            raise ValueError("cut off") from error
        return value

"""The media types of objects in stores that do not list them."""

# ruff: noqa: PTH123

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path

from image_repo.model import record
from image_repo.model.formats import BY_KIND, SNIFF_BYTES, sniff_kind, split_ending

_OCTETS = "application/octet-stream"
#: how :meth:`Record.dump` begins; another tool's JSON does not by chance
_RECORD = re.compile(
    rb'\{"name":"(?:[^"\\]|\\.)*","key":"(?:[^"\\]|\\.)*","version":"(?:[^"\\]|\\.)*","sha256":"(?:[0-9a-f]{64})?",'
)
_SNIFF_BYTES = 8192
#: of the table of sniffed JSON files
_SNIFFER_SLOTS = 1 << 21


def implied_type(key: str, is_record: Callable[[], bool], begin: Callable[[], bytes]) -> str:
    """Return the media type of an object by its ending, or by its first bytes where that says nothing.

    JSON may be a record; a name without an ending, or with a number only, may be a picture.
    """
    format_ = split_ending(key)[1]
    if format_:
        return format_.media_type
    if key.lower().endswith(".json"):
        return record.MEDIA_TYPE if is_record() else "application/json"
    ending = key.rpartition("/")[2].rpartition(".")
    if (ending[1] and not ending[2].isdecimal()) or key.startswith("."):
        return _OCTETS
    kind = sniff_kind(begin())
    # Two letters are too few to tell a bitmap from a text.
    return BY_KIND[kind].media_type if kind and kind != "bmp" else _OCTETS


class RecordTable:
    """A cache of which JSON objects are records, so that a listing need not read each of them again.

    A hash table of 16 MiB: of two objects with one slot the last stays.
    """

    def __init__(self) -> None:
        # Pages take memory only once written to: in the one process that lists everything.
        self._table = memoryview(mmap.mmap(-1, 8 * _SNIFFER_SLOTS)).cast("Q")

    def is_record(self, identity: int, look: Callable[[], bool]) -> bool:
        """Return whether an object is a record.

        :param identity: a hash of its key and state
        :param look: finds out
        """
        known = self.get(identity)
        if known is None:
            known = look()
            self.set(identity, known)
        return known

    def get(self, identity: int) -> bool | None:
        """Return what is known of an object; None where nothing is."""
        known = self._table[identity % _SNIFFER_SLOTS]
        return bool(known & 1) if known | 1 == _mark(identity) | 1 else None

    def set(self, identity: int, is_record: bool) -> None:
        """Note whether an object is a record."""
        self._table[identity % _SNIFFER_SLOTS] = _mark(identity) | is_record


def _mark(identity: int) -> int:
    return (identity & 0xFFFF_FFFF_FFFF_FFFC) | 2


def is_record_file(path: str | Path) -> bool:
    """Return whether a file begins as a record does."""
    with open(path, "rb", buffering=0) as file:
        return begins_as_record(file.fileno())


def first_bytes(path: str | Path) -> bytes:
    """Return the bytes that identify the kind of a picture."""
    with open(path, "rb", buffering=0) as file:
        return file.read(SNIFF_BYTES)


def begins_as_record(handle: int) -> bool:
    """Return whether an open file begins as a record does."""
    return _RECORD.match(os.pread(handle, _SNIFF_BYTES, 0)) is not None

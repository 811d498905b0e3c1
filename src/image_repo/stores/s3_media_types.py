"""The media types of listed objects, which S3 does not list."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cachetools import LRUCache

from image_repo.model.formats import split_ending
from image_repo.model.record import MEDIA_TYPE
from image_repo.stores.base import Entry
from image_repo.stores.media_types import RecordTable, implied_type

#: of how many objects without an ending the media type is remembered
_MOST_REMEMBERED = 1 << 16


class ListedTypes:
    """Fill in media types: by the ending of the key, else by asking for the object, once for each version.

    :param head: asks for an object
    :param at_once: objects that are asked for at a time
    """

    def __init__(self, head: Callable[[str], Entry | None], at_once: int) -> None:
        self._head = head
        self._at_once = at_once
        self._records = RecordTable()
        self._lock = threading.Lock()
        self._types: LRUCache[tuple[str, str], str] = LRUCache(_MOST_REMEMBERED)

    def fill(self, page: list[Entry]) -> list[Entry]:
        """Return the entries with their media types; objects that have gone meanwhile are left out."""
        unknown = [entry for entry in page if self._known(entry) is None]
        gone = self._ask(unknown) if unknown else set()
        return [replace(entry, media_type=self._known(entry) or "") for entry in page if entry.key not in gone]

    def note(self, entry: Entry) -> None:
        """Note the media type of an object that was written or asked for."""
        if _may_be_record(entry.key):
            self._records.set(_identity(entry), entry.media_type == MEDIA_TYPE)
        elif _says_nothing(entry.key):
            with self._lock:
                self._types[entry.key, entry.etag] = entry.media_type

    def _known(self, entry: Entry) -> str | None:
        if _says_nothing(entry.key):
            with self._lock:
                return self._types.get((entry.key, entry.etag))
        if not _may_be_record(entry.key):
            return implied_type(entry.key, bool, bytes)
        is_record = self._records.get(_identity(entry))
        return None if is_record is None else MEDIA_TYPE if is_record else "application/json"

    def _ask(self, unknown: Iterable[Entry]) -> set[str]:
        """Ask for objects; return the keys of those that are gone."""
        gone = set()
        with ThreadPoolExecutor(self._at_once) as pool:
            for listed, entry in pool.map(lambda listed: (listed, self._head(listed.key)), unknown):
                if entry is None:
                    gone.add(listed.key)
                else:
                    self.note(replace(entry, etag=listed.etag))
        return gone


def _identity(entry: Entry) -> int:
    return hash((entry.key, entry.etag))


def _may_be_record(key: str) -> bool:
    return key.lower().endswith(".json") and not key.startswith(".")


def _says_nothing(key: str) -> bool:
    """Return whether an object may be a picture without an ending."""
    ending = key.rpartition("/")[2].rpartition(".")
    return not (split_ending(key)[1] or key.startswith(".")) and (not ending[1] or ending[2].isdecimal())

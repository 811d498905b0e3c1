"""The bin: originals and records of what was deleted or replaced, for some days.

In the container ``.trash/NAME/ID.json`` is the record, with what happened and when, and ``.trash/NAME/ID.EXT`` the
original, where there was one. The original is written first: an item is there once its record is. Nothing below
``.trash/`` is an image, so that no listing, count or query has it.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from image_repo.errors import ImageNotFound
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.record import Record, timestamp
from image_repo.repository.spool import Spool
from image_repo.stores.base import Entry, Store, read_small

log = logging.getLogger(__name__)

#: of all keys in the bin; no image has a name like it
PREFIX = ".trash/"
#: marks the record of an item
MEDIA_TYPE = "application/vnd.image-repo.trash+json"
_RECORD = ".json"
_DAY_S = 86_400
_MAX_RECORD_BYTES = 2 << 20

#: why something is in the bin
Reason = Literal["deleted", "replaced"]


@dataclass(frozen=True, slots=True)
class TrashItem:
    """A version of an image in the bin.

    :param id: begins with the time in milliseconds since the epoch, and differs for each item of a name
    :param original: the key of its original in the bin; None for a description
    """

    name: ImageName
    id: str
    reason: Reason
    record: Record
    original: str | None

    @property
    def moment(self) -> float:
        """Since when it is there, in seconds since the epoch."""
        return _moment(self.id)

    def public(self) -> dict[str, Any]:
        """Return it as clients see it."""
        record = self.record
        facts = {name: getattr(record, name) or None for name in ("sha256", "bytes", "media_type")}
        return {"name": self.name.text, "id": self.id, "reason": self.reason, "at": timestamp(self.moment), **facts}


class Trash:
    """The bin of a repository. The caller holds the lock of the name.

    :param days: for which items stay; 0 for no bin
    :param spool_folder: of temporary files; the system's own where None
    """

    def __init__(self, origin: Store, days: int, spool_folder: Path | None) -> None:
        self._origin = origin
        self._days = days
        self._spool_folder = spool_folder

    @property
    def is_there(self) -> bool:
        """Whether there is a bin."""
        return self._days > 0

    def keep(self, name: ImageName, original: Original | None, record: Record | None, reason: Reason) -> None:
        """Copy an image, or a description, into the bin; nothing where there is no bin.

        :param record: of another original, it has the user's data alone
        :raises OriginalDamaged: when the original is not what was stored; it can only be deleted for good
        """
        if not self._days or (original is None and record is None):
            return
        item = f"{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(4)}"
        key = f"{PREFIX}{name.text}/{item}"
        copied = self._copy(original, f"{key}{_ending(original)}") if original else None
        described = replace(record, intent=None) if record else Record.description(name.text, {})
        members = {"reason": reason, "original": copied, "record": json.loads(described.dump())}
        self._origin.put(key + _RECORD, json.dumps(members).encode(), media_type=MEDIA_TYPE)

    def _copy(self, original: Original, key: str) -> str | None:
        body = self._origin.get(original.key)
        if body is None:  # another tool has deleted it meanwhile
            return None
        with body, Spool(self._spool_folder, body.entry.size, hashed=False) as spool:
            spool.fill(body)
            self._origin.put(key, spool.file, media_type=original.media_type)
        return key

    def items(self, prefix: str = "", owner: str | None = None) -> Iterator[TrashItem]:
        """Yield what is in the bin, by name, the oldest version first.

        :param prefix: a folder with its ``/``; empty for everything
        :param owner: of the versions; None for anybody
        """
        items = self._items(self._origin.keys(PREFIX + prefix))
        return (item for item in items if owner in (None, item.record.owner))

    def _items(self, entries: Iterable[Entry]) -> Iterator[TrashItem]:
        for entry in entries:
            if entry.key.endswith(_RECORD) and (item := self._read(entry.key)):
                yield item

    def find(self, name: ImageName, item_id: str | None = None, owner: str | None = None) -> TrashItem | None:
        """Return a version of an image; the newest where no id is given, None where there is none in the bin.

        :param owner: of the version; None for anybody
        """
        for item in reversed(list(self._items(self._entries(name)))):
            if item_id in (None, item.id) and owner in (None, item.record.owner):
                return item
        return None

    def open(self, item: TrashItem) -> Spool | None:
        """Return the bytes of an original in a temporary file; None for a description.

        :raises ImageNotFound: when it was erased meanwhile
        """
        if item.original is None:
            return None
        body = self._origin.get(item.original)
        if body is None:
            raise ImageNotFound("There is no such image in the bin any more.")
        spool = Spool(self._spool_folder, body.entry.size)
        try:
            with body:
                return spool.fill(body)
        except BaseException:
            spool.close()
            raise

    def erase(self, name: ImageName, item_id: str | None = None, owner: str | None = None) -> int:
        """Erase the versions of an image, and return how many there were.

        :param item_id: None for all
        :param owner: of the versions; None for anybody
        """
        entries = [entry for entry in self._entries(name) if item_id is None or _id(entry.key) == item_id]
        if owner is not None:
            owned = {item.id for item in self._items(entries) if item.record.owner == owner}
            entries = [entry for entry in entries if _id(entry.key) in owned]
        # The record goes last: while it is there, the same again completes it.
        for entry in sorted(entries, key=lambda entry: entry.key.endswith(_RECORD)):
            self._origin.delete(entry.key)
        return sum(entry.key.endswith(_RECORD) for entry in entries)

    def tidy(self) -> int:
        """Erase what has been there for longer than it stays, and return how many objects that were."""
        oldest = time.time() - self._days * _DAY_S
        keys = [entry.key for entry in self._origin.keys(PREFIX) if _moment(_id(entry.key)) < oldest]
        return sum(self._origin.delete(key) for key in keys)

    def _entries(self, name: ImageName) -> Iterator[Entry]:
        """Yield the objects of a name, not of those below it."""
        prefix = f"{PREFIX}{name.text}/"
        return (entry for entry in self._origin.keys(prefix) if "/" not in entry.key.removeprefix(prefix))

    def _read(self, key: str) -> TrashItem | None:
        text = read_small(self._origin, key, _MAX_RECORD_BYTES)
        if text is None:
            return None
        try:
            members = json.loads(text)
            name = ImageName(key.removeprefix(PREFIX).rpartition("/")[0])
            record = Record.load(json.dumps(members["record"]).encode())
            return TrashItem(name, _id(key), members["reason"], record, members["original"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning("%s in the bin cannot be read: %s", key, error)
            return None


def _ending(original: Original) -> str:
    leaf = original.key.rpartition("/")[2]
    _, dot, ending = leaf.rpartition(".")
    return f".{ending}" if dot and ending != "json" else ".original"


def _id(key: str) -> str:
    return key.rpartition("/")[2].partition(".")[0]


def _moment(item_id: str) -> float:
    digits = item_id.partition("-")[0]
    return int(digits) / 1_000 if digits.isdecimal() else float("inf")

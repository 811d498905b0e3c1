"""Renditions in a :class:`.FileCache`: the disk tier, and the folder of temporary links."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from image_repo.caches.entry_file import BLOCK_BYTES, DamagedEntry
from image_repo.caches.eviction import Limits
from image_repo.caches.file_cache import FileCache
from image_repo.caches.tiers import CachedFile
from image_repo.model.rendition import Layer, Rendition

#: up to this size a body is verified before its first byte is handed out, a larger one while it is read
_VERIFIED_FIRST_BYTES = 32 << 20


class DiskTier:
    """Renditions in a folder, bounded in bytes and files over all processes that share it; any thread may call.

    :param folder: for one origin; made when missing, private to this user
    :param limits: its bounds, and which entries stay longest
    :param name: of the layer
    :param lifetime: seconds after its last use when an entry that is not pinned expires
    :param evicted: called with the number of entries that were dropped to make room
    :param resized: called with bytes and entries when their estimate changes
    :raises OSError: when the folder cannot be made, or belongs to somebody else
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        name: Layer = "disk",
        lifetime: int | None = None,
        evicted: Callable[[int], object] = lambda _: None,
        resized: Callable[[int, int], object] = lambda *_: None,
    ) -> None:
        self.name: Layer = name
        self._files = FileCache(folder, limits, f"{name} tier", lifetime=lifetime, evicted=evicted, resized=resized)
        self.delete = self._files.delete
        self.purge = self._files.purge
        self.sweep = self._files.sweep
        self.close = self._files.close
        #: until when an entry is pinned; None when there is none
        self.pinned_until = self._files.pinned_until

    def get(self, key: str) -> Rendition | None:
        """Return the rendition; a damaged one is removed, and is a miss."""
        entry = self._files.get(key)
        return _rendition(*entry) if entry else None

    def open(self, key: str) -> CachedFile | None:
        """Return the rendition as a file, which the caller closes; a damaged one is removed, and is a miss.

        Of one of more than 32 MiB, an original, each block is verified when it is read: reading it twice would
        keep the client waiting. Where damage is found then, reading fails with an OSError.
        """
        reader = self._files.open(key)
        if reader is None:
            return None
        try:
            if reader.size <= _VERIFIED_FIRST_BYTES:
                reader.verify()
        except DamagedEntry:
            reader.close()
            return None
        facts = reader.facts
        file = cast("BinaryIO", io.BufferedReader(reader))
        return CachedFile(file, reader.size, facts["media_type"], facts["etag"], facts["modified"])

    def put(self, key: str, rendition: Rendition, *, until: float | None = None, cost: float = 0.0) -> None:
        """Write a rendition, unless there is no room for it.

        :param until: seconds since the epoch until which it is pinned; an earlier pin is never shortened
        :param cost: seconds that it took to make
        :raises OSError: when it cannot be written
        """
        self._files.put(key, _facts(rendition), (rendition.body,), len(rendition.body), until=until, cost=cost)

    def pin(self, key: str, body: bytes | BinaryIO, rendition: Rendition, until: float) -> None:
        """Pin bytes until then at least, also through a loss of power.

        :param body: the bytes, or a seekable file of them, read from its present position
        :raises OSError: when it cannot be written
        """
        chunks = iter((body,)) if isinstance(body, bytes) else iter(lambda: body.read(BLOCK_BYTES), b"")
        self._files.put_file(key, _facts(rendition), chunks, until=until)


class LinkFolder(DiskTier):
    """What temporary URLs promise, and nothing else: beside a store on disk the disk cache holds the rest already."""

    def put(self, key: str, rendition: Rendition, *, until: float | None = None, cost: float = 0.0) -> None:
        """Write a rendition that a temporary URL promises; decline any other."""
        if until is not None:
            super().put(key, rendition, until=until, cost=cost)


def _facts(rendition: Rendition) -> dict[str, Any]:
    facts = {"media_type": rendition.media_type, "etag": rendition.etag, "modified": rendition.modified}
    return facts | ({"largest": rendition.largest} if rendition.largest else {})


def _rendition(facts: dict[str, Any], body: bytes) -> Rendition:
    return Rendition(body, facts["media_type"], facts["etag"], facts["modified"], facts.get("largest", ""))

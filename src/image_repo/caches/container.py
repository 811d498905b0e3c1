"""The cache container: renditions that all nodes share, and what temporary URLs point into.

It is any :class:`~image_repo.stores.base.Store`. Every object has an expiry, so that the container is
bounded even where a slow node fills something back after a purge. An expiry is a promise at the
same time: what is to expire late enough need not be written again for a link.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import tempfile
import threading
import time
from typing import BinaryIO, cast

from cachetools import LRUCache

from image_repo.caches.tiers import CachedFile
from image_repo.errors import OriginalDamaged, PreconditionFailed
from image_repo.model.rendition import Layer, Rendition
from image_repo.stores.base import CHUNK, Body, Entry, NoContainer, Store

#: what the keys of renditions begin with in the container
PREFIX = ".renditions/"
#: size of the LRU of expiries
_MOST_REMEMBERED = 4096
#: an expiry is remembered for this long at most: the object may be deleted meanwhile
_REMEMBER_S = 60.0
#: the largest object that is held in memory while it is open
_SPOOL_BYTES = 1 << 20


class ContainerTier:
    """Renditions in a container.

    :param lifetime: seconds after which the store drops what no temporary URL needs longer
    """

    name: Layer = "cache"

    def __init__(self, store: Store, lifetime: int) -> None:
        self._store = store
        self._lifetime = lifetime
        self._lock = threading.Lock()
        #: key → until when it is stored, and when that was last seen to be so
        self._expiries: LRUCache[str, tuple[float, float]] = LRUCache(_MOST_REMEMBERED)

    def get(self, key: str) -> Rendition | None:
        """Return the rendition; a damaged one is removed, and is a miss."""
        opened = self._store.get(PREFIX + key)
        if opened is None:
            return None
        with opened as body:
            chunks: list[bytes] | None = []
            try:
                chunks = list(body)
            except OriginalDamaged:
                chunks = None
        rendition = None if chunks is None else _rendition(body.entry, b"".join(chunks))
        if rendition is None:
            with contextlib.suppress(Exception):
                self.delete(key)
        return rendition

    def put(self, key: str, rendition: Rendition, *, until: float | None = None, cost: float = 0.0) -> None:
        """Store a rendition, unless it is stored for longer already."""
        expires = self._expiry(until)
        if (self._remembered(key) or 0.0) > expires:
            return
        try:
            self._write(key, rendition.body, rendition, expires, overwrite=False)
        except PreconditionFailed:
            if (self.pinned_until(key) or 0.0) <= expires:
                self._write(key, rendition.body, rendition, expires)

    def pin(self, key: str, body: bytes | BinaryIO, rendition: Rendition, until: float) -> None:
        """Store bytes until then at least; without traffic where that is known to be so.

        :param body: the bytes, or a seekable file of them; ``rendition.body`` is not looked at
        :raises StoreUnavailable: when that cannot be promised
        """
        if (self._remembered(key) or 0.0) >= until or (self.pinned_until(key) or 0.0) >= until:
            return
        self._write(key, body, rendition, self._expiry(until))

    def pinned_until(self, key: str) -> float | None:
        remembered = self._remembered(key)
        if remembered is not None:
            return remembered
        entry = self._store.head(PREFIX + key)
        if entry is None:
            return None
        until = math.inf if entry.expires is None else entry.expires
        self._remember(key, until)
        return until

    def open(self, key: str) -> CachedFile | None:
        """Return what a temporary URL that this program answers itself serves; None when there is none."""
        opened = self._store.get(PREFIX + key)
        if opened is None:
            return None
        with opened as body:
            file = cast("BinaryIO", tempfile.SpooledTemporaryFile(_SPOOL_BYTES))  # noqa: SIM115
            try:
                _copy(body, file)
            except BaseException:
                file.close()
                raise
        entry = body.entry
        facts = entry.metadata
        modified = float(facts.get("modified", entry.modified))
        return CachedFile(file, entry.size, entry.media_type, facts.get("etag", entry.etag), modified)

    def delete(self, key: str) -> bool:
        self._forget(key)
        return self._store.delete(PREFIX + key)

    def purge(self, prefix: str) -> int:
        try:
            keys = [entry.key.removeprefix(PREFIX) for entry in self._store.keys(PREFIX + prefix)]
        except NoContainer:
            return 0
        return sum(self.delete(key) for key in keys)

    def close(self) -> None:
        """Give the store's connections back."""
        self._store.close()

    # -- what is written -------------------------------------------------------------

    def _expiry(self, until: float | None) -> float:
        return float(math.ceil(max(time.time() + self._lifetime, until or 0.0)))

    def _write(
        self, key: str, body: bytes | BinaryIO, rendition: Rendition, expires: float, *, overwrite: bool = True
    ) -> None:
        metadata = {"etag": rendition.etag, "modified": repr(rendition.modified), "sha256": _sha256(body)}
        if rendition.largest:
            metadata["largest"] = rendition.largest
        self._forget(key)
        entry = self._store.put(
            PREFIX + key,
            body,
            media_type=rendition.media_type,
            metadata=metadata,
            expires=expires,
            overwrite=overwrite,
        )
        self._remember(key, expires if entry.expires is None else entry.expires)

    # -- what is remembered ----------------------------------------------------------

    def _remembered(self, key: str) -> float | None:
        with self._lock:
            until, seen = self._expiries.get(key, (0.0, -math.inf))
        return until if time.monotonic() - seen < _REMEMBER_S and until > time.time() else None

    def _remember(self, key: str, until: float) -> None:
        with self._lock:
            self._expiries[key] = (until, time.monotonic())

    def _forget(self, key: str) -> None:
        with self._lock:
            self._expiries.pop(key, None)


def _rendition(entry: Entry, body: bytes) -> Rendition | None:
    """Return the rendition; None when it is not what was stored."""
    facts = entry.metadata
    if hashlib.sha256(body).hexdigest() != facts.get("sha256"):
        return None
    try:
        return Rendition(body, entry.media_type, facts["etag"], float(facts["modified"]), facts.get("largest", ""))
    except (KeyError, ValueError):
        return None


def _sha256(body: bytes | BinaryIO) -> str:
    """Return the digest of bytes, or of a file from its present position, to which it is set back."""
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    start = body.tell()
    digest = hashlib.sha256()
    while chunk := body.read(CHUNK):
        digest.update(chunk)
    body.seek(start)
    return digest.hexdigest()


def _copy(body: Body, file: BinaryIO) -> None:
    digest = hashlib.sha256()
    for chunk in body:
        digest.update(chunk)
        file.write(chunk)
    if digest.hexdigest() != body.entry.metadata.get("sha256", digest.hexdigest()):
        raise OriginalDamaged(f"The bytes of {body.entry.key!r} are not those that were kept.")
    file.seek(0)

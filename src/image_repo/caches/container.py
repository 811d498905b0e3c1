"""The tier in a container: renditions that every node shares, and that temporary URLs point at."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from typing import BinaryIO, cast

from cachetools import LRUCache

from image_repo.caches import Kept
from image_repo.rendition import Layer, Rendition
from image_repo.stores import Body, Entry, Store

#: what the keys of renditions begin with, so that they may lie in the container of the originals
PREFIX = ".renditions/"
_IN_MEMORY = 1 << 20
_MOST_REMEMBERED = 100_000


class ContainerTier:
    """Renditions as objects, each with its media type and an expiry, so that the container is bounded in time.

    :param lifetime: seconds after which the container drops a rendition; no promise is longer
    """

    name: Layer = "cache"

    def __init__(self, store: Store, lifetime: int) -> None:
        self._store = store
        self._lifetime = lifetime
        self._kept: LRUCache[str, float] = LRUCache(_MOST_REMEMBERED)
        self._lock = threading.Lock()

    def get(self, key: str) -> Rendition | None:
        """The rendition; one that does not fit its SHA-256 is removed, and is a miss."""
        opened = self._store.get(PREFIX + key)
        if opened is None:
            return None
        with opened:
            body = b"".join(opened)
        etag, modified, digest = _facts(opened.entry)
        if hashlib.sha256(body).hexdigest() != digest:
            self.delete(key)
            return None
        return Rendition(body, opened.entry.media_type, etag, modified)

    def put(self, key: str, rendition: Rendition, *, until: float | None = None) -> None:
        """Keeps it for the lifetime."""
        self._put(key, rendition.body, rendition, hashlib.sha256(rendition.body).hexdigest(), until or 0.0)

    def keep(self, key: str, body: bytes | BinaryIO, rendition: Rendition, until: float) -> None:
        """Keeps bytes until then at least; says so by returning."""
        self._put(key, body, rendition, _digest(body), until)

    def _put(self, key: str, body: bytes | BinaryIO, rendition: Rendition, digest: str, until: float) -> None:
        expires = max(time.time() + self._lifetime, until + 60)
        metadata = {"etag": rendition.etag, "modified": repr(rendition.modified), "sha256": digest}
        self._store.put(PREFIX + key, body, media_type=rendition.media_type, metadata=metadata, expires=expires)
        with self._lock:
            self._kept[key] = expires

    def kept_until(self, key: str) -> float | None:
        """Until when it is kept; asked of the container once, then remembered."""
        with self._lock:
            known = self._kept.get(key)
        if known is not None:
            return known
        entry = self._store.head(PREFIX + key)
        if entry is None:
            return None
        expires = entry.expires if entry.expires is not None else float("inf")
        with self._lock:
            self._kept[key] = expires
        return expires

    def open(self, key: str) -> Kept | None:
        """The object in a temporary file, verified."""
        opened = self._store.get(PREFIX + key)
        if opened is None:
            return None
        with opened:
            file = cast("BinaryIO", _filled(opened))
        etag, modified, _ = _facts(opened.entry)
        return Kept(file, opened.entry.size, opened.entry.media_type, etag, modified)

    def delete(self, key: str) -> bool:
        """Removes one."""
        with self._lock:
            self._kept.pop(key, None)
        return self._store.delete(PREFIX + key)

    def purge(self, prefix: str) -> int:
        """Removes all that begin so, promised or not."""
        keys = [entry.key.removeprefix(PREFIX) for entry in self._store.keys(PREFIX + prefix)]
        return sum(self.delete(key) for key in keys)

    def close(self) -> None:
        """Gives connections back."""
        self._store.close()


def _facts(entry: Entry) -> tuple[str, float, str]:
    """Entity tag, modified, and SHA-256 of the body, as they were put.

    :raises ValueError: when somebody else put the object there
    """
    try:
        return entry.metadata["etag"], float(entry.metadata["modified"]), entry.metadata["sha256"]
    except KeyError as error:
        raise ValueError(f"{entry.key} is no rendition of ours") from error


def _digest(body: bytes | BinaryIO) -> str:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    first = body.tell()
    made = hashlib.sha256()
    while chunk := body.read(_IN_MEMORY):
        made.update(chunk)
    body.seek(first)
    return made.hexdigest()


def _filled(body: Body) -> tempfile.SpooledTemporaryFile[bytes]:
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (the caller closes it)
    try:
        for chunk in body:
            file.write(chunk)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file

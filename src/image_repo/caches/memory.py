"""The cache in the memory of one process: the recently used renditions, bounded in bytes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

from cachetools import LRUCache

from image_repo.caches.tiers import CachedFile
from image_repo.model.rendition import Layer, Rendition

#: what an entry takes beside its body and key: the objects around them
_OVERHEAD_BYTES = 300
#: an item larger than this part of the whole would push out too many others
_LARGEST_PART = 8


class _SizedLru(LRUCache[str, tuple[Rendition, int]]):
    """An LRU bounded in bytes, with the keys of each image, so that a purge need not look at all of them."""

    def __init__(self, max_size: int, evicted: Callable[[int], object]) -> None:
        super().__init__(max_size, getsizeof=lambda value: value[1])
        self._evicted = evicted
        self.groups: dict[str, set[str]] = {}

    def __setitem__(self, key: str, value: tuple[Rendition, int]) -> None:
        super().__setitem__(key, value)
        self.groups.setdefault(_group(key), set()).add(key)

    def popitem(self) -> tuple[str, tuple[Rendition, int]]:
        self._evicted(1)
        return super().popitem()

    def __delitem__(self, key: str) -> None:  # evictions come this way too
        super().__delitem__(key)
        group = self.groups[_group(key)]
        group.discard(key)
        if not group:
            del self.groups[_group(key)]


class MemoryTier:
    """Renditions in the memory of this process; any thread may call.

    :param max_size: the most bytes that it takes, 0 for none
    :param evicted: called with the number of entries that were dropped to make room
    :param resized: called with bytes and entries when they change
    """

    name: Layer = "memory"

    def __init__(
        self,
        max_size: int,
        *,
        evicted: Callable[[int], object] = lambda _: None,
        resized: Callable[[int, int], object] = lambda *_: None,
    ) -> None:
        self._largest = max_size // _LARGEST_PART
        self._entries = _SizedLru(max_size, evicted)
        self._lock = threading.Lock()
        self._resized: Callable[[], object] = lambda: resized(int(self._entries.currsize), len(self._entries))

    def get(self, key: str) -> Rendition | None:
        """Return the rendition, which is then the most recently used one."""
        with self._lock:
            entry = self._entries.get(key)
        return entry[0] if entry else None

    def open(self, key: str) -> CachedFile | None:
        """Return the rendition as a file."""
        rendition = self.get(key)
        if rendition is None:
            return None
        body = rendition.body
        return CachedFile(io.BytesIO(body), len(body), rendition.media_type, rendition.etag, rendition.modified)

    def put(self, key: str, rendition: Rendition, *, until: float | None = None, cost: float = 0.0) -> None:
        """Store a rendition, unless it is too large to be worth those that would be evicted for it.

        :param until: not for a memory to promise; ignored
        :param cost: ignored
        """
        size = len(rendition.body) + len(key) + _OVERHEAD_BYTES
        with self._lock:
            if size <= self._largest:
                self._entries[key] = (rendition, size)
            else:
                self._entries.pop(key, None)
            self._resized()

    def delete(self, key: str) -> bool:
        """Remove a rendition; return False when there was none."""
        with self._lock:
            found = self._entries.pop(key, None)
            self._resized()
        return found is not None

    def purge(self, prefix: str) -> int:
        """Remove all whose key begins so; return how many. The prefix of an image, with its ``@``, takes no search."""
        group, at, _ = prefix.partition("@")
        with self._lock:
            among = self._entries.groups.get(group, ()) if at else self._entries
            keys = [key for key in among if key.startswith(prefix)]
            for key in keys:
                del self._entries[key]
            self._resized()
        return len(keys)

    def close(self) -> None:
        """Do nothing: nothing runs in the background."""


def _group(key: str) -> str:
    """Return the part of a key that all renditions of one image share."""
    return key.partition("@")[0]

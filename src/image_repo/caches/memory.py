"""The cache in the memory of one process: the recently used renditions, bounded in bytes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

from cachetools import LRUCache

from image_repo.caches.tiers import CachedFile
from image_repo.model.rendition import Layer, Rendition

#: what an entry costs beside its body and key: the objects around them, in bytes
_OVERHEAD = 300
#: an item larger than this part of the whole would push out too many others
_LARGEST_PART = 8


class _Kept(LRUCache[str, tuple[Rendition, int]]):
    """Counts bytes, and knows which keys belong to one image, so that a purge need not look at all of them."""

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
    :param evicted: is told how many were dropped to make room
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
        self._kept = _Kept(max_size, evicted)
        self._lock = threading.Lock()
        self._resized: Callable[[], object] = lambda: resized(int(self._kept.currsize), len(self._kept))

    def get(self, key: str) -> Rendition | None:
        """The rendition, which is then the most recently used one."""
        with self._lock:
            found = self._kept.get(key)
        return found[0] if found else None

    def open(self, key: str) -> CachedFile | None:
        """The same as a file."""
        found = self.get(key)
        if found is None:
            return None
        return CachedFile(io.BytesIO(found.body), len(found.body), found.media_type, found.etag, found.modified)

    def put(self, key: str, rendition: Rendition, *, until: float | None = None, cost: float = 0.0) -> None:
        """Keeps it, unless it is too large to be worth the others that would go for it.

        :param until: not for a memory to promise; ignored
        :param cost: ignored
        """
        size = len(rendition.body) + len(key) + _OVERHEAD
        with self._lock:
            if size <= self._largest:
                self._kept[key] = (rendition, size)
            else:
                self._kept.pop(key, None)
            self._resized()

    def delete(self, key: str) -> bool:
        """Removes one. False when it was not there."""
        with self._lock:
            found = self._kept.pop(key, None)
            self._resized()
        return found is not None

    def purge(self, prefix: str) -> int:
        """Removes all whose key begins so; at once for the prefix of an image, which has an ``@``."""
        group, at, _ = prefix.partition("@")
        with self._lock:
            among = self._kept.groups.get(group, ()) if at else self._kept
            keys = [key for key in among if key.startswith(prefix)]
            for key in keys:
                del self._kept[key]
            self._resized()
        return len(keys)

    def close(self) -> None:
        """Nothing runs in the background."""


def _group(key: str) -> str:
    """The part of a key that all renditions of one image share."""
    return key.partition("@")[0]

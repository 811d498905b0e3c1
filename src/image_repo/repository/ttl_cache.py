"""A cache of one value for each name, with a time to live."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from cachetools import LRUCache

from image_repo.caches.tiers import Tier
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.errors import StoreUnavailable
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName
from image_repo.model.rendition import Rendition

log = logging.getLogger(__name__)
T = TypeVar("T")

_MOST_NAMES = 100_000


class TtlCache(Generic[T]):
    """Holds a value for each name for ``freshness`` seconds, or until a process of this node writes to the name.

    The last value, unless None, is also on disk, and is used as long as the store cannot be reached.

    :param disk: best effort
    :param what: kind of the value, part of its key on disk
    :param load: makes it from the JSON that it is kept as
    """

    def __init__(
        self,
        marks: InvalidationEpochs,
        disk: Tier | None,
        what: str,
        load: Callable[[Any], T | None],
        *,
        freshness: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._marks = marks
        self._disk = disk
        self._what = what
        self._load = load
        self._freshness = freshness
        self._clock = clock
        self._known: LRUCache[str, tuple[T | None, float, int]] = LRUCache(_MOST_NAMES)
        self._lock = threading.Lock()

    def get(self, name: ImageName, ask: Callable[[], T | None]) -> T | None:
        """Return the fresh value, else what ``ask`` returns, else the last known value."""
        known = self._remembered(name, self._marks.read(name.text))
        if known and self._clock() - known[1] < self._freshness:
            return known[0]
        return self.renew(name, ask)

    def renew(self, name: ImageName, ask: Callable[[], T | None]) -> T | None:
        """Return what ``ask`` returns, else the last known value."""
        mark = self._marks.read(name.text)
        known = self._remembered(name, mark)
        try:
            value = ask()
        except StoreUnavailable:
            return known[0] if known else self._from_disk(name)
        with self._lock:
            self._known[name.text] = (value, self._clock(), mark)
        if known is None or known[0] != value:
            self._to_disk(name, value)
        return value

    def last(self, name: ImageName) -> tuple[T | None, float, int] | None:
        """Return the last value, its age in seconds, and the mark of the name; None where no value is known.

        A value from disk is infinitely old.
        """
        mark = self._marks.read(name.text)
        known = self._remembered(name, mark)
        if known:
            return known[0], self._clock() - known[1], mark
        value = self._from_disk(name)
        return None if value is None else (value, math.inf, mark)

    def _remembered(self, name: ImageName, mark: int) -> tuple[T | None, float, int] | None:
        with self._lock:
            known = self._known.get(name.text)
        return known if known and known[2] == mark else None

    def until(self, name: ImageName) -> float:
        """Return until when the value holds, in monotonic seconds; in the past when there is none."""
        with self._lock:
            known = self._known.get(name.text)
        return known[1] + self._freshness if known else 0.0

    def _from_disk(self, name: ImageName) -> T | None:
        try:
            entry = self._disk.get(prefix_of(name) + self._what) if self._disk else None
            return self._load(json.loads(entry.body)) if entry else None
        except (OSError, ValueError) as error:
            log.warning("the %s of %s cannot be read from disk: %s", self._what, name, error)
            return None

    def _to_disk(self, name: ImageName, value: T | None) -> None:
        if self._disk is None:
            return
        key = prefix_of(name) + self._what
        with contextlib.suppress(OSError):
            if value is None:
                self._disk.delete(key)
            else:
                self._disk.put(key, Rendition(json.dumps(value).encode(), "application/json", self._what, 0.0))

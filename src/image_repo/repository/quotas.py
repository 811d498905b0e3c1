"""Quotas: how many bytes each user may have, where users are kept apart (``access.image_scope: user``)."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cachetools import LRUCache

from image_repo.access.control import owned_by
from image_repo.access.principal import Principal
from image_repo.catalogue.indexer import Indexer
from image_repo.catalogue.query import Condition, Filter
from image_repo.errors import CatalogueUnavailable, QueryTooSlow, QuotaExceeded
from image_repo.model.namespaces import USERS
from image_repo.repository import trash
from image_repo.stores.base import Store

log = logging.getLogger(__name__)

#: seconds after which it is counted anew what a user has; meanwhile the writes of this process are added
COUNT_INTERVAL_S = 10.0
_MAX_USERS = 10_000
_PICTURES = Condition(("bytes",), "gt", (0,))


@dataclass(slots=True)
class _Usage:
    """The bytes of one user.

    :param counted: bytes when they were counted last
    :param added: bytes that were stored since
    :param pending: bytes of uploads that are under way
    :param since: when they were counted, in seconds of the clock
    """

    counted: int = 0
    added: int = 0
    pending: int = 0
    since: float = -math.inf
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def total(self) -> int:
        """All of them; what is stored while it is counted may be in it twice."""
        return self.counted + self.added + self.pending


class Quotas:
    """Counts the bytes of each user: originals, also those in the bin, and artifacts.

    Uploads that several processes accept within the interval may exceed the quota together.

    :param indexer: of the images
    :param most: bytes of each user; 0 for any number
    :param interval: seconds between two counts
    """

    def __init__(
        self,
        origin: Store,
        indexer: Indexer,
        most: int,
        interval: float = COUNT_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._origin = origin
        self._indexer = indexer
        self._most = most
        self._interval = interval
        self._clock = clock
        self._usages: LRUCache[str, _Usage] = LRUCache(_MAX_USERS)
        self._lock = threading.Lock()

    @contextmanager
    def reserved(self, principal: Principal, size: int) -> Iterator[None]:
        """Count bytes as the user's that the block stores and indexes; not where it fails.

        :raises QuotaExceeded: when that would be too many
        """
        owner = principal.owner
        if not self._most or owner is None:
            yield
            return
        with self._lock:
            usage = self._usages.setdefault(owner, _Usage())
        self._reserve(usage, principal, owner, size)
        stored = 0
        try:
            yield
            stored = size
        finally:
            with usage.lock:
                usage.pending -= size
                usage.added += stored

    def _reserve(self, usage: _Usage, principal: Principal, owner: str, size: int) -> None:
        with usage.lock:
            is_old = self._clock() - usage.since >= self._interval
            if is_old or usage.total + size > self._most:
                usage.counted, usage.added, usage.since = self._count(principal, owner), 0, self._clock()
            if usage.total + size > self._most:
                text = f"You may have {self._most} bytes, and have {usage.total}; these are {size} more."
                raise QuotaExceeded(f"{text} What waits in the bin counts too.", quota=self._most, used=usage.total)
            usage.pending += size

    def _count(self, principal: Principal, owner: str) -> int:
        """Return the bytes of a user: of images as the catalogue knows them, the rest as the container lists it."""
        folders = (f"{trash.PREFIX}{principal.namespace}", f".artifacts/{USERS}{principal.namespace}")
        used = sum(entry.size for folder in folders for entry in self._origin.keys(folder))
        try:
            criteria = Filter((owned_by(owner), _PICTURES), principal.namespace)
            statistics = self._indexer.index.statistics(criteria, ("bytes",), 1)
        except (CatalogueUnavailable, QueryTooSlow) as problem:  # uploads go on without a catalogue
            log.warning("the images of %s are not counted in its quota: %s", owner, problem.detail or problem.title)
            return used
        return used + round((statistics.mean or 0.0) * statistics.count)

"""Caches: tiers in an order. Best effort: a tier that is broken, full or damaged is a miss and a log line.

Nothing here knows of images; a key is text, a value a frozen
:class:`~image_repo.model.rendition.Rendition`. Because the key holds everything that
decides the bytes, an entry is never wrong, only there or not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Protocol, TypeVar

from image_repo.concurrency.backoff import Backoff
from image_repo.errors import OriginalDamaged
from image_repo.model.rendition import Layer, Rendition

log = logging.getLogger(__name__)
T = TypeVar("T")


class Tier(Protocol):
    """One place where renditions are stored. It may raise anything: :class:`Caches` takes it for a miss."""

    #: in ``Cache-Status`` when it answers
    name: Layer

    def get(self, key: str) -> Rendition | None:
        """Return the rendition, verified where it comes from a disk or a network; None when there is none."""
        ...

    def open(self, key: str) -> CachedFile | None:
        """Return the same as a file, for what is too large to be held in memory; None when there is none."""
        ...

    def put(self, key: str, rendition: Rendition, *, until: float | None = None, cost: float = 0.0) -> None:
        """Store it; a bounded tier may decline, or evict others for it.

        :param until: seconds since the epoch until which a temporary URL promises it
        :param cost: seconds that it took to make
        """
        ...

    def delete(self, key: str) -> bool:
        """Remove a rendition; return False when there was none."""
        ...

    def purge(self, prefix: str) -> int:
        """Remove all whose key begins so; return how many there were."""
        ...

    def close(self) -> None:
        """End what it runs in the background."""
        ...


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A stored rendition, open for reading at its first byte; its user closes it."""

    file: BinaryIO
    size: int
    media_type: str
    etag: str
    modified: float


class LinkTarget(Tier, Protocol):
    """The tier that temporary URLs point into: the cache container, or its folder beside a store on disk."""

    def pin(self, key: str, body: bytes | BinaryIO, rendition: Rendition, until: float) -> None:
        """Store bytes until then at least. Unlike ``put`` this raises when it fails.

        :param body: the bytes, or a seekable file of them; ``rendition.body`` is not looked at
        """
        ...

    def pinned_until(self, key: str) -> float | None:
        """Return until when a rendition is stored at least; None when there is none."""
        ...


class Caches:
    """The tiers, nearest first.

    :param pause: seconds for which a tier that failed is not used, at first
    :param longest_pause: and at most, after failures in a row
    """

    def __init__(self, tiers: Iterable[Tier], *, pause: float = 1.0, longest_pause: float = 5.0) -> None:
        self.tiers = tuple(tiers)
        self._backoff = {tier.name: Backoff(pause, longest_pause) for tier in self.tiers}

    def get(self, key: str) -> tuple[Rendition, Layer] | None:
        """Return the first hit and its layer; the tiers above get it too."""
        for place, tier in enumerate(self.tiers):
            rendition = self._try(tier, "get", partial(tier.get, key), None)
            if rendition is not None:
                self.fill(key, rendition, self.tiers[:place])
                return rendition, tier.name
        return None

    def open(self, key: str) -> CachedFile | None:
        """Return the first hit as a file; the tiers above do not get it."""
        files = (self._try(tier, "open", partial(tier.open, key), None) for tier in self.tiers)
        return next((file for file in files if file is not None), None)

    def contains(self, key: str) -> bool:
        """Return whether a tier has a rendition. It may be evicted at any time."""
        cached = self.open(key)
        if cached is None:
            return False
        cached.file.close()
        return True

    def nearest(self, layer: Layer) -> Callable[[str], Rendition | None] | None:
        """Return the ``get`` of the first tier, where that is the tier of this name."""
        first = self.tiers[0] if self.tiers else None
        return first.get if first and first.name == layer else None

    def fill(self, key: str, rendition: Rendition, tiers: Iterable[Tier] | None = None, *, cost: float = 0.0) -> None:
        """Store a rendition in these tiers, or in all.

        :param cost: seconds that it took to make
        """
        for tier in self.tiers if tiers is None else tiers:
            self._try(tier, "put", partial(tier.put, key, rendition, cost=cost), None)

    def purge(self, prefix: str, *, keep: Iterable[Layer] = ()) -> dict[str, int]:
        """Remove all whose key begins so from all tiers but those to keep; return tier → how many."""
        return {
            tier.name: self._try(tier, "purge", partial(tier.purge, prefix), 0, always=True)
            for tier in self.tiers
            if tier.name not in tuple(keep)
        }

    def close(self) -> None:
        """End what the tiers run in the background."""
        for tier in self.tiers:
            tier.close()

    def _try(self, tier: Tier, verb: str, call: Callable[[], T], otherwise: T, *, always: bool = False) -> T:
        backoff = self._backoff[tier.name]
        if not always and backoff.left() > 0:
            return otherwise
        try:
            result = call()
        except Exception as error:  # a cache never fails a request
            if not isinstance(error, OriginalDamaged):  # one entry, not the tier
                backoff.fail()
            log.warning("the %s tier failed at %s: %s: %s", tier.name, verb, type(error).__name__, error)
            return otherwise
        backoff.reset()
        return result

"""Configuration → renditions and the tiers that hold them: memory, disk, cache container."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from image_repo.caches.container import ContainerTier
from image_repo.caches.disk import DiskTier, LinkFolder
from image_repo.caches.eviction import Bounds
from image_repo.caches.file_cache import FileCache
from image_repo.caches.memory import MemoryTier
from image_repo.caches.tiers import Caches, LinkTarget, Tier
from image_repo.concurrency.limiter import Limiter, limits
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import LocalCacheConfiguration
from image_repo.observability import metrics
from image_repo.observability.metrics import Counters
from image_repo.repository.decoded_cache import DecodedCache
from image_repo.repository.mezzanines import Mezzanines
from image_repo.repository.originals import Originals
from image_repo.repository.renditions import Renditions
from image_repo.stores.circuit_breaker import CircuitBreaker
from image_repo.wiring.folders import folder_name, private_folder
from image_repo.wiring.node import Node
from image_repo.wiring.stores import rendition_lifetime

if TYPE_CHECKING:
    from image_repo.catalogue.postgres_notices import PostgresNotices

log = logging.getLogger(__name__)

T = TypeVar("T")

#: what is remembered of names on disk may take this much, beside the disk cache
_NAMES = LocalCacheConfiguration(max_size=256 << 20, max_elements=1 << 20)
#: a few large entries displace each other: their last use has to be known better than that of many small ones
_TOUCH_PIXELS_EVERY_S = 5.0


class _Counted(TypedDict):
    evicted: Callable[[int], object]
    resized: Callable[[int, int], object]


def build_renditions(
    node: Node,
    originals: Originals,
    memory: MemoryTier,
    target: LinkTarget | None,
    notices: PostgresNotices | None,
) -> Renditions:
    """Return the renditions, in tiers of this node and of the container."""
    config, own, counters, local = node.config, node.own, node.counters, _rendition_files(node)
    flight = SingleFlight(own / "flights" if own else None)
    table = limits(threads=config.server.threads, renders=config.render.at_once, queue=config.render.queue)
    limiter = Limiter(table, node.shared / "limits" if node.shared else None, waiting=counters.waiting)
    files, far = _mezzanine_files(node), Caches([target] if node.stores.cache and target else [])
    return Renditions(
        originals,
        Caches(tier for tier in (memory, local, target) if tier is not None),
        Mezzanines(files, far, SingleFlight(None), limiter, config.render),
        DecodedCache(_pixel_files(own, config.render.pixel_cache), flight, limiter, config.render),
        target,
        flight,
        limiter,
        config.render,
        counters,
        dropped=lambda name: notices.send(name.text) if notices else None,
    )


def link_target(node: Node) -> LinkTarget | None:
    """Return the tier that links lead to; None where there is none."""
    config, stores, cache = node.config, node.stores, node.config.swift_cache_configuration
    if not cache.enabled:
        return None
    if stores.cache is not None:
        return ContainerTier(
            CircuitBreaker(stores.cache, counters=node.counters, name="cache"), rendition_lifetime(config)
        )
    folder = stores.origin.capabilities.folder
    if folder is not None:
        unbounded = LocalCacheConfiguration(max_size=0, max_elements=0)
        return LinkFolder(folder / "renditions", unbounded, name="cache", lifetime=cache.lifetime)
    return None


def _mezzanine_files(node: Node) -> FileCache | None:
    """Return the share of the disk cache for mezzanines; None where there is none."""
    settings = node.config.local_cache_configuration
    if not settings.mezzanine_share:
        return None
    bounds = Bounds(int(settings.max_size * settings.mezzanine_share), evict_free_threshold=0.05, priority="cost")
    return _on_disk(node, "mezzanines", lambda folder: FileCache(folder, bounds, "cache of mezzanines"))


def memory_tier(node: Node) -> MemoryTier:
    """Return the renditions in the memory of this process."""
    return MemoryTier(node.config.memory_cache_configuration.max_size, **_counted(node.counters, "memory"))


def names_on_disk(node: Node) -> Tier | None:
    """Return what is remembered of names on disk; None where there is no disk cache."""
    settings = replace(_NAMES, enabled=node.config.local_cache_configuration.enabled)
    return _on_disk(node, "names", lambda folder: DiskTier(folder, settings))


def _rendition_files(node: Node) -> Tier | None:
    """Return the renditions in the disk cache; None where there is none."""
    settings = node.config.local_cache_configuration
    share = replace(settings, max_size=int(settings.max_size * (1.0 - settings.mezzanine_share)))
    counted = _counted(node.counters, "disk")
    return _on_disk(node, "renditions", lambda folder: DiskTier(folder, share, **counted))


def _on_disk(node: Node, part: str, make: Callable[[Path], T]) -> T | None:
    """Return what is made in a folder of the disk cache, for this origin alone; None where it cannot be used."""
    settings = node.config.local_cache_configuration
    path = Path(settings.cache_path)
    if not settings.enabled or private_folder(path) is None:
        return None
    try:
        return make(path / folder_name(node.origin) / part)
    except OSError as error:
        log.warning("there is no disk cache: %s", error)
        return None


def _pixel_files(own: Path | None, most: int) -> FileCache | None:
    """Decoded pixels on this node; None where they cannot be stored, or are not to be."""
    if own is None or not most:
        return None
    try:
        return FileCache(own / "pixels", Bounds(most), "cache of decoded pixels", touch_every=_TOUCH_PIXELS_EVERY_S)
    except OSError as error:
        log.warning("decoded pixels are not stored: %s", error)
        return None


def _counted(counters: Counters, tier: str) -> _Counted:
    """Return what counts the evictions, bytes and entries of a tier."""

    def resized(size: int, entries: int) -> None:
        counters.set(metrics.CACHE_BYTES, tier, size)
        counters.set(metrics.CACHE_ENTRIES, tier, entries)

    return {"evicted": partial(counters.add, metrics.EVICTIONS, tier), "resized": resized}

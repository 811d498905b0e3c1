"""Renditions: from the nearest cache, else rendered once for all who wait (single flight)."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import pairwise

from image_repo import render
from image_repo.caches.tiers import Caches, LinkTarget
from image_repo.concurrency.limiter import Limiter, Stage
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import RenderConfiguration
from image_repo.model.key import Key, prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.model.rendition import Rendition, Served
from image_repo.observability import metrics
from image_repo.observability.metrics import Counters
from image_repo.render import Mezzanine, Rendered
from image_repo.repository.decoded_cache import DecodedCache
from image_repo.repository.mezzanines import DamagedMezzanine, Mezzanines
from image_repo.repository.originals import Originals


def etag_of(key: str) -> str:
    """Return the entity tag of the rendition under a key, known before it is made."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


class Renditions:
    """The renditions of originals, in the caches and in the making.

    :param link_target: the tier that temporary URLs point into; None where there is none
    :param limiter: also bounds the requests that wait for a missing rendition, so that threads are left for hits
    :param dropped: called with a name after its renditions were dropped here: they may be on other nodes too
    """

    def __init__(
        self,
        originals: Originals,
        caches: Caches,
        mezzanines: Mezzanines,
        decoded: DecodedCache,
        link_target: LinkTarget | None,
        flight: SingleFlight,
        limiter: Limiter,
        limits: RenderConfiguration,
        counters: Counters,
        dropped: Callable[[ImageName], object] = lambda _: None,
    ) -> None:
        self._dropped = dropped
        self.caches = caches
        self.mezzanines = mezzanines
        self.limiter = limiter
        self.limits = limits
        self._originals = originals
        self.decoded = decoded
        self._link_target = link_target
        self._flight = flight
        self._counters = counters
        self._generation = render.generation(limits)

    def key(self, original: Original, recipe: Recipe) -> str:
        """Return the key of the rendition: everything that decides its bytes."""
        return str(Key(original.name, original.version, recipe, self._generation))

    def fetch(self, original: Original, recipe: Recipe) -> Served:
        """Return the rendition, of a newer version where the original is replaced meanwhile.

        :raises Problem: as :mod:`image_repo.errors` says
        """
        return self._originals.of_one_version(original, lambda current: self._fetch(current, recipe))

    def _fetch(self, original: Original, recipe: Recipe) -> Served:
        key = self.key(original, recipe)
        cached = self._cached(key, original)
        if cached:
            return cached
        with self.limiter.admit(Stage.RENDITION):
            return self._flight.do(
                key,
                lambda: self._admit(key, original, recipe),
                lambda: self._cached(key, original),
                timeout=self.limits.wait,
            )

    def _admit(self, key: str, original: Original, recipe: Recipe) -> Served:
        """Make it, unless as many others are being made as may be: nothing is fetched before."""
        with self.limiter.admit(Stage.FETCH):
            try:
                return self._make(key, original, recipe)
            except DamagedMezzanine:  # it is gone now
                return self._make(key, original, recipe)

    def _cached(self, key: str, original: Original) -> Served | None:
        began = time.perf_counter()
        cached = self.caches.get(key)
        if cached is None:
            return None
        rendition, layer = cached
        self._counters.add(metrics.HITS, layer)
        return Served(rendition, layer, original.version, (("cache", time.perf_counter() - began),))

    def _make(self, key: str, original: Original, recipe: Recipe) -> Served:
        clock = [time.perf_counter()]
        with self._source(original, recipe) as (make, heavy):
            clock.append(time.perf_counter())
            with self.limiter.slot(self.limits.wait, heavy=heavy):
                clock.append(time.perf_counter())
                made = make()
                clock.append(time.perf_counter())
        largest = f"{made.width}x{made.height}" if made.is_largest else ""
        rendition = Rendition(made.body, made.media_type, etag_of(key), original.modified, largest)
        self.caches.fill(key, rendition, cost=clock[-1] - clock[-2])
        timings = [(step, end - start) for step, (start, end) in zip(metrics.STEPS, pairwise(clock), strict=True)]
        self._counters.add(metrics.RENDERS)
        for step, seconds in timings:
            self._counters.observe(metrics.SECONDS, step, seconds)
        return Served(rendition, "rendered", original.version, tuple(timings))

    @contextmanager
    def _source(self, original: Original, recipe: Recipe) -> Iterator[tuple[Callable[[], Rendered], bool]]:
        """Yield what renders a recipe: from a mezzanine, from decoded pixels, else from the original.

        The original is fetched when it is needed, and once.

        :returns: the renderer, and whether it is heavy
        """
        with ExitStack() as opened:
            spool = cache(lambda: opened.enter_context(self._originals.read(original)))
            load = self.mezzanines.find(original, recipe, lambda: spool().file, opened)
            region = self.decoded.find(original, recipe, spool) if load is None else None
            if load is not None:
                yield lambda: render.render_mezzanine(load(), recipe, self.limits), False
            elif region is not None:
                yield region, False
            else:
                source = spool().file
                yield lambda: render.render(source, recipe, self.limits), render.is_heavy(source, self.limits)

    def replaced(self, original: Original, mezzanines: Sequence[Mezzanine]) -> None:
        """Drop what was made of older versions, except what temporary URLs point to, and keep new mezzanines."""
        self.purge(original.name, keep_links=True)
        self.mezzanines.keep(original, mezzanines)

    def deleted(self, name: ImageName) -> dict[str, int]:
        """Drop all of a deleted image; no link outlives it, so trouble with those is raised.

        :returns: layer → how many
        :raises StoreUnavailable: when renditions behind links may be left
        """
        counts = self.purge(name, keep_links=True)
        return {**counts, "cache": self._link_target.purge(prefix_of(name))} if self._link_target else counts

    def purge(self, name: ImageName, *, keep_links: bool = False) -> dict[str, int]:
        """Drop the renditions of an image from every layer, here and on the other nodes; layer → how many."""
        counts = self.drop(name, keep_links=keep_links)
        self._dropped(name)
        return counts

    def drop(self, name: ImageName, *, keep_links: bool = True) -> dict[str, int]:
        """Drop the renditions of an image on this node; layer → how many."""
        self.decoded.purge(name)
        mezzanines = self.mezzanines.purge(name)
        counts = self.caches.purge(prefix_of(name), keep=("cache",) if keep_links else ())
        return {layer: count + mezzanines * (layer == "disk") for layer, count in counts.items()}

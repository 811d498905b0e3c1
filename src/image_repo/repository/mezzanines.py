"""Mezzanines of originals: which variants are rendered from one, where they are stored, and who decodes them.

A node stores them in a share of its disk cache of their own, so that none ever displaces a rendition. The smallest one
of each original lies in the cache container too, packed, so that another node need not fetch the original. A missing
one is decoded when a variant needs it, once for all that wait for it, and written when nobody waits for it any more.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import BinaryIO

from cachetools import LRUCache

from image_repo import render
from image_repo.caches.tiers import Caches
from image_repo.concurrency.background import BackgroundWorker
from image_repo.concurrency.limiter import Limiter
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture, OverBudget, Problem
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.model.rendition import Rendition
from image_repo.render import Mezzanine, MezzaninePlan

log = logging.getLogger(__name__)

#: size of the LRU of versions whose plan is known
_MOST_REMEMBERED = 20_000
#: mezzanines that wait to be written: they take up to 6 MiB of memory each
_MOST_WAITING = 4
_SCALES = (8, 4, 2)

#: the mezzanine that another node has stored for all
Shared = Callable[[], Mezzanine | None]


class Mezzanines:
    """The mezzanines of large originals.

    :param near: where this node stores them
    :param far: where all nodes find the smallest one of each original; may be nowhere
    :param limiter: of renders; decoding is one
    """

    def __init__(
        self, near: Caches, far: Caches, flight: SingleFlight, limiter: Limiter, limits: RenderConfiguration
    ) -> None:
        self._near = near
        self._far = far
        self._flight = flight
        self._limiter = limiter
        self._limits = limits
        self._generation = render.generation()
        self._lock = threading.Lock()
        self._plans: LRUCache[str, MezzaninePlan | None] = LRUCache(_MOST_REMEMBERED)
        #: decoded, and not written yet
        self._pending: dict[str, Mezzanine] = {}
        self._worker = BackgroundWorker("image_repo-mezzanines", _MOST_WAITING)

    def find(self, original: Original, recipe: Recipe, file: Callable[[], BinaryIO]) -> Mezzanine | None:
        """Return the mezzanine that a variant is rendered from, decoded if need be; None for the original itself.

        :param file: opens the original; called when nothing else tells
        :raises Problem: as :func:`image_repo.render.decode_mezzanine`
        """
        if not render.may_use_mezzanine(recipe):
            return None
        shared = cache(lambda: self._load_shared(original))
        scale = render.choose_scale(recipe, self._plan(original, file, shared))
        if scale == 1:
            return None
        key = self._key(original, scale)
        return self._load(key) or self._flight.do(
            key, lambda: self._decode(original, scale, file, shared), lambda: self._load(key), self._limits.wait
        )

    def keep(self, original: Original, mezzanine: Mezzanine | None) -> None:
        """Store what an upload yielded, best effort."""
        if mezzanine:
            self._remember(original, mezzanine.plan)
            self._store_later(original, mezzanine, 0.0)

    def purge(self, name: ImageName) -> int:
        """Remove the mezzanines of an image from this node; return how many there were."""
        self.flush()
        return sum(self._near.purge(prefix_of(name)).values())

    def flush(self) -> None:
        """Wait until all mezzanines are written."""
        self._worker.flush()

    def close(self) -> None:
        """Write what waits, and end what runs in the background."""
        self._worker.close()
        self._near.close()

    # -- what is known of the original -------------------------------------------------

    def _plan(self, original: Original, file: Callable[[], BinaryIO], shared: Shared) -> MezzaninePlan | None:
        """Return which mezzanines an original has; None when it has none.

        It is read from what is remembered, from a stored mezzanine of this node, from that of all nodes, and last from
        the original: once for all requests, so that the others need not fetch it.
        """

        def read() -> tuple[MezzaninePlan | None]:
            mezzanine = shared()
            plan = mezzanine.plan if mezzanine else render.plan_mezzanines(file(), self._limits)
            return self._remember(original, plan)

        known = self._known_plan(original) or self._flight.do(
            _id(original) + "+plan", read, lambda: self._known_plan(original), self._limits.wait
        )
        return known[0]

    def _known_plan(self, original: Original) -> tuple[MezzaninePlan | None] | None:
        with self._lock:
            if _id(original) in self._plans:
                return (self._plans[_id(original)],)
        stored = (self._load(self._key(original, scale)) for scale in _SCALES)
        mezzanine = next(filter(None, stored), None)
        return self._remember(original, mezzanine.plan) if mezzanine else None

    def _remember(self, original: Original, plan: MezzaninePlan | None) -> tuple[MezzaninePlan | None]:
        with self._lock:
            self._plans[_id(original)] = plan
        return (plan,)

    # -- mezzanines ------------------------------------------------------------------

    def _decode(self, original: Original, scale: int, file: Callable[[], BinaryIO], shared: Shared) -> Mezzanine:
        """Return a mezzanine that this node does not have, and have it written."""
        mezzanine = shared()
        if mezzanine and mezzanine.scale == scale:
            return mezzanine
        source = file()
        with self._limiter.slot(self._limits.wait, heavy=render.is_heavy(source, self._limits)):
            began = time.thread_time()
            mezzanine = render.decode_mezzanine(source, scale, self._limits)
            cost = time.thread_time() - began
        self._store_later(original, mezzanine, cost)
        return mezzanine

    def _load(self, key: str) -> Mezzanine | None:
        with self._lock:
            pending = self._pending.get(key)
        if pending:
            return pending
        stored = self._near.get(key)
        return self._read(key, stored[0].body) if stored else None

    def _read(self, key: str, body: bytes) -> Mezzanine | None:
        try:
            return render.read_mezzanine(body, self._limits)
        except (BrokenPicture, OverBudget):
            log.warning("the mezzanine %s cannot be read: it is decoded anew", key)
            return None

    def _load_shared(self, original: Original) -> Mezzanine | None:
        """Return the mezzanine that another node has stored for all, and store it here too."""
        if not self._far.tiers:
            return None
        key = self._key(original, 0)
        stored = self._far.get(key)
        if stored is None:
            return None
        with self._limiter.slot(self._limits.wait):
            mezzanine = self._read(key, stored[0].body)
        if mezzanine:
            self._store_here(original, mezzanine, 0.0)
        return mezzanine

    def _store_later(self, original: Original, mezzanine: Mezzanine, cost: float) -> None:
        """Have a mezzanine stored; it is found from now on."""
        key = self._key(original, mezzanine.scale)
        with self._lock:
            self._pending[key] = mezzanine

        def store() -> None:
            try:
                self._store(original, mezzanine, cost)
            finally:
                with self._lock:
                    self._pending.pop(key, None)

        self._worker.submit(store)

    def _store(self, original: Original, mezzanine: Mezzanine, cost: float) -> None:
        """Store a mezzanine on this node; the smallest one for other nodes as well."""
        self._store_here(original, mezzanine, cost)
        if not self._far.tiers or mezzanine.scale != mezzanine.plan.scales()[0]:
            return
        try:
            with self._limiter.slot(self._limits.wait):
                packed = mezzanine.to_bytes(packed=True)
        except Problem as problem:  # other nodes decode it themselves
            log.warning("the mezzanine of %s is not shared: %s", original.key, problem.detail or problem.title)
        else:
            self._far.fill(*self._entry(original, 0, packed))

    def _store_here(self, original: Original, mezzanine: Mezzanine, cost: float) -> None:
        self._near.fill(*self._entry(original, mezzanine.scale, mezzanine.to_bytes()), cost=cost)

    def _entry(self, original: Original, scale: int, body: bytes) -> tuple[str, Rendition]:
        key = self._key(original, scale)
        etag = hashlib.sha256(key.encode()).hexdigest()[:32]
        return key, Rendition(body, render.MEZZANINE_TYPE, etag, original.modified)

    def _key(self, original: Original, scale: int) -> str:
        """Return the key of a mezzanine; that of the one for all nodes where the scale is 0."""
        return f"{_id(original)}+mezzanine({scale})+g({self._generation}).mezzanine"


def _id(original: Original) -> str:
    return prefix_of(original.name) + original.version

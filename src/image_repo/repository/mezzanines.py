"""Mezzanines of originals: which variants are rendered from one, where they are stored, and who decodes them.

A node stores them in a share of its disk cache of their own, so that none ever displaces a rendition. The smallest one
of each original lies in the cache container too, packed, so that another node need not fetch the original. A missing
one is decoded when a variant needs it, once for all that wait for it, and written when nobody waits for it any more,
together with the others that the same decode yields.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache, partial
from typing import BinaryIO

from cachetools import LRUCache

from image_repo import render
from image_repo.caches.file_cache import FileCache
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
#: size of the LRU of mezzanines that were declined because their share was full
_MOST_DECLINED = 20_000
#: originals whose mezzanines wait to be written: they take up to 11 MiB of memory each
_MOST_WAITING = 4
#: of the most recent mezzanines: several variants of one picture are often wanted at once
_MEMORY_BYTES = 8 << 20
_SCALES = (8, 4, 2)

#: loads a mezzanine, and raises :class:`DamagedMezzanine`
Load = Callable[[], Mezzanine]
#: the mezzanine that another node has stored for all
Shared = Callable[[], Mezzanine | None]


class DamagedMezzanine(Exception):
    """A stored mezzanine could not be read, and is removed."""


@dataclass(frozen=True, slots=True)
class _Known:
    """Which mezzanines an original has, and one of them where it is at hand.

    :param plan: None for an original without
    """

    plan: MezzaninePlan | None
    mezzanine: Mezzanine | None = None


class Mezzanines:
    """The mezzanines of large originals.

    Once their share of the disk is full, one is stored when it is decoded a second time: so a single look at each
    picture of a large collection displaces none that are needed more often.

    :param files: where this node stores them; None to keep none but the most recent ones
    :param far: where all nodes find the smallest one of each original; may be nowhere
    :param flight: of this process alone: another process would find the mezzanine only after it is written
    :param limiter: of renders; decoding is one
    :param memory: bytes of the most recent ones, which are kept decoded
    """

    def __init__(
        self,
        files: FileCache | None,
        far: Caches,
        flight: SingleFlight,
        limiter: Limiter,
        limits: RenderConfiguration,
        *,
        memory: int = _MEMORY_BYTES,
    ) -> None:
        self._files = files
        self._far = far
        self._flight = flight
        self._limiter = limiter
        self._limits = limits
        self._generation = render.generation(limits)
        self._lock = threading.Lock()
        self._plans: LRUCache[str, MezzaninePlan | None] = LRUCache(_MOST_REMEMBERED)
        self._declined: LRUCache[str, bool] = LRUCache(_MOST_DECLINED)
        self._recent: LRUCache[str, Mezzanine] = LRUCache(memory, getsizeof=_memory_of)
        self._worker = BackgroundWorker("image_repo-mezzanines", _MOST_WAITING)

    def find(self, original: Original, recipe: Recipe, file: Callable[[], BinaryIO], opened: ExitStack) -> Load | None:
        """Return what loads the mezzanine that a variant is rendered from, decoded if need be; None for the original.

        A stored one is only opened, once its plan is known: requests that wait for a render slot hold no pixels.

        :param file: opens the original; called when nothing else tells
        :param opened: to be closed after the mezzanine is loaded
        :raises Problem: as :class:`image_repo.render.OpenOriginal`
        """
        if not render.may_use_mezzanine(recipe):
            return None
        shared = cache(lambda: self._load_shared(original))
        known = self._known(original) or self._flight.do(
            _id(original) + "+mezzanines",
            lambda: self._learn(original, recipe, file, shared),
            lambda: self._remembered(original),
            self._limits.wait,
        )
        scale = render.choose_scale(recipe, known.plan)
        if scale == 1:
            return None
        at_hand = known.mezzanine
        if at_hand and at_hand.scale == scale:
            return lambda: at_hand
        key = self._key(original, scale)
        stored = self._open(key, opened)
        if stored:
            return stored
        mezzanine = self._flight.do(
            key, lambda: self._fetch(original, scale, file, shared), lambda: self._load(key), self._limits.wait
        )
        return lambda: mezzanine

    def smallest(self, original: Original) -> Mezzanine | None:
        """Return the smallest mezzanine of an original; None where this node has not stored it."""
        known = self._known(original)
        return self._load(self._key(original, known.plan.scales()[0])) if known and known.plan else None

    def keep(self, original: Original, mezzanines: Sequence[Mezzanine]) -> None:
        """Store what an upload yielded, best effort."""
        if mezzanines:
            self._remember(original, mezzanines[0].plan)
            self._store_later(original, mezzanines, 0.0)

    def offer(self, original: Original, mezzanines: Sequence[Mezzanine]) -> None:
        """Store on this node what the summary of an original was made of, while their share has room.

        Nobody has looked at the picture yet: a sweep over a large collection displaces none that are needed, and fills
        no cache container.
        """
        if not mezzanines:
            return
        self._remember(original, mezzanines[0].plan)
        if self._has_room(mezzanines):
            self._worker.submit(partial(self._write_with_room, original, mezzanines))

    def purge(self, name: ImageName) -> int:
        """Remove the mezzanines of an image from this node; return how many there were."""
        self.flush()
        prefix = prefix_of(name)
        with self._lock:
            for key in [key for key in self._recent if key.startswith(prefix)]:
                del self._recent[key]
        return self._files.purge(prefix) if self._files else 0

    def flush(self) -> None:
        """Wait until all mezzanines are written."""
        self._worker.flush()

    def close(self) -> None:
        """Write what waits, and end what runs in the background."""
        self._worker.close()
        if self._files:
            self._files.close()

    # -- what is known of the original -------------------------------------------------

    def _learn(self, original: Original, recipe: Recipe, file: Callable[[], BinaryIO], shared: Shared) -> _Known:
        """Return which mezzanines an original has, with the one that a recipe needs.

        The first of several requests for an original does so for all, so that the others need not fetch it.
        """
        mezzanine = shared()
        opened = render.OpenOriginal(file(), self._limits) if mezzanine is None else None
        plan = mezzanine.plan if mezzanine else opened.plan if opened else None
        self._remember(original, plan)
        scale = render.choose_scale(recipe, plan)
        if opened and scale > 1:
            mezzanine = self._decode(original, scale, opened)
        return _Known(plan, mezzanine)

    def _known(self, original: Original) -> _Known | None:
        """Return which mezzanines an original has, from what is remembered or stored on this node."""
        remembered = self._remembered(original)
        if remembered:
            return remembered
        stored = (self._load(self._key(original, scale)) for scale in _SCALES)
        mezzanine = next(filter(None, stored), None)
        if mezzanine is None:
            return None
        self._remember(original, mezzanine.plan)
        return _Known(mezzanine.plan, mezzanine)

    def _remembered(self, original: Original) -> _Known | None:
        with self._lock:
            return _Known(self._plans[_id(original)]) if _id(original) in self._plans else None

    def _remember(self, original: Original, plan: MezzaninePlan | None) -> None:
        with self._lock:
            self._plans[_id(original)] = plan

    # -- mezzanines ------------------------------------------------------------------

    def _fetch(self, original: Original, scale: int, file: Callable[[], BinaryIO], shared: Shared) -> Mezzanine:
        """Return a mezzanine that this node does not have."""
        mezzanine = shared()
        if mezzanine and mezzanine.scale == scale:
            return mezzanine
        opened = render.OpenOriginal(file(), self._limits)
        return self._decode(original, scale, opened, is_shared=mezzanine is not None)

    def _decode(
        self, original: Original, scale: int, opened: render.OpenOriginal, *, is_shared: bool = False
    ) -> Mezzanine:
        """Return a mezzanine, decoded; have all that the decode yields written.

        :param is_shared: whether other nodes find the smallest one already
        """
        with self._limiter.slot(self._limits.wait, heavy=opened.is_heavy):
            began = time.thread_time()
            mezzanines = opened.decode(scale)
            cost = time.thread_time() - began
        self._store_later(original, mezzanines, cost, is_shared=is_shared)
        return next(one for one in mezzanines if one.scale == scale)

    def _load(self, key: str) -> Mezzanine | None:
        with ExitStack() as opened, suppress(DamagedMezzanine):
            load = self._open(key, opened)
            return load() if load else None
        return None

    def _open(self, key: str, opened: ExitStack) -> Load | None:
        """Return what loads a mezzanine; None where this node has not stored it."""
        recent = self._find_recent(key)
        if recent:
            return lambda: recent
        try:
            reader = self._files.open(key) if self._files else None
        except OSError as error:
            log.warning("mezzanines cannot be read: %s", error)
            return None
        if reader is None:
            return None
        source = opened.enter_context(io.BufferedReader(reader))
        return partial(self._load_from, key, source)

    def _load_from(self, key: str, source: BinaryIO) -> Mezzanine:
        # Another variant of the same original may have loaded it meanwhile.
        mezzanine = self._find_recent(key) or self._read(key, source)
        if mezzanine is None:
            if self._files:
                self._files.delete(key)
            raise DamagedMezzanine
        return mezzanine

    def _find_recent(self, key: str) -> Mezzanine | None:
        with self._lock:
            return self._recent.get(key)

    def _read(self, key: str, source: BinaryIO) -> Mezzanine | None:
        try:
            mezzanine = render.read_mezzanine(source, self._limits)
        except (BrokenPicture, OverBudget):
            log.warning("the mezzanine %s cannot be read: it is decoded anew", key)
            return None
        self._keep_recent(key, mezzanine)
        return mezzanine

    def _keep_recent(self, key: str, mezzanine: Mezzanine) -> None:
        with self._lock:
            if _memory_of(mezzanine) <= self._recent.maxsize:
                self._recent[key] = mezzanine

    def _keep_all_recent(self, original: Original, mezzanines: Sequence[Mezzanine]) -> None:
        for mezzanine in reversed(mezzanines):  # the smallest serves the most variants
            self._keep_recent(self._key(original, mezzanine.scale), mezzanine)

    def _load_shared(self, original: Original) -> Mezzanine | None:
        """Return the mezzanine that another node has stored for all, and have it stored here too."""
        key = self._key(original, 0)
        stored = self._far.get(key)
        if stored is None:
            return None
        with self._limiter.slot(self._limits.wait):
            mezzanine = self._read(key, io.BytesIO(stored[0].body))
        if mezzanine:
            self._keep_recent(self._key(original, mezzanine.scale), mezzanine)
            self._worker.submit(partial(self._store, original, (mezzanine,), 0.0))
        return mezzanine

    def _store_later(
        self, original: Original, mezzanines: Sequence[Mezzanine], cost: float, *, is_shared: bool = False
    ) -> None:
        """Have mezzanines of one decode stored, on this node, and the smallest one for other nodes as well."""
        self._keep_all_recent(original, mezzanines)
        self._worker.submit(partial(self._store, original, mezzanines, cost))
        smallest = mezzanines[0]
        if self._far.tiers and not is_shared and smallest.scale == smallest.plan.scales()[0]:
            self._worker.submit(partial(self._share, original, smallest))

    def _has_room(self, mezzanines: Sequence[Mezzanine]) -> bool:
        """Return whether mezzanines fit into their share without displacing others."""
        return self._files is None or not self._files.is_full(sum(mezzanine.length for mezzanine in mezzanines))

    def _store(self, original: Original, mezzanines: Sequence[Mezzanine], cost: float) -> None:
        """Store mezzanines; one that is declined because their share is full is stored the next time."""
        for mezzanine in mezzanines:
            key = self._key(original, mezzanine.scale)
            with self._lock:
                is_declined = self._declined.pop(key, None) is None and not self._has_room((mezzanine,))
                if is_declined:
                    self._declined[key] = True
            if not is_declined:
                self._write(key, mezzanine, cost)

    def _write_with_room(self, original: Original, mezzanines: Sequence[Mezzanine]) -> None:
        if self._has_room(mezzanines):  # others may have been written since it was offered
            for mezzanine in mezzanines:
                self._write(self._key(original, mezzanine.scale), mezzanine, 0.0)

    def _write(self, key: str, mezzanine: Mezzanine, cost: float) -> None:
        if self._files is None:
            return
        try:
            self._files.put(key, {}, mezzanine.write(), mezzanine.length, cost=cost)
        except OSError as error:
            log.warning("mezzanines are not stored: %s", error)

    def _share(self, original: Original, mezzanine: Mezzanine) -> None:
        try:
            with self._limiter.slot(self._limits.wait):
                packed = b"".join(mezzanine.write(packed=True))
        except Problem as problem:  # other nodes decode it themselves
            log.warning("the mezzanine of %s is not shared: %s", original.key, problem)
            return
        key = self._key(original, 0)
        etag = hashlib.sha256(key.encode()).hexdigest()[:32]
        self._far.fill(key, Rendition(packed, render.MEZZANINE_TYPE, etag, original.modified))

    def _key(self, original: Original, scale: int) -> str:
        """Return the key of a mezzanine; that of the one for all nodes where the scale is 0."""
        return f"{_id(original)}+mezzanine({scale})+g({self._generation}).mezzanine"


def _memory_of(mezzanine: Mezzanine) -> int:
    """Return the bytes of its pixels in memory: four for each, but in a picture of one band."""
    width, height = mezzanine.image.size
    return width * height * (1 if mezzanine.image.mode == "L" else 4)


def _id(original: Original) -> str:
    return prefix_of(original.name) + original.version

"""Working copies: which variants come from one, where they are kept, and who makes them.

They are kept under keys of their own: on this node as they are, and the largest of them, packed, in the cache
container, out of which another node makes the same ones. Not in memory: they are used, never served. Copies that are
missing are made once for all who want one, whatever variant they are after, and always before the variant: never is a
variant made from something else because a cache happened to be empty.
"""

from __future__ import annotations

import hashlib
import io
import logging
import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import BinaryIO

from cachetools import LRUCache

from image_repo import render
from image_repo.caches.tiers import Caches
from image_repo.concurrency.limiter import Limiter
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture, OverBudget, Problem
from image_repo.model.key import Key, prefix_of
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.model.rendition import Rendition
from image_repo.render import MezzaninePixels, MezzaninePlan

log = logging.getLogger(__name__)

#: of how many versions it is remembered which working copies they have
_MOST_REMEMBERED = 20_000
#: the working copies that there are, by the recipe under which each is kept; the smallest first
_COPIES: dict[int, Recipe] = {which: Recipe(copy=which) for which in render.COPIES}
_SMALLEST = render.COPIES[0]

#: all copies, from what another node has kept for all; asked once
Shared = Callable[[], MezzaninePixels | None]


class Mezzanines:
    """The working copies of large originals.

    :param near: where this node keeps them
    :param far: where all nodes find the largest of them; may be nowhere
    :param gate: what holds the number of renders; making copies is one
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
        self._remembered: LRUCache[str, tuple[MezzaninePlan | None]] = LRUCache(_MOST_REMEMBERED)

    def find(self, current: Original, recipe: Recipe, original: Callable[[], BinaryIO]) -> BinaryIO | None:
        """The working copy that a variant is made from, which the caller closes; None for the original itself.

        :param original: opens the original; called when nothing else tells
        :raises Problem: as :func:`image_repo.render.mezzanine`
        """
        if not render.may_use_copy(recipe):
            return None
        shared = cache(lambda: self._restored(current))
        which = render.choose_copy(recipe, self._judged(current, original, shared))
        if not which:
            return None
        return self._here(current, which) or io.BytesIO(self._made(current, original, shared)[which])

    def keep(self, current: Original, copied: MezzaninePixels) -> None:
        """Keeps what was made of an original, best effort."""
        self._keep_here(current, copied)
        largest = copied.pictures.get(render.LARGEST)
        if largest and self._far.tiers:
            try:
                with self._limiter.slot(self._limits.wait):
                    packed = render.packed(largest.body)
            except Problem as problem:  # other nodes make it themselves
                log.warning("the working copy of %s is not shared: %s", current.key, problem.detail or problem.title)
            else:
                self._far.fill(*self._entry(current, render.LARGEST, packed))

    def _keep_here(self, current: Original, copied: MezzaninePixels) -> None:
        self._remember(current, copied.original)
        for which, made in copied.pictures.items():
            self._near.fill(*self._entry(current, which, made.body))

    def _entry(self, current: Original, which: int, body: bytes) -> tuple[str, Rendition]:
        key = self._key(current, which)
        etag = hashlib.sha256(key.encode()).hexdigest()[:32]
        return key, Rendition(body, render.COPY_TYPE, etag, current.modified)

    # -- what is known of the original -------------------------------------------------

    def _judged(self, current: Original, original: Callable[[], BinaryIO], shared: Shared) -> MezzaninePlan | None:
        """What decides which variants come from a copy; None when the original has none.

        Asked of what is remembered, then of the smallest copy, then of the one that all nodes find, last of the
        original itself: by one for all, so that the others need not fetch it when copies come of it.
        """

        def read() -> tuple[MezzaninePlan | None]:
            restored = shared()
            if restored:
                return (restored.original,)
            return self._remember(current, render.judge_copies(original(), self._limits))

        found = self._known(current) or self._flight.do(
            _id(current) + "+judged", read, lambda: self._known(current), self._limits.wait
        )
        return found[0]

    def _known(self, current: Original) -> tuple[MezzaninePlan | None] | None:
        with self._lock:
            remembered = self._remembered.get(_id(current))
        if remembered:
            return remembered
        smallest = self._here(current, _SMALLEST)
        if smallest is None:
            return None
        with smallest:
            return self._remember(current, render.judge_copies(smallest, self._limits, from_copy=True))

    def _remember(self, current: Original, original: MezzaninePlan | None) -> tuple[MezzaninePlan | None]:
        with self._lock:
            self._remembered[_id(current)] = (original,)
        return (original,)

    # -- the copies ------------------------------------------------------------------

    def _made(self, current: Original, original: Callable[[], BinaryIO], shared: Shared) -> Mapping[int, bytes]:
        """All copies of an original, made once for all who wait."""

        def make() -> Mapping[int, bytes]:
            copied = shared()
            if copied is None:
                file = original()
                with self._limiter.slot(self._limits.wait, heavy=render.is_heavy(file, self._limits)):
                    copied = render.copies(file, self._limits)
                self.keep(current, copied)
            return {which: made.body for which, made in copied.pictures.items()}

        return self._flight.do(_id(current) + "+copies", make, lambda: self._all(current), self._limits.wait)

    def _restored(self, current: Original) -> MezzaninePixels | None:
        """All copies, from what another node has kept for all; None where there is nothing of it."""
        found = self._far.get(self._key(current, render.LARGEST))
        if found is None:
            return None
        try:
            with self._limiter.slot(self._limits.wait):
                copied = render.unpacked(found[0].body, self._limits)
        except (BrokenPicture, OverBudget):
            log.warning("the working copy of %s in the cache container cannot be read: it is made anew", current.key)
            return None
        self._keep_here(current, copied)
        return copied

    def _all(self, current: Original) -> Mapping[int, bytes] | None:
        """All copies, where another has just made them."""
        if not (self._known(current) or (None,))[0]:
            return None
        found = {}
        for which in _COPIES:
            copy = self._here(current, which)
            if copy is None:
                return None
            with copy:
                found[which] = copy.read()
        return found

    def _here(self, current: Original, which: int) -> BinaryIO | None:
        found = self._near.open(self._key(current, which))
        return found.file if found else None

    def _key(self, current: Original, which: int) -> str:
        return str(Key(current.name, current.version, _COPIES[which], self._generation))


def _id(current: Original) -> str:
    return prefix_of(current.name) + current.version

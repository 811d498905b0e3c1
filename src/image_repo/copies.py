"""Working copies: which variants come from one, where they are kept, and who makes them.

They are kept like renditions, under keys of their own, but not in memory: they are used,
never served. A copy that is missing is made once for all who want it, whatever variant they
are after, and always before the variant: never is a variant made from something else
because a cache happened to be empty.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Mapping
from typing import BinaryIO

from cachetools import LRUCache

from image_repo import render
from image_repo.caches import Caches
from image_repo.config import RenderConfiguration
from image_repo.flight import Gate, SingleFlight
from image_repo.names import Key, prefix_of
from image_repo.recipe import Recipe
from image_repo.render import Copied, Copyable
from image_repo.rendition import Rendition
from image_repo.versions import Current

#: of how many versions it is remembered which working copies they have
_MOST_REMEMBERED = 20_000
#: the working copies that there are, by the recipe under which each is kept; the smallest first
_COPIES: dict[int, Recipe] = {which: Recipe(copy=which) for which in render.COPIES}
_SMALLEST = next(iter(_COPIES))


class WorkingCopies:
    """The working copies of large originals.

    :param caches: where they are kept
    :param gate: what holds the number of renders; making copies is one
    """

    def __init__(self, caches: Caches, flight: SingleFlight, gate: Gate, limits: RenderConfiguration) -> None:
        self._caches = caches
        self._flight = flight
        self._gate = gate
        self._limits = limits
        self._generation = render.generation()
        self._lock = threading.Lock()
        self._remembered: LRUCache[str, tuple[Copyable | None]] = LRUCache(_MOST_REMEMBERED)

    def find(self, current: Current, recipe: Recipe, original: Callable[[], BinaryIO]) -> bytes | None:
        """The working copy that a variant is made from; None where it is made from the original.

        :param original: opens the original; called when nothing else tells
        :raises Problem: as :func:`image_repo.render.copies`
        """
        if not render.may_use_copy(recipe):
            return None
        which = render.choose_copy(recipe, self._judged(current, original))
        if not which:
            return None
        return self._cached(current, which) or self._made(current, original)[which]

    def keep(self, current: Current, copied: Copied) -> dict[int, bytes]:
        """Keeps what was made of an original, best effort; which copy → its bytes."""
        self._remember(current, copied.original)
        for which, made in copied.pictures.items():
            key = self._key(current, which)
            etag = hashlib.sha256(key.encode()).hexdigest()[:32]
            self._caches.fill(key, Rendition(made.body, made.media_type, etag, current.modified))
        return {which: made.body for which, made in copied.pictures.items()}

    # -- what is known of the original -------------------------------------------------

    def _judged(self, current: Current, original: Callable[[], BinaryIO]) -> Copyable | None:
        """What decides which variants come from a copy; None when the original has none.

        Asked of what is remembered, then of the smallest copy, last of the original itself:
        by one for all, so that the others need not fetch it when copies come of it.
        """

        def read() -> tuple[Copyable | None]:
            return self._remember(current, render.judge_copies(original(), self._limits))

        found = self._known(current) or self._flight.do(
            _id(current) + "+judged", read, lambda: self._known(current), self._limits.wait
        )
        return found[0]

    def _known(self, current: Current) -> tuple[Copyable | None] | None:
        with self._lock:
            remembered = self._remembered.get(_id(current))
        if remembered:
            return remembered
        smallest = self._cached(current, _SMALLEST)
        if smallest is None:
            return None
        return self._remember(current, render.judge_copies(io.BytesIO(smallest), self._limits, from_copy=True))

    def _remember(self, current: Current, original: Copyable | None) -> tuple[Copyable | None]:
        with self._lock:
            self._remembered[_id(current)] = (original,)
        return (original,)

    # -- the copies ------------------------------------------------------------------

    def _made(self, current: Current, original: Callable[[], BinaryIO]) -> Mapping[int, bytes]:
        """All copies of an original, made once for all who wait."""

        def make() -> Mapping[int, bytes]:
            file = original()
            with self._gate.slot(self._limits.wait, heavy=render.is_heavy(file, self._limits)):
                copied = render.copies(file, self._limits)
            return self.keep(current, copied)

        return self._flight.do(_id(current) + "+copies", make, lambda: self._all(current), self._limits.wait)

    def _all(self, current: Current) -> Mapping[int, bytes] | None:
        """All copies, where another has just made them."""
        original = (self._known(current) or (None,))[0]
        found = {which: self._cached(current, which) for which in original.scales} if original else {}
        there = {which: body for which, body in found.items() if body is not None}
        return there if there and len(there) == len(found) else None

    def _cached(self, current: Current, which: int) -> bytes | None:
        found = self._caches.get(self._key(current, which))
        return found[0].body if found else None

    def _key(self, current: Current, which: int) -> str:
        return str(Key(current.name, current.version, _COPIES[which], self._generation))


def _id(current: Current) -> str:
    return prefix_of(current.name) + current.version

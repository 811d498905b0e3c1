"""Decoded pixels: hundreds of regions of one large original cost one decode.

They lie in a bounded :class:`~image_repo.caches.file_cache.FileCache`, which the processes of a node share. The page
cache of the system does the rest. What is stored of an original is the renderer's affair. Each block is verified when a
region reads it: where one is damaged, the region is rendered from the original itself, with the same outcome, and the
next one stores the pixels anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from typing import BinaryIO

from cachetools import LRUCache

from image_repo import render
from image_repo.caches.entry_file import EntryReader
from image_repo.caches.file_cache import FileCache
from image_repo.concurrency.limiter import Limiter
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe

log = logging.getLogger(__name__)

#: size of the LRU of originals whose pixels are not stored
_MOST_REMEMBERED = 20_000


class DecodedCache:
    """The decoded pixels of large originals, for recipes that ask for a region.

    :param files: where they are stored; None stores nothing
    :param limiter: of renders; decoding is one
    """

    def __init__(
        self, files: FileCache | None, flight: SingleFlight, limiter: Limiter, limits: RenderConfiguration
    ) -> None:
        self._files = files
        self._flight = flight
        self._limiter = limiter
        self._limits = limits
        self._generation = render.generation(limits)
        self._lock = threading.Lock()
        self._not_stored: LRUCache[str, bool] = LRUCache(_MOST_REMEMBERED)

    def find(
        self, current: Original, recipe: Recipe, original: Callable[[], BinaryIO]
    ) -> Callable[[], render.Rendered] | None:
        """Return what renders a region out of stored pixels, which are decoded once for all requests.

        :param original: opens the original; called where pixels are not stored yet, or damaged
        :returns: to be called once; None where the region is to be rendered from the original, with the same outcome
        :raises Problem: as :func:`image_repo.render.pixels`
        """
        if self._files is None or not render.is_region(recipe):
            return None
        key = f"{prefix_of(current.name)}{current.version}+page({recipe.page})+g({self._generation}).pixels"
        pixels = self._open(key)
        if pixels is None and self._flight.do(
            key, lambda: self._store(key, recipe.page, original), lambda: self._known(key), self._limits.wait
        ):
            pixels = self._open(key)
        return None if pixels is None else lambda: self._cut(pixels, recipe, original)

    def purge(self, name: ImageName) -> None:
        """Remove the pixels of an image."""
        if self._files is not None:
            self._files.purge(prefix_of(name))

    def _cut(self, pixels: EntryReader, recipe: Recipe, original: Callable[[], BinaryIO]) -> render.Rendered:
        with closing(pixels):
            try:
                return render.cut(pixels, recipe, self._limits)
            except BrokenPicture:
                if not pixels.is_damaged:
                    raise
        return render.render(original(), recipe, self._limits)

    def _open(self, key: str) -> EntryReader | None:
        assert self._files is not None
        try:
            return None if key in self._not_stored else self._files.open(key)
        except OSError as error:
            log.warning("decoded pixels cannot be read: %s", error)
            return None

    def _known(self, key: str) -> bool | None:
        """Return whether the pixels are stored, where that is known."""
        with self._lock:
            if key in self._not_stored:
                return False
        pixels = self._open(key)
        if pixels is None:
            return None
        pixels.close()
        return True

    def _store(self, key: str, page: int, original: Callable[[], BinaryIO]) -> bool:
        """Decode and store the pixels; return whether they are stored."""
        assert self._files is not None
        pixels = render.pixels(original(), page, self._limits)
        if pixels is None or not self._files.fits(pixels.size, pixels.block):
            with self._lock:
                self._not_stored[key] = True
            return False
        # four bytes for each pixel, and a third more for the levels
        with self._limiter.slot(self._limits.wait, heavy=pixels.size > 5 * render.HEAVY):
            try:
                return self._files.create(key, pixels.facts, pixels.size, pixels.write, pixels.block)
            except OSError as error:
                log.warning("decoded pixels are not stored: %s", error)
                return False

"""Decoded pixels: hundreds of regions of one large original cost one decode.

They lie in a bounded :class:`~image_repo.caches.file_cache.FileCache`, which the processes of a node share. The page
cache of the system does the rest. What is stored of an original is the renderer's affair. Writing takes several times
as long as decoding, so the first regions are cut out of the decoded picture in memory, and the pixels are written
after that, by a thread of their own. Each block is verified when a region reads it: where one is damaged, the region is
rendered from the original itself, with the same outcome, and the next one stores the pixels anew.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial

from cachetools import LRUCache

from image_repo import render
from image_repo.caches.entry_file import EntryReader
from image_repo.caches.file_cache import FileCache
from image_repo.concurrency import deadline
from image_repo.concurrency.background import BackgroundWorker
from image_repo.concurrency.limiter import Limiter, Stage, aside
from image_repo.concurrency.single_flight import Flight, SingleFlight
from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture, Problem
from image_repo.model.key import prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.repository.spool import Spool

log = logging.getLogger(__name__)

#: size of the LRU of originals whose pixels are not stored
_MOST_REMEMBERED = 20_000
#: originals of a process that are decoded and written at a time; of huge ones the limiter admits one for the node
_AT_ONCE = 2
#: originals of a process that may wait for that; regions of others are rendered from the original meanwhile
_MOST_WAITING = 16
#: pixels of the full size that a region may cover to be cut from memory: 8 million take 0.1 s. Other regions than the
#: first wait for the smaller levels where they cover more.
_MOST_CUT_PIXELS = 8 << 20


class _Storing:
    """Pixels that are being decoded, then written.

    :ivar decoded: the pixels, once they are decoded; None where they were stored meanwhile, or are not to be stored
    :ivar ended: set when the work has come to its end
    """

    def __init__(self) -> None:
        self.decoded: Flight[render.Pixels | None] = Flight()
        self.ended: Flight[None] = Flight()
        self.is_purged = False

    def fail(self, error: BaseException) -> None:
        """Have all that wait for the decode raise an error."""
        if not self.decoded.done():
            self.decoded.set_exception(error)


class DecodedCache:
    """The decoded pixels of large originals, for recipes that ask for a region.

    :param files: where they are stored; None stores nothing
    :param flight: of all processes of the node, until the pixels are written
    :param limiter: of renders; decoding is one, and so is writing
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
        self._storing: dict[str, _Storing] = {}
        self._worker = BackgroundWorker("image_repo-pixels", _MOST_WAITING, _AT_ONCE)

    def find(
        self, current: Original, recipe: Recipe, original: Callable[[], Spool]
    ) -> Callable[[], render.Rendered] | None:
        """Return what renders a region out of decoded pixels, which are decoded once for all requests.

        :param original: opens the original; called where pixels are not stored yet, or damaged
        :returns: to be called once; None where the region is to be rendered from the original, with the same outcome
        :raises Problem: as :func:`image_repo.render.pixels`
        """
        if self._files is None or not render.is_region(recipe):
            return None
        key = f"{prefix_of(current.name)}{current.version}+page({recipe.page})+g({self._generation}).pixels"
        stored = self._open(key)
        if stored is None:
            pixels = self._decoded(key, recipe, original)
            if pixels is not None:
                return lambda: pixels.cut(recipe)
            stored = self._open(key)
        return None if stored is None else lambda: self._cut(stored, recipe, original)

    def purge(self, name: ImageName) -> None:
        """Remove the pixels of an image."""
        if self._files is not None:
            with self._lock:
                for key, storing in self._storing.items():
                    storing.is_purged |= key.startswith(prefix_of(name))
            self._files.purge(prefix_of(name))

    def flush(self) -> None:
        """Wait until all pixels are written."""
        self._worker.flush()

    def close(self) -> None:
        """Write what waits, and end what runs in the background."""
        self._worker.close()

    def _cut(self, stored: EntryReader, recipe: Recipe, original: Callable[[], Spool]) -> render.Rendered:
        with closing(stored):
            try:
                return render.cut(stored, recipe, self._limits)
            except BrokenPicture:
                if not stored.is_damaged:
                    raise
        return render.render(original().file, recipe, self._limits)

    # -- pixels that are not stored yet ------------------------------------------------

    def _decoded(self, key: str, recipe: Recipe, original: Callable[[], Spool]) -> render.Pixels | None:
        """Return decoded pixels in memory; None where they are stored by now, or not to be stored."""
        with self._lock:
            if key in self._not_stored:
                return None
            is_first = key not in self._storing
            storing = self._storing.setdefault(key, _Storing())
        if is_first and not self._begin(key, recipe.page, storing, original):
            return None
        end = deadline.until(self._limits.wait)
        with aside():
            pixels = storing.decoded.outcome(end)
            if pixels is None or is_first or pixels.cost(recipe) <= _MOST_CUT_PIXELS:
                return pixels
            storing.ended.outcome(end)
        return None

    def _begin(self, key: str, page: int, storing: _Storing, original: Callable[[], Spool]) -> bool:
        """Have pixels decoded and written in the background; return False where too many others wait for that."""
        spool = None
        try:
            spool = original().share()
            if self._worker.offer(partial(self._work, key, page, storing, spool)):
                return True
            spool.close()
        except BaseException as error:
            storing.fail(error)
            self._end(key, storing)
            raise
        storing.decoded.set_result(None)
        self._end(key, storing)
        return False

    def _work(self, key: str, page: int, storing: _Storing, spool: Spool) -> None:
        try:
            with spool:
                store = partial(self._store, key, page, storing, spool)
                self._flight.do(key, store, lambda: self._known(key), self._limits.wait)
        except BaseException as error:
            storing.fail(error)
            if not isinstance(error, Problem):
                raise
        finally:
            self._end(key, storing)

    def _end(self, key: str, storing: _Storing) -> None:
        with self._lock:
            del self._storing[key]
        if not storing.decoded.done():
            storing.decoded.set_result(None)
        storing.ended.set_result(None)

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

    def _store(self, key: str, page: int, storing: _Storing, spool: Spool) -> bool:
        """Decode and store the pixels; return whether they are stored."""
        assert self._files is not None
        pixels = render.pixels(spool.file, page, self._limits)
        if pixels is None or not self._files.fits(pixels.size, pixels.block):
            with self._lock:
                self._not_stored[key] = True
            return False
        # four bytes for each pixel, and a third more for the levels
        is_heavy = pixels.size > 5 * render.HEAVY
        wait = self._limits.wait
        with self._limiter.admit(Stage.HEAVY_RENDER, wait) if is_heavy else contextlib.nullcontext():
            with self._limiter.slot(wait):
                pixels.decode()
            storing.decoded.set_result(pixels)
            return self._write(key, storing, pixels)

    def _write(self, key: str, storing: _Storing, pixels: render.Pixels) -> bool:
        assert self._files is not None
        try:
            with self._limiter.slot(self._limits.wait):
                is_stored = self._files.create(key, pixels.facts, pixels.size, pixels.write, pixels.block)
        except (OSError, Problem) as error:
            log.warning("decoded pixels are not stored: %s", error)
            return False
        if storing.is_purged:
            self._files.delete(key)
        return is_stored

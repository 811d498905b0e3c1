"""Repo: the corridor that every request walks.

A read, a link, a zip and a record all go name → version → key → caches → one maker →
original → render. Writing goes the other way: the container first, then the version,
then the caches.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

from image_repo import render
from image_repo.caches.tiers import CachedFile, Caches, LinkTarget
from image_repo.catalogue.base import Index, Row
from image_repo.catalogue.indexer import Indexer, listed, tells_of
from image_repo.catalogue.outbox import Outbox
from image_repo.concurrency.invalidation import InvalidationEpochs
from image_repo.concurrency.limiter import Limiter, Stage
from image_repo.concurrency.single_flight import SingleFlight
from image_repo.config import RenderConfiguration
from image_repo.errors import (
    ImageNotFound,
    LinksNotConfigured,
    NameConflict,
    OriginalDamaged,
    PreconditionFailed,
    Problem,
    StoreUnavailable,
    TooLarge,
)
from image_repo.model.key import Key, prefix_of
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import Focus, Recipe, focus_of
from image_repo.model.record import Record, record_key
from image_repo.model.rendition import ImageInfo, Rendition, Served
from image_repo.observability import metrics
from image_repo.observability.metrics import Counters
from image_repo.render import Rendered
from image_repo.repository import bulk
from image_repo.repository.decoded_cache import DecodedCache
from image_repo.repository.metadata import (
    UNCONDITIONAL,
    Conditions,
    MetadataStore,
    check_data,
    describe,
    fitting,
    patched,
)
from image_repo.repository.mezzanines import Mezzanines
from image_repo.repository.resolver import Lease, Resolver, image_of, original_of, read_record
from image_repo.repository.spool import Spool
from image_repo.repository.ttl_cache import TtlCache
from image_repo.stores import tempurl
from image_repo.stores.base import Store
from image_repo.stores.tempurl import LinkBase

log = logging.getLogger(__name__)

_CONTENT_ADDRESS = re.compile("sha256:([0-9a-f]{64})")
#: how many names of one digest are tried
_MOST_ALIASES = 100
#: how often a request begins anew when its original is replaced under its hands
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Policy:
    """What the configuration decides about serving and writing.

    :param spool: folder of bytes on their way; the system's own where None
    :param most_upload: in bytes
    """

    spool: Path | None
    most_upload: int
    overwrite: bool
    serve_originals: bool
    url_lifetime: int
    url_lifetime_most: int
    url_lifetime_slack: int


@dataclass(frozen=True, slots=True)
class LinkTargetUrls:
    """Where temporary URLs of kept renditions point.

    :param base: of the store that serves them
    :param prefix: what stands before a key there
    """

    base: Callable[[], LinkBase]
    prefix: str


@dataclass(frozen=True, slots=True)
class Link:
    """A temporary URL.

    :param url: without scheme and authority where this program answers it itself
    :param expires: whole seconds since the epoch
    """

    name: ImageName
    url: str
    expires: int


class Closes(Protocol):
    """What has to be closed."""

    def close(self) -> None:
        """Ends it."""
        ...


def _digest_of(name: ImageName) -> str | None:
    """The SHA-256 that a content address names; None for any other name."""
    found = _CONTENT_ADDRESS.fullmatch(name.text)
    return found[1] if found else None


class OriginalChanged(Exception):
    """The original is no longer the version that was asked for."""


class Repo:
    """The repository: reading, writing, links and records.

    :param limiter: also bounds the requests that wait for a missing rendition, so that threads are left for hits
    """

    def __init__(
        self,
        origin: Store,
        versions: Resolver,
        records: MetadataStore,
        follower: Indexer,
        focus: TtlCache[Focus],
        caches: Caches,
        copies: Mezzanines,
        pixels: DecodedCache,
        keeper: LinkTarget | None,
        linker: LinkTargetUrls | None,
        flight: SingleFlight,
        limiter: Limiter,
        limits: RenderConfiguration,
        policy: Policy,
        counters: Counters,
    ) -> None:
        self.origin = origin
        self.policy = policy
        self.counters = counters
        self.limiter = limiter
        self.limits = limits
        self._versions = versions
        self._records = records
        self._follower = follower
        self._focus = focus
        self._caches = caches
        self._copies = copies
        self._pixels = pixels
        self._keeper = keeper
        self._linker = linker
        self._flight = flight
        self._generation = render.generation()
        self._closing: list[Closes] = []

    # -- reading ---------------------------------------------------------------------

    def current(self, readings: Iterable[ImageName]) -> Original:
        """What the first of these names that stands for anything stands for.

        A content address that is no name of its own stands for any image whose original is known to have the digest.

        :raises ImageNotFound: when the container has none of them
        """
        names = tuple(readings)
        sha256 = _digest_of(names[0])
        # What is remembered as absent is good enough only where something else is found.
        for name in names:
            found = self._versions.current(name, absence=len(names) > 1 or sha256 is not None)
            if found:
                return found
        found = self._with_digest(sha256) if sha256 else None
        if found is None and (len(names) > 1 or sha256):
            found = self._versions.current(names[0])
        if found:
            return found
        raise ImageNotFound(f"There is no image {names[0].text!r}.", name=names[0].text)

    def named(self, readings: Iterable[ImageName]) -> Original:
        """What the first of these names stands for that is an image's own: for those who change it.

        :raises ImageNotFound: when the container has none of them
        """
        names = tuple(readings)
        current = self.current(names)
        if current.name not in names:
            raise ImageNotFound(f"There is no image {names[0].text!r}.", name=names[0].text)
        return current

    def _with_digest(self, sha256: str) -> Original | None:
        """An image whose original has this digest, as the index knows and the container confirms."""
        try:
            index = self._follower.index
            names = index.named_by(sha256)[:_MOST_ALIASES]
            known = index.stamps(names)
        except Problem as problem:
            log.info("content addresses are not looked up: %s", problem.detail or problem.title)
            return None
        for text in names:
            found = self._versions.current(ImageName(text), absence=True)
            if found and tells_of(known.get(text), found):
                return found
        return None

    def key(self, current: Original, recipe: Recipe) -> Key:
        """Under which key the rendition is kept: everything that decides its bytes."""
        return Key(current.name, current.version, recipe, self._generation)

    def etag(self, current: Original, recipe: Recipe) -> str:
        """The entity tag of the rendition, known before it is made."""
        return self.etag_of(str(self.key(current, recipe)))

    @staticmethod
    def etag_of(key: str) -> str:
        """The entity tag of what is kept under a key."""
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    @property
    def marks(self) -> InvalidationEpochs:
        """Where it shows that a process of the node has written to a name."""
        return self._versions.marks

    def lease(self, current: Original, *, focused: bool = False) -> Lease | None:
        """How long this holds as what its name stands for, without anybody being asked.

        :param focused: whether the point of interest of its record had a say in the recipe
        :returns: None when it does not hold any more
        """
        lease = self._versions.lease(current)
        if lease and focused:
            return replace(lease, until=min(lease.until, self._focus.until(current.name)))
        return lease

    def in_memory(self) -> Callable[[str], Rendition | None] | None:
        """How the tier in memory is asked for a key, where there is one."""
        return self._caches.nearest("memory")

    def fetch(self, current: Original, recipe: Recipe) -> Served:
        """The rendition, from the nearest layer that has it, else made: once, whoever asks for it meanwhile.

        :raises Problem: as :mod:`image_repo.errors` says
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._fetch(current, recipe)
            except OriginalChanged:
                current = self._now(current.name)
        raise OriginalDamaged("The original does not stay the same while it is read.")

    def _fetch(self, current: Original, recipe: Recipe) -> Served:
        key = str(self.key(current, recipe))
        found = self._cached(key, current)
        if found:
            return found
        with self.limiter.admit(Stage.RENDITION):
            return self._flight.do(
                key,
                lambda: self._admit(key, current, recipe),
                lambda: self._cached(key, current),
                timeout=self.limits.wait,
            )

    def _admit(self, key: str, current: Original, recipe: Recipe) -> Served:
        """Makes it, unless as many others are being made as may: nothing is fetched before."""
        with self.limiter.admit(Stage.FETCH):
            return self._make(key, current, recipe)

    def _cached(self, key: str, current: Original) -> Served | None:
        began = time.perf_counter()
        found = self._caches.get(key)
        if found is None:
            return None
        rendition, layer = found
        self.counters.add(metrics.HITS, layer)
        return Served(rendition, layer, current.version, (("cache", time.perf_counter() - began),))

    def _make(self, key: str, current: Original, recipe: Recipe) -> Served:
        clock = [time.perf_counter()]
        with self._source(current, recipe) as (make, heavy):
            clock.append(time.perf_counter())
            with self.limiter.slot(self.limits.wait, heavy=heavy):
                clock.append(time.perf_counter())
                made = make()
                clock.append(time.perf_counter())
        rendition = Rendition(made.body, made.media_type, self.etag(current, recipe), current.modified)
        self._caches.fill(key, rendition)
        took = [(step, end - start) for step, (start, end) in zip(metrics.STEPS, pairwise(clock), strict=True)]
        self.counters.add(metrics.RENDERS)
        for step, seconds in took:
            self.counters.observe(metrics.SECONDS, step, seconds)
        return Served(rendition, "rendered", current.version, tuple(took))

    @contextmanager
    def _source(self, current: Original, recipe: Recipe) -> Iterator[tuple[Callable[[], Rendered], bool]]:
        """How a variant is made from what its recipe asks for: a working copy, decoded pixels, else the original.

        The original is fetched when it is needed, and once.

        :returns: what makes it, and whether that is heavy
        """
        with ExitStack() as opened:
            original = cache(lambda: opened.enter_context(self.source(current)).file)
            found = self._copies.find(current, recipe, original)
            copy = found and opened.enter_context(found)
            pixels = self._pixels.find(current, recipe, original) if copy is None else None
            if copy is not None:
                yield lambda: render.render(copy, recipe, self.limits, from_copy=True), False
            elif pixels is not None:
                yield lambda: render.cut(pixels, recipe, self.limits), False
            else:
                file = original()
                yield lambda: render.render(file, recipe, self.limits), render.is_heavy(file, self.limits)

    @contextmanager
    def source(self, current: Original) -> Iterator[Spool]:
        """The original's bytes, verified, in a temporary file.

        :raises Moved: when the container holds another version by now
        :raises OriginalDamaged: when they are not the bytes that were stored
        """
        body = self.origin.get(current.key)
        if body is None:
            raise OriginalChanged
        # Where the store has no digest of its own, the record has.
        ours = not self.origin.verifies or bool(body.entry.metadata.get("segmented"))
        with body, Spool(self.policy.spool, self.limits.max_source, hashed=ours) as spool:
            if body.entry.etag != current.version:
                raise OriginalChanged
            spool.fill(body)
            if ours:
                self._verify(current, spool)
            yield spool

    def _verify(self, current: Original, spool: Spool) -> None:
        record = read_record(self.origin, current.name)
        if record and record.version == current.version and record.sha256 != spool.sha256:
            log.error("the original %s is damaged: its SHA-256 is %s", current.key, spool.sha256)
            raise OriginalDamaged("The original is not what was stored.", name=current.name.text)

    def _now(self, name: ImageName) -> Original:
        found = self._versions.look(name)
        if found is None:
            raise ImageNotFound(f"There is no image {name.text!r}.", name=name.text)
        return found

    @contextmanager
    def original(self, current: Original) -> Iterator[tuple[Original, Spool]]:
        """The uploaded bytes as they are, and the version that they are; who may have them is decided at the door."""
        for attempt in range(_ATTEMPTS):
            try:
                with self.source(current) as spool:
                    yield current, spool
                    return
            except OriginalChanged:
                if attempt == _ATTEMPTS - 1:
                    raise OriginalDamaged("The original does not stay the same while it is read.") from None
                current = self._now(current.name)

    # -- records ---------------------------------------------------------------------

    def record(self, current: Original) -> Record:
        """What is known of an image: its record, or, where that is missing or of another version, made anew."""
        return self._records.told(self._records.of(current, self.original))

    def description(self, readings: Iterable[ImageName]) -> Record:
        """What is said of the first of these names that has no picture, but a description.

        :raises ImageNotFound: when none has
        """
        names = tuple(readings)
        for name in names:
            found = self._records.description(name)
            if found:
                return found
        raise ImageNotFound(f"There is no image {names[0].text!r}.", name=names[0].text)

    def meant(self, readings: Iterable[ImageName]) -> ImageName:
        """The first of these names that is a picture's, else that is a description's, else the first."""
        names = tuple(readings)
        try:
            return self.named(names).name
        except ImageNotFound:
            return next((name for name in names if self._records.description(name)), names[0])

    def say(self, name: ImageName, data: Any, conditions: Conditions) -> tuple[Record, bool]:
        """Replaces the user's data of an image; where there is none, it becomes a description.

        :returns: the record, and whether there was none
        :raises Problem: as :meth:`MetadataStore.change` says
        """
        return self._records.change(name, lambda _: data, conditions, self.original)

    def say_many(self, said: Mapping[ImageName, Any]) -> dict[ImageName, bulk.Said]:
        """The same for at most :data:`.bulk.MOST` images together: :func:`.bulk.say_many`."""
        return bulk.say_many(self.origin, self._versions, self._records, self._follower, said)

    def patch(self, name: ImageName, patch: Any, conditions: Conditions) -> Record:
        """Merges a patch into the user's data of an image (RFC 7396).

        :raises ImageNotFound: when there is neither a picture nor a description
        :raises Problem: as :meth:`MetadataStore.change` says
        """
        return self._records.change(name, patched(name, patch), conditions, self.original)[0]

    def focus(self, current: Original) -> Focus | None:
        """The point of interest that the user's data names, if it does; at most ``freshness`` old."""

        def ask() -> Focus | None:
            record = read_record(self.origin, current.name)
            return focus_of(record.data) if record else None

        return self._focus.get(current.name, ask)

    # -- many ------------------------------------------------------------------------

    def images(
        self, prefix: str = "", matches: Callable[[str], bool] | None = None, after: str = ""
    ) -> Iterator[Original]:
        """The images below a folder, from the container's listing, a page at a time.

        :param prefix: empty, or a folder with its ``/``
        :param matches: a test of the name's part behind the prefix
        :param after: only images whose original has a key behind this one
        """
        waiting: dict[str, Original] = {}
        for entry in self.origin.keys(prefix, after=after):
            name = image_of(entry.key, entry.media_type)
            # Originals of one name begin with it and a dot: they stand together but for what sorts in between.
            for text in [text for text in waiting if not entry.key.startswith(text + ".")]:
                yield waiting.pop(text)
            if name is None or (matches and not matches(name.text[len(prefix) :])):
                continue
            found = original_of(name, entry)
            before = waiting.get(name.text)
            if before is None or before.modified < found.modified:
                waiting[name.text] = found
        yield from waiting.values()

    # -- the catalogue ---------------------------------------------------------------

    @property
    def catalogue(self) -> Index:
        """The index over the records.

        :raises CatalogueDisabled: when the configuration has none
        :raises CatalogueUnavailable: when it has one, and there is no place for it
        """
        return self._follower.index

    @property
    def behind(self) -> Outbox:
        """Names that the index has still to be told of."""
        return self._follower.behind

    def row(self, name: ImageName) -> Row | None:
        """What the container tells of a name right now, as the index keeps it: :meth:`MetadataStore.row`."""
        return self._records.row(name)

    def told(self, record: Record) -> Record:
        """A record as clients may see it: with or without positions, as the configuration says."""
        return self._records.told(record)

    def follow(self, name: ImageName) -> str | None:
        """Makes the index tell what the container tells of a name right now: :meth:`MetadataStore.follow`."""
        return self._records.follow(name)

    def complete(self, name: ImageName) -> bool:
        """Reads an original of which the index has only what a listing tells: :meth:`MetadataStore.complete`."""
        return self._records.complete(name, self.original)

    # -- links -----------------------------------------------------------------------

    def link(self, current: Original, recipe: Recipe, lifetime: int | None, filename: str) -> Link:
        """A temporary URL at which the store itself serves these bytes, and the promise that it does.

        :param lifetime: seconds; the configuration's when None
        :raises LinksNotConfigured: when there is no key, or nowhere to keep what is linked
        """
        if self._keeper is None or self._linker is None:
            raise LinksNotConfigured("Temporary URLs need the cache container (swift_cache_configuration.enabled).")
        base = self._linker.base()
        policy = self.policy
        expires = tempurl.expiry(time.time(), lifetime or policy.url_lifetime, policy.url_lifetime_slack)
        key = str(self.key(current, recipe))
        if (self._keeper.kept_until(key) or 0.0) < expires:
            current = self._promise(self._keeper, current, recipe, float(expires))
            key = str(self.key(current, recipe))
        return Link(current.name, tempurl.temporary_url(base, self._linker.prefix + key, expires, filename), expires)

    def _promise(self, keeper: LinkTarget, current: Original, recipe: Recipe, until: float) -> Original:
        if not recipe.is_original:
            served = self.fetch(current, recipe)
            # What was made, not what is there by now: that may be yet another version.
            current = replace(current, version=served.version)
            keeper.keep(str(self.key(current, recipe)), served.rendition.body, served.rendition, until)
            return current
        with self.original(current) as (current, spool):
            facts = Rendition(b"", current.media_type, self.etag(current, recipe), current.modified)
            keeper.keep(str(self.key(current, recipe)), spool.file, facts, until)
        return current

    def kept(self, key: str, given: str, expires: str) -> CachedFile:
        """What a temporary URL that this program answers itself stands for.

        :param key: behind the base path, percent-decoded once
        :raises LinkRefused, LinkExpired: as the signature says
        """
        base = self.origin.link_base()
        tempurl.verify(self.origin.link_secrets(), base.path + key, given, expires, time.time())
        found = self._keeper.open(key) if self._keeper else None
        if found is None:
            raise ImageNotFound("What this URL stood for was deleted.")
        return found

    # -- writing ---------------------------------------------------------------------

    def held(self, name: ImageName) -> AbstractContextManager[None]:
        """Holds a name, so that nobody else on this node writes to it.

        :raises Busy: when others do for too long
        """
        return self._records.held(name)

    def spool(self) -> Spool:
        """Where an upload goes while it arrives."""
        return Spool(self.policy.spool, self.policy.most_upload)

    def put(
        self,
        name: ImageName | None,
        spool: Spool,
        *,
        conditions: Conditions = UNCONDITIONAL,
        filename: str | None = None,
        data: Any = None,
    ) -> tuple[Record, bool]:
        """Stores an original, whole or not at all.

        :param name: None to name it by its content
        :param data: the user's own; what was there stays where None
        :returns: its record, and whether there was none of this name before
        :raises PreconditionFailed: when a condition, or ``overwrite: false``, forbids it
        :raises NameConflict: when the name is a content address of other bytes
        """
        name = name or ImageName(f"sha256:{spool.sha256}")
        if data is not None:
            check_data(data)
        info, copied = self._accept(name, spool)
        with self._records.held(name):
            before = self._versions.look(name)
            stored = read_record(self.origin, name)
            self._check_conditions(before, stored, conditions)
            if before and stored and stored.version == before.version and name.text == f"sha256:{stored.sha256}":
                return self._same_again(stored, data), False
            key = f"{name.text}.{info.kind}"
            # What must not be there yet may have come since it was looked for: the store itself is asked to see to it.
            absent = conditions.absent or (before is None and not self.policy.overwrite)
            entry = self.origin.put(key, spool.file, media_type=info.media_type, overwrite=not absent)
            current = original_of(name, entry)
            self._versions.written(name, current)  # whatever fails from here on, the picture is there, and seen
            record = describe(current, info, spool.sha256, stored, uploaded=time.time(), filename=filename, data=data)
            self._records.write(record)
            self._versions.written(name, current)  # and so is what is said of it: the focus, for one
            self._keep_newest(name)
        self._pixels.purge(name)
        self._caches.purge(prefix_of(name), keep=("cache",))  # links that were given out go on
        self._copies.keep(current, copied)
        return self._records.told(record), before is None

    def _accept(self, name: ImageName, spool: Spool) -> tuple[ImageInfo, render.MezzaninePixels]:
        """Judges an upload: what it is, and its working copies, of which checking it gives the pixels anyway."""
        if name.text.startswith("sha256:") and name.text != f"sha256:{spool.sha256}":
            raise NameConflict("These bytes have another SHA-256 than the name says.", sha256=spool.sha256)
        if spool.size > self.limits.max_source:
            raise TooLarge(f"Pictures of at most {self.limits.max_source} bytes are taken.")
        info = render.inspect(spool.file, self.limits, location=True)
        with self.limiter.slot(self.limits.wait, heavy=info.width * info.height > render.HEAVY):
            copied = render.verify(spool.file, self.limits)
        spool.file.seek(0)
        return info, copied

    def _check_conditions(self, before: Original | None, stored: Record | None, conditions: Conditions) -> None:
        self._check_match(before, stored, conditions)
        if before and (conditions.absent or (not self.policy.overwrite and conditions.match is None)):
            raise PreconditionFailed(f"There is an image {before.name.text!r} already.", name=before.name.text)

    def _check_match(self, before: Original | None, stored: Record | None, conditions: Conditions) -> None:
        """``If-Match`` may name the version, the picture's entity tag or the record's."""
        known = self._records.tags(fitting(stored, before))
        if before:
            known |= {"*", before.version} | ({self.etag(before, conditions.shown)} if conditions.shown else set())
        if conditions.match is not None and known.isdisjoint(conditions.match):
            raise PreconditionFailed("If-Match names another version than the one that is stored.")
        if conditions.holds:
            told = fitting(stored, before)
            document = self._records.told(told).public() if told else listed(before, stored) if before else None
            if document is None or not conditions.holds(document):
                raise PreconditionFailed("The record is not what it was any more.")

    def _same_again(self, stored: Record, data: Any) -> Record:
        """The same bytes as before: nothing to store but what is said of them, beside what was said before."""
        if data is not None and data != {}:
            both = isinstance(stored.data, Mapping) and isinstance(data, Mapping)
            stored = replace(stored, data={**stored.data, **data} if both else data)
            check_data(stored.data)
            self._records.write(stored)
        return self._records.told(stored)

    def _keep_newest(self, name: ImageName) -> None:
        """Removes all originals of the name but the newest; ours may be the older, if another node has written too.

        What cannot be removed now is an older original beside the image: ``check`` tells of it.
        """
        try:
            originals = self._versions.originals(name)  # the newest first
            gone = [self.origin.delete(entry.key) for entry in originals if entry.modified < originals[0].modified]
            if gone:
                self._versions.written(name, self._versions.look(name))
                self._follower.noted(name)
        except StoreUnavailable as problem:
            log.warning("older originals of %s may still be there: %s", name, problem.detail)

    def delete(self, name: ImageName, conditions: Conditions = UNCONDITIONAL) -> dict[str, int]:
        """Removes an image: originals, record, and every rendition in every layer.

        :returns: how many went from each
        :raises ImageNotFound: when there was none
        :raises PreconditionFailed: when ``If-Match`` forbids it
        :raises StoreUnavailable: when something may be left; the same again removes it
        """
        with self._records.held(name):
            keys = {entry.key for entry in self._versions.originals(name)}
            found = self._versions.look(name)  # knows by the record what a listing that lags does not show
            record = read_record(self.origin, name)
            if found is None and record is None:
                raise ImageNotFound(f"There is no image {name.text!r}.", name=name.text)
            self._check_match(found, record, conditions)
            originals = sum(self.origin.delete(key) for key in sorted(keys | ({found.key} if found else set())))
            self._versions.written(name, None)
            renditions = self._forget(name)
            # It goes last: while it is there, a deletion that has failed can be repeated to its end.
            records = int(record is not None and self.origin.delete(record_key(name.text)))
            self._follower.removed(name.text)
        self._pixels.purge(name)
        return {"original": originals, "record": records, **renditions}

    def _forget(self, name: ImageName) -> dict[str, int]:
        """Removes the renditions of a deleted image; no link outlives it, so trouble with those is no secret."""
        gone = self._caches.purge(prefix_of(name), keep=("cache",))
        return {**gone, "cache": self._keeper.purge(prefix_of(name))} if self._keeper else gone

    def purge(self, name: ImageName) -> dict[str, int]:
        """Removes the renditions of an image from every layer; how many went from each."""
        self._pixels.purge(name)
        gone = self._caches.purge(prefix_of(name))
        self._versions.written(name, self._versions.look(name))
        return gone

    # -- the house -------------------------------------------------------------------

    def readiness(self) -> dict[str, str]:
        """Part → ``ok``, or what is wrong with it."""
        try:
            self.origin.check()
        except StoreUnavailable as problem:
            return {"store": problem.detail or problem.title}
        return {"store": "ok"}

    def closes(self, part: Closes) -> None:
        """Has a part that works with this closed with it."""
        self._closing.append(part)

    def close(self) -> None:
        """Ends what runs in the background, and gives connections back."""
        for part in self._closing:
            part.close()
        self._versions.close()
        self._caches.close()
        self._follower.close()
        self.origin.close()
        self.counters.close()

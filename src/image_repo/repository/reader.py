"""Reading: resolve, authorise, make the key, fetch; records and listings. Every way in goes through the reader."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import quote

from image_repo.access.control import AccessControl, Action, Grant, image_not_found
from image_repo.access.principal import Principal
from image_repo.catalogue.indexer import Indexer, tells_of
from image_repo.catalogue.query import Condition, Filter, Query
from image_repo.errors import Problem
from image_repo.model import first_names
from image_repo.model.names import ImageName
from image_repo.model.operations import ORIGINAL, Focus, focus_of
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.model.record import Record
from image_repo.model.rendition import Rendition, Served
from image_repo.repository.metadata import MetadataStore, fitting
from image_repo.repository.originals import Originals
from image_repo.repository.renditions import Renditions, etag_of
from image_repo.repository.resolver import Lease, Resolver, image_of, original_of, read_record
from image_repo.repository.spool import Spool
from image_repo.repository.ttl_cache import TtlCache
from image_repo.stores.base import Entry, Store

log = logging.getLogger(__name__)

_CONTENT_ADDRESS = re.compile("sha256:([0-9a-f]{64})")
#: names of one digest that are tried
_MAX_ALIASES = 100


@dataclass(frozen=True, slots=True)
class Variant:
    """A rendition that a principal may have: its key and entity tag, known before it is made."""

    original: Original
    recipe: Recipe
    key: str
    grant: Grant

    @property
    def etag(self) -> str:
        """The entity tag, without quotes."""
        return etag_of(self.key)


class Reader:
    """Reads images on behalf of a principal, whose names it takes: those in the container are in each
    :class:`Original`.

    :param focus: the points of interest that the records name
    :raises Unauthenticated, Forbidden, ImageNotFound: from every method with a principal that may not
    """

    def __init__(
        self,
        access: AccessControl,
        origin: Store,
        resolver: Resolver,
        metadata: MetadataStore,
        indexer: Indexer,
        originals: Originals,
        renditions: Renditions,
        focus: TtlCache[Focus],
    ) -> None:
        self._access = access
        self._origin = origin
        self._resolver = resolver
        self._metadata = metadata
        self._indexer = indexer
        self._originals = originals
        self._renditions = renditions
        self._focus = focus

    # -- names -----------------------------------------------------------------------

    def resolve(self, principal: Principal, readings: Iterable[ImageName], *, aliases: bool = True) -> Original:
        """Return the original of the first of these names that has one.

        :param readings: of one path, the likeliest first
        :param aliases: whether a content address without an image of its own stands for any image that the principal
            may see and whose original is known to have the digest
        :raises ImageNotFound: when the container has none of them
        """
        requested = tuple(readings)
        original = self._resolve(principal, requested, aliases=aliases)
        if original is None:
            self._authorise(principal, principal.qualify(requested[0]), requested[0])
            raise image_not_found(requested[0].text)
        self._authorise(principal, original.name, requested[0])
        return original

    def _authorise(self, principal: Principal, name: ImageName, requested: ImageName | None = None) -> Grant:
        """Return the grant for reading an image.

        :param name: in the container
        :param requested: the caller's name for what was looked for
        """
        text = requested.text if requested else principal.relative(name.text)
        return self._access.authorise(principal, Action.READ, name.text, lambda _: image_not_found(text))

    def resolve_name(self, principal: Principal, readings: Iterable[ImageName]) -> ImageName:
        """Return the first of these names that is a picture's, else that is a description's, else the first.

        For writers, which are authorised when they write.
        """
        requested = tuple(readings)
        names = [principal.qualify(name) for name in requested]
        for is_there in (lambda name: self._resolver.resolve(name, absence=True), self._metadata.description):
            for name, reading in zip(names, requested, strict=True):
                if is_there(name):
                    return reading
        return requested[0]

    def _resolve(self, principal: Principal, requested: tuple[ImageName, ...], *, aliases: bool) -> Original | None:
        match = _CONTENT_ADDRESS.fullmatch(requested[0].text)
        # A remembered absence is good enough only where something else may be found.
        is_only = len(requested) == 1 and not match
        for name in requested:
            original = self._resolver.resolve(principal.qualify(name), absence=not is_only)
            if original:
                return original
        original = self._with_digest(match[1], principal) if match and aliases else None
        return original or (None if is_only else self._resolver.resolve(principal.qualify(requested[0])))

    def _with_digest(self, sha256: str, principal: Principal) -> Original | None:
        """Return an image whose original has this digest, as the index knows and the container confirms."""
        try:
            visible = self._access.authorise(principal, Action.LIST, "").visible
            index = self._indexer.index
            has_digest = Filter((Condition(("sha256",), "eq", (sha256,)),))
            page = index.page(Query(has_digest & visible, select=(("name",),), limit=_MAX_ALIASES))
            names = [str(document["name"]) for document in page.documents]
            stamps = index.stamps(names)
        except Problem as problem:
            log.info("content addresses are not looked up: %s", problem)
            return None
        for text in names:
            if self._access.allows(principal, Action.READ, text):
                original = self._resolver.resolve(ImageName(text), absence=True)
                if original and tells_of(stamps.get(text), original):
                    return original
        return None

    def lease(self, original: Original, *, focused: bool = False) -> Lease | None:
        """Return until when a resolution may be used without revalidation.

        :param focused: whether the point of interest of its record had a say in the recipe
        :returns: None when it does not hold any more
        """
        lease = self._resolver.lease(original)
        if lease and focused:
            return replace(lease, until=min(lease.until, self._focus.until(original.name)))
        return lease

    # -- pictures --------------------------------------------------------------------

    def variant(self, principal: Principal, original: Original, recipe: Recipe) -> Variant:
        """Return the variant that a recipe makes of an original: authorised, limited, with its key and entity tag."""
        grant = self._authorise(principal, original.name)
        if grant.limits is not None:
            recipe = grant.limits.limit(recipe)
        return Variant(original, recipe, self._renditions.key(original, recipe), grant)

    def fetch(self, variant: Variant) -> Served:
        """Return the rendition, from the nearest layer that has it, else rendered once for all who wait.

        :returns: of a newer version where the original is replaced meanwhile
        :raises Problem: as :mod:`image_repo.errors` says
        """
        return self._renditions.fetch(variant.original, variant.recipe)

    def is_cached(self, variant: Variant) -> bool:
        """Return whether a cache has the rendition, so that it need not be rendered."""
        return self._renditions.caches.contains(variant.key)

    def in_memory(self) -> Callable[[str], Rendition | None] | None:
        """Return the look-up of keys in the memory tier; None where there is no such tier."""
        return self._renditions.caches.nearest("memory")

    @contextmanager
    def original(self, principal: Principal, original: Original) -> Iterator[tuple[Original, Spool]]:
        """Yield the uploaded bytes as they are, and the version that they are.

        Whether originals are served at all (``serve_originals``) is decided where the recipe is settled.
        """
        grant = self._authorise(principal, original.name)
        if grant.limits is not None:
            grant.limits.limit(Recipe(kind=ORIGINAL))
        with self._originals.open(original) as opened:
            yield opened

    def focus(self, original: Original) -> Focus | None:
        """Return the point of interest that the user's data names, if it does; at most ``freshness`` old."""

        def read() -> Focus | None:
            record = read_record(self._origin, original.name)
            if record and record.intent and fitting(record, original) is None:
                record = self._metadata.read(original)  # its upload has not ended
            return focus_of(record.data) if record else None

        return self._focus.get(original.name, read)

    # -- records and lists -----------------------------------------------------------

    def record(self, principal: Principal, original: Original) -> Record:
        """Return the record of an image; where it is missing or of another version, it is made anew."""
        self._authorise(principal, original.name)
        return principal.view(self._metadata.redact(self._metadata.read(original)))

    def hash_near(self, principal: Principal, text: str, charge: Callable[[], object] = lambda: None) -> str:
        """Return the condition of near duplicates by the hash of an image: ``HASH`` or ``HASH,BITS``.

        :param text: ``NAME`` or ``NAME,BITS``
        :param charge: called before the image is decoded, where it has no hash yet
        :raises ImageNotFound: when there is no such image
        :raises Problem: when it has no hash yet, and cannot be decoded for one
        """
        name, comma, bits = text.rpartition(",")
        if not comma or not bits.isdecimal():
            name, comma, bits = text, "", ""
        original = self.resolve(principal, ImageName.readings(name))
        self._authorise(principal, original.name)
        return f"{self._metadata.read_summarised(original, charge).dhash}{comma}{bits}"

    def description(self, principal: Principal, readings: Iterable[ImageName]) -> Record:
        """Return the record of the first of these names that has no picture, but a description.

        :raises ImageNotFound: when none has
        """
        requested = tuple(readings)
        for reading in requested:
            record = self._metadata.description(principal.qualify(reading))
            if record:
                self._authorise(principal, ImageName(record.name), requested[0])
                return principal.view(record)
        self._authorise(principal, principal.qualify(requested[0]), requested[0])
        raise image_not_found(requested[0].text)

    def is_indexed(self, principal: Principal, readings: Iterable[ImageName]) -> bool:
        """Return whether the index has one of these names; access is not decided here.

        :raises CatalogueDisabled, CatalogueUnavailable, QueryTooSlow: when it cannot tell
        """
        return bool(self._indexer.index.stamps([principal.qualify(name).text for name in readings]))

    def images(
        self,
        principal: Principal,
        prefix: str = "",
        matches: Callable[[str], bool] | None = None,
        after: str = "",
    ) -> Iterator[Original]:
        """Yield the images below a folder that the principal may see, from the container's listing, a page at a time.

        :param prefix: empty, or a folder with its ``/``
        :param matches: a test of the name's part behind the prefix
        :param after: only images whose original has a key behind this one, in the container
        """
        prefix = principal.namespace + prefix
        self._access.authorise(principal, Action.LIST, prefix)
        listed: dict[str, Original] = {}
        for entry in self._keys(prefix, after):
            name = image_of(entry.key, entry.media_type)
            # Originals of one name begin with it, and a dot or plus: they stand together but for what sorts in between.
            for text in [text for text in listed if not text <= entry.key < text + "/"]:
                yield listed.pop(text)
            # Keys of the first image_repo begin with the quoted folder, as those of another folder may.
            if name is None or not name.text.startswith(prefix) or (matches and not matches(name.text[len(prefix) :])):
                continue
            if not self._access.allows(principal, Action.READ, name.text):
                continue
            original = original_of(name, entry)
            before = listed.get(name.text)
            if before is None or before.modified < original.modified:
                listed[name.text] = original
        yield from listed.values()

    def _keys(self, prefix: str, after: str) -> Iterator[Entry]:
        yield from self._origin.keys(prefix, after=after)
        if not first_names.is_quoted_the_same(prefix):
            yield from self._origin.keys(quote(prefix), after=after)

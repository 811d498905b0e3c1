"""Temporary URLs: signed links at which a rendition is served until they expire."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from image_repo.access.control import AccessControl, Action, image_not_found
from image_repo.access.principal import Principal
from image_repo.caches.tiers import CachedFile, LinkTarget
from image_repo.errors import ImageNotFound, LinksNotConfigured
from image_repo.model.names import ImageName
from image_repo.model.original import Original
from image_repo.model.recipe import Recipe
from image_repo.model.rendition import Rendition
from image_repo.repository.policy import Policy
from image_repo.repository.reader import Reader, Variant
from image_repo.stores import tempurl
from image_repo.stores.base import Store


@dataclass(frozen=True, slots=True)
class Link:
    """A temporary URL.

    :param name: as its maker calls the image
    :param url: without scheme and authority where this program answers it itself
    :param expires: whole seconds since the epoch
    """

    name: ImageName
    url: str
    expires: int


class Links:
    """Make temporary URLs, and answer those that the store itself does not serve.

    :param target: the tier of linked renditions; None where there is none
    :param store: signs and verifies the URLs of what is in the target
    :param prefix: of the target's keys in the store
    """

    def __init__(
        self,
        access: AccessControl,
        reader: Reader,
        target: LinkTarget | None,
        store: Store,
        prefix: str,
        policy: Policy,
    ) -> None:
        self._access = access
        self._reader = reader
        self._target = target
        self._store = store
        self._prefix = prefix
        self._policy = policy

    def create(
        self,
        principal: Principal,
        original: Original,
        recipe: Recipe,
        lifetime: int | None,
        filename: str,
        ends: int | None = None,
    ) -> Link:
        """Return a temporary URL, once what it points to is kept for as long.

        :param lifetime: seconds; the configuration's when None
        :param ends: seconds since the epoch when it ends at the latest; None for no such time
        :raises LinksNotConfigured: when there is no key, or nowhere to keep what is linked
        :raises Unauthenticated, Forbidden, ImageNotFound: when the principal may not
        """
        name = ImageName(principal.relative(original.name.text))
        self._access.authorise(principal, Action.LINK, original.name.text, lambda _: image_not_found(name.text))
        variant = self._reader.variant(principal, original, recipe)
        if self._target is None:
            raise LinksNotConfigured("Temporary URLs need the cache container (swift_cache_configuration.enabled).")
        policy = self._policy
        expires = tempurl.expiry(time.time(), lifetime or policy.url_lifetime, policy.url_lifetime_slack)
        expires = expires if ends is None else min(expires, ends)
        if (self._target.pinned_until(variant.key) or 0.0) < expires:
            variant = self._keep(self._target, principal, variant, float(expires))
        url = self._store.presign(self._prefix + variant.key, expires, filename)
        return Link(name, url, expires)

    def _keep(self, target: LinkTarget, principal: Principal, variant: Variant, until: float) -> Variant:
        """Keep the bytes for the link; return the variant that they are, of a newer version perhaps."""
        recipe = variant.recipe
        if not recipe.is_original:
            served = self._reader.fetch(variant)
            current = self._reader.variant(principal, replace(variant.original, version=served.version), recipe)
            target.pin(current.key, served.rendition.body, served.rendition, until)
            return current
        with self._reader.original(principal, variant.original) as (original, spool):
            current = self._reader.variant(principal, original, recipe)
            facts = Rendition(b"", original.media_type, current.etag, original.modified)
            target.pin(current.key, spool.file, facts, until)
        return current

    def open(self, key: str, signature: str, expires: str) -> CachedFile:
        """Open what a temporary URL points to, where this program answers it itself. The signature is the permission.

        :param key: behind the base path, percent-decoded once
        :raises LinkRefused, LinkExpired: as the signature says
        :raises ImageNotFound: when it was deleted meanwhile
        """
        self._store.verify_presigned(self._prefix + key, signature, expires)
        file = self._target.open(key) if self._target else None
        if file is None:
            raise ImageNotFound("What this URL stood for was deleted.")
        return file

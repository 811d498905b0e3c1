"""Share links: signed URLs of this server; anybody may read an image, a folder or what a query matches until a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress

from image_repo.access.principal import Principal, of_owner
from image_repo.errors import BadName, LinkExpired, LinkRefused, LinksNotConfigured
from image_repo.model.names import ImageName, parse_prefix
from image_repo.model.namespaces import namespace_of, owner_in

_TOKEN = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{43})")


class ShareLinks:
    """Signs and verifies share links.

    :param secrets: the first one signs, all are accepted, so that one can be changed
    """

    def __init__(self, secrets: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._clock = clock

    def sign(self, target: str, lifetime: int, owner: str | None = None) -> tuple[str, int]:
        """Return the value of ``share`` for a name or a folder with its ``/``, and when it ends.

        :param target: in the container
        :param lifetime: in seconds
        :param owner: whose images alone it is for, in the namespace of this user; None for any
        :raises LinksNotConfigured: without a secret
        """
        expires = int(self._clock()) + lifetime
        return self.sign_until(target, expires, owner), expires

    def sign_until(self, target: str, expires: int, owner: str | None = None) -> str:
        """Return the value of ``share`` for a name or a folder with its ``/``.

        :param expires: in seconds since the epoch
        :raises LinksNotConfigured: without a secret
        """
        return self._token("share", target, expires, owner)

    def sign_query(self, query: str, lifetime: int, owner: str | None = None) -> tuple[str, int]:
        """Return the value of ``share`` for a query, and when it ends.

        :param query: as :func:`.shared_queries.signed_text` writes it
        :param lifetime: in seconds
        :param owner: of whose images alone it is, under the names of this user; None for any
        :raises LinksNotConfigured: without a secret
        """
        expires = int(self._clock()) + lifetime
        return self._token("share-query", query, expires, owner), expires

    def _token(self, purpose: str, target: str, expires: int, owner: str | None) -> str:
        if not self._secrets:
            raise LinksNotConfigured("Share links need access.secret in the configuration.")
        return f"{expires}.{_signature(self._secrets[0], purpose, target, expires, owner)}"

    def principal(self, path: str, token: str) -> Principal:
        """Return who may read what a link is for.

        :param path: of the request, behind the base path: what the link is for, or an image below that
        :raises LinkRefused: when the link is not for this path
        :raises LinkExpired: after its time
        """
        candidates = ((target, owner) for target in _targets(path) for owner in (None, *_owners(target)))
        target, owner = self._verify("share", candidates, token)
        return Principal("share link", shared=target, owner=owner)

    def query_principal(self, query: str, token: str, owners: Iterable[str] = ()) -> Principal | None:
        """Return who may list what a query matches; None for a value that is no link.

        It may list everything: the request for which it is returned asks for what the query matches, and nothing else.

        :param query: of the request, as :func:`.shared_queries.signed_text` writes it
        :param owners: of whose images alone it may be
        :raises LinkRefused: when the link is not for this query
        :raises LinkExpired: after its time
        """
        if not _TOKEN.fullmatch(token):
            return None
        _, owner = self._verify("share-query", ((query, owner) for owner in (None, *owners)), token)
        by_link = Principal("share link", shared="")
        return by_link if owner is None else of_owner(by_link, owner)

    def _verify(self, purpose: str, candidates: Iterable[tuple[str, str | None]], token: str) -> tuple[str, str | None]:
        """Return which of some targets, each of an owner or of any, a link is for."""
        match = _TOKEN.fullmatch(token)
        for target, owner in candidates if match else ():
            if match and self._is_signed(purpose, target, owner, match):
                break
        else:
            raise LinkRefused("This share link is not valid for this path.")
        if self._clock() >= int(match[1]):
            raise LinkExpired("This share link has expired.")
        return target, owner

    def _is_signed(self, purpose: str, target: str, owner: str | None, match: re.Match[str]) -> bool:
        return any(
            hmac.compare_digest(_signature(secret, purpose, target, int(match[1]), owner), match[2])
            for secret in self._secrets
        )


def _targets(path: str) -> Iterator[str]:
    """Yield what a link for a path may be for: the image or folder itself, and the folders above it."""
    try:
        texts: Iterable[str]
        if not path or path.endswith("/"):
            texts = (parse_prefix(path),)
        else:
            texts = [name.text for name in ImageName.readings(path)]
    except BadName:  # the application answers with it
        return
    yield from texts
    folder = next(iter(texts)).rstrip("/")
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder and folder + "/"


def _owners(target: str) -> Iterator[str]:
    """Yield the user whose images alone a link for a target may be for."""
    owner = owner_in(target)
    with suppress(BadName):
        if owner and target.startswith(namespace_of(owner)):
            yield owner


def _signature(secret: bytes, purpose: str, target: str, expires: int, owner: str | None) -> str:
    of_owner = "" if owner is None else f"\nof {owner}"  # a name has no line breaks
    digest = hmac.digest(secret, f"{purpose}\n{expires}\n{target}{of_owner}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")

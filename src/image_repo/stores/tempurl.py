"""Temporary URLs: sign and verify, in Swift's scheme. The clock is an argument.

The signature is the HMAC of ``METHOD\\nEXPIRES\\nPATH`` with the container's key, in
hexadecimal (OpenStack Swift, middleware ``tempurl``). One object, ``GET`` only;
a signature for ``GET`` is good for ``HEAD``.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from secrets import token_urlsafe
from urllib.parse import quote, urlencode

from image_repo.errors import LinkExpired, LinkRefused

#: digests of signatures, best first
DIGESTS = ("sha256", "sha512", "sha1")


@dataclass(frozen=True, slots=True)
class LinkBase:
    """The parts of the temporary URLs of a store.

    :param endpoint: scheme and authority, ``https://swift.example.org``; empty where the
        store is served by this program, under whichever host it was asked by
    :param path: what stands before the key in the signed path, with a ``/`` at its end
    :param secret: the key to sign with; never logged
    :param digest: ``sha1``, ``sha256`` or ``sha512``: the best that the store verifies
    """

    endpoint: str
    path: str
    secret: str = field(repr=False)
    digest: str = "sha256"


def new_link_key() -> str:
    """Return a key to sign temporary URLs with that nobody can guess."""
    return token_urlsafe(32)


def expiry(now: float, lifetime: int, slack: int) -> int:
    """Return when a link made now expires, rounded up so that the same request gives the same URL.

    :param lifetime: seconds for which the link must hold at least
    :param slack: the most by which it may hold longer; the lifetime itself where that is less
    :returns: whole seconds since the epoch
    """
    step = max(1, min(slack, lifetime))
    return math.ceil((now + lifetime) / step) * step


def signature(secret: str, digest: str, path: str, expires: int, method: str = "GET") -> str:
    """Return the signature of one path, in hexadecimal."""
    message = f"{method}\n{expires}\n{path}".encode()
    return hmac.new(secret.encode(), message, getattr(hashlib, digest)).hexdigest()


def temporary_url(base: LinkBase, key: str, expires: int, filename: str) -> str:
    """Return the URL at which one object is served until it expires.

    :param filename: what a browser calls the file; it shows it all the same (``inline``)
    """
    path = base.path + key
    query = {
        "temp_url_sig": signature(base.secret, base.digest, path, expires),
        "temp_url_expires": expires,
        "filename": filename,
    }
    return f"{base.endpoint}{quote(path)}?{urlencode(query, quote_via=quote, safe='')}&inline"


def verify(
    secrets: Iterable[str], path: str, given: str, expires: str, now: float, *, digests: Iterable[str] = DIGESTS[:2]
) -> None:
    """Accept a temporary URL of our own, or raise.

    :param path: the path that was signed, percent-decoded once
    :param given: the signature as it came
    :param expires: the expiry as it came
    :raises LinkRefused: when no key gives this signature
    :raises LinkExpired: when it was valid once
    """
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        raise LinkRefused("Expected temp_url_expires to be seconds since the epoch.")
    signatures = [signature(secret, digest, path, int(expires)) for secret in secrets for digest in digests]
    matches = [hmac.compare_digest(candidate.encode(), given.encode("utf-8", "replace")) for candidate in signatures]
    if not any(matches):
        raise LinkRefused("The signature does not fit this path and expiry.")
    if now >= int(expires):
        raise LinkExpired("Ask for a new one.")

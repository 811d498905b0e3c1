"""Signed cookies: members that the server gives to a browser and takes back unchanged, until a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_COOKIE = re.compile(r"([A-Za-z0-9_-]{1,3000})\.([A-Za-z0-9_-]{43})")


class CookieSigner:
    """Signs and verifies the cookies of one purpose: HMAC-SHA256 over their JSON members.

    :param secrets: the first one signs, all are accepted, so that one can be changed
    :param purpose: a cookie of another one is not accepted
    :param lifetime: in seconds
    """

    def __init__(
        self, secrets: Sequence[str], purpose: str, lifetime: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.lifetime = lifetime
        self._secrets = [secret.encode() for secret in secrets]
        self._purpose = purpose
        self._clock = clock

    def sign(self, members: Mapping[str, Any]) -> str:
        """Return the value of a cookie."""
        payload = _encode(json.dumps({**members, "expires": int(self._clock()) + self.lifetime}).encode())
        return f"{payload}.{self._signature(self._secrets[0], payload)}"

    def read(self, value: str | None) -> dict[str, Any] | None:
        """Return the members of a cookie with ``expires`` in seconds since the epoch; None where it is not accepted."""
        match = _COOKIE.fullmatch(value or "")
        if match is None or not any(self._is_signed(secret, match) for secret in self._secrets):
            return None
        members: dict[str, Any] = json.loads(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))
        return members if self._clock() < members["expires"] else None

    def _is_signed(self, secret: bytes, match: re.Match[str]) -> bool:
        return hmac.compare_digest(self._signature(secret, match[1]), match[2])

    def _signature(self, secret: bytes, payload: str) -> str:
        return _encode(hmac.digest(secret, f"{self._purpose}\n{payload}".encode(), hashlib.sha256))


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")

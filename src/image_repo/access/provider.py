"""The signing keys of an OpenID provider: its discovery document and its JSON Web Key Set (RFC 7517)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from image_repo.concurrency.locks import try_lock
from image_repo.errors import ProviderUnavailable
from image_repo.stores.no_redirect import NoRedirect

log = logging.getLogger(__name__)

#: one key as the provider publishes it
Jwk = Mapping[str, Any]
#: key id → key; a key without an id stands under the empty text
Keys = Mapping[str, Jwk]

#: seconds after which keys are fetched again
LIFETIME_S = 300.0
#: seconds between two fetches of all processes of a node: at most 4 a minute
COOLDOWN_S = 16.0
#: seconds for discovery and keys together
FETCH_TIMEOUT_S = 4.0
#: seconds to wait for a fetch of another thread
_WAIT_S = 4.5
_MAX_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_KEY_TYPES = frozenset(("RSA", "EC", "OKP"))


_opener = urllib.request.build_opener(NoRedirect)


def fetch_json(url: str, end: float) -> Any:
    """Return a JSON document.

    :param url: with ``http`` or ``https``
    :param end: until when to wait, in monotonic seconds
    :raises OSError, ValueError: when it cannot be had in time
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is no address of a web server")
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310, checked above
    parts, size = [], 0
    with _opener.open(request, timeout=max(0.1, end - time.monotonic())) as response:
        while chunk := response.read1(_CHUNK_BYTES):
            parts.append(chunk)
            size += len(chunk)
            if size > _MAX_BYTES:
                raise ValueError(f"{url} sends more than {_MAX_BYTES} bytes")
            if time.monotonic() > end:
                raise TimeoutError(f"{url} sends too slowly")
    return json.loads(b"".join(parts))


def fetch_keys(issuer: str | None, jwks_uri: str | None) -> Keys:
    """Return the keys of a provider, as its discovery document names them where no address is given.

    :raises OSError, ValueError: when they cannot be had
    """
    end = time.monotonic() + FETCH_TIMEOUT_S
    if jwks_uri is None:
        jwks_uri = str(discover(f"{issuer}", end).get("jwks_uri"))
    return read_keys(fetch_json(jwks_uri, end))


def discover(issuer: str, end: float) -> Mapping[str, Any]:
    """Return the discovery document of a provider (OpenID Connect Discovery 1.0, section 4).

    :param end: until when to wait, in monotonic seconds
    :raises OSError, ValueError: when it cannot be had
    """
    document = fetch_json(issuer.rstrip("/") + "/.well-known/openid-configuration", end)
    if not isinstance(document, dict) or document.get("issuer") != issuer:
        raise ValueError("the discovery document is of another issuer")
    return document


def read_keys(document: Any) -> Keys:
    """Return the signing keys of a key set by their id.

    :raises ValueError: when there is none
    """
    keys = document.get("keys") if isinstance(document, dict) else None
    usable = [key for key in keys if _is_signing_key(key)] if isinstance(keys, list) else []
    if not usable:
        raise ValueError("the key set has no key for signatures")
    return {str(key.get("kid", "")): key for key in usable}


def _is_signing_key(key: Any) -> bool:
    return isinstance(key, dict) and key.get("kty") in _KEY_TYPES and key.get("use", "sig") == "sig"


@dataclass(frozen=True, slots=True)
class _State:
    """What a node knows of a provider.

    :param attempted: when a fetch began last, in seconds since the epoch
    :param fetched: when one succeeded last
    """

    keys: Keys
    attempted: float = 0.0
    fetched: float = 0.0

    @property
    def has_failed(self) -> bool:
        """Whether the last fetch failed, or is not over."""
        return self.attempted > self.fetched


class ProviderKeys:
    """The keys of a provider, fetched when needed and kept while it cannot be reached.

    The processes of a node share keys and cooldown through a file. So unknown key ids cost the provider few fetches,
    and a rotated key is known everywhere within the cooldown.

    :param fetch: returns the keys, or raises OSError or ValueError
    :param file: that the processes share; None for this process alone
    """

    def __init__(
        self,
        fetch: Callable[[], Keys],
        file: Path | None = None,
        *,
        lifetime: float = LIFETIME_S,
        cooldown: float = COOLDOWN_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._file = file
        self._lifetime = lifetime
        self._cooldown = cooldown
        self._clock = clock
        self._lock = threading.Lock()
        self._state = self._load() or _State({})

    def find(self, kid: str | None) -> Jwk | None:
        """Return the key with an id; None when the provider has none.

        :param kid: None finds the key of a provider with a single one
        :raises ProviderUnavailable: when the key is unknown and the provider cannot be asked
        """
        key = _find(self._state.keys, kid)
        is_old = not 0 <= self._clock() - self._state.fetched < self._lifetime
        if key is not None and (not is_old or not self._lock.acquire(blocking=False)):
            return key
        if key is None and not self._lock.acquire(timeout=_WAIT_S):
            raise ProviderUnavailable()
        try:
            self._refresh(kid, is_old=is_old)
        finally:
            self._lock.release()
        key = _find(self._state.keys, kid)
        if key is None and self._state.has_failed:
            raise ProviderUnavailable("The keys of the identity provider cannot be fetched.")
        return key

    def _refresh(self, kid: str | None, *, is_old: bool) -> None:
        """Take what another process has fetched, else fetch, unless that was done just now."""
        shared = self._load()
        if shared and shared.attempted > self._state.attempted:
            self._state = shared
            is_old = not 0 <= self._clock() - shared.fetched < self._lifetime
            if _find(shared.keys, kid) is not None and not is_old:
                return
        state, now = self._state, self._clock()
        if 0 <= now - state.attempted < self._cooldown or not self._claim(now):
            return
        try:
            keys = self._fetch()
        except (OSError, ValueError) as error:
            log.warning("the keys of the identity provider cannot be fetched: %s", error)
            return
        self._store(_State(keys, now, now))

    def _claim(self, now: float) -> bool:
        """Note that a fetch begins; return whether no other process is about to do the same."""
        try:
            handle = try_lock(self._file.with_suffix(".lock")) if self._file else None
        except OSError:
            handle = None  # each process fetches by itself
        else:
            if self._file and handle is None:
                return False
        try:
            self._store(_State(self._state.keys, now, self._state.fetched))
        finally:
            if handle is not None:
                os.close(handle)
        return True

    def _load(self) -> _State | None:
        try:
            values = json.loads(self._file.read_bytes()) if self._file else None
            return _State(values["keys"], values["attempted"], values["fetched"]) if values else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _store(self, state: _State) -> None:
        self._state = state
        if self._file is None:
            return
        text = json.dumps({"keys": state.keys, "attempted": state.attempted, "fetched": state.fetched})
        aside = self._file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        with contextlib.suppress(OSError):
            handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(text)
            aside.replace(self._file)


def _find(keys: Keys, kid: str | None) -> Jwk | None:
    if kid is not None:
        return keys.get(kid)
    return next(iter(keys.values())) if len(keys) == 1 else None

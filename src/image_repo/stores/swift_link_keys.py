"""The keys of a Swift container with which temporary URLs are signed (middleware ``tempurl``)."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from image_repo.config import PersistentStoreConfiguration
from image_repo.errors import LinksNotConfigured, StoreUnavailable
from image_repo.stores.http_errors import Refusal, absent, is_whole
from image_repo.stores.swift_pool import ConnectionPool
from image_repo.stores.tempurl import DIGESTS, LinkBase

log = logging.getLogger(__name__)

#: for how long the keys of temporary URLs are remembered
_KEYS_FRESH_S = 300.0
KEY_HEADERS = ("temp-url-key", "temp-url-key-2")


class LinkKeys:
    """The keys of a container, read again now and then."""

    def __init__(self, pool: ConnectionPool, settings: PersistentStoreConfiguration, container: str) -> None:
        self._pool = pool
        self._settings = settings
        self._container = container
        self._lock = threading.Lock()
        self._keys: tuple[str, ...] = ()
        self._asked = -math.inf
        self._digest: str | None = None

    def base(self) -> LinkBase:
        keys = self.secrets()
        if not keys:
            raise LinksNotConfigured(
                f"The container {self._container!r} has no key for temporary URLs: "
                "`image_repo link-key` makes one, or give its key as url_key."
            )
        if self._digest is None:
            self._digest = _best_digest(self._pool)
        storage = urlsplit(self._pool.url())
        endpoint = self._settings.public_endpoint or f"{storage.scheme}://{storage.netloc}"
        return LinkBase(endpoint.rstrip("/"), f"{unquote(storage.path)}/{self._container}/", keys[0], self._digest)

    def secrets(self) -> tuple[str, ...]:
        configured = tuple(str(key) for key in (self._settings.url_key, self._settings.url_key_2) if key)
        if configured:
            return configured
        with self._lock:
            if time.monotonic() - self._asked < _KEYS_FRESH_S:
                return self._keys
            known = self._keys
        try:
            known = self._ask()
        except StoreUnavailable:
            if not known:
                raise
            log.warning("the key of temporary URLs could not be read again; the last known one is used")
        with self._lock:
            # That there is none is not remembered: a person is about to set one.
            self._keys, self._asked = known, time.monotonic() if known else -math.inf
        return known

    def stored(self) -> tuple[str, ...]:
        headers = absent(lambda: self._pool.run(lambda connection: connection.head_container(self._container))) or {}
        try:
            account = _keys_in(self._pool.run(lambda connection: connection.head_account()), "account")
        except Refusal:  # not every user may see them
            account = ()
        return *(headers.get(f"x-container-meta-{name}", "") for name in KEY_HEADERS), *account

    def forget(self) -> None:
        with self._lock:
            self._keys, self._asked = (), -math.inf

    def _ask(self) -> tuple[str, ...]:
        headers = absent(lambda: self._pool.run(lambda connection: connection.head_container(self._container)))
        keys = _keys_in(headers, "container") if headers else ()
        return keys or _keys_in(self._pool.run(lambda connection: connection.head_account()), "account")


def _keys_in(headers: Mapping[str, str], kind: str) -> tuple[str, ...]:
    if not is_whole(headers):
        raise StoreUnavailable("What the store tells of its keys was cut off.")
    values = (headers.get(f"x-{kind}-meta-{name}", "") for name in KEY_HEADERS)
    return tuple(key for key in values if key)


def _best_digest(pool: ConnectionPool) -> str:
    """The best digest that this Swift verifies, as ``/info`` tells.

    :raises LinksNotConfigured: when it has no temporary URLs, or only digests that we do not make
    """
    try:
        capabilities: Mapping[str, Any] = pool.run(lambda connection: connection.get_capabilities())
    except Refusal as error:
        if error.http_status not in (401, 403, 404):
            raise
        return DIGESTS[0]  # this Swift hides /info
    if "tempurl" not in capabilities:
        raise LinksNotConfigured("This Swift has no temporary URLs (its middleware tempurl is off).")
    # Before it could be chosen it was SHA-1.
    allowed = capabilities["tempurl"].get("allowed_digests", ["sha1"])
    best = next((digest for digest in DIGESTS if digest in allowed), None)
    if best is None:
        raise LinksNotConfigured(f"This Swift verifies only digests that are not made here: {', '.join(allowed)}.")
    return best

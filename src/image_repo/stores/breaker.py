"""A breaker before a store: when it does not answer, nobody else waits for it.

After some failures in a row it is open: callers are refused at once, so that a frozen
store holds no thread. After a pause one caller tries; when that goes well it is closed again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from image_repo.errors import StoreUnavailable
from image_repo.signing import LinkBase
from image_repo.stores import Body, Entry, Store


class Guarded:
    """A store behind a breaker.

    :param failures: how many in a row open it
    :param pause: seconds after which one caller tries again
    :param clock: monotonic seconds
    """

    def __init__(
        self, store: Store, *, failures: int = 3, pause: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._most = failures
        self._pause = pause
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._retry_at = 0.0
        self.description = store.description
        self.identity = store.identity
        self.verifies = store.verifies

    def check(self, *, create: bool = False) -> None:
        """As of the store; it is asked in any case."""
        self._store.check(create=create)
        self._succeed()

    def head(self, key: str) -> Entry | None:
        """As of the store."""
        with self._guard():
            return self._store.head(key)

    def get(self, key: str) -> Body | None:
        """As of the store."""
        with self._guard():
            return self._store.get(key)

    def put(
        self,
        key: str,
        data: bytes | BinaryIO,
        *,
        media_type: str,
        metadata: Mapping[str, str] | None = None,
        expires: float | None = None,
        overwrite: bool = True,
    ) -> Entry:
        """As of the store."""
        with self._guard():
            return self._store.put(
                key, data, media_type=media_type, metadata=metadata, expires=expires, overwrite=overwrite
            )

    def delete(self, key: str) -> bool:
        """As of the store."""
        with self._guard():
            return self._store.delete(key)

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        """As of the store."""
        listing = self._store.keys(prefix, after=after, before=before)
        while True:
            with self._guard():
                entry = next(listing, None)
            if entry is None:
                return
            yield entry

    def link_base(self) -> LinkBase:
        """As of the store."""
        with self._guard():
            return self._store.link_base()

    def link_secrets(self) -> tuple[str, ...]:
        """As of the store."""
        with self._guard():
            return self._store.link_secrets()

    def close(self) -> None:
        """As of the store."""
        self._store.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        self._ask_leave()
        try:
            yield
        except StoreUnavailable:
            self._fail()
            raise
        self._succeed()

    def _ask_leave(self) -> None:
        with self._lock:
            if self._failed < self._most:
                return
            now = self._clock()
            if now < self._retry_at:
                raise StoreUnavailable("The store does not answer; it is tried again in a moment.")
            self._retry_at = now + self._pause  # the others are refused until this one knows

    def _fail(self) -> None:
        with self._lock:
            self._failed += 1
            self._retry_at = self._clock() + self._pause

    def _succeed(self) -> None:
        if self._failed:
            with self._lock:
                self._failed = 0

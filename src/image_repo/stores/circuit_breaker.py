"""A store that is asked no more while it does not answer.

Without this, every request to a frozen origin would hold a thread for the whole timeout, and soon
there would be no thread left for what the caches know. After a few failures in a row the answer is
:class:`~image_repo.errors.StoreUnavailable` at once; every now and then one caller tries, and
when that goes well all go through again.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import BinaryIO, Self, TypeVar

from image_repo.concurrency.backoff import Backoff
from image_repo.errors import StoreUnavailable
from image_repo.observability import metrics
from image_repo.observability.metrics import Counters
from image_repo.stores.base import Body, Entry, Store

T = TypeVar("T")

#: seconds between two callers that try, at most
LONGEST_PAUSE_S = 5.0
#: seconds for which a caller that tries may be waited for before another one tries
_PROBE = 2.0
#: seconds without any answer after which the store is taken for frozen, timeouts or not
_PATIENCE = 2.0


class CircuitBreaker:
    """A store with a breaker before it.

    :param failures: how many in a row open it
    :param pause: seconds until one caller tries again, at first; they grow to :data:`LONGEST_PAUSE_S`
    :param counters: count what the store is asked, and what it does not answer
    """

    def __init__(
        self, store: Store, *, failures: int = 3, pause: float = 1.0, counters: Counters | None = None
    ) -> None:
        self._store = store
        self._counters = counters
        self._breaker = _Breaker(failures, pause)
        self.description = store.description
        self.identity = store.identity
        self.capabilities = store.capabilities

    def check(self, *, create: bool = False) -> None:
        """Asks in any case: the person at the command line wants to know."""
        self._store.check(create=create)

    def head(self, key: str) -> Entry | None:
        """What is known of an object."""
        return self._ask("head", lambda: self._store.head(key))

    def get(self, key: str) -> Body | None:
        """Opens an object for reading; a transfer that breaks off counts as well."""
        body = self._ask("get", lambda: self._store.get(key))
        return None if body is None else _GuardedBody(body, self._breaker)

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
        """Stores an object whole."""
        return self._ask(
            "put",
            lambda: self._store.put(
                key, data, media_type=media_type, metadata=metadata, expires=expires, overwrite=overwrite
            ),
            quick=False,
        )

    def together(self) -> AbstractContextManager[None]:
        """What is written inside is on the disk when the block has ended."""
        return self._store.together()

    def delete(self, key: str) -> bool:
        """Removes an object. False when there was none."""
        return self._ask("delete", lambda: self._store.delete(key))

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        """The objects whose key begins with ``prefix``, by code points of the key, a page at a time."""
        found = self._store.keys(prefix, after=after, before=before)
        entry = self._ask("keys", lambda: next(found, None))
        while entry is not None:
            yield entry
            entry = self._breaker.call(lambda: self._answered(lambda: next(found, None)))

    def called(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        """The objects that are called like one of these names, with one of these endings in any case."""
        return self._ask("keys", lambda: self._store.called(names, endings))

    def presign(self, key: str, expires: int, filename: str) -> str:
        """Return a temporary URL of an object."""
        return self._ask("link", lambda: self._store.presign(key, expires, filename))

    def verify_presigned(self, key: str, signature: str, expires: str) -> None:
        """Accept the signature of a temporary URL, or raise."""
        self._ask("link", lambda: self._store.verify_presigned(key, signature, expires))

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        """Store a key of temporary URLs."""
        self._ask("link", lambda: self._store.set_link_key(secret, second=second))

    def close(self) -> None:
        """Gives connections back."""
        self._store.close()

    def _ask(self, verb: str, ask: Callable[[], T], *, quick: bool = True) -> T:
        def counted() -> T:
            if self._counters:
                self._counters.add(metrics.CALLS, verb)
            return self._answered(ask)

        return self._breaker.call(counted, quick=quick)

    def _answered(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except StoreUnavailable:
            if self._counters:
                self._counters.add(metrics.ERRORS)
            raise


class _Breaker:
    """Counts failures in a row and callers that wait, and decides who may ask."""

    def __init__(self, failures: int, pause: float) -> None:
        self._most = failures
        self._backoff = Backoff(pause, LONGEST_PAUSE_S)
        self._lock = threading.Lock()
        self._failed = 0
        #: quick calls under way, and when there was an answer to one, or the first of them began
        self._inside = 0
        self._sign = 0.0
        #: when one caller may try; whoever goes moves it on, so that the others stay outside
        self._next = 0.0

    def call(self, ask: Callable[[], T], *, quick: bool = True) -> T:
        """Asks, or refuses at once.

        :param quick: whether the answer comes soon when all is well; an upload takes its time
        """
        self._enter(quick)
        failed = False
        try:
            return ask()
        except StoreUnavailable:
            failed = True
            raise
        finally:  # anything else is an answer, also one that nobody likes: the store is there
            self._leave(quick, failed)

    def failed(self) -> None:
        """Counts a failure that showed only later."""
        with self._lock:
            self._count(failed=True)

    def _enter(self, quick: bool) -> None:
        now = time.monotonic()
        with self._lock:
            left = self._next - now
            frozen = self._inside >= self._most and now - self._sign > _PATIENCE
            if self._failed < self._most and not frozen:
                left = 0.0
            elif left <= 0:
                self._next = now + _PROBE
            if left <= 0:
                self._sign = self._sign if self._inside else now
                self._inside += quick
                return
        refusal = StoreUnavailable("The store did not answer lately; it is asked again in a moment.")
        refusal.retry_after = max(1, math.ceil(left))
        raise refusal

    def _leave(self, quick: bool, failed: bool) -> None:
        with self._lock:
            self._inside -= quick
            if not failed:
                self._sign = time.monotonic()
            self._count(failed=failed)

    def _count(self, *, failed: bool) -> None:
        self._failed = self._failed + 1 if failed else 0
        if not failed:
            self._backoff.reset()
        if self._failed >= self._most:
            self._next = time.monotonic() + self._backoff.fail()


class _GuardedBody:
    """An open object whose transfer is counted."""

    def __init__(self, body: Body, breaker: _Breaker) -> None:
        self.entry = body.entry
        self._body = body
        self._breaker = breaker

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._body
        except StoreUnavailable:
            self._breaker.failed()
            raise

    def __enter__(self) -> Self:
        self._body.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._body.__exit__(*_)

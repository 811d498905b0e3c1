"""Circuit breaker: a store that fails or freezes is left alone, and probed now and then.

Without it, each request to a frozen origin would hold a thread for the whole timeout, and no thread would be left for
hits. After a few failures in a row the circuit is open: calls raise :class:`~image_repo.errors.StoreUnavailable` at
once. After a pause, which grows (backoff), a thread probes the store, so that no client waits for it; a success closes
the circuit. That this process has no file descriptors left is no failure of the store.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import BinaryIO, Literal, Self, TypeVar

from image_repo.concurrency.backoff import Backoff
from image_repo.errors import StoreUnavailable
from image_repo.observability import metrics
from image_repo.observability.metrics import Counters
from image_repo.stores.base import Body, Entry, NotReadable, OutOfDescriptors, Store

T = TypeVar("T")

#: seconds between two probes, at most
LONGEST_PAUSE_S = 2.0
#: key of an object that need not be there: an answer is enough
_PROBE_KEY = ".probe"
#: seconds without any answer after which the store counts as frozen, timeouts or not
_FROZEN_AFTER_S = 2.0


class CircuitBreaker:
    """A :class:`~image_repo.stores.base.Store` behind a circuit breaker.

    :param failures: in a row, that open the circuit
    :param pause: seconds until the first probe; they grow to :data:`LONGEST_PAUSE_S`
    :param counters: count calls and failures
    :param name: of the store, for the metrics
    """

    def __init__(
        self,
        store: Store,
        *,
        failures: int = 3,
        pause: float = 1.0,
        counters: Counters | None = None,
        name: Literal["originals", "cache"] = "originals",
    ) -> None:
        self._store = store
        self._counters = counters
        opened = partial(counters.set, metrics.CIRCUITS, name) if counters else lambda _: None
        self._breaker = _Breaker(failures, pause, opened, lambda: store.head(_PROBE_KEY))
        self.description = store.description
        self.capabilities = store.capabilities

    @property
    def identity(self) -> str:
        return self._store.identity

    def check(self, *, create: bool = False) -> None:
        """Check the store itself, whatever the state of the circuit."""
        self._store.check(create=create)

    def head(self, key: str) -> Entry | None:
        return self._ask("head", lambda: self._store.head(key))

    def get(self, key: str) -> Body | None:
        """Open an object for reading; a transfer that breaks off counts as a failure."""
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
        return self._ask(
            "put",
            lambda: self._store.put(
                key, data, media_type=media_type, metadata=metadata, expires=expires, overwrite=overwrite
            ),
            quick=False,
        )

    def restore_etag(self, key: str, present: str, former: str) -> bool:
        return self._ask("put", lambda: self._store.restore_etag(key, present, former))

    def batch(self) -> AbstractContextManager[None]:
        return self._store.batch()

    def delete(self, key: str) -> bool:
        return self._ask("delete", lambda: self._store.delete(key))

    def keys(self, prefix: str = "", *, after: str = "", before: str = "") -> Iterator[Entry]:
        """List objects; each page counts."""
        entries = self._store.keys(prefix, after=after, before=before)
        entry = self._ask("keys", lambda: next(entries, None))
        while entry is not None:
            yield entry
            entry = self._breaker.call(lambda: self._answered(lambda: next(entries, None)))

    def find(self, names: Collection[str], endings: Collection[str]) -> list[Entry]:
        return self._ask("keys", lambda: self._store.find(names, endings))

    def passed_over(self) -> list[str]:
        return self._store.passed_over()

    def presign(self, key: str, expires: int, filename: str) -> str:
        return self._ask("link", lambda: self._store.presign(key, expires, filename))

    def verify_presigned(self, key: str, signature: str, expires: str) -> None:
        self._ask("link", lambda: self._store.verify_presigned(key, signature, expires))

    def stored_link_keys(self) -> tuple[str, ...]:
        return self._ask("link", self._store.stored_link_keys)

    def set_link_key(self, secret: str, *, second: bool = False) -> None:
        self._ask("link", lambda: self._store.set_link_key(secret, second=second))

    def close(self) -> None:
        """Stop to probe, and close connections."""
        self._breaker.close()
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
    """Counts failures in a row and calls under way, and decides whether a call may go through.

    :param opened: called with whether calls are refused, when that changes
    :param probe: makes a short call
    """

    def __init__(
        self, failures: int, pause: float, opened: Callable[[bool], object], probe: Callable[[], object]
    ) -> None:
        self._probe = probe
        self._prober: threading.Thread | None = None
        self._ended = threading.Event()
        self._most = failures
        self._opened = opened
        self._is_open = False
        self._backoff = Backoff(pause, LONGEST_PAUSE_S)
        self._lock = threading.Lock()
        self._failed = 0
        #: quick calls under way; when one was answered last, or the first of them began
        self._inside = 0
        self._sign = 0.0
        #: time of the next probe
        self._next = 0.0

    def call(self, ask: Callable[[], T], *, quick: bool = True) -> T:
        """Make a call, or refuse at once.

        :param quick: whether it is short when all is well; an upload is not
        """
        self._enter(quick)
        failed: bool | None = False
        try:
            return ask()
        except (OutOfDescriptors, NotReadable):
            failed = None
            raise
        except StoreUnavailable:
            failed = True
            raise
        finally:  # any other exception is an answer: the store is there
            self._leave(quick, failed)

    def failed(self) -> None:
        """Count a failure that showed only later."""
        with self._lock:
            self._count(failed=True)

    def close(self) -> None:
        """Stop to probe."""
        self._ended.set()

    def _enter(self, quick: bool) -> None:
        now = time.monotonic()
        with self._lock:
            is_frozen = self._inside >= self._most and now - self._sign > _FROZEN_AFTER_S
            if self._failed < self._most and not is_frozen:
                self._sign = self._sign if self._inside else now
                self._inside += quick
                return
            left = self._next - now
            self._begin_probing()
        refusal = StoreUnavailable("The store did not answer lately; it is asked again in a moment.")
        refusal.retry_after = max(1, math.ceil(left))
        raise refusal

    def _leave(self, quick: bool, failed: bool | None) -> None:
        with self._lock:
            self._inside -= quick
            if failed is False:
                self._sign = time.monotonic()
            if failed is not None:
                self._count(failed=failed)

    def _count(self, *, failed: bool) -> None:
        self._failed = self._failed + 1 if failed else 0
        if not failed:
            self._backoff.reset()
            self._tell(is_open=False)
        if self._failed >= self._most:
            self._next = time.monotonic() + self._backoff.fail()
            self._begin_probing()

    def _tell(self, *, is_open: bool) -> None:
        if is_open is not self._is_open:
            self._is_open = is_open
            self._opened(is_open)

    def _begin_probing(self) -> None:
        self._tell(is_open=True)
        if self._prober is None and not self._ended.is_set():
            self._prober = threading.Thread(target=self._probe_until_it_answers, name="image_repo-probe", daemon=True)
            self._prober.start()

    def _probe_until_it_answers(self) -> None:
        """Probe after pauses; the first answer closes the circuit."""
        while not self._ended.wait(max(0.0, self._next - time.monotonic())):
            try:
                self._probe()
                failed = False
            except StoreUnavailable:
                failed = True
            except Exception:  # an answer: the store is there
                failed = False
            with self._lock:
                if not failed:
                    self._sign, self._failed, self._prober = time.monotonic(), 0, None
                    self._backoff.reset()
                    self._tell(is_open=False)
                    return
                self._next = time.monotonic() + self._backoff.fail()


class _GuardedBody:
    """An open object; a broken transfer counts as a failure."""

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

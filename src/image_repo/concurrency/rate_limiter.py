"""A budget per client and minute, shared by the processes of a node (generic cell rate algorithm)."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from image_repo.concurrency.shared_file import map_shared, open_shared

log = logging.getLogger(__name__)

WINDOW_S = 60.0
_SLOTS = 1 << 16
_SALT_BYTES, _SLOT = 16, struct.Struct("d")
_FILE_BYTES = _SALT_BYTES + _SLOTS * _SLOT.size


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a client's budget.

    :param quota: in each minute
    :param remaining: what the client may take at once
    :param reset: seconds until the budget is whole again
    :param wait: seconds until the client may take one more; 0 where this one is admitted
    """

    quota: int
    remaining: int
    reset: int
    wait: int

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that tell the client (draft-ietf-httpapi-ratelimit-headers-10)."""
        policy = f'"renders";q={self.quota};w={int(WINDOW_S)}'
        return [("RateLimit-Policy", policy), ("RateLimit", f'"renders";r={self.remaining};t={self.reset}')]


class RateLimiter:
    """Admits so many events of each client in a minute, at once or spread over it.

    A slot holds the time at which the budget of its clients is whole again, in monotonic seconds. Clients share 65,536
    slots by a hash with a salt of the node, so that none can choose to share that of another.

    :param quota: of each client in a minute
    :param path: a file of 512 KiB that all processes of the node map; None, or where it cannot be had: each process
        has its own
    :param clock: in seconds; the same for all processes
    """

    def __init__(self, quota: int, path: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._quota = quota
        self._interval = WINDOW_S / quota
        self._clock = clock
        self._lock = threading.Lock()
        self._handle: int | None = None
        try:
            self._map = self._share(path)
        except OSError as error:
            log.warning("each worker counts the renders of a client by itself: %s", error)
            self._map = self._share(None)

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def take(self, client: str) -> Allowance:
        """Count an event of a client, unless its budget is used up."""
        at = self._slot(client)
        with self._lock:
            self._lock_slot(at, fcntl.LOCK_EX)
            try:
                now = self._clock()
                (whole_at,) = _SLOT.unpack_from(self._map, at)
                # A later time is one of before the machine was started.
                debt = whole_at - now if 0.0 < whole_at - now <= WINDOW_S else 0.0
                wait = debt + self._interval - WINDOW_S
                is_admitted = wait < 1e-6  # of rounding
                if is_admitted:
                    debt += self._interval
                    _SLOT.pack_into(self._map, at, now + debt)
            finally:
                self._lock_slot(at, fcntl.LOCK_UN)
        remaining = int((WINDOW_S - debt) / self._interval + 1e-6)
        return Allowance(self._quota, remaining, math.ceil(debt), 0 if is_admitted else max(1, math.ceil(wait)))

    def _slot(self, client: str) -> int:
        digest = hashlib.blake2b(client.encode(), digest_size=2, salt=self._map[:_SALT_BYTES]).digest()
        return _SALT_BYTES + int.from_bytes(digest, "big") * _SLOT.size

    def _lock_slot(self, at: int, mode: int) -> None:
        if self._handle is not None:
            fcntl.lockf(self._handle, mode, _SLOT.size, at)

    def _share(self, path: Path | None) -> mmap.mmap:
        if path is None:
            return _initialised(mmap.mmap(-1, _FILE_BYTES))
        handle = open_shared(path)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX)
            shared = _initialised(map_shared(handle, _FILE_BYTES))
            fcntl.lockf(handle, fcntl.LOCK_UN)
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return shared


def _initialised(shared: mmap.mmap) -> mmap.mmap:
    """Return the map with its salt; the first process makes it."""
    if not any(shared[:_SALT_BYTES]):
        shared[:_SALT_BYTES] = os.urandom(_SALT_BYTES)
    return shared

"""Objects of S3 being downloaded."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from image_repo.concurrency.limiter import aside
from image_repo.errors import OriginalDamaged, StoreUnavailable
from image_repo.stores.base import CHUNK, Entry
from image_repo.stores.http_errors import BROKEN, reason_of

#: a body may take the timeout and this many seconds for each byte (16 KiB/s)
_SLOWEST_S = 1 / (16 << 10)


class S3Body:
    """An object being downloaded. All bytes are verified before the last one is yielded.

    :param md5: of the bytes, in hexadecimal; None where the store does not keep it
    :param stream: of the library
    :param release: gives the connection back
    """

    def __init__(self, entry: Entry, md5: str | None, stream: Any, release: Callable[[], None], timeout: float) -> None:
        self.entry = entry
        self._expected = md5
        self._stream = stream
        self._release: Callable[[], None] | None = release
        self._bound = timeout + entry.size * _SLOWEST_S
        self._md5 = hashlib.md5(usedforsecurity=False)

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in chunks.

        :raises StoreUnavailable: when the transfer breaks off, or crawls
        :raises OriginalDamaged: instead of the last chunk, when the digest does not fit
        """
        left, deadline = self.entry.size, time.monotonic() + self._bound
        if not left:
            self._finish()
        while left:
            chunk = self._read(min(CHUNK, left))
            left -= len(chunk)
            if not chunk or time.monotonic() > deadline:
                raise StoreUnavailable(f"The transfer of {self.entry.key!r} broke off.")
            if self._expected:
                self._md5.update(chunk)
            if not left:
                self._finish()
            yield chunk

    def _read(self, size: int) -> bytes:
        # What one look at the socket gives: else a store that crawls could stretch each chunk without end.
        raw = getattr(self._stream, "_raw_stream", self._stream)
        try:
            with aside():
                return bytes(getattr(raw, "read1", raw.read)(size))
        except BROKEN as error:
            raise StoreUnavailable(f"The transfer of {self.entry.key!r} broke off: {reason_of(error)}.") from error

    def _finish(self) -> None:
        if self._expected and self._md5.hexdigest() != self._expected:
            raise OriginalDamaged(f"The bytes of {self.entry.key!r} are not those that its digest names.")
        self._read(1)  # the library sees the end, so that the connection can be used again
        self._give_back()

    def _give_back(self) -> None:
        release, self._release = self._release, None
        if release:
            release()

    def close(self) -> None:
        """Give the connection back; bytes that are left on it are nobody's, so it is closed."""
        if self._release:
            with contextlib.suppress(*BROKEN):
                self._stream.close()
        self._give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

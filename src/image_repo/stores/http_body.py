"""Objects being downloaded over HTTP."""

from __future__ import annotations

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


class HttpBody:
    """An object being downloaded. All bytes are verified before the last one is yielded.

    :param md5: of the bytes, in hexadecimal; None where the store does not name it
    :param stream: of urllib3
    :param end: called once with whether bytes may be left on the connection, which then cannot be used again
    """

    def __init__(
        self, entry: Entry, md5: str | None, stream: Any, end: Callable[[bool], object], timeout: float
    ) -> None:
        self.entry = entry
        self._expected = md5
        self._stream = stream
        self._end: Callable[[bool], object] | None = end
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
            if self._expected is not None:
                self._md5.update(chunk)
            if not left:
                self._finish()
            yield chunk

    def _read(self, size: int) -> bytes:
        # What one look at the socket gives: else a store that crawls could stretch each chunk without end.
        try:
            with aside():
                return bytes(getattr(self._stream, "read1", self._stream.read)(size))
        except BROKEN as error:
            raise StoreUnavailable(f"The transfer of {self.entry.key!r} broke off: {reason_of(error)}.") from error

    def _finish(self) -> None:
        if self._expected is not None and self._md5.hexdigest() != self._expected:
            raise OriginalDamaged(f"The bytes of {self.entry.key!r} are not those that its digest names.")
        self._read(1)  # the library sees the end, so that the connection can be used again
        self._close(has_rest=False)

    def _close(self, *, has_rest: bool) -> None:
        end, self._end = self._end, None
        if end:
            end(has_rest)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(has_rest=True)

"""Zip archives. Out: streamed, so that memory does not grow with the number of members."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from image_repo.stores import CHUNK

#: MS-DOS time, which zip uses, begins in 1980 and ends in 2107 (APPNOTE 6.3.10, section 4.4.6)
_FIRST, _LAST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)

#: name in the archive, when it was changed (seconds since the epoch), and its bytes
Member = tuple[str, float, bytes | BinaryIO]


class _Sink:
    """What zipfile writes to: it can only go on, and hands over what it was given."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def stream_zip(members: Iterable[Member]) -> Iterator[bytes]:
    """A zip64 archive of members, stored (pictures are compressed already), a piece at a time.

    A consumer that goes away closes the generator, and with it whatever makes the members.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:  # type: ignore[call-overload]
        for name, modified, body in members:
            moment = min(max(time.gmtime(modified)[:6], _FIRST), _LAST)
            with archive.open(zipfile.ZipInfo(name, moment), "w", force_zip64=True) as member:
                for chunk in _chunks(body):
                    member.write(chunk)
                    yield sink.take()
            yield sink.take()
    yield sink.take()


def _chunks(body: bytes | BinaryIO) -> Iterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    while chunk := body.read(CHUNK):
        yield chunk

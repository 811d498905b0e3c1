"""Zips out, streamed."""

from __future__ import annotations

import stat
import struct
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from image_repo.exchange.zip_reader import (
    _CENTRAL,
    _CENTRAL_MARK,
    _END,
    _END_64,
    _END_64_MARK,
    _END_MARK,
    _FIRST,
    _LAST,
    _LOCAL,
    _LOCAL_MARK,
    _LOCATOR,
    _LOCATOR_MARK,
    _MOST_16,
    _MOST_32,
    _SIZES_64,
    _STORED,
    _UNIX,
    _UTF8,
    _VERSION,
)
from image_repo.stores.base import CHUNK

#: name in the archive, when it was changed (seconds since the epoch), and its bytes: a file from its present
#: position on, which is read twice
Member = tuple[str, float, bytes | BinaryIO]


def stream_zip(members: Iterable[Member], folder: Path | None = None) -> Iterator[bytes]:
    """An archive of members, stored (pictures are compressed already), a piece at a time.

    The same members give the same bytes. Sizes and checksums stand ahead of the bytes, so that it can be unpacked
    while it arrives; zip64 is used where the numbers need it, and nowhere else.

    A consumer that goes away closes the generator, and with it whatever makes the members.

    :param folder: of temporary files; the system's own where None
    """
    at = count = 0
    with _temporary(folder) as directory:
        for name, modified, body in members:
            head, entry = _heads(name, modified, body, at)
            yield head
            at += len(head)
            for chunk in chunks(body):
                at += len(chunk)
                yield chunk
            directory.write(entry)
            count += 1
        size = directory.tell()
        directory.seek(0)
        yield from iter(lambda: directory.read(CHUNK), b"")
    yield _ending(count, size, at)


def _heads(name: str, modified: float, body: bytes | BinaryIO, at: int) -> tuple[bytes, bytes]:
    """What stands ahead of a member's bytes, and its entry in the directory."""
    crc, size = _measure(body)
    year, *rest = min(max(time.gmtime(modified)[:6], _FIRST), _LAST)
    month, day, hour, minute, second = rest
    moment = hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day
    text = name.encode()
    told = min(size, _MOST_32)
    both = struct.pack("<2H2Q", _SIZES_64, 16, size, size) if size >= _MOST_32 else b""
    head = _LOCAL.pack(_LOCAL_MARK, _VERSION, _UTF8, _STORED, *moment, crc, told, told, len(text), len(both))
    far = struct.pack("<Q", at) if at >= _MOST_32 else b""
    more = struct.pack("<2H", _SIZES_64, len(both[4:] + far)) + both[4:] + far if both or far else b""
    mode = (stat.S_IFREG | 0o644) << 16
    entry = _CENTRAL.pack(
        _CENTRAL_MARK, _VERSION, _UNIX, _VERSION, 0, _UTF8, _STORED, *moment, crc, told, told,
        len(text), len(more), 0, 0, 0, mode, min(at, _MOST_32),
    )  # fmt: skip
    return head + text + both, entry + text + more


def _measure(body: bytes | BinaryIO) -> tuple[int, int]:
    """CRC-32 and size of what is there to be written; a file is left where it was."""
    if isinstance(body, bytes):
        return zlib.crc32(body), len(body)
    begin = body.tell()
    crc = size = 0
    for chunk in chunks(body):
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    body.seek(begin)
    return crc, size


def _ending(count: int, size: int, at: int) -> bytes:
    """What ends an archive.

    :param size: of the directory
    :param at: where the directory begins
    """
    end = _END.pack(
        _END_MARK, 0, 0, *(min(count, _MOST_16),) * 2, min(size, _MOST_32), min(at, _MOST_32), 0
    )  # fmt: skip
    if count < _MOST_16 and size < _MOST_32 and at < _MOST_32:
        return end
    wide = _END_64.pack(_END_64_MARK, _END_64.size - 12, _UNIX << 8 | _VERSION, _VERSION, 0, 0, count, count, size, at)
    return wide + _LOCATOR.pack(_LOCATOR_MARK, 0, at + size, 1) + end


def chunks(body: bytes | BinaryIO) -> Iterator[bytes]:
    """What a member holds, in pieces."""
    if isinstance(body, bytes):
        yield body
        return
    while chunk := body.read(CHUNK):
        yield chunk


def _temporary(folder: Path | None) -> BinaryIO:
    place = str(folder) if folder and folder.is_dir() else None
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(1 << 20, dir=place))

"""Stream zip archives out."""

from __future__ import annotations

import json
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

from image_repo.stores.base import CHUNK

#: name in the archive, modification time (seconds since the epoch), and content: a file is read from its current
#: position on, twice
Member = tuple[str, float, bytes | BinaryIO]

#: MS-DOS time, as zip uses it, begins in 1980 and ends in 2107 (APPNOTE 6.3.10, section 4.4.6)
_FIRST_TIME, _LAST_TIME = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
_UNIX = 3
_IN_MEMORY_BYTES = 1 << 20


def stream_zip(members: Iterable[Member], folder: Path | None = None) -> Iterator[bytes]:
    """Yield an archive of stored members in pieces; the same members give the same bytes.

    Sizes and checksums precede the content, so that the archive can be unpacked while it arrives. Zip64 is used only
    where numbers need it. Memory does not grow with the members. Closing the generator closes ``members``.

    :param folder: of temporary files; the system's own if None
    """
    offset = 0
    with temporary(folder) as file, temporary(folder) as directory:
        entries = _Entries(file)
        for name, modified, body in members:
            moment = min(max(time.gmtime(modified)[:6], _FIRST_TIME), _LAST_TIME)
            info = _info(name, moment, *_measure(body), offset)
            yield (head := info.FileHeader())
            yield from chunks(body)
            entries.append(info)
            offset += len(head) + info.file_size
        with zipfile.ZipFile(cast("BinaryIO", _Sink(directory, offset)), "w") as archive:
            archive.filelist = entries
        directory.seek(0)
        yield from chunks(directory)


class _Sink:
    """The unseekable file to which zipfile writes the directory.

    :param offset: of the directory in the archive
    """

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self._offset = offset

    def tell(self) -> int:
        return self._offset + self._file.tell()

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def flush(self) -> None:
        """Do nothing: the file is read back through the same buffer."""


class _Entries(list[zipfile.ZipInfo]):
    """The members that zipfile lists in the directory, in a file: in memory, each takes 700 bytes."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._count = 0

    def append(self, info: zipfile.ZipInfo) -> None:
        entry = (info.filename, info.date_time, info.CRC, info.file_size, info.header_offset)
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[zipfile.ZipInfo]:
        self._file.seek(0)
        for line in self._file:
            yield _info(*json.loads(line))


def _info(
    name: str, date_time: tuple[int, int, int, int, int, int], crc: int, size: int, offset: int
) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, date_time)
    info.CRC, info.file_size, info.compress_size, info.header_offset = crc, size, size, offset
    info.create_system, info.external_attr = _UNIX, (stat.S_IFREG | 0o644) << 16
    return info


def _measure(body: bytes | BinaryIO) -> tuple[int, int]:
    """Return CRC-32 and size of what remains to be read; a file stays at its position."""
    if isinstance(body, bytes):
        return zlib.crc32(body), len(body)
    begin = body.tell()
    crc = size = 0
    for chunk in chunks(body):
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    body.seek(begin)
    return crc, size


def chunks(body: bytes | BinaryIO) -> Iterator[bytes]:
    """Yield the content of a member in pieces."""
    if isinstance(body, bytes):
        yield body
    else:
        yield from iter(lambda: body.read(CHUNK), b"")


def temporary(folder: Path | None) -> BinaryIO:
    """Open a file that is deleted when it is closed, and stays in memory while it is small.

    :param folder: in which it lies when it is large; the system's own if None
    """
    directory = str(folder) if folder and folder.is_dir() else None
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=directory))

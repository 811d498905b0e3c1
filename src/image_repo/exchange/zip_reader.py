"""Read untrusted zip archives (PKWARE APPNOTE 6.3.10).

No number in an archive is trusted: unpacked bytes are counted while they are unpacked, and members that share bytes
(overlap bombs: a small archive that unpacks to petabytes) are refused.
"""

from __future__ import annotations

import hashlib
import io
import stat
import struct
import threading
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from image_repo.errors import BrokenArchive, TooLarge
from image_repo.stores.base import CHUNK

_MAX_16, _MAX_32 = 0xFFFF, 0xFFFFFFFF

# Sections 4.3.7, 4.3.12, 4.3.14, 4.3.15 and 4.3.16, each behind its signature.
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s4B4H3L5H2L")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_END = struct.Struct("<4s4H2LH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END_64_MARK, _LOCATOR_MARK = b"PK\6\6", b"PK\6\7"

_STORED, _DEFLATED = 0, 8
#: general purpose flags (section 4.4.4): encrypted, patched, strongly encrypted, masked; names in UTF-8
_UNREADABLE, _UTF8 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 13, 1 << 11
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
#: the header id of the zip64 sizes (section 4.5.3)
_SIZES_64 = 1


@dataclass(frozen=True, slots=True)
class Packed:
    """A directory entry of an archive, unchecked.

    :param name: in the archive; that of a folder ends in ``/``
    :param raw: the name in bytes
    :param offset: of the member in the file
    :param packed: compressed size in bytes
    :param size: uncompressed size in bytes
    :param mode: of the file on Unix, 0 if unknown
    """

    name: str
    raw: bytes
    offset: int
    packed: int
    size: int
    crc: int
    method: int
    flags: int
    mode: int

    @property
    def is_folder(self) -> bool:
        """Return whether it is a folder, without content."""
        return self.name.endswith("/")


class Budget:
    """A limit of unpacked bytes, whatever the directory says. Thread-safe.

    :param max_bytes: of all members together
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._remaining = max_bytes
        self._lock = threading.Lock()

    def spend(self, size: int) -> None:
        """Subtract bytes.

        :raises TooLarge: if too few remain
        """
        with self._lock:
            self._remaining -= size
            is_exceeded = self._remaining < 0
        if is_exceeded:
            raise TooLarge(f"The archive unpacks to more than {self._max_bytes} bytes.", limit=self._max_bytes)


class Archive:
    """A zip archive in a file. Members can be read from any thread.

    It takes eight bytes of memory for each member, and some hundred more while it is opened.

    :param file: seekable; it stays open, and must not be read by others meanwhile
    :raises BrokenArchive: if it is no archive, or has more members than ``max_members``
    """

    def __init__(self, file: BinaryIO, budget: Budget, max_members: int) -> None:
        self._file = _Shared(file)
        self._budget = budget
        self._begin, self._end, self._shift = self._find_directory()
        self._starts = array("Q")
        self._duplicates: set[bytes] = set()
        digests: set[bytes] = set()
        for member in self:
            if len(self._starts) == max_members:
                raise BrokenArchive(f"At most {max_members} members are taken.")
            self._starts.append(member.offset)
            digest = _digest(member.raw)
            (self._duplicates if digest in digests else digests).add(digest)
        self._starts = array("Q", sorted(self._starts))

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Packed]:
        """Iterate over the members, in the order of the directory.

        :raises BrokenArchive: if the directory is damaged
        """
        at = self._begin
        while at < self._end:
            fixed = self._file.read(at, _CENTRAL.size)
            if len(fixed) < _CENTRAL.size or not fixed.startswith(_CENTRAL_MARK):
                raise BrokenArchive("Its directory is damaged.")
            lengths = struct.unpack_from("<3H", fixed, 28)
            rest = self._file.read(at + _CENTRAL.size, sum(lengths))
            at += _CENTRAL.size + sum(lengths)
            if len(rest) < sum(lengths) or at > self._end:
                raise BrokenArchive("Its directory is damaged.")
            yield self._packed(_CENTRAL.unpack(fixed), rest)

    def open(self, member: Packed) -> Iterator[bytes]:
        """Yield the content of a member in pieces; it is verified only when the end is reached.

        :raises BrokenArchive: if it cannot be read, or does not match the directory
        :raises TooLarge: if the budget of the archive is exceeded
        """
        self._check(member)
        begin = self._check_local(member)
        crc = size = 0
        unpack = _inflated if member.method == _DEFLATED else _stored
        for chunk in unpack(self._pieces(begin, member.packed), member.size):
            self._budget.spend(len(chunk))
            crc, size = zlib.crc32(chunk, crc), size + len(chunk)
            yield chunk
        if size != member.size or crc != member.crc:
            raise BrokenArchive("It is damaged: its size or its checksum does not fit.")

    def _check(self, member: Packed) -> None:
        kind = stat.S_IFMT(member.mode)
        if member.flags & _ENCRYPTED:
            raise BrokenArchive("It is encrypted.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise BrokenArchive("It is a link or a device, and only files are taken.")
        if member.flags & _UNREADABLE or member.method not in (_STORED, _DEFLATED):
            raise BrokenArchive(f"Method {member.method} of compression is not read here: deflate it, or store it.")
        if _digest(member.raw) in self._duplicates:
            raise BrokenArchive("The archive has two members of this name.")

    def _check_local(self, member: Packed) -> int:
        """Compare the header of a member with the directory, and return the offset of its content."""
        head = self._file.read(member.offset, _LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(_LOCAL_MARK):
            raise BrokenArchive("It is not where the directory says.")
        _, _, flags, method, *_, name_length, more_length = _LOCAL.unpack(head)
        begin: int = member.offset + _LOCAL.size + name_length + more_length
        # CVE-2024-0450: a member must end before the next one, or the directory
        following = bisect_right(self._starts, member.offset)
        end = self._starts[following] if following < len(self._starts) else self._begin
        shared = following >= 2 and self._starts[following - 2] == member.offset
        if shared or begin + member.packed > min(end, self._begin):
            raise BrokenArchive("It shares bytes with another member.")
        if self._file.read(member.offset + _LOCAL.size, name_length) != member.raw or method != member.method:
            raise BrokenArchive("It is called otherwise than the directory says.")
        if flags & _UNREADABLE:
            raise BrokenArchive("It is encrypted.")
        return begin

    def _pieces(self, at: int, size: int) -> Iterator[bytes]:
        while size:
            piece = self._file.read(at, min(size, CHUNK))
            if not piece:
                raise BrokenArchive("The archive ends too early.")
            yield piece
            at, size = at + len(piece), size - len(piece)

    # -- the directory -----------------------------------------------------------------

    def _find_directory(self) -> tuple[int, int, int]:
        """Return begin and end of the directory, and what has to be added to its offsets."""
        length = self._file.size
        tail_at = max(0, length - _END.size - _MAX_16)
        tail = self._file.read(tail_at, length - tail_at)
        at = len(tail)
        while (at := tail.rfind(_END_MARK, 0, at)) >= 0:
            if len(tail) - at >= _END.size and _END.unpack_from(tail, at)[-1] == len(tail) - at - _END.size:
                break
        else:
            raise BrokenArchive("It is no zip archive, or it was cut off.")
        _, disk, first_disk, _, count, size, offset, _ = _END.unpack_from(tail, at)
        end = tail_at + at
        if _MAX_16 in (disk, first_disk, count) or _MAX_32 in (size, offset):
            disk, first_disk, size, offset, end = self._find_wide(end, disk, first_disk, size, offset)
        if disk or first_disk:
            raise BrokenArchive("It is one of several parts.")
        # Self-extracting archives have a program in front.
        shift = end - size - offset
        if shift < 0 or size > end:
            raise BrokenArchive("Its directory is not where it says.")
        return end - size, end, shift

    def _find_wide(
        self, end: int, disk: int, first_disk: int, size: int, offset: int
    ) -> tuple[int, int, int, int, int]:
        """Return the same numbers from the zip64 ending, if there is one."""
        locator = self._file.read(end - _LOCATOR.size, _LOCATOR.size) if end >= _LOCATOR.size else b""
        if not locator.startswith(_LOCATOR_MARK):
            return disk, first_disk, size, offset, end
        at = end - _LOCATOR.size - _END_64.size
        wide = self._file.read(at, _END_64.size) if at >= 0 else b""
        if not wide.startswith(_END_64_MARK):
            raise BrokenArchive("Its zip64 ending is damaged.")
        _, _, _, _, disk, first_disk, _, _, size, offset = _END_64.unpack(wide)
        return disk, first_disk, size, offset, at

    def _packed(self, fixed: tuple[int, ...], rest: bytes) -> Packed:
        _, _, _, _, _, flags, method, _, _, crc, packed, size = fixed[:12]
        name_length, more_length, *_, attributes, offset = fixed[12:]
        raw = rest[:name_length]
        wide = _wide_sizes(rest[name_length : name_length + more_length])
        size = next(wide, size) if size == _MAX_32 else size
        packed = next(wide, packed) if packed == _MAX_32 else packed
        offset = next(wide, offset) if offset == _MAX_32 else offset
        # seek() fails on offsets that no file can have
        offset = min(offset + self._shift, self._file.size)
        return Packed(_decoded(raw, flags), raw, offset, packed, size, crc, method, flags, attributes >> 16)


class _Shared:
    """A file that several threads read at their own offsets."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.size = file.seek(0, io.SEEK_END)

    def read(self, at: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(at)
            return self._file.read(size)


def _stored(pieces: Iterable[bytes], _: int) -> Iterator[bytes]:
    yield from pieces


def _inflated(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Decompress CHUNK bytes at a time, and little more than the expected size."""
    total, decompressor = 0, zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            while piece and not decompressor.eof:
                chunk = decompressor.decompress(piece, CHUNK)
                piece = decompressor.unconsumed_tail  # noqa: PLW2901, the rest of it
                total += len(chunk)
                if total > size:
                    raise BrokenArchive("It is damaged: it unpacks to more than it says.")
                yield chunk
        while not decompressor.eof and (chunk := decompressor.decompress(b"", CHUNK)):
            total += len(chunk)
            if total > size:
                raise BrokenArchive("It is damaged: it unpacks to more than it says.")
            yield chunk
    except zlib.error as error:
        raise BrokenArchive("It is damaged: it cannot be unpacked.") from error
    if not decompressor.eof:
        raise BrokenArchive("It is damaged: it ends too early.")


def _wide_sizes(extra: bytes) -> Iterator[int]:
    """Yield the numbers of the zip64 field in order."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == _SIZES_64:
            field = extra[4 : 4 + length]
            yield from (number for (number,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8]))
            return
        extra = extra[4 + length :]


def _decoded(raw: bytes, flags: int) -> str:
    """Return a name as text. Many programs write UTF-8 without the flag; otherwise it is code page 437 (appendix D).

    Some programs on Windows separate folders by backslashes.
    """
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = raw.decode("utf-8", "replace") if flags & _UTF8 else raw.decode("cp437")
    return name if "/" in name else name.replace("\\", "/")


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=8).digest()

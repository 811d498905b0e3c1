"""Boxes: what the imaging library does not report of AVIF, HEIC and JPEG 2000. Bounded for any input.

Size, clean aperture and colours (nclx) of the primary item, and the header of a JPEG 2000 file.

ISO/IEC 14496-12 (boxes, clap, colr), 23008-12 (items and their properties), 15444-1 annexes A and I (JPEG 2000).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from image_repo.render.cicp import Cicp
from image_repo.render.geometry import Size

#: no file comes near as many boxes in one
_MOST_BOXES = 4096
#: left, top, right, bottom
Aperture = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its type, and what is in it."""

    kind: bytes
    body: memoryview


def boxes(data: memoryview, *, is_file: bool = False) -> Iterator[Box]:
    """Yield the boxes that lie in these bytes; ends at one that sticks out.

    :param is_file: whether the last one may be cut off
    """
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif size == 0:
            size = len(data) - at
        if size < head or (at + size > len(data) and not is_file):
            return
        yield Box(kind, data[at + head : at + size])
        at += size


def find(data: memoryview, *path: bytes) -> memoryview | None:
    """Return what is in the first box of this path, None where there is none; ``meta`` and ``stsd`` are full boxes."""
    for kind in path:
        body = next((box.body for box in boxes(data) if box.kind == kind), None)
        if body is None:
            return None
        data = body[{b"meta": 4, b"stsd": 8}.get(kind, 0) :]
    return data


@dataclass(frozen=True, slots=True)
class PrimaryItem:
    """The picture that a viewer of the file displays.

    :param size: as coded, in pixels; None where that is absent
    :param aperture: the clean aperture in it; None for all of it
    :param coding: the type of the item, or of those that it is put together from; empty where that is absent
    """

    size: Size | None = None
    aperture: Aperture | None = None
    cicp: Cicp = Cicp()
    coding: bytes = b""


def read_primary_item(data: memoryview) -> PrimaryItem:
    """Read the properties of the primary item, or of the first track of a sequence.

    :raises ValueError: when its properties make no sense
    """
    begin = find(data, b"ftyp")
    track = find(data, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    is_sequence = begin is not None and bytes(begin[:4]) in (b"avis", b"hevc", b"msf1") and track is not None
    try:
        if is_sequence and track is not None:
            return _item(_of_track(track))
        return replace(_item(_of_primary(data)), coding=_coding(data))
    except struct.error as error:
        raise ValueError("a property is cut off") from error


def _of_primary(data: memoryview) -> list[Box]:
    meta = find(data, b"meta")
    container = find(data, b"meta", b"iprp", b"ipco")
    if meta is None or container is None:
        return []
    item = find(meta, b"pitm")
    association = find(meta, b"iprp", b"ipma")
    if item is None or association is None:
        return []
    number = int.from_bytes(item[4:6] if item[0] == 0 else item[4:8], "big")
    known = list(boxes(container))
    return [known[index - 1] for index in _associated(association, number) if 0 < index <= len(known)]


#: items that are put together from others: grid, overlay, the same again, tone mapped
_DERIVED = frozenset((b"grid", b"iovl", b"iden", b"tmap"))
_NO_PICTURES = frozenset((b"Exif", b"mime", b"uri ", b"rgan", b"mski"))


def _coding(data: memoryview) -> bytes:
    items, primary = find(data, b"meta", b"iinf"), find(data, b"meta", b"pitm")
    if items is None or primary is None:
        return b""
    number = int.from_bytes(primary[4:6] if primary[0] == 0 else primary[4:8], "big")
    types: dict[int, bytes] = {}
    for box in boxes(items[6 if items[0] == 0 else 8 :]):
        if box.kind == b"infe" and box.body[0] in (2, 3):
            wide = box.body[0] == 3
            types[int.from_bytes(box.body[4 : 8 if wide else 6], "big")] = bytes(
                box.body[10:14] if wide else box.body[8:12]
            )
    coding = types.get(number, b"")
    if coding in _DERIVED:
        coding = next((kind for kind in types.values() if kind not in _DERIVED | _NO_PICTURES), b"")
    return coding


def _associated(association: memoryview, item: int) -> list[int]:
    """Return the properties of an item, by their place from 1."""
    version, flags, count = association[0], association[3], struct.unpack_from(">I", association, 4)[0]
    at, width = 8, 2 if flags & 1 else 1
    identity = ">I" if version else ">H"
    for _ in range(min(count, len(association))):
        number = struct.unpack_from(identity, association, at)[0]
        at += struct.calcsize(identity)
        end = at + 1 + association[at] * width
        if number == item:
            mask = (1 << (8 * width - 1)) - 1
            return [int.from_bytes(association[n : n + width], "big") & mask for n in range(at + 1, end, width)]
        at = end
    return []


def _of_track(description: memoryview) -> list[Box]:
    entry = next(boxes(description), None)
    if entry is None:
        return []
    width, height = struct.unpack_from(">HH", entry.body, 24)
    size = Box(b"ispe", memoryview(bytes(4) + struct.pack(">II", width, height)))
    return [size, *boxes(entry.body[78:])]


def _item(properties: list[Box]) -> PrimaryItem:
    size = aperture = None
    cicp = Cicp()
    for box in properties:
        if box.kind == b"ispe":
            size = struct.unpack_from(">II", box.body, 4)
        elif box.kind == b"colr" and bytes(box.body[:4]) == b"nclx":
            cicp = Cicp(*struct.unpack_from(">HH", box.body, 4))
        elif box.kind == b"clap" and size:
            aperture = _aperture(box.body, size)
    return PrimaryItem(size, aperture, cicp)


def _aperture(body: memoryview, size: Size) -> Aperture:
    """Return the clean aperture from its size and the offset of its centre, all fractions."""
    numbers = struct.unpack_from(">IIIIiIiI", body)
    if 0 in numbers[1::2]:
        raise ValueError("a fraction by zero")
    width, height, right, down = (top / bottom for top, bottom in zip(numbers[::2], numbers[1::2], strict=True))
    left, top = round((size[0] - width) / 2 + right), round((size[1] - height) / 2 + down)
    box = max(0, left), max(0, top), min(size[0], left + round(width)), min(size[1], top + round(height))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError("a clean aperture outside of the picture")
    return box


# -- JPEG 2000 ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Jp2Header:
    """The header of a JPEG 2000 file.

    :param size: in pixels
    :param bits: of each component
    :param has_signs: whether any component holds negative numbers
    :param colour: its colour space by number (EnumCS); None where that is absent
    :param profile: ICC; empty for none
    :param channels: that a palette makes of the only component; 0 without a palette
    :param alpha: places of the channels that are opacity
    """

    size: Size
    bits: tuple[int, ...]
    has_signs: bool
    colour: int | None = None
    profile: bytes = b""
    channels: int = 0
    alpha: frozenset[int] = frozenset()


def read_jp2(data: memoryview) -> Jp2Header:
    """Read the header of a JPEG 2000 file, or of a bare codestream.

    :raises ValueError: when it has none, or one that makes no sense
    """
    try:
        if bytes(data[:2]) == b"\xff\x4f":
            return Jp2Header(*_codestream(data))
        parts = {box.kind: box.body for box in boxes(data, is_file=True)}
        stream, header = parts.get(b"jp2c"), parts.get(b"jp2h")
        if stream is None or header is None:
            raise ValueError("no codestream")
        inner = list(islice(boxes(header), _MOST_BOXES))
        colour, profile = _jp2_colour(inner)
        palette = next((box.body for box in inner if box.kind == b"pclr"), None)
        channels = palette[2] if palette is not None else 0
        return Jp2Header(*_codestream(stream), colour, profile, channels, _opacity(inner))
    except (struct.error, IndexError) as error:
        raise ValueError("a box is cut off") from error


def _codestream(data: memoryview) -> tuple[Size, tuple[int, ...], bool]:
    """Return size, bits and signs from the SIZ marker (15444-1, A.5.1)."""
    marker, width, height, left, top = struct.unpack_from(">2xH4xIIII", data)
    count = struct.unpack_from(">H", data, 40)[0]
    if marker != 0xFF51 or not 0 < count <= 16384 or width <= left or height <= top:
        raise ValueError("no size")
    components = [struct.unpack_from("BBB", data, 42 + 3 * n) for n in range(min(count, 64))]
    bits = tuple((depth & 0x7F) + 1 for depth, _, _ in components)
    return (width - left, height - top), bits, any(depth & 0x80 for depth, _, _ in components)


def _jp2_colour(inner: list[Box]) -> tuple[int | None, bytes]:
    """Return colour space and profile of the first box of colours that can be read (I.5.3.3)."""
    for box in inner:
        if box.kind == b"colr" and box.body[0] == 1:
            return struct.unpack_from(">I", box.body, 3)[0], b""
        if box.kind == b"colr" and box.body[0] in (2, 3):
            return None, bytes(box.body[3:])
    return None, b""


def _opacity(inner: list[Box]) -> frozenset[int]:
    definition = next((box.body for box in inner if box.kind == b"cdef"), None)
    if definition is None:
        return frozenset()
    count = min(struct.unpack_from(">H", definition)[0], len(definition) // 6)
    rows = [struct.unpack_from(">HHH", definition, 2 + 6 * n) for n in range(count)]
    return frozenset(channel for channel, kind, _ in rows if kind in (1, 2))

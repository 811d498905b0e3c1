"""Writers of TIFF and PNG in kinds that the imaging library does not write: any depth, byte order, plane and tile."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from pictures import png_chunk


@dataclass(frozen=True)
class TiffKind:
    """How a TIFF is written.

    :param bits: of a sample, 1 to 32
    :param colour: PhotometricInterpretation
    :param extra: ExtraSamples: 1 premultiplied alpha, 2 alpha
    :param order: of bytes: ``<`` or ``>``
    :param tile: side of a tile; 0 for strips
    :param rows: of a strip
    :param compression: 1 none, 8 Deflate
    """

    bits: int = 8
    colour: int = 2
    extra: tuple[int, ...] = ()
    order: str = "<"
    is_planar: bool = False
    tile: int = 0
    rows: int = 13
    compression: int = 1
    is_big: bool = False
    orientation: int = 1
    orientation_type: int = 3
    palette: Any = None

    def __str__(self) -> str:
        colour = {0: "white is zero", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 8: "Lab"}[self.colour]
        words = [f"{self.bits}-bit {colour}", *(f"extra {extra}" for extra in self.extra)]
        words += ["big-endian"] * (self.order == ">") + ["planes"] * self.is_planar + ["tiles"] * bool(self.tile)
        words += ["deflate"] * (self.compression == 8) + ["BigTIFF"] * self.is_big
        return ", ".join([*words, f"orientation {self.orientation}"] if self.orientation > 1 else words)


def tiff(samples: np.ndarray, kind: TiffKind) -> bytes:
    """Return a TIFF.

    :param samples: height by width by samples, whole numbers of ``kind.bits``
    """
    height, width, count = samples.shape
    planes = [samples[..., n : n + 1] for n in range(count)] if kind.is_planar else [samples]
    parts = [_packed(part, kind) for plane in planes for part in _parts(plane, kind)]
    tags: dict[int, tuple[int, list[int]]] = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [kind.bits] * count), 259: (3, [kind.compression]),
        262: (3, [kind.colour]), 277: (3, [count]), 284: (3, [2 if kind.is_planar else 1]),
        274: (kind.orientation_type, [kind.orientation]),
    }  # fmt: skip
    if kind.extra:
        tags[338] = (3, list(kind.extra))
    if kind.palette is not None:
        tags[320] = (3, [int(value) * 257 for value in np.asarray(kind.palette).T.ravel()])
    if kind.tile:
        tags |= {322: (4, [kind.tile]), 323: (4, [kind.tile])}
    else:
        tags[278] = (4, [kind.rows])
    return _file(tags, parts, kind)


def _parts(plane: np.ndarray, kind: TiffKind) -> list[np.ndarray]:
    height, width, count = plane.shape
    if not kind.tile:
        return [plane[top : top + kind.rows] for top in range(0, height, kind.rows)]
    side = kind.tile
    padded = np.zeros((-(-height // side) * side, -(-width // side) * side, count), plane.dtype)
    padded[:height, :width] = plane
    return [
        padded[top : top + side, left : left + side] for top in range(0, height, side) for left in range(0, width, side)
    ]


def _packed(part: np.ndarray, kind: TiffKind) -> bytes:
    rows = part.reshape(part.shape[0], -1)
    if kind.bits in (8, 16, 32):
        data = rows.astype(f"{kind.order}u{kind.bits // 8}").tobytes()
    else:
        data = b"".join(pack_bits(row, kind.bits) for row in rows)
    return zlib.compress(data) if kind.compression == 8 else data


def pack_bits(row: np.ndarray, bits: int) -> bytes:
    """Samples one after the other, the highest bit first, up to a whole byte."""
    spread = (row[:, None].astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.ravel().astype(np.uint8)).tobytes()


def _file(tags: dict[int, tuple[int, list[int]]], parts: list[bytes], kind: TiffKind) -> bytes:
    order, big = kind.order, kind.is_big
    body = bytearray(16 if big else 8)
    offsets = []
    for part in parts:
        body += bytes(-len(body) % 8)
        offsets.append(len(body))
        body += part
    where, sizes = (324, 325) if kind.tile else (273, 279)
    tags = {**tags, where: (4, offsets), sizes: (4, [len(part) for part in parts])}
    number, inline = ("Q", 8) if big else ("L", 4)
    entries = b""
    for tag in sorted(tags):
        code, values = tags[tag]
        data = struct.pack(f"{order}{len(values)}{({1: 'B', 3: 'H', 4: 'L'})[code]}", *values)
        if len(data) > inline:
            body += bytes(-len(body) % 8)
            data, place = struct.pack(order + number, len(body)), data
            body += place
        entries += struct.pack(f"{order}HH{number}", tag, code, len(values)) + data.ljust(inline, b"\0")
    body += bytes(-len(body) % 8)
    first = len(body)
    body += struct.pack(order + ("Q" if big else "H"), len(tags)) + entries + struct.pack(order + number, 0)
    mark = b"II" if order == "<" else b"MM"
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, first) if big else struct.pack(order + "HL", 42, first))
    return head + bytes(body[len(head) :])


#: where the pixels of each pass of Adam7 begin, and how far they are apart: x, y, dx, dy
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(
    samples: np.ndarray,
    depth: int,
    colour: int,
    *,
    interlaced: bool = False,
    palette: np.ndarray | None = None,
    transparent: bytes = b"",
    chunks: tuple[tuple[bytes, bytes], ...] = (),
) -> bytes:
    """Return a PNG.

    :param samples: height by width by samples, whole numbers of ``depth`` bits
    :param colour: colour type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
    :param transparent: body of tRNS
    :param chunks: further ones, ahead of the pixels
    """
    height, width = samples.shape[:2]
    passes = [samples[y::dy, x::dx] for x, y, dx, dy in _ADAM7] if interlaced else [samples]
    rows = b"".join(b"\0" + pack_bits(row.ravel(), depth) for part in passes if part.size for row in part)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    body = png_chunk(b"IHDR", head) + b"".join(png_chunk(kind, data) for kind, data in chunks)
    if palette is not None:
        body += png_chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparent:
        body += png_chunk(b"tRNS", transparent)
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")

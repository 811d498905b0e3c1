"""BMP and DIB: 16 bits a pixel with masks of any kind, also for alpha, of which the imaging library knows two.

Microsoft, BITMAPINFOHEADER, BITMAPV4HEADER and BITMAPV5HEADER.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO

from PIL import BmpImagePlugin, Image

from image_repo.render.lazy_image import LazyImage
from image_repo.render.tolerant import TolerantFile

_FILE_HEADER = 14
_BITFIELDS = 3


class BmpFile(TolerantFile, BmpImagePlugin.BmpImageFile):
    """A BMP."""


class DibFile(TolerantFile, BmpImagePlugin.DibImageFile):
    """A BMP without its file header."""


def open_bmp(source: BinaryIO, data: memoryview) -> Image.Image:
    """Open a BMP, or a DIB."""
    bmp = MaskedBmp.read(data)
    if bmp:
        return LazyImage("RGBA" if bmp.masks[3] else "RGB", bmp.size, bmp.decode)
    return BmpFile(source) if bytes(data[:2]) == b"BM" else DibFile(source)


@dataclass(frozen=True, slots=True)
class MaskedBmp:
    """A picture of 16-bit pixels.

    :param offset: of its pixels
    :param size: in pixels
    :param masks: which bits of a pixel are red, green, blue and alpha
    :param from_top: whether the first row is the top one
    """

    data: memoryview
    offset: int
    size: tuple[int, int]
    masks: tuple[int, ...]
    from_top: bool

    @classmethod
    def read(cls, data: memoryview) -> MaskedBmp | None:
        """Read the header; None for pictures of another kind."""
        start = _FILE_HEADER if bytes(data[:2]) == b"BM" else 0
        length, width, height, _, bits, compression = struct.unpack_from("<IiiHHI", data, start)
        if length < 40 or bits != 16 or compression != _BITFIELDS or width <= 0 or not height:
            return None
        # the masks follow a short header, and are part of a long one
        masks = struct.unpack_from("<IIII", data, start + 40)
        if length < 56:
            masks = (*masks[:3], 0)
        offset = struct.unpack_from("<I", data, 10)[0] if start else length + (12 if length == 40 else 0)
        return cls(data, offset, (width, abs(height)), tuple(mask & 0xFFFF for mask in masks), height < 0)

    def decode(self) -> Image.Image:
        """Return the picture, RGBA where it has a mask of alpha, else RGB.

        :raises ValueError: where rows are missing
        """
        stride = (self.size[0] * 2 + 3) // 4 * 4
        end = self.offset + stride * self.size[1]
        rows = bytes(self.data[self.offset : end])
        words = Image.frombytes("I;16", self.size, rows, "raw", "I;16", stride, 1 if self.from_top else -1).convert("I")
        mode = "RGBA" if self.masks[3] else "RGB"
        return Image.merge(mode, [words.point(_table(mask), "L") for mask in self.masks[: len(mode)]])


@cache
def _table(mask: int) -> list[int]:
    """Return a table from each pixel to these bits of it, scaled to 8."""
    if not mask:
        return [0] * 65536
    shift = (mask & -mask).bit_length() - 1
    most = mask >> shift
    return [((pixel & mask) >> shift) * 255 // most for pixel in range(65536)]

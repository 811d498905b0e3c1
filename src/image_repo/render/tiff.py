"""TIFF: one page at a time, and the kinds that the imaging library reads wrong or not at all.

A page of such a kind is decoded part by part. A few strips or tiles of one plane are put together to a small TIFF with
the tags that say how they are packed, and that is decoded: so every packing of libtiff is read, in bounded memory, and
nothing of a strip is worked out here. Three views of the samples are enough:

* as the page says (a later page; big-endian BigTIFF; tiles whose offsets stand in StripOffsets)
* each plane as a grey picture (planes without compression, which the library takes for 8 bits; 16-bit grey)
* as bytes, where it knows no such sample: 12- and 32-bit grey, 16-bit grey with alpha

TIFF 6.0; Adobe TIFF technical notes; BigTIFF (libtiff).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, Literal

from PIL import Image, ImageChops, TiffImagePlugin

from image_repo.errors import BrokenPicture, UnsupportedPicture
from image_repo.render.colour import from_sixteen_bits
from image_repo.render.geometry import Size
from image_repo.render.headers import MOST_METADATA
from image_repo.render.ifd import Block, Directory
from image_repo.render.lazy_image import LazyImage
from image_repo.render.tolerant import TolerantFile

_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_SIZES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_JPEG_TABLES = 347
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_SIZES, _EXTRA, _FORMAT, _PROFILE = 322, 323, 324, 325, 338, 339, 34675
#: how pixels are packed: what they mean, fill order, predictor, palette, inks, alpha, JPEG tables, YCbCr
PACKING = (_BITS, _COMPRESSION, 262, 266, _SAMPLES, _PLANAR, 317, 320, 332, 338, _FORMAT, 347, 529, 530, 531, 532)
_NO_COMPRESSION, _OLD_JPEG = 1, 6
#: compressions that work on bytes, whatever a sample is: none, LZW, Deflate (twice), PackBits, LZMA, Zstandard
_OF_BYTES = frozenset((_NO_COMPRESSION, 5, 8, 32946, 32773, 34925, 50000))
#: pixels that are decoded at a time
_PART = 1 << 22
_COLOURS = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "ICC Lab",
    10: "ITU Lab", 32803: "colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw",
}  # fmt: skip
_COMPRESSIONS = {
    34661: "JBIG", 33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip

Tag = tuple[int, int, bytes]
Range = tuple[int, int]
View = Literal["library", "page", "planes", "bytes"]


@dataclass(frozen=True, slots=True)
class TiffPage:
    """What the directory of a page says of its pixels."""

    block: Block
    directory: Directory

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of a tag, the default where it is absent."""
        value = self.block.integer(self.directory, tag)
        return default if value is None else value

    @property
    def size(self) -> Size:
        """Width and height as stored, in pixels."""
        return self.integer(_WIDTH, 0), self.integer(_LENGTH, 0)

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return self.integer(_SAMPLES, 1)

    @property
    def bits(self) -> int:
        """Bits of a sample, the most of all samples."""
        return int(max(self.block.numbers(self.directory, _BITS), default=1))

    @property
    def colour(self) -> int:
        """PhotometricInterpretation."""
        return self.integer(_PHOTOMETRIC, 0)

    @property
    def compression(self) -> int:
        """Compression, 1 for none."""
        return self.integer(_COMPRESSION, _NO_COMPRESSION)

    @property
    def extra(self) -> int | None:
        """What the first extra sample is: 0 unspecified, 1 premultiplied alpha, 2 alpha; None without one."""
        return self.block.integer(self.directory, _EXTRA)

    @property
    def is_planar(self) -> bool:
        """Whether each sample lies in a plane of its own."""
        return self.integer(_PLANAR, 1) == 2 and self.samples > 1

    @property
    def is_unsigned(self) -> bool:
        """Whether samples are unsigned whole numbers."""
        return self.integer(_FORMAT, 1) == 1

    @property
    def is_tiled(self) -> bool:
        """Whether it consists of tiles rather than strips."""
        return _TILE_WIDTH in self.directory.entries and _TILE_LENGTH in self.directory.entries

    @property
    def part_size(self) -> Size:
        """Width and height of a tile, or of a strip."""
        if self.is_tiled:
            return self.integer(_TILE_WIDTH, 0), self.integer(_TILE_LENGTH, 0)
        width, height = self.size
        return width, min(height, self.integer(_ROWS, height))

    @property
    def parts(self) -> int:
        """How many strips or tiles there are, as far as the directory says."""
        entry = self.directory.entries.get(self._where[0])
        return entry.count if entry else 0

    @property
    def _where(self) -> tuple[int, int]:
        """The tags of offsets and sizes."""
        in_tiles = _TILE_OFFSETS in self.directory.entries
        return (_TILE_OFFSETS, _TILE_SIZES) if in_tiles else (_STRIP_OFFSETS, _STRIP_SIZES)

    def place(self, number: int) -> Range:
        """Return where a strip or tile begins and ends in the file; (0, 0) where that is absent."""
        start, size = (self.block.nth(self.directory, tag, number) for tag in self._where)
        if not start:
            return 0, 0
        if size is None and self.compression == _NO_COMPRESSION:
            size = len(self.block.data) - start
        return start, start + (size or 0)

    def view(self, number: int) -> View:
        """Decide how the page is decoded.

        :param number: of the page, from 1
        """
        if self._is_grey and self.is_unsigned and (self.bits in (12, 32) or (self.bits, self.samples) == (16, 2)):
            return "bytes"
        is_apart = self.is_planar or (self.samples == 1 and self._is_grey)
        is_split = is_apart and self.bits in (8, 16) and self.is_unsigned
        is_misread = self.is_planar and self.compression == _NO_COMPRESSION
        if is_split and (is_misread or (self.bits, self.colour) == (16, 0)):
            return "planes"
        is_big_endian = self.block.is_big and self.block.order == ">"
        offsets_of_strips = self.is_tiled and _TILE_OFFSETS not in self.directory.entries
        if self.compression == _OLD_JPEG or not (number > 1 or is_big_endian or offsets_of_strips):
            return "library"
        return "planes" if is_split else "page"

    @property
    def _is_grey(self) -> bool:
        return self.colour in (0, 1) and not self.is_planar

    def describe(self) -> str:
        """Name the kind: bits, colour, compression."""
        kind = {2: " signed", 3: " floating point"}.get(self.integer(_FORMAT, 1), "")
        text = f"{self.bits}-bit{kind} {_COLOURS.get(self.colour, 'unknown colour')} of {self.samples} samples"
        packed = _COMPRESSIONS.get(self.compression)
        return f"{text}, compressed as {packed}" if packed else text


class TiffFile(TolerantFile, TiffImagePlugin.TiffImageFile):
    """A TIFF as the imaging library reads it, as stored: turning it upright is left to the caller."""

    def _setup(self) -> None:
        super()._setup()
        self._size = self._tile_size

    def load_end(self) -> None:
        """Leave the picture as it is stored."""


def open_tiff(source: BinaryIO, page: TiffPage, number: int, scale: int = 1) -> Image.Image:
    """Open one page as it is stored.

    :param number: of the page, from 1
    :param scale: by how much it is decoded smaller, on each side
    :raises UnsupportedPicture: for a kind that is not read
    """
    view = page.view(number)
    refusal = UnsupportedPicture(
        f"TIFF of {page.describe()} is not read here. Convert it to 8 or 16 bits of grey, RGB or CMYK."
    )
    if page.compression in _COMPRESSIONS:
        raise refusal
    try:
        if view == "library" and scale == 1:
            return TiffFile(source)
        return TiffParts(page, "page" if view == "library" else view, scale).image()
    except (SyntaxError, KeyError) as error:
        raise refusal from error


class TiffParts:
    """Decodes a page part by part.

    :param view: of its samples
    :param scale: by how much it becomes smaller, on each side: 1, 2, 4 or 8
    :raises SyntaxError: for a kind that is not read
    """

    def __init__(self, page: TiffPage, view: View, scale: int = 1) -> None:
        self.page = page
        self._view = view
        self._scale = scale
        width, height = page.part_size
        if min(width, height, *page.size) <= 0:
            raise BrokenPicture("The TIFF has no strips or tiles, or some without a size.")
        self._across = -(-page.size[0] // width)
        self._down = -(-page.size[1] // height)
        if scale > 1 and (height % scale or not page.is_tiled):
            raise SyntaxError("strips of this height are not decoded smaller")
        if view == "bytes" and (page.compression not in _OF_BYTES or page.integer(_PREDICTOR, 1) != 1):
            raise SyntaxError("samples of this kind cannot be unpacked")

    def image(self) -> Image.Image:
        """Return the page, not decoded yet."""
        image = LazyImage(self._mode(), self._size, self._decode)
        profile = self.page.block.raw(self.page.directory, _PROFILE, MOST_METADATA)
        if profile:
            image.info["icc_profile"] = profile
        return image

    @property
    def _size(self) -> Size:
        """What it becomes."""
        width, height = self.page.size
        return -(-width // self._scale), -(-height // self._scale)

    def _mode(self) -> str:
        page = self.page
        if self._view == "page":
            mode = TiffFile(io.BytesIO(self._file(self._numbers(0, 0, 1)))).mode
            mode = {"P": "RGB", "PA": "RGBA", "RGBa": "RGBA", "La": "LA", "I;16B": "I;16"}.get(mode, mode)
            return "L" if mode == "1" and self._scale > 1 else mode
        if self._view == "bytes":
            return {12: "L", 32: "F"}.get(page.bits, "LA" if page.extra in (1, 2) else "L")
        if page.samples == 1:
            return "L"
        colours = {1: "L", 2: "RGB", 5: "CMYK"}[page.colour]
        has_alpha = page.colour != 5 and page.samples > len(colours) and page.extra != 0
        return colours + "A" * has_alpha

    def _decode(self) -> Image.Image:
        mode = self._mode()
        if self._view != "planes":
            return self._plane(0, mode)
        planes = [self._plane(number, "L") for number in range(len(mode))]
        if self.page.extra == 1 and mode in ("LA", "RGBA"):
            return Image.merge({"LA": "La", "RGBA": "RGBa"}[mode], planes).convert(mode)
        return Image.merge(mode, planes) if len(planes) > 1 else planes[0]

    def _plane(self, plane: int, mode: str) -> Image.Image:
        height = self.page.part_size[1]
        whole = Image.new(mode, self._size)
        for top, rows in self._groups():
            part = self._part(self._numbers(plane, top, rows))
            part = part if part.mode == mode else part.convert(mode)
            if self._scale > 1:
                part = self._smaller(part, top * height)
            whole.paste(part, (0, top * height // self._scale))
        return whole

    def _smaller(self, part: Image.Image, top: int) -> Image.Image:
        """Return a part without what sticks out of the page, each block of pixels averaged."""
        width, height = self.page.size
        part = part.crop((0, 0, min(part.width, width), min(part.height, height - top)))
        premultiplied = part.convert({"LA": "La", "RGBA": "RGBa"}.get(part.mode, part.mode))
        return premultiplied.reduce(self._scale).convert(part.mode)

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Yield rows of parts that are decoded together: the first of them, and how many."""
        width, height = self.page.part_size
        step = max(1, _PART // (self._across * width * height))
        for top in range(0, self._down, step):
            yield top, min(step, self._down - top)

    def _numbers(self, plane: int, top: int, rows: int) -> range:
        first = (plane * self._down + top) * self._across
        return range(first, first + rows * self._across)

    def _part(self, numbers: range) -> Image.Image:
        with TiffFile(io.BytesIO(self._file(numbers))) as file:
            file.load()
            if self._view == "bytes":
                return self._from_bytes(file.tobytes())
            part = file if self._view == "page" or file.mode == "L" else from_sixteen_bits(file)
            part = ImageChops.invert(part) if self._view == "planes" and self.page.colour == 0 else part
            return part.copy() if part is file else part

    def _from_bytes(self, data: bytes) -> Image.Image:
        page = self.page
        width = self._across * page.part_size[0]
        size = (width, len(data) // self._row_bytes(width))
        big = page.block.order == ">"
        if page.bits == 32:
            part = Image.frombytes("F", size, data, "raw", "F;32B" if big else "F;32")
            return part.point(lambda value: value * -1 + (2**32 - 1)) if page.colour == 0 else part
        if page.bits == 12:
            grey = Image.frombytes("I;16", size, data, "raw", "I;12").convert("I").point(_TWELVE_BITS, "L")
            return ImageChops.invert(grey) if page.colour == 0 else grey
        # grey and alpha, two bytes each: the upper ones
        bands = Image.frombytes("RGBA", size, data).split()[0 if big else 1 :: 2]
        grey = ImageChops.invert(bands[0]) if page.colour == 0 else bands[0]
        if page.extra not in (1, 2):
            return grey
        return Image.merge("LA" if page.extra == 2 else "La", (grey, bands[1])).convert("LA")

    def _row_bytes(self, width: int) -> int:
        return -(-width * self.page.bits * self.page.samples // 8)

    def _file(self, numbers: range) -> bytes:
        """Return a TIFF of these parts alone."""
        page, order = self.page, self.page.block.order
        bodies = [self._body(number) for number in numbers]
        width, height = page.part_size
        rows = len(numbers) // self._across * height
        if not page.is_tiled:
            last = numbers[-1] % self._down == self._down - 1
            rows -= (self._down * height - page.size[1]) if last else 0
        width *= self._across
        tags = self._packing()
        if self._view == "bytes":
            width = self._row_bytes(width)
        values = {_WIDTH: width, _LENGTH: rows}
        if page.is_tiled:
            values |= {_TILE_WIDTH: width // self._across, _TILE_LENGTH: height}
        else:
            values[_ROWS] = height
        tags |= {tag: (4, 1, struct.pack(order + "L", value)) for tag, value in values.items()}
        return join_tiff(order, tags, bodies, tiled=page.is_tiled)

    def _packing(self) -> dict[int, Tag]:
        """Return the tags of how the parts are packed, in the view of their samples."""
        page, order = self.page, self.page.block.order
        tags_of_view = PACKING if self._view == "page" else (_COMPRESSION, _FILL_ORDER, _PREDICTOR, _JPEG_TABLES)
        tags: dict[int, Tag] = {}
        for tag in tags_of_view:
            entry = page.directory.entries.get(tag)
            if entry:
                tags[tag] = (entry.type, entry.count, page.block.raw(page.directory, tag, MOST_METADATA))
        if self._view != "page":
            bits = 8 if self._view == "bytes" else page.bits
            single = {_BITS: bits, _PHOTOMETRIC: 1, _SAMPLES: 1, _PLANAR: 1}
            tags |= {tag: (3, 1, struct.pack(order + "H", value)) for tag, value in single.items()}
        return tags

    def _body(self, number: int) -> memoryview:
        start, end = self.page.place(number)
        if not 0 < start < end <= len(self.page.block.data):
            raise BrokenPicture("The TIFF has no strip or tile where it says that one is.")
        return self.page.block.data[start:end]


def is_cut_off(data: memoryview, pages: int) -> bool:
    """Return whether the file ends within a page.

    Its last strip or tile lies behind the end, and what describes it before: a page whose directory follows its strips
    is there to its end.

    :param pages: how many are looked at
    """
    block = Block(data)
    for directory in islice(block.chain(), pages):
        page = TiffPage(block, directory)
        start, end = page.place(page.parts - 1)
        if end > len(data) and start > max(entry.offset for entry in directory.entries.values()):
            return True
    return False


def join_tiff(order: str, tags: dict[int, Tag], bodies: list[memoryview], *, tiled: bool = True) -> bytes:
    """Return a TIFF of strips or tiles.

    :param order: of its bytes, as :mod:`struct` has it
    :param tags: without those that say where the parts are: tag → type, count, value
    """
    where, how_long = (_TILE_OFFSETS, _TILE_SIZES) if tiled else (_STRIP_OFFSETS, _STRIP_SIZES)
    sizes = struct.pack(f"{order}{len(bodies)}L", *map(len, bodies))
    tags = {**tags, how_long: (4, len(bodies), sizes)}
    count = len(tags) + 1
    at = 8 + 2 + 12 * count + 4
    extra: list[bytes] = []

    def placed(value: bytes) -> bytes:
        nonlocal at
        if len(value) <= 4:
            return value.ljust(4, b"\0")
        extra.append(value + b"\0" * (len(value) & 1))
        at += len(extra[-1])
        return struct.pack(order + "L", at - len(extra[-1]))

    entries = {tag: (kind, number, placed(value)) for tag, (kind, number, value) in tags.items()}
    # A single offset stands in its entry, more of them before the first part.
    start = at + (4 * len(bodies) if len(bodies) > 1 else 0)
    offsets = []
    for body in bodies:
        offsets.append(start)
        start += len(body)
    entries[where] = (4, len(bodies), placed(struct.pack(f"{order}{len(bodies)}L", *offsets)))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8) + struct.pack(order + "H", count)
    table = b"".join(struct.pack(order + "HHL", tag, *entries[tag][:2]) + entries[tag][2] for tag in sorted(entries))
    return b"".join([head, table, bytes(4), *extra, *bodies])


_TWELVE_BITS = [min(255, (value * 255 + 2047) // 4095) for value in range(65536)]

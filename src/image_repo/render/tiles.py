"""Huge TIFFs made of tiles, perhaps with smaller levels beside: only the tiles that a region touches are decoded.

The tiles are put together to a TIFF of their own, with the tags that say how they are packed,
and that is decoded: so every packing that libtiff knows is read, and nothing of a tile is
worked out here. Of the levels the smallest is taken that leaves
:data:`~image_repo.render.pipeline.GAP` for Lanczos to do: who made them, and how well, is not known.

TIFF 6.0, sections 15 (tiles) and 22 (JPEG); Adobe TIFF technical note 1 (SubIFDs); BigTIFF.
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

from PIL import Image, TiffImagePlugin

from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture
from image_repo.model.recipe import Recipe
from image_repo.render.decoders import Picture
from image_repo.render.exif import Exif
from image_repo.render.geometry import Plan, Size
from image_repo.render.headers import MOST_METADATA, check_pixels
from image_repo.render.ifd import Block, Bytes, Directory
from image_repo.render.pipeline import GAP, Job
from image_repo.render.pyramid import Whole
from image_repo.render.regions import cut, factor
from image_repo.render.tiff import PACKING, Tag, join_tiff

#: pixels from which on a TIFF is read by the tile; a smaller one is decoded once
HUGE = 50_000_000
_MOST_LEVELS = 32
_LARGEST_TILE = 1 << 13
_OLD_JPEG = 6
_KIND, _WIDTH, _HEIGHT, _BITS, _COMPRESSION = 254, 256, 257, 258, 259
_ORIENTATION, _BANDS, _PLANAR, _CHILDREN, _FORMAT, _PROFILE = 274, 277, 284, 330, 339, 34675
_TILE_WIDTH, _TILE_HEIGHT, _OFFSETS, _SIZES = 322, 323, 324, 325


@dataclass(frozen=True, slots=True)
class Tiled:
    """A page of a TIFF that is read by the tile.

    :param levels: scale → directory, the page itself as 1
    """

    block: Block
    levels: dict[int, Directory]
    exif: Exif

    @property
    def size(self) -> Size:
        """Of the page, in pixels."""
        return _size(self.block, self.levels[1])

    def scale(self, plan: Plan) -> int:
        """From which level a region is taken."""
        return max(scale for scale in self.levels if scale == 1 or scale * GAP <= factor(plan))

    def job(self, recipe: Recipe, plan: Plan, limits: RenderConfiguration) -> Job:
        """The job on the part that it needs.

        :raises OverBudget: when its tiles have more pixels than are decoded
        :raises BrokenPicture: when there are none where the file says
        """
        scale = self.scale(plan)
        box, region = cut(recipe, plan, scale, _size(self.block, self.levels[scale]))
        part = self._part(self.levels[scale], box, limits)
        size = (part.width * scale, part.height * scale)
        picture = Picture(part, "tif", size, 1, 1, self.exif, size[0] * size[1])
        return Job(recipe, picture, replace(plan, region=region))

    def _part(self, level: Directory, box: Whole, limits: RenderConfiguration) -> Image.Image:
        (width, height), (across, down) = _size(self.block, level), _tile(self.block, level)
        left, top = box[0] // across, box[1] // down
        right, bottom = -(-box[2] // across), -(-box[3] // down)
        check_pixels((right - left) * across, (bottom - top) * down, limits)
        columns = -(-width // across)
        numbers = [y * columns + x for y in range(top, bottom) for x in range(left, right)]
        size = (min(width, right * across) - left * across, min(height, bottom * down) - top * down)
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(self._file(level, size, numbers)))
        image.load()
        x, y = left * across, top * down
        return image.crop((box[0] - x, box[1] - y, box[2] - x, box[3] - y))

    def _file(self, level: Directory, size: Size, numbers: list[int]) -> bytes:
        """A TIFF of these tiles alone."""
        bodies = [self._body(level, number) for number in numbers]
        order = self.block.order
        tags: dict[int, Tag] = {}
        # A profile stands at the page; its levels need not repeat it.
        for tag, directory in (*((tag, level) for tag in PACKING), (_PROFILE, self.levels[1])):
            entry = directory.entries.get(tag)
            if entry:
                tags[tag] = (entry.type, entry.count, self.block.raw(directory, tag, MOST_METADATA))
        for tag, value in zip(
            (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT), (*size, *_tile(self.block, level)), strict=True
        ):
            tags[tag] = (4, 1, struct.pack(order + "L", value))
        return join_tiff(order, tags, bodies)

    def _body(self, level: Directory, number: int) -> memoryview:
        offset, size = self.block.nth(level, _OFFSETS, number), self.block.nth(level, _SIZES, number)
        if not offset or not size or offset + size > len(self.block.data):
            raise BrokenPicture("The TIFF has no tile where it says that one is.")
        return self.block.data[offset : offset + size]


def may_be_tiled(size: Size) -> bool:
    """Whether a page is so large that it is read by the tile where that can be done."""
    return size[0] * size[1] >= HUGE


def find(data: Bytes, page: int) -> Tiled | None:
    """A page of a TIFF, where it is huge and made of tiles that can be read apart; None where it is not.

    :param data: the file
    :param page: from 1
    :raises ValueError: when its directories lie outside of it
    """
    block = Block(data)
    pages = block.chain()
    page_itself = next(itertools.islice(pages, page - 1, None), None)
    if page_itself is None or not _is_readable(block, page_itself):
        return None
    size = _size(block, page_itself)
    if not may_be_tiled(size) or (block.integer(page_itself, _ORIENTATION) or 1) != 1:
        return None
    levels = {1: page_itself}
    for other in (*_children(block, page_itself), *_reduced(block, pages)):
        scale = _scale(size, _size(block, other))
        if scale > 1 and _is_readable(block, other) and _is_alike(block, page_itself, other):
            levels.setdefault(scale, other)
    return Tiled(block, levels, Exif.read(data))


def _children(block: Block, page: Directory) -> Iterator[Directory]:
    for offset in block.numbers(page, _CHILDREN)[:_MOST_LEVELS]:
        yield block.directory(int(offset))


def _reduced(block: Block, following: Iterator[Directory]) -> Iterator[Directory]:
    """The directories behind a page that say that they are smaller versions of it."""
    for directory in itertools.islice(following, _MOST_LEVELS):
        if not (block.integer(directory, _KIND) or 0) & 1:
            return
        yield directory


def _is_readable(block: Block, directory: Directory) -> bool:
    """Whether it consists of tiles, each with all bands, whose colours do not depend on what others hold."""
    across, down = _tile(block, directory)
    width, height = _size(block, directory)
    offsets = directory.entries.get(_OFFSETS)
    whole_numbers = set(block.numbers(directory, _FORMAT)) <= {1} and set(block.numbers(directory, _BITS)) <= {8, 16}
    return (
        min(across, down, width, height) > 0
        and max(across, down) <= _LARGEST_TILE
        and offsets is not None
        and offsets.count == -(-width // across) * -(-height // down)
        and whole_numbers
        and (block.integer(directory, _PLANAR) or 1) == 1
        and block.integer(directory, _COMPRESSION) != _OLD_JPEG
    )


def _is_alike(block: Block, page: Directory, level: Directory) -> bool:
    return all(block.numbers(page, tag) == block.numbers(level, tag) for tag in (_BITS, _BANDS))


def _scale(page: Size, level: Size) -> int:
    """How much smaller a level is, in both directions; 0 where it is not a whole number, up to rounding."""
    scale = round(page[0] / level[0]) if min(level) > 0 else 0
    fits = scale and all(side // scale <= small <= -(-side // scale) for side, small in zip(page, level, strict=True))
    return scale if fits else 0


def _size(block: Block, directory: Directory) -> Size:
    return block.integer(directory, _WIDTH) or 0, block.integer(directory, _HEIGHT) or 0


def _tile(block: Block, directory: Directory) -> Size:
    return block.integer(directory, _TILE_WIDTH) or 0, block.integer(directory, _TILE_HEIGHT) or 0

"""Working copies: what a large original is made into once, so that its small variants cost little.

There are two, by a half of each other in size: from the first come variants of up to 640
pixels at least, from the second of up to 320. Which one a variant comes from, if any, is a
function of its recipe and the original's size; how a copy is made, of the original alone.
So a variant's bytes are the same whatever is kept.

A copy is sRGB, and made by averaging whole blocks of pixels, of a JPEG by its decoder itself.
Blocks begin at the corner of the picture as it is stored, so it stays as it is stored, and
notes in an EXIF block of its own which side is up, and how large the original is: its edges
are then found to a fraction of a pixel. Turning is left to the small picture, where it is cheap.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Literal

import piexif  # type: ignore[import-untyped]
from PIL import Image

from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture
from image_repo.formats import BY_KIND
from image_repo.recipe import Recipe
from image_repo.render.colour import to_plain, to_srgb, unmultiplied
from image_repo.render.exif import most_rights
from image_repo.render.geometry import Size, plan
from image_repo.render.source import Picture, open_picture
from image_repo.render.steps import GAP, draft, drafted, in_blocks, without_needless_alpha

#: which copy → the long side of variants that it is good for, of any original; ``GAP`` times that is its own at least
SERVES: Mapping[Literal[1, 2], int] = {2: 320, 1: 640}
#: a copy has less than twice the pixels that it needs on a side, so it is good for no larger box
_LARGEST_BOX = 2 * max(SERVES.values())


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture that was made.

    :param width: in pixels
    :param height: in pixels
    """

    body: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Copied:
    """The working copies of an original.

    :param size: of the upright original in pixels, None for one that has no working copies
    :param pictures: which copy → the copy, where they were made
    """

    size: Size | None
    pictures: Mapping[int, Rendered] = field(default_factory=dict)


def may_use_copy(recipe: Recipe) -> bool:
    """Whether a variant may come from a working copy, as far as the recipe tells."""
    sides = [side for side in (recipe.width, recipe.height) if side]
    return recipe.page == 1 and not recipe.animate and not recipe.is_original and min(sides, default=0) in _BOXES


_BOXES = range(1, _LARGEST_BOX + 1)


def choose_copy(recipe: Recipe, size: Size | None) -> int:
    """Which working copy a variant is made from, 0 for the original itself.

    It has to be :data:`~image_repo.render.steps.GAP` times as large as the variant at least:
    nearer to it, what the averages lose would show.

    :param size: of the upright original, None for one that has no working copies
    :raises BadParameter: for a region that the picture does not have
    """
    if size is None or not may_use_copy(recipe):
        return 0
    wanted = plan(recipe, size)
    left, top, right, bottom = wanted.region
    factor = min((right - left) / wanted.size[0], (bottom - top) / wanted.size[1])
    return next((which for which, scale in scales(size).items() if factor >= GAP * scale), 0)


def scales(size: Size) -> dict[int, int]:
    """Which copies an original of this size has → how many of its pixels are one of theirs, on each side.

    Powers of two, as JPEG decoders can scale by them. The smallest copy comes first.
    """
    found = {which: 1 << max(0, int(max(size) / GAP / serves).bit_length() - 1) for which, serves in SERVES.items()}
    return {which: scale for which, scale in found.items() if scale > 1}


def size_to_copy(picture: Picture) -> Size | None:
    """The upright size of an original that has working copies, None for one that has none."""
    return picture.upright if picture.frames == 1 and scales(picture.stored) else None


def make_copies(picture: Picture, limits: RenderConfiguration) -> Copied:
    """All working copies of an original, from one decode that reads its file to the end.

    :param picture: opened, nothing decoded yet
    """
    size = size_to_copy(picture)
    if size is None:
        return Copied(None)
    wanted = scales(size)
    first = min(wanted.values())
    small = _averaged(picture, first)
    note = _note(picture, limits)
    made = {which: small if scale == first else small.reduce(scale // first) for which, scale in wanted.items()}
    return Copied(size, {which: _write(image, note) for which, image in made.items()})


def _averaged(picture: Picture, scale: int) -> Image.Image:
    image = picture.image
    draft(picture, scale)
    image.load()
    convert, left = to_plain(image), scale // drafted(image, picture)
    small = image._new(image.im)
    if convert or left > 1:
        small = in_blocks(image, (0, 0, *image.size), (left, left), convert)
    small = without_needless_alpha(to_srgb(unmultiplied(small), picture.profile))
    small.info = {}
    return small


def _note(picture: Picture, limits: RenderConfiguration) -> bytes:
    """What has to be known of the original to make variants of a copy, as an EXIF block."""
    artist, rights = picture.exif.rights(most_rights(limits))
    tags = {
        piexif.ImageIFD.ImageWidth: picture.stored[0],
        piexif.ImageIFD.ImageLength: picture.stored[1],
        piexif.ImageIFD.Orientation: picture.orientation,
        piexif.ImageIFD.Artist: artist.encode(),
        piexif.ImageIFD.Copyright: rights.encode(),
    }
    note: bytes = piexif.dump({"0th": {tag: value for tag, value in tags.items() if value}})
    return note


def _write(image: Image.Image, note: bytes) -> Rendered:
    # At 95 with full colour a copy of twice a variant's size costs it 0.002 of SSIM, at 92 with
    # half the colour 0.01. Transparency is rare, and has to stay exact: PNG, quickly packed.
    has_alpha = image.mode in ("LA", "RGBA")
    made = BY_KIND["png" if has_alpha else "jpg"]
    options: dict[str, Any] = {"compress_level": 1} if has_alpha else {"quality": 95, "subsampling": "4:4:4"}
    file = io.BytesIO()
    image.save(file, made.pillow, exif=note, **options)
    return Rendered(file.getvalue(), made.media_type, *image.size)


def open_copy(source: BinaryIO, limits: RenderConfiguration) -> Picture:
    """A working copy, opened as what it stands for: a picture of the original's size, decoded smaller.

    :raises BrokenPicture: when it is no working copy
    """
    picture = open_picture(source, limits)
    stored = picture.exif.size
    if stored is None:
        raise BrokenPicture("This is no working copy.")
    return replace(picture, stored=stored)

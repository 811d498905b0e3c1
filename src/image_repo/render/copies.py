"""Working copies: what a large original is made into once, so that its small variants cost little.

There are two, by a half of each other in size: from the first come variants of up to 640
pixels at least, from the second of up to 320. Which one a variant comes from, if any, is a
function of its recipe and the original's size; how a copy is made, of the original alone.
So a variant's bytes are the same whatever is kept.

A copy is made by averaging whole blocks of pixels, of a JPEG by its decoder itself, and keeps
what is done better when a picture is small: turning it upright, and its colour profile. So
it carries an EXIF block of its own, with its orientation and the size of the original, by
which the edges of the picture are found to a fraction of a pixel.
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
from image_repo.render.steps import draft, drafted, in_blocks, without_needless_alpha

#: which copy → the long side of variants that it is good for, whatever the original
SERVES: Mapping[Literal[1, 2], int] = {2: 320, 1: 640}
#: pixels of the original in one of a copy, on each side: powers of two, as JPEG decoders can scale by them
_SCALES = (64, 32, 16, 8, 4, 2)
_QUALITY = 96
#: a profile beyond this, in bytes, is that of a printing press; it is applied, not kept
_MOST_PROFILE = 64 << 10
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
class Copyable:
    """What decides of an original which of its variants come from a working copy.

    :param size: in pixels, upright
    :param scales: which copy it has → how many of its pixels are one of the copy's, on each side; smallest copy first
    """

    size: Size
    scales: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Copied:
    """The working copies of an original.

    :param original: None for one that has no working copies
    :param pictures: which copy → the copy
    """

    original: Copyable | None = None
    pictures: Mapping[int, Rendered] = field(default_factory=dict)


def may_use_copy(recipe: Recipe) -> bool:
    """Whether a variant may come from a working copy, as far as the recipe tells."""
    sides = [side for side in (recipe.width, recipe.height) if side]
    return recipe.page == 1 and not recipe.animate and not recipe.is_original and min(sides, default=0) in _BOXES


_BOXES = range(1, _LARGEST_BOX + 1)


def choose_copy(recipe: Recipe, original: Copyable | None) -> int:
    """Which working copy a variant is made from, 0 for the original itself.

    :param original: None for one that has no working copies
    :raises BadParameter: for a region that the picture does not have
    """
    if original is None or not may_use_copy(recipe):
        return 0
    wanted = plan(recipe, original.size)
    left, top, right, bottom = wanted.region
    # a size is rounded by up to half a pixel, which shall not decide
    factor = min((right - left) / (wanted.size[0] - 0.5), (bottom - top) / (wanted.size[1] - 0.5))
    # Of regions only the farthest come from a copy: the others are cut out of decoded pixels, which costs less than
    # decoding a copy for each of them.
    there = list(original.scales.items())[: 1 if recipe.region else None]
    return next((which for which, scale in there if factor >= _ratio(scale) * scale), 0)


def scales(size: Size) -> dict[int, int]:
    """Which copies an original of this size has, each with its scale; the smallest copy first."""
    long = max(size)
    fitting = {which: [s for s in _SCALES if long >= serves * _ratio(s) * s] for which, serves in SERVES.items()}
    return {which: found[0] for which, found in fitting.items() if found}


def _ratio(scale: int) -> float:
    """By how much a copy has to be larger than a variant, on both sides.

    With this, and its quality, SSIM to what a full decode and Lanczos give is 0.995 at least (a
    dozen photographs); with 2 and quality 95 it is 0.990. Half the size still holds the
    finest detail of the original, which the copy's JPEG keeps worst.
    """
    return 2.9 if scale == 2 else 2.34


def copyable(picture: Picture) -> Copyable | None:
    """What its header tells of an original that has working copies, None for one that has none."""
    return _copyable(picture) if picture.frames == 1 else None


def _copyable(picture: Picture) -> Copyable | None:
    found = scales(picture.stored)
    return Copyable(picture.upright, found) if found else None


def make_copies(picture: Picture, limits: RenderConfiguration) -> Copied:
    """All working copies of an original, from one decode that reads its file to the end.

    :param picture: opened, nothing decoded yet
    """
    original = copyable(picture)
    if original is None:
        return Copied()
    first = min(original.scales.values())
    note = _note(picture, limits)
    small = _averaged(picture, first)
    options = {"exif": note, "icc_profile": small.info.pop("icc_profile", None)}
    made = {which: small if s == first else small.reduce(s // first) for which, s in original.scales.items()}
    return Copied(original, {which: _write(image, options) for which, image in made.items()})


def _averaged(picture: Picture, scale: int) -> Image.Image:
    """The whole picture made smaller; its ``info`` holds its profile where that still has to be applied."""
    image = picture.image
    draft(picture, scale)
    image.load()
    convert, left = to_plain(image), scale // drafted(image, picture)
    small = image._new(image.im)
    if convert or left > 1:
        small = in_blocks(image, (0, 0, *image.size), (left, left), convert)
    small = unmultiplied(small)
    profile = picture.profile
    if small.mode not in _WRITABLE or len(profile or b"") > _MOST_PROFILE:
        small, profile = to_srgb(small, profile), None
    small = without_needless_alpha(small)
    small.info = {"icc_profile": profile} if profile else {}
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


_WRITABLE = frozenset(("L", "LA", "RGB", "RGBA"))


def _write(image: Image.Image, note: dict[str, Any]) -> Rendered:
    # Transparency is rare, and has to stay exact: PNG, quickly packed.
    has_alpha = image.mode in ("LA", "RGBA")
    made = BY_KIND["png" if has_alpha else "jpg"]
    options: dict[str, Any] = {"compress_level": 1} if has_alpha else {"quality": _QUALITY, "subsampling": "4:4:4"}
    file = io.BytesIO()
    image.save(file, made.pillow, **note, **options)
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


def copied_from(picture: Picture) -> Copyable | None:
    """What a working copy tells of its original.

    :param picture: as :func:`open_copy` gives it
    """
    return _copyable(picture)

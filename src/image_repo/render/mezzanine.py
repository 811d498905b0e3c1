"""Working copies: what a large original is made into once, so that its small variants cost little.

There are four, of :data:`SIDES` pixels on the long side. Which one a variant comes from, if any, is a
function of its recipe and the original's size; how a copy is made, of the original alone.
So a variant's bytes are the same whatever is kept.

Resampling is what a variant costs, and it costs the more the larger what it is made from, so there are several, not
far apart. Nothing of a copy is lost: so 1.6 times the size of a variant is enough, where a JPEG of the best quality had
to have 2.3 times; and no decoder has to be paid for it (:mod:`.copyfile`).

The largest is made from a decode that a JPEG's decoder has made smaller, each of the others from the one
before. A copy keeps what is done better when a picture is small: turning it upright, and its colour profile. So it
carries an EXIF block of its own, with its orientation and the size of the original.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

import piexif  # type: ignore[import-untyped]
from PIL import Image

from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture
from image_repo.model.recipe import Recipe
from image_repo.render.colour import to_plain, to_srgb, unmultiplied
from image_repo.render.decoders import COPY, Picture, draft
from image_repo.render.exif import Exif, most_rights
from image_repo.render.geometry import Plan, Size, plan
from image_repo.render.headers import check_pixels
from image_repo.render.mezzanine_file import MEDIA_TYPE, MODES, CopyFile
from image_repo.render.pipeline import Job, shrink, without_needless_alpha

#: which copy → its long side; the smallest first
SIDES: dict[Literal[1, 2, 3, 4], int] = {4: 250, 3: 400, 2: 640, 1: 1024}
#: the largest: what the others are made from
LARGEST: Literal[1] = 1
#: By how much a copy has to be larger than a variant, on both sides. With this, SSIM to what a full decode and Lanczos
#: give is 0.9959 at least (a dozen photographs; 0.9942 for pictures that are half made of grain).
RATIO = 1.6
#: The filter that makes copies: with Lanczos it would be 0.9967, for half as much again of what making them takes.
_KERNEL = Image.Resampling.BICUBIC
#: What a decoder that makes a JPEG smaller leaves for it to do, at least: with less, its own filter shows.
_DECODER_GAP = 1.15
#: a profile beyond this, in bytes, is that of a printing press; it is applied, not kept
_MOST_PROFILE = 64 << 10


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
class MezzaninePlan:
    """An original that has working copies.

    :param size: in pixels, upright
    """

    size: Size


@dataclass(frozen=True, slots=True)
class MezzaninePixels:
    """The working copies of an original.

    :param original: None for one that has no working copies
    :param pictures: which copy → the copy
    """

    original: MezzaninePlan | None = None
    pictures: Mapping[int, Rendered] = field(default_factory=dict)


def may_use_copy(recipe: Recipe) -> bool:
    """Whether a variant may come from a working copy, as far as the recipe tells."""
    sides = [side for side in (recipe.width, recipe.height) if side]
    return recipe.page == 1 and not recipe.animate and not recipe.is_original and min(sides, default=0) in _BOXES


_BOXES = range(1, int(max(SIDES.values()) / RATIO) + 1)


def choose_copy(recipe: Recipe, original: MezzaninePlan | None) -> int:
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
    long = max(original.size)
    return next((which for which, side in SIDES.items() if factor * side >= RATIO * long), 0)


def copyable(picture: Picture) -> MezzaninePlan | None:
    """What its header tells of an original that has working copies, None for one that has none."""
    return MezzaninePlan(picture.upright) if _is_large(picture.stored) and picture.frames == 1 else None


def _is_large(size: Size) -> bool:
    return max(size) >= RATIO * SIDES[LARGEST]


def make_copies(picture: Picture, limits: RenderConfiguration) -> MezzaninePixels:
    """All working copies of an original, from one decode that reads its file to the end.

    :param picture: opened, nothing decoded yet
    """
    original = copyable(picture)
    if original is None:
        return MezzaninePixels()
    return _all(original, picture.stored, _largest(picture, limits))


def _all(original: MezzaninePlan, stored: Size, largest: CopyFile) -> MezzaninePixels:
    """The largest, and those that are made from it one after the other."""
    made: dict[int, CopyFile] = {LARGEST: largest}
    convert = to_plain(largest.image)
    image = convert(largest.image) if convert else largest.image
    for which, side in reversed(SIDES.items()):
        if which != LARGEST:
            image = image.resize(_fitting(stored, side), _KERNEL)
            made[which] = CopyFile(unmultiplied(image), largest.note, largest.profile)
    pictures = {which: Rendered(copy.write(), MEDIA_TYPE, *copy.image.size) for which, copy in made.items()}
    return MezzaninePixels(original, pictures)


def _largest(picture: Picture, limits: RenderConfiguration) -> CopyFile:
    draft(picture, max(picture.stored) / SIDES[LARGEST] / _DECODER_GAP)
    picture.image.load()
    as_stored = Plan((0, 0, *picture.upright), _fitting(picture.upright, SIDES[LARGEST]))
    small = shrink(picture.image, Job(Recipe(), picture, as_stored, _KERNEL))
    profile = picture.profile
    if small.mode not in MODES or len(profile or b"") > _MOST_PROFILE:
        small, profile = to_srgb(small, profile), None
    return CopyFile(without_needless_alpha(small), _note(picture, limits), profile or b"")


def _fitting(size: Size, side: int) -> Size:
    """The size with so many pixels on its long side."""
    across, down = (max(1, round(each * side / max(size))) for each in size)
    return across, down


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


def open_copy(source: BinaryIO) -> Picture:
    """A working copy, opened as what it stands for: a picture of the original's size, decoded smaller.

    :raises BrokenPicture: when it is no working copy
    """
    return _stands_for(CopyFile.read(source))


def _stands_for(copy: CopyFile) -> Picture:
    exif = Exif.read(memoryview(copy.note))
    if exif.size is None:
        raise BrokenPicture("This is no working copy.")
    copy.image.info = {"icc_profile": copy.profile} if copy.profile else {}
    width, height = copy.image.size
    return Picture(copy.image, COPY, exif.size, 1, exif.orientation, exif, width * height)


def pack_copy(copy: bytes) -> bytes:
    """A working copy as it is sent over a network."""
    return CopyFile.read(io.BytesIO(copy)).write(packed=True)


def unpack_copies(packed: bytes, limits: RenderConfiguration) -> MezzaninePixels:
    """All working copies of an original, from its largest: the same as from the original.

    :raises BrokenPicture: when it is no working copy, or not the largest
    :raises OverBudget: when it claims to be of a larger original than there may be
    """
    copy = CopyFile.read(io.BytesIO(packed))
    picture = _stands_for(copy)
    check_pixels(*picture.stored, limits)
    if not _is_large(picture.stored) or copy.image.size != _fitting(picture.stored, SIDES[LARGEST]):
        raise BrokenPicture("This is no working copy.")
    return _all(MezzaninePlan(picture.upright), picture.stored, copy)

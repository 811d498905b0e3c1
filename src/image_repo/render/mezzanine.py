"""Mezzanines: originals decoded at 1/8, 1/4 or 1/2 of their size, from which their small variants are rendered.

The scaled output of the decoder itself is the mezzanine, so that the first variant costs no more than it does anywhere,
and nothing is resampled twice. The decoder of a sequential JPEG scales in its cosine transform, which is cheap enough
to do again for another scale. A progressive JPEG or a picture of another format has to be decoded whole: that one
decode yields all mezzanines, the largest averaged in blocks of pixels, each smaller one in blocks of the larger.
(JPEG 2000 has smaller resolutions, which alias: measured, SSIM 0.91 to 0.98.) Which mezzanine a variant is rendered
from is a function of its recipe and the original alone, and so is the mezzanine: the bytes of a variant do not depend
on what was stored.

Measured, CPU of one core for 24, 12 and 4 megapixels: decoding at 1/8, 1/8 and 1/4 takes 49, 25 and 10 ms, reading the
stored mezzanine 1.0, 0.5 and 0.6 ms. Its pixels are stored as they are: packed without loss (WebP) they take a third,
and cost 16, 9 and 10 ms to write and 6, 3 and 5 ms to read, which is more than a collection that is looked at once
should pay. They are packed where they are sent over a network::

    "image_repo mezzanine 1\\n"  length of the facts (4 bytes)  facts (JSON)  profile (ICC)  pixels
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, WebPImagePlugin

from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture
from image_repo.model.recipe import Recipe
from image_repo.render.colour import to_plain, to_srgb, unmultiplied
from image_repo.render.decoders import Picture, draft, scales_cheaply
from image_repo.render.exif import Exif, most_rights
from image_repo.render.geometry import SIDEWAYS, Size, plan
from image_repo.render.headers import check_pixels
from image_repo.render.pipeline import drafted, in_blocks, without_needless_alpha

#: of a packed mezzanine
MEDIA_TYPE = "application/vnd.image-repo.mezzanine"
#: By how much a mezzanine has to be larger than a variant, on both sides: 320 pixels come from an eighth of 4000.
#: Measured at just this ratio, SSIM to a full decode and Lanczos: 0.992 to 0.997 for 13 photographs, 0.989 for one that
#: is mostly grain (0.992 at 1.75, 0.994 at 2).
RATIO = 1.55
_SCALES = (8, 4, 2)
#: The smallest mezzanine of an original is the smallest that has so many pixels on its long side: it serves variants
#: of 320 pixels and all smaller ones.
_LEAST_SIDE = 480
#: an original of fewer pixels is decoded in less time than it takes to handle another file
LEAST_PIXELS = 1_400_000
#: a larger mezzanine takes longer to read and to scale than most originals to decode
_MOST_PIXELS = 2 << 20
#: a profile beyond this is that of a printing press; it is applied, not stored
_MOST_PROFILE_BYTES = 64 << 10
_MODES = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_MAGIC = b"image_repo mezzanine 1\n"
_HEAD = struct.Struct(f">{len(_MAGIC)}sI")
_MOST_FACTS_BYTES = 1 << 17
#: read and written at a time
_STRIP_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class MezzaninePlan:
    """An original that has mezzanines.

    :param size: in pixels, upright
    """

    size: Size

    def scales(self) -> tuple[int, ...]:
        """Return by how much smaller its mezzanines are, the smallest mezzanine first."""
        width, height = self.size
        fitting = [s for s in _SCALES if max(self.size) >= s * _LEAST_SIDE]
        return tuple(s for s in fitting if width * height <= s * s * _MOST_PIXELS)


@dataclass(frozen=True, slots=True)
class Mezzanine:
    """An original, decoded at a fraction of its size.

    :param image: as stored, not upright; L, LA, RGB or RGBA
    :param scale: by how much it is smaller than the original; its own size is rounded up
    :param stored: the size of the original as stored, in pixels
    :param orientation: of both, as in EXIF
    :param rights: artist and copyright, empty for none
    :param profile: of its colours (ICC), empty for sRGB
    """

    image: Image.Image
    scale: int
    stored: Size
    orientation: int
    rights: tuple[str, str]
    profile: bytes

    @property
    def plan(self) -> MezzaninePlan:
        """What decides which variants are rendered from a mezzanine."""
        return MezzaninePlan(self.stored[::-1] if self.orientation in SIDEWAYS else self.stored)

    def picture(self) -> Picture:
        """Return it as what it stands for: a picture of the original's size, decoded smaller."""
        # threads that share a mezzanine share its pixels, which nobody changes
        image = self.image._new(self.image.im)
        image.info = {"icc_profile": self.profile} if self.profile else {}
        nothing = Exif.read(memoryview(b""))
        return Picture(image, "mezzanine", self.stored, 1, self.orientation, nothing, image.width * image.height)

    @property
    def length(self) -> int:
        """The number of bytes of its pixels."""
        return self.image.width * self.image.height * _MODES[self.image.mode]

    def write(self, *, packed: bool = False) -> Iterator[bytes]:
        """Yield what :meth:`read` reads, a few rows at a time: large buffers cost a page fault for each 4 KiB.

        :param packed: without loss, for a network
        """
        facts = {
            "mode": self.image.mode,
            "size": self.image.size,
            "scale": self.scale,
            "stored": self.stored,
            "orientation": self.orientation,
            "rights": self.rights,
            "profile": len(self.profile),
            "packed": packed,
        }
        text = json.dumps(facts).encode()
        yield b"".join((_HEAD.pack(_MAGIC, len(text)), text, self.profile))
        if packed:
            yield _packed(self.image)
            return
        encoder = Image._getencoder(self.image.mode, "raw", (self.image.mode,))
        encoder.setimage(self.image.im, (0, 0, *self.image.size))
        status = 0
        while not status:
            _, status, rows = encoder.encode(max(_STRIP_BYTES, 4 * self.image.width))  # a row at least
            if status < 0:
                raise RuntimeError(f"The encoder of raw pixels ended with {status}.")
            yield rows

    @classmethod
    def read(cls, source: BinaryIO, limits: RenderConfiguration) -> Mezzanine:
        """Read a stored mezzanine from the present position of a file to its end.

        :raises BrokenPicture: when it is none, or one that no original has
        :raises OverBudget: when it claims to be of a larger original than there may be
        """
        magic, length = _HEAD.unpack(source.read(_HEAD.size))
        if magic != _MAGIC or length > _MOST_FACTS_BYTES:
            raise BrokenPicture("This is no mezzanine.")
        facts = json.loads(source.read(length))
        (width, height), (artist, owner), scale = facts["stored"], facts["rights"], facts["scale"]
        check_pixels(width, height, limits, is_scalable=True)
        size = (-(-width // scale), -(-height // scale))
        if facts["mode"] not in _MODES or scale not in MezzaninePlan((width, height)).scales():
            raise BrokenPicture("This is no mezzanine.")
        if not 0 <= facts["profile"] <= _MOST_PROFILE_BYTES:
            raise BrokenPicture("This is no mezzanine.")
        profile = source.read(facts["profile"])
        image = (_unpacked if facts["packed"] else _plain)(source, facts["mode"], size)
        return cls(image, scale, (width, height), facts["orientation"], (artist, owner), profile)


def may_use_mezzanine(recipe: Recipe) -> bool:
    """Return whether a variant may be rendered from a mezzanine, as far as the recipe tells."""
    return recipe.page == 1 and not recipe.animate and not recipe.is_original


def choose_scale(recipe: Recipe, original: MezzaninePlan | None) -> int:
    """Return by how much smaller the mezzanine of a variant is, 1 where it is rendered from the original itself.

    :param original: None for one that has no mezzanines
    :raises BadParameter: for a region that the picture does not have
    """
    if original is None or not may_use_mezzanine(recipe):
        return 1
    target = plan(recipe, original.size)
    left, top, right, bottom = target.region
    # a size is rounded by up to half a pixel, which must not decide
    smaller = min((right - left) / (target.size[0] - 0.5), (bottom - top) / (target.size[1] - 0.5))
    return next((scale for scale in original.scales() if smaller >= scale * RATIO), 1)


def plan_mezzanines(picture: Picture) -> MezzaninePlan | None:
    """Return the plan of an original, as its header tells; None for one that has no mezzanines."""
    width, height = picture.stored
    made = MezzaninePlan(picture.upright)
    scales = made.scales()
    is_large = picture.frames == 1 and width * height >= LEAST_PIXELS
    return made if is_large and scales and scales[-1] >= picture.scale else None


def decode_mezzanines(picture: Picture, scale: int, limits: RenderConfiguration) -> tuple[Mezzanine, ...]:
    """Decode an original to its end, at fractions of its size.

    :param picture: opened, nothing decoded yet; it has mezzanines
    :param scale: one of those of its plan
    :returns: all mezzanines that one decode yields, that of the scale among them, the smallest first
    """
    scales = (scale,) if scales_cheaply(picture) else MezzaninePlan(picture.upright).scales()
    largest = scales[-1]
    draft(picture, largest)
    picture.image.load()
    image = picture.image
    blocks = max(1, largest // int(drafted(image, picture)[0]))
    convert = to_plain(image)
    if blocks > 1 or convert:
        image = in_blocks(image, (0, 0, *image.size), (blocks, blocks), convert)
    smaller = [image if s == largest else image.reduce(s // largest) for s in scales]
    return tuple(_mezzanine(unmultiplied(one), s, picture, limits) for one, s in zip(smaller, scales, strict=True))


def _mezzanine(image: Image.Image, scale: int, picture: Picture, limits: RenderConfiguration) -> Mezzanine:
    """Return the mezzanine of a picture that was decoded, and scaled."""
    profile = picture.profile
    if image.mode not in _MODES or len(profile or b"") > _MOST_PROFILE_BYTES:
        image, profile = to_srgb(image, profile), None
    rights = picture.exif.rights(most_rights(limits))
    plain = without_needless_alpha(image)
    return Mezzanine(plain, scale, picture.stored, picture.orientation, rights, profile or b"")


def _plain(source: BinaryIO, mode: str, size: Size) -> Image.Image:
    image = Image.new(mode, size, None)
    # Image.frombytes() would need all rows at once.
    decoder = Image._getdecoder(mode, "raw", (mode,))
    decoder.setimage(image.im, (0, 0, *size))
    row = size[0] * _MODES[mode]
    left = row * size[1]
    while left:
        rows = source.read(min(left, max(1, _STRIP_BYTES // row) * row))
        if not rows or len(rows) % row:
            raise BrokenPicture("This is no mezzanine.")
        decoder.decode(rows)
        left -= len(rows)
    if source.read(1):
        raise BrokenPicture("This is no mezzanine.")
    return image


def _unpacked(source: BinaryIO, mode: str, size: Size) -> Image.Image:
    packed = WebPImagePlugin.WebPImageFile(io.BytesIO(source.read()))
    if packed.size != size or packed.n_frames != 1:  # what it claims was checked, what it holds may be a bomb
        raise BrokenPicture("This is no mezzanine.")
    return packed.convert(mode)


def _packed(image: Image.Image) -> bytes:
    file = io.BytesIO()
    # The format knows no grey; it comes back exactly all the same.
    plain = image.convert("RGBA" if image.mode in ("LA", "RGBA") else "RGB")
    plain.save(file, "WEBP", lossless=True, exact=True, quality=0, method=0)
    return file.getvalue()

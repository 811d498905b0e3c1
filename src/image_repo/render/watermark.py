"""The watermark of a rendition: stamped last, so that no crop and no tile is without it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from image_repo.errors import BrokenPicture
from image_repo.model.watermark import Watermark

#: of the sides of a rendition, that a text and a picture take at most
_TEXT_SHARE, _PICTURE_SHARE = (0.9, 0.06), (0.25, 0.25)
#: height of a line of text in pixels that can still be read
_MIN_LINE_PX = 11
#: text is drawn at this height and scaled, so that its shape does not depend on the size of the rendition
_DRAWN_PX = 96
#: of a mark, the distance to the edges, and between repetitions
_MARGIN_SHARE, _GAP_SHARE = 0.25, 1.0
#: pixels of the picture of a watermark
_MAX_PIXELS = 4_000_000
#: scaled marks that are remembered, and pixels of each: 16 MB in all
_MAX_MARKS, _MAX_REMEMBERED_PIXELS = 16, 250_000
#: Unicode has no such character
_NO_LETTER = "\uffff"


def stamp(image: Image.Image, watermark: Watermark) -> Image.Image:
    """Return a rendition with its watermark, in the same mode.

    :param image: in L, LA, RGB or RGBA
    :raises BrokenPicture: when the picture of the watermark cannot be read
    """
    mark = _scaled(watermark, image.size)
    stamped, places = image.copy(), _places(image.size, mark.size, repeat=watermark.repeat)
    if image.mode in ("L", "RGB"):
        colours, alpha = mark.convert("RGB").convert(image.mode), mark.getchannel("A")
        for place in places:
            stamped.paste(colours, place, alpha)
        return stamped
    for left, top in places:
        box = (left, top, min(image.width, left + mark.width), min(image.height, top + mark.height))
        below = image.crop(box).convert("RGBA")
        visible = mark.crop((0, 0, *below.size))
        stamped.paste(Image.alpha_composite(below, visible).convert(image.mode), box[:2])
    return stamped


def check(watermark: Watermark) -> None:
    """Check that a watermark can be drawn.

    :raises BrokenPicture: when its picture cannot be read, or the font has not all letters of its text
    """
    _drawn(watermark)
    font = ImageFont.load_default(_DRAWN_PX)
    missing = bytes(font.getmask(_NO_LETTER))
    unknown = [letter for letter in watermark.text if bytes(font.getmask(letter)) == missing]
    if unknown:
        raise BrokenPicture(f"The font has no {unknown[0]!r}: take other letters, or a picture.")


def _places(size: tuple[int, int], mark: tuple[int, int], *, repeat: bool) -> Iterator[tuple[int, int]]:
    """Yield the left upper corners of the marks."""
    margin = round(mark[1] * _MARGIN_SHARE)
    left, top = (max(0, side - own - margin) for side, own in zip(size, mark, strict=True))
    if not repeat:
        yield left, top
        return
    across, down = (max(1, round(own + mark[1] * _GAP_SHARE)) for own in mark)
    for row, y in enumerate(range(top % down, size[1], down)):
        for x in range((left + row % 2 * across // 2) % across, size[0], across):
            yield x, y


def _scaled(watermark: Watermark, size: tuple[int, int]) -> Image.Image:
    """Return the mark for a rendition of a size, in RGBA."""
    drawn = _drawn(watermark)
    width, height = size
    if watermark.text:
        most = width * _TEXT_SHARE[0], max(_MIN_LINE_PX, height * _TEXT_SHARE[1])
    else:
        most = width * _PICTURE_SHARE[0], height * _PICTURE_SHARE[1]
    ratio = min(1.0, most[0] / drawn.width, most[1] / drawn.height, height / drawn.height)
    sides = max(1, round(drawn.width * ratio)), max(1, round(drawn.height * ratio))
    is_small = sides[0] * sides[1] <= _MAX_REMEMBERED_PIXELS
    return _resized(watermark, sides) if is_small else _resized.__wrapped__(watermark, sides)


@lru_cache(_MAX_MARKS)
def _resized(watermark: Watermark, sides: tuple[int, int]) -> Image.Image:
    # Scaled with colours multiplied by alpha: transparent pixels have none.
    mark = _drawn(watermark).convert("RGBa").resize(sides, Image.Resampling.LANCZOS).convert("RGBA")
    mark.putalpha(mark.getchannel("A").point([round(level * watermark.opacity) for level in range(256)]))
    return mark


@lru_cache(2)
def _drawn(watermark: Watermark) -> Image.Image:
    """Return the mark in its full size, in RGBA."""
    if watermark.text:
        return _drawn_text(watermark.text)
    try:
        with Image.open(io.BytesIO(watermark.picture), formats=("PNG", "WEBP", "JPEG", "GIF")) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise BrokenPicture(f"The picture of the watermark may have at most {_MAX_PIXELS} pixels.")
            return image.convert("RGBA")
    except (OSError, ValueError, SyntaxError) as error:
        raise BrokenPicture("The picture of the watermark cannot be read.") from error


def _drawn_text(text: str) -> Image.Image:
    """Return white text with a dark outline, which shows on any picture."""
    font = ImageFont.load_default(_DRAWN_PX)
    stroke = _DRAWN_PX // 16
    left, top, right, bottom = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, font, stroke_width=stroke)
    image = Image.new("RGBA", (max(1, round(right - left)), max(1, round(bottom - top))))
    ImageDraw.Draw(image).text(
        (-left, -top), text, (255, 255, 255, 255), font, stroke_width=stroke, stroke_fill=(0, 0, 0, 255)
    )
    return image

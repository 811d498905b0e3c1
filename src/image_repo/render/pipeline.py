"""The steps that make a rendition of one frame, each a function of a picture and the job.

The order is that of the recipe (region, size, mirroring, rotation), with two liberties that
cost no quality and save most of the work: a picture is shrunk as it is stored and then
turned upright, and its colours are converted when it is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageFilter, ImageOps

from image_repo.model.formats import BY_KIND
from image_repo.model.recipe import Recipe
from image_repo.render.colour import Converter, to_plain, to_srgb, unmultiplied
from image_repo.render.decoders import Picture, draft
from image_repo.render.focus import attention
from image_repo.render.geometry import SIDEWAYS, Box, Plan, Size, cover_box, to_stored

#: What cheap scaling leaves for Lanczos to do: at least this factor on each side. With less,
#: the box filters of the decoder and of reduce() show; with 2, SSIM stays above 0.99.
GAP = 2.0
#: The same for a decoder: it is what costs most, and its filter shows less than reduce()'s;
#: with 1.75 SSIM stays above 0.99 too.
DECODER_GAP = 1.75
#: pixels that are converted, or scaled, at a time
_STRIP = 1 << 20
#: pixels of the longer side that :func:`reduced` leaves; measured, a summary of 31 x 1,600,000: 0.3 GB instead of 1.5
_MAX_REDUCED_SIDE = 1 << 16
#: level → black or white
_BITONAL = [0] * 128 + [255] * 128
#: pixels of a result that is scaled in one go
_WHOLE_RESULT = 16_000_000
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FLIP = {"h": _TRANSPOSE[2], "v": _TRANSPOSE[4], "hv": _TRANSPOSE[3]}
_ROTATE = {90: _TRANSPOSE[6], 180: _TRANSPOSE[3], 270: _TRANSPOSE[8]}


@dataclass(frozen=True, slots=True)
class Job:
    """The input of the steps.

    :param picture: opened, at the right page
    :param plan: sizes, of the upright picture
    :param kernel: of the filter that shrinks
    """

    recipe: Recipe
    picture: Picture
    plan: Plan
    kernel: Image.Resampling = Image.Resampling.LANCZOS

    @property
    def stored_size(self) -> Size:
        """The size to shrink to, of the picture as it is stored."""
        return self.plan.size[::-1] if self.picture.orientation in SIDEWAYS else self.plan.size

    @property
    def is_cover(self) -> bool:
        """Whether the region is cropped to the box."""
        return self.recipe.fit == "cover"


Step = Callable[[Image.Image, Job], Image.Image]
#: pixels in one, across and down
Scale = tuple[float, float]


def decode(picture: Picture, plan: Plan) -> None:
    """Decode, as small as the decoder can while enough is left to do for Lanczos."""
    draft(picture, _factor(plan) / DECODER_GAP)
    picture.image.load()


def _factor(plan: Plan) -> float:
    """Return how much smaller it becomes, on both sides."""
    width, height = plan.region[2] - plan.region[0], plan.region[3] - plan.region[1]
    return min(width / plan.size[0], height / plan.size[1])


def shrink(image: Image.Image, job: Job) -> Image.Image:
    """Crop to the region and scale, in one, the picture as it is stored."""
    scale = drafted(image, job.picture)
    convert = to_plain(image)
    box = _scaled(
        to_stored(_wanted(image, job, scale, convert), job.picture.stored, job.picture.orientation), scale, image
    )
    size = job.stored_size
    as_it_is = convert is None or (image.mode in ("LA", "RGBA") and "transparency" not in image.info)
    if as_it_is and image.size == size and box == (0, 0, *size):
        return image
    image, box = _reduce(image, box, size, convert)
    return unmultiplied(_resized(image, size, job.kernel, box))


def _resized(image: Image.Image, size: Size, kernel: Image.Resampling, box: Box) -> Image.Image:
    """Scale part of a picture; a large result strip by strip, so that no large picture lies between the two passes."""
    width, height = size
    if width * height <= _WHOLE_RESULT:
        return image.resize(size, kernel, box=box)
    canvas = Image.new(image.mode, size)
    left, top, right, bottom = box
    step = max(1, _STRIP // width)
    for first in range(0, height, step):
        last = min(height, first + step)
        upper, lower = (min(bottom, top + (bottom - top) * row / height) for row in (first, last))
        canvas.paste(image.resize((width, last - first), kernel, box=(left, upper, right, lower)), (0, first))
    return canvas


def drafted(image: Image.Image, picture: Picture) -> Scale:
    """Return how much smaller a decoded picture is than what is stored, on each side.

    Decoders and mezzanines are smaller by whole numbers, with their sizes rounded up.
    """
    scale = max(1, round(picture.stored[0] / image.width), round(picture.stored[1] / image.height))
    return scale, scale


def _scaled(box: Box, scale: Scale, image: Image.Image) -> Box:
    # turning a box over may leave it a rounding error outside of the picture, which Pillow refuses
    left, top, right, bottom = (max(0.0, side / scale[n % 2]) for n, side in enumerate(box))
    return left, top, min(right, image.width), min(bottom, image.height)


def _wanted(image: Image.Image, job: Job, scale: Scale, convert: Converter | None) -> Box:
    """Return the part of the upright picture that the recipe wants, in its full pixels."""
    region = job.plan.region
    if not job.is_cover:
        return region
    focus = job.recipe.focus or (0.5, 0.5)
    if focus == "smart":
        box = _scaled(to_stored(region, job.picture.stored, job.picture.orientation), scale, image)
        ratio = max(1.0, max(box[2] - box[0], box[3] - box[1]) / 192)
        size = (math.ceil((box[2] - box[0]) / ratio), math.ceil((box[3] - box[1]) / ratio))
        small, box = _reduce(image, box, size, convert)
        small = unmultiplied(small.resize(size, Image.Resampling.BOX, box=box))
        focus = attention(upright(to_srgb(small, job.picture.profile), job))
    return cover_box(region, job.plan.size, focus)


def _reduce(image: Image.Image, box: Box, size: Size, convert: Converter | None) -> tuple[Image.Image, Box]:
    """Average whole blocks of pixels where there are many for each pixel of the result.

    :returns: a picture in a plain mode, and where the box is in it
    """
    fx = max(1, int((box[2] - box[0]) / size[0] / GAP))
    fy = max(1, int((box[3] - box[1]) / size[1] / GAP))
    if convert is None and fx == fy == 1:
        return image, box
    # the filter looks a little beyond the box
    mx, my = (4 * math.ceil((box[2 + n] - box[n]) / size[n]) + 1 for n in (0, 1))
    left, top = max(0, int(box[0]) - mx), max(0, int(box[1]) - my)
    right, bottom = min(image.width, math.ceil(box[2]) + mx), min(image.height, math.ceil(box[3]) + my)
    whole = in_blocks(image, (left, top, right, bottom), (fx, fy), convert)
    return whole, ((box[0] - left) / fx, (box[1] - top) / fy, (box[2] - left) / fx, (box[3] - top) / fy)


def in_blocks(
    image: Image.Image, part: tuple[int, int, int, int], factors: tuple[int, int], convert: Converter | None
) -> Image.Image:
    """Return part of a picture in a plain mode, each block of so many pixels averaged to one.

    Strip by strip, so that a large picture is never held a second time in another mode.
    """
    left, top, right, bottom = part
    whole = None
    step = max(1, _STRIP // (right - left) // factors[1]) * factors[1]
    for y in range(top, bottom, step):
        strip = image.crop((left, y, right, min(bottom, y + step)))
        strip = convert(strip) if convert else strip
        strip = strip.reduce(factors) if factors != (1, 1) else strip
        if whole is None:
            whole = Image.new(strip.mode, (strip.width, math.ceil((bottom - top) / factors[1])))
        whole.paste(strip, (0, (y - top) // factors[1]))
    assert whole is not None
    return whole


def reduced(image: Image.Image, least: int = 64) -> Image.Image:
    """Return a decoded picture in L, LA, RGB or RGBA, averaged in whole blocks of pixels.

    One that is very long and thin is averaged more along its longer side, because it would stay as large as it is.

    :param least: pixels of its shorter side that are left, where it has more
    """
    factor = max(1, min(image.size) // least)
    across, down = (max(factor, math.ceil(side / _MAX_REDUCED_SIDE)) for side in image.size)
    return unmultiplied(in_blocks(image, (0, 0, *image.size), (across, down), to_plain(image)))


def upright(image: Image.Image, job: Job) -> Image.Image:
    """Turn it as its EXIF orientation says."""
    return turned(image, job.picture.orientation)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture as an EXIF orientation says."""
    turn = _TRANSPOSE.get(orientation)
    return image if turn is None else image.transpose(turn)


def colour(image: Image.Image, job: Job) -> Image.Image:
    """Convert to sRGB."""
    return to_srgb(image, job.picture.profile)


def turn(image: Image.Image, job: Job) -> Image.Image:
    """Mirror, then rotate."""
    degrees = job.recipe.rotate
    for move in (_FLIP.get(job.recipe.flip), _ROTATE.get(int(degrees)) if degrees % 90 == 0 else None):
        image = image if move is None else image.transpose(move)
    return image if degrees % 90 == 0 else _tilted(image, degrees)


def _tilted(image: Image.Image, degrees: float) -> Image.Image:
    """Turn it within the smallest box around it; the corners are transparent."""
    alpha = {"L": "LA", "RGB": "RGBA"}.get(image.mode, image.mode)
    multiplied = image.convert(alpha).convert({"LA": "La", "RGBA": "RGBa"}[alpha])
    return unmultiplied(multiplied.rotate(-degrees, Image.Resampling.BICUBIC, expand=True))


def tone(image: Image.Image, job: Job) -> Image.Image:
    """Remove colour; equalise the histogram."""
    if job.recipe.gray and image.mode in ("RGB", "RGBA"):
        image = image.convert("LA" if image.mode == "RGBA" else "L")
    if job.recipe.bitonal:
        image = _with_alpha_apart(image, lambda bare: bare.convert("L").point(_BITONAL))
    if job.recipe.equalise:
        image = _with_alpha_apart(image, ImageOps.equalize)
    return image


def soften(image: Image.Image, job: Job) -> Image.Image:
    """Blur, sharpen. The strength of sharpening 1 is what makes up for the loss in a thumbnail."""
    recipe = job.recipe
    if recipe.blur:
        soft = ImageFilter.GaussianBlur(recipe.blur)
        multiplied = image.convert({"LA": "La", "RGBA": "RGBa"}.get(image.mode, image.mode))
        image = unmultiplied(multiplied.filter(soft))
    if recipe.sharpen:
        sharp = ImageFilter.UnsharpMask(radius=1.0, percent=round(recipe.sharpen * 70), threshold=1)
        image = _with_alpha_apart(image, lambda bare: bare.filter(sharp))
    return image


def _with_alpha_apart(image: Image.Image, change: Callable[[Image.Image], Image.Image]) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return change(image)
    alpha = image.getchannel("A")
    changed = change(image.convert(image.mode[:-1]))
    changed.putalpha(alpha)
    return changed


def pad(image: Image.Image, job: Job) -> Image.Image:
    """Put it into the middle of its box (``contain``)."""
    canvas = job.plan.canvas
    if canvas is None:
        return image
    width, height = canvas[::-1] if job.recipe.rotate in (90, 270) else canvas
    background = _background(job)
    padded = Image.new(
        "RGBA" if len(background) == 4 or image.mode in ("LA", "RGBA") else "RGB", (width, height), background
    )
    place = ((width - image.width) // 2, (height - image.height) // 2)
    if image.mode in ("LA", "RGBA"):
        layer = Image.new("RGBA", (width, height))
        layer.paste(image.convert("RGBA"), place)
        return Image.alpha_composite(padded, layer)
    padded.paste(image.convert(padded.mode), place)
    return padded


def flatten(image: Image.Image, job: Job) -> Image.Image:
    """Put it on the background, where the format has no transparency or the recipe has a background."""
    needed = not BY_KIND[job.recipe.kind].alpha
    if image.mode in ("LA", "RGBA") and (needed or job.recipe.background is not None):
        image = _on(image, _background(job)[:3] if needed else _background(job))
    return without_needless_alpha(image)


def _background(job: Job) -> tuple[int, ...]:
    """Return the colour as three numbers, or four where it is transparent itself."""
    text = job.recipe.background or "ffffff"
    return tuple(bytes.fromhex(text))


def _on(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    if len(background) == 4:
        return Image.alpha_composite(Image.new("RGBA", image.size, background), image.convert("RGBA"))
    grey = image.mode == "LA" and len(set(background)) == 1
    below = Image.new("L" if grey else "RGB", image.size, background[0] if grey else background)
    below.paste(image.convert(below.mode), mask=image.getchannel("A"))
    return below


def without_needless_alpha(image: Image.Image) -> Image.Image:
    """Return it without its alpha band where all of it is opaque."""
    if image.mode not in ("LA", "RGBA"):
        return image
    alpha = image.getchannel("A")
    low, _ = alpha.getextrema()
    if low == 255:
        return image.convert(image.mode[:-1])
    if low == 0:
        # what cannot be seen is not handed out either
        hidden = alpha.point([255] + [0] * 255)
        image.paste((0, 0, 0, 0) if image.mode == "RGBA" else (0, 0), mask=hidden)
    return image


STEPS: tuple[Step, ...] = (shrink, upright, colour, turn, tone, soften, pad, flatten)


def make(image: Image.Image, job: Job) -> Image.Image:
    """Take one frame through all steps; return a fresh picture in L, LA, RGB or RGBA that carries no metadata."""
    picture: Image.Image = image
    for step in STEPS:
        picture = step(picture, job)
    if picture is image:
        # The decoder's own object knows its file, and the writers would copy from there. A
        # single picture need not be held twice for that; an animation's is drawn over.
        picture = image.copy() if job.recipe.animate else image._new(image.im)
    picture.info = {}
    return picture

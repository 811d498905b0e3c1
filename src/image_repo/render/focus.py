"""Where the interesting part of a picture is: for ``cover`` with ``focus=smart``.

A small copy is scored pixel by pixel: edges, saturated colours and the colour of skin
attract, in that proportion which the crops of people agree with (after J. Wagner's
smartcrop.js, and libvips' attention). The centre of gravity of the strongest part is the
focus. Deterministic, and plain Pillow.
"""

from __future__ import annotations

import struct

from PIL import Image, ImageChops, ImageFilter, ImageOps

from image_repo.render.geometry import Size

_SIDE = 96


def attention(image: Image.Image) -> tuple[float, float]:
    """Return the point of most interest.

    :param image: RGB, upright, of any size
    :returns: fractions of width and height
    """
    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    scores = _scores(small).filter(ImageFilter.GaussianBlur(max(small.size) / 16))
    # only what stands out counts, or the sum of a dull sky would outweigh a face
    high = scores.getextrema()[1]
    strong = scores.point([max(0, value - int(high * 0.7)) for value in range(256)])  # type: ignore[operator]
    return _mean(strong, (strong.width, 1)), _mean(strong, (1, strong.height))


def _scores(image: Image.Image) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    edges = image.convert("L").filter(ImageFilter.FIND_EDGES)
    # the frame of the filter itself is no edge
    if min(edges.size) > 2:
        edges = ImageOps.expand(ImageOps.crop(edges, 1), 1)
    bright = value.point([255 if 50 <= v <= 245 else 0 for v in range(256)])
    vivid = ImageChops.multiply(saturation.point([max(0, v - 90) for v in range(256)]), bright)
    skin = ImageChops.multiply(hue.point(_SKIN_HUE), ImageChops.multiply(saturation.point(_SKIN_SATURATION), bright))
    return ImageChops.add(
        ImageChops.add(edges, vivid.point([v // 3 for v in range(256)])), skin.point([v // 2 for v in range(256)])
    )


#: hues from red to orange, 0 to 255 standing for the circle
_SKIN_HUE = [255 if v <= 28 or v >= 250 else 0 for v in range(256)]
_SKIN_SATURATION = [255 if 50 <= v <= 170 else 0 for v in range(256)]


def _mean(weights: Image.Image, size: Size) -> float:
    """Return the mean place along the longer side of ``size``, as a fraction."""
    row = weights.convert("F").resize(size, Image.Resampling.BOX)
    sums = struct.unpack(f"={size[0] * size[1]}f", row.tobytes())
    total = sum(sums)
    return sum((place + 0.5) * value for place, value in enumerate(sums)) / total / len(sums) if total else 0.5

"""Summaries of a picture as JSON: a ThumbHash, to be shown while the picture loads, and a palette of its colours.

ThumbHash (evanw.github.io/thumbhash) holds the lowest frequencies of brightness, colour and alpha in about 25 bytes.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import mul

from PIL import Image

#: pixels on the long side that a ThumbHash is made of: more change nothing but the time (measured: 1.5 ms, 100 take 16)
_HASH_SIDE = 32
#: colours of a palette at most, and the least part of the picture that one has
_COLOURS, _LEAST_SHARE = 8, 0.01
#: colours that are looked at, and the distance in RGB up to which two are one
_CANDIDATES, _SAME_COLOUR = 24, 48
#: alpha of a pixel that counts for a palette
_LEAST_ALPHA = 128


def write_summary(kind: str, image: Image.Image) -> bytes:
    """Return a summary as a line of JSON.

    :param kind: ``thumbhash`` or ``palette``
    :param image: L, LA, RGB or RGBA
    """
    return json.dumps({kind: _SUMMARIES[kind](image)}).encode() + b"\n"


def thumbhash(image: Image.Image) -> str:
    """Return the ThumbHash of a picture, in base64."""
    image = image.convert("RGBA")
    if max(image.size) > _HASH_SIDE:
        image = image.convert("RGBa")
        image.thumbnail((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX)
        image = image.convert("RGBA")
    width, height = image.size
    red, green, blue, alpha = ([value / 255 for value in band.tobytes()] for band in image.split())
    has_alpha = min(alpha) < 1
    for band in (red, green, blue) if has_alpha else ():  # what is transparent has the mean colour
        opacity = sum(alpha)
        mean = sum(map(mul, band, alpha)) / opacity if opacity else 0.0
        band[:] = [mean * (1 - a) + value * a for value, a in zip(band, alpha, strict=True)]
    most, longer = (5 if has_alpha else 7), max(width, height)
    across, down = (max(1, _round(most * side / longer)) for side in (width, height))
    yellow = [(r + g) / 2 - b for r, g, b in zip(red, green, blue, strict=True)]
    brightness = _Channel([(r + g + b) / 3 for r, g, b in zip(red, green, blue, strict=True)], width, (across, down), 3)
    colours = [_Channel(values, width, (3, 3)) for values in (yellow, list(map(float.__sub__, red, green)))]
    alphas = [_Channel(alpha, width, (5, 5))] if has_alpha else []
    return base64.b64encode(_packed(brightness, colours, alphas, width > height)).decode()


def _packed(brightness: _Channel, colours: Sequence[_Channel], alphas: Sequence[_Channel], is_wide: bool) -> bytes:
    p, q = colours
    head = _round(63 * brightness.mean) | _round(31.5 + 31.5 * p.mean) << 6 | _round(31.5 + 31.5 * q.mean) << 12
    head |= _round(31 * brightness.scale) << 18 | bool(alphas) << 23
    shorter = brightness.shape[1] if is_wide else brightness.shape[0]
    tail = shorter | _round(63 * p.scale) << 3 | _round(63 * q.scale) << 9 | is_wide << 15
    extra = bytes(_round(15 * a.mean) | _round(15 * a.scale) << 4 for a in alphas)
    nibbles = [_round(15 * value) for channel in (brightness, *colours, *alphas) for value in channel.waves]
    nibbles += [0] * (len(nibbles) % 2)
    pairs = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    return head.to_bytes(3, "little") + tail.to_bytes(2, "little") + extra + pairs


class _Channel:
    """The lowest frequencies of one channel: its discrete cosine transform, cut off at a triangle.

    :param values: from -1 to 1, row by row
    :param shape: frequencies across and down
    :param least: frequencies that are used on each side at least
    """

    def __init__(self, values: Sequence[float], width: int, shape: tuple[int, int], least: int = 1) -> None:
        self.shape = shape
        nx, ny = (max(least, side) for side in shape)
        rows = [values[start : start + width] for start in range(0, len(values), width)]
        across = [_wave(x, width) for x in range(nx)]
        down = [_wave(y, len(rows)) for y in range(ny)]
        sums = [[sum(map(mul, row, wave)) for row in rows] for wave in across]
        places = [(x, y) for y in range(ny) for x in range(nx) if x * ny < nx * (ny - y)]
        self.mean, *waves = (sum(map(mul, sums[x], down[y])) / len(values) for x, y in places)
        #: of the strongest frequency
        self.scale = max(map(abs, waves), default=0.0)
        #: relative to it, from 0 to 1
        self.waves = [0.5 + 0.5 / self.scale * value for value in waves] if self.scale else [0.0] * len(waves)


@lru_cache(_HASH_SIDE * 8)
def _wave(frequency: int, count: int) -> tuple[float, ...]:
    return tuple(math.cos(math.pi / count * frequency * (place + 0.5)) for place in range(count))


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def palette(image: Image.Image) -> list[dict[str, str | float]]:
    """Return the main colours of a picture, each with its share of what is not transparent, the largest first."""
    visible = image.convert("RGBA")
    mask = visible.getchannel("A").point([0] * _LEAST_ALPHA + [255] * (256 - _LEAST_ALPHA))
    few = visible.convert("RGB").quantize(_CANDIDATES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    counts = few.histogram(mask)
    colours, total = few.getpalette() or [], sum(counts)
    shares: dict[tuple[int, ...], float] = {}
    for n in sorted((n for n, count in enumerate(counts) if count), key=lambda n: -counts[n]):
        colour = tuple(colours[3 * n : 3 * n + 3])
        same = next((other for other in shares if math.dist(other, colour) <= _SAME_COLOUR), colour)
        shares[same] = shares.get(same, 0.0) + counts[n] / total
    largest = sorted(shares.items(), key=lambda entry: (-entry[1], entry[0]))[:_COLOURS]
    return [
        {"color": f"#{bytes(colour).hex()}", "share": round(share, 3)}
        for colour, share in largest
        if share >= _LEAST_SHARE
    ]


_SUMMARIES: dict[str, Callable[[Image.Image], object]] = {"thumbhash": thumbhash, "palette": palette}

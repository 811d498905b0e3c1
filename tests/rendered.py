"""Looking at what was rendered, with means of our own: a scanner of file structure, SSIM, distances."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from image_repo import render
from image_repo.config import RenderConfiguration
from image_repo.model.recipe import Recipe

LIMITS = RenderConfiguration()


def rendered(source: bytes, limits: RenderConfiguration = LIMITS, **recipe: Any) -> render.Rendered:
    """What the renderer makes of these bytes."""
    return render.render(io.BytesIO(source), Recipe(**recipe), limits)


def picture(source: bytes, limits: RenderConfiguration = LIMITS, **recipe: Any) -> Image.Image:
    """The same, decoded again; as PNG unless said otherwise, so that nothing is lost."""
    made = rendered(source, limits, **{"kind": "png", **recipe})
    image = Image.open(io.BytesIO(made.body))
    image.load()
    assert image.size == (made.width, made.height)
    return image


def pixels(image: Image.Image) -> np.ndarray:
    """As floating point, height by width by bands."""
    return np.asarray(image, np.float64)


def ssim(one: Image.Image, other: Image.Image) -> float:
    """Structural similarity (Wang et al. 2004), Gaussian window of 1.5 pixels, mean over bands."""
    x, y = pixels(one), pixels(other)
    mx, my = _blurred(x), _blurred(y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    sx, sy, sxy = _blurred(x * x) - mx * mx, _blurred(y * y) - my * my, _blurred(x * y) - mx * my
    return float((((2 * mx * my + c1) * (2 * sxy + c2)) / ((mx * mx + my * my + c1) * (sx + sy + c2))).mean())


def _blurred(values: np.ndarray, sigma: float = 1.5, radius: int = 5) -> np.ndarray:
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    for axis in (0, 1):
        padding = [(radius, radius) if n == axis else (0, 0) for n in range(values.ndim)]
        padded = np.pad(values, padding, mode="reflect")
        size = values.shape[axis]
        values = sum(w * np.take(padded, range(n, n + size), axis=axis) for n, w in enumerate(weights))
    return values


# -- what a file holds beside its pixels -------------------------------------------------


def foreign_parts(body: bytes) -> list[str]:
    """The segments, chunks, boxes or tags of a file that are neither pixels nor needed to decode them."""
    if body.startswith(b"\xff\xd8"):
        return [name for name in _jpeg(body) if name not in {"APP0", "APP14", "DQT", "DHT", "SOF", "SOS", "DRI"}]
    if body.startswith(b"\x89PNG"):
        return [name for name in _png(body) if name not in {"IHDR", "PLTE", "tRNS", "IDAT", "IEND"}]
    if body.startswith(b"RIFF"):
        return [name for name in _riff(body) if name not in {"VP8 ", "VP8L", "VP8X", "ALPH", "ANIM", "ANMF"}]
    if body.startswith(b"GIF8"):
        return [name for name in _gif(body) if name not in {"image", "control", "NETSCAPE2.0"}]
    if body[:2] in (b"II", b"MM"):
        return [str(tag) for tag in _tiff(body) if tag not in _TIFF_TAGS]
    if body[4:8] == b"ftyp":
        return [name for name in ("Exif", "mime", "prof", "rICC", "xml ", "uuid") if name.encode() in body[:4096]]
    if body[4:8] == b"jP  ":
        return [name for name in _boxes(body) if name not in {"jP  ", "ftyp", "jp2h", "jp2c"}]
    raise AssertionError(f"unknown file {body[:12]!r}")


def _jpeg(body: bytes) -> list[str]:
    found, at = [], 2
    while at < len(body):
        assert body[at] == 0xFF
        marker = body[at + 1]
        if marker == 0xD9:
            assert at + 2 == len(body), "something follows the picture"
            return found
        names = {0xC4: "DHT", 0xDA: "SOS", 0xDB: "DQT", 0xDD: "DRI", 0xFE: "COM"}
        found.append(names.get(marker) or (f"APP{marker - 0xE0}" if marker >= 0xE0 else "SOF"))
        at += 2 + struct.unpack_from(">H", body, at + 2)[0]
        while marker == 0xDA and (body[at] != 0xFF or body[at + 1] == 0 or 0xD0 <= body[at + 1] <= 0xD7):
            at += 1
    raise AssertionError("the picture has no end")


def _png(body: bytes) -> list[str]:
    found, at = [], 8
    while at < len(body):
        size, name = struct.unpack_from(">I4s", body, at)
        found.append(name.decode())
        at += 12 + size
    return found


def _riff(body: bytes) -> list[str]:
    found, at = [], 12
    while at < len(body):
        name, size = struct.unpack_from("<4sI", body, at)
        found.append(name.decode())
        at += 8 + size + (size & 1)
    return found


def _gif(body: bytes) -> list[str]:
    def skip(at: int) -> int:
        while body[at]:
            at += body[at] + 1
        return at + 1

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    found, at = [], 13 + table(body[10])
    while body[at] != 0x3B:
        if body[at] == 0x2C:
            found.append("image")
            at = skip(at + 11 + table(body[at + 9]))
        else:
            label = body[at + 1]
            found.append({0xF9: "control", 0xFE: "comment"}.get(label) or body[at + 3 : at + 14].decode())
            at = skip(at + 2)
    return found


_TIFF_TAGS = {254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 338, 339}


def _tiff(body: bytes) -> list[int]:
    order = "<" if body[:2] == b"II" else ">"
    at = struct.unpack_from(order + "I", body, 4)[0]
    count = struct.unpack_from(order + "H", body, at)[0]
    assert struct.unpack_from(order + "I", body, at + 2 + 12 * count)[0] == 0, "a second directory"
    return [struct.unpack_from(order + "H", body, at + 2 + 12 * n)[0] for n in range(count)]


def _boxes(body: bytes) -> list[str]:
    found, at = [], 0
    while at < len(body):
        size, name = struct.unpack_from(">I4s", body, at)
        found.append(name.decode())
        at += size or len(body)
    return found

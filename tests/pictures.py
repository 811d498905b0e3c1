"""Pictures for tests, made on the spot: photo-like content, every format, metadata that must not leak.

Nothing here comes from a camera, so nothing has a licence or a person in it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import piexif
from PIL import Image, ImageDraw, PngImagePlugin

#: what each EXIF orientation does to a stored picture so that it stands upright
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STORED = UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
#: a text that stands in every piece of metadata written here, to be looked for in what is served
SECRET = "SECRET-7f3a"
#: where the pictures with ``gps=True`` were taken: degrees and metres
LATITUDE, LONGITUDE, ALTITUDE = 46.947975, 7.447447, 542.5


@lru_cache(maxsize=32)
def _photo(width: int, height: int, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    side = max(width, height)
    pixels = np.zeros((height, width, 3), np.float32)
    step = 1
    # noise in octaves, with the 1/f spectrum that photographs have
    while step < side:
        small = random.standard_normal((height // step + 2, width // step + 2, 3)).astype(np.float32)
        layer = Image.merge("RGB", [_grey(small[..., band]) for band in range(3)])
        grown = layer.resize(
            (width, height), Image.Resampling.BICUBIC, box=(0.5, 0.5, 0.5 + width / step, 0.5 + height / step)
        )
        pixels += (np.asarray(grown, np.float32) - 128) * step**0.9
        step *= 2
    pixels = 128 + 52 * pixels / (pixels.std() + 1e-6)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    _draw_edges(image, random)
    return image


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(128 + 40 * values, 0, 255).astype(np.uint8))


def _draw_edges(image: Image.Image, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(24):
        x, y = (float(v) for v in random.random(2))
        w, h = (0.02 + 0.2 * float(v) for v in random.random(2))
        colour = tuple(int(v) for v in random.integers(0, 256, 3))
        box = (x * width, y * height, (x + w) * width, (y + h) * height)
        (draw.ellipse if random.random() < 0.5 else draw.rectangle)(box, fill=colour)
        draw.line((box[0], box[3], box[2], box[1]), fill=colour[::-1], width=max(1, width // 200))


def photo(width: int = 320, height: int = 240, seed: int = 0) -> Image.Image:
    """An RGB picture with the noise and the edges of a photograph; the same for the same arguments."""
    return _photo(width, height, seed).copy()


def corners(width: int = 120, height: int = 80) -> Image.Image:
    """Red, green, blue and white in the four corners, clockwise from the top left: shows which way up it is."""
    image = Image.new("RGB", (width, height), "gray")
    draw = ImageDraw.Draw(image)
    x, y = width // 2, height // 2
    for box, colour in (
        ((0, 0, x, y), (255, 0, 0)), ((x, 0, width, y), (0, 255, 0)),
        ((x, y, width, height), (0, 0, 255)), ((0, y, x, height), (255, 255, 255)),
    ):  # fmt: skip
        draw.rectangle(box, fill=colour)
    return image


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """How a camera would have stored an upright picture under this EXIF orientation."""
    return image.transpose(_STORED[orientation]) if orientation in _STORED else image.copy()


def _rational(value: float) -> tuple[int, int]:
    return round(value * 10_000), 10_000


def exif(
    *,
    orientation: int | None = None,
    gps: bool = False,
    artist: str | None = None,
    copyright: str | None = None,
    camera: bool = False,
    adobe_rgb: bool = False,
    taken: str | None = None,
    thumbnail: bytes | None = None,
) -> bytes:
    """An EXIF block, ``Exif\\0\\0`` included, as piexif writes it.

    :param taken: such as ``2024:05:17 12:34:56``
    """
    tags: dict[str, Any] = {"0th": {}, "Exif": {}, "GPS": {}, "Interop": {}, "1st": {}, "thumbnail": thumbnail}
    if orientation is not None:
        tags["0th"][piexif.ImageIFD.Orientation] = orientation
    if artist is not None:
        tags["0th"][piexif.ImageIFD.Artist] = artist.encode()
    if copyright is not None:
        tags["0th"][piexif.ImageIFD.Copyright] = copyright.encode()
    if camera:
        tags["0th"] |= {piexif.ImageIFD.Make: b"Kamera AG", piexif.ImageIFD.Model: b"K-1000"}
        tags["Exif"] |= {
            piexif.ExifIFD.ExposureTime: (1, 250),
            piexif.ExifIFD.FNumber: (28, 10),
            piexif.ExifIFD.ISOSpeedRatings: 200,
            piexif.ExifIFD.FocalLength: (50, 1),
            piexif.ExifIFD.LensModel: b"Linse 50mm F1.8",
            piexif.ExifIFD.DateTimeOriginal: b"2024:05:17 12:34:56",
            piexif.ExifIFD.OffsetTimeOriginal: b"+02:00",
            piexif.ExifIFD.UserComment: b"ASCII\0\0\0" + SECRET.encode(),
            piexif.ExifIFD.MakerNote: SECRET.encode() * 4,
        }
    if gps:
        tags["GPS"] = {
            piexif.GPSIFD.GPSLatitudeRef: b"N",
            piexif.GPSIFD.GPSLatitude: ((46, 1), (56, 1), _rational(52.71)),
            piexif.GPSIFD.GPSLongitudeRef: b"E",
            piexif.GPSIFD.GPSLongitude: ((7, 1), (26, 1), _rational(50.8092)),
            piexif.GPSIFD.GPSAltitudeRef: 0,
            piexif.GPSIFD.GPSAltitude: (5425, 10),
        }
    if taken is not None:
        tags["Exif"][piexif.ExifIFD.DateTimeOriginal] = taken.encode()
    if adobe_rgb:
        tags["Exif"][piexif.ExifIFD.ColorSpace] = 0xFFFF
        tags["Interop"][piexif.InteropIFD.InteroperabilityIndex] = b"R03"
    if thumbnail:
        tags["1st"] = {piexif.ImageIFD.Compression: 6}
    return piexif.dump(tags)


def jpeg(
    image: Image.Image | None = None,
    *,
    orientation: int | None = None,
    gps: bool = False,
    artist: str | None = None,
    copyright: str | None = None,
    camera: bool = False,
    adobe_rgb: bool = False,
    taken: str | None = None,
    thumbnail: bool = False,
    comment: str | None = None,
    xmp: str | None = None,
    icc: bytes | None = None,
    quality: int = 92,
    **options: Any,
) -> bytes:
    """A JPEG. ``image`` is upright; it is stored as its orientation says."""
    image = image or photo()
    small = save(image.convert("RGB").resize((64, 48)), "JPEG") if thumbnail else None
    metadata = {"orientation": orientation, "gps": gps, "artist": artist, "copyright": copyright, "camera": camera}
    if any(metadata.values()) or adobe_rgb or taken or small:
        options["exif"] = exif(**metadata, adobe_rgb=adobe_rgb, taken=taken, thumbnail=small)  # type: ignore[arg-type]
    if comment is not None:
        options["comment"] = comment.encode()
    if xmp is not None:
        options["xmp"] = xmp.encode()
    if icc is not None:
        options["icc_profile"] = icc
    return save(stored(image, orientation or 1), "JPEG", quality=quality, **options)


def png(
    image: Image.Image | None = None, *, text: str | None = None, icc: bytes | None = None, **options: Any
) -> bytes:
    """A PNG, perhaps with a text chunk and a profile."""
    if text is not None:
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", text)
        options["pnginfo"] = info
    if icc is not None:
        options["icc_profile"] = icc
    return save(image or photo(), "PNG", **options)


def animation(
    kind: str = "GIF",
    frames: int = 3,
    size: tuple[int, int] = (64, 48),
    durations: Iterable[int] = (100, 200, 300),
    loop: int = 0,
) -> bytes:
    """An animated GIF or WebP; frame n is filled with :func:`frame_colour` of n, with a mark that wanders."""
    times = (list(durations) * frames)[:frames]
    first, *rest = [_frame(n, size) for n in range(frames)]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return save(first, kind, save_all=True, append_images=rest, duration=times, loop=loop, **options)


def frame_colour(number: int) -> tuple[int, int, int]:
    """The colour of a frame or page, counted from 0."""
    return ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255))[number % 6]


def _frame(number: int, size: tuple[int, int]) -> Image.Image:
    image = Image.new("RGB", size, frame_colour(number))
    ImageDraw.Draw(image).rectangle((number * 4, 0, number * 4 + 3, 3), fill=(0, 0, 0))
    return image


def tiff_pages(pages: int = 3, size: tuple[int, int] = (64, 48)) -> bytes:
    """A TIFF of several pages, each filled with :func:`frame_colour`."""
    first, *rest = [_frame(n, size) for n in range(pages)]
    return save(first, "TIFF", save_all=True, append_images=rest)


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture in a format of Pillow's, as bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def load(body: bytes) -> Image.Image:
    """The picture in these bytes, decoded."""
    image = Image.open(io.BytesIO(body))
    image.load()
    return image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG, with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2, chunks: bytes = b"") -> bytes:
    """A PNG that declares a size and holds next to nothing: what a bomb looks like."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * 64)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + head + chunks + body

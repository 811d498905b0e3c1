"""Writing: pixels to bytes, the same bytes for the same pixels, and nothing but pixels.

What is written holds no metadata of its source: pictures come without ``info``, and each
writer gets all that it writes as options. Artist and copyright are the exception, where the
configuration wants them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import piexif  # type: ignore[import-untyped]
from PIL import Image

from image_repo.errors import OverBudget
from image_repo.model.formats import BY_KIND, SUMMARY_KINDS
from image_repo.render.summaries import write_summary

#: the longest side that the format can say
_MOST_SIDE = {"jpg": 65_500, "webp": 16_383, "gif": 65_535, "avif": 65_535}
#: Encoders take memory and time for each pixel: JPEG 2000 43 bytes and 0.25 µs, AVIF 35 bytes,
#: WebP and GIF 13. With these bounds none takes more than 900 MB or 6 s.
_MOST_AREA = {"jp2": 16_000_000, "avif": 25_000_000, "gif": 40_000_000, "webp": 60_000_000}


#: the number has 16 bits
_MOST_PLAYS = 65_535


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of the frames of an animation.

    :param durations: of each frame, in milliseconds
    :param plays: how often it plays, 0 for ever
    """

    durations: tuple[int, ...]
    plays: int


def encode(
    frames: Sequence[Image.Image],
    kind: str,
    quality: int | None,
    *,
    timing: Timing | None = None,
    rights: tuple[str, str] = ("", ""),
) -> bytes:
    """Return the bytes of a picture, or of an animation.

    :param frames: L, LA, RGB or RGBA, without ``info``
    :param timing: None for a single picture
    :param rights: artist and copyright, written where the format can hold them; empty for none
    """
    first = frames[0]
    if kind in SUMMARY_KINDS:
        return write_summary(kind, first)
    prepare, options = _WRITERS[kind](first, quality)
    _add_rights(options, kind, *rights)
    if timing and len(frames) > 1:
        options |= _animated(kind, timing)
        options["append_images"] = [prepare(frame) for frame in frames[1:]]
    with _file() as file:
        prepare(first).save(file, BY_KIND[kind].pillow, **options)
        file.seek(0)
        body = file.read()
    return _with_alpha_flag(body) if timing and kind == "webp" and first.mode in ("LA", "RGBA") else body


def _with_alpha_flag(body: bytes) -> bytes:
    """Return an animated WebP that says that it has transparent parts (RFC 9649, section 2.7.1).

    The encoder leaves this out where no frame holds any, though one that is disposed of leaves them on the canvas.
    """
    flags = 20  # in the VP8X chunk, which is the first
    return body[:flags] + bytes((body[flags] | 0x10,)) + body[flags + 1 :] if body[12:16] == b"VP8X" else body


def _file() -> BinaryIO:
    """Return a file in memory, of the system where it can be: to that, Pillow encodes a JPEG without holding the GIL.

    To one of Python's, all other threads wait until it is done: 1 to 3 ms at 640 pixels, 7 and more at two megapixels,
    the most that is written in one go (:func:`_jpg`).
    """
    try:
        return os.fdopen(os.memfd_create("rendition"), "w+b")
    except (AttributeError, OSError):  # built without it, or no more descriptors
        return io.BytesIO()


def check_capacity(kind: str, size: tuple[int, int], frames: int = 1) -> None:
    """Refuse what a format cannot hold, or what would take too much to write.

    :param frames: that are written
    :raises OverBudget: saying how large it may be
    """
    reason = f"A picture of {size[0]}x{size[1]} pixels is too large to be written as {kind}"
    side, area = _MOST_SIDE.get(kind), _MOST_AREA.get(kind)
    if side and max(size) > side:
        raise OverBudget(f"{reason}: at most {side} on a side. Ask for a smaller one, or for another kind.")
    if area and size[0] * size[1] * frames > area:
        raise OverBudget(f"{reason}: at most {area} in all of its frames. Ask for a smaller one, or for another kind.")


Prepare = Callable[[Image.Image], Image.Image]
_WITH_EXIF = frozenset(("jpg", "png", "webp", "avif"))


def _as_it_is(image: Image.Image) -> Image.Image:
    return image


def _in_colour(image: Image.Image) -> Image.Image:
    return image.convert({"L": "RGB", "LA": "RGBA"}.get(image.mode, image.mode))


def _area(image: Image.Image) -> int:
    return image.width * image.height


def _jpg(image: Image.Image, quality: int | None) -> tuple[Prepare, dict[str, Any]]:
    quality = quality or 82
    # The default: between 75 and 88 two units buy 0.004 of SSIM for 6 % of bytes, without a knee.
    # 82 looks as good (0.928 at 300, 0.943 at 800 pixels, mean of 8 photographs) as WebP at 78
    # and AVIF at 61, which take 70 % and 57 % of its bytes.
    # Progressive files are 4 % smaller for a millisecond at 300 pixels; at 640 that is a sixth of
    # all it takes to make the picture, at 24 megapixels 0.3 s, and icons are smaller without.
    return _as_it_is, {
        "quality": quality,
        # at high quality coloured edges are what is left to see
        "subsampling": "4:4:4" if quality >= 90 else "4:2:0",
        "progressive": 10_000 <= _area(image) <= 100_000,
        "optimize": _area(image) <= 2_000_000,
    }


def _png(image: Image.Image, _: int | None) -> tuple[Prepare, dict[str, Any]]:
    return _as_it_is, {"compress_level": 6 if _area(image) <= 4_000_000 else 3 if _area(image) <= 16_000_000 else 1}


def _webp(image: Image.Image, quality: int | None) -> tuple[Prepare, dict[str, Any]]:
    # 4 is what the encoder is made for; a full-size picture would take seconds
    method = 4 if _area(image) <= 4_000_000 else 2 if _area(image) <= 16_000_000 else 0
    return _in_colour, {"quality": quality or 78, "method": method, "exact": False}


def _avif(image: Image.Image, quality: int | None) -> tuple[Prepare, dict[str, Any]]:
    # Measured at equal SSIM, 20 halves of 10 photographs of 1,000 pixels: speed 8 takes 0.32 of the CPU of 6 and 1.22
    # times its bytes, 10 takes 0.09 and 1.34. One thread: how the work is divided would show in the bytes.
    speed = 8 if _area(image) <= 8_000_000 else 10
    return _in_colour, {"quality": quality or 61, "speed": speed, "max_threads": 1, "autotiling": False}


def _tif(_: Image.Image, __: int | None) -> tuple[Prepare, dict[str, Any]]:
    return _as_it_is, {"compression": "tiff_lzw", "tiffinfo": {317: 2}}


def _gif(_: Image.Image, __: int | None) -> tuple[Prepare, dict[str, Any]]:
    return _with_palette, {"optimize": False}


def _with_palette(image: Image.Image) -> Image.Image:
    """Return it with up to 256 colours of its own, spread by dithering; half-transparent is transparent or not."""
    if image.mode == "L":
        return image
    if image.mode == "RGB":
        palette = _fewer(image).quantize(256, Image.Quantize.MEDIANCUT)
        return image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    hidden = image.getchannel("A").point([255] * 128 + [0] * 128)
    opaque = image.convert("RGB")
    palette = _fewer(opaque).quantize(255, Image.Quantize.MEDIANCUT)
    indexed = opaque.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    # the transparent index is one more than the colours, not beyond the table that is written
    colours = indexed.getpalette() or []
    transparent = len(colours) // 3
    indexed.putpalette([*colours, 0, 0, 0])
    indexed.paste(transparent, mask=hidden)
    indexed.info = {"transparency": transparent}
    return indexed


def _fewer(image: Image.Image) -> Image.Image:
    """Return enough pixels to choose colours by."""
    factor = int((_area(image) / 1_000_000) ** 0.5)
    return image.reduce(factor) if factor > 1 else image


def _jp2(_: Image.Image, quality: int | None) -> tuple[Prepare, dict[str, Any]]:
    # JPEG 2000 takes its quality as a signal-to-noise ratio in decibels: 80 means 36 dB
    if quality == 100:
        return _as_it_is, {"irreversible": False}
    return _as_it_is, {"irreversible": True, "quality_mode": "dB", "quality_layers": [20 + (quality or 80) * 0.2]}


_WRITERS: dict[str, Callable[[Image.Image, int | None], tuple[Prepare, dict[str, Any]]]] = {
    "jpg": _jpg, "png": _png, "webp": _webp, "avif": _avif, "tif": _tif, "gif": _gif, "jp2": _jp2,
}  # fmt: skip


def _animated(kind: str, timing: Timing) -> dict[str, Any]:
    options: dict[str, Any] = {"save_all": True, "duration": list(timing.durations)}
    if kind == "webp":
        return options | {"loop": min(timing.plays, _MOST_PLAYS), "minimize_size": False, "method": 2}
    # GIF counts the repetitions after the first time; without the block it plays once
    return options | {"disposal": 2} | ({} if timing.plays == 1 else {"loop": max(0, timing.plays - 1)})


def _add_rights(options: dict[str, Any], kind: str, artist: str, copyright: str) -> None:
    """Add artist and copyright to the options of a writer, and no other metadata."""
    tags = {piexif.ImageIFD.Artist: artist.encode(), piexif.ImageIFD.Copyright: copyright.encode()}
    rights = {tag: text for tag, text in tags.items() if text}
    if rights and kind == "tif":
        options["tiffinfo"] |= rights
    elif rights and kind in _WITH_EXIF:
        options["exif"] = piexif.dump({"0th": rights})

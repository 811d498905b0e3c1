"""Colour: whatever a picture is stored in becomes 8-bit sRGB, grey or RGB, with or without alpha.

Profiles are applied *before* they are dropped. Relative colorimetric with black point
compensation: what sRGB can show stays exact, black stays black, and it is what people see
in Photoshop. Perceptual would shift every colour of a printing profile, and
does nothing for the matrix profiles of cameras and displays.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable, Sequence

from PIL import Image, ImageCms

#: modes in which a picture can be shrunk and filtered: 8 bits a band, no palette
_PLAIN = frozenset(("L", "RGB", "CMYK", "LAB"))
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def matrix_profile(
    red: tuple[float, ...], green: tuple[float, ...], blue: tuple[float, ...], curve: float | Sequence[float]
) -> bytes:
    """Return an ICC profile (version 2.1) of a display: three primaries and one curve.

    :param red: XYZ of the primary, adapted to D50
    :param curve: an exponent, or light (0 to 1) at equal steps of the code value
    """
    table = [round(curve * 256)] if isinstance(curve, float | int) else [round(value * 65535) for value in curve]
    curve_tag = b"curv\0\0\0\0" + struct.pack(f">I{len(table)}H", len(table), *table)
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 4) + b"RGB\0" + b"\0" * 78 + b"\0\0",
        b"wtpt": _xyz((0.9642, 1.0, 0.8249)),
        b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue),
        b"rTRC": curve_tag, b"gTRC": curve_tag, b"bTRC": curve_tag,
        b"cprt": b"text\0\0\0\0CC0\0",
    }  # fmt: skip
    place, index, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        padded = data + b"\0" * (-len(data) % 4)
        index += name + struct.pack(">II", place + len(body), len(data))
        body += padded
    size = place + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02100000, b"mntr", b"RGB ", b"XYZ ") + b"\0" * 12 + b"acsp"
    head += b"\0" * 28 + struct.pack(">iii", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + body


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">iii", *(round(v * 65536) for v in values))


#: Adobe RGB (1998), section 4.3: primaries adapted to D50 (annex C), exponent 2 51/256
ADOBE_RGB = matrix_profile(
    (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457), 2 + 51 / 256
)


Converter = Callable[[Image.Image], Image.Image]


def to_plain(image: Image.Image) -> Converter | None:
    """Return the conversion of a picture, or of any part of it, to a mode that can be scaled; None when it is in one.

    That is 8 bits a band without a palette, and transparency as a band, premultiplied, so
    that the colour of what cannot be seen does not bleed into what can. Sixteen bits are
    scaled to eight, not cut off; 32 bits and floating point are stretched to the values that
    occur where these do not say themselves what white is.
    """
    mode = image.mode
    if mode in ("LA", "PA", "RGBA") or image.has_transparency_data:
        return _premultiplied
    if mode in _PLAIN:
        return None
    if mode.startswith("I;16"):
        return from_sixteen_bits
    if mode in ("I", "F"):
        scale, offset = _line(image)
        return lambda part: part.convert("F").point(lambda v: v * scale + offset).convert("L")
    if mode == "1":
        return lambda part: part.convert("L")
    return lambda part: part.convert("RGB")


def from_sixteen_bits(part: Image.Image) -> Image.Image:
    """Return 16-bit grey as 8-bit grey: scaled, not cut off."""
    return part.convert("I").point(_SIXTEEN_BITS, "L")


def _premultiplied(part: Image.Image) -> Image.Image:
    hidden = part.info.get("transparency")
    if part.mode in ("La", "RGBa"):
        return part
    if part.mode.startswith("I;16"):
        alpha = part.convert("I").point([0 if value == hidden else 255 for value in range(65536)], "L")
        grey = from_sixteen_bits(part)
        return Image.merge("LA", (grey, alpha)).convert("La")
    if part.mode in ("L", "LA"):
        return part.convert("LA").convert("La")
    return part.convert("RGBA").convert("RGBa")


def _line(image: Image.Image) -> tuple[float, float]:
    """Return scale and offset that bring 32-bit values to 0 to 255."""
    low, high = (float(value) for value in image.getextrema())  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        return 255.0, 0.0
    for white in (1.0, 255.0, 65535.0):
        if low >= 0 and high <= white and (white > 1 or image.mode == "F"):
            return 255 / white, 0.0
    if low == high:
        return 0.0, 0.0
    return 255 / (high - low), -low * 255 / (high - low)


def unmultiplied(image: Image.Image) -> Image.Image:
    """Return the picture with transparency as files store it; what is fully transparent has no colour."""
    mode = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
    return image.convert(mode) if mode else image


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Return the picture in sRGB, as L, LA, RGB or RGBA.

    :param image: in one of the plain modes, not premultiplied
    :param profile: ICC; one that is damaged or meant for other colours is passed over (grey takes that of a display)
    """
    if profile is None and image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    bare = image.convert(image.mode[:-1]) if alpha else image
    space = _LAB if bare.mode == "LAB" else profile
    converted = _transformed(bare, space) if space else None
    if converted is None and space and bare.mode == "L":
        # grey with the profile of a display: equal parts of its red, green and blue
        converted = _transformed(bare.convert("RGB"), space)
    if converted is None:
        # without a profile inks are what screens take them for
        converted = bare if bare.mode in ("L", "RGB") else bare.convert("RGB")
    if bare.mode == "L" and converted.mode == "RGB":
        converted = converted.convert("L")
    if alpha:
        converted.putalpha(alpha)
    return converted


def _transformed(image: Image.Image, profile: bytes | ImageCms.ImageCmsProfile) -> Image.Image | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if isinstance(profile, bytes) else profile
        transform = ImageCms.buildTransform(
            source,
            _SRGB,
            image.mode,
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


_LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
_SIXTEEN_BITS = [(value + 128) // 257 for value in range(65536)]

"""docs/formats.md is so: each kind in its table comes out, or is refused as it says."""

from __future__ import annotations

import io
import re
import struct
from pathlib import Path

import numpy as np
import picture_writers as writers
import pillow_heif
import pytest
from picture_writers import TiffKind
from pictures import animation, jpeg, photo, save
from PIL import Image
from rendered import LIMITS, picture

from image_repo import render
from image_repo.errors import Problem

ROOT = Path(__file__).parents[2]
CASES = Path(__file__).parents[1] / "images" / "cases"
IMAGE = photo(64, 48)
GREY, RGB = np.asarray(IMAGE.convert("L"))[..., None].astype(np.int64), np.asarray(IMAGE).astype(np.int64)
PALETTE = np.stack([np.arange(256)] * 3, axis=-1)


def table() -> dict[str, str]:
    """Kind → what comes out."""
    text = (ROOT / "docs" / "formats.md").read_text().partition("## Colour")[0]
    return dict(re.findall(r"^\| ([^|]+?) \| (yes|415|422) \|", text, re.MULTILINE))


def case(*names: str) -> list[bytes]:
    return [(CASES / name).read_bytes() for name in names]


def heic() -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(IMAGE).save(file, quality=90)
    return file.getvalue()


def grey_png(bits: int) -> bytes:
    return writers.png(GREY * (2**bits - 1) // 255, bits, 0)


def tiff(samples: np.ndarray, **kind: object) -> bytes:
    made = TiffKind(**kind)
    return writers.tiff(np.rint(samples / 255 * (2**made.bits - 1)).astype(np.int64), made)


def floating_rgb() -> bytes:
    """Three samples of 32 bits each, and SampleFormat 3 in place of the rows of a strip's tag."""
    made = bytearray(writers.tiff((RGB.astype(np.float32) / 255).view(np.uint32), TiffKind(bits=32, rows=48)))
    place = made.index(struct.pack("<HHL", 284, 3, 1))
    made[place : place + 12] = struct.pack("<HHLL", 339, 3, 1, 3)
    return bytes(made)


def recompressed(number: int) -> bytes:
    made = bytearray(tiff(RGB))
    place = made.index(struct.pack("<HHL", 259, 3, 1))
    made[place + 8 : place + 10] = struct.pack("<H", number)
    return bytes(made)


def precision_of_twelve() -> bytes:
    made = bytearray(jpeg(IMAGE))
    made[made.index(b"\xff\xc0") + 4] = 12
    return bytes(made)


def jp2_in_lab() -> bytes:
    return save(IMAGE, "JPEG2000").replace(
        struct.pack(">4sBBBI", b"colr", 1, 0, 0, 16), struct.pack(">4sBBBI", b"colr", 1, 0, 0, 14)
    )


def with_alpha() -> Image.Image:
    image = IMAGE.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def bmp(bits: int, masks: tuple[int, ...], pixels: bytes, size: tuple[int, int]) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 108, size[0], -size[1], 1, bits, 3, len(pixels), 0, 0, 0, 0)
    head += struct.pack("<IIII", *masks) + bytes(52)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


def samples() -> dict[str, list[bytes]]:
    """Kind of the table → files of it."""
    alpha = with_alpha()
    cmyk = np.asarray(IMAGE.convert("CMYK")).astype(np.int64)
    grey_alpha = np.asarray(alpha.convert("LA")).astype(np.int64)
    rgba = np.asarray(alpha).astype(np.int64)
    whole = jpeg(IMAGE)
    return {
        "JPEG, grey": [save(IMAGE.convert("L"), "JPEG")],
        "JPEG, RGB, baseline or progressive": [whole, jpeg(IMAGE, progressive=True)],
        "JPEG, CMYK or YCCK": case("cmyk_adobe.jpg", "ycck_made.jpg"),
        "JPEG without its end marker": case("baseline_no_eoi.jpg", "progressive_no_eoi.jpg"),
        "JPEG that is cut off": [whole[: len(whole) // 2]],
        "JPEG, 12 bits": [precision_of_twelve()],
        "JPEG, lossless": case("words_lossless.jpg"),
        "PNG, grey, 1 2 4 8 16 bits": [grey_png(bits) for bits in (1, 2, 4, 8, 16)],
        "PNG, RGB, 8 16 bits": [writers.png(RGB, 8, 2), writers.png(RGB * 257, 16, 2)],
        "PNG, palette": [writers.png(GREY, 8, 3, palette=PALETTE)],
        "PNG, with alpha or a transparent colour": [
            save(alpha, "PNG"), *case("trns_grey4_15.png", "trns_rgb16_odd.png"),
        ],
        "PNG, animated": case("apng_3.png", "apng_first.png"),
        "GIF": [save(IMAGE.quantize(256), "GIF"), animation("GIF")],
        "WebP, lossy or lossless": [save(IMAGE, "WEBP", lossless=lossless) for lossless in (True, False)],
        "AVIF, 8 10 12 bits": [save(IMAGE, "AVIF"), *case("clap_corner.avif", "turned.avif")],
        "HEIC": [heic()],
        "HEIF coded as anything but HEVC or AV1": [heic().replace(b"hvc1", b"unci"), heic().replace(b"hvc1", b"j2k1")],
        "JPEG 2000, 8 bits": [save(IMAGE, "JPEG2000"), *case("jp2_grey8_tiles.jp2")],
        "JPEG 2000, 1 to 31 bits, grey, RGB or with alpha": case("jp2_rgb12.jp2", "jp2_rgba16.jp2", "jp2_grey16.jp2"),
        "JPEG 2000, palette": case("jp2_palette_plain.jp2", "jp2_palette_equal.jp2", "jp2_palette_black4.jp2"),
        "JPEG 2000 in Lab or another space than grey, RGB, YCC, CMYK": [jp2_in_lab()],
        "BMP, palette or 24 bits": [save(image, "BMP") for image in (IMAGE, IMAGE.quantize(64), IMAGE.convert("1"))],
        "BMP, 16 bits with masks, also of alpha": [
            *case("words_bmp_655.bmp"), bmp(16, (0x7C00, 0x3E0, 0x1F, 0x8000), bytes(range(64)), (4, 8)),
        ],
        "BMP, 32 bits": [bmp(32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), bytes(range(64)), (4, 4))],
        "BMP without its file header (DIB)": [save(IMAGE, "DIB")],
        "BMP, 32 bits with unusual masks": [bmp(32, (0x3FF00000, 0xFFC00, 0x3FF, 0), bytes(range(64)), (4, 4))],
        "TIFF, bilevel": [*case("fax3.tif", "g4.tif", "miniswhite1.tif"), tiff(GREY, colour=1, bits=1)],
        "TIFF, grey, 1 2 4 8 16 bits": [
            tiff(GREY, colour=colour, bits=bits) for colour in (0, 1) for bits in (1, 2, 4, 8, 16)
        ],
        "TIFF, grey, 12 bits": [tiff(GREY, colour=colour, bits=12, order=order) for colour in (0, 1) for order in "<>"],
        "TIFF, grey, 32 bits": [tiff(GREY, colour=1, bits=32, order=order) for order in "<>"],
        "TIFF, grey, floating point": [save(Image.fromarray(np.asarray(IMAGE.convert("L"), np.float32) / 255), "TIFF")],
        "TIFF, grey with alpha, 8 16 bits": [
            tiff(grey_alpha, colour=1, bits=bits, extra=(extra,)) for bits in (8, 16) for extra in (1, 2)
        ],
        "TIFF, RGB, 8 16 bits": [
            tiff(rgba if extra else RGB, bits=bits, extra=extra, is_planar=planar)
            for bits in (8, 16) for extra in ((), (1,), (2,)) for planar in (False, True)
        ],
        "TIFF, CMYK, 8 16 bits": [
            tiff(cmyk, colour=5, bits=bits, is_planar=planar) for bits in (8, 16) for planar in (False, True)
        ],
        "TIFF, palette": [tiff(GREY, colour=3, palette=PALETTE)],
        "TIFF, Lab, 8 bits": [tiff(RGB, colour=8)],
        "TIFF, YCbCr as JPEG": case("jpeg_ycbcr.tif"),
        "TIFF, LZW Deflate PackBits Zstandard LZMA": [
            save(IMAGE, "TIFF", compression=name)
            for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma")
        ],
        "BigTIFF, either byte order": [
            tiff(RGB, is_big=True, order=order, tile=tile) for order in "<>" for tile in (0, 16)
        ],
        "TIFF, RGB, 12 bits": [tiff(RGB, bits=12)],
        "TIFF, RGB, 32 bits": [tiff(RGB, bits=32)],
        "TIFF, RGB, floating point": [floating_rgb()],
        "TIFF, Lab, 16 bits": [tiff(RGB, colour=8, bits=16)],
        "TIFF, compressed as WebP": [recompressed(50001)],
        "TIFF, compressed as JPEG 2000": [recompressed(34712)],
        "TIFF whose strips are missing": case("damaged_strip.tif"),
        "camera raw (DNG NEF CR2 CR3 ARW ORF RW2 RAF PEF)": case(
            "raw_dng.dng", "raw_nef.nef", "raw_cr2.cr2", "raw_arw.arw", "raw_orf.orf", "raw_raf.raf"
        ),
        "JPEG XL, PSD, SVG, PDF": [
            b"\xff\x0a" + bytes(30), b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30), b"%PDF-1.4\n",
            *case("layers.psd", "drawing.svg"),
        ],
    }  # fmt: skip


SAMPLES = samples()


def test_the_table_holds_each_kind_that_is_tried_and_no_other():
    assert list(table()) == list(SAMPLES)


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_kind_comes_out_as_the_table_says(kind):
    for source in SAMPLES[kind]:
        assert outcome(source) == table()[kind], len(source)


def outcome(source: bytes) -> str:
    try:
        render.inspect(io.BytesIO(source), LIMITS, location=False)
        render.verify(io.BytesIO(source), LIMITS)
        picture(source)
    except Problem as problem:
        assert problem.detail
        return str(problem.status)
    return "yes"

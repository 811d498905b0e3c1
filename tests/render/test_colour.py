"""Colours, against references made with the formulas of the standards and numpy."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import picture_writers as writers
import pytest
from pictures import jpeg, photo, png, png_chunk, save
from PIL import Image, ImageCms
from rendered import picture, pixels, ssim

from image_repo.render.colour import ADOBE_RGB, matrix_profile

#: a chart: 6 levels of each primary
CHART = Image.fromarray(
    np.array([[(r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51)] for b in range(0, 256, 51)], np.uint8)
).resize((36 * 8, 6 * 8), Image.Resampling.NEAREST)
#: SMPTE EG 432-1 primaries and the D65 white, adapted to D50: Display P3 as Apple's profile has it
DISPLAY_P3 = matrix_profile((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407), 2.2)


def chromaticities(red: tuple[float, float], green: tuple[float, float], blue: tuple[float, float]) -> np.ndarray:
    """The matrix from linear RGB with white D65 to XYZ (Lindbloom; IEC 61966-2-1 for sRGB)."""
    columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in (red, green, blue)]).T
    white = np.array((0.3127 / 0.329, 1, (1 - 0.3127 - 0.329) / 0.329))
    return columns * np.linalg.solve(columns, white)


SRGB = chromaticities((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE = chromaticities((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
P3 = chromaticities((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))


def to_srgb(values: np.ndarray, matrix: np.ndarray, gamma: float) -> np.ndarray:
    """8-bit RGB of some primaries and exponent as 8-bit sRGB, cut off where sRGB ends."""
    linear = (values / 255) ** gamma
    linear = np.clip(linear @ (np.linalg.inv(SRGB) @ matrix).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    return encoded * 255


def in_gamut(values: np.ndarray, matrix: np.ndarray, gamma: float) -> np.ndarray:
    linear = (values / 255) ** gamma @ (np.linalg.inv(SRGB) @ matrix).T
    return ((linear > -0.001) & (linear < 1.001)).all(axis=-1)


@pytest.mark.parametrize(
    ("icc", "matrix", "gamma"),
    [
        pytest.param(ADOBE_RGB, ADOBE, 563 / 256, id="Adobe RGB"),
        pytest.param(DISPLAY_P3, P3, 2.2, id="Display P3 primaries"),
    ],
)
@pytest.mark.parametrize("form", ["png", "tif", "webp"])
def test_a_profile_is_applied_before_it_is_dropped(icc, matrix, gamma, form):
    options = {"lossless": True, "exact": True} if form == "webp" else {}
    source = save(CHART, {"png": "PNG", "tif": "TIFF", "webp": "WEBP"}[form], icc_profile=icc, **options)
    made = picture(source)
    assert "icc_profile" not in made.info
    values = pixels(CHART)
    reference, inside = to_srgb(values, matrix, gamma), in_gamut(values, matrix, gamma)
    assert inside.mean() > 0.2
    assert np.abs(pixels(made) - reference)[inside].max() <= 2.5
    # the pixels as they are would be far off: the test can fail
    assert np.abs(values - reference).max() > 20


def test_adobe_rgb_is_believed_when_only_exif_says_so():
    image = Image.new("RGB", (64, 64), (40, 200, 90))
    plain, adobe = (
        pixels(picture(jpeg(image, adobe_rgb=has_adobe_rgb, camera=True, quality=100)))
        for has_adobe_rgb in (False, True)
    )
    assert np.abs(plain - (40, 200, 90)).max() <= 2
    expected = to_srgb(np.array((40.0, 200.0, 90.0)), ADOBE, 563 / 256)
    assert np.abs(adobe - expected).max() <= 4


def test_shrinking_first_gives_the_same_colours():
    image = photo(800, 600)
    source = png(image, icc=ADOBE_RGB)
    converted = picture(source)
    assert np.abs(pixels(converted) - pixels(image)).mean() > 5
    assert ssim(picture(source, width=100), converted.resize((100, 75), Image.Resampling.LANCZOS)) >= 0.99


@pytest.mark.parametrize("width", [None, 20], ids=["at full size", "shrunk"])
@pytest.mark.parametrize(
    "icc",
    [b"x", b"\0" * 128, ADOBE_RGB[:200], ADOBE_RGB[:36] + b"junk" + ADOBE_RGB[40:]],
    ids=["one byte", "zeros", "cut off", "no signature"],
)
def test_a_damaged_profile_is_passed_over(icc, width):
    image = Image.new("RGB", (80, 60), (10, 200, 90))
    made = picture(jpeg(image, icc=icc, quality=100), width=width)
    assert np.abs(np.subtract(made.getpixel((5, 5)), (10, 200, 90))).max() <= 2


def test_a_profile_for_other_colours_is_passed_over():
    made = picture(png(Image.new("RGB", (8, 8), (77, 78, 79)), icc=_ink_profile()))
    assert made.getpixel((1, 1)) == (77, 78, 79)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_takes_the_profile_of_a_display(mode):
    dark = matrix_profile((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407), 1.0)
    made = picture(png(Image.new("L", (8, 8), 77).convert(mode), icc=dark))
    expected = to_srgb(np.array((77.0, 77.0, 77.0)), P3, 1.0)[0]
    assert made.mode == "L"
    assert abs(made.getpixel((1, 1)) - expected) <= 1.5


def test_a_profile_leaves_transparency_alone():
    image = Image.new("RGBA", (40, 40), (40, 200, 90, 255))
    image.paste((40, 200, 90, 128), (0, 0, 20, 40))
    made = picture(png(image, icc=ADOBE_RGB))
    assert (made.getpixel((5, 5))[3], made.getpixel((30, 5))[3]) == (128, 255)
    expected = to_srgb(np.array((40.0, 200.0, 90.0)), ADOBE, 563 / 256)
    assert np.abs(np.subtract(made.getpixel((30, 5))[:3], expected)).max() <= 2


# -- inks --------------------------------------------------------------------------------

INKS = Image.new("CMYK", (80, 16))
for _place, _ink in enumerate([(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (51, 102, 153, 51)]):
    INKS.paste(_ink, (_place * 16, 0, _place * 16 + 16, 16))


def test_inks_without_a_profile_are_what_screens_take_them_for():
    made = pixels(picture(save(INKS, "TIFF")))
    inks = pixels(INKS)
    reference = (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255
    assert np.abs(made - reference).max() <= 2


@pytest.mark.parametrize("quality", [100])
def test_inverted_inks_of_adobe_jpegs_come_out_right(quality):
    source = save(INKS, "JPEG", quality=quality)
    assert b"Adobe" in source[:200]
    made = picture(source)
    assert np.abs(np.subtract(made.getpixel((4, 8)), (255, 255, 255))).max() <= 3
    assert np.abs(np.subtract(made.getpixel((20, 8)), (0, 255, 255))).max() <= 12


def _ink_profile() -> bytes:
    """An ICC profile of a printer whose inks make Lab: a table of 2 by 2 by 2 by 2 entries (ICC.1:2001-04, 6.5.7)."""
    table = b""
    for c in (0, 1):
        for m in (0, 1):
            for y in (0, 1):
                for k in (0, 1):
                    lightness = (1 - k) * (1 - 0.3 * c - 0.4 * m - 0.1 * y)
                    colour = (1 - k) * 20
                    a, b = colour * (m - c), colour * (y - c)
                    table += struct.pack(">HHH", int(lightness * 0xFF00), int((a + 128) * 256), int((b + 128) * 256))
    curves = struct.pack(">HH", 0, 0xFFFF)
    identity = struct.pack(">9i", *(65536 if n % 4 == 0 else 0 for n in range(9)))
    lut = b"mft2\0\0\0\0" + bytes((4, 3, 2, 0)) + identity + struct.pack(">HH", 2, 2) + curves * 4 + table + curves * 3
    white = b"XYZ \0\0\0\0" + struct.pack(">iii", 63190, 65536, 54061)
    tags = ((b"A2B0", lut), (b"A2B1", lut), (b"wtpt", white))
    place, index, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags:
        index += name + struct.pack(">II", place + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(body), b"\0" * 4, 0x02100000, b"prtr", b"CMYK", b"Lab ") + b"\0" * 12
    head = (head + b"acsp" + b"\0" * 28 + struct.pack(">iii", 63190, 65536, 54061)).ljust(128, b"\0")
    return head + struct.pack(">I", len(tags)) + index + body


def test_a_profile_of_inks_is_applied():
    # half of the black ink and nothing else: L* 50, which is sRGB 119
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 128))
    made = picture(save(image, "TIFF", icc_profile=_ink_profile()))
    assert np.abs(np.subtract(made.getpixel((8, 8)), (119, 119, 119))).max() <= 3
    naive = picture(save(image, "TIFF"))
    assert naive.getpixel((8, 8)) == (127, 127, 127)


def test_lab_is_converted():
    lab = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    image = ImageCms.applyTransform(Image.new("RGB", (16, 16), (200, 100, 50)), transform)
    made = picture(save(image, "TIFF"))
    assert np.abs(np.subtract(made.getpixel((8, 8)), (200, 100, 50))).max() <= 4


# -- depth -------------------------------------------------------------------------------

RAMP = np.tile(np.linspace(0, 65535, 256), (16, 1))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("width", [None, 64], ids=["at full size", "shrunk"])
def test_sixteen_bits_of_grey_are_scaled_not_cut(form, width):
    source = save(Image.fromarray(RAMP.astype(np.uint16)), form)
    made = picture(source, width=width)
    assert made.mode == "L"
    if width:
        assert np.abs(np.diff(pixels(made)[1])).max() <= 6
        return
    assert np.abs(pixels(made) - np.arange(256)).max() <= 0.5


def test_sixteen_bits_of_grey_with_a_transparent_value():
    source = save(Image.fromarray(RAMP.astype(np.uint16)), "PNG", transparency=65535)
    made = picture(source)
    assert made.getpixel((255, 3)) == (0, 0)
    assert made.getpixel((200, 3)) == (200, 255)


def test_sixteen_bits_of_colour():
    # written by hand: the library writes only 8 bits of RGB
    rows = b"".join(
        b"\0" + b"".join(struct.pack(">HHH", v, 65535 - v, 0x8080) for v in range(0, 65536, 257)) for _ in range(4)
    )
    made = picture(_png(256, 4, 16, 2, rows))
    expected = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 128)], axis=-1)
    assert np.abs(pixels(made)[1] - expected).max() <= 1


def _png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(RAMP.astype(np.float32) / 65535, np.arange(256), id="floating point from 0 to 1"),
        pytest.param(RAMP.astype(np.float32) / 257, np.arange(256), id="floating point from 0 to 255"),
        pytest.param(RAMP.astype(np.int32), np.arange(256), id="32 bits that hold 16"),
        pytest.param(
            RAMP.astype(np.float32) * 100 - 7, np.arange(256), id="floating point of another range is stretched"
        ),
    ],
)
def test_deep_pictures(values, expected):
    made = picture(save(Image.fromarray(values), "TIFF"))
    assert np.abs(pixels(made) - expected).max() <= 1.1


@pytest.mark.parametrize("value", [-5.0, 1e6])
def test_a_picture_of_one_value_outside_the_known_ranges_is_black(value):
    made = picture(save(Image.fromarray(np.full((3, 3), value, np.float32)), "TIFF"))
    assert made.convert("L").getextrema() == (0, 0)


def test_numbers_that_are_none_do_no_harm():
    values = RAMP.astype(np.float32) / 65535
    values[3, 3], values[4, 4] = np.nan, np.inf
    assert picture(save(Image.fromarray(values), "TIFF")).getpixel((255, 0)) == 255


def test_one_bit_is_shrunk_to_greys():
    image = Image.fromarray((np.indices((64, 64)).sum(axis=0) % 2).astype(np.uint8) * 255).convert("1")
    made = picture(png(image), width=8)
    assert made.mode == "L"
    assert np.abs(pixels(made) - 127.5).max() < 20


def test_our_own_profile_is_one_that_the_library_reads():
    profile = ImageCms.ImageCmsProfile(io.BytesIO(ADOBE_RGB)).profile
    assert (profile.xcolor_space.strip(), profile.device_class) == ("RGB", "mntr")


# -- colours that are said by numbers ------------------------------------------------------

BT2020 = chromaticities((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))


def cicp_png(values: np.ndarray, primaries: int, transfer: int) -> bytes:
    return writers.png(values, 16, 2, chunks=((b"cICP", bytes((primaries, transfer, 0, 1))),))


def pq_to_light(value: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, equation 4.1, in cd/m²."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = value ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def light_to_pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, equation 5.2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (np.asarray(light) / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def tone_mapped(light: np.ndarray) -> np.ndarray:
    """BT.2390-11, section 5.4.1, from 1000 to 203 cd/m²; white is 1."""
    peak, most = light_to_pq(1000), light_to_pq(203) / light_to_pq(1000)
    value, knee = np.minimum(1, light_to_pq(light) / peak), 1.5 * most - 0.5
    t = np.clip((value - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_to_light(np.where(value < knee, value, spline) * peak) / 203


def hlg_to_light(value: np.ndarray) -> np.ndarray:
    """BT.2100-2, table 5: on a display of 1000 cd/m²."""
    scene = np.where(value <= 0.5, value**2 / 3, (np.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    return 1000 * scene**1.2


def as_srgb(linear: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """8-bit sRGB, and where it can show the colour."""
    linear = linear @ (np.linalg.inv(SRGB) @ matrix).T
    inside = ((linear > -0.001) & (linear < 1.001)).all(axis=-1)
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055) * 255, inside


@pytest.mark.parametrize(
    ("numbers", "matrix", "to_linear"),
    [
        pytest.param((12, 13), P3, lambda v: np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4), id="P3"),
        pytest.param((9, 16), BT2020, lambda v: tone_mapped(pq_to_light(v)), id="BT.2020 PQ"),
        pytest.param((9, 18), BT2020, lambda v: tone_mapped(hlg_to_light(v)), id="BT.2020 HLG"),
        pytest.param((12, 16), P3, lambda v: tone_mapped(pq_to_light(v)), id="P3 PQ"),
        pytest.param((9, 8), BT2020, lambda v: v, id="BT.2020 linear"),
        pytest.param((1, 4), SRGB, lambda v: v**2.2, id="BT.709 gamma 2.2"),
    ],
)
def test_colours_that_are_said_by_numbers_are_converted(numbers, matrix, to_linear):
    values = np.asarray(CHART).astype(np.int64) * 257
    expected, inside = as_srgb(to_linear(values / 65535), matrix)
    made = pixels(picture(cicp_png(values, *numbers)))
    assert inside.mean() > 0.05
    assert np.abs(made - expected)[inside].mean() <= 1.5
    assert np.abs(made - expected)[inside].max() <= 6


def test_reference_white_of_pq_stays_below_the_white_of_the_display():
    white = np.full((8, 8, 3), round(float(light_to_pq(203)) * 65535))
    made = picture(cicp_png(white, 9, 16)).getpixel((4, 4))
    assert np.abs(np.subtract(made, 228)).max() <= 1


@pytest.mark.parametrize("numbers", [(1, 13), (1, 1), (2, 2), (1, 6), (99, 99)])
def test_numbers_that_mean_srgb_or_nothing_change_no_colour(numbers):
    values = np.asarray(CHART).astype(np.int64) * 257
    assert np.abs(pixels(picture(cicp_png(values, *numbers))) - pixels(CHART)).max() <= 1


def test_numbers_stand_above_a_profile_in_png():
    plain = io.BytesIO()
    CHART.save(plain, "PNG", icc_profile=ADOBE_RGB)
    chunk = png_chunk(b"cICP", bytes((1, 13, 0, 1)))
    source = plain.getvalue()
    source = source[:33] + chunk + source[33:]
    assert np.abs(pixels(picture(source)) - pixels(CHART)).max() <= 1

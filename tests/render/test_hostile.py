"""What must not get through the renderer: metadata on the way out, bombs and damage on the way in."""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
import zlib

import piexif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import (
    ALTITUDE,
    LATITUDE,
    LONGITUDE,
    SECRET,
    animation,
    exif,
    jpeg,
    photo,
    png,
    png_chunk,
    png_header,
    save,
    tiff_pages,
)
from PIL import Image, ImageSequence
from rendered import LIMITS, foreign_parts, picture, rendered
from threats import takes_at_most

from image_repo import render
from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture, NotAPicture, OverBudget, Problem, UnsupportedPicture
from image_repo.model.formats import WRITABLE
from image_repo.model.recipe import Recipe
from image_repo.render.colour import ADOBE_RGB

# -- on the way out ------------------------------------------------------------------------

XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>{SECRET}</a></x:xmpmeta>'
TAGS = exif(
    gps=True,
    camera=True,
    artist=SECRET,
    copyright=SECRET,
    thumbnail=save(photo(32, 24), "JPEG", comment=SECRET.encode()),
)
ICC = ADOBE_RGB.replace(b"CC0\0", SECRET[:4].encode()) + SECRET.encode()


def _gif_with_comment() -> bytes:
    return save(photo(80, 60).quantize(16), "GIF", comment=SECRET.encode())


LADEN = {
    "jpg": jpeg(
        photo(80, 60),
        comment=SECRET,
        xmp=XMP,
        icc=ICC,
        camera=True,
        gps=True,
        artist=SECRET,
        thumbnail=True,
        dpi=(301, 301),
    ),
    "png": png(photo(80, 60), text=SECRET, icc=ICC, exif=TAGS, dpi=(301, 301)),
    "webp": save(photo(80, 60), "WEBP", exif=TAGS, xmp=XMP.encode(), icc_profile=ICC),
    "avif": save(photo(80, 60), "AVIF", exif=TAGS, xmp=XMP.encode(), icc_profile=ICC),
    "tif": save(
        photo(80, 60), "TIFF", icc_profile=ICC, description=SECRET, artist=SECRET, software=SECRET, dpi=(301, 301)
    ),
    "gif": _gif_with_comment(),
}


@pytest.mark.parametrize("width", [None, 40], ids=["at full size", "shrunk"])
@pytest.mark.parametrize("kind", WRITABLE)
@pytest.mark.parametrize("source", LADEN)
def test_nothing_but_pixels_is_served(source, kind, width):
    assert SECRET.encode() in LADEN[source]
    body = rendered(LADEN[source], kind=kind, width=width, animate=kind in ("gif", "webp")).body
    assert foreign_parts(body) == []
    assert SECRET.encode() not in body
    assert b"Kamera" not in body


@pytest.mark.parametrize("name", LADEN)
def test_the_scanner_finds_what_is_there(name):
    assert foreign_parts(LADEN[name])


def test_the_density_of_the_original_is_dropped():
    assert picture(LADEN["jpg"], kind="jpg").info.get("dpi", (1, 1)) in ((1, 1), (72, 72))


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif", "tif"])
def test_artist_and_copyright_are_written_back_when_asked_for_and_nothing_else(kind):
    source = jpeg(photo(80, 60), artist="Zoë", copyright="© 2024 Zoë", camera=True, gps=True, comment=SECRET)
    body = rendered(source, kind=kind, copyright=True).body
    with Image.open(io.BytesIO(body)) as image:
        tags = dict(image.getexif())
    layout = set(range(254, 340)) - {315} if kind == "tif" else set()
    assert set(tags) - layout == {315, 33432}
    assert "Zoë".encode() in body
    assert "© 2024 Zoë".encode() in body
    assert b"Kamera" not in body


def test_without_rights_no_block_is_written():
    assert foreign_parts(rendered(jpeg(camera=True), kind="jpg", copyright=True).body) == []


# -- what is kept of the metadata ----------------------------------------------------------


def facts(source: bytes, *, location: bool = False, limits: RenderConfiguration = LIMITS) -> dict[str, object]:
    return render.inspect(io.BytesIO(source), limits, location=location).exif


KNOWN = {
    "camera_make": "Kamera AG",
    "camera_model": "K-1000",
    "lens": "Linse 50mm F1.8",
    "exposure_time": 0.004,
    "f_number": 2.8,
    "iso": 200,
    "focal_length": 50,
    "captured": "2024-05-17T12:34:56+02:00",
}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_camera_lens_and_time_are_known(form):
    source = save(photo(80, 60), form, exif=exif(camera=True, gps=True))
    assert facts(source) == KNOWN
    known_facts = facts(source, location=True)
    assert (known_facts["latitude"], known_facts["longitude"]) == pytest.approx((LATITUDE, LONGITUDE), abs=1e-6)
    assert known_facts["altitude"] == ALTITUDE


def test_texts_are_bounded_and_clean():
    tags = {
        "0th": {piexif.ImageIFD.Make: b"A\r\nSet-Cookie: x\x1b[1m" + b"B" * 9000, piexif.ImageIFD.Model: b"\xff\xfe"}
    }
    exif = facts(save(photo(8, 8), "JPEG", exif=piexif.dump(tags)), limits=RenderConfiguration(max_metadata=100))
    assert len(exif["camera_make"].encode()) <= 100
    assert exif["camera_make"].startswith("A Set-Cookie: x [1mBB")
    json.dumps(exif, allow_nan=False)


@pytest.mark.parametrize(
    "value", [(1, 0), (0, 0), (4294967295, 1)], ids=["divided by zero", "nothing by nothing", "longer than a century"]
)
def test_numbers_without_sense_are_left_out(value):
    tags = {"Exif": {piexif.ExifIFD.ExposureTime: value, piexif.ExifIFD.FNumber: (28, 10)}}
    assert facts(save(photo(8, 8), "JPEG", exif=piexif.dump(tags))) == {"f_number": 2.8}


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_bytes_may_stand_where_exif_should(junk):
    for start in (b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"):
        exif = facts(save(Image.new("L", (1, 1)), "JPEG", exif=b"Exif\0\0" + start + junk), location=True)
        json.dumps(exif, allow_nan=False)


# -- on the way in -------------------------------------------------------------------------


def attempt(source: bytes, limits: RenderConfiguration = LIMITS) -> list[type[Problem] | None]:
    """What inspect, verify and render say to these bytes: None, or the problem. Anything else escapes."""
    outcomes: list[type[Problem] | None] = []
    for work in (
        lambda: render.inspect(io.BytesIO(source), limits, location=True),
        lambda: render.verify(io.BytesIO(source), limits),
        lambda: render.render(io.BytesIO(source), Recipe(kind="webp", width=20, animate=True), limits),
    ):
        try:
            work()
            outcomes.append(None)
        except Problem as problem:
            outcomes.append(type(problem))
    return outcomes


def _tiff_header(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", following)


def _jpeg_of(width: int, height: int) -> bytes:
    source = bytearray(jpeg(photo(16, 16)))
    at = source.index(b"\xff\xc0")
    source[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(source)


def _many_scans(scans: int) -> bytes:
    source = jpeg(photo(64, 64), progressive=True)
    first = source.index(b"\xff\xda")
    second = source.index(b"\xff\xda", first + 2)
    start = source.rindex(b"\xff\xc4", 0, first)
    return source[:second] + source[start:second] * scans + source[second:]


def _webp_canvas(width: int, height: int) -> bytes:
    body = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\x02\0\0\0"
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _jp2_of(width: int, height: int) -> bytes:
    source = bytearray(save(photo(16, 16), "JPEG2000", no_jp2=True))
    for at in (8, 24):  # the picture, and its only tile
        source[at : at + 8] = struct.pack(">II", width, height)
    return bytes(source)


BOMBS = {
    "a PNG of a terapixel": png_header(1_000_000, 1_000_000),
    "a JPEG of four gigapixels": _jpeg_of(65_500, 65_500),
    "a WebP of 268 megapixels": _webp_canvas(16_384, 16_384),
    "a GIF of four gigapixels": b"GIF89a\xff\xff\xff\xff\0\0\0" + animation()[13:],
    "a GIF whose second frame sticks out": animation(frames=1)[:-1]
    + b",\xff\xff\xff\xff\x40\0\x30\0\0\x02\x02L\x01\0;",
    "a TIFF of four gigapixels": _tiff_header((256, 4, 1, 65_535), (257, 4, 1, 65_535)),
    "a BMP of four gigapixels": b"BM"
    + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 65_535, 65_535, 1, 24, 0, 0, 0, 0, 0, 0),
    "a JPEG 2000 of 49 megapixels": _jp2_of(7_000, 7_000),
    "a JPEG of two hundred scans": _many_scans(200),
    "a PNG with texts of a hundred megabytes": png_header(
        8, 8, chunks=png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20 << 20))) * 5
    ),
    "a PNG with a private chunk of 20 megabytes": png_header(8, 8, chunks=png_chunk(b"prVt", bytes(20 << 20))),
    "a GIF with comments of two megabytes": animation()[:-1]
    + (b"!\xfe" + (b"\xff" + b"x" * 255) * 8000 + b"\0")
    + b";",
    "a TIFF of 200 bands": _tiff_header((256, 4, 1, 8), (257, 4, 1, 8), (277, 3, 1, 200)),
    "a TIFF whose tags all name the same megabytes": _tiff_header(
        (256, 4, 1, 8), (257, 4, 1, 8), *((40_000 + n, 7, 1 << 20, 8) for n in range(40))
    )
    + bytes(1 << 20),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_from_the_header(name):
    source = BOMBS[name]
    attempt(png())
    tracemalloc.start()
    with takes_at_most(cpu_s=2.0):
        outcomes = attempt(source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert set(outcomes) <= {OverBudget, BrokenPicture}
    assert OverBudget in outcomes or "texts" in name
    assert peak < 64 << 20


def test_a_hundred_scans_are_not_too_many_but_a_hundred_and_one_are():
    ordinary = jpeg(photo(64, 64), progressive=True)
    scans = ordinary.count(b"\xff\xda")
    assert attempt(ordinary, RenderConfiguration(max_scans=scans)) == [None] * 3
    assert attempt(ordinary, RenderConfiguration(max_scans=scans - 1)) == [OverBudget] * 3


def test_scans_are_counted_even_where_a_comment_pretends_that_the_picture_ends():
    source = jpeg(photo(64, 64), progressive=True)
    at = source.index(b"\xff\xda", source.index(b"\xff\xda") + 2)
    start = source.rindex(b"\xff\xc4", 0, at)
    disguised = source[:start] + b"\xff\xfe\x00\x06\xff\xd9\xff\xd9" + source[start:]
    assert attempt(disguised) == [None] * 3
    assert attempt(disguised, RenderConfiguration(max_scans=3)) == [OverBudget] * 3


@pytest.mark.parametrize(
    "limits",
    [RenderConfiguration(max_pixels=76_799, max_scaled_pixels=76_799), RenderConfiguration(max_source=1000)],
)
def test_the_budgets_are_those_of_the_configuration(limits):
    source = jpeg(photo(320, 240))
    assert attempt(source) == [None] * 3
    assert attempt(source, limits) == [OverBudget] * 3


NO_PICTURES = {
    "nothing": b"",
    "text": b"hello",
    "HTML": b"<html><script>alert(1)</script>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PDF": b"%PDF-1.7\n",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "PSD": b"8BPS\0\x01" + bytes(40),
    "FITS": b"SIMPLE  =                    T" + bytes(2900),
    "MVG": b"push graphic-context\nimage over 0,0 0,0 'http://example.org/'",
    "ICO": b"\0\0\x01\0\x01\0" + bytes(40),
    "zip": b"PK\x03\x04" + bytes(40),
    "TGA": bytes(2) + b"\x02" + bytes(40),
    "an MP4": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n",
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_told_so(name):
    assert attempt(NO_PICTURES[name]) == [NotAPicture] * 3


def test_heic_without_its_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(UnsupportedPicture) as caught:
        rendered(b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(40))
    assert "pip install image_repo[heif]" in caught.value.detail


def test_heic_is_read_upright():
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    tags = Image.Exif()
    tags[0x112] = 6
    heif.from_pillow(photo(64, 32)).save(file, exif=tags.tobytes(), quality=90)
    source = file.getvalue()
    info = render.inspect(io.BytesIO(source), LIMITS, location=False)
    made = picture(source)
    assert (info.kind, made.size) == ("heic", (info.width, info.height))
    assert foreign_parts(rendered(source, kind="jpg").body) == []


WHOLE = {
    "jpg": jpeg(photo(160, 120)),
    "progressive jpg": jpeg(photo(160, 120), progressive=True),
    "png": png(photo(160, 120)),
    "webp": save(photo(160, 120), "WEBP"),
    "gif": animation("GIF", 4),
    "tif": save(photo(160, 120), "TIFF"),
    "pages of a tif": tiff_pages(),
    "bmp": save(photo(160, 120), "BMP"),
    "avif": save(photo(160, 120), "AVIF"),
    "jp2": save(photo(160, 120), "JPEG2000"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_upload_is_refused(name):
    source = WHOLE[name]
    assert attempt(source) == [None] * 3
    for part in (0.05, 0.5, 0.8):
        with pytest.raises((BrokenPicture, NotAPicture)) as caught:
            render.verify(io.BytesIO(source[: int(len(source) * part)]), LIMITS)
        assert "/" not in caught.value.detail


@pytest.mark.parametrize("name", WHOLE)
def test_flipped_bits_end_in_a_picture_or_a_problem(name):
    source, dice = WHOLE[name], random.Random(name)
    for _ in range(25):
        damaged = bytearray(source)
        for _ in range(dice.randint(1, 6)):
            # mostly in the header, where lengths and sizes are
            damaged[dice.randrange(len(source) if dice.random() < 0.3 else min(len(source), 300))] = dice.randrange(256)
        attempt(bytes(damaged), RenderConfiguration(max_pixels=1_000_000))


@given(st.sampled_from(sorted(WHOLE)), st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_junk_behind_any_beginning_never_escapes(name, junk):
    attempt(WHOLE[name][:40] + junk, RenderConfiguration(max_pixels=1_000_000))


def test_a_polyglot_gives_a_clean_picture():
    payload = b"PK\x03\x04<?php system($_GET[0]); ?><script>alert(1)</script>"
    body = rendered(jpeg(photo(80, 60), comment=payload.decode("latin-1")) + payload, kind="jpg").body
    assert b"php" not in body
    assert b"script" not in body
    assert foreign_parts(body) == []


def test_a_picture_behind_the_picture_is_not_looked_at():
    # the files of stereo cameras and phones: a second JPEG follows the first
    first, second = photo(80, 60), photo(80, 60, seed=1)
    source = save(first, "MPO", save_all=True, append_images=[second])
    assert len(list(ImageSequence.Iterator(Image.open(io.BytesIO(source))))) == 2
    info = render.inspect(io.BytesIO(source), LIMITS, location=False)
    assert (info.kind, info.frames) == ("jpg", 1)
    assert foreign_parts(rendered(source, kind="jpg").body) == []

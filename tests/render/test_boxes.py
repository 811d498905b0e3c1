"""The reader of boxes: what a file says of its picture; damage is a ValueError."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import animation, photo, save
from rendered import picture

from image_repo.render.boxes import boxes, read_jp2, read_primary_item
from image_repo.render.cicp import Cicp
from image_repo.render.colour import ADOBE_RGB

CASES = Path(__file__).parents[1] / "images" / "cases"


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def test_the_primary_item_is_read_of_a_still_picture():
    item = read_primary_item(memoryview((CASES / "clap_middle.avif").read_bytes()))
    assert (item.size, item.aperture, item.coding) == ((192, 128), (64, 32, 128, 96), b"av01")
    assert read_primary_item(memoryview((CASES / "nclx_p3.heic").read_bytes())).cicp == Cicp(12, 13)


def test_the_first_track_is_read_of_a_sequence():
    assert read_primary_item(memoryview(animation("AVIF"))).size == (64, 48)


def test_a_sequence_is_cut_to_the_clean_aperture_of_its_track():
    source = bytearray(animation("AVIF"))
    aperture = box(b"clap", struct.pack(">IIIIiIiI", 32, 1, 24, 1, 0, 1, 0, 1))
    # The configuration of the codec is the first box of the description: the aperture goes behind it.
    at = source.index(b"av1C", source.index(b"stsd")) - 4
    at += struct.unpack_from(">I", source, at)[0]
    source[at:at] = aperture
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"av01"):
        place = source.index(kind, source.index(b"moov")) - 4
        struct.pack_into(">I", source, place, struct.unpack_from(">I", source, place)[0] + len(aperture))
    assert read_primary_item(memoryview(bytes(source))).aperture == (16, 12, 48, 36)


@pytest.mark.parametrize(
    "numbers",
    [(64, 0, 64, 1, 0, 1, 0, 1), (9000, 1, 64, 1, 30_000, 1, 0, 1), (64, 1, 64, 1, 0, 0, 0, 1)],
    ids=["a fraction by zero", "outside", "an offset by zero"],
)
def test_an_aperture_that_makes_no_sense_is_refused(numbers):
    source = bytearray((CASES / "clap_middle.avif").read_bytes())
    place = source.index(b"clap") + 4
    struct.pack_into(">IIIIiIiI", source, place, *numbers)
    with pytest.raises(ValueError, match=r"fraction|outside"):
        read_primary_item(memoryview(bytes(source)))


def test_boxes_of_all_lengths_are_read():
    wide = struct.pack(">I4sQ", 1, b"wide", 20) + b"body"
    to_end = struct.pack(">I4s", 0, b"last") + b"rest"
    kinds = {each.kind: bytes(each.body) for each in boxes(memoryview(box(b"one ", b"1") + wide + to_end))}
    assert kinds == {b"one ": b"1", b"wide": b"body", b"last": b"rest"}


def test_a_box_that_sticks_out_ends_the_list():
    data = memoryview(box(b"one ", b"1") + struct.pack(">I4s", 1 << 30, b"long") + b"body")
    assert [each.kind for each in boxes(data)] == [b"one "]
    assert [each.kind for each in boxes(data, is_file=True)] == [b"one ", b"long"]


@given(st.data())
def test_damage_is_a_value_error_or_nothing(data):
    names = ["clap_middle.avif", "nclx_p3_turned.heic", "jp2_palette_plain.jp2", "jp2_rgba16.jp2"]
    name = data.draw(st.sampled_from(names))
    source = bytearray((CASES / name).read_bytes())
    for place, value in data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8)):
        source[place % len(source)] = value
    read = read_jp2 if name.endswith("jp2") else read_primary_item
    with contextlib.suppress(ValueError):
        read(memoryview(bytes(source)))


def test_a_profile_of_jpeg_2000_is_applied():
    image = photo(64, 48)
    plain = save(image, "JPEG2000")
    colour = box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16))
    profile = box(b"colr", bytes((2, 0, 0)) + ADOBE_RGB)
    header = plain.index(b"jp2h") - 4
    source = bytearray(plain.replace(colour, profile))
    struct.pack_into(">I", source, header, struct.unpack_from(">I", source, header)[0] + len(profile) - len(colour))
    made, expected = picture(bytes(source)), picture(save(image, "PNG", icc_profile=ADOBE_RGB))
    assert np.abs(np.asarray(made, float) - np.asarray(expected, float)).mean() < 4
    assert np.abs(np.asarray(made, float) - np.asarray(image, float)).mean() > 4

"""Cameras' raw files: the full-size preview is the picture, or they are refused with the reason."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from pictures import corners, jpeg
from PIL import Image
from rendered import LIMITS, foreign_parts, picture, rendered
from webserver import embedded, serving

from image_repo import render
from image_repo.errors import UnsupportedPicture

SIZE = (256, 192)


def dng(preview: bytes | None, *, orientation: int = 1, size: tuple[int, int] = SIZE) -> bytes:
    """A DNG 1.4 of 16-bit samples without compression, and a preview in its first directory."""
    body = bytearray(b"II*\0\0\0\0\0")

    def placed(data: bytes) -> int:
        at = len(body)
        body.extend(data + bytes(-len(data) % 2))
        return at

    def directory(tags: dict[int, tuple[int, bytes]]) -> int:
        entries = b""
        for tag, (kind, data) in sorted(tags.items()):
            count = len(data) // {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}[kind]
            value = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<L", placed(data))
            entries += struct.pack("<HHL", tag, kind, count) + value
        return placed(struct.pack("<H", len(tags)) + entries + bytes(4))

    width, height = size
    samples = (np.arange(width * height, dtype="<u2") % 4096).tobytes()
    raw = directory({
        254: (4, struct.pack("<L", 0)), 256: (4, struct.pack("<L", width)), 257: (4, struct.pack("<L", height)),
        258: (3, struct.pack("<H", 16)), 259: (3, struct.pack("<H", 1)), 262: (3, struct.pack("<H", 32803)),
        273: (4, struct.pack("<L", placed(samples))), 277: (3, struct.pack("<H", 1)),
        278: (4, struct.pack("<L", height)), 279: (4, struct.pack("<L", len(samples))),
        33421: (3, struct.pack("<HH", 2, 2)), 33422: (1, bytes((0, 1, 1, 2))),
    })  # fmt: skip
    matrix = struct.pack("<18l", *(value for n in range(9) for value in (int(n % 4 == 0), 1)))
    first = {
        271: (2, b"Maker\0"), 272: (2, b"Model\0"), 274: (3, struct.pack("<H", orientation)),
        330: (4, struct.pack("<L", raw)), 50706: (1, bytes((1, 4, 0, 0))), 50708: (2, b"Maker Model\0"),
        50721: (10, matrix), 50778: (3, struct.pack("<H", 21)),
    }  # fmt: skip
    if preview:
        with Image.open(io.BytesIO(preview)) as image:
            across, down = image.size
        first |= {
            254: (4, struct.pack("<L", 1)), 256: (4, struct.pack("<L", across)), 257: (4, struct.pack("<L", down)),
            258: (3, struct.pack("<HHH", 8, 8, 8)), 259: (3, struct.pack("<H", 7)), 262: (3, struct.pack("<H", 6)),
            273: (4, struct.pack("<L", placed(preview))), 277: (3, struct.pack("<H", 3)),
            278: (4, struct.pack("<L", down)), 279: (4, struct.pack("<L", len(preview))),
        }  # fmt: skip
    body[4:8] = struct.pack("<L", directory(first))
    return bytes(body)


FULL = dng(jpeg(corners(*SIZE), camera=True, gps=True, quality=95))


def test_the_full_size_preview_is_the_picture():
    made = picture(FULL)
    assert made.size == SIZE
    assert np.abs(np.subtract(made.getpixel((20, 20)), (255, 0, 0))).max() < 20
    info = render.inspect(io.BytesIO(FULL), LIMITS, location=False)
    assert (info.kind, info.width, info.height, info.is_preview) == ("raw", *SIZE, True)
    assert info.exif["camera_make"] == "Maker"
    assert not render.verify(io.BytesIO(FULL), LIMITS).is_damaged
    assert foreign_parts(rendered(FULL, kind="jpg").body) == []


def test_a_preview_is_upright_as_the_raw_file_says():
    stored = dng(jpeg(corners(*SIZE), quality=95), orientation=6)
    assert picture(stored).size == SIZE[::-1]


@pytest.mark.parametrize(
    "source",
    [dng(None), dng(jpeg(corners(64, 48)))],
    ids=["no preview", "a small preview"],
)
def test_without_a_preview_of_full_size_it_is_refused_with_that_reason(source):
    with pytest.raises(UnsupportedPicture, match="raw file that holds no preview of full size"):
        picture(source)


def test_without_the_extra_it_is_refused_and_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rawpy", None)
    with pytest.raises(UnsupportedPicture, match=r"pip install image_repo\[raw\]"):
        render.inspect(io.BytesIO(FULL), LIMITS, location=False)


def test_the_record_says_that_it_is_a_preview(tmp_path):
    with serving(embedded(tmp_path, serve_originals=True), tmp_path) as served:
        record = served.client.put("/images/a", FULL).json()
        assert (record["preview"], record["media_type"], record["width"]) == (True, "image/x-raw", SIZE[0])
        assert served.client.get("/images/a?kind=original").body == FULL
        assert served.client.get("/images/a?xsize=64").image().size == (64, 48)

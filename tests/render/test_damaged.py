"""Files that are cut off, or lack no more than their end, and what the log says of them."""

from __future__ import annotations

import io
import logging
import struct

import numpy as np
import pytest
from pictures import animation, jpeg, photo, png, save, tiff_pages
from PIL import Image
from rendered import LIMITS, picture, pixels
from webserver import embedded, serving

from image_repo import render
from image_repo.config import RenderConfiguration
from image_repo.errors import BrokenPicture

TOLERANT = RenderConfiguration(accept_damaged=True)
IMAGE = photo(160, 120)
WHOLE = {
    "JPEG": jpeg(IMAGE),
    "progressive JPEG": jpeg(IMAGE, progressive=True),
    "large JPEG": jpeg(photo(2000, 1500)),
    "PNG": png(IMAGE),
    "GIF": save(IMAGE.quantize(64), "GIF", interlace=0),
    "BMP": save(IMAGE, "BMP"),
    "TIFF": save(IMAGE, "TIFF"),
    "JPEG 2000": save(IMAGE, "JPEG2000"),
}


@pytest.mark.parametrize("part", [0.4, 0.7, 0.95])
@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_cut_off_is_refused_unless_damage_is_accepted(name, part):
    source = WHOLE[name][: int(len(WHOLE[name]) * part)]
    with pytest.raises(BrokenPicture):
        render.verify(io.BytesIO(source), LIMITS)
    with pytest.raises(BrokenPicture):
        picture(source)


@pytest.mark.parametrize("name", [name for name in WHOLE if "progressive" not in name])
def test_what_there_is_of_a_damaged_picture_is_rendered(name):
    whole, source = WHOLE[name], WHOLE[name][: int(len(WHOLE[name]) * 0.7)]
    assert render.verify(io.BytesIO(source), TOLERANT).is_damaged
    assert not render.verify(io.BytesIO(whole), TOLERANT).is_damaged
    made, expected = picture(source, TOLERANT).convert("RGB"), picture(whole).convert("RGB")
    assert made.size == expected.size
    if name != "JPEG 2000":  # its packets hold no rows
        top = slice(0, made.height // 4) if name != "BMP" else slice(made.height * 3 // 4, None)
        assert np.abs(pixels(made)[top] - pixels(expected)[top]).mean() < 6


def test_a_progressive_jpeg_without_its_last_scans_is_damaged():
    source = WHOLE["progressive JPEG"]
    last_scan = source.rindex(b"\xff\xda")
    with pytest.raises(BrokenPicture):
        render.verify(io.BytesIO(source[:last_scan]), LIMITS)
    assert render.verify(io.BytesIO(source[:last_scan]), TOLERANT).is_damaged
    assert picture(source[:last_scan], TOLERANT).size == IMAGE.size


@pytest.mark.parametrize("ending", [b"", b"\xff", bytes(40)], ids=["nothing", "half a marker", "zeros"])
@pytest.mark.parametrize("quality", [30, 85, 100])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_jpeg_that_lacks_only_its_end_is_whole(progressive, quality, ending):
    whole = jpeg(IMAGE, quality=quality, progressive=progressive)
    assert whole.endswith(b"\xff\xd9")
    assert picture(whole[:-2] + ending).tobytes() == picture(whole).tobytes()
    assert not render.verify(io.BytesIO(whole[:-2] + ending), TOLERANT).is_damaged


@pytest.mark.parametrize("missing", [3, 10, 100, 1000])
@pytest.mark.parametrize("name", ["JPEG", "progressive JPEG", "large JPEG"])
def test_a_jpeg_that_lacks_a_little_more_is_damaged(name, missing):
    with pytest.raises(BrokenPicture):
        render.verify(io.BytesIO(WHOLE[name][: -2 - missing]), LIMITS)


def test_frames_that_are_there_are_shown_of_an_animation_that_is_cut_off():
    source = animation("GIF", 4)
    cut = source[: int(len(source) * 0.8)]
    assert render.verify(io.BytesIO(cut), TOLERANT).is_damaged
    made = picture(cut, TOLERANT, kind="webp", animate=True)
    assert 1 <= made.n_frames < 4


def test_a_later_page_that_is_damaged_is_a_problem_of_that_page():
    source = bytearray(tiff_pages(2))
    compression = struct.pack("<HHL", 259, 3, 1)
    second = source.rindex(compression) + len(compression)
    source[second : second + 2] = struct.pack("<H", 5)  # LZW, which it is not
    assert not render.verify(io.BytesIO(source), LIMITS).is_damaged
    assert picture(bytes(source)).size == (64, 48)
    with pytest.raises(BrokenPicture):
        picture(bytes(source), page=2)


def test_the_words_of_the_decoder_are_in_the_log_and_not_in_the_answer(caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(BrokenPicture) as caught:
        picture(WHOLE["PNG"][:2000])
    assert "image file is truncated" in caplog.text
    assert "truncated" not in caught.value.detail


def test_the_record_of_a_damaged_picture_says_so(tmp_path):
    whole, cut = WHOLE["JPEG"], WHOLE["JPEG"][:3000]
    config = embedded(tmp_path, render=TOLERANT)
    with serving(config, tmp_path) as served:
        put, get = served.client.put, served.client.get
        assert put("/images/a", cut).json()["damaged"] is True
        assert get("/images/a?meta=True").json()["damaged"] is True
        assert get("/images/a?kind=png").image().size == IMAGE.size
        assert "damaged" not in put("/images/b", whole).json()
    (tmp_path / "strict").mkdir()
    with serving(embedded(tmp_path / "strict"), tmp_path / "strict") as served:
        refused = served.client.put("/images/a", cut)
        assert (refused.status, refused.slug) == (422, "broken-picture")


def test_an_original_that_is_damaged_is_kept_as_it_came(tmp_path):
    cut = WHOLE["PNG"][:20_000]
    config = embedded(tmp_path, render=TOLERANT, serve_originals=True)
    with serving(config, tmp_path) as served:
        served.client.put("/images/a", cut)
        assert served.client.get("/images/a?kind=original").body == cut
        assert Image.open(io.BytesIO(served.client.get("/images/a?xsize=50").body)).size == (50, 38)

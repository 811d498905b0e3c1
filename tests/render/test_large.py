"""Pictures that do not fit into memory whole: decoded smaller or part by part, at no more than a bound."""

from __future__ import annotations

import io

import numpy as np
import picture_writers as writers
import pytest
from picture_writers import TiffKind
from pictures import corners, jpeg, photo, save
from PIL import Image
from rendered import picture, rendered, ssim
from webserver import embedded, serving

from image_repo import render
from image_repo.config import RenderConfiguration
from image_repo.errors import OverBudget
from image_repo.model.operations import Region

#: 320x240 pixels are too many to be decoded whole, and few enough to be decoded at a half
SMALL_MEMORY = RenderConfiguration(max_pixels=20_000, max_scaled_pixels=80_000)
IMAGE = photo(320, 240)


def tiled(image: Image.Image = IMAGE, **kind: object) -> bytes:
    return writers.tiff(
        np.asarray(image).astype(np.int64).reshape(image.height, image.width, -1), TiffKind(tile=32, **kind)
    )


LARGE = {
    "a JPEG": jpeg(IMAGE, quality=95),
    "a grey JPEG": jpeg(IMAGE.convert("L"), quality=95),
    "a TIFF in tiles": tiled(),
    "a TIFF in tiles, by planes": tiled(is_planar=True),
    "a TIFF in tiles, packed": tiled(compression=8, order=">"),
}


@pytest.mark.parametrize("name", LARGE)
def test_without_a_size_the_largest_comes_and_is_marked(name):
    made = rendered(LARGE[name], SMALL_MEMORY, kind="png")
    assert (made.width, made.height, made.is_largest) == (160, 120, True)
    image = Image.open(io.BytesIO(made.body))
    assert ssim(image.convert("RGB"), IMAGE.convert(image.mode).convert("RGB").reduce(2)) > 0.95
    assert not rendered(LARGE[name], SMALL_MEMORY, kind="png", width=100).is_largest
    assert not rendered(LARGE[name], kind="png").is_largest


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("width", [20, 90, 160])
def test_smaller_sizes_are_as_good_as_ever(name, width):
    small, whole = picture(LARGE[name], SMALL_MEMORY, width=width), picture(LARGE[name], width=width)
    assert small.size == whole.size
    assert ssim(small.convert("RGB"), whole.convert("RGB")) > 0.95


@pytest.mark.parametrize("name", LARGE)
def test_a_larger_size_is_refused_and_the_largest_is_named(name):
    with pytest.raises(OverBudget, match="160x120"):
        rendered(LARGE[name], SMALL_MEMORY, width=161)
    with pytest.raises(OverBudget, match="120x160"):
        rendered(LARGE[name], SMALL_MEMORY, height=161, rotate=90)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_large_picture_is_upright(orientation):
    made = picture(jpeg(corners(320, 240), orientation=orientation), SMALL_MEMORY)
    assert made.size == (160, 120)
    assert np.abs(np.subtract(made.getpixel((10, 10)), (255, 0, 0))).max() < 30


def test_a_region_of_a_large_jpeg_comes_at_half_its_size():
    region = Region("px", 100, 50, 120, 80)
    made = rendered(LARGE["a JPEG"], SMALL_MEMORY, kind="png", region=region)
    assert (made.width, made.height, made.is_largest) == (60, 40, True)
    expected = IMAGE.crop((100, 50, 220, 130)).reduce(2)
    assert ssim(Image.open(io.BytesIO(made.body)), expected) > 0.9
    assert render.pixels(io.BytesIO(LARGE["a JPEG"]), 1, SMALL_MEMORY) is None


@pytest.mark.parametrize("name", LARGE)
def test_a_large_upload_is_verified_and_described_in_full(name):
    source = io.BytesIO(LARGE[name])
    info = render.inspect(source, SMALL_MEMORY, location=False)
    assert (info.width, info.height) == (320, 240)
    assert not render.verify(source, SMALL_MEMORY).is_damaged


TOO_LARGE = {
    "a PNG": save(IMAGE, "PNG"),
    "a progressive JPEG": jpeg(IMAGE, progressive=True),
    "a TIFF in strips": save(IMAGE, "TIFF"),
    "a WebP": save(IMAGE, "WEBP"),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_has_to_be_in_memory_whole_is_refused_and_the_setting_is_named(name):
    with pytest.raises(OverBudget, match=r"320x240 pixels; at most 20000 .* render\.max_pixels"):
        rendered(TOO_LARGE[name], SMALL_MEMORY)


def test_a_progressive_jpeg_is_decoded_smaller_where_its_coefficients_leave_no_room():
    # 320x240 pixels take 307,200 bytes, and coefficients of 4:2:0 230,400
    source = jpeg(IMAGE, progressive=True, subsampling="4:2:0")
    assert rendered(source, RenderConfiguration(max_pixels=134_400), kind="png").width == 320
    half = rendered(source, RenderConfiguration(max_pixels=134_399), kind="png")
    assert (half.width, half.is_largest) == (160, True)
    with pytest.raises(OverBudget, match="progressive JPEG has 320x240 pixels"):
        rendered(jpeg(IMAGE, progressive=True, subsampling="4:4:4"), RenderConfiguration(max_pixels=115_000), width=20)


@pytest.mark.parametrize("name", LARGE)
def test_beyond_the_second_bound_everything_is_refused(name):
    with pytest.raises(OverBudget, match=r"at most 70000 .* render\.max_scaled_pixels"):
        rendered(LARGE[name], RenderConfiguration(max_pixels=20_000, max_scaled_pixels=70_000), width=10)


def test_the_answer_says_that_there_is_no_larger_one(tmp_path):
    config = embedded(tmp_path, render=SMALL_MEMORY)
    with serving(config, tmp_path) as served:
        assert served.client.put("/images/a", LARGE["a JPEG"]).json()["width"] == 320
        for layer in ("rendered", "memory"):
            answer = served.client.get("/images/a")
            assert (answer.headers["X-Image-Largest"], answer.image().size, answer.layer) == (
                "160x120",
                (160, 120),
                layer,
            )
        assert "X-Image-Largest" not in served.client.get("/images/a?xsize=100").headers
        refused = served.client.get("/images/a?xsize=300")
        assert (refused.status, refused.slug) == (422, "over-budget")
        assert "160x120" in refused.json()["detail"]
    with serving(config, tmp_path) as served:
        answer = served.client.get("/images/a")
        assert (answer.headers["X-Image-Largest"], answer.layer) == ("160x120", "disk")

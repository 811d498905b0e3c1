"""The difference hash, against its definition on pictures whose points are known."""

from __future__ import annotations

import io

import pictures
import pytest
from PIL import Image, ImageEnhance

from image_repo import render
from image_repo.config import RenderConfiguration
from image_repo.render.difference_hash import difference_hash
from image_repo.render.pipeline import reduced


def uploaded(body: bytes) -> int:
    """The hash of a picture as the record of an upload has it."""
    return int(render.verify(io.BytesIO(body), RenderConfiguration()).summary.dhash, 16)


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def points(rows: list[list[int]]) -> Image.Image:
    """A picture of 9 by 8 grey points, each of 16 by 16 pixels."""
    small = Image.new("L", (9, 8))
    small.putdata([value for row in rows for value in row])
    return small.resize((144, 128), Image.Resampling.NEAREST)


@pytest.mark.parametrize(
    ("rows", "bits"),
    [
        ([[128] * 9] * 8, 0),
        ([list(range(0, 180, 20))] * 8, 0xFFFFFFFFFFFFFFFF),
        ([list(range(180, 0, -20))] * 8, 0),
        ([list(range(0, 180, 20))] + [[128] * 9] * 7, 0xFF00000000000000),
        ([[0, 90, 0, 90, 0, 90, 0, 90, 0]] * 8, 0xAAAAAAAAAAAAAAAA),
    ],
)
def test_a_bit_says_that_a_point_is_darker_than_its_right_neighbour(rows: list[list[int]], bits: int) -> None:
    assert int(difference_hash(points(rows)), 16) == bits


PHOTO = pictures.photo(1200, 800)


@pytest.mark.parametrize(
    "body",
    [
        pictures.jpeg(PHOTO.resize((300, 200)), quality=60),
        pictures.save(PHOTO.resize((600, 400)), "png"),
        pictures.save(PHOTO, "webp", quality=50),
        pictures.jpeg(ImageEnhance.Brightness(PHOTO).enhance(0.8)),
        pictures.jpeg(PHOTO, orientation=6),
        pictures.save(PHOTO.convert("RGBA"), "png"),
    ],
    ids=["smaller", "another format", "worse quality", "darker", "turned by EXIF", "with an alpha band"],
)
def test_copies_of_a_picture_are_near(body: bytes) -> None:
    assert distance(uploaded(body), uploaded(pictures.jpeg(PHOTO))) <= 6


@pytest.mark.parametrize("seed", range(1, 6))
def test_other_pictures_are_far(seed: int) -> None:
    assert distance(uploaded(pictures.jpeg(pictures.photo(1200, 800, seed))), uploaded(pictures.jpeg(PHOTO))) > 11


def test_a_large_picture_has_the_hash_of_its_mezzanine() -> None:
    large = pictures.photo(3000, 2000)
    assert distance(uploaded(pictures.jpeg(large)), uploaded(pictures.jpeg(large.resize((600, 400))))) <= 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "I;16", "RGBA"])
def test_pictures_of_all_modes_have_a_hash(mode: str) -> None:
    image = PHOTO.resize((90, 60)).convert("L" if mode == "I;16" else mode)
    body = io.BytesIO()
    (image.convert("I;16") if mode == "I;16" else image).save(body, "TIFF")
    assert 0 <= uploaded(body.getvalue()) < 1 << 64


def test_what_cannot_be_seen_does_not_count() -> None:
    hidden = PHOTO.resize((90, 60)).convert("RGBA")
    hidden.putalpha(0)
    assert difference_hash(hidden) == difference_hash(Image.new("L", (90, 60), 255))


@pytest.mark.parametrize("size", [(20, 200_000), (200_000, 20)])
def test_a_very_long_picture_is_summed_up_from_few_pixels(size: tuple[int, int]) -> None:
    small = reduced(Image.new("L", size))
    assert small.width * small.height <= 20 << 16

"""The watermark of renditions: where it lies, that it is the same in every mode, and what is remembered of it."""

from __future__ import annotations

import gc
import io

import pytest
from PIL import Image, ImageChops

from image_repo.model.watermark import Watermark
from image_repo.render.watermark import stamp


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGBA", (400, 100), (200, 200, 200, 255)).save(file, "PNG")
    return file.getvalue()


MARKS = [
    Watermark.of("© Museum", b"", 0.6, repeat=False),
    Watermark.of("© Museum", b"", 0.6, repeat=True),
    Watermark.of("", _picture(), 0.5, repeat=False),
    Watermark.of("", _picture(), 1.0, repeat=True),
]


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.id)
@pytest.mark.parametrize("size", [(600, 400), (50, 50), (7, 300), (300, 7), (1, 1)])
def test_an_opaque_picture_gets_the_same_mark_with_and_without_an_alpha_band(
    mark: Watermark, size: tuple[int, int]
) -> None:
    for bare, with_alpha in (("RGB", "RGBA"), ("L", "LA")):
        image = Image.effect_noise(size, 50).convert(bare)
        marked = stamp(image, mark)
        assert (marked.mode, marked.size) == (bare, size)
        other = stamp(image.convert(with_alpha), mark)
        assert other.mode == with_alpha
        assert ImageChops.difference(marked, other.convert(bare)).convert("L").getextrema()[1] <= 1
        assert marked.tobytes() != image.tobytes() or size == (1, 1)


def test_a_mark_of_a_picture_takes_a_quarter_of_each_side_at_most() -> None:
    image = Image.new("RGB", (400, 400), (0, 0, 0))
    left, top, right, bottom = stamp(image, Watermark.of("", _picture(), 1.0, repeat=False)).getbbox() or (0, 0, 0, 0)
    assert (right - left, bottom - top) == (100, 25)
    assert left > 200
    assert top > 200
    assert image.getbbox() is None  # what is stamped is another picture


def test_the_id_differs_with_all_that_decides_the_pixels() -> None:
    marks = [*MARKS, Watermark.of("© Museum", b"", 0.7, repeat=False), Watermark.of("Museum", b"", 0.6, repeat=False)]
    assert len({mark.id for mark in marks}) == len(marks)
    assert Watermark.of("© Museum", b"", 0.6, repeat=False) == MARKS[0]


def large_marks() -> int:
    """Return how many pictures with a quarter of a megapixel and more there are."""
    images = [each for each in gc.get_objects() if isinstance(each, Image.Image)]
    return sum(image.width * image.height > 250_000 and image.mode == "RGBA" for image in images)


@pytest.mark.parametrize("side", [1900, 60])
def test_marks_of_many_large_renditions_do_not_stay_in_memory(side: int) -> None:
    body = io.BytesIO()
    Image.new("RGBA", (side, side), (255, 0, 0, 128)).save(body, "png")
    watermark = Watermark.of("", body.getvalue(), 1.0, repeat=False)
    stamp(Image.new("RGB", (40, 30)), watermark)  # the mark in its full size stays
    before = large_marks()
    for width in range(2400, 2410):
        assert stamp(Image.new("RGB", (width, 2400)), watermark).size == (width, 2400)
    assert large_marks() == before

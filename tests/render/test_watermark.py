"""The mark itself: where it lies, and that it is the same in every mode."""

from __future__ import annotations

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

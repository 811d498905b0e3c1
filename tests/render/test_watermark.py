"""The watermark of renditions: what is remembered of it."""

from __future__ import annotations

import gc
import io

import pytest
from PIL import Image

from image_repo.model.watermark import Watermark
from image_repo.render.watermark import stamp


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

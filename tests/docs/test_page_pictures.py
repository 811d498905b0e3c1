"""The documentation shows the page as it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from chromium import needs_browser
from PIL import Image

pytestmark = needs_browser
#: levels of 255 between what is shown and what is there, on average; fonts differ between machines
MAX_DIFFERENCE = 8.0


def _small(picture: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB").resize((64, 36), Image.Resampling.BOX), dtype=float)


@pytest.mark.parametrize("file", ["page.jpg", "page-filter.jpg", "page-picture.jpg", "page-map.jpg"])
def test_a_picture_of_the_page_is_small_and_shows_it_as_it_is(file: str) -> None:
    import page_pictures  # noqa: PLC0415 - it needs the browser

    picture = (page_pictures.FOLDER / file).read_bytes()
    assert len(picture) <= page_pictures.MAX_BYTES
    difference = np.abs(_small(picture) - _small(page_pictures.take(file))).mean()
    assert difference <= MAX_DIFFERENCE, "make pictures takes them again"

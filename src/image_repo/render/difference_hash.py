"""The difference hash of a picture: 64 bits; few change with its size, format or brightness.

Each bit says whether one of 9 by 8 grey points is darker than the one on its right (N. Krawetz, "Kind of Like
That"). A point is the mean of its part of the picture.
"""

from __future__ import annotations

from itertools import pairwise

from PIL import Image

#: points across and down
_POINTS = (9, 8)


def difference_hash(image: Image.Image) -> str:
    """Return the hash as 16 hexadecimal digits, the first row first.

    :param image: LAB, or what Pillow makes grey, upright; transparent parts count as white
    """
    if image.mode in ("LA", "RGBA"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    grey = image.getchannel(0) if image.mode == "LAB" else image.convert("L")  # Pillow does not convert it
    small = grey.resize(_POINTS, Image.Resampling.BOX)
    rows = (small.tobytes()[start : start + _POINTS[0]] for start in range(0, _POINTS[0] * _POINTS[1], _POINTS[0]))
    bits = 0
    for row in rows:
        for left, right in pairwise(row):
            bits = bits << 1 | (left < right)
    return f"{bits:016x}"

"""Deep Zoom images (DZI) for older viewers: ``NAME.dzi`` and ``NAME_files/LEVEL/COLUMN_ROW.jpg``.

The format is that of https://learn.microsoft.com/previous-versions/windows/silverlight/dotnet-windows-silverlight/cc645077(v=vs.95);
with tiles of the size of IIIF's and no overlap both are the same renditions.
"""

from __future__ import annotations

import re

from image_repo.errors import BadRequest, ImageNotFound
from image_repo.iiif.image_api import TILE_PX, ImageRequest, Size

_TILE = re.compile(r"(.+)_files/([0-9]{1,2})/([0-9]{1,5})_([0-9]{1,5})\.jpg", re.DOTALL)
MEDIA_TYPE = "application/xml"


def descriptor(size: Size) -> bytes:
    """Return the XML document of a picture.

    :param size: width and height of the upright original in pixels
    """
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpg" Overlap="0" TileSize="{TILE_PX}">'
        f'<Size Width="{size[0]}" Height="{size[1]}"/></Image>\n'
    ).encode()


def read_tile(path: str) -> tuple[str, tuple[int, int, int]]:
    """Return the name of a picture, and level, column and row of one of its tiles.

    :raises BadRequest: for another path
    """
    match = _TILE.fullmatch(path)
    if match is None:
        raise BadRequest("Expected NAME.dzi or NAME_files/LEVEL/COLUMN_ROW.jpg.")
    return match[1], (int(match[2]), int(match[3]), int(match[4]))


def tile(source: Size, at: tuple[int, int, int]) -> ImageRequest:
    """Return what a tile shows.

    :param at: level, column and row; the highest level has the full size, level 0 one pixel
    :raises ImageNotFound: when there is no such tile
    """
    level, column, row = at
    highest = (max(source) - 1).bit_length()
    scale = 1 << max(0, highest - level)
    left, top = column * TILE_PX * scale, row * TILE_PX * scale
    if level > highest or left >= source[0] or top >= source[1]:
        raise ImageNotFound("The picture has no such tile.")
    across, down = min(TILE_PX * scale, source[0] - left), min(TILE_PX * scale, source[1] - top)
    size = -(-across // scale), -(-down // scale)
    return ImageRequest(source, (left, top, across, down), size, False, 0, "default", "jpg")

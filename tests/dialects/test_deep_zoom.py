"""Deep Zoom tiles, against those that libvips writes."""

from __future__ import annotations

import re
from pathlib import Path

import pictures
import pytest

from image_repo.dialects.deep_zoom import descriptor, read_tile, tile
from image_repo.errors import BadRequest, ImageNotFound
from image_repo.iiif.image_api import TILE_PX

vips = pytest.importorskip("pyvips")


@pytest.mark.parametrize("size", [(1300, 700), (1, 1), (513, 512), (7, 1025)], ids=str)
def test_there_are_the_levels_and_tiles_that_libvips_writes(tmp_path: Path, size: tuple[int, int]) -> None:
    image = vips.Image.black(*size)
    image.dzsave(str(tmp_path / "a"), tile_size=TILE_PX, overlap=0, suffix=".png")
    (written,) = re.findall(r'Height="(\d+)"\s+Width="(\d+)"', (tmp_path / "a.dzi").read_text())
    assert f'<Size Width="{written[1]}" Height="{written[0]}"/>'.encode() in descriptor(size)
    for path in (tmp_path / "a_files").rglob("*.png"):
        relative = f"a_files/{path.parent.name}/{path.stem}.jpg"
        name, at = read_tile(relative)
        made = vips.Image.new_from_file(str(path))
        assert (name, tile(size, at).size) == ("a", (made.width, made.height)), relative


@pytest.mark.parametrize("at", [(12, 0, 0), (11, 3, 0), (11, 0, 2), (0, 1, 0)])
def test_a_tile_outside_of_the_picture_is_not_there(at: tuple[int, int, int]) -> None:
    with pytest.raises(ImageNotFound):
        tile((1300, 700), at)


@pytest.mark.parametrize("path", ["a", "a_files/1/0_0.png", "a_files/x/0_0.jpg", "a_files/1/0-0.jpg"])
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        read_tile(path)


def test_a_tile_is_that_of_iiif() -> None:
    parameters = dict(tile(pictures.photo(1300, 700).size, (11, 1, 0)).parameters())
    assert parameters == {"kind": "jpg", "crop": "512,0,512,512"}

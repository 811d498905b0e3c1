"""ThumbHashes, judged by the package of their author, and palettes."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from pathlib import Path

import pictures
import pytest
from PIL import Image
from servers.launch import HERE, node

from image_repo.config import RenderConfiguration
from image_repo.model.recipe import Defaults, Recipe, RecipeRequest
from image_repo.render import render, verify
from image_repo.render.colour import ADOBE_RGB
from image_repo.render.summaries import palette, thumbhash


def grey(width: int, height: int) -> Image.Image:
    """No gradient: the frequencies that it lacks are rounded up or down by chance."""
    return pictures.photo(width, height, 3).convert("L")


def glass(width: int, height: int) -> Image.Image:
    """A photograph that is transparent where another one is dark."""
    image = pictures.photo(width, height).convert("RGBA")
    image.putalpha(grey(width, height))
    return image


PICTURES = {
    "a wide photograph": pictures.photo(32, 20),
    "a tall photograph": pictures.photo(11, 32),
    "a square": pictures.photo(30, 30),
    "a panorama": pictures.photo(32, 2),
    "one pixel": pictures.photo(1, 1),
    "grey": grey(32, 24),
    "one colour": Image.new("RGB", (20, 10), (200, 30, 90)),
    "half transparent": glass(32, 24),
    "grey and transparent": glass(24, 32).convert("LA"),
    "nothing but transparent": Image.new("RGBA", (16, 16)),
}


@pytest.mark.servers
@pytest.mark.parametrize("image", PICTURES.values(), ids=PICTURES)
def test_a_thumbhash_is_that_of_its_author(image: Image.Image, tmp_path: Path) -> None:
    pixels = tmp_path / "pixels"
    pixels.write_bytes(image.convert("RGBA").tobytes())
    command = [*node("thumbhash", HERE / "thumbhash.mjs", tmp_path), *map(str, image.size), str(pixels)]
    judged = subprocess.run([*command, thumbhash(image)], capture_output=True, text=True, check=True)
    assert int(judged.stdout) <= 4  # a number on the edge may be rounded either way


def summary(body: bytes, kind: str, **parameters: object) -> dict[str, object]:
    recipe, _ = RecipeRequest(kind=kind, **parameters).settle(Defaults())
    assert Recipe.parse(str(recipe)) == recipe
    made = render(io.BytesIO(body), recipe, RenderConfiguration())
    assert made.media_type == "application/json"
    document: dict[str, object] = json.loads(made.body)
    return document


def test_the_thumbhash_of_a_large_picture_is_that_of_a_small_one_for_any_size_that_is_asked_for() -> None:
    body = pictures.png(PICTURES["a wide photograph"].resize((1600, 1000)))
    whole = summary(body, "thumbhash")
    assert whole == summary(body, "thumbhash", xsize=400) == summary(body, "thumbhash", thumbnail=True)
    assert len(str(whole["thumbhash"])) in (24, 28, 32)


def flag(width: int, height: int) -> Image.Image:
    """Half red, three tenths blue, the rest white."""
    image = Image.new("RGB", (width, height), "#ffffff")
    image.paste("#ff0000", (0, 0, width // 2, height))
    image.paste("#0000ff", (width // 2, 0, width * 8 // 10, height))
    return image


def test_a_palette_holds_the_colours_with_their_shares() -> None:
    assert summary(pictures.png(flag(300, 200)), "palette") == {
        "palette": [
            {"color": "#ff0000", "share": pytest.approx(0.5, abs=0.02)},
            {"color": "#0000ff", "share": pytest.approx(0.3, abs=0.02)},
            {"color": "#ffffff", "share": pytest.approx(0.2, abs=0.02)},
        ]
    }


def test_what_is_transparent_has_no_colour() -> None:
    cutout = Image.new("RGBA", (100, 100), (0, 255, 0, 0))
    cutout.paste((255, 0, 0, 255), (0, 0, 10, 10))
    assert palette(cutout) == [{"color": "#ff0000", "share": 1.0}]
    assert palette(Image.new("RGBA", (5, 5))) == []


@pytest.mark.parametrize("kind", ["thumbhash", "palette"])
def test_operations_come_first(kind: str) -> None:
    body = pictures.jpeg(pictures.corners())
    assert summary(body, kind) != summary(body, kind, gray=True) != summary(body, kind, flip="h")
    assert summary(body, "palette", gray=True)["palette"]
    assert all(
        len(set(bytes.fromhex(colour["color"][1:]))) == 1
        for colour in summary(body, "palette", gray=True)["palette"]  # type: ignore[attr-defined]
    )


UPLOADS = {
    "small PNG": pictures.png(flag(300, 200)),
    "JPEG that has a mezzanine": pictures.jpeg(flag(1800, 1200), quality=95),
    "PNG that has a mezzanine": pictures.png(flag(1800, 1200)),
    "turned by its EXIF": pictures.jpeg(
        pictures.stored(flag(1800, 1200), 6), quality=95, exif=pictures.exif(orientation=6)
    ),
    "inks": pictures.save(flag(300, 200).convert("CMYK"), "tiff"),
    "with a palette of its own": pictures.save(flag(300, 200).quantize(8), "png"),
}


def rgb(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text[1:]))


@pytest.mark.parametrize("body", UPLOADS.values(), ids=UPLOADS)
def test_an_upload_has_the_summaries_that_are_rendered_of_it(body: bytes) -> None:
    made = verify(io.BytesIO(body), RenderConfiguration()).summary
    assert [rgb(colour) for colour in made.palette[:3]] == [  # pixels on an edge have a colour of their own
        pytest.approx(rgb(colour), abs=24) for colour in ("#ff0000", "#0000ff", "#ffffff")
    ]
    rendered = base64.b64decode(str(summary(body, "thumbhash")["thumbhash"]))
    stored = base64.b64decode(made.thumbhash)
    assert len(stored) == len(rendered)
    far = [
        abs((one >> at & 15) - (other >> at & 15)) for one, other in zip(stored, rendered, strict=True) for at in (0, 4)
    ]
    assert sum(far) <= len(far)  # by one step of sixteen, in the mean


def test_the_colours_of_an_upload_are_those_of_srgb() -> None:
    wide = pictures.save(Image.new("RGB", (64, 64), (100, 200, 60)), "png", icc_profile=ADOBE_RGB)
    plain = summary(wide, "palette")["palette"]
    assert [
        {"color": colour, "share": 1.0} for colour in verify(io.BytesIO(wide), RenderConfiguration()).summary.palette
    ] == plain

"""access.anonymous_limits.watermark: on every rendition for callers without credentials, by every way in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pictures
import pytest
from access_site import Site, running_site
from PIL import Image

from image_repo import wiring
from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration, AnonymousLimitsConfiguration, Config, WatermarkConfiguration
from image_repo.errors import ConfigurationError

Shop = tuple[Site, dict[str, str]]
GREY = 90


@pytest.fixture(scope="module", params=["text", "picture"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("marks")
    Image.new("RGBA", (80, 40), (255, 255, 255, 255)).save(folder / "mark.png")
    mark = {"text": "© Museum"} if request.param == "text" else {"picture": str(folder / "mark.png")}
    limits = AnonymousLimitsConfiguration(watermark=WatermarkConfiguration(**mark))
    (folder / "site").mkdir()
    access = AccessConfiguration(anonymous="read", anonymous_limits=limits, secret="a secret of the tests")
    with running_site(folder / "site", access) as site:
        for name in ("s/a", "s/b"):
            site.put(name, pictures.jpeg(Image.new("RGB", (600, 400), (GREY, GREY, GREY))))
        site.put("s/large", pictures.jpeg(Image.new("RGB", (3000, 2000), (GREY, GREY, GREY))))
        site.put("s/clear", pictures.save(Image.new("RGBA", (600, 400), (GREY, GREY, GREY, 128)), "PNG"))
        key = site.repo.authenticator.keys.add(new_key("reader", "reader"))
        yield site, {"Authorization": f"Bearer {key}"}


def _is_marked(image: Image.Image) -> bool:
    """Return whether the lower right quarter has pixels that its surroundings have not."""
    pixels = np.asarray(image.convert("L"), dtype=int)
    height, width = pixels.shape
    assert abs(pixels[: height // 2, : width // 20 + 1] - GREY).max() < 12
    return bool(abs(pixels[height // 2 :, width // 4 :] - GREY).max() > 60)


QUERIES = [
    *("", "w=300", "w=50", "thumbnail=True", "kind=png", "kind=webp", "kind=gif", "gray=True", "crop=0,0,200,200"),
    *("crop=pct:50,50,50,50", "w=200&h=200&fit=contain&bg=5a5a5a", "rotate=90", "flip=hv"),
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("name", ["s/a", "s/large"])
def test_each_rendition_has_it_and_that_of_a_caller_with_credentials_has_not(site: Shop, name: str, query: str) -> None:
    client, caller = site[0].client, site[1]
    for _ in range(2):  # from memory too, whoever was first
        assert _is_marked(client.get(f"/images/{name}?{query}").image())
        assert not _is_marked(client.get(f"/images/{name}?{query}", **caller).image())


def test_the_etags_differ_so_that_304_keeps_to_it(site: Shop) -> None:
    client, caller = site[0].client, site[1]
    for _ in range(2):
        bare, marked = client.get("/images/s/a?w=300", **caller), client.get("/images/s/a?w=300")
        assert bare.headers["ETag"] != marked.headers["ETag"]
        assert client.get("/images/s/a?w=300", If_None_Match=bare.headers["ETag"]).status == 200
        assert client.get("/images/s/a?w=300", If_None_Match=marked.headers["ETag"]).status == 304
    assert (marked.layer, marked.headers["Cache-Control"]) == ("memory", "private, max-age=3600")


def test_zips_exports_links_and_iiif_have_it(site: Shop) -> None:
    client = site[0].client
    for path in ("/images/s/?regex=^[ab]$", "/export?name__in=s/a,s/b"):
        with ZipFile(BytesIO(client.get(path).body)) as archive:
            members = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")]
        assert len(members) >= 2
        assert all(_is_marked(Image.open(BytesIO(body))) for body in members)
    for path in ("full/300,/0/default.jpg", "0,0,300,300/100,/0/default.png"):
        assert _is_marked(client.get(f"/iiif/3/s%2Fa/{path}").image())
    link = client.get("/images/s/a?w=300&url=True")
    if link.status == 200:
        assert _is_marked(client.get("/" + link.json()["url"].split("/", 3)[3]).image())


def test_originals_need_credentials(site: Shop) -> None:
    assert site[0].client.get("/images/s/a?kind=original").status == 403
    assert site[0].client.get("/images/s/a?kind=original", **site[1]).status == 200


def test_what_is_no_picture_has_none(site: Shop) -> None:
    answers = [site[0].client.get("/images/s/a?kind=palette", **headers) for headers in ({}, site[1])]
    assert answers[0].body == answers[1].body


def test_a_transparent_picture_stays_so_beside_it(site: Shop) -> None:
    image = site[0].client.get("/images/s/clear?kind=png").image()
    assert image.mode == "RGBA"
    assert image.getpixel((5, 5))[3] == 128
    assert image.getchannel("A").getextrema()[1] > 128


def test_all_over_it_is_in_each_part(tmp_path: Path) -> None:
    mark = WatermarkConfiguration(text="© Museum", repeat=True)
    access = AccessConfiguration(anonymous="read", anonymous_limits=AnonymousLimitsConfiguration(watermark=mark))
    with running_site(tmp_path, access) as site:
        site.put("a", pictures.jpeg(Image.new("RGB", (600, 400), (GREY, GREY, GREY))))
        pixels = np.asarray(site.client.get("/images/a").image().convert("L"), dtype=int)
        for top in (0, 100, 200, 300):
            for left in (0, 200, 400):
                assert abs(pixels[top : top + 100, left : left + 200] - GREY).max() > 60


def test_how_much_it_hides_is_configured(tmp_path: Path) -> None:
    levels: dict[float, Any] = {}
    for opacity in (0.0, 0.3, 1.0):
        mark = WatermarkConfiguration(text="x", opacity=opacity)
        limits = AnonymousLimitsConfiguration(watermark=mark)
        (tmp_path / str(opacity)).mkdir()
        access = AccessConfiguration(anonymous="read", anonymous_limits=limits)
        with running_site(tmp_path / str(opacity), access) as site:
            site.put("a", pictures.jpeg(Image.new("RGB", (600, 400), (GREY, GREY, GREY))))
            pixels = np.asarray(site.client.get("/images/a?kind=png").image().convert("L"), dtype=int)
            levels[opacity] = abs(pixels - GREY).max()
    assert levels[0.0] < 5 < levels[0.3] < 80 < levels[1.0]


@pytest.mark.parametrize(
    "mark", [{"text": "Musée"}, {"text": "館"}, {"picture": __file__}], ids=["accent", "ideograph", "no picture"]
)
def test_what_cannot_be_drawn_is_a_mistake_in_the_configuration(tmp_path: Path, mark: dict[str, str]) -> None:
    limits = AnonymousLimitsConfiguration(watermark=WatermarkConfiguration(**mark))
    access = AccessConfiguration(anonymous="read", anonymous_limits=limits)
    with pytest.raises(ConfigurationError, match="watermark"):
        wiring.watermark(replace(Config(), access=access))

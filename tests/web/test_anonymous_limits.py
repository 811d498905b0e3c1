"""access.anonymous_limits: what callers without credentials get at most, by every way in."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pictures
import pytest
from access_site import Site, running_site
from PIL import Image

from image_repo.access.api_keys import new_key
from image_repo.config import AccessConfiguration, AccessRule, AnonymousLimitsConfiguration

Shop = tuple[Site, dict[str, str]]


@pytest.fixture(scope="module", params=[False, True], ids=["by role", "by folder"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    access = AccessConfiguration(
        anonymous="read",
        anonymous_limits=AnonymousLimitsConfiguration(max_width=100, kinds=("jpg", "webp")),
        secret="a secret of the tests",
        rules=(AccessRule("closed", "anonymous", "none"),) if request.param else (),
    )
    with running_site(tmp_path_factory.mktemp("limits"), access) as site:
        for name in ("s/a", "s/b"):
            site.put(name, pictures.jpeg(pictures.photo(600, 400, seed=ord(name[-1]))))
        key = site.repo.authenticator.keys.add(new_key("reader", "reader"))
        yield site, {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(
    ("query", "limited", "whole"),
    [
        pytest.param("", (100, 67), (600, 400), id="no box"),
        pytest.param("w=300", (100, 67), (300, 200), id="a width"),
        pytest.param("w=90", (90, 60), (90, 60), id="a width within the limit"),
        pytest.param("h=300", (100, 67), (450, 300), id="a height"),
        pytest.param("h=40", (60, 40), (60, 40), id="a height within the limit"),
        pytest.param("w=400&h=100&fit=cover", (100, 25), (400, 100), id="a box keeps its ratio"),
        pytest.param("w=800&enlarge=True", (100, 67), (800, 533), id="enlarged"),
        pytest.param("w=60&dpr=3", (100, 67), (180, 120), id="for a dense screen"),
        pytest.param("crop=0,0,300,300&kind=webp", (100, 100), (300, 300), id="a region"),
    ],
)
def test_a_caller_without_credentials_gets_at_most_the_width(site: Shop, query: str, limited: Any, whole: Any) -> None:
    client, caller = site[0].client, site[1]
    for _ in range(3):  # from memory too, whoever was first
        sizes = [client.get(f"/images/s/a?{query}", **headers).image().size for headers in (caller, {})]
        assert sizes == [whole, limited]


def test_the_etags_differ_so_that_304_keeps_to_the_limits(site: Shop) -> None:
    client, caller = site[0].client, site[1]
    for _ in range(2):
        whole, limited = client.get("/images/s/a?w=300", **caller), client.get("/images/s/a?w=300")
        assert whole.headers["ETag"] != limited.headers["ETag"]
        assert client.get("/images/s/a?w=300", If_None_Match=whole.headers["ETag"]).status == 200
        assert client.get("/images/s/a?w=300", If_None_Match=limited.headers["ETag"]).status == 304


def test_shared_caches_store_neither(site: Shop) -> None:
    for headers in (site[1], {}):
        answer = site[0].client.get("/images/s/a?w=50", **headers)
        assert answer.headers["Cache-Control"].startswith("private")
        assert answer.headers["Vary"] == "Authorization"


@pytest.mark.parametrize("query", ["kind=png", "kind=original", "kind=png&url=True"])
def test_other_formats_and_originals_need_credentials(site: Shop, query: str) -> None:
    client, caller = site[0].client, site[1]
    assert client.get(f"/images/s/a?{query}", **caller).status in (200, 501)
    for _ in range(2):
        refused = client.get(f"/images/s/a?{query}")
        assert (refused.status, refused.json()["parameter"]) == (403, "kind")


def test_a_content_address_gives_no_original(site: Shop) -> None:
    name = "sha256:" + site[0].client.get("/images/s/a?meta=True").json()["sha256"]
    assert site[0].client.get(f"/images/{name}?kind=original").status == 403
    assert site[0].client.get(f"/images/{name}").image().width == 100


def test_zips_exports_and_links_keep_to_the_limits(site: Shop) -> None:
    client = site[0].client
    for path in ("/images/s/", "/export"):
        with ZipFile(BytesIO(client.get(path).body)) as archive:
            members = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")]
        assert [Image.open(BytesIO(body)).width for body in members] == [100, 100]
    for path in ("/images/s/?kind=original", "/export?kind=original"):
        with ZipFile(BytesIO(client.get(path).body)) as archive:
            assert not [name for name in archive.namelist() if name.endswith(".jpg")]
    link = client.get("/images/s/a?w=300&url=True")
    if link.status == 200:
        assert client.get("/" + link.json()["url"].split("/", 3)[3]).image().width == 100


def test_a_share_link_gives_what_its_maker_gets(site: Shop) -> None:
    url = site[0].client.get("/images/s/a?share=True", **site[1]).json()["url"]
    assert site[0].client.get("/" + url.split("/", 3)[3]).image().width == 600

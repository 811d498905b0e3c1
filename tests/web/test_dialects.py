"""thumbor's, imgproxy's and Deep Zoom's addresses over HTTP."""

from __future__ import annotations

import base64
import hmac
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pictures
import pytest
from access_site import Site, running_site
from PIL import Image

from image_repo.config import AccessConfiguration, DialectsConfiguration, RequestsConfiguration
from image_repo.iiif.image_api import TILE_PX

ALL = DialectsConfiguration(thumbor=True, imgproxy=True, deep_zoom=True, sources=("https://static.example.org/",))
KEY, SALT = "0123456789abcdef" * 2, "fedcba98"
SIGNED = DialectsConfiguration(
    thumbor=True, thumbor_key="a key of thumbor's", imgproxy=True, imgproxy_key=KEY, imgproxy_salt=SALT
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("dialects"), AccessConfiguration(), dialects=ALL) as site:
        fill(site)
        yield site


def fill(site: Site) -> None:
    site.put("a/b", pictures.jpeg(pictures.photo(300, 200)))
    site.put("a/logo", pictures.save(Image.new("RGBA", (40, 30), (255, 0, 0, 128)), "png"))


def imgproxy_url(path: str) -> str:
    digest = hmac.digest(bytes.fromhex(KEY), bytes.fromhex(SALT) + path.encode(), "sha256")
    return f"/imgproxy/{base64.urlsafe_b64encode(digest).decode().rstrip('=')}{path}"


def thumbor_url(text: str) -> str:
    digest = hmac.digest(b"a key of thumbor's", text.encode(), "sha1")
    return f"/thumbor/{base64.urlsafe_b64encode(digest).decode()}/{text}"


@pytest.mark.parametrize(
    ("path", "size", "kind"),
    [
        ("thumbor/unsafe/120x90/a/b.jpg", (120, 90), "JPEG"),
        ("thumbor/unsafe/fit-in/120x120/filters:format(webp)/a/b", (120, 80), "WEBP"),
        ("thumbor/unsafe/120x0/https%3A%2F%2Fstatic.example.org%2Fa%2Fb.jpg", (120, 80), "JPEG"),
        ("thumbor/unsafe/300x300/filters:rotate(90)/a/b", (300, 300), "JPEG"),
        ("thumbor/unsafe/20x0/a/logo.png", (20, 15), "PNG"),
        ("imgproxy/unsafe/rs:fill:120:90/plain/a/b.jpg", (120, 90), "JPEG"),
        ("imgproxy/_/rs:fit:120:120/plain/https://static.example.org/a/b.jpg@webp", (120, 80), "WEBP"),
        ("imgproxy/_/w:20/plain/local:///a/logo.png", (20, 15), "PNG"),
        ("imgproxy/_/w:20/" + base64.urlsafe_b64encode(b"local:///a/logo").decode().rstrip("="), (20, 15), "PNG"),
        ("imgproxy/_/rot:90/rs:fill:50:90/plain/a/b", (50, 90), "JPEG"),
        ("imgproxy/_/rs:fit:120:120:0:1/plain/a/b", (120, 120), "JPEG"),
        ("dzi/a/b_files/9/0_0.jpg", (300, 200), "JPEG"),
        ("dzi/a/b_files/8/0_0.jpg", (150, 100), "JPEG"),
        ("dzi/a/b_files/0/0_0.jpg", (1, 1), "JPEG"),
    ],
)
def test_a_picture_is_as_requested(site: Site, path: str, size: tuple[int, int], kind: str) -> None:
    answer = site.client.get(f"/{path}")
    assert answer.status == 200, answer.body
    with Image.open(io.BytesIO(answer.body)) as image:
        assert (image.size, image.format) == (size, kind)


@pytest.mark.parametrize(
    ("plain", "paths"),
    [
        ("/images/a/b?xsize=120", ["thumbor/unsafe/120x0/a/b", "imgproxy/_/w:120/plain/a/b"]),
        ("/images/a/b?w=90&h=90", ["thumbor/unsafe/fit-in/90x90/a/b", "imgproxy/_/rs:fit:90:90/plain/a/b"]),
        ("/images/a/b?w=70&h=70&fit=cover", ["thumbor/unsafe/70x70/a/b", "imgproxy/_/rs:fill:70:70/plain/a/b"]),
        ("/iiif/3/a%2Fb/full/150,/0/default.jpg", ["dzi/a/b_files/8/0_0.jpg"]),
    ],
)
def test_the_same_pixels_are_one_rendition_under_each_address(site: Site, plain: str, paths: list[str]) -> None:
    first = site.client.get(plain)
    for path in paths:
        again = site.client.get(f"/{path}")
        assert (again.body, again.headers["ETag"]) == (first.body, first.headers["ETag"])
        assert again.headers["Cache-Status"] == "image_repo; hit; detail=memory"
        unchanged = site.client.get(f"/{path}", **{"If-None-Match": first.headers["ETag"]})
        assert unchanged.status == 304


def test_the_descriptor_of_a_deep_zoom_image_tells_its_size(site: Site) -> None:
    answer = site.client.get("/dzi/a/b.dzi")
    assert answer.headers["Content-Type"] == "application/xml"
    assert f'Overlap="0" TileSize="{TILE_PX}"><Size Width="300" Height="200"/>'.encode() in answer.body
    assert site.client.get("/dzi/a/b.dzi", **{"If-None-Match": answer.headers["ETag"]}).status == 304


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("thumbor/unsafe/120x90/none", 404),
        ("thumbor/unsafe/120x90/https://elsewhere.example/a", 400),
        ("thumbor/unsafe/filters:noise(3)/a/b", 400),
        ("thumbor/unsafe/20000x0/a/b", 400),
        ("thumbor/unsafe/filters:quality(101)/a/b", 400),
        ("thumbor/xlG-5lN6sTA9Xa8sk_KSNfgziAc=/120x90/a/b", 401),
        ("thumbor/unsafe/120x90/a/%2E%2E/b", 400),
        ("imgproxy/_/w:120/plain/none", 404),
        ("imgproxy/_/wm:1/plain/a/b", 400),
        ("imgproxy/_/exp:1/plain/a/b", 410),
        ("imgproxy/_/raw:1/plain/a/b", 200),
        ("imgproxy/_", 400),
        ("imgproxy/", 400),
        ("thumbor/", 401),
        ("dzi/none.dzi", 404),
        ("dzi/a/b_files/10/0_0.jpg", 404),
        ("dzi/a/b", 400),
    ],
)
def test_what_is_wrong_has_its_status(site: Site, path: str, status: int) -> None:
    assert site.client.get(f"/{path}").status == status


def test_a_response_that_ends_is_not_repeated_by_the_fast_path(site: Site) -> None:
    end = int(time.time()) + 600
    path = f"/imgproxy/_/exp:{end}/w:33/plain/a/b"
    assert site.client.get(path).status == 200
    count = len(site.passed)
    assert site.client.get(path).status == 200
    assert len(site.passed) == count + 1


def test_dialects_are_off_unless_configured(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        fill(site)
        for path in ("thumbor/unsafe/a/b", "imgproxy/_/plain/a/b", "dzi/a/b.dzi"):
            assert site.client.get(f"/{path}").status == 404


def test_with_a_key_signed_urls_alone_are_served(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(), dialects=SIGNED) as site:
        fill(site)
        for path in (
            thumbor_url("120x90/a/b"),
            thumbor_url("120x90/a/b").replace("=/", "%3D/").replace("a/b", "a%2Fb"),
            imgproxy_url("/rs:fill:120:90/plain/a/b"),
        ):
            assert site.client.get(path).status == 200
            assert site.client.get(path.replace("120", "121")).status == 401
        for path in ("/thumbor/unsafe/120x90/a/b", "/imgproxy/_/w:120/plain/a/b", "/imgproxy/unsafe/plain/a/b"):
            assert site.client.get(path).status == 401


@pytest.mark.parametrize(
    ("requests", "statuses"),
    [
        (RequestsConfiguration(mode="steps", steps=(50, 100)), {"thumbor": 200, "imgproxy": 200, "dzi": 200}),
        (RequestsConfiguration(mode="presets"), {"thumbor": 400, "imgproxy": 400, "dzi": 200}),
        (RequestsConfiguration(mode="signed", key="k" * 16), {"thumbor": 401, "imgproxy": 401, "dzi": 401}),
    ],
    ids=lambda value: value.mode if isinstance(value, RequestsConfiguration) else "",
)
def test_the_mode_of_requests_holds(tmp_path: Path, requests: RequestsConfiguration, statuses: dict[str, int]) -> None:
    changes: dict[str, Any] = {"dialects": ALL, "requests": requests, "presets": {"small": {"xsize": "60"}}}
    with running_site(tmp_path, AccessConfiguration(), **changes) as site:
        fill(site)
        paths = {
            "thumbor": "/thumbor/unsafe/60x0/a/b", "imgproxy": "/imgproxy/_/w:60/plain/a/b",
            "dzi": "/dzi/a/b_files/8/0_0.jpg",
        }  # fmt: skip
        assert {name: site.client.get(path).status for name, path in paths.items()} == statuses
        if requests.mode == "steps":
            assert site.client.get(paths["thumbor"]).image().width == 100
            assert site.client.get(paths["dzi"]).image().width == 150
        if requests.mode == "presets":
            assert site.client.get("/imgproxy/_/pr:small/plain/a/b").image().width == 60


def test_a_signature_of_a_dialect_counts_where_requests_are_to_be_signed(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"dialects": SIGNED, "requests": RequestsConfiguration(mode="signed", key="k" * 16)}
    with running_site(tmp_path, AccessConfiguration(), **changes) as site:
        fill(site)
        assert site.client.get(thumbor_url("60x0/a/b")).status == 200
        assert site.client.get(imgproxy_url("/w:60/plain/a/b")).status == 200
        assert site.client.get("/images/a/b?xsize=60").status == 401


def test_who_may_not_read_gets_no_picture_by_another_address(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(anonymous="none"), dialects=SIGNED) as site:
        fill(site)
        assert site.client.get(thumbor_url("60x0/a/b")).status == 401
        assert site.client.get(imgproxy_url("/w:60/plain/a/b")).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "thumbor/unsafe/30x0/x.tif.jpg",
        "imgproxy/_/w:30/plain/x.tif.jpg",
        "iiif/3/x.tif.jpg/full/30,/0/default.jpg",
        "iiif/3/x.tif.jpg/0,0,60,60/30,/0/default.jpg",
        "dzi/x.tif.jpg_files/6/0_0.jpg",
    ],
)
def test_a_name_that_ends_as_pictures_do_is_that_image_and_no_other(tmp_path: Path, path: str) -> None:
    with running_site(tmp_path, AccessConfiguration(), dialects=ALL) as site:
        site.put("x", pictures.jpeg(pictures.photo(300, 200)))
        site.put("x.tif", pictures.jpeg(pictures.photo(60, 60)))
        size = site.client.get(f"/{path}").image().size
        assert size[0] == size[1]
        service = site.client.get("/iiif/3/x.tif.jpg/info.json").json()["id"]
        assert site.client.get(f"{service.partition(str(site.client.port))[2]}/info.json").json()["width"] == 60


def test_what_ends_is_kept_by_no_cache_beyond_its_end(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(), dialects=ALL, surrogate_header="xkey") as site:
        fill(site)
        now = int(time.time())
        for seconds, most in ((600, 600), (100_000, 3600), (1, 0)):
            headers = site.client.get(f"/imgproxy/_/exp:{now + seconds}/w:33/plain/a/b").headers
            ages = [int(age) for age in re.findall(r"max-age=(\d+)", headers["Cache-Control"])]
            assert "xkey" not in headers
            assert all(age <= most for age in ages)
            # The last may have ended by now.
            assert ages or re.search("no-cache|no-store", headers["Cache-Control"])
        assert "xkey" in site.client.get("/imgproxy/_/w:33/plain/a/b").headers

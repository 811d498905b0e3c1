"""``srcset=`` and ``/oembed``: URLs whose sizes are told."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.etree import ElementTree

import pictures
import pytest
from access_site import Site, running_site

from image_repo.access.request_rules import RequestSigner
from image_repo.config import AccessConfiguration, AnonymousLimitsConfiguration, RequestsConfiguration


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("sized"), AccessConfiguration()) as site:
        site.put("a/ö b", pictures.jpeg(pictures.photo(1200, 800)))
        yield site


NAME = quote("a/ö b")


def check(site: Site, source: dict[str, Any]) -> None:
    """A source is the picture that it says, for ever."""
    address = urlsplit(source["url"])
    answer = site.client.get(f"{address.path}?{address.query}")
    assert answer.status == 200, answer.body
    assert answer.image().size == (source["width"], source["height"])
    assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("query", "sizes"),
    [
        ("srcset=True", [(250, 167), (330, 220), (500, 333), (960, 640), (1200, 800)]),
        ("srcset=300,100,2000", [(100, 67), (300, 200), (1200, 800)]),
        ("srcset=100,300&kind=webp&q=70", [(100, 67), (300, 200)]),
        ("srcset=100&xsize=300&ysize=300&fit=cover", [(100, 100)]),
        ("srcset=100,900&crop=0,0,600,300", [(100, 50), (600, 300)]),
        ("srcset=100&rotate=90", [(100, 150)]),
        ("srcset=1,5000&w=2&h=1&fit=contain&bg=fff", [(1, 1), (5000, 2500)]),
    ],
)
def test_a_srcset_tells_widths_and_urls(site: Site, query: str, sizes: list[tuple[int, int]]) -> None:
    answer = site.client.get(f"/images/{NAME}?{query}").json()
    assert [(source["width"], source["height"]) for source in answer["sources"]] == sizes
    for source in answer["sources"]:
        check(site, source)
    # HTML, "srcset attributes": candidates are separated by commas, addresses hold no blanks
    candidates = [candidate.split(" ") for candidate in answer["srcset"].split(", ")]
    assert candidates == [[source["url"], f"{source['width']}w"] for source in answer["sources"]]


def test_the_largest_has_no_box(site: Site) -> None:
    last = site.client.get(f"/images/{NAME}?srcset=True").json()["sources"][-1]
    assert re.search(r"\?v=[^&]+$", last["url"])


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("srcset=a", "srcset"),
        ("srcset=0", None),
        ("srcset=10001", "srcset"),
        ("srcset=" + ",".join(map(str, range(1, 22))), "srcset"),
        ("srcset=100&thumbnail=True", "thumbnail"),
        ("srcset=100&dpr=2", "dpr"),
        ("srcset=100&w=100", "srcset"),
        ("srcset=100&rotate=30", "rotate"),
        ("srcset=100&kind=original", "srcset"),
    ],
)
def test_a_srcset_without_a_choice_of_widths_is_refused(site: Site, query: str, parameter: str | None) -> None:
    answer = site.client.get(f"/images/{NAME}?{query}")
    if parameter is None:
        assert answer.headers["Content-Type"] == "image/jpeg"
    else:
        assert (answer.status, answer.json()["parameter"]) == (400, parameter)
    assert site.client.get("/images/a/?srcset=True").json()["parameter"] == "srcset"
    assert site.client.get("/images/none?srcset=True").status == 404


def test_a_srcset_holds_what_the_caller_may_have(tmp_path: Path) -> None:
    limits = AnonymousLimitsConfiguration(max_width=400)
    with running_site(tmp_path, AccessConfiguration(anonymous="read", anonymous_limits=limits)) as site:
        site.put("a", pictures.jpeg(pictures.photo(1200, 800)))
        sources = site.client.get("/images/a?srcset=True").json()["sources"]
        assert [source["width"] for source in sources] == [250, 330, 400]
        for source in sources:
            check(site, source)
        document = site.client.get("/oembed?url=/images/a").json()
        assert (document["width"], document["height"]) == (400, 267)


def test_urls_are_signed_where_requests_are_to_be_for_who_may_write(tmp_path: Path) -> None:
    requests = RequestsConfiguration(mode="signed", key="k" * 16)
    for folder in ("open", "read"):
        (tmp_path / folder).mkdir()
    with running_site(tmp_path / "open", AccessConfiguration(), requests=requests) as site:
        site.put("a", pictures.jpeg(pictures.photo(1200, 800)))
        for source in site.client.get("/images/a?srcset=100,200").json()["sources"]:
            check(site, source)
        assert site.client.get("/oembed?url=/images/a").status == 401
    with running_site(tmp_path / "read", AccessConfiguration(anonymous="read"), requests=requests) as site:
        site.put("a", pictures.jpeg(pictures.photo(1200, 800)))
        assert site.client.get("/images/a?srcset=100,200").status == 401


@pytest.mark.parametrize(
    ("mode", "query", "size"),
    [
        ("any", "", (1200, 800)),
        ("any", "&maxwidth=300", (300, 200)),
        ("any", "&maxheight=100", (150, 100)),
        ("any", "&maxwidth=300&maxheight=300", (300, 200)),
        ("any", "&maxwidth=100000", (1200, 800)),
        ("steps", "&maxwidth=300", (250, 167)),
        ("steps", "&maxwidth=5", None),
        ("presets", "", (1200, 800)),
        ("presets", "&maxwidth=300", None),
    ],
)
def test_oembed_tells_a_picture_within_its_limits(
    tmp_path: Path, mode: Any, query: str, size: tuple[int, int] | None
) -> None:
    with running_site(tmp_path, AccessConfiguration(), requests=RequestsConfiguration(mode=mode)) as site:
        site.put("a/fox", pictures.jpeg(pictures.photo(1200, 800)))
        host = f"http://{site.client.host}:{site.client.port}"
        answer = site.client.get(f"/oembed?url={quote(host)}/images/a/fox{query}")
        if size is None:
            assert answer.status == 404
            return
        document = answer.json()
        assert (document["version"], document["type"], document["title"]) == ("1.0", "photo", "fox")
        assert (document["width"], document["height"]) == size
        check(site, document)


def test_oembed_speaks_xml(site: Site) -> None:
    answer = site.client.get(f"/oembed?format=xml&maxwidth=300&url=/images/{quote(NAME)}%3Fkind%3Dpng%26gray%3D1")
    assert answer.headers["Content-Type"] == "text/xml; charset=utf-8"
    members = {element.tag: element.text for element in ElementTree.fromstring(answer.body)}
    assert (members["type"], members["width"], members["title"]) == ("photo", "300", "ö b")
    assert "kind=png" in str(members["url"])
    check(site, {"url": members["url"], "width": 300, "height": 200})
    known = site.client.get(
        f"/oembed?format=xml&maxwidth=300&url=/images/{quote(NAME)}%3Fkind%3Dpng%26gray%3D1",
        **{"If-None-Match": answer.headers["ETag"]},
    )
    assert known.status == 304


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("url=", 404),
        ("url=https://elsewhere.example/images/a", 404),
        ("url=/images/none", 404),
        ("url=/images/a/", 404),
        ("url=http://[", 400),
        (f"url=/images/{NAME}&format=yaml", 400),
        (f"url=/images/{NAME}&maxwidth=0", 400),
        (f"url=/images/{NAME}%3Frotate%3D30", 400),
    ],
)
def test_what_is_wrong_has_its_status(site: Site, query: str, status: int) -> None:
    assert site.client.get(f"/oembed?{query}").status == status


def test_oembed_in_xml_leaves_out_what_xml_cannot_hold(site: Site) -> None:
    site.put("t", pictures.jpeg())
    site.client(
        "PATCH", "/images/t", b'{"title": "a\\u0000\\u000b<b>\\uffff \\ud83e\\udd8a"}', Content_Type="application/json"
    )
    answer = site.client.get("/oembed?format=xml&url=/images/t")
    assert ElementTree.fromstring(answer.body).findtext("title") == "a<b> \U0001f98a"


def test_oembed_gives_no_signature_that_outlives_that_of_the_request(tmp_path: Path) -> None:
    requests = RequestsConfiguration(mode="signed", key="k" * 16)
    with running_site(tmp_path, AccessConfiguration(), requests=requests) as site:
        site.put("a", pictures.jpeg(pictures.photo(120, 80)))
        signature = RequestSigner(["k" * 16]).sign("a", ["xsize=60"], 600)
        document = site.client.get(f"/oembed?url=/images/a.jpg%3Fw%3D60%26signature%3D{signature}").json()
        assert parse_qs(urlsplit(document["url"]).query)["signature"] == [signature]
        assert site.client.get(document["url"].partition(str(site.client.port))[2]).image().size == (60, 40)


def test_urls_of_a_name_that_ends_as_pictures_do_are_of_no_other_image(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        site.put("a", pictures.jpeg(pictures.photo(60, 40)))
        site.put("a.tif", pictures.jpeg(pictures.photo(80, 80)))
        for source in site.client.get("/images/a.tif.jpg?srcset=20,30").json()["sources"]:
            assert source["width"] == source["height"]
            check(site, source)
        check(site, site.client.get("/oembed?url=/images/a.tif.jpg").json())


def check_description(site: Site, address: str) -> None:
    described = site.client.get(urlsplit(address)._replace(scheme="", netloc="").geturl()).json()
    assert (described["type"], described["width"]) == ("photo", 1200)


def test_the_address_of_a_picture_on_the_page_leads_to_its_description_in_html(site: Site) -> None:
    body = site.client.get(f"/?picture={NAME}", Accept="text/html").body.decode()
    match = re.search(r'<link rel="alternate" type="application/json\+oembed" href="([^"]+)">', body)
    assert match is not None
    check_description(site, html.unescape(match[1]))


def test_the_address_of_a_picture_on_the_page_leads_to_its_description_in_a_header(site: Site) -> None:
    link = site.client.get(f"/?picture={NAME}", Accept="application/json").headers["Link"]
    match = re.fullmatch(r'<([^>]+)>; rel="alternate"; type="application/json\+oembed"', link)
    assert match is not None
    check_description(site, match[1])


def test_the_page_of_all_pictures_describes_none(site: Site) -> None:
    assert b"oembed" not in site.client.get("/", Accept="text/html").body
    assert "Link" not in site.client.get("/", Accept="application/json").headers


def test_a_picture_that_is_named_on_the_page_writes_no_markup(site: Site) -> None:
    body = site.client.get("/?picture=%22%3E%3Cscript%3E", Accept="text/html").body
    assert b"<script>" not in body

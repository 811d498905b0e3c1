"""The IIIF Image API over HTTP."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pictures
import pytest
from access_site import Site, running_site
from PIL import Image

from image_repo.access.request_rules import RequestSigner
from image_repo.config import AccessConfiguration, AnonymousLimitsConfiguration, RequestsConfiguration
from image_repo.iiif import discovery
from image_repo.web import manifests


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("iiif"), AccessConfiguration()) as site:
        site.put("a/b", pictures.jpeg(pictures.photo(300, 200)))
        yield site


@pytest.mark.parametrize("dialect", ["2", "3"])
@pytest.mark.parametrize(
    ("path", "size", "kind"),
    [
        ("full/max/0/default.jpg", (300, 200), "JPEG"),
        ("square/50,/0/default.png", (50, 50), "PNG"),
        ("10,20,100,50/80,20/0/default.webp", (80, 20), "WEBP"),
        ("pct:50,50,50,50/,40/90/gray.jpg", (40, 60), "JPEG"),
        ("full/!90,90/!270/default.tif", (60, 90), "TIFF"),
    ],
)
def test_a_picture_is_as_requested(site: Site, dialect: str, path: str, size: tuple[int, int], kind: str) -> None:
    answer = site.client.get(f"/iiif/{dialect}/a%2Fb/{path}")
    assert answer.status == 200, answer.body
    with Image.open(io.BytesIO(answer.body)) as image:
        assert (image.size, image.format) == (size, kind)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_the_same_pixels_are_one_rendition_under_each_address(site: Site) -> None:
    first = site.client.get("/images/a/b?xsize=120")
    for path in ("3/a%2Fb/full/120,/0/default.jpg", "3/a%2Fb/full/120,80/0/color.jpg", "2/a/b/full/120,/0/default.jpg"):
        again = site.client.get(f"/iiif/{path}")
        assert (again.body, again.headers["ETag"]) == (first.body, first.headers["ETag"])
        assert again.headers["Cache-Status"] == "image_repo; hit; detail=memory"
        unchanged = site.client.get(f"/iiif/{path}", **{"If-None-Match": first.headers["ETag"]})
        assert (unchanged.status, unchanged.headers["Link"]) == (304, again.headers["Link"])


def test_it_is_mirrored_and_turned_by_any_angle(site: Site) -> None:
    def turned(rotation: str) -> Image.Image:
        return Image.open(io.BytesIO(site.client.get(f"/iiif/3/a%2Fb/full/max/{rotation}/default.png").body))

    plain, mirrored, upside_down, tilted = map(turned, ("0", "!0", "!180", "30"))
    assert mirrored.tobytes() == plain.transpose(Image.Transpose.FLIP_LEFT_RIGHT).tobytes()
    assert upside_down.tobytes() == plain.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes()
    assert tilted.size == plain.rotate(-30, expand=True).size
    assert (tilted.mode, tilted.getpixel((0, 0))[3]) == ("RGBA", 0)  # type: ignore[index]
    middle = tilted.convert("RGB").rotate(30).crop(box := _middle(tilted.size))
    assert _difference(middle, plain.convert("RGB").crop(_middle(plain.size))) < 12, box


def _middle(size: tuple[int, int]) -> tuple[int, int, int, int]:
    x, y = size[0] // 2, size[1] // 2
    return x - 50, y - 50, x + 50, y + 50


def _difference(one: Image.Image, other: Image.Image) -> float:
    pairs = zip(one.tobytes(), other.tobytes(), strict=True)
    return sum(abs(a - b) for a, b in pairs) / len(one.tobytes())


def test_bitonal_is_black_and_white_alone(site: Site) -> None:
    answer = site.client.get("/iiif/3/a%2Fb/full/100,/0/bitonal.png")
    with Image.open(io.BytesIO(answer.body)) as image:
        assert {count_and_colour[1] for count_and_colour in image.convert("L").getcolors()} == {0, 255}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("3/a%2Fb/full/301,/0/default.jpg", 400),
        ("3/a%2Fb/full/max/0/default.pdf", 400),
        ("3/none/full/max/0/default.jpg", 404),
        ("3/none/info.json", 404),
        ("3/none", 404),
        ("1/a%2Fb/info.json", 404),
        ("3/", 400),
        ("3", 404),
    ],
)
def test_what_is_wrong_has_its_status(site: Site, path: str, status: int) -> None:
    assert site.client.get(f"/iiif/{path}").status == status


def test_the_image_service_describes_itself(site: Site) -> None:
    three, two = (site.client.get(f"/iiif/{dialect}/a%2Fb/info.json") for dialect in "32")
    assert three.json()["id"].endswith("/iiif/3/a%2Fb")
    assert (three.json()["width"], three.json()["height"], three.json()["profile"]) == (300, 200, "level2")
    assert two.json()["@id"].endswith("/iiif/2/a%2Fb")
    assert two.json()["profile"][0] == "http://iiif.io/api/image/2/level2.json"
    linked = 'application/ld+json;profile="http://iiif.io/api/image/{}/context.json"'
    for dialect, accept, media_type in (
        ("3", "*/*", linked.format(3)),
        ("3", "application/json", "application/json"),
        ("3", "application/ld+json, application/json", linked.format(3)),
        ("2", "*/*", "application/json"),
        ("2", "application/ld+json", linked.format(2)),
    ):
        answer = site.client.get(f"/iiif/{dialect}/a%2Fb/info.json", Accept=accept)
        assert (answer.headers["Content-Type"], answer.headers["Vary"]) == (media_type, "Accept")
    known = site.client.get("/iiif/3/a%2Fb/info.json", **{"If-None-Match": three.headers["ETag"]})
    assert known.status == 304
    for size in three.json()["sizes"]:
        path = f"/iiif/3/a%2Fb/full/{size['width']},{size['height']}/0/default.jpg"
        with Image.open(io.BytesIO(site.client.get(path).body)) as image:
            assert image.size == (size["width"], size["height"])


def test_the_base_uri_leads_to_the_description(site: Site) -> None:
    answer = site.client.get("/iiif/3/a%2Fb")
    assert answer.status == 303
    assert answer.headers["Location"].endswith("/iiif/3/a%2Fb/info.json")


def test_a_link_names_the_canonical_address(site: Site) -> None:
    link = site.client.get("/iiif/3/a%2Fb/full/pct:50/0/color.jpg").headers["Link"]
    assert link == (
        '</iiif/3/a%2Fb/full/150,100/0/default.jpg>;rel="canonical", '
        '<http://iiif.io/api/image/3/level2.json>;rel="profile"'
    )


@pytest.fixture(scope="module")
def folder(site: Site) -> list[str]:
    """Pictures below a folder and a deeper one, and a description without a picture."""
    names = ["m/one", "m/deep/two", "m/three"]
    for number, name in enumerate(names):
        site.put(name, pictures.jpeg(pictures.photo(90 + number, 60)))
    site.client.put("/images/m/words", b'{"site": "north"}', **{"Content-Type": "application/json"})
    answer = site.client("PATCH", "/images/m/one", b'{"site": "<b>north</b>", "rights": "http://creativecommons.org/licenses/by/4.0/"}',
                         **{"Content-Type": "application/json"})  # fmt: skip
    assert answer.status == 200, answer.body
    return sorted(names)


def test_a_folder_is_a_manifest_of_all_pictures_below(site: Site, folder: list[str]) -> None:
    answer = site.client.get("/iiif/3/collection/m/manifest.json")
    manifest = answer.json()
    assert (manifest["type"], manifest["label"]) == ("Manifest", {"none": ["m"]})
    assert manifest["id"].endswith("/iiif/3/collection/m/manifest.json")
    assert [canvas["label"]["none"][0] for canvas in manifest["items"]] == [name.rpartition("/")[2] for name in folder]
    body = manifest["items"][1]["items"][0]["items"][0]["body"]
    assert body["id"].endswith("/iiif/3/m%2Fone/full/max/0/default.jpg")
    assert (body["width"], body["height"]) == (90, 60)
    assert manifest["items"][1]["rights"] == "http://creativecommons.org/licenses/by/4.0/"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    unchanged = site.client.get("/iiif/3/collection/m/manifest.json", **{"If-None-Match": answer.headers["ETag"]})
    assert unchanged.status == 304
    for each in (body, manifest["items"][1]["thumbnail"][0]):
        path = each["id"].partition("/iiif/")[2]
        assert site.client.get(f"/iiif/{path}").image().size == (each["width"], each["height"])


def test_a_query_is_a_manifest_of_what_it_finds(site: Site, folder: list[str]) -> None:
    manifest = site.client.get("/iiif/3/query/manifest.json?width__gte=91&name__in=m/one,m/three,m/deep/two").json()
    assert len(manifest["items"]) == 2
    assert manifest["id"].endswith("?width__gte=91&name__in=m/one,m/three,m/deep/two")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("collection/none/manifest.json", 404),
        ("query/manifest.json?name=m/words", 404),
        ("query/manifest.json?widht__gte=91", 400),
        ("collection/m/manifest.json?page=0", 400),
        ("collection/m/manifest.json?page=2", 404),
        ("query/x/manifest.json", 404),
    ],
)
def test_a_manifest_without_pictures_is_refused(site: Site, folder: list[str], path: str, status: int) -> None:
    assert site.client.get(f"/iiif/3/{path}").status == status


def test_a_large_folder_is_a_collection_of_manifests(
    site: Site, folder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MAX_CANVASES", 2)
    collection = site.client.get("/iiif/3/collection/m/manifest.json").json()
    assert (collection["type"], len(collection["items"])) == ("Collection", 2)
    parts = [site.client.get("/iiif/" + item["id"].partition("/iiif/")[2]).json() for item in collection["items"]]
    assert [part["id"] for part in parts] == [item["id"] for item in collection["items"]]
    assert sum(len(part["items"]) for part in parts) == 3


@pytest.mark.parametrize("mode", ["steps", "presets"])
def test_where_requests_are_bounded_what_info_json_lists_is_served(tmp_path: Path, mode: str) -> None:
    requests = RequestsConfiguration(mode=mode, steps=[60, 250])
    with running_site(tmp_path, AccessConfiguration(), requests=requests) as site:
        site.put("a", pictures.jpeg(pictures.photo(700, 600)))
        info = site.client.get("/iiif/3/a/info.json").json()
        assert info["profile"] == "level0"
        assert info.keys().isdisjoint(("preferredFormats", "extraFormats")) and info["extraQualities"] == ["color"]
        old = site.client.get("/iiif/2/a/info.json").json()["profile"][1]
        assert (old["formats"], old["qualities"]) == (["jpg"], ["default", "color"])
        for size in info["sizes"]:
            path = f"/iiif/3/a/full/{size['width']},{size['height']}/0/default.jpg"
            assert site.client.get(path).image().size == (size["width"], size["height"])
        assert site.client.get("/iiif/3/a/512,512,188,88/188,88/0/default.jpg").image().size == (188, 88)
        for path in ("full/333,/0/default.jpg", "0,0,9,9/max/0/default.jpg", "full/60,/0/gray.jpg"):
            assert site.client.get(f"/iiif/3/a/{path}").status == 400


def test_where_requests_are_signed_a_picture_needs_its_signature(tmp_path: Path) -> None:
    key = "0123456789abcdef0123456789abcdef"
    with running_site(tmp_path, AccessConfiguration(), requests=RequestsConfiguration(mode="signed", key=key)) as site:
        site.put("a", pictures.jpeg(pictures.photo(300, 200)))
        signature = RequestSigner([key]).sign("a", ["kind=jpg", "xsize=60"])
        assert site.client.get("/iiif/3/a/full/60,/0/default.jpg").status == 401
        assert site.client.get(f"/iiif/3/a/full/60,/0/default.jpg?signature={signature}").image().size == (60, 40)
        assert site.client.get(f"/iiif/3/a/full/61,/0/default.jpg?signature={signature}").status == 401


def test_a_caller_who_gets_less_is_told_so(tmp_path: Path) -> None:
    limits = AnonymousLimitsConfiguration(max_width=150)
    with running_site(tmp_path, AccessConfiguration(anonymous="read", anonymous_limits=limits)) as site:
        site.put("a", pictures.jpeg(pictures.photo(300, 200)))
        assert site.client.get("/iiif/3/a/info.json").json()["maxWidth"] == 150
        assert site.client.get("/iiif/3/a/full/max/0/default.jpg").image().size == (150, 100)
        assert site.client.get("/iiif/3/a/full/150,/45/default.jpg").status == 403
        assert site.client.get("/iiif/3/a/full/150,/180/default.jpg").image().size == (150, 100)


def test_renders_count_for_the_budget_of_their_client(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration(), requests=RequestsConfiguration(renders_per_minute=2)) as site:
        site.put("a", pictures.jpeg(pictures.photo(300, 200)))
        statuses = [site.client.get(f"/iiif/3/a/full/{width},/0/default.jpg").status for width in (50, 60, 70, 50)]
        assert statuses == [200, 200, 429, 200]


def test_a_picture_has_a_manifest_of_its_own(site: Site, folder: list[str]) -> None:
    manifest = site.client.get("/iiif/3/m%2Fone/manifest.json").json()
    assert (manifest["type"], manifest["label"]["none"], len(manifest["items"])) == ("Manifest", ["one"], 1)
    assert manifest["id"].endswith("/iiif/3/m%2Fone/manifest.json")
    assert manifest["items"][0]["id"].endswith("/iiif/3/m%2Fone/canvas")
    assert site.client.get("/iiif/3/m%2Fnone/manifest.json").status == 404


def test_descriptions_without_a_picture_take_no_place_in_a_page(
    site: Site, folder: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MAX_CANVASES", 1)
    collection = site.client.get("/iiif/3/collection/m/manifest.json").json()
    parts = [site.client.get("/iiif/" + item["id"].partition("/iiif/")[2]).json() for item in collection["items"]]
    assert [len(part["items"]) for part in parts] == [1, 1, 1]


def test_a_snapshot_is_a_manifest_that_shows_what_was_frozen(tmp_path: Path) -> None:
    with running_site(tmp_path, AccessConfiguration()) as site:
        for name in ("s/a", "s/b"):
            site.put(name, pictures.jpeg(pictures.photo(90, 60, seed=ord(name[-1]))))
        snapshot = site.client("POST", "/snapshots?name__regex=^s/").json()["id"]
        path = f"/iiif/3/snapshot/{snapshot}/manifest.json"
        manifest = site.client.get(path).json()
        assert [canvas["label"]["none"] for canvas in manifest["items"]] == [["a"], ["b"]]
        assert len({canvas["id"] for canvas in manifest["items"]}) == 2
        image_path = manifest["items"][0]["items"][0]["items"][0]["body"]["id"].partition("/iiif/")[2]
        frozen = site.client.get(f"/iiif/{image_path}")
        assert frozen.image().size == (90, 60)
        site.put("s/a", pictures.jpeg(pictures.photo(33, 22)))
        assert site.client.get(path).json() == manifest
        assert site.client.get(f"/iiif/{image_path}").status == 404, "other bytes are never shown in its place"
        assert site.client.get("/iiif/3/snapshot/none/manifest.json").status == 404
        assert site.client.get(f"{path}?page=2").status == 404


def test_a_time_of_capture_is_a_date_of_the_timeline(site: Site) -> None:
    site.put("dated", pictures.jpeg(camera=True))
    (canvas,) = site.client.get("/iiif/3/dated/manifest.json").json()["items"]
    assert canvas["navDate"] == "2024-05-17T12:34:56+02:00"


@pytest.mark.parametrize("is_told", [True, False])
def test_positions_are_in_manifests_where_they_may_be_told(tmp_path: Path, is_told: bool) -> None:
    with running_site(tmp_path, AccessConfiguration(), metadata_location=is_told) as site:
        site.put("here", pictures.jpeg(gps=True))
        for path in ("here/manifest.json", "query/manifest.json"):
            manifest = site.client.get(f"/iiif/3/{path}").json()
            (canvas,) = manifest["items"]
            if is_told:
                (feature,) = canvas["navPlace"]["features"]
                assert feature["geometry"] == {"type": "Point", "coordinates": [7.447447, 46.947975]}
                assert manifest["@context"] == [
                    "http://iiif.io/api/extension/navplace/context.json",
                    "http://iiif.io/api/presentation/3/context.json",
                ]
            else:
                assert "navPlace" not in canvas
                assert "46.9" not in str(manifest)


def test_changes_are_told_oldest_first_a_page_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (manifests, discovery):
        monkeypatch.setattr(module, "PAGE_ACTIVITIES", 2)
    with running_site(tmp_path, AccessConfiguration()) as site:
        assert site.client.get("/iiif/discovery/1/changes.json").json()["totalItems"] == 0
        for name in ("c/z", "c/a", "c/ö"):
            site.put(name, pictures.jpeg())
        answer = site.client.get("/iiif/discovery/1/changes.json")
        feed = answer.json()
        assert (feed["type"], feed["totalItems"]) == ("OrderedCollection", 3)
        assert answer.headers["Content-Type"].startswith("application/ld+json")
        pages, following = [], feed["first"]
        while following:
            page = site.client.get("/iiif/" + following["id"].partition("/iiif/")[2]).json()
            assert (page["id"], page["type"]) == (following["id"], "OrderedCollectionPage")
            assert page["partOf"]["id"] == feed["id"]
            pages.append(page)
            following = page.get("next")
        assert (pages[-1]["id"], pages[-1]["prev"]["id"]) == (feed["last"]["id"], feed["first"]["id"])
        assert [page["startIndex"] for page in pages] == [0, 2]
        items = [item for page in pages for item in page["orderedItems"]]
        assert [item["endTime"] for item in items] == sorted(item["endTime"] for item in items)
        assert [item["object"]["id"].split("/")[-2] for item in items] == ["c%2Fz", "c%2Fa", "c%2F%C3%B6"]
        for item in items:
            path = item["object"]["id"].partition("/iiif/")[2]
            assert site.client.get(f"/iiif/{path}").json()["id"] == item["object"]["id"]
        assert site.client.get("/iiif/discovery/1/changes.json?page=3").status == 400

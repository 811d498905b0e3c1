"""Pictures over HTTP: what is asked for, how it is dressed, and which layer answers."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pictures
import pytest
from click.testing import CliRunner
from webserver import embedded, serving

from image_repo.cli.main import main
from image_repo.config import SwiftCacheConfiguration


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    config = embedded(folder, presets={"card": {"xsize": 40, "kind": "png"}}, freshness=60.0)
    with serving(config, folder) as served:
        put = served.client.put
        assert put("/images/sites/a", pictures.jpeg(pictures.photo(320, 240), gps=True)).status == 201
        assert put("/images/x.tif.jpg", pictures.jpeg(pictures.photo(30, 20))).status == 201
        assert put("/images/upright", pictures.jpeg(pictures.corners(120, 80), orientation=6)).status == 201
        yield served


@pytest.fixture
def get(served):
    return served.client.get


@pytest.mark.parametrize(
    ("query", "size", "kind"),
    [
        pytest.param("", (320, 240), "JPEG", id="as it is"),
        pytest.param("xsize=160", (160, 120), "JPEG", id="by width"),
        pytest.param("ysize=60&kind=png", (80, 60), "PNG", id="by height, as PNG"),
        pytest.param("w=100&h=100", (100, 75), "JPEG", id="inside a box"),
        pytest.param("w=100&h=100&fit=cover", (100, 100), "JPEG", id="covering a box"),
        pytest.param("w=100&h=100&fit=contain", (100, 100), "JPEG", id="padded to a box"),
        pytest.param("w=100&h=100&fit=fill", (100, 100), "JPEG", id="stretched to a box"),
        pytest.param("w=4000", (320, 240), "JPEG", id="never enlarged"),
        pytest.param("w=640&enlarge=True", (640, 480), "JPEG", id="unless that is asked for"),
        pytest.param("w=160&dpr=1.5", (240, 180), "JPEG", id="for a dense screen"),
        pytest.param("thumbnail=True", (50, 38), "JPEG", id="a thumbnail"),
        pytest.param("crop=10,20,100,50", (100, 50), "JPEG", id="a region"),
        pytest.param("crop=pct:50,50,50,50&w=40", (40, 30), "JPEG", id="a region in percent, resized"),
        pytest.param("rotate=90&w=90", (90, 120), "JPEG", id="turned, then boxed"),
        pytest.param("preset=card", (40, 30), "PNG", id="a preset"),
        pytest.param("kind=webp&w=32", (32, 24), "WEBP", id="WebP"),
        pytest.param("kind=avif&w=32", (32, 24), "AVIF", id="AVIF"),
        pytest.param("kind=tif&w=32", (32, 24), "TIFF", id="TIFF"),
        pytest.param("kind=gif&w=32", (32, 24), "GIF", id="GIF"),
        pytest.param("kind=jp2&w=32", (32, 24), "JPEG2000", id="JPEG 2000"),
    ],
)
def test_a_picture_is_what_was_asked_for(get, query, size, kind):
    answer = get(f"/images/sites/a?{query}")
    assert answer.status == 200, answer.body
    picture = answer.image()
    assert (picture.size, picture.format) == (size, kind)
    assert answer.headers["Content-Type"] == picture.get_format_mimetype()
    assert int(answer.headers["Content-Length"]) == len(answer.body)


def test_an_orientation_is_applied(get):
    picture = get("/images/upright?kind=png").image().convert("RGB")
    assert picture.size == (120, 80)
    for point, colour in (((5, 5), (255, 0, 0)), ((115, 5), (0, 255, 0)), ((115, 75), (0, 0, 255))):
        assert picture.getpixel(point) == pytest.approx(colour, abs=40)


@pytest.mark.parametrize("path", ["sites/a", "sites/a.png", "sites/a.JPG", "sites%2Fa", "sites%2fa.webp"])
def test_an_ending_and_an_encoded_slash_are_the_same_image(get, path):
    assert get(f"/images/{path}?w=20").headers["ETag"] == get("/images/sites/a?w=20").headers["ETag"]


def test_the_longer_name_is_tried_where_nothing_has_the_shorter(get):
    assert get("/images/x.tif").image().size == (30, 20)
    assert get("/images/x.tif.jpg").image().size == (30, 20)
    assert get("/images/x").status == 404


def test_the_head_of_a_picture(get):
    headers = get("/images/sites/a?w=30").headers
    assert headers["ETag"].startswith('"')
    assert headers["Cache-Control"] == "public, max-age=60"
    assert headers["Content-Disposition"] == "inline; filename=\"a.jpg\"; filename*=UTF-8''a.jpg"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Accept-Ranges"] == "bytes"
    assert "GMT" in headers["Last-Modified"]
    assert "Vary" not in headers


def test_a_layer_says_that_it_answered(get, served):
    path = "/images/sites/a?w=77"
    first, second = get(path), get(path)
    assert first.headers["Cache-Status"] == "image_repo; fwd=uri-miss; detail=rendered"
    assert "render;dur=" in first.headers["Server-Timing"]
    assert second.headers["Cache-Status"] == "image_repo; hit; detail=memory"
    assert "Server-Timing" not in second.headers
    assert first.body == second.body
    with serving(served.config, served.folder) as other:
        assert other.client.get(path).layer == "disk"
        assert other.client.get(path).body == first.body


def test_deleting_the_caches_while_it_runs_changes_nothing_but_speed(get, served):
    path = "/images/sites/a?w=78"
    before = get(path)
    shutil.rmtree(served.folder / "cache")
    assert get(path).layer == "memory"
    served.repo.renditions.caches.tiers[0].purge("")
    again = get(path)
    assert (again.layer, again.body) == ("rendered", before.body)
    served.repo.renditions.caches.tiers[0].purge("")
    assert get(path).layer == "disk"


def test_not_modified(get):
    path = "/images/sites/a?w=61"
    etag, modified = (get(path).headers[name] for name in ("ETag", "Last-Modified"))
    for conditions in ({"If_None_Match": etag}, {"If_None_Match": f'"other", {etag}'}, {"If_Modified_Since": modified}):
        answer = get(path, **conditions)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["ETag"] == etag
    assert get(path, If_None_Match='"other"').status == 200


def test_not_modified_is_known_without_rendering(get):
    path = "/images/sites/a?w=62&kind=png"
    etag = get(path).headers["ETag"]
    with_other_caches = get("/images/sites/a?w=63&kind=png")
    assert with_other_caches.headers["ETag"] != etag
    assert get(path, If_None_Match=etag).headers.get("Server-Timing") is None


def test_a_hit_in_memory_touches_neither_disk_nor_store(tmp_path):
    with serving(embedded(tmp_path, freshness=3600.0), tmp_path) as other:
        other.client.put("/images/a", pictures.jpeg())
        first = other.client.get("/images/a?w=20")
        for folder in ("data", "cache"):
            shutil.rmtree(tmp_path / folder)
        second = other.client.get("/images/a?w=20")
        assert (second.layer, second.body) == ("memory", first.body)
        assert other.client.get("/images/a?w=20", If_None_Match=first.headers["ETag"]).status == 304
        assert other.client.get("/images/a?w=21").status == 503, "what is not in memory needs the store"


def test_head_is_get_without_the_body(served):
    path = "/images/sites/a?w=64"
    head, get = served.client("HEAD", path), served.client.get(path)
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type", "Last-Modified"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        pytest.param("bytes=0-9", 206, slice(0, 10), id="the first bytes"),
        pytest.param("bytes=-5", 206, slice(-5, None), id="the last bytes"),
        pytest.param("bytes=10-", 206, slice(10, None), id="the rest"),
        pytest.param("bytes=0-1,4-5", 200, slice(None), id="several ranges are answered whole"),
        pytest.param("bytes=" + ",".join(f"{n}-{n}" for n in range(1300)), 200, slice(None), id="thirteen hundred too"),
        pytest.param("lines=1-2", 200, slice(None), id="an unknown unit is ignored"),
        pytest.param("bytes=999999-", 416, None, id="beyond the end"),
    ],
)
def test_ranges(get, header, status, part):
    path = "/images/sites/a?w=65"
    whole = get(path).body
    answer = get(path, Range=header)
    assert answer.status == status
    if part is None:
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"
        assert answer.slug == "requested-range-not-satisfiable"
    else:
        assert answer.body == whole[part]


def test_if_range(get):
    path = "/images/sites/a?w=66"
    etag = get(path).headers["ETag"]
    assert get(path, Range="bytes=0-3", If_Range=etag).status == 206
    assert get(path, Range="bytes=0-3", If_Range='"other"').status == 200


def test_a_version_may_be_kept_for_ever(get):
    version = get("/images/sites/a?meta=True").json()["version"]
    cache_control = get(f"/images/sites/a?w=20&v={version}").headers["Cache-Control"]
    assert cache_control == "public, max-age=31536000, immutable"
    assert "immutable" not in get("/images/sites/a?w=20&v=other").headers["Cache-Control"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("image/avif,image/webp,*/*", "AVIF"), ("image/webp,*/*", "WEBP"), ("*/*", "JPEG")],
    ids=["avif", "webp", "anything"],
)
def test_auto_chooses_by_accept_and_says_so(get, accept, kind):
    answer = get("/images/sites/a?kind=auto&w=24", Accept=accept)
    assert (answer.image().format, answer.headers["Vary"]) == (kind, "Accept")


def test_auto_at_full_size_does_not_choose_what_takes_seconds_to_make(get):
    assert get("/images/sites/a?kind=auto", Accept="image/avif,image/webp").image().format == "WEBP"


@pytest.mark.parametrize(
    ("query", "disposition"),
    [
        ("download", "attachment; filename=\"a.jpg\"; filename*=UTF-8''a.jpg"),
        (
            "download=%C3%89t%C3%A9%201.jpg",
            "attachment; filename=\"Ete 1.jpg\"; filename*=UTF-8''%C3%89t%C3%A9%201.jpg",
        ),
        ("kind=png", "inline; filename=\"a.png\"; filename*=UTF-8''a.png"),
    ],
    ids=["plain", "with a name", "inline"],
)
def test_downloads(get, query, disposition):
    assert get(f"/images/sites/a?{query}&w=20").headers["Content-Disposition"] == disposition


@pytest.mark.parametrize("name", ["a%0d%0aX:y", "a%22b", "../a", "a%00", "a%5Cb", "x" * 300])
def test_a_bad_name_for_a_download_is_refused(get, name):
    answer = get(f"/images/sites/a?download={name}")
    assert (answer.status, answer.json()["parameter"]) == (400, "download")


def test_originals_are_private_unless_the_configuration_says_otherwise(get, served, tmp_path):
    refused = get("/images/sites/a?kind=original")
    assert (refused.status, refused.slug) == (403, "originals-not-served")
    assert "serve_originals" in refused.json()["detail"]
    source = pictures.jpeg(pictures.photo(40, 30), gps=True)
    with serving(embedded(tmp_path, serve_originals=True), tmp_path) as other:
        other.client.put("/images/o", source)
        answer = other.client.get("/images/o?kind=original")
        assert (answer.body, answer.layer) == (source, "origin")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert other.client.get("/images/o?kind=original", Range="bytes=3-8").body == source[3:9]
        assert other.client.get("/images/o?kind=original", If_None_Match=answer.headers["ETag"]).status == 304
        assert other.client("HEAD", "/images/o?kind=original").headers["Content-Length"] == str(len(source))


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "avif", "tif", "gif", "jp2"])
def test_nothing_of_the_sender_is_in_what_is_served(get, kind):
    body = get(f"/images/sites/a?kind={kind}").body
    for secret in (pictures.SECRET.encode(), b"Exif", b"GPS", b"Kamera", b"http://ns.adobe.com"):
        assert secret not in body


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        pytest.param("/images/nothing", 404, "image-not-found", id="no such image"),
        pytest.param("/images/a//b", 400, "bad-name", id="an empty part"),
        pytest.param("/images//a", 400, "bad-name", id="an empty part ahead"),
        pytest.param("/images/a/../b", 400, "bad-name", id="two dots"),
        pytest.param("/images/%2e%2e/b", 400, "bad-name", id="two dots, encoded"),
        pytest.param("/images/%252e%252e/b", 404, "image-not-found", id="encoded twice is decoded once"),
        pytest.param("/images/a%00b", 400, "bad-name", id="NUL"),
        pytest.param("/images/a%5Cb", 400, "bad-name", id="a backslash"),
        pytest.param("/images/a%0d%0aSet-Cookie:x", 400, "bad-name", id="a line break"),
        pytest.param("/images/%c0%ae%c0%ae/b", 400, "bad-name", id="overlong UTF-8"),
        pytest.param("/images/%ff", 400, "bad-name", id="no UTF-8"),
        pytest.param("/images/" + "a" * 701, 400, "bad-name", id="too long"),
        pytest.param("/images/sites/a?xsize=x", 400, "bad-parameter", id="a bad value"),
        pytest.param("/images/sites/a?xsze=3", 400, "bad-parameter", id="an unknown parameter"),
        pytest.param("/images/sites/a?page=2", 400, "bad-parameter", id="a page that is not there"),
        pytest.param("/images/sites/a?crop=900,900,5,5", 400, "bad-parameter", id="a region outside"),
        pytest.param("/images/?regex=(", 400, "bad-pattern", id="a bad pattern"),
        pytest.param("/nowhere", 404, "not-found", id="no such route"),
        pytest.param("/problems/none", 404, "image-not-found", id="no such problem"),
    ],
)
def test_a_problem_is_told_as_rfc_9457_says(get, path, status, slug):
    answer = get(path)
    problem = answer.json()
    assert (answer.status, answer.slug, problem["status"]) == (status, slug, status)
    assert problem["title"]
    assert "?" not in problem["instance"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_method_that_is_not_there(served):
    answer = served.client("PATCH", "/problems")
    assert (answer.status, answer.slug) == (405, "method-not-allowed")
    assert "GET" in answer.headers["Allow"]


def test_every_problem_has_a_page(get):
    index = get("/problems").body.decode()
    for slug in ("bad-parameter", "image-not-found", "busy"):
        assert f"/problems/{slug}" in index
        assert get(f"/problems/{slug}").status == 200


@pytest.mark.parametrize("path", ["/health", "/healthz", "/livez", "/readyz"])
def test_health(get, path):
    assert get(path).json() == {"ok": True}


def test_health_in_words_has_the_version_of_the_command(get):
    printed = CliRunner().invoke(main, ["--version"]).output
    assert get("/health?verbose").json() == {"ok": True, "version": printed.split()[-1]}


def test_readiness_in_words(get):
    parts = dict.fromkeys(("store", "listing", "space", "catalogue"), "ok")
    assert get("/readyz?verbose").json() == {"ok": True, "parts": parts, "passed_over": []}


def test_many_requests_at_once_are_one_render(get, served, monkeypatch):
    started = threading.Barrier(24)

    def ask(_):
        started.wait(10)
        return get("/images/sites/a?w=211&kind=webp")

    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(ask, range(24)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    timings = {answer.headers["Server-Timing"] for answer in answers if answer.layer == "rendered"}
    assert len(timings) == 1, "one render, whose outcome everybody shares"


def test_case_order_and_host_do_not_matter_to_the_key(get):
    first = get("/images/sites/a?w=45&q=70")
    second = get("/images/sites/a?quality=70&xsize=45", Host="evil.example", X_Forwarded_Host="other.example")
    assert first.headers["ETag"] == second.headers["ETag"]
    assert second.layer == "memory"
    assert b"evil" not in second.body


def test_without_a_cache_folder_everything_is_served_all_the_same(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    config = replace(embedded(tmp_path), swift_cache_configuration=SwiftCacheConfiguration(enabled=False))
    with serving(config, tmp_path) as other:
        other.client.put("/images/a", pictures.jpeg())
        assert other.client.get("/images/a?w=20").layer == "rendered"
        assert other.client.get("/images/a?w=20").layer == "memory"
        links = other.client.get("/images/a?url=True")
        assert (links.status, links.slug) == (501, "links-not-configured")

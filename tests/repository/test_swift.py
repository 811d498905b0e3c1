"""The whole application on real Swift: what other tools put there, temporary URLs, several nodes on one container."""

from __future__ import annotations

import hashlib
import json
import unicodedata
import urllib.error
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from urllib.parse import parse_qs, quote, urlsplit

import pictures
import pytest
from following import followed
from swiftclient import client as swiftclient
from swiftserved import NO_MEMORY, SwiftSite, house, sharing, until

from image_repo.model.record import MEDIA_TYPE as RECORD

pytestmark = pytest.mark.servers

ORIGINAL = pictures.jpeg(pictures.photo(320, 240), gps=True, camera=True)
OTHER = pictures.jpeg(pictures.photo(200, 100, seed=7))


@pytest.fixture
def building(swift, container, tmp_path):
    with house(swift, container, tmp_path) as building:
        yield building


@pytest.fixture
def other_tool(swift):
    """What ``swift upload`` is made of."""
    connection = swiftclient.Connection(f"{swift.url}/auth/v1.0", "test:tester", "testing")
    yield connection
    connection.close()


def fetched(url: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """What a browser gets, without any headers of ours."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def record_of(building: SwiftSite, name: str) -> dict:
    with building.origin.get(f"{name}.json") as body:
        assert body.entry.media_type == RECORD
        return json.loads(b"".join(body))


# -- a container that another tool filled --------------------------------------------


@pytest.fixture
def filled(building, other_tool, container):
    """What people have: endings in capitals, none at all, macOS's spelling, odd names, and other files between."""
    apart = unicodedata.normalize("NFD", "Möhre/grün.jpg")
    files = {
        "plot/north.JPG": (ORIGINAL, "image/jpeg"),
        "plot/south.jpeg": (OTHER, "application/octet-stream"),
        "plot/no-ending": (ORIGINAL, "image/jpeg"),
        "plot/photo@2x+b (1).png": (pictures.png(pictures.photo(60, 40)), "image/png"),
        "plot/100%/a#b?c.jpg": (OTHER, "image/jpeg"),
        apart: (ORIGINAL, "image/jpeg"),
        "plot/notes.txt": (b"not a picture", "text/plain"),
        "plot/north.json": (b'{"somebody": "else\'s"}', "application/json"),
        "plot/data.json": (b"[]", "application/json"),
    }
    for key, (body, media_type) in files.items():
        other_tool.put_object(container, key, body, content_type=media_type)
    return files


def test_a_container_that_another_tool_filled_is_served(building, filled):
    with building.node() as served:
        get = served.client.get
        assert get("/images/plot/north?w=80").image().size == (80, 60)
        assert get("/images/plot/south?w=80").image().size == (80, 40)
        assert get("/images/plot/no-ending?w=80").image().size == (80, 60)
        assert get("/images/" + quote("plot/photo@2x+b (1)") + "?w=30").image().size == (30, 20)
        assert get("/images/" + quote("plot/100%/a#b?c") + "?w=80").image().size == (80, 40)
        assert get("/images/" + quote("Möhre/grün") + "?w=80").image().size == (80, 60)
        assert get("/images/plot/notes").status == 404
        assert get("/images/plot/data").status == 404


def test_it_is_listed_by_its_names(building, filled):
    with building.node() as served:
        followed(served.repo)
        names = {image["name"] for image in served.client.get("/images").json()["images"]}
        below = served.client.get("/images/plot/?meta=True").json()
    expected = {"plot/north", "plot/south", "plot/no-ending", "plot/photo@2x+b (1)", "plot/100%/a#b?c", "Möhre/grün"}
    assert names == expected
    assert {record["name"] for record in below} == expected - {"Möhre/grün"}
    digests = {record["name"]: record["sha256"] for record in below}
    assert digests["plot/south"] == hashlib.sha256(OTHER).hexdigest()


def test_its_records_are_made_and_kept_but_not_over_somebody_elses(building, filled):
    with building.node() as served:
        document = served.client.get("/images/plot/south?meta=True").json()
        assert (document["width"], document["height"], document["bytes"]) == (200, 100, len(OTHER))
        assert record_of(building, "plot/south")["sha256"] == document["sha256"] == hashlib.sha256(OTHER).hexdigest()
        assert served.client.get("/images/plot/north?meta=True").json()["width"] == 320
        with building.origin.get("plot/north.json") as body:
            assert b"".join(body) == filled["plot/north.json"][0]


def test_a_nightly_upload_over_the_same_names_is_seen(building, other_tool, container):
    with building.node() as served:
        client = served.client
        part = ("data", None, b'{"site": 12}')
        assert client.form("/images/a/b", ("file", "b.jpg", ORIGINAL), part).status == 201
        assert client.get("/images/a/b?w=80").image().size == (80, 60)
        other_tool.put_object(container, "a/b.jpg", OTHER, content_type="image/jpeg")
        took = until(lambda: client.get("/images/a/b?w=80").image().size == (80, 40))
        assert took < building.config.freshness + 1
        document = client.get("/images/a/b?meta=True").json()
        assert (document["sha256"], document["width"]) == (hashlib.sha256(OTHER).hexdigest(), 200)
        assert document["data"] == {"site": 12}


def test_a_deletion_by_another_tool_is_seen(building, other_tool, container):
    with building.node() as served:
        served.client.put("/images/a/b", ORIGINAL)
        assert served.client.get("/images/a/b?w=80").status == 200
        other_tool.delete_object(container, "a/b.jpg")
        until(lambda: served.client.get("/images/a/b?w=80").status == 404)


# -- objects in segments -------------------------------------------------------------


@pytest.fixture
def segmented(building, other_tool, container):
    """An original in two segments, as ``swift upload --segment-size`` leaves it."""
    half = len(ORIGINAL) // 2
    parts = {"seg/1": ORIGINAL[:half], "seg/2": ORIGINAL[half:]}
    manifest = []
    for key, part in parts.items():
        etag = other_tool.put_object(container, key, part, content_type="application/octet-stream")
        manifest.append({"path": f"/{container}/{key}", "etag": etag, "size_bytes": len(part)})
    body = json.dumps(manifest).encode()
    other_tool.put_object(
        container, "big.jpg", body, query_string="multipart-manifest=put", headers={"Content-Type": "image/jpeg"}
    )
    return building


def test_an_original_in_segments_is_served_and_described(segmented):
    with segmented.node() as served:
        get = served.client.get
        assert get("/images/big?w=80").image().size == (80, 60)
        assert get("/images/big?kind=original").body == ORIGINAL
        document = get("/images/big?meta=True").json()
        assert (document["sha256"], document["bytes"]) == (hashlib.sha256(ORIGINAL).hexdigest(), len(ORIGINAL))
        assert "big" in {image["name"] for image in get("/images").json()["images"]}


def test_an_original_in_segments_is_checked_by_its_record(segmented):
    with segmented.node() as served:
        assert served.client.get("/images/big?meta=True").status == 200
        segmented.proxy.fail("corrupt", after=5000, match=b"/big.jpg HTTP/1.1\r\n")
        answer = served.client.get("/images/big?w=80")
        assert (answer.status, answer.slug) == (500, "original-damaged")
        segmented.proxy.heal()
        assert served.client.get("/images/big?w=80").image().size == (80, 60)


# -- temporary URLs ------------------------------------------------------------------


def link(client, path: str) -> dict:
    answer = client.get(path)
    assert answer.status == 200, answer.body
    return answer.json()


@pytest.mark.parametrize(
    "query", ["w=80", "kind=png&w=40", "kind=original", ""], ids=["a size", "a PNG", "the original", "as it is"]
)
def test_a_temporary_url_gives_the_same_bytes_without_us(building, query):
    with building.node() as served:
        served.client.put("/images/a/b", ORIGINAL)
        picture = served.client.get(f"/images/a/b?{query}")
        answer = link(served.client, f"/images/a/b?url=True&{query}")
    status, headers, body = fetched(answer["url"])
    assert (status, body) == (200, picture.body)
    assert headers["Content-Type"] == picture.headers["Content-Type"]
    assert headers["Content-Disposition"].startswith("inline")
    assert fetched(answer["url"], "HEAD")[0] == 200
    assert fetched(answer["url"], "PUT")[0] == 401
    assert fetched(answer["url"], "DELETE")[0] == 401


def test_a_name_with_quotes_and_unicode_reaches_the_browser(building):
    with building.node() as served:
        path = "/images/" + quote('Möhre "1"; a=b')
        assert served.client.put(path, ORIGINAL).status == 201
        status, headers, _ = fetched(link(served.client, f"{path}?url=True&w=40")["url"])
        assert status == 200
        assert quote('Möhre "1"; a=b.jpg', safe="") in headers["Content-Disposition"]
        assert "\n" not in headers["Content-Disposition"]


def test_the_same_request_gives_the_same_url_without_asking_the_store(building):
    with building.node() as served:
        served.client.put("/images/a/b", ORIGINAL)
        first = link(served.client, "/images/a/b?url=True&w=80")
        requests_before = building.proxy.count(building.config.swift_cache_configuration.container)
        assert link(served.client, "/images/a/b?url=True&w=80") == first
        assert building.proxy.count(building.config.swift_cache_configuration.container) == requests_before


def test_what_is_linked_is_kept_until_the_link_ends(building):
    with building.node() as served:
        served.client.put("/images/a/b", ORIGINAL)
        answer = link(served.client, "/images/a/b?url=True&w=80&lifetime=600000")
        expires = int(parse_qs(urlsplit(answer["url"]).query)["temp_url_expires"][0])
        (entry,) = building.cache.keys(".renditions/a/b@")
        assert building.cache.head(entry.key).expires >= expires


def test_links_outlive_replacement_and_not_deletion(building):
    with building.node() as served:
        client = served.client
        client.put("/images/a/b", ORIGINAL)
        members = {query: link(client, f"/images/a/b?url=True&{query}")["url"] for query in ("w=80", "kind=original")}
        before = {query: fetched(url)[2] for query, url in members.items()}
        assert client.put("/images/a/b", OTHER).status == 200
        assert {query: fetched(url)[2] for query, url in members.items()} == before
        assert before["kind=original"] == ORIGINAL
        assert client.get("/images/a/b?w=80").image().size == (80, 40)
        gone = client.delete("/images/a/b").json()["deleted"]
        assert (gone["original"], gone["record"]) == (1, 1)
        assert gone["cache"] >= 3
        assert [fetched(url)[0] for url in members.values()] == [404, 404]
        assert list(building.cache.keys(".renditions/a/b@")) == []


def test_many_links_at_once(building):
    with building.node() as served:
        for name in ("a/1", "a/2", "b/1"):
            served.client.put(f"/images/{name}", ORIGINAL)
        answer = link(served.client, "/images/a/?url=True&w=40")
        assert [one["name"] for one in answer] == ["a/1", "a/2"]
        assert [fetched(one["url"])[0] for one in answer] == [200, 200]


def test_without_a_key_the_problem_says_what_to_do(swift, container, tmp_path):
    with house(swift, container, tmp_path, url_key_create=False) as building, building.node() as served:
        served.client.put("/images/a/b", ORIGINAL)
        answer = served.client.get("/images/a/b?url=True&w=80")
        assert (answer.status, answer.slug) == (501, "links-not-configured")
        assert "link-key" in answer.json()["detail"]
        building.cache.set_link_key("a key of thirty-two characters!!")
        assert fetched(link(served.client, "/images/a/b?url=True&w=80")["url"])[0] == 200


def test_a_public_endpoint_stands_in_the_url(swift, container, tmp_path):
    with house(swift, container, tmp_path, public_endpoint="https://pictures.example.org") as building:
        with building.node() as served:
            served.client.put("/images/a/b", ORIGINAL)
            url = link(served.client, "/images/a/b?url=True&w=80")["url"]
        assert url.startswith("https://pictures.example.org/v1/AUTH_test/")
        assert fetched(url.replace("https://pictures.example.org", swift.url))[0] == 200


# -- several nodes -------------------------------------------------------------------


def test_a_write_on_one_node_is_seen_by_the_other_in_time(building, postgres):
    shared = sharing(postgres)
    with building.node("one", **shared) as one, building.node("two", **shared) as two:
        assert one.client.put("/images/a/b", ORIGINAL).status == 201
        assert two.client.get("/images/a/b?w=80").image().size == (80, 60)
        assert one.client.put("/images/a/b", OTHER).status == 200
        assert one.client.get("/images/a/b?w=80").image().size == (80, 40)
        took = until(lambda: two.client.get("/images/a/b?w=80").image().size == (80, 40))
        assert took <= building.config.freshness + 0.5
        assert two.client.delete("/images/a/b").status == 200
        assert two.client.get("/images/a/b?w=80").status == 404
        took = until(lambda: one.client.get("/images/a/b?w=80").status == 404)
        assert took <= building.config.freshness + 0.5


def test_what_one_node_rendered_the_other_finds_in_the_cache_container(building):
    with building.node("one") as one, building.node("two") as two:
        one.client.put("/images/a/b", ORIGINAL)
        first = one.client.get("/images/a/b?w=80")
        second = two.client.get("/images/a/b?w=80")
        assert (first.layer, second.layer) == ("rendered", "cache")
        assert (first.body, first.headers["ETag"]) == (second.body, second.headers["ETag"])
        assert first.headers["Last-Modified"] == second.headers["Last-Modified"]
        assert two.client.get("/images/a/b?w=80").layer == "memory"


def test_nodes_with_and_without_caches_make_the_same_bytes(building):
    with building.node("one") as one, building.node("two", **NO_MEMORY) as two:
        one.client.put("/images/a/b", ORIGINAL)
        first = [one.client.get(f"/images/a/b?w={width}").body for width in (30, 60, 90)]
        assert one.client.delete("/images/a/b?derived=True").status == 200
        assert [two.client.get(f"/images/a/b?w={width}").body for width in (30, 60, 90)] == first


def test_two_nodes_that_write_one_name_leave_one_picture(building, postgres):
    shared = sharing(postgres)
    with building.node("one", **shared) as one, building.node("two", **shared) as two:
        for turn in range(5):
            with ThreadPoolExecutor(2) as threads:
                writes = [
                    threads.submit(node.client.put, f"/images/n/{turn}", body, Content_Type=media_type)
                    for node, body, media_type in (
                        (one, ORIGINAL, "image/jpeg"),
                        (two, pictures.png(pictures.photo(60, 40)), "image/png"),
                    )
                ]
                assert {write.result().status for write in writes} <= {200, 201}

            def agreed(name=f"/images/n/{turn}") -> bool:
                originals = [node.client.get(f"{name}?kind=original").body for node in (one, two)]
                return originals[0] == originals[1]

            until(agreed)
            document = one.client.get(f"/images/n/{turn}?meta=True").json()
            now = one.client.get(f"/images/n/{turn}?kind=original").body
            assert document["sha256"] == hashlib.sha256(now).hexdigest()


# -- one container for both ----------------------------------------------------------


def test_the_renditions_may_lie_in_the_container_of_the_originals(swift, container, tmp_path):
    with house(swift, container, tmp_path, one=True) as building:
        with building.node() as served:
            client = served.client
            client.put("/images/a/b", ORIGINAL)
            client.put("/images/c", OTHER)
            body = client.get("/images/a/b?w=80").body
            url = link(client, "/images/a/b?url=True&w=80")["url"]
            assert fetched(url)[2] == body
            assert any(entry.key.startswith(".renditions/a/b@") for entry in building.origin.keys(""))
            assert [image["name"] for image in client.get("/images").json()["images"]] == ["a/b", "c"]
            with zipfile.ZipFile(BytesIO(client.get("/images/?w=20").body)) as archive:
                assert archive.namelist() == ["a/b.jpg", "c.jpg"]
            assert client.get("/images/.renditions/a/b").status == 400
        with building.node("two", **NO_MEMORY) as served:
            answer = served.client.get("/images/a/b?w=80")
            assert (answer.body, answer.layer) == (body, "cache")
            assert served.client.delete("/images/a/b?permanent=True").status == 200
            assert [entry.key for entry in building.origin.keys("")] == [
                ".leases/writer",
                *(entry.key for entry in building.origin.keys(".renditions/c@")),
                "c.jpg",
                "c.json",
            ]


def test_no_record_of_secrets_in_what_the_store_keeps(building):
    """Renditions in the container are as private as those that are served."""
    with building.node() as served:
        served.client.put("/images/a/b", ORIGINAL)
        served.client.get("/images/a/b?w=80")
        for entry in building.cache.keys(".renditions/"):
            with building.cache.get(entry.key) as body:
                assert pictures.SECRET.encode() not in b"".join(body)

"""Many images at once: folders and patterns as zips and lists, pages of the listing, and temporary URLs."""

import http.client
import io
import re
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote

import commands
import pictures
import pytest
from webserver import embedded, serving

from image_repo.config import RenderConfiguration

NAMES = ["plots/a/n", "plots/a/s", "plots/b/n", "single/x", "été/ü"]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    with serving(embedded(folder, serve_originals=True), folder) as served:
        for number, name in enumerate(NAMES):
            path = name.replace("é", "%C3%A9").replace("ü", "%C3%BC")
            assert served.client.put(f"/images/{path}", pictures.jpeg(pictures.photo(64, 48, number))).status == 201
        yield served


@pytest.fixture
def get(served):
    return served.client.get


def members(answer) -> dict[str, bytes]:
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip"), answer.body[:300]
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


@pytest.mark.parametrize(
    ("path", "names"),
    [
        pytest.param("/images/plots/", ["plots/a/n.jpg", "plots/a/s.jpg", "plots/b/n.jpg"], id="all below a folder"),
        pytest.param("/images/plots/?kind=png", ["plots/a/n.png", "plots/a/s.png", "plots/b/n.png"], id="in a kind"),
        pytest.param("/images/plots?regex=n$", ["plots/a/n.jpg", "plots/b/n.jpg"], id="by a pattern below a path"),
        pytest.param(
            "/images/?regex=%5E(plots/a|single)", ["plots/a/n.jpg", "plots/a/s.jpg", "single/x.jpg"], id="from the root"
        ),
        pytest.param("/images/", [f"{name}.jpg" for name in NAMES], id="everything"),
    ],
)
def test_several_images_are_a_zip(get, path, names):
    assert sorted(members(get(path))) == sorted(names)


def test_the_members_are_the_pictures(get):
    zipped = members(get("/images/plots/?w=20&fit=cover&h=20"))
    for name, body in zipped.items():
        assert body == get(f"/images/{name}?w=20&h=20&fit=cover").body


def test_originals_can_be_zipped_where_they_are_served(get):
    zipped = members(get("/images/plots/?kind=original"))
    assert zipped["plots/b/n.jpg"] == pictures.jpeg(pictures.photo(64, 48, 2))


def test_one_match_is_the_picture(get):
    answer = get("/images/single/?w=20")
    assert (answer.headers["Content-Type"], answer.image().size) == ("image/jpeg", (20, 15))


@pytest.mark.parametrize("path", ["/images/nowhere/", "/images/plots?regex=zzz", "/images/plots/?regex=zzz&meta=True"])
def test_no_match_is_not_found(get, path):
    assert get(path).slug == "image-not-found"


def test_the_records_of_many(get):
    records = get("/images/plots/?meta=True").json()
    assert [(record["name"], record["width"]) for record in records] == [(name, 64) for name in NAMES[:3]]


def test_a_list_has_one_item_for_one_match(get):
    assert [record["name"] for record in get("/images/single/?meta=True").json()] == ["single/x"]


def test_the_head_of_a_zip_makes_nothing(served):
    answer = served.client("HEAD", "/images/plots/?w=33")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip")
    assert "Content-Length" not in answer.headers  # nobody knows it yet
    assert served.client.get("/images/plots/a/n?w=33").layer == "rendered"


def test_what_cannot_be_made_is_told_in_the_zip(get, served):
    folder = served.folder / "data" / "mixed"
    folder.mkdir()
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "good.jpg").write_bytes(pictures.jpeg())
    zipped = members(get("/images/mixed/?w=9"))
    assert sorted(zipped) == ["_missing.txt", "mixed/good.jpg"]
    assert zipped["_missing.txt"].startswith(b"mixed/bad.jpg: 415 ")
    listed = get("/images/mixed/?meta=True").json()
    assert [item.get("status") for item in listed] == [415, None]


def test_a_zip_waits_for_its_turn_where_others_are_told_to_come_again(tmp_path):
    config = embedded(tmp_path, render=RenderConfiguration(at_once=1, queue=0))
    with serving(config, tmp_path) as other:
        for name in ("z/a", "z/b"):
            other.client.put(f"/images/{name}", pictures.jpeg(pictures.photo(64, 48)))
        gate, begun, has_asked = other.repo.limiter, threading.Event(), threading.Event()

        def hold():
            with gate.slot(5):
                begun.set()
                has_asked.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        assert begun.wait(5)
        assert other.client.get("/images/z/a?w=9").status == 503
        with ThreadPoolExecutor(1) as pool:
            threading.Timer(0.5, has_asked.set).start()  # long after its first member was refused
            zipped = pool.submit(other.client.get, "/images/z/?w=9")
            assert sorted(members(zipped.result())) == ["z/a.jpg", "z/b.jpg"]
        holder.join()


def test_a_client_that_goes_away_stops_the_zip(served):
    folder = served.folder / "data" / "long"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:03}.jpg").write_bytes(pictures.jpeg(pictures.photo(640, 480, number % 3)))
    connection = http.client.HTTPConnection(served.client.host, served.client.port, timeout=10)
    connection.request("GET", "/images/long/?kind=png&w=600")
    connection.getresponse().read(1000)
    connection.close()
    made = served.client.get("/images/long/059?kind=png&w=600")
    assert made.layer == "rendered", "the last member was not made for a client that had gone"


def test_a_bad_recipe_is_told_before_the_zip_begins(get):
    assert get("/images/plots/?xsize=0").slug == "bad-parameter"


# -- links --------------------------------------------------------------------------------


def path_of(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def test_a_link_is_served_as_the_picture(get, served):
    answer = get("/images/plots/a/n?w=30&url=True").json()
    assert answer["name"] == "plots/a/n"
    assert answer["url"].startswith(f"http://127.0.0.1:{served.client.port}/temp/")
    linked, picture = get(path_of(answer["url"])), get("/images/plots/a/n?w=30")
    assert linked.body == picture.body
    assert linked.headers["Content-Type"] == "image/jpeg"
    assert linked.headers["Content-Disposition"] == "inline; filename=\"n.jpg\"; filename*=UTF-8''n.jpg"
    assert linked.headers["X-Content-Type-Options"] == "nosniff"
    assert get(path_of(answer["url"]), Range="bytes=0-9").body == picture.body[:10]
    assert served.client("HEAD", path_of(answer["url"])).headers["Content-Length"] == str(len(picture.body))


def test_a_link_to_an_original(get):
    answer = get("/images/plots/a/n?kind=original&url=True").json()
    assert get(path_of(answer["url"])).body == pictures.jpeg(pictures.photo(64, 48, 0))


def test_the_same_request_gives_the_same_url_with_no_work(get):
    first = get("/images/plots/a/s?w=31&url=True").json()
    assert get("/images/plots/a/s?w=31&url=True").json() == first


def test_links_of_many_are_a_list(get):
    links = get("/images/plots/?w=12&url=True").json()
    assert [link["name"] for link in links] == NAMES[:3]
    assert all(get(path_of(link["url"])).image().size == (12, 9) for link in links)


def test_a_link_outlives_the_replacement_of_its_picture_but_not_its_deletion(served):
    client = served.client
    client.put("/images/linked", pictures.jpeg(pictures.photo(64, 48, 50)))
    path = path_of(client.get("/images/linked?w=30&url=True").json()["url"])
    before = client.get(path).body
    client.put("/images/linked", pictures.jpeg(pictures.photo(64, 48, 51)))
    assert client.get(path).body == before
    assert client.get("/images/linked?w=30").body != before
    assert path_of(client.get("/images/linked?w=30&url=True").json()["url"]) != path
    assert client.delete("/images/linked").json()["deleted"]["cache"] == 2
    assert client.get(path).status == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        pytest.param(lambda path: re.sub(r"temp_url_sig=\w+", "temp_url_sig=" + "0" * 64, path), 401, id="signature"),
        pytest.param(lambda path: re.sub(r"temp_url_sig=\w+&", "", path), 401, id="no signature"),
        pytest.param(lambda path: path.replace("temp_url_expires=", "temp_url_expires=9"), 401, id="expiry"),
        pytest.param(lambda path: path.replace("/temp/plots/a/n", "/temp/plots/a/s"), 401, id="path"),
        pytest.param(lambda path: path.replace("size%2830", "size%2831"), 401, id="size"),
        pytest.param(lambda path: path.replace("temp_url_expires=", "temp_url_expires=x"), 401, id="no number"),
    ],
)
def test_an_altered_link_is_refused(get, change, status):
    path = path_of(get("/images/plots/a/n?w=30&url=True").json()["url"])
    assert change(path) != path
    answer = get(change(path))
    assert (answer.status, answer.slug) == (status, "link-refused")
    assert "temp_url" not in answer.json()["instance"]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_link_is_for_reading(served, method):
    path = path_of(served.client.get("/images/plots/a/n?w=30&url=True").json()["url"])
    assert served.client(method, path, b"").status == 405


def test_a_link_expires(tmp_path):
    config = embedded(tmp_path)
    store = replace(config.persistent_store_configuration, url_lifetime_slack=0)
    with serving(replace(config, persistent_store_configuration=store), tmp_path) as other:
        other.client.put("/images/a", pictures.jpeg())
        answer = other.client.get("/images/a?w=9&url=True&lifetime=2").json()
        path = path_of(answer["url"])
        assert other.client.get(path).status == 200
        commands.until(lambda: other.client.get(path).status != 200, "it has expired")
        assert other.client.get(path).slug == "link-expired"


@pytest.mark.parametrize("lifetime", ["0", "-1", "604801", "x"])
def test_a_lifetime_is_bounded(get, lifetime):
    assert get(f"/images/plots/a/n?url=True&lifetime={lifetime}").json()["parameter"] == "lifetime"


def test_links_at_once_are_made_once(served):
    with ThreadPoolExecutor(8) as pool:
        links = list(pool.map(lambda _: served.client.get("/images/plots/a/n?w=57&url=True").json(), range(8)))
    assert len({link["url"] for link in links}) == 1


def test_a_folder_holds_nothing_of_one_that_is_called_as_it_is_quoted(served):
    client = served.client
    for path in ("/images/q%20r/a", "/images/q%2520r/b"):
        assert client.put(path, pictures.jpeg()).status == 201
    for path, name in (("/images/q%20r/", "q r/a"), ("/images/q%2520r/", "q%20r/b")):
        assert [record["name"] for record in client.get(f"{path}?meta=True").json()] == [name]
        assert client.delete(f"/images/{quote(name)}").status == 200

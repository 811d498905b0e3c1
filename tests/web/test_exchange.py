"""``GET /export`` and ``POST /import`` over a socket, and an export as ``datasets`` of Hugging Face loads it."""

import hashlib
import http.client
import io
import json
import os
import subprocess
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pictures
import pytest
from commands import until
from swiftserved import house
from webserver import embedded, serving

from image_repo.config import CatalogueConfiguration, ServerConfiguration
from image_repo.exchange.zip_writer import stream_zip
from image_repo.web.exchange import MAX_MEMBERS

PICTURE = pictures.jpeg(pictures.photo(24, 16))
NAMES = ["a", "a.jpg", "plots/n", "plots/s", "plots/x.tif", "été/ü", "con"]
ZIP = {"Content_Type": "application/zip"}


def body_of(number: int) -> bytes:
    return pictures.jpeg(pictures.photo(64, 48, number))


def fill(client) -> None:
    for number, name in enumerate(NAMES):
        data = {"n": number, "site": name.partition("/")[0], "tags": [name]}
        parts = ("file", "IMG.JPG", body_of(number)), ("data", None, json.dumps(data).encode())
        assert client.form(f"/images/{quote(name)}.jpg", *parts).status == 201
    words = json.dumps({"only": "words"}), {"Content_Type": "application/json"}
    assert client("PUT", "/images/described", words[0], **words[1]).status == 201


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    with serving(embedded(folder, serve_originals=True), folder) as served:
        fill(served.client)
        yield served


@pytest.fixture
def empty(tmp_path):
    with serving(embedded(tmp_path, serve_originals=True), tmp_path) as served:
        yield served


def unzipped(answer) -> dict[str, bytes]:
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/zip"), answer.body[:300]
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


def lines(members: dict[str, bytes], name: str = "metadata.jsonl") -> list[dict]:
    return [json.loads(line) for line in members[name].splitlines()]


def taken(served, body: bytes, path: str = "/import") -> dict:
    answer = served.client("POST", path, body, **ZIP)
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json"), answer.body[:300]
    return answer.json()


def counts(report: dict) -> dict[str, int]:
    numbers = {name: number for name, number in report.items() if name != "entries"}
    assert sum(numbers.values()) == len(report["entries"])
    return {name: number for name, number in numbers.items() if number}


# -- out ------------------------------------------------------------------------------------


def test_everything_and_in_again_loses_nothing(served, empty):
    made = served.client.get("/export?kind=original")
    members = unzipped(made)
    assert sorted(members) == sorted(
        ["a.jpg", "a.jpg.jpg", "plots/n.jpg", "plots/s.jpg", "plots/x.tif.jpg", "été/ü.jpg", "%63on.jpg",
         "descriptions.jsonl", "metadata.jsonl"]
    )  # fmt: skip
    assert counts(taken(empty, made.body)) == {"stored": 8}
    for number, name in enumerate(NAMES):
        path = f"/images/{quote(name)}.jpg"
        assert empty.client.get(f"{path}?kind=original").body == body_of(number)
        ours, theirs = (each.client.get(f"{path}?meta=True").json() for each in (served, empty))
        assert {name: ours[name] for name in ("name", "data", "sha256", "filename")} == {
            name: theirs[name] for name in ("name", "data", "sha256", "filename")
        }
    assert empty.client.get("/images/described?meta=True").json()["data"] == {"only": "words"}
    assert counts(taken(empty, made.body)) == {"unchanged": 8}
    again = empty.client.get("/export?kind=original")
    assert {n: b for n, b in unzipped(again).items() if not n.endswith("l")} == {
        n: b for n, b in members.items() if not n.endswith("l")
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param("site=plots", ["plots/n.jpg", "plots/s.jpg", "plots/x.tif.jpg"], id="by data"),
        pytest.param("n__gte=5", ["été/ü.jpg", "%63on.jpg"], id="by a number"),
        pytest.param("regex=%5Ea", ["a.jpg", "a.jpg.jpg"], id="by a pattern"),
        pytest.param(
            "text=plots&kind=png", ["plots/n.png", "plots/s.png", "plots/x.tif.png"], id="by words, in a kind"
        ),
        pytest.param("data.kind=none", [], id="by data that is called like a parameter"),
        pytest.param("w=7", [], id="an alias is a filter here"),
    ],
)
def test_what_a_filter_means(served, query, names):
    members = unzipped(served.client.get(f"/export?{query}"))
    assert sorted(set(members) - {"metadata.jsonl"}) == sorted(names)
    assert sorted(line["file_name"] for line in lines(members)) == sorted(names)


def test_a_picture_is_as_everywhere_unless_it_is_said_how(served):
    get = served.client.get
    assert unzipped(get("/export?site=a"))["a.jpg"] == get("/images/a").body
    members = unzipped(get("/export?site=a&xsize=20&ysize=20&fit=cover&kind=webp&quality=50"))
    assert members["a.webp"] == get("/images/a?xsize=20&ysize=20&fit=cover&kind=webp&quality=50").body
    assert unzipped(get("/export?site=a&thumbnail=True"))["a.jpg"] == get("/images/a?thumbnail=True").body
    (line,) = lines(members)
    assert (line["width"], line["height"], line["media_type"]) == (20, 20, "image/webp")
    assert line["sha256"] == hashlib.sha256(members["a.webp"]).hexdigest()


def test_lines_are_in_the_order_that_is_asked_for(served):
    members = unzipped(served.client.get("/export?n__exists=True&sort=-n&thumbnail=True"))
    assert [line["data"]["n"] for line in lines(members)] == [6, 5, 4, 3, 2, 1, 0]


def test_the_same_export_has_the_same_bytes(served):
    assert served.client.get("/export?xsize=9").body == served.client.get("/export?xsize=9").body


def test_a_zip_of_nothing_is_a_zip(served):
    assert unzipped(served.client.get("/export?site=nowhere")) == {"metadata.jsonl": b""}


def test_an_export_is_saved_and_never_kept(served):
    answer = served.client.get("/export?site=a")
    assert answer.headers["Content-Disposition"] == "attachment; filename=\"images.zip\"; filename*=UTF-8''images.zip"
    assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert answer.headers["Content-Length"] is None


def test_the_head_of_an_export_makes_nothing(served):
    answer = served.client("HEAD", "/export?xsize=33")
    assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, "application/zip", b"")
    assert served.client.get("/images/a?xsize=33").layer == "rendered"


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("xsize=0", "xsize"),
        ("kind=exe", "kind"),
        ("xsiz=3", "xsiz"),
        ("xsize=3&xsize=3", "xsize"),
        ("format=pdf", "format"),
        ("regex=(", "regex"),
        ("limit=3", "limit"),
        ("sort=", "sort"),
    ],
)
def test_what_is_wrong_is_told_before_the_zip_begins(served, query, parameter):
    answer = served.client.get(f"/export?{query}")
    assert (answer.status, answer.json()["parameter"]) == (400, parameter)


def test_keys_that_no_record_has_are_named_in_a_header(served):
    assert (
        served.client.get("/export?sitte=a&müll=b".replace("ü", "%C3%BC")).headers["X-Unknown-Keys"]
        == "sitte, m%C3%BCll"
    )
    assert "X-Unknown-Keys" not in served.client.get("/export?site=a").headers


def test_originals_are_exported_where_they_are_served(tmp_path):
    with serving(embedded(tmp_path), tmp_path) as private:
        private.client.put("/images/a", PICTURE)
        answer = private.client.get("/export?kind=original")
        assert (answer.status, answer.slug) == (403, "originals-not-served")
        assert "serve_originals: true" in answer.json()["detail"]
        (line,) = lines(unzipped(private.client.get("/export")))
        assert line["file_name"] == "a.jpg"


def test_an_export_needs_a_catalogue_that_is_whole(tmp_path):
    config = embedded(tmp_path, catalogue=CatalogueConfiguration(enabled=False))
    with serving(config, tmp_path) as other:
        assert other.client.get("/export").slug == "catalogue-disabled"
        assert counts(taken(other, zipped(("a.jpg", PICTURE)))) == {"stored": 1}


def test_an_export_does_not_lack_what_the_catalogue_lacks_as_yet(empty):
    empty.client.put("/images/a", PICTURE)
    empty.repo.indexer.index.keep_note("rebuilding", "0.5")
    answer = empty.client.get("/export")
    assert (answer.status, answer.slug, answer.headers["Retry-After"]) == (503, "catalogue-unavailable", "5")


def test_what_cannot_be_made_is_told_in_the_zip(empty):
    empty.client.put("/images/good", PICTURE)
    empty.client.put("/images/bad", PICTURE)
    (empty.folder / "data" / "bad.jpg").write_bytes(b"no picture any more")
    members = unzipped(empty.client.get("/export?kind=png"))
    assert sorted(members) == ["_missing.txt", "descriptions.jsonl", "good.png", "metadata.jsonl"]
    assert members["_missing.txt"].startswith(b"bad: 415 ")


def test_a_client_that_goes_away_leaves_nothing(served):
    for number in range(30):
        served.client.put(f"/images/long/{number:02}", pictures.jpeg(pictures.photo(640, 480, number % 3)))
    connection = http.client.HTTPConnection(served.client.host, served.client.port, timeout=10)
    connection.request("GET", "/export?regex=%5Elong/&kind=png&xsize=600")
    connection.getresponse().read(1000)
    connection.close()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("export")], "the export has ended")
    made = served.client.get("/images/long/29?kind=png&xsize=600")
    assert made.layer == "rendered", "the last member was not made for a client that had gone"
    for _ in range(6):
        assert served.client.get("/export?site=a").status == 200, "its place is free again"
    for number in range(30):
        served.client.delete(f"/images/long/{number:02}")


@pytest.mark.parametrize("made", ["coco", "camtrap", "croissant"])
def test_formats_lie_beside_the_pictures_and_it_is_taken_back_all_the_same(served, empty, made):
    answer = served.client.get(f"/export?format={made}&kind=original")
    members = unzipped(answer)
    plain = set(unzipped(served.client.get("/export?kind=original")))
    assert set(members) > plain
    report = counts(taken(empty, answer.body))
    labels = {"annotations.json", "labels.json", "datapackage.json", "deployments.csv", "media.csv", "observations.csv"}
    others = len(set(members) - plain - labels)
    assert report == ({"stored": 8, "skipped": others} if others else {"stored": 8})


# -- in -------------------------------------------------------------------------------------


def zipped(*members: tuple[str, bytes]) -> bytes:
    return b"".join(stream_zip((name, 0.0, body) for name, body in members))


def jsonl(*documents) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in documents)


def test_each_entry_is_reported(empty):
    empty.client.put("/images/there", PICTURE)
    report = taken(
        empty,
        zipped(
            ("new.jpg", PICTURE),
            ("there.jpg", PICTURE),
            ("notes.txt", b"text"),
            ("../up.jpg", PICTURE),
            ("descriptions.jsonl", jsonl({"name": "words", "data": {}})),
        ),
    )
    assert report["entries"][:2] == [
        {"entry": "new.jpg", "name": "new", "status": "stored"},
        {"entry": "there.jpg", "name": "there", "status": "unchanged"},
    ]
    skipped, failed, words = report["entries"][2:]
    assert (skipped["status"], skipped["problem"]["type"]) == ("skipped", "/problems/not-a-picture")
    assert (failed["status"], failed["problem"]["status"]) == ("failed", 400)
    assert words == {"entry": "descriptions.jsonl:1", "name": "words", "status": "stored"}
    assert counts(report) == {"stored": 2, "unchanged": 1, "skipped": 1, "failed": 1}


def test_as_a_form(empty):
    answer = empty.client.form("/import?prefix=p", ("file", "x.zip", zipped(("a.jpg", PICTURE))))
    assert (answer.status, answer.json()["entries"][0]["name"]) == (200, "p/a")


def test_a_large_form(empty):
    """Larger than what is kept in memory: the file must not end with its request."""
    noise = [(f"{number}.bin", os.urandom(300_000)) for number in range(10)]
    answer = empty.client.form("/import", ("file", "x.zip", zipped(*noise, ("a.jpg", PICTURE))))
    assert counts(answer.json()) == {"skipped": 10, "stored": 1}


def test_an_archive_of_nothing(empty):
    assert counts(taken(empty, zipped())) == {}


@pytest.mark.parametrize(
    ("body", "headers", "status", "slug"),
    [
        pytest.param(b"no zip", ZIP, 422, "broken-archive", id="no zip"),
        pytest.param(b"", ZIP, 400, "bad-body", id="nothing"),
        pytest.param(PICTURE, {"Content_Type": "image/jpeg"}, 415, "unsupported-media-type", id="a picture"),
        pytest.param(b"{}", {"Content_Type": "application/json"}, 415, "unsupported-media-type", id="data"),
        pytest.param(
            zipped(),
            {**ZIP, "Repr_Digest": "md5=:AAAAAAAAAAAAAAAAAAAAAA==:"},
            400,
            "digest-mismatch",
            id="another digest",
        ),
    ],
)
def test_what_is_no_archive_is_refused(empty, body, headers, status, slug):
    answer = empty.client("POST", "/import", body, **headers)
    assert (answer.status, answer.slug) == (status, slug)


@pytest.mark.parametrize("query", ["prefx=a", "prefix=a&prefix=b", "prefix=../a", "prefix=%2Fa"])
def test_a_bad_prefix_is_refused(empty, query):
    answer = empty.client("POST", f"/import?{query}", zipped(("a.jpg", PICTURE)), **ZIP)
    assert answer.status == 400
    assert empty.client.get("/images").json()["count"] == 0


def test_an_archive_that_is_too_large_is_refused(tmp_path):
    config = embedded(tmp_path, server=replace(ServerConfiguration(), max_upload=200_000))
    with serving(config, tmp_path) as small:
        body = zipped(("a.bin", os.urandom(300_000)))
        assert small.client("POST", "/import", body, **ZIP).status == 413
        assert small.client("POST", "/import", iter([body]), Transfer_Encoding="chunked", **ZIP).status == 413


def test_an_import_is_told_while_it_goes_on_and_ends_with_its_client(empty):
    body = zipped(*((f"{number:03}.jpg", body_of(number)) for number in range(120)))
    connection = http.client.HTTPConnection(empty.client.host, empty.client.port, timeout=10)
    connection.request("POST", "/import", body, {"Content-Type": "application/zip"})
    response = connection.getresponse()
    assert json.loads(response.readline().removeprefix(b'{"entries":[').rstrip(b",\n"))["status"] == "stored"
    connection.close()
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("import")], "the import has ended")
    stored = empty.client.get("/images?limit=1&count=exact").json()["count"]
    assert 1 <= stored <= 120
    assert counts(taken(empty, body)) == {
        name: number for name, number in (("stored", 120 - stored), ("unchanged", stored)) if number
    }


def test_imports_at_once_are_bounded(empty):
    """Each holds its place until its answer is read."""
    body = zipped(*((f"{number:05}.bin", b"no picture") for number in range(20_000)))
    waiting = []
    try:
        for _ in range(4):
            connection = http.client.HTTPConnection(empty.client.host, empty.client.port, timeout=30)
            connection.request("POST", "/import", body, {"Content-Type": "application/zip"})
            waiting.append((connection, connection.getresponse()))
        refused = empty.client("POST", "/import", zipped(), **ZIP)
        assert (refused.status, refused.slug) == (503, "busy")
    finally:
        for connection, response in waiting:
            response.close()
            connection.close()
    until(lambda: empty.client("POST", "/import", zipped(), **ZIP).status == 200, "places are free again")


# -- on Swift ---------------------------------------------------------------------------------


@pytest.mark.servers
def test_it_is_the_same_on_swift(served, swift, container, tmp_path):
    made = served.client.get("/export?kind=original")
    many = zipped(("descriptions.jsonl", jsonl(*({"name": f"d/{n:03}", "data": {"n": n}} for n in range(100)))))
    with house(swift, container, tmp_path) as building, building.node() as node:
        assert counts(taken(node, made.body)) == {"stored": 8}
        assert counts(taken(node, made.body)) == {"unchanged": 8}
        assert counts(taken(node, many)) == {"stored": 100}
        assert counts(taken(node, many)) == {"unchanged": 100}
        changed = zipped(("descriptions.jsonl", jsonl({"name": "a", "data": {"n": 99}}, {"name": "d/007", "data": {}})))
        assert counts(taken(node, changed)) == {"replaced": 2}
        members = unzipped(node.client.get("/export?kind=original&n__exists=True"))
        assert members["plots/n.jpg"] == body_of(2)
        assert {line["name"]: line["data"]["n"] for line in lines(members)}["a"] == 99
        assert len(lines(members, "descriptions.jsonl")) == 99


# -- as others load it ------------------------------------------------------------------------

LOAD = """
import json, sys
import datasets
loaded = datasets.load_dataset("imagefolder", data_files=sys.argv[1], cache_dir=sys.argv[2], split="train")
print(json.dumps([{**row, "image": [*row["image"].size, row["image"].format]} for row in loaded], default=str))
"""


def loaded(path: Path | str, folder: Path) -> list[dict]:
    """What ``datasets`` makes of it: the rows, pictures as width, height and format."""
    default = Path(__file__).resolve().parents[2] / ".tests" / "formats" / "bin" / "python"
    python = os.environ.get("IMAGE_REPO_TEST_FORMATS", str(default))
    assert Path(python).exists(), f"{python} is missing: run `make test`, or set IMAGE_REPO_TEST_FORMATS"
    offline = {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
    ended = subprocess.run(
        [python, "-c", LOAD, str(path), str(folder / "cache")],
        check=False, capture_output=True, text=True, timeout=100, env={**os.environ, **offline},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout)


@pytest.mark.servers
def test_datasets_loads_an_export(served, tmp_path):
    (tmp_path / "all.zip").write_bytes(served.client.get("/export?n__exists=True&xsize=32").body)
    rows = loaded(tmp_path / "all.zip", tmp_path)
    assert sorted(row["name"] for row in rows) == sorted(NAMES)
    assert {tuple(row["image"]) for row in rows} == {(32, 24, "JPEG")}
    assert {row["name"]: row["data"]["tags"] for row in rows} == {name: [name] for name in NAMES}


@pytest.mark.servers
def test_datasets_loads_an_export_packed_and_unpacked_whatever_its_data_and_folders(empty, tmp_path):
    data = [{"n": 1, "site": "a"}, {"n": "one"}, {"n": [1, {"deep": None}]}, {}, {"file_name": "nowhere.jpg"}]
    for number, each in enumerate(data):
        parts = ("file", "x.jpg", body_of(number)), ("data", None, json.dumps(each).encode())
        assert empty.client.form(f"/images/test/train/{number}", *parts).status == 201
    empty.client("PUT", "/images/words", "{}", Content_Type="application/json")
    packed = tmp_path / "all.zip"
    packed.write_bytes(empty.client.get("/export").body)
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path / "unpacked")
    for path in (packed, tmp_path / "unpacked" / "**"):
        rows = {row["name"]: json.loads(row["data"]) for row in loaded(path, tmp_path)}
        assert rows == {f"test/train/{n}": d for n, d in enumerate(data)}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(["text", '"quoted"', "[1]"], id="text alone"),
        pytest.param([[1, 2], [3]], id="lists alone"),
        pytest.param([{"a": 1}, "text", [1], 0, "", False, [], 1.5, {}], id="everything"),
    ],
)
def test_data_that_is_no_object_makes_the_round_trip(tmp_path, data):
    for each in ("one", "two"):
        (tmp_path / each).mkdir()
    with serving(embedded(tmp_path / "one", serve_originals=True), tmp_path / "one") as one:
        for number, each in enumerate(data):
            parts = ("file", "x.jpg", body_of(number)), ("data", None, json.dumps(each).encode())
            assert one.client.form(f"/images/p{number}", *parts).status == 201
            one.client("PUT", f"/images/d{number}", json.dumps(each).encode(), Content_Type="application/json")
        packed = one.client.get("/export?kind=original").body
        before = one.client.get("/images?select=name,data,sha256").json()["images"]
    with serving(embedded(tmp_path / "two"), tmp_path / "two") as two:
        assert counts(taken(two, packed)) == {"stored": 2 * len(data)}
        assert two.client.get("/images?select=name,data,sha256").json()["images"] == before
        assert counts(taken(two, packed)) == {"unchanged": 2 * len(data)}


@pytest.mark.servers
def test_datasets_loads_data_that_is_text(empty, tmp_path):
    for number in range(3):
        parts = ("file", "x.jpg", body_of(number)), ("data", None, json.dumps(f"said {number}").encode())
        assert empty.client.form(f"/images/{number}", *parts).status == 201
    (tmp_path / "all.zip").write_bytes(empty.client.get("/export").body)
    rows = loaded(tmp_path / "all.zip", tmp_path)
    assert [json.loads(row["data"]) for row in rows] == ["said 0", "said 1", "said 2"]


def test_lines_are_bounded_as_members_are_and_nothing_is_stored(empty):
    lines = b"{}\n" * MAX_MEMBERS + b'{"file_name":"a.jpg","data":{}}\n'
    body = b"".join(stream_zip([("a.jpg", 0.0, PICTURE), ("metadata.jsonl", 0.0, lines)]))
    answer = empty.client("POST", "/import", body, **ZIP)
    assert answer.status == 422, answer.body[:300]
    assert answer.json()["detail"].startswith(f"'metadata.jsonl': At most {MAX_MEMBERS} lines of metadata.jsonl")
    assert empty.client("GET", "/images/a.jpg").status == 404

"""Snapshots: canonical lines, the Merkle root, freezing, and what is told of images later."""

import hashlib
import io
import json
import math
import re
import shutil
import struct
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import commands
import pictures
import pytest
from hypothesis import given
from hypothesis import strategies as st
from swiftserved import house, sharing
from threats import is_clean_problem
from webserver import embedded, serving

from image_repo.access.principal import ADMIN
from image_repo.catalogue.query import Filter
from image_repo.cli import checks as verbs
from image_repo.config import CatalogueConfiguration
from image_repo.errors import OriginalDamaged
from image_repo.model.names import ImageName
from image_repo.repository.manifest import Header, Tree, canonical
from image_repo.repository.snapshots import Snapshots

DOCUMENT = Path(__file__).parents[2] / "docs" / "snapshots.md"

# -- canonical JSON ---------------------------------------------------------------------------

#: RFC 8785, appendix B: the bits of a double, and how it is written
NUMBERS = {
    "0000000000000000": "0", "8000000000000000": "0", "0000000000000001": "5e-324", "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308", "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992", "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000", "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23", "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000", "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21", "3eb0c6f7a0b5ed8c": "9.999999999999997e-7", "3eb0c6f7a0b5ed8d": "0.000001",
    "3eb0c6f7a0b5ed8e": "0.0000010000000000000002", "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325", "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334", "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333", "43143ff3c1cb0959": "1424953923781206.2",
}  # fmt: skip


@pytest.mark.parametrize(("bits", "text"), NUMBERS.items(), ids=NUMBERS.values())
def test_numbers_are_written_as_rfc_8785_says(bits, text):
    assert canonical(struct.unpack(">d", bytes.fromhex(bits))[0]) == text.encode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"), (-1.50, "-1.5"), (2**53, "9007199254740992"), (2**53 + 1, "9007199254740993"),
        (-(2**64), "-18446744073709551616"), (10**20, "100000000000000000000"), (10**21, "1e+21"), (10**300, "1e+300"),
        (10**400, "1" + "0" * 400), (True, "true"), (None, "null"), ([], "[]"), ({}, "{}"),
    ],
)  # fmt: skip
def test_values_that_are_equal_are_written_alike(value, text):
    assert canonical(value).decode() == text


def test_text_and_members_are_written_as_rfc_8785_says():
    value = {"\u20ac": '$\u000f\nA\'\u0042"\\\\"/', "\r": 1, "\ufb33": 2, "1": 3, "\U0001f600": 4, "\x80": 5, "ö": 6}
    text = canonical(value).decode()
    assert [list(json.loads(text).values()), text[:8]] == [[1, 3, 5, 6, '$\u000f\nA\'B"\\\\"/', 4, 2], '{"\\r":1,']
    assert '"$\\u000f\\nA\'B\\"\\\\\\\\\\"/"' in text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=10,
)  # fmt: skip


def same(one, other):
    """As JSON, whose numbers are doubles."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) in (int, float) and type(other) in (int, float):
        return float(one) == float(other)
    return type(one) is type(other) and one == other


@given(_JSON)
def test_what_is_canonical_means_the_same_and_stays_so(value):
    encoded = canonical(value)
    assert same(json.loads(encoded), value)
    assert canonical(json.loads(encoded)) == encoded
    assert b"\n" not in encoded


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800"])
def test_what_is_no_json_has_no_form(value):
    with pytest.raises(ValueError):
        canonical([value])


# -- the tree ---------------------------------------------------------------------------------

#: of Certificate Transparency's own tests (transparency-dev/merkle, "testonly")
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("count", range(9))
def test_roots_are_those_of_certificate_transparency(count):
    tree = Tree()
    for leaf in LEAVES[:count]:
        tree.add(leaf)
    assert (tree.count, tree.root()) == (count, ROOTS[count])


def root_of(lines: list[bytes]) -> str:
    """RFC 6962, section 2.1, word by word."""

    def made(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return hashlib.sha256(b"\x00" + part[0]).digest()
        k = 1
        while 2 * k < len(part):
            k *= 2
        return hashlib.sha256(b"\x01" + made(part[:k]) + made(part[k:])).digest()

    return made(lines).hex()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 63, 64, 65, 1000])
def test_a_root_is_what_the_rfc_says_whatever_the_number(count):
    lines, tree = [b"%d" % number for number in range(count)], Tree()
    for line in lines:
        tree.add(line)
    assert tree.root() == root_of(lines)


# -- freezing ---------------------------------------------------------------------------------


def put(client, name, seed=0, **data):
    body = pictures.jpeg(pictures.photo(40, 30, seed))
    path = f"/images/{quote(name)}"
    answer = client.form(path, ("file", "a.jpg", body), ("data", None, json.dumps(data).encode()))
    assert answer.status in (200, 201), answer.body
    return body


def freeze(client, query=""):
    return client("POST", f"/snapshots{query}")


def manifest(client, snapshot_id):
    answer = client.get(f"/snapshots/{snapshot_id}")
    assert answer.status == 200
    header, *lines = answer.body.split(b"\n")
    assert lines.pop() == b""
    return json.loads(header), lines


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("snapshots")
    with serving(embedded(folder, freshness=0.0, serve_originals=True), folder) as served:
        for number in range(6):
            put(served.client, f"p/{number}", number, n=number, half=number / 2, tags=["a", {"b": None}])
        served.client("PUT", "/images/p/said", b'{"n":3}', Content_Type="application/json")
        yield served


@pytest.fixture
def client(served):
    return served.client


@pytest.fixture
def alone(tmp_path):
    with serving(embedded(tmp_path, freshness=0.0, serve_originals=True), tmp_path) as alone:
        yield alone


def test_a_query_is_frozen_with_a_root_that_anybody_can_make_again(client):
    answer = freeze(client, "?n__gte=2&n__lt=5")
    document = answer.json()
    assert (answer.status, document["count"], document["filter"]) == (201, 3, "n__gte=2&n__lt=5")
    assert answer.headers["Location"] == f"/snapshots/{document['id']}"
    header, lines = manifest(client, document["id"])
    assert header == {
        **{name: document[name] for name in ("id", "merkle_root", "created", "filter", "count")},
        "snapshot": 1,
    }
    assert root_of(lines) == document["id"] == document["merkle_root"]
    records = [client.get(f"/images/p/{number}?meta=True").json() for number in (2, 3, 4)]
    members = ("name", "sha256", "bytes", "media_type", "width", "height", "data")
    assert [json.loads(line) for line in lines] == [{name: record[name] for name in members} for record in records]
    # the same lines, made by other hands: nothing here needs more of RFC 8785 than sorting
    assert lines == [
        json.dumps(json.loads(line), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        for line in lines
    ]


def test_descriptions_are_no_pictures(client):
    assert client.get("/images?n=3").json()["count"] == 2
    assert freeze(client, "?n=3").json()["count"] == 1
    answer = freeze(client, "?name=p/said")
    assert (answer.status, answer.slug) == (404, "image-not-found")


def test_the_same_images_with_the_same_data_are_the_same_snapshot(client):
    first, second = freeze(client, "?n=1"), freeze(client, "?name=p/1")
    assert (first.status, second.status) == (201, 200)
    assert second.json() == first.json(), "of two filters, the first stays"
    client("PATCH", "/images/p/1", b'{"more":1}', Content_Type="application/json")
    third = freeze(client, "?n=1")
    assert (third.status, third.json()["id"] != first.json()["id"]) == (201, True)
    client("PATCH", "/images/p/1", b'{"more":null}', Content_Type="application/json")
    assert freeze(client, "?n=1").json() == first.json()


def test_the_same_collection_has_the_same_name_in_another_container(tmp_path):
    names = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        with serving(embedded(folder), folder) as served:
            for name in ("b", "a/z", "a b", "ä") if folder.name == "one" else ("ä", "a b", "a/z", "b"):
                put(served.client, name, len(name), x=1.0, y=name)
            names.append(freeze(served.client).json()["id"])
    assert names[0] == names[1]


def test_entries_stand_by_the_code_points_of_their_names(alone):
    names = ["a", "a b", "a-b", "a.b", "a/b", "aa", "B", "~", "é", "\uff21", "\U0001f4f7", "日本", "sha256"]
    for number, name in enumerate(names):
        put(alone.client, name, number)
    _, lines = manifest(alone.client, freeze(alone.client).json()["id"])
    assert [json.loads(line)["name"] for line in lines] == sorted(names)


def test_what_another_tool_put_there_is_read_and_what_is_no_picture_is_counted(alone):
    put(alone.client, "ours")
    body = pictures.jpeg(pictures.photo(50, 20, 3), gps=True)
    (alone.folder / "data" / "theirs.jpg").write_bytes(body)
    (alone.folder / "data" / "broken.jpg").write_bytes(body[:300])
    index = alone.repo.indexer.index
    for name in ("theirs", "broken"):
        assert index.stamps([name]) == {}
        alone.repo.metadata.reindex(ImageName(name))  # as a listing tells of it: nothing is read
    snapshot = freeze(alone.client, "?exif=True").json()
    assert (snapshot["count"], snapshot["left_out"], snapshot["filter"]) == (2, 1, "")
    _, lines = manifest(alone.client, snapshot["id"])
    theirs = json.loads(lines[1])
    assert (theirs["name"], theirs["sha256"], theirs["width"]) == ("theirs", hashlib.sha256(body).hexdigest(), 50)
    assert "latitude" not in theirs["exif"]


def test_what_the_camera_wrote_is_kept_only_where_it_is_asked_for(alone):
    body = pictures.jpeg(pictures.photo(40, 30), camera=True, gps=True)
    alone.client.put("/images/c", body)
    without, with_it = freeze(alone.client).json(), freeze(alone.client, "?exif=1").json()
    assert without["id"] != with_it["id"]
    exif = [json.loads(manifest(alone.client, each["id"])[1][0]).get("exif") for each in (without, with_it)]
    assert exif[0] is None
    assert exif[1] == alone.client.get("/images/c?meta=True").json()["exif"]
    assert "K-1000" in str(exif[1])


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("?limit=3", "limit"), ("?sort=name", "sort"), ("?select=name", "select"), ("?exif=perhaps", "exif"),
     ("?n__regex=(", "n__regex"), ("?regex=(%3F=a)", "regex"), ("?nn__ne=1", "nn"), ("?exif=1&exif=1", "exif")],
)  # fmt: skip
def test_what_is_no_filter_is_refused_by_name(client, query, parameter):
    answer = freeze(client, query)
    assert (answer.status, answer.json()["parameter"]) == (400, parameter)
    is_clean_problem(answer)


def test_a_filter_is_told_as_it_can_be_asked_again(client):
    snapshot = freeze(client, "?name__regex=%5Ep/[45]&half__lt=9&text=a").json()
    assert client.get(f"/images?{snapshot['filter']}").json()["count"] == snapshot["count"] == 2
    odd = freeze(client, "?n__ne=" + quote('a\r\nX: y&ü="')).json()
    assert odd["filter"].isascii()
    assert freeze(client, f"?{odd['filter']}").status == 200


# -- serving ----------------------------------------------------------------------------------


def test_a_manifest_is_served_for_ever(alone):
    for number in range(3):
        put(alone.client, f"p/{number}", number)
    snapshot = freeze(alone.client).json()
    path = f"/snapshots/{snapshot['id']}"
    before = alone.client.get(path)
    for number in range(3):
        assert alone.client.delete(f"/images/p/{number}").status == 200
    after = alone.client.get(path)
    assert after.body == before.body
    assert (len(after.body), hashlib.sha256(after.body).hexdigest()) == (snapshot["bytes"], snapshot["sha256"])
    assert after.headers["ETag"] == f'"{snapshot["sha256"]}"'
    assert after.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert after.headers["Content-Type"] == "application/jsonl"
    assert after.headers["Repr-Digest"].startswith("sha-256=:")
    assert alone.client.get(path, If_None_Match=after.headers["ETag"]).status == 304
    assert alone.client.get(path, Range="bytes=2-9").body == before.body[2:10]
    head = alone.client("HEAD", path)
    assert (head.status, head.headers["Content-Length"], head.body) == (200, str(snapshot["bytes"]), b"")
    assert alone.client.get(path + "?meta=True").json() == snapshot
    assert alone.client.delete(path).status == 405


@pytest.mark.parametrize(
    "path", ["x", "0" * 63, "0" * 64, "A" * 64, "0" * 64 + ".json", "../x", "..%2f" + "0" * 64, "%00"]
)
def test_what_is_no_snapshot_is_not_found(client, path):
    for query in ("", "?meta=1", "?check=1"):
        answer = client.get(f"/snapshots/{path}{query}")
        assert answer.status in (400, 404)
        is_clean_problem(answer)
    exported = client.get(f"/export?snapshot={path}")
    assert (exported.status, exported.slug) == (404, "snapshot-not-found")


def test_a_list_of_snapshots_begins_with_the_newest(alone):
    made = []
    for number in range(5):
        put(alone.client, f"p/{number}", number)
        made.append(freeze(alone.client).json())
    freeze(alone.client)
    first = alone.client.get("/snapshots?limit=2")
    assert first.json() == {"count": 5, "page": 1, "limit": 2, "pages": 3, "snapshots": [made[4], made[3]]}
    address = re.fullmatch('<(.*)>; rel="next"', first.headers["Link"])[1]
    assert alone.client.get(address).json()["snapshots"] == [made[2], made[1]]
    last = alone.client.get("/snapshots?limit=2&page=3")
    assert (last.json()["snapshots"], last.headers["Link"]) == ([made[0]], None)
    for query in ("limit=0", "limit=1001", "page=0", "skip=-1", "skip=1&page=1", "sort=created"):
        assert alone.client.get(f"/snapshots?{query}").status == 400


def test_without_a_catalogue_nothing_is_frozen_but_all_is_served(tmp_path):
    with serving(embedded(tmp_path, freshness=0.0, serve_originals=True), tmp_path) as served:
        body = put(served.client, "a")
        snapshot = freeze(served.client).json()
    config = embedded(tmp_path, freshness=0.0, serve_originals=True, catalogue=CatalogueConfiguration(enabled=False))
    with serving(config, tmp_path) as served:
        assert freeze(served.client).slug == "catalogue-disabled"
        assert manifest(served.client, snapshot["id"])[0]["count"] == 1
        assert served.client.get("/snapshots").json()["snapshots"] == [snapshot]
        assert served.client.get(f"/snapshots/{snapshot['id']}?check=1").json()["ok"] is True
        exported = served.client.get(f"/export?snapshot={snapshot['id']}&kind=original")
        assert zipfile.ZipFile(io.BytesIO(exported.body)).read("a.jpg") == body


def test_a_snapshot_shows_no_image(client):
    before = client.get("/images").json()["count"]
    snapshot = freeze(client).json()
    assert client.get("/images").json()["count"] == before
    assert client.get(f"/images/.snapshots/{snapshot['id']}").slug == "bad-name"
    assert snapshot["id"] not in client.get("/images/?meta=True").body.decode()


# -- what became of it ------------------------------------------------------------------------


def check(client, snapshot_id):
    return client.get(f"/snapshots/{snapshot_id}?check=True").json()


def test_what_is_missing_or_changed_is_named(alone):
    client = alone.client
    bodies = [put(client, f"p/{number}", number, n=number) for number in range(5)]
    snapshot = freeze(client).json()
    assert check(client, snapshot["id"]) == {"id": snapshot["id"], "count": 5, "changes": [], "ok": True}
    client.delete("/images/p/0")
    put(client, "p/1", 77)
    (alone.folder / "data" / "p" / "2.jpg").write_bytes(pictures.jpeg(pictures.photo(9, 9, 5)))  # another tool
    (alone.folder / "data" / "p" / "3.jpg").write_bytes(b"no picture at all")
    client("PATCH", "/images/p/4", b'{"n":99}', Content_Type="application/json")  # its picture is the same
    names = [("p/0", "missing"), ("p/1", "changed"), ("p/2", "changed"), ("p/3", "changed")]
    changes = [{"name": name, "is": how} for name, how in names]
    assert check(client, snapshot["id"]) == {"id": snapshot["id"], "count": 5, "changes": changes, "ok": False}
    for number in range(4):
        client.put(f"/images/p/{number}", bodies[number])
    assert check(client, snapshot["id"])["ok"] is True, "the very bytes are there again"


def test_a_content_address_is_missing_though_its_bytes_are_there_under_another_name(alone):
    body = put(alone.client, "other")
    name = f"sha256:{hashlib.sha256(body).hexdigest()}"
    alone.client("POST", "/images", body, Content_Type="image/jpeg")
    snapshot = freeze(alone.client, f"?name={name}").json()
    alone.client.delete(f"/images/{name}")
    assert alone.client.get(f"/images/{name}").status == 200, "any image with these bytes is found by it"
    assert check(alone.client, snapshot["id"])["changes"] == [{"name": name, "is": "missing"}]
    assert "_missing.txt" in members(exported(alone.client, snapshot["id"]))


# -- exporting --------------------------------------------------------------------------------


def exported(client, snapshot_id, query="&kind=original"):
    answer = client.get(f"/export?snapshot={snapshot_id}{query}")
    assert answer.status == 200, answer.body
    return answer.body


def members(body):
    archive = zipfile.ZipFile(io.BytesIO(body))
    return {name: archive.read(name) for name in archive.namelist()}


def test_an_export_of_a_snapshot_has_the_same_bytes_every_time(alone):
    client = alone.client
    bodies = {
        name: put(client, name, number, n=number, focus=[0.1, 0.2]) for number, name in enumerate(("x", "y/z", "ü"))
    }
    snapshot = freeze(client).json()
    queries = ("&kind=original", "&xsize=20&kind=png", "&xsize=10&ysize=20&fit=cover")
    before = {query: exported(client, snapshot["id"], query) for query in queries}
    exports = members(before["&kind=original"])
    assert {name: exports[f"{name}.jpg"] for name in bodies} == bodies
    lines = [json.loads(line) for line in exports["metadata.jsonl"].splitlines()]
    assert [(line["name"], line["data"]["n"]) for line in lines] == [("x", 0), ("y/z", 1), ("ü", 2)]
    put(client, "another", 9)
    put(client, "x", 0, n="other")  # the same bytes, uploaded again with other data
    client("PATCH", "/images/y/z", b'{"n":5,"focus":[0.9,0.9]}', Content_Type="application/json")
    assert {query: exported(client, snapshot["id"], query) for query in queries} == before


def test_an_export_names_what_it_lacks(alone):
    client = alone.client
    for number in range(3):
        put(client, f"p/{number}", number)
    snapshot = freeze(client).json()
    client.delete("/images/p/0")
    put(client, "p/1", 50)
    exports = members(exported(client, snapshot["id"]))
    assert [name for name in exports if name.endswith(".jpg")] == ["p/2.jpg"]
    missing = exports["_missing.txt"].decode().splitlines()
    assert [line.partition(":")[0] for line in missing] == ["p/0", "p/1"]
    assert ("404" in missing[0], "409" in missing[1]) == (True, True)


@pytest.mark.parametrize("query", ["&n=1", "&sort=n", "&text=a"])
def test_a_snapshot_is_exported_whole(client, query):
    answer = client.get(f"/export?snapshot={freeze(client).json()['id']}{query}")
    assert (answer.status, answer.json()["parameter"]) == (400, "snapshot")


def test_the_command_line_exports_a_snapshot_with_the_same_bytes(alone, tmp_path):
    folder = tmp_path / "command"
    folder.mkdir()
    put(alone.client, "x/y", 1, n=1)
    put(alone.client, "z", 2)
    snapshot = freeze(alone.client).json()
    alone.client.delete("/images/z")
    settings = {"kind": "disk", "path": str(alone.folder / "data")}
    config = commands.configure(folder, persistent_store_configuration=settings)
    output = folder / "out.zip"
    done = commands.run("export", "-y", config, f"snapshot={snapshot['id']}", "-o", output)
    assert output.read_bytes() == exported(alone.client, snapshot["id"]), done.stderr
    assert (done.returncode != 0, "_missing.txt" in done.stderr) == (True, True)


# -- trouble ----------------------------------------------------------------------------------


def files(served, snapshot_id):
    folder = served.folder / "data" / ".snapshots"
    return folder / f"{snapshot_id}.jsonl%", folder / f"{snapshot_id}.json"


def test_what_ended_before_it_was_told_of_is_no_snapshot_until_it_is_frozen_again(alone):
    put(alone.client, "a")
    first = freeze(alone.client).json()
    lines, about = files(alone, first["id"])
    about.unlink()
    assert alone.client.get(f"/snapshots/{first['id']}").status == 404
    assert alone.client.get("/snapshots").json()["count"] == 0
    again = freeze(alone.client, "?name=a")
    assert (again.status, again.json()) == (201, first), "what is told of it is made from the manifest that is there"
    about.unlink()
    lines.write_bytes(b"half of i")
    third = freeze(alone.client, "?name=a")
    assert (third.status, third.json()["filter"]) == (201, "name=a")
    assert root_of(manifest(alone.client, first["id"])[1]) == first["id"]


def test_a_rotten_manifest_is_never_served_and_frozen_again_it_is_as_it_was(alone):
    put(alone.client, "a")
    snapshot = freeze(alone.client).json()
    whole = alone.client.get(f"/snapshots/{snapshot['id']}").body
    lines, _ = files(alone, snapshot["id"])
    lines.write_bytes(whole.replace(b'"width":40', b'"width":41'))
    for query in ("", "?check=1"):
        answer = alone.client.get(f"/snapshots/{snapshot['id']}{query}")
        assert (answer.status, answer.slug) == (500, "original-damaged")
    assert list(verbs.check_artifacts_and_snapshots(alone.config, alone.repo)) == [
        f".snapshots/{snapshot['id']}.json: The manifest of this snapshot is not what was stored."
    ]
    with pytest.raises(OriginalDamaged):
        list(Snapshots(alone.repo).documents(ADMIN, Snapshots(alone.repo).get(ADMIN, snapshot["id"])))
    lines.unlink()
    assert alone.client.get(f"/snapshots/{snapshot['id']}").slug == "original-damaged"
    assert freeze(alone.client, "?name=a").json() == snapshot
    assert alone.client.get(f"/snapshots/{snapshot['id']}").body == whole


def test_nothing_is_frozen_of_a_catalogue_that_is_still_being_made(alone):
    put(alone.client, "a")
    alone.repo.indexer.index.keep_note("rebuilding", "0.41")
    answer = freeze(alone.client)
    assert (answer.status, answer.slug, answer.headers["Retry-After"]) == (503, "catalogue-unavailable", "5")
    alone.repo.indexer.index.keep_note("rebuilding", None)
    assert freeze(alone.client).status == 201


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"id":1}', b'{"id":"x","created":1}', b"[" * 9000, b"\xff"])
def test_what_is_no_header_is_none(text):
    with pytest.raises(ValueError):
        Header.load(text)


def test_images_that_change_while_they_are_frozen_are_each_as_they_were_at_some_moment(alone):
    client = alone.client
    for number in range(30):
        put(client, f"p/{number:02}", number, turn=0)
    ended = threading.Event()

    def change():
        turn = 0
        while not ended.is_set():
            turn += 1
            for number in range(0, 30, 7):
                body = json.dumps({"turn": turn, "twice": 2 * turn}).encode()
                client("PATCH", f"/images/p/{number:02}", body, Content_Type="application/json")
            client.delete("/images/p/03")

    with ThreadPoolExecutor(1) as pool:
        changing = pool.submit(change)
        made = [freeze(client).json() for _ in range(5)]
        ended.set()
        changing.result()
    for snapshot in made:
        _, lines = manifest(client, snapshot["id"])
        entries = [json.loads(line) for line in lines]
        assert root_of(lines) == snapshot["id"]
        assert len(entries) == len({entry["name"] for entry in entries}) in (29, 30)
        assert all(entry["data"].get("twice", 0) == 2 * entry["data"]["turn"] for entry in entries)


def test_a_copy_of_the_container_has_its_snapshots(alone, tmp_path_factory):
    put(alone.client, "a")
    snapshot = freeze(alone.client).json()
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(alone.folder / "data", folder / "data")
    shutil.rmtree(folder / "data" / ".image_repo")
    with serving(embedded(folder, serve_originals=True), folder) as other:
        assert manifest(other.client, snapshot["id"])[0]["id"] == snapshot["id"]
        assert check(other.client, snapshot["id"])["ok"] is True
        assert exported(other.client, snapshot["id"]) == exported(alone.client, snapshot["id"])


# -- the document -----------------------------------------------------------------------------


def fenced(kind):
    return re.findall(rf"```{kind}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


def test_the_example_of_the_document_is_right(tmp_path):
    (example,), (tree,), (program,) = fenced("jsonl"), fenced("text"), fenced("python")
    header, *lines = example.encode().splitlines()
    leaves = [hashlib.sha256(b"\0" + line).digest() for line in lines]
    node = hashlib.sha256(b"\1" + leaves[0] + leaves[1]).digest()
    root = hashlib.sha256(b"\1" + node + leaves[2]).hexdigest()
    assert [line.split()[-1] for line in tree.splitlines()] == [*(leaf.hex() for leaf in leaves), node.hex(), root]
    assert json.loads(header)["id"] == root == root_of(lines)
    assert [canonical(json.loads(line)) for line in lines] == lines
    assert [json.loads(line)["sha256"] for line in lines] == [
        hashlib.sha256(word).hexdigest() for word in (b"one", b"two", b"three")
    ]
    (tmp_path / "verify.py").write_text(program)
    for text, verdict in ((example, "good"), (example.replace("Lynx", "Felis"), "NOT")):
        (tmp_path / "manifest").write_text(text)
        command = [sys.executable, "-W", "ignore", tmp_path / "verify.py", tmp_path / "manifest"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith(verdict)


def test_the_program_of_the_document_takes_what_is_served(client, tmp_path):
    snapshot = freeze(client).json()
    (tmp_path / "manifest").write_bytes(client.get(f"/snapshots/{snapshot['id']}").body)
    (tmp_path / "verify.py").write_text(fenced("python")[0])
    command = [sys.executable, "-W", "ignore", tmp_path / "verify.py", tmp_path / "manifest"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "good\n"


def test_the_digests_of_an_unpacked_export_are_verified_as_the_document_says(client, tmp_path):
    zipfile.ZipFile(io.BytesIO(exported(client, freeze(client).json()["id"]))).extractall(tmp_path)
    command = next(line for line in fenced("sh")[-1].splitlines() if "sha256sum" in line)
    verified = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stdout.count(": OK")) == (0, 6), verified.stderr


# -- many nodes -------------------------------------------------------------------------------


@pytest.mark.servers
def test_nodes_that_freeze_the_same_at_once_make_one(swift, postgres, container, tmp_path):
    shared = sharing(postgres)
    with (
        house(swift, container, tmp_path) as swifts,
        swifts.node(**shared) as one,
        swifts.node("two", **shared) as two,
    ):
        for number in range(4):
            put(one.client, f"p/{number}", number, n=number)
        for number in range(4):
            two.repo.metadata.reindex(ImageName(f"p/{number}"))
        start = threading.Barrier(2)

        def run(node, query):
            start.wait()
            return freeze(node.client, query)

        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(run, (one, two), ("", "?n__gte=0")))
        bodies = [answer.json() for answer in made]
        assert {answer.status for answer in made} <= {200, 201}
        assert bodies[0]["id"] == bodies[1]["id"]
        for node in (one, two):
            body = node.client.get(f"/snapshots/{bodies[0]['id']}").body
            about = node.client.get(f"/snapshots/{bodies[0]['id']}?meta=1").json()
            assert hashlib.sha256(body).hexdigest() == about["sha256"]
            assert node.client.get("/snapshots").json()["snapshots"] == [about]
            assert check(node.client, about["id"])["ok"] is True
        assert exported(one.client, about["id"]) == exported(two.client, about["id"])
        swifts.proxy.fail("refuse")
        try:
            assert one.client.get(f"/snapshots/{about['id']}").slug == "store-unavailable"
            assert freeze(one.client, "?n=1").slug == "store-unavailable"
        finally:
            swifts.proxy.heal()


#: numbers that engines keep in their own ways, and members in an order of their own
ODD_DATA = {
    "whole": 2**60 + 1, "one": 1.0, "huge": 1e300, "tiny": 1.5e-7, "zero": -0.0, "third": 1 / 3, "beyond": 2**70,
    "z": {"b": [True, None, "\u2028", {"\U0001f4f7": 1, "\uff21": 2}], "a": ""}, "a": [], "é": "\x7f\\/\"", "": 0,
}  # fmt: skip


@pytest.mark.servers
def test_the_engines_freeze_the_same_under_the_same_name(postgres, tmp_path):
    names = ["a", "a b", "a/b", "aa", "B", "é", "\uff21", "\U0001f4f7", "日本"]
    made = []
    for engine in (None, postgres):
        folder = tmp_path / ("server" if engine else "embedded")
        folder.mkdir()
        with serving(embedded(folder, catalogue=CatalogueConfiguration(url=engine)), folder) as served:
            for number, name in enumerate(names):
                put(served.client, name, number, **ODD_DATA)
            snapshot = freeze(served.client, "?z.b=true").json()
            made.append((snapshot["id"], manifest(served.client, snapshot["id"])[1]))
    assert made[0] == made[1]
    assert [json.loads(line)["name"] for line in made[0][1]] == sorted(names)
    assert all(same(json.loads(line)["data"], ODD_DATA) for line in made[0][1])


def test_only_one_is_frozen_at_a_time(alone):
    put(alone.client, "a")
    quick = replace(alone.repo.limits, wait=0.05)
    alone.repo.metadata._limits = quick
    with alone.repo.metadata.lock(ImageName(".snapshots")):
        answer = freeze(alone.client)
    assert (answer.status, answer.slug) == (503, "busy")
    assert Snapshots(alone.repo).freeze(ADMIN, Filter(), "").new

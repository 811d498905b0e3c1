"""Artifacts over HTTP: stored, given back byte by byte, and what hostile senders try."""

import base64
import hashlib
import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from urllib.parse import quote

import pictures
import pytest
from swiftserved import house, sharing
from threats import is_clean_problem, is_guarded
from webserver import embedded, serving

from image_repo.config import CatalogueConfiguration, ServerConfiguration
from image_repo.repository.metadata import MAX_NESTING, MOST_DATA

MOST = 3 << 20


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    config = embedded(folder, freshness=0.0, serve_originals=True, server=ServerConfiguration(max_upload=MOST))
    with serving(config, folder) as served:
        yield served


@pytest.fixture
def client(served):
    return served.client


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def digest(body: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


def post(client, body, query="", **headers):
    members = {"Content_Type": "application/octet-stream", **headers}
    return client("POST", f"/artifacts{query}", body, **{k: v for k, v in members.items() if v is not None})


def path_of(body: bytes) -> str:
    return f"/artifacts/sha256:{sha256(body)}"


# -- there and back ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"\0", b"a,b\n1,2\n", b"\xff\xfe\0\r\n--c\r\n", os.urandom(2_000_000)],
    ids=["nothing", "NUL", "a table", "what looks like a form", "two megabytes"],
)
def test_exactly_the_bytes_that_were_sent_come_back(client, body):
    answer = client.form('/artifacts?kind=model&meta={"epoch":3}', ("file", "m.bin", body))
    assert (answer.status, answer.json()) == (
        201, {"artifact_id": f"sha256:{sha256(body)}", "kind": "model", "bytes": len(body)},
    )  # fmt: skip
    assert answer.headers["Location"] == path_of(body)
    got = client.get(answer.headers["Location"])
    assert (got.status, got.body) == (200, body)
    assert got.headers["Repr-Digest"] == f"sha-256=:{digest(body)}:"
    assert got.headers["ETag"] == f'"{sha256(body)}"'
    assert got.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert got.headers["Content-Disposition"] == "attachment; filename=\"m.bin\"; filename*=UTF-8''m.bin"
    assert got.headers["Content-Length"] == str(len(body))
    is_guarded(got)


def test_a_raw_body_is_an_artifact_too(client):
    body = b"raw bytes"
    assert post(client, body, "?kind=log", Content_Type="text/plain; charset=utf-8").status == 201
    assert client.get(path_of(body)).headers["Content-Type"] == "text/plain; charset=utf-8"
    record = client.get(path_of(body) + "?meta=True").json()
    assert (record.pop("uploaded")[-1], record) == (
        "Z",
        {
            "artifact_id": f"sha256:{sha256(body)}", "kind": "log", "bytes": 9,
            "media_type": "text/plain; charset=utf-8", "filename": None, "meta": {},
        },
    )  # fmt: skip


def test_what_curl_sends_without_being_told_is_bytes(client):
    body = b"a=1&b=2"
    assert post(client, body, Content_Type="application/x-www-form-urlencoded").json()["kind"] == "file"
    got = client.get(path_of(body))
    assert (got.body, got.headers["Content-Type"]) == (body, "application/octet-stream")


def test_kind_and_meta_may_be_parts_of_the_form(client):
    body = b"in a form"
    answer = client.form("/artifacts", ("kind", None, b"mask"), ("meta", None, b'{"a":[1,null]}'), ("file", "f", body))
    assert (answer.status, answer.json()["kind"]) == (201, "mask")
    assert client.get(path_of(body) + "?meta=1").json()["meta"] == {"a": [1, None]}


def test_the_same_bytes_are_one_artifact_and_what_was_said_last_stays(client):
    body = b"the same"
    first = client.form('/artifacts?kind=a&meta={"x":{"y":1,"z":2},"n":null}', ("file", "one.csv", body))
    before = client.get(path_of(body) + "?meta=1").json()
    again = client.form('/artifacts?kind=b&meta={"x":{"y":null},"w":3}', ("file", "two.csv", body))
    assert (first.status, again.status) == (201, 200)
    assert again.json() == {**first.json(), "kind": "b"}
    after = client.get(path_of(body) + "?meta=1").json()
    assert before["meta"] == {"x": {"y": 1, "z": 2}, "n": None}
    assert after == {**before, "kind": "b", "filename": "two.csv", "meta": {"x": {"z": 2}, "n": None, "w": 3}}
    assert post(client, body).status == 200
    assert client.get(path_of(body) + "?meta=1").json() == after, "what is not said stays"


def test_an_artifact_is_deleted_and_may_come_again(client):
    body = b"short-lived"
    post(client, body, '?meta={"a":1}')
    gone = client.delete(path_of(body))
    assert (gone.status, gone.json()) == (
        200, {"artifact_id": f"sha256:{sha256(body)}", "deleted": {"artifact": 1, "record": 1}},
    )  # fmt: skip
    for answer in (client.get(path_of(body)), client.get(path_of(body) + "?meta=1"), client.delete(path_of(body))):
        assert (answer.status, answer.slug) == (404, "artifact-not-found")
    assert post(client, body).status == 201
    assert client.get(path_of(body) + "?meta=1").json()["meta"] == {}


NO_ARTIFACTS = {
    "nothing": "", "a word": "x", "no digest": "sha256:", "no hex": "sha256:" + "g" * 64,
    "too short": "sha256:" + "a" * 63, "too long": "sha256:" + "a" * 65, "upper case": "sha256:" + "A" * 64,
    "without its prefix": "a" * 64, "another digest": "md5:" + "a" * 32, "a record": "sha256:" + "a" * 64 + ".json",
    "NUL": "%00", "a line feed": "sha256:" + "a" * 64 + "%0a", "a path": "sha256:" + "a" * 64 + "/x",
}  # fmt: skip


@pytest.mark.parametrize("path", NO_ARTIFACTS.values(), ids=NO_ARTIFACTS)
def test_what_is_no_artifact_is_not_found(client, path):
    for method in ("GET", "DELETE"):
        answer = client(method, f"/artifacts/{path}")
        assert (answer.status, answer.slug) == (404, "artifact-not-found")
        is_clean_problem(answer)
    assert client("HEAD", f"/artifacts/{path}").status == 404


def test_an_image_is_no_artifact_and_an_artifact_no_image(client, served):
    picture = pictures.jpeg(pictures.photo(40, 30, 5))
    client.put("/images/only", picture)
    assert client.get(path_of(picture)).slug == "artifact-not-found"
    other = pictures.jpeg(pictures.photo(40, 30, 6))
    assert client.form("/artifacts", ("file", "x.jpg", other)).status == 201
    assert client.get(f"/images/sha256:{sha256(other)}").status == 404
    assert client.get(f"/images/.artifacts/sha256/{sha256(other)}").slug == "bad-name"
    assert sha256(other) not in client.get("/images").body.decode()
    assert sha256(other) not in client.get("/images/?meta=True").body.decode()
    assert client.get(path_of(other)).body == other


# -- conditions and ranges --------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored_artifact(served):
    body = bytes(range(256)) * 100
    assert served.client.form("/artifacts?kind=k", ("file", "r.bin", body)).status == 201
    return body


def test_who_has_it_gets_nothing(client, stored_artifact):
    answer = client.get(path_of(stored_artifact), If_None_Match=f'"other", "{sha256(stored_artifact)}"')
    assert (answer.status, answer.body) == (304, b"")
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert client.get(path_of(stored_artifact), If_None_Match='"other"').status == 200


@pytest.mark.parametrize(("byte_range", "part"), [("bytes=0-9", slice(0, 10)), ("bytes=-7", slice(-7, None)),
                                             ("bytes=25000-", slice(25000, None))])  # fmt: skip
def test_a_range_has_the_digest_of_the_whole(client, stored_artifact, byte_range, part):
    answer = client.get(path_of(stored_artifact), Range=byte_range)
    assert (answer.status, answer.body) == (206, stored_artifact[part])
    assert answer.headers["Repr-Digest"] == f"sha-256=:{digest(stored_artifact)}:"


def test_a_range_that_is_not_there(client, stored_artifact):
    answer = client.get(path_of(stored_artifact), Range="bytes=99999999-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(stored_artifact)}")


def test_a_range_only_of_the_same_bytes(client, stored_artifact):
    assert (
        client.get(path_of(stored_artifact), Range="bytes=0-9", If_Range=f'"{sha256(stored_artifact)}"').status == 206
    )
    assert client.get(path_of(stored_artifact), Range="bytes=0-9", If_Range='"other"').status == 200


def test_head_tells_what_get_would(client, stored_artifact):
    got, head = client.get(path_of(stored_artifact)), client("HEAD", path_of(stored_artifact))
    assert (head.status, head.body) == (200, b"")
    unlike = ("Date",)
    assert [h for h in head.headers.items() if h[0] not in unlike] == [
        h for h in got.headers.items() if h[0] not in unlike
    ]


def test_a_record_has_an_entity_tag_of_its_own(client, stored_artifact):
    first = client.get(path_of(stored_artifact) + "?meta=True")
    assert first.headers["ETag"] != client.get(path_of(stored_artifact)).headers["ETag"]
    assert client.get(path_of(stored_artifact) + "?meta=True", If_None_Match=first.headers["ETag"]).status == 304
    post(client, stored_artifact, '?meta={"new":1}')
    assert client.get(path_of(stored_artifact) + "?meta=True", If_None_Match=first.headers["ETag"]).status == 200


# -- digests of the sender --------------------------------------------------------------------

BODY = b"with a digest"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Repr_Digest": f"sha-256=:{digest(BODY)}:"}, 201),
        ({"Repr_Digest": f"md5=:{digest(BODY, 'md5')}:, sha-512=:{digest(BODY, 'sha512')}:"}, 201),
        ({"Content_MD5": digest(BODY, "md5")}, 201),
        ({"Repr_Digest": f"sha-256=:{digest(b'other')}:"}, 400),
        ({"Repr_Digest": f"sha-256=:{digest(BODY)}:, md5=:{digest(b'other', 'md5')}:"}, 400),
        ({"Content_MD5": digest(b"other", "md5")}, 400),
        ({"Repr_Digest": "sha-256=abc"}, 400),
    ],
    ids=["right", "two right ones", "right, MD5", "wrong", "one of two wrong", "wrong, MD5", "no digest at all"],
)  # fmt: skip
def test_the_digests_of_the_sender_are_verified(client, headers, status):
    for send in (
        lambda: post(client, BODY, **headers),
        lambda: client.form("/artifacts", ("file", "f", BODY), **headers),
    ):
        client.delete(path_of(BODY))
        answer = send()
        assert answer.status == status
        assert client.get(path_of(BODY)).status == (200 if status == 201 else 404)


# -- hostile ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["", "a b", "a/b", "a\r\nSet-Cookie: x=1", "ü", "x" * 65, "a;b", "a\n", "５", "a\0", "<b>"]
)
def test_a_bad_kind_is_refused_by_name(client, kind):
    body = b"bad kind"
    for answer in (
        post(client, body, f"?kind={quote(kind, safe='')}"),
        client.form("/artifacts", ("kind", None, kind.encode()), ("file", "f", body)),
    ):
        assert (answer.status, answer.slug, answer.json()["parameter"]) == (400, "bad-parameter", "kind")
        is_clean_problem(answer)
    assert client.get(path_of(body)).status == 404


def nested(levels):
    return '{"a":' * levels + "1" + "}" * levels


@pytest.mark.parametrize(
    ("meta", "status"),
    {
        "nothing": ("", 400),
        "no JSON": ("{a:1}", 400),
        "a list": ("[1]", 400),
        "a number": ("1", 400),
        "NaN": ('{"a":NaN}', 400),
        "a number that no double holds": ('{"a":1e999}', 400),
        "half a surrogate pair": ('{"a":"\\ud800"}', 400),
        "one level too deep": (nested(MAX_NESTING + 1), 400),
        "100,000 levels": (nested(100_000), 400),
        "too much": (json.dumps({"a": "x" * MOST_DATA}), 413),
    }.values(),
    ids=lambda value: value[:20] if isinstance(value, str) else str(value),
)
def test_bad_meta_is_refused_by_name(client, meta, status):
    body = b"bad meta"
    answer = client.form("/artifacts", ("meta", None, meta.encode()), ("file", "f", body))
    assert (answer.status, answer.json()["parameter"]) == (status, "meta")
    is_clean_problem(answer)
    assert client.get(path_of(body)).status == 404


def test_meta_does_not_grow_beyond_its_bounds_by_being_merged(client):
    body, half = b"growing", "x" * (MOST_DATA // 2)
    assert (
        client.form("/artifacts", ("meta", None, json.dumps({"a": half}).encode()), ("file", "f", body)).status == 201
    )
    answer = client.form("/artifacts", ("meta", None, json.dumps({"b": half}).encode()), ("file", "f", body))
    assert (answer.status, answer.json()["parameter"]) == (413, "meta")
    assert client.get(path_of(body) + "?meta=1").json()["meta"] == {"a": half}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [("?knd=a", "knd"), ("?kind=a&kind=b", "kind"), ("?meta={}&meta={}", "meta"), ("?xsize=1", "xsize")],
)
def test_parameters_are_known_and_said_once(client, query, parameter):
    answer = post(client, b"x", query)
    assert (answer.status, answer.json()["parameter"]) == (400, parameter)


def test_what_is_said_in_the_query_and_in_the_form_is_said_twice(client):
    answer = client.form("/artifacts?kind=a", ("kind", None, b"b"), ("file", "f", b"twice"))
    assert (answer.status, answer.json()["parameter"]) == (400, "kind")


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [("kind", None, b"a")],
        [("file", "a", b"1"), ("file", "b", b"2")],
        [("other", "a", b"1")],
        [("file", "a", b"1"), ("site", None, b"2")],
    ],
    ids=["nothing", "no file", "two files", "another part", "a part that means nothing"],
)
def test_a_form_has_one_file(client, parts):
    answer = client.form("/artifacts", *parts)
    assert (answer.status, answer.slug) == (400, "bad-body")


def test_an_empty_body_is_a_slip(client):
    assert post(client, b"").slug == "bad-body"


@pytest.mark.parametrize(
    ("sent", "media_type"),
    [
        ("text/html", "text/html"),
        ("image/svg+xml", "image/svg+xml"),
        ("text/html;charset=utf-7", "text/html;charset=utf-7"),
        ("text/html, text/plain", "application/octet-stream"),
        ("text", "application/octet-stream"),
        ("téxt/html", "application/octet-stream"),
        ('text/html; x="a b"', "application/octet-stream"),
        ("a/" + "b" * 500, "application/octet-stream"),
    ],
)
def test_whatever_it_is_called_it_never_runs(client, sent, media_type):
    body = b"<script>alert(1)</script>" + sent.encode()
    assert post(client, body, Content_Type=sent.encode().decode("latin-1")).status == 201
    got = client.get(path_of(body))
    assert (got.headers["Content-Type"], got.body) == (media_type, body)
    assert got.headers["Content-Disposition"].startswith("attachment; ")
    is_guarded(got)


@pytest.mark.parametrize(
    ("sent", "filename"),
    {
        "a path": ("../../etc/passwd", "passwd"),
        "a path of Windows": ("C:\\\\x\\\\evil.exe", "evil.exe"),
        "a parameter": ("a; filename=evil.html", "a%3B%20filename%3Devil.html"),
        "control characters": ("a\x01\x7fb.txt", "ab.txt"),
        "another script": ("Größe.csv", "Gr%C3%B6%C3%9Fe.csv"),
        "written from right to left": ("a\u202egpj.exe", "agpj.exe"),
        "long": ("n" * 300, "n" * 200),
        "folders alone": ("a/", None),
    }.values(),
)
def test_file_names_are_harmless(client, sent, filename):
    body = b"named " + sent.encode()
    assert client.form("/artifacts", ("file", sent, body)).status == 201
    got = client.get(path_of(body))
    assert got.headers["Content-Disposition"].endswith(f"; filename*=UTF-8''{filename or sha256(body)}")


@pytest.mark.parametrize("extra", [1, 3 << 20], ids=["a byte too many", "twice as many"])
def test_too_many_bytes_are_refused_and_leave_nothing(client, served, extra):
    body = bytes(MOST + extra)
    for answer in (
        post(client, body),
        client.form("/artifacts", ("file", "f", body)),
        post(client, iter([body]), Transfer_Encoding="chunked"),
    ):
        assert answer.status == 413
        is_clean_problem(answer)
    assert client.get(path_of(body)).status == 404
    assert list((served.folder / "shared").glob("tmp*")) == []


def test_as_many_bytes_as_may_be(client):
    body = os.urandom(MOST)
    assert client.form("/artifacts", ("file", "f", body)).status == 201
    assert client.get(path_of(body)).body == body


def test_a_length_of_ten_terabytes_is_refused_at_once(served):
    with socket.create_connection((served.client.host, served.client.port), timeout=10) as connection:
        connection.sendall(b"POST /artifacts HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000000\r\n\r\nabc")
        assert connection.recv(4096).split(b" ")[1] == b"413"


def test_many_senders_of_the_same_bytes_make_one(served):
    body, start = os.urandom(200_000), threading.Barrier(8)

    def send(number):
        start.wait()
        return served.client.form(f'/artifacts?kind=k{number}&meta={{"n{number}":{number}}}', ("file", "f", body))

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(send, range(8)))
    assert sorted(answer.status for answer in made) == [200] * 7 + [201]
    record = served.client.get(path_of(body) + "?meta=1").json()
    assert record["meta"] == {f"n{number}": number for number in range(8)}
    assert served.client.get(path_of(body)).body == body
    folder = served.folder / "data" / ".artifacts" / "sha256"
    assert sorted(path.name for path in folder.glob(f"{sha256(body)}*")) == [f"{sha256(body)}%", f"{sha256(body)}.json"]


# -- bytes that are not what they were --------------------------------------------------------


def blob(served, body):
    return served.folder / "data" / ".artifacts" / "sha256" / f"{sha256(body)}%"


def test_rotten_bytes_are_never_served_and_sent_again_they_are_whole(client, served):
    body = b"to rot" * 100
    post(client, body)
    path = blob(served, body)
    path.write_bytes(b"X" + body[1:])
    answer = client.get(path_of(body))
    assert (answer.status, answer.slug) == (500, "original-damaged")
    assert post(client, body).status == 200
    assert client.get(path_of(body)).body == body


def test_lost_bytes_are_not_found(client, served):
    body = b"to be lost"
    post(client, body)
    blob(served, body).unlink()
    assert client.get(path_of(body)).slug == "artifact-not-found"
    assert client("HEAD", path_of(body)).status == 404
    assert client.delete(path_of(body)).json()["deleted"] == {"artifact": 0, "record": 1}


def test_artifacts_outlive_the_server_and_its_folders(tmp_path):
    body = b"persistent"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with serving(embedded(tmp_path / "one"), tmp_path / "one") as first:
        post(first.client, body, "?kind=model", Content_Type="text/csv")
    config = replace(
        embedded(tmp_path / "two"),
        persistent_store_configuration=embedded(tmp_path / "one").persistent_store_configuration,
    )
    with serving(config, tmp_path / "two") as second:
        got = second.client.get(path_of(body))
        assert (got.body, got.headers["Content-Type"]) == (body, "text/csv")


@pytest.mark.servers
def test_over_a_real_swift(swift, postgres, container, tmp_path):
    shared = sharing(postgres)
    with (
        house(swift, container, tmp_path) as swifts,
        swifts.node(**shared) as one,
        swifts.node("two", **shared) as two,
    ):
        body = os.urandom(1_500_000)
        assert one.client.form('/artifacts?kind=model&meta={"a":1}', ("file", "m.bin", body)).status == 201
        got = two.client.get(path_of(body))
        assert (got.status, got.body) == (200, body)
        assert two.client.get(path_of(body), Range="bytes=5-9").body == body[5:10]
        entry = swifts.origin.head(f".artifacts/sha256/{sha256(body)}")
        assert (entry.size, entry.media_type) == (len(body), "application/octet-stream")
        head = swifts.origin.head(f".artifacts/sha256/{sha256(body)}.json")
        assert head.media_type == "application/vnd.image-repo.artifact+json"
        assert two.client.form('/artifacts?meta={"b":2}', ("file", "m.bin", body)).status == 200
        assert one.client.get(path_of(body) + "?meta=1").json()["meta"] == {"a": 1, "b": 2}
        assert one.client.delete(path_of(body)).status == 200
        assert two.client.get(path_of(body)).status == 404
        assert list(swifts.origin.keys(".artifacts/")) == []


@pytest.mark.servers
def test_a_swift_that_fails_between_bytes_and_record(swift, container, tmp_path):
    with house(swift, container, tmp_path) as swifts, swifts.node() as node:
        body = b"in two steps"
        swifts.origin.put(f".artifacts/sha256/{sha256(body)}", body, media_type="text/plain")
        assert node.client.get(path_of(body)).status == 404, "nobody was told that it is there"
        assert post(node.client, body).status == 201
        assert node.client.get(path_of(body)).body == body
        swifts.proxy.fail("refuse")
        try:
            answer = post(node.client, b"never there")
            assert (answer.status, answer.slug) == (503, "store-unavailable")
            assert node.client.get(path_of(body)).status == 503
        finally:
            swifts.proxy.heal()


# -- pages ------------------------------------------------------------------------------------


def fill(client):
    for number in range(7):
        meta = json.dumps({"epoch": number, "by": {"who": "ann" if number % 2 else "bob"}})
        kind = "model" if number < 5 else "mask"
        parts = ("kind", None, kind.encode()), ("meta", None, meta.encode())
        client.form("/artifacts", *parts, ("file", f"m{number}.bin", bytes(number)))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    with serving(embedded(folder), folder) as served:
        fill(served.client)
        yield served


def ids(*numbers):
    return [f"sha256:{sha256(bytes(number))}" for number in numbers]


def listed(served, query):
    answer = served.client.get(f"/artifacts?{query}")
    assert answer.status == 200, answer.body
    return [each["artifact_id"] for each in answer.json()["artifacts"]]


FOUND = [
    ("kind=mask&sort=epoch", [5, 6]),
    ("epoch__gte=4&sort=-epoch", [6, 5, 4]),
    ("by.who=ann&kind=model&sort=epoch", [1, 3]),
    ("meta.by.who=bob&bytes__lt=3&sort=bytes", [0, 2]),
    ("filename=m3.bin", [3]),
    ("filename__regex=m[12]&sort=filename", [1, 2]),
    ("media_type__ne=text/plain&sort=bytes&limit=2", [0, 1]),
    (f"artifact_id={ids(4)[0]}", [4]),
    (f"regex={ids(4)[0][7:20]}", [4]),
    ("uploaded__gte=2020&sort=-bytes&skip=5", [1, 0]),
    ("kind=none", []),
]


@pytest.mark.parametrize(("query", "numbers"), FOUND, ids=[query for query, _ in FOUND])
def test_artifacts_are_found_by_what_is_said_of_them(many, query, numbers):
    assert listed(many, query) == ids(*numbers)


@pytest.mark.servers
def test_over_postgresql_artifacts_are_found_as_well(postgres, tmp_path):
    with serving(embedded(tmp_path, catalogue=CatalogueConfiguration(url=postgres)), tmp_path) as served:
        fill(served.client)
        assert [listed(served, query) for query, _ in FOUND] == [ids(*numbers) for _, numbers in FOUND]
        served.client.delete(f"/artifacts/{ids(3)[0]}")
        assert listed(served, "kind=model&sort=epoch") == ids(0, 1, 2, 4)


def test_a_page_is_like_a_page_of_images(many):
    answer = many.client.get("/artifacts?limit=3&sort=epoch&select=epoch,kind")
    document = answer.json()
    assert {name: document[name] for name in ("count", "page", "limit", "pages")} == {
        "count": 7, "page": 1, "limit": 3, "pages": 3,
    }  # fmt: skip
    assert document["artifacts"][2]["kind"] == "model"
    assert document["artifacts"][2]["meta"] == {"epoch": 2}
    following = answer.headers["Link"].partition('>; rel="next"')[0].rpartition("<")[2]
    second = many.client.get(following).json()
    assert ([each["meta"]["epoch"] for each in second["artifacts"]], second["page"]) == ([3, 4, 5], 2)


def test_a_page_without_a_filter_holds_everything(many):
    assert listed(many, "") == sorted(ids(*range(7)))
    assert (
        many.client.get(
            "/artifacts?kind=model", If_None_Match=many.client.get("/artifacts?kind=model").headers["ETag"]
        ).status
        == 304
    )


def test_what_is_deleted_is_listed_no_more(many):
    many.client.form("/artifacts?kind=gone", ("file", "f", b"to go"))
    assert len(listed(many, "kind=gone")) == 1
    many.client.delete(path_of(b"to go"))
    assert listed(many, "kind=gone") == []


def test_keys_that_no_artifact_has_are_named(many):
    page = many.client.get("/artifacts?epochs=3&kind=mask").json()
    assert (page["unknown_keys"], page["nearest"]) == (["epochs"], {"epochs": "epoch"})


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "kind__regex=(", "kind__foo=1", "sort=", "bytes=x"])
def test_a_page_that_cannot_be_is_refused(many, query):
    answer = many.client.get(f"/artifacts?{query}")
    assert answer.status == 400
    is_clean_problem(answer)


def test_without_a_catalogue_there_are_artifacts_but_no_pages(tmp_path):
    with serving(embedded(tmp_path, catalogue=CatalogueConfiguration(enabled=False)), tmp_path) as served:
        assert post(served.client, b"alone").status == 201
        assert served.client.get(path_of(b"alone")).body == b"alone"
        answer = served.client.get("/artifacts")
        assert (answer.status, answer.slug) == (501, "catalogue-disabled")
        assert served.client.delete(path_of(b"alone")).status == 200


# -- exact bytes of images --------------------------------------------------------------------


def test_an_original_tells_the_digest_of_its_bytes(client):
    body = pictures.jpeg(pictures.photo(60, 40, 7))
    client.put("/images/exact", body)
    got = client.get("/images/exact?kind=original")
    assert (got.status, got.body) == (200, body)
    assert got.headers["Repr-Digest"] == f"sha-256=:{digest(body)}:"
    assert "immutable" not in got.headers["Cache-Control"], "the name may get another picture"
    part = client.get("/images/exact?kind=original", Range="bytes=3-5")
    assert (part.status, part.body, part.headers["Repr-Digest"]) == (206, body[3:6], got.headers["Repr-Digest"])
    assert "Repr-Digest" not in client.get("/images/exact").headers


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_an_original_under_its_content_address_never_changes(client, ending):
    body = pictures.jpeg(pictures.photo(60, 40, 8))
    made = client("POST", "/images", body, Content_Type="image/jpeg").json()
    got = client.get(f"/images/{made['image_id']}{ending}?kind=original")
    assert (got.body, got.headers["Cache-Control"]) == (body, "public, max-age=31536000, immutable")
    again = client.get(f"/images/{made['image_id']}{ending}?kind=original", If_None_Match=got.headers["ETag"])
    assert (again.status, again.headers["Cache-Control"]) == (304, got.headers["Cache-Control"])
    assert "immutable" not in client.get(f"/images/{made['image_id']}").headers["Cache-Control"], "renditions may"


def test_only_a_whole_content_address_is_one(client):
    body = pictures.jpeg(pictures.photo(60, 40, 9))
    client.put(f"/images/by/sha256:{sha256(body)}", body)
    got = client.get(f"/images/by/sha256:{sha256(body)}?kind=original")
    assert (got.body, "immutable" in got.headers["Cache-Control"]) == (body, False)


# -- conditions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["image", "original", "artifact"])
def test_what_is_wanted_only_as_it_was_is_refused_when_it_is_something_else(client, kind):
    body = pictures.jpeg(pictures.photo(60, 40, 11))
    client.put("/images/wanted", body)
    made = client("POST", "/artifacts", body, Content_Type="image/jpeg").json()
    of_image = {"image": "/images/wanted?w=20", "original": "/images/wanted?kind=original"}
    path = of_image.get(kind) or f"/artifacts/{made['artifact_id']}"
    tag = client.get(path).headers["ETag"]
    for conditions, status in (
        ({"If_Match": '"x"'}, 412),
        ({"If_Match": f"W/{tag}"}, 412),
        ({"If_Match": f'"x", {tag}'}, 200),
        ({"If_Match": "*"}, 200),
        ({"If_Unmodified_Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 412),
        ({"If_Unmodified_Since": "Sat, 01 Jan 2050 00:00:00 GMT"}, 200),
        ({"If_Match": tag, "If_Unmodified_Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 200),
        ({"If_Match": tag, "If_None_Match": tag}, 304),
    ):
        assert client.get(path, **conditions).status == status, conditions
        assert client("HEAD", path, **conditions).status == status, conditions

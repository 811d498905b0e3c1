"""Hostile names, queries, headers and data: refused with a reason, or a name like any other."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import pictures
import pytest
import threats
from PIL import Image
from threats import is_clean_problem, is_guarded, takes_at_most
from webserver import Client, Served, embedded, serving

PICTURE = pictures.jpeg(pictures.photo(96, 64))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("hostile")
    with serving(embedded(folder, serve_originals=True), folder) as running:
        assert running.client.put("/images/a", PICTURE).status == 201
        assert running.client.put("/images/below/b", PICTURE).status == 201
        assert running.client.put("/images/below/c", PICTURE).status == 201
        yield running


@pytest.fixture(scope="module")
def client(served: Served) -> Client:
    return served.client


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# -- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("path", threats.NO_NAMES.values(), ids=list(threats.NO_NAMES))
def test_what_is_no_name_is_refused_whatever_is_to_be_done_with_it(served: Served, method: str, path: str) -> None:
    before = files_of(served.folder / "data")
    answer = served.client(method, f"/images/{path}", PICTURE if method in ("PUT", "POST") else None)
    assert answer.status == 400
    if method != "HEAD":
        is_clean_problem(answer, str(served.folder))
        assert answer.slug == "bad-name"
    assert files_of(served.folder / "data") == before


@pytest.mark.parametrize("name", threats.ODD_NAMES.values(), ids=list(threats.ODD_NAMES))
def test_what_only_looks_like_an_attack_is_a_name_like_any_other(served: Served, name: str) -> None:
    path = "/images/odd/" + quote(name, safe="/") if len(name) < 690 else "/images/" + name
    text = threats.composed(unquote(path.removeprefix("/images/")))
    created = served.client.put(path, PICTURE)
    assert (created.status, created.json()["name"]) == (201, text)
    assert unquote(created.headers["Location"].removeprefix("/images/")) == text
    got = served.client.get(f"{path}?w=20")
    assert (got.status, got.image().size) == (200, (20, 13))
    is_guarded(got)
    assert served.client.get(f"{path}?meta=True").json()["name"] == text
    outside = [path for path in served.folder.parent.iterdir() if path != served.folder]
    assert all(path.name != "x" for path in outside)
    assert served.client.delete(path).json()["name"] == text
    assert served.client.get(path).status == 404


def test_odd_names_are_each_an_image_of_their_own(served: Served) -> None:
    names = [name for name in threats.ODD_NAMES.values() if len(name) < 600]
    for number, name in enumerate(names):
        body = pictures.jpeg(Image.new("RGB", (10 + number, 10)))
        assert served.client.put("/images/each/" + quote(name, safe="/"), body).status == 201
    for number, name in enumerate(names):
        got = served.client.get("/images/each/" + quote(name, safe="/"))
        assert got.image().size == (10 + number, 10), name
    listed = {image["name"] for image in served.client.get("/images?limit=1000&regex=%5Eeach/").json()["images"]}
    assert listed == {f"each/{threats.composed(name)}" for name in names}


@pytest.mark.parametrize("path", threats.NO_NAMES.values(), ids=list(threats.NO_NAMES))
def test_what_is_no_name_is_no_folder_either(client: Client, path: str) -> None:
    for query in ("", "?regex=."):
        answer = client.get(f"/images/{path}/{query}")
        assert answer.status == 400
        is_clean_problem(answer)


FILENAMES = {
    "a step up": "../x.jpg",
    "to the root": "/etc/x.jpg",
    "hidden": ".x.jpg",
    "only an ending": ".jpg",
    "a backslash": "..\\\\x.jpg",
    "NUL": "x\0.jpg",
    "a tab": "x\t.jpg",
    "too long": "x" * 701,
}


@pytest.mark.parametrize("filename", FILENAMES.values(), ids=list(FILENAMES))
def test_the_name_of_a_file_in_a_form_cannot_leave_its_folder(served: Served, filename: str) -> None:
    before = files_of(served.folder)
    answer = served.client.form("/images/below/", ("file", filename, PICTURE))
    assert answer.status == 400
    is_clean_problem(answer, str(served.folder))
    assert files_of(served.folder) == before


@pytest.mark.parametrize("after", ["../../../etc", "/etc/passwd", "a\0", "\ud7ff", "x" * 5000, "a\r\nX: y", "%", "W10"])
def test_the_place_where_a_page_begins_is_one_of_ours(client: Client, after: str) -> None:
    answer = client.get("/images?after=" + quote(after))
    assert (answer.status, answer.json()["parameter"]) == (400, "after")
    is_clean_problem(answer)


# -- queries -------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "parameter"), threats.BAD_QUERIES.values(), ids=list(threats.BAD_QUERIES))
def test_a_bad_query_is_refused_and_names_the_parameter(client: Client, query: str, parameter: str) -> None:
    with takes_at_most(cpu_s=1.0):
        answer = client.get(f"/images/a?{query}")
    assert answer.status == 400
    assert answer.json()["parameter"] == parameter
    is_clean_problem(answer)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=-1", f"limit={'9' * 5000}", "page=0", "page=1e9", "skip=-1", "skip=NaN",
     "limit=1&limit=2", f"page={quote('１')}", "sort=,", "regex=(?!a)", "filter[a]=b", "skip=" + "1" * 4301],
)  # fmt: skip
def test_a_bad_query_of_the_list_is_refused(client: Client, query: str) -> None:
    answer = client.get(f"/images?{query}")
    assert answer.status == 400
    is_clean_problem(answer)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
@pytest.mark.parametrize("query", ["x=1", "derived=2", "derived=1&x=1", "owner=someone", "overwrite=1"])
def test_writing_takes_no_parameter_that_it_does_not_know(client: Client, method: str, query: str) -> None:
    answer = client(method, f"/images/a?{query}", PICTURE if method != "DELETE" else None)
    assert answer.status == 400
    is_clean_problem(answer)
    assert client.get("/images/a").status == 200


EVIL_PATTERNS = ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){20}", "(x+x+)+y", "^(([a-z])+.)+[A-Z]([a-z])+$", "(.*)*" * 50]


@pytest.mark.parametrize("pattern", EVIL_PATTERNS)
def test_no_pattern_takes_long(served: Served, pattern: str) -> None:
    name = "/images/slow/" + "a" * 600
    served.client.put(name, PICTURE)
    with takes_at_most(cpu_s=1.0):
        answer = served.client.get("/images/slow/?meta=True&regex=" + quote(pattern))
    assert answer.status in (200, 400, 404)


# -- headers -------------------------------------------------------------------------------


INJECTIONS = [
    "x\r\nSet-Cookie: a=b",
    "x\nX-Evil: 1",
    'x"; filename="evil.html',
    "x;filename=evil.html",
    "x\r\n\r\n<html>",
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize(
    "where", ["{}", "a?download={}", "a?kind={}", "a?v={}", "a?{}=1", "?after={}", "a?regex={}&meta=1"]
)
def test_no_header_can_be_added(client: Client, where: str, text: str) -> None:
    answer = client.get(
        "/images/" + where.format(quote(text)) if where[0] != "?" else "/images" + where.format(quote(text))
    )
    assert answer.status in (200, 400, 404)
    assert "Set-Cookie" not in answer.headers
    assert "X-Evil" not in answer.headers
    disposition = answer.headers.get("Content-Disposition", "")
    assert not disposition or re.fullmatch(
        r"""(inline|attachment); filename="[^"\\\r\n]*"; filename\*=UTF-8''[^"; ]*""", disposition
    )


def test_the_name_of_a_download_is_encoded(client: Client) -> None:
    answer = client.get("/images/a?download=" + quote("x;filename=ü 'evil'.html"))
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"x;filename=u 'evil'.html\"; filename*=UTF-8''x%3Bfilename%3D%C3%BC%20%27evil%27.html"
    )


def test_nothing_of_exif_reaches_a_header(client: Client) -> None:
    evil = "x\r\nSet-Cookie: a=b\r\n\r\n<script>"
    image = pictures.photo(96, 64)
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = exif[0x8298] = exif[0x0110] = evil
    body = pictures.save(image, "JPEG", exif=exif.tobytes(), comment=evil.encode())
    assert client.put("/images/exif", body).status == 201
    for query in ("", "?kind=webp", "?kind=original", "?meta=True", "?url=True"):
        answer = client.get(f"/images/exif{query}")
        assert answer.status == 200
        assert not [name for name, value in answer.headers.items() if "script" in value or name == "Set-Cookie"]
        if "original" not in query:
            assert b"\r\nSet-Cookie" not in answer.body


PICTURES = [
    "a",
    "a?w=20",
    "a?kind=png",
    "a?kind=original",
    "a?download",
    "a?w=20&v=x",
    "below/",
    "below/?kind=original",
]


@pytest.mark.parametrize("path", PICTURES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_pictures_and_files_are_guarded(client: Client, method: str, path: str) -> None:
    answer = client(method, f"/images/{path}")
    assert answer.status == 200
    is_guarded(answer)


def test_a_link_is_guarded_and_kept_by_nobody(client: Client) -> None:
    response = client.get("/images/a?url=True&w=20")
    assert "no-store" in response.headers["Cache-Control"]
    path = response.json()["url"].split("/", 3)[3]
    answer = client.get("/" + path)
    assert answer.status == 200
    is_guarded(answer)
    assert "private" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["a?meta=True", "below/?meta=True", "below/?url=True", "a?url=True"])
def test_json_is_taken_for_nothing_else(client: Client, path: str) -> None:
    answer = client.get(f"/images/{path}")
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# -- one canonical key -----------------------------------------------------------------------


CONFUSING = {
    "another host": {"Host": "evil.example"},
    "a forwarded host": {"X_Forwarded_Host": "evil.example", "X_Forwarded_Proto": "https", "X_Forwarded_Port": "1"},
    "a forwarded prefix": {"X_Forwarded_Prefix": "/evil", "X_Script_Name": "/evil", "Forwarded": "host=evil.example"},
    "another path by a header": {"X_Original_URL": "/images/below/b", "X_Rewrite_URL": "/images/below/b"},
    "another method by a header": {"X_HTTP_Method_Override": "DELETE", "X_Method_Override": "DELETE"},
    "what it likes": {"Accept": "image/avif,image/webp", "Accept_Language": "de", "User_Agent": "x", "Cookie": "a=b"},
    "underscores": {"Content_Length": "0"},
}


@pytest.mark.parametrize("headers", CONFUSING.values(), ids=list(CONFUSING))
def test_what_else_a_request_says_changes_nothing(client: Client, headers: dict[str, str]) -> None:
    plain = client.get("/images/a?w=30")
    other = client.get("/images/a?w=30", **headers)
    assert (other.status, other.body, other.headers["ETag"]) == (200, plain.body, plain.headers["ETag"])
    assert "Vary" not in other.headers
    assert not [value for value in other.headers.values() if "evil" in value]


def test_negotiation_says_that_it_varies(client: Client) -> None:
    answer = client.get("/images/a?w=30&kind=auto", Accept="image/webp")
    assert (answer.headers["Vary"], answer.headers["Content-Type"]) == ("Accept", "image/webp")
    assert answer.headers["ETag"] != client.get("/images/a?w=30&kind=auto").headers["ETag"]


@pytest.mark.parametrize(
    "query",
    [
        "w=30&h=20",
        "ysize=20&xsize=30",
        "height=20&width=30",
        "xsize=30&ysize=20&dpr=1",
        "w=030&h=020",
        "w=15&h=10&dpr=2",
    ],
)
def test_the_same_by_another_spelling_is_the_same(client: Client, query: str) -> None:
    assert client.get(f"/images/a?{query}").headers["ETag"] == client.get("/images/a?xsize=30&ysize=20").headers["ETag"]


def test_the_case_of_a_name_matters(client: Client) -> None:
    assert client.get("/images/A").status == 404
    assert client.get("/IMAGES/a").status == 404


# -- heads ---------------------------------------------------------------------------------


HEADS = {
    "1,300 ranges": {"Range": "bytes=" + ",".join(f"{n}-{n}" for n in range(1300))},
    "overlapping ranges": {"Range": "bytes=" + ",".join(["0-"] * 1300)},
    "a range of 5,000 digits": {"Range": "bytes=" + "1" * 5000 + "-"},
    "a range backwards": {"Range": "bytes=5-1"},
    "a range in full-width digits": {"Range": "bytes=\u00b2-"},
    "1,500 entity tags": {"If_None_Match": ", ".join(f'"{n:x}"' for n in range(1500))},
    "entity tags without end": {"If_None_Match": '"' * 8000},
    "weak tags without end": {"If_None_Match": "W/" * 8000},
    "a date of no calendar": {"If_Modified_Since": "Mon, 99 Foo 99999999 99:99:99 GMT"},
    "a date beyond all years": {"If_Modified_Since": "Fri, 31 Dec 999999 23:59:59 GMT"},
    "a date with a zone of a million hours": {"If_Modified_Since": "Fri, 31 Dec 2020 23:59:59 +99999999"},
    "if-range of nonsense": {"Range": "bytes=0-1", "If_Range": "Mon, 99999999999999999999"},
    "accept of everything": {"Accept": ",".join(f"image/x{n};q=0.{n}" for n in range(2000))},
    "accept of quotes": {"Accept": '"' * 8000},
    "a cookie of semicolons": {"Cookie": ";" * 8000 + "=" * 8000},
    "an authority of nonsense": {"Authorization": "Basic %%%", "Host": "a b@c:99999999"},
}


@pytest.mark.parametrize("headers", HEADS.values(), ids=list(HEADS))
def test_no_head_is_too_much(client: Client, headers: dict[str, str]) -> None:
    with takes_at_most(cpu_s=1.0):
        answer = client.get("/images/a?w=30&kind=auto", **headers)
    assert answer.status in (200, 206, 400, 416, 431)
    assert len(answer.body) < 20_000
    if answer.status >= 400:
        is_clean_problem(answer)


@pytest.mark.parametrize("value", ['"' * 3000, "W/" * 3000, "x" * 8000, '*, "a"', "\u00ff"], ids=lambda v: v[:8])
def test_no_condition_of_a_write_is_too_much(client: Client, value: str) -> None:
    for header in ("If_Match", "If_None_Match", "Repr_Digest", "Content_MD5"):
        answer = client.put("/images/conditional", PICTURE, **{header: value})
        assert answer.status in (200, 201, 400, 412, 422)
    client.delete("/images/conditional")


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 5000, 'multipart/form-data; boundary="', "; ;=;",
     "image/" + "x" * 5000, "multipart/mixed; boundary=b", "application/x-www-form-urlencoded", "text/html",
     "\u00ff/\u00ff"],
    ids=lambda kind: kind[:60],
)  # fmt: skip
def test_whatever_type_is_declared_the_bytes_decide(client: Client, kind: str) -> None:
    answer = client.put("/images/declared", PICTURE, Content_Type=kind)
    assert answer.status in (200, 201, 400, 415)
    if answer.status >= 400:
        is_clean_problem(answer)


# -- data ------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return '{"a":' + "[" * depth + "]" * depth + "}"


@pytest.mark.parametrize("depth", [50, 300, 900, 990, 2_000, 30_000])
def test_data_of_any_depth_is_stored_or_refused(client: Client, depth: int) -> None:
    answer = client.form("/images/deep", ("file", "x.jpg", PICTURE), ("data", None, nested(depth).encode()))
    assert answer.status in (200, 201, 400)
    if answer.status == 400:
        is_clean_problem(answer)
    else:
        response = client.get("/images/deep?meta=True")
        assert (response.status, response.json()["data"]) == (200, json.loads(nested(depth)))


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 5000, '"\\ud800"', '{"\\udfff":1}']
)
def test_data_that_could_not_be_told_again_is_refused(client: Client, text: str) -> None:
    answer = client.form("/images/data", ("file", "x.jpg", PICTURE), ("data", None, f'{{"a":{text}}}'.encode()))
    assert answer.status == 400
    is_clean_problem(answer)
    assert client.get("/images/data").status == 404


@pytest.mark.parametrize(
    "focus",
    [[10**400, 0], [-1, 5], ["a", "b"], [[]], {}, "x" * 9000, [0.5], [True, True], [1e308, 1e-308], None, "smart"],
)  # fmt: skip
def test_no_focus_of_a_record_breaks_its_picture(client: Client, focus: object) -> None:
    data = json.dumps({"focus": focus}).encode()
    assert client.form("/images/focus", ("file", "x.jpg", PICTURE), ("data", None, data)).status in (200, 201)
    answer = client.get("/images/focus?w=20&h=20&fit=cover")
    assert (answer.status, answer.image().size) == (200, (20, 20))
    client.delete("/images/focus")


# -- methods and other paths ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "FOO", "X" * 2000])
def test_no_other_method_does_anything(client: Client, method: str) -> None:
    connection = http.client.HTTPConnection(client.host, client.port, timeout=10)
    connection.request(method, "/images/a")
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (400, 405, 501)
    assert b"Traceback" not in body
    assert client.get("/images/a").status == 200


@pytest.mark.parametrize(
    "path", ["/problems/../x", "/problems/%3Cscript%3E", "/static/x", "/temp/x", "/temp/../x", "/nothing"]
)
def test_other_paths_are_problems(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status in (400, 401, 403, 404)
    is_clean_problem(answer)
    assert b"<script>" not in answer.body.replace(b'"instance"', b"", 1) or answer.headers["Content-Type"].endswith(
        "json"
    )


@pytest.mark.parametrize("slug", ["not-found", "method-not-allowed", "request-entity-too-large", "bad-request"])
def test_what_the_router_refuses_is_explained_too(client: Client, slug: str) -> None:
    assert client.get(f"/problems/{slug}").status == 200

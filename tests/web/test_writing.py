"""Writing over HTTP: uploads, conditions, replacement, deletion, and what is refused."""

import base64
import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pictures
import pytest
from PIL import Image
from webserver import embedded, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("writing")
    with serving(embedded(folder, freshness=0.0), folder) as served:
        yield served


@pytest.fixture
def client(served):
    return served.client


def picture(seed: int = 0, **options) -> bytes:
    return pictures.jpeg(pictures.photo(64, 48, seed), **options)


def digest(body: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hashlib.new(algorithm, body).digest()).decode()


def test_an_upload_is_answered_with_its_record(client):
    body = picture(1, camera=True, gps=True)
    answer = client.form("/images/plots/12/north", ("file", "DSC 1.JPG", body))
    assert (answer.status, answer.headers["Location"]) == (201, "/images/plots/12/north")
    record = answer.json()
    sha256 = hashlib.sha256(body).hexdigest()
    members = {name: record[name] for name in ("name", "sha256", "image_id", "media_type", "bytes", "width", "height")}
    assert members == {
        "name": "plots/12/north", "sha256": sha256, "image_id": f"sha256:{sha256}", "media_type": "image/jpeg",
        "bytes": len(body), "width": 64, "height": 48,
    }  # fmt: skip
    assert (record["filename"], record["data"]) == ("DSC 1.JPG", {})
    assert not {"latitude", "longitude", "altitude"} & set(record["exif"])
    assert "46.9" not in answer.body.decode()
    assert "K-1000" in str(record["exif"])
    assert "key" not in record
    assert client.get("/images/plots/12/north?meta=True").json() == record


def test_records_tell_positions_only_where_that_is_allowed(tmp_path):
    with serving(embedded(tmp_path, metadata_location=True), tmp_path) as other:
        document = other.client.put("/images/a", picture(1, gps=True)).json()["exif"]
        assert document["latitude"] == pytest.approx(pictures.LATITUDE, abs=1e-4)
        assert other.client.get("/images/a?meta=True").json()["exif"] == document
    with serving(embedded(tmp_path), tmp_path) as other:
        assert "latitude" not in other.client.get("/images/a?meta=True").json()["exif"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_raw_body_is_an_upload_too(client, method):
    answer = client(method, f"/images/raw-{method}.png", picture(), Content_Type="image/jpeg")
    assert (answer.status, answer.json()["name"]) == (201, f"raw-{method}")


def test_the_type_is_what_the_bytes_are(client, served):
    body = io.BytesIO()
    pictures.photo(20, 10).save(body, "PNG")
    answer = client.put("/images/not-a.jpg", body.getvalue(), Content_Type="text/html")
    assert answer.json()["media_type"] == "image/png"
    assert (served.folder / "data" / "not-a.png").read_bytes() == body.getvalue()


def test_a_chunked_body(client):
    body = picture(3)
    parts = [body[i : i + 700] for i in range(0, len(body), 700)]
    answer = client("PUT", "/images/chunked", iter(parts), Content_Type="image/jpeg", Transfer_Encoding="chunked")
    assert (answer.status, answer.json()["bytes"]) == (201, len(body))


def test_below_a_folder_a_file_keeps_its_own_name(client):
    answer = client.form("/images/folder/", ("image", "IMG_7.jpeg", picture()))
    assert (answer.status, answer.json()["name"]) == (201, "folder/IMG_7")


def test_without_a_name_the_content_is_the_name(client):
    body = picture(4)
    first = client("POST", "/images", body, Content_Type="image/jpeg")
    again = client("POST", "/images", body, Content_Type="image/jpeg")
    name = f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert (first.status, again.status, first.json()["name"]) == (201, 200, name)
    assert first.json() == again.json()
    other = client.put(f"/images/{name}", picture(5))
    assert (other.status, other.slug) == (409, "name-conflict")


def test_fields_of_the_form_are_data(client):
    answer = client.form(
        "/images/described", ("file", "a.jpg", picture()), ("data", None, b'{"stars": 3}'), ("site", None, b"Bern")
    )
    assert answer.json()["data"] == {"stars": 3, "site": "Bern"}
    replaced = client.put("/images/described", picture(6))
    assert (replaced.status, replaced.json()["data"]) == (200, {"stars": 3, "site": "Bern"})


@pytest.mark.parametrize(
    ("header", "algorithm", "template"),
    [
        ("Repr_Digest", "sha256", "sha-256=:{}:"),
        ("Repr_Digest", "sha512", "sha-512=:{}:"),
        ("Content_MD5", "md5", "{}"),
    ],
    ids=["sha-256", "sha-512", "Content-MD5"],
)
def test_digests_of_the_sender_are_verified(client, header, algorithm, template):
    body = picture(7)
    assert client.put("/images/digest", body, **{header: template.format(digest(body, algorithm))}).status in (200, 201)
    before = client.get("/images/digest?kind=png").body
    wrong = client.put("/images/digest", picture(8), **{header: template.format(digest(body, algorithm))})
    assert (wrong.status, wrong.slug) == (400, "digest-mismatch")
    assert client.get("/images/digest?kind=png").body == before


@pytest.mark.parametrize("value", ["sha-256=abc", "sha-256=:not base64:", "nonsense"])
def test_a_digest_that_cannot_be_read_is_refused(client, value):
    assert client.put("/images/digest", picture(), Repr_Digest=value).slug == "bad-body"


def test_an_unknown_digest_is_passed_over(client):
    assert client.put("/images/digest2", picture(), Repr_Digest="blake3=:AAAA:").status == 201


def test_a_replacement_is_seen_at_once_and_leaves_one_original(client, served):
    client.put("/images/twice", picture(1))
    before = client.get("/images/twice?w=30")
    png = io.BytesIO()
    pictures.photo(80, 60, 9).save(png, "PNG")
    assert client.put("/images/twice", png.getvalue()).status == 200
    after = client.get("/images/twice?w=80")
    assert after.image().size == (80, 60)
    assert client.get("/images/twice?w=30").headers["ETag"] != before.headers["ETag"]
    assert sorted(path.name for path in (served.folder / "data").glob("twice*")) == ["twice.json", "twice.png"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"If_None_Match": "*"}, 412, id="there must be none"),
        pytest.param({"If_Match": '"other"'}, 412, id="another version"),
        pytest.param({"If_Match": "*"}, 200, id="any version"),
        pytest.param({"If_Match": "VERSION"}, 200, id="this version"),
        pytest.param({}, 200, id="no condition"),
    ],
)
def test_conditions_of_a_replacement(client, headers, status):
    client.put("/images/guarded", picture(1))
    version = client.get("/images/guarded?meta=True").json()["version"]
    members = {name: value.replace("VERSION", f'"{version}"') for name, value in headers.items()}
    answer = client.put("/images/guarded", picture(2), **members)
    assert answer.status == status
    assert status == 200 or answer.slug == "precondition-failed"


def test_if_match_on_what_is_not_there(client):
    assert client.put("/images/never", picture(), If_Match="*").status == 412


def test_the_etag_of_the_picture_guards_its_replacement(client):
    client.put("/images/guarded2", picture(1))
    etag = client.get("/images/guarded2").headers["ETag"]
    assert client.put("/images/guarded2", picture(2), If_Match=etag).status == 200
    assert client.put("/images/guarded2", picture(3), If_Match=etag).status == 412


def test_overwriting_can_be_forbidden(tmp_path):
    with serving(embedded(tmp_path, overwrite=False), tmp_path) as other:
        assert other.client.put("/images/a", picture(1)).status == 201
        assert other.client.put("/images/a", picture(2)).slug == "precondition-failed"
        version = other.client.get("/images/a?meta=True").json()["version"]
        assert other.client.put("/images/a", picture(2), If_Match=f'"{version}"').status == 200


def test_deleting_tells_what_went_from_where(client, served):
    client.put("/images/gone", picture())
    client.get("/images/gone?w=10")
    client.get("/images/gone?w=11")
    answer = client.delete("/images/gone.jpg")
    assert answer.json() == {
        "name": "gone",
        "deleted": {"original": 1, "record": 1, "memory": 2, "disk": 2, "cache": 0},
    }
    assert client.get("/images/gone?w=10").status == 404
    assert client.delete("/images/gone").status == 404
    assert not list((served.folder / "data").glob("gone*"))


def test_renditions_alone_can_be_deleted(client):
    client.put("/images/kept", picture())
    before = client.get("/images/kept?w=10")
    assert client.delete("/images/kept?derived=True").json()["deleted"] == {"memory": 1, "disk": 1, "cache": 0}
    after = client.get("/images/kept?w=10")
    assert (after.layer, after.body) == ("rendered", before.body)


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        pytest.param(b"", 400, "bad-body", id="nothing"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "not-a-picture", id="SVG"),
        pytest.param(b"%PDF-1.4\n", 415, "not-a-picture", id="PDF"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "not-a-picture", id="EPS"),
        pytest.param(b"push graphic-context\nviewbox 0 0 1 1\n", 415, "not-a-picture", id="MVG"),
        pytest.param(b"<html><script>alert(1)</script>", 415, "not-a-picture", id="HTML"),
        pytest.param(b"x" * 5000, 415, "not-a-picture", id="noise"),
        pytest.param(picture()[:600], 422, "broken-picture", id="half a picture"),
    ],
)
def test_what_is_no_picture_is_refused_and_changes_nothing(client, served, body, status, slug):
    before = sorted(path for path in (served.folder / "data").rglob("*") if "tmp" not in path.parts)
    answer = client.put("/images/refused.jpg", body)
    assert (answer.status, answer.slug) == (status, slug)
    assert sorted(path for path in (served.folder / "data").rglob("*") if "tmp" not in path.parts) == before


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="no part"),
        pytest.param([("other", "a.jpg", picture())], id="a part of another name"),
        pytest.param([("file", "a.jpg", picture()), ("image", "b.jpg", picture())], id="two files"),
        pytest.param([("file", "a.jpg", picture()), ("data", None, b"{")], id="data that is no JSON"),
        pytest.param([("file", "a.jpg", picture()), ("data", None, b"null")], id="data that is null"),
        pytest.param([("file", "a.jpg", picture()), ("data", None, b'{"a": NaN}')], id="data that only Python reads"),
        pytest.param([("file", "a.jpg", picture()), ("data", None, b"[" * 50_000)], id="data that is very deep"),
    ],
)
def test_a_form_of_the_wrong_shape_is_refused(client, parts):
    answer = client.form("/images/shape", *parts)
    assert (answer.status, answer.slug) == (400, "bad-body")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        pytest.param([], "has no file", id="no part"),
        pytest.param([("photo", "a.jpg", picture())], "it is in 'photo'", id="a part of another name"),
        pytest.param([("file", "a", b"x"), ("file", "b", b"x")], "a zip to /import", id="two files"),
        pytest.param([("file", None, b"a.jpg")], "-F file=@PATH", id="a path as text"),
        pytest.param([("file", "a.jpg", b"")], "the file is empty", id="an empty file"),
    ],
)
def test_a_refused_form_says_what_helps(client, parts, words):
    answer = client.form("/images/shape", *parts)
    assert answer.status == 400
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream", ""])
def test_a_picture_is_one_whatever_type_is_declared(client, method, kind):
    answer = client(method, "/images/declared", picture(), Content_Type=kind)
    assert (answer.status, answer.json()["media_type"]) == (201, "image/jpeg")
    client.delete("/images/declared")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        pytest.param("application/x-www-form-urlencoded", b'{"a":1}', "application/json", id="JSON of curl -d"),
        pytest.param("application/x-www-form-urlencoded", b"file=a.jpg", "--data-binary @PATH", id="a form of curl -d"),
        pytest.param("application/x-www-form-urlencoded", b"", "empty", id="nothing"),
        pytest.param("image/jpeg", b"", "empty", id="an empty picture"),
        pytest.param("application/json", picture(), "image/jpeg", id="a picture as JSON"),
    ],
)
def test_a_refused_body_says_what_helps(client, kind, body, words):
    answer = client("PUT", "/images/declared", body, Content_Type=kind)
    assert answer.status == 400
    assert words in answer.json()["detail"]


@pytest.mark.parametrize("operator", ["$set", "$unset", "$inc"])
@pytest.mark.parametrize("path", ["/images/patched", "/images?n=1"])
def test_operators_of_mongodb_are_refused_in_a_patch(client, path, operator):
    client("PUT", "/images/patched", b'{"n":1}', Content_Type="application/json")
    body = b'{"%s":{"n":2}}' % operator.encode()
    answer = client("PATCH", path, body, Content_Type="application/json")
    assert (answer.status, answer.slug) == (400, "bad-body")
    assert "null removes" in answer.json()["detail"]
    assert client.get("/images/patched?meta=True").json()["data"] == {"n": 1}
    client.delete("/images/patched")


@pytest.mark.parametrize("filename", ["../../etc/passwd.jpg", "/etc/a.jpg", "a\\\\b.jpg", ".hidden.jpg", ""])
def test_a_file_name_that_is_no_name_is_refused(client, filename):
    assert client.form("/images/folder/", ("file", filename, picture())).status == 400


def test_twenty_thousand_parts_are_refused(client):
    answer = client.form("/images/parts", *[("x", None, b"1")] * 20_000)
    assert (answer.status, answer.slug) == (413, "request-entity-too-large")


def test_too_many_bytes_are_refused(tmp_path):
    config = embedded(tmp_path)
    config = replace(config, server=replace(config.server, max_upload=10_000))
    with serving(config, tmp_path) as other:
        answer = other.client.put("/images/large", b"\xff\xd8\xff" + b"x" * 20_000)
        assert (answer.status, answer.slug) == (413, "too-large")
        parts = iter([b"\xff\xd8\xff" + b"x" * 5_000] * 4)
        endless = other.client("PUT", "/images/large", parts, Content_Type="image/jpeg", Transfer_Encoding="chunked")
        assert (endless.status, endless.slug) == (413, "too-large")
        claimed = other.client.form("/images/large", ("file", "a.jpg", b"x" * 20_000))
        assert claimed.status == 413


def test_a_pixel_bomb_is_refused_by_its_header(client):
    bomb = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(bomb, "PNG")
    answer = client.put("/images/bomb", bomb.getvalue())
    assert (answer.status, answer.slug) == (422, "over-budget")


def test_unknown_parameters_of_an_upload_are_told(client):
    assert client.put("/images/a?xsize=3", picture()).json()["parameter"] == "xsize"
    assert client.delete("/images/a?derivd=True").json()["nearest"] == "derived"


def test_readers_of_a_picture_that_is_replaced_see_the_old_or_the_new(client):
    bodies = [picture(seed) for seed in (21, 22)]
    client.put("/images/swap", bodies[0])
    expected = set()
    for body in bodies:
        client.put("/images/swap", body)
        expected.add(client.get("/images/swap?kind=png").body)
    stop = threading.Event()

    def read():
        seen = set()
        while not stop.is_set():
            answer = client.get("/images/swap?kind=png")
            seen.add(answer.body if answer.status == 200 else answer.status)
        return seen

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for turn in range(12):
            assert client.put("/images/swap", bodies[turn % 2]).status == 200
        stop.set()
        seen = set().union(*(reader.result() for reader in readers))
    assert seen <= expected


def test_two_writers_of_one_name_leave_one_picture(client, served):
    png = io.BytesIO()
    pictures.photo(64, 48, 3).save(png, "PNG")
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda body: client.put("/images/race", body), [picture(1), png.getvalue()]))
        assert all(answer.status in (200, 201) for answer in answers)
        assert client.get("/images/race?w=20").status == 200
    originals = [path for path in (served.folder / "data").glob("race.*") if path.suffix != ".json"]
    assert len(originals) == 1


def test_another_worker_sees_a_write_at_once(tmp_path):
    config = embedded(tmp_path, freshness=3600.0)
    with serving(config, tmp_path) as one, serving(config, tmp_path) as two:
        one.client.put("/images/shared", picture(1))
        first = two.client.get("/images/shared?kind=png").body
        one.client.put("/images/shared", picture(2))
        second = two.client.get("/images/shared?kind=png").body
        assert first != second == one.client.get("/images/shared?kind=png").body
        one.client.delete("/images/shared")
        assert two.client.get("/images/shared?kind=png").status == 404


def test_a_picture_that_another_tool_put_there_is_served_as_it_is(client, served):
    folder = served.folder / "data" / "foreign"
    folder.mkdir()
    (folder / "IMG 1.JPG").write_bytes(picture(31, gps=True))
    (folder / "IMG 1.json").write_text('{"name": "something else"}')
    assert client.get("/images/foreign/IMG%201?w=20").image().size == (20, 15)
    record = client.get("/images/foreign/IMG%201?meta=True").json()
    assert (record["width"], record["data"]) == (64, {})
    (folder / "IMG 1.JPG").write_bytes(pictures.jpeg(pictures.photo(99, 33)))
    assert client.get("/images/foreign/IMG%201?meta=True").json()["width"] == 99


def test_an_original_that_rots_is_loud_and_never_served(client, served):
    client.put("/images/rotten", picture(41))
    assert client.get("/images/rotten?w=20").status == 200
    path = served.folder / "data" / "rotten.jpg"
    stat, body = path.stat(), bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert client.get("/images/rotten?w=20").status == 200, "the rendition was made from good bytes"
    answer = client.get("/images/rotten?w=21")
    assert (answer.status, answer.slug) == (500, "original-damaged")
    assert client.put("/images/rotten", picture(41)).status == 200
    assert client.get("/images/rotten?w=21").status == 200

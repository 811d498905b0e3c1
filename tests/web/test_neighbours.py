"""What clients of similar services ask for, at the addresses that they know."""

from __future__ import annotations

import io
import zipfile

import pictures
import pytest
from webserver import embedded, serving

PICTURE = pictures.jpeg(pictures.photo(64, 48))
JSON = "application/json"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neighbours")
    with serving(embedded(folder), folder) as served:
        for name in ("a", "b", "b/image", "c d"):
            served.client.put(f"/images/{name.replace(' ', '%20')}", PICTURE)
        served.client("PUT", "/images/words", b'{"only":"words"}', Content_Type=JSON)
        yield served.client


def test_an_image_is_also_at_image_below_its_name(client):
    there, plain = client.get("/images/a/image?xsize=20"), client.get("/images/a?xsize=20")
    assert (there.status, there.body, there.headers["ETag"]) == (200, plain.body, plain.headers["ETag"])
    assert client.get("/images/c%20d/image").status == 200
    assert client.get("/images/a/image?meta=True").json()["name"] == "a"
    assert client.get("/images/none/image").status == 404


def test_an_image_that_is_called_image_comes_first(client):
    assert client.get("/images/b/image?meta=True").json()["name"] == "b/image"
    assert client.get("/images/b/image/image?meta=True").json()["name"] == "b/image"
    for _ in range(3):
        assert client.get("/images/a/image").status == 200
    client.put("/images/a/image", pictures.jpeg(pictures.photo(90, 48)))
    assert client.get("/images/a/image").image().size == (90, 48)
    client.delete("/images/a/image")
    assert client.get("/images/a/image").image().size == (64, 48)


@pytest.mark.parametrize("name", ["a", "words", "c%20d"])
def test_a_record_is_sent_where_only_json_is_accepted(client, name):
    for _ in range(3):
        client.get(f"/images/{name}")  # a picture in memory
    answer = client.get(f"/images/{name}", Accept=JSON)
    assert answer.json() == client.get(f"/images/{name}?meta=True").json()
    assert answer.headers["Content-Location"] == f"/images/{name}?meta=True"
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get(f"/images/{name}", Accept=JSON, If_None_Match=answer.headers["ETag"]).status == 304


@pytest.mark.parametrize("accept", ["image/*", "*/*", f"{JSON}, */*", f"{JSON}, image/*;q=0.5", "text/html", ""])
def test_a_picture_is_sent_where_pictures_are_accepted(client, accept):
    answer = client.get("/images/a", Accept=accept)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert "Accept" not in (answer.headers["Vary"] or "")
    assert client.get("/images/a?xsize=20", Accept=JSON).headers["Content-Type"] == "image/jpeg"


def test_a_description_says_that_it_has_no_picture(client):
    answer = client.get("/images/words")
    assert answer.status == 404
    assert "no picture yet" in answer.json()["detail"]
    assert "no picture yet" not in client.get("/images/none").json()["detail"]


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file.getvalue()


def test_an_import_takes_any_part_with_a_file_and_adds_the_data_of_the_form(client):
    lines = b'{"file_name": "own.jpg", "site": "own"}\n'
    body = zipped(**{"plain.jpg": PICTURE, "own.jpg": pictures.jpeg(pictures.photo(66, 48)), "metadata.jsonl": lines})
    answer = client.form(
        "/import?prefix=in", ("archive", "x.zip", body), ("data", None, b'{"n":1}'), ("site", None, b"form")
    )
    assert (answer.status, answer.json()["stored"]) == (200, 2)
    data = {name: client.get(f"/images/in/{name}?meta=True").json()["data"] for name in ("plain", "own")}
    assert data == {"plain": {"n": 1, "site": "form"}, "own": {"n": 1, "site": "own"}}
    assert client.form("/import", ("archive", "x.zip", body), ("data", None, b"[1]")).status == 400
    assert client.form("/import", ("archive", "x.zip", body), ("other", "y.zip", body)).status == 400

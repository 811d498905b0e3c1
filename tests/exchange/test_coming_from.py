"""Every row of docs/coming-from.md is so: what stands in it is read from there, and sent, or run.

A row without a test fails, and so does a test without its row.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import commands
import pytest
import yaml
from pictures import jpeg, photo, png
from webserver import Answer, Client, Served, embedded, serving

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.cli import startup
from image_repo.config import Config, PersistentStoreConfiguration, foreign, load
from image_repo.config.loading import IMAGE_STORAGE
from image_repo.config.renamed import OBEYED
from image_repo.errors import ConfigurationError
from image_repo.exchange.importer import Importer
from image_repo.exchange.legacy import detect, outcomes
from image_repo.exchange.legacy.extended_json import plain

DOCUMENT = Path(__file__).parents[2] / "docs" / "coming-from.md"
SET, BLOBS, TALES, FIRST = (
    "A data set of images over MongoDB",
    "Images and artifacts under their SHA-256",
    "Descriptions without a schema",
    "The first image_repo",
)
ANSWERS = "Its answers"
ROUTES, PARAMETERS, SETTINGS, FIELDS, LEFT = (
    "Its routes",
    "Its parameters",
    "Its settings",
    "Its fields",
    "What it leaves behind",
)

# -- the document -------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of a table of the document.

    :param there: as it is done there, without the marks of code
    :param here: as it is done here
    """

    system: str
    table: str
    there: str
    here: str
    note: str

    @property
    def spans(self) -> list[str]:
        """What stands in marks of code under *here*."""
        return re.findall(r"`([^`]+)`", self.here)

    def ask(self, client: Client, body: Any = None, *, headers: dict[str, str] | None = None, **names: str) -> Answer:
        """Sends the request that stands under *here*.

        :param names: what ``ID``, ``NAME``, ``HEX`` … stand for
        """
        method, _, path = self.spans[0].partition(" ")
        for name, value in names.items():
            assert re.search(rf"\b{name}\b", path), f"{self.here} has no {name}"
            path = re.sub(rf"\b{name}\b", lambda _, value=value: value, path)  # type: ignore[misc]
        return client(method, quote(path, safe="/?&=:,%()"), body, **(headers or {}))

    def send(self, client: Client, data: Any, **names: str) -> Answer:
        """The same with JSON."""
        return self.ask(client, json.dumps(data), headers={"Content_Type": "application/json"}, **names)


def _rows() -> Iterator[Row]:
    system = table = ""
    for line in DOCUMENT.read_text().splitlines():
        if line.startswith("## "):
            system = line[3:]
        elif line.startswith("### "):
            table = line[4:]
        elif line.startswith("|") and not re.match(r"\|(---|( there| Extended JSON) \|)", line):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            there = cells[0].replace("`", "")
            yield Row(system, table, there, cells[1], cells[2] if len(cells) > 2 else "")


ROWS = {(row.system, row.table, row.there): row for row in _rows()}
#: rows that a test has asked for
TESTED: set[tuple[str, str, str]] = set()


def of(system: str, table: str, *theres: str) -> Any:
    """Gives a test its rows, as the parameter ``row``."""
    keys = [(system, table, there) for there in theres]
    assert TESTED.isdisjoint(keys)
    TESTED.update(keys)
    return pytest.mark.parametrize("row", [pytest.param(ROWS.get(key), id=key[2]) for key in keys])


def test_every_row_is_tested_and_every_test_has_its_row() -> None:
    assert len(ROWS) == sum(1 for _ in _rows()) > 80
    assert set(ROWS) - TESTED == set(), "rows without a test"
    assert TESTED - set(ROWS) == set(), "tests without a row"


def picture_of(answer: Answer) -> tuple[str | None, tuple[int, int]]:
    assert answer.status == 200, answer.body[:500]
    image = answer.image()
    return image.format, image.size


def names_of(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body[:500]
    return [image["name"] for image in answer.json()["images"]]


def take_in(served: Served, path: Path, uploads: Path | None = None) -> None:
    """As ``image_repo import`` does."""
    left = detect(path, uploads)
    assert left is not None
    artifacts = wiring.build_artifacts(served.config, served.repo)
    assert {
        outcome.status for outcome in outcomes(left, Importer(served.repo, ADMIN), served.repo, ADMIN, artifacts)
    } == {"stored"}


# -- a data set of images over MongoDB ----------------------------------------------------

ID, ID2, ID3 = (f"6339b5e4c5b1a4f0a1b2c3d{digit}" for digit in "456")
_EXPORTED = (
    f'{{"_id":{{"$oid":"{ID}"}},"file":"line1/a.jpg","__v":0,"data":{{"label":"ok","n":3,"at":{{"x":1,"y":2}}}},'
    '"time":{"$date":"2022-10-02T15:59:32.123Z"},"userId":"u-7"}\n'
    f'{{"_id":{{"$oid":"{ID2}"}},"file":"line1/b.jpg","__v":0,"data":{{"label":"ok","n":5}},'
    '"time":{"$date":"2022-10-03T15:59:32.123Z"}}\n'
    f'{{"_id":{{"$oid":"{ID3}"}},"file":"c.jpg","__v":0,"data":{{"label":"bad","n":9,"gone":1}},'
    '"time":{"$date":"2022-10-04T15:59:32.123Z"}}\n'
)


def _exported(folder: Path) -> tuple[Path, Path]:
    """What the service leaves behind: a ``mongoexport`` and the uploads folder."""
    uploads = folder / "uploads"
    (uploads / "line1").mkdir(parents=True)
    for number, name in enumerate(("line1/a.jpg", "line1/b.jpg", "c.jpg")):
        (uploads / name).write_bytes(jpeg(photo(40, 30, seed=number), camera=True))
    (folder / "images.json").write_text(_EXPORTED)
    return folder / "images.json", uploads


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The data set after its import; only read."""
    yield from _data_set(tmp_path_factory.mktemp("set"))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Client]:
    """The same for a test of its own."""
    yield from _data_set(tmp_path)


def _data_set(folder: Path) -> Iterator[Client]:
    with serving(embedded(folder, create_new=True, serve_originals=True), folder, reachable=True) as served:
        take_in(served, *_exported(folder))
        yield served.client


@of(SET, ROUTES, "POST /images")
def test_a_picture_is_uploaded_by_the_same_form(row: Row, own: Client) -> None:
    body = b"\r\n".join(
        [
            b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n',
            jpeg(photo(20, 10)),
            b'--b\r\nContent-Disposition: form-data; name="data"\r\n\r\n{"n": 1}',
            b'--b\r\nContent-Disposition: form-data; name="label"\r\n\r\nfine',
            b'--b\r\nContent-Disposition: form-data; name="_id"\r\n\r\n7',
            b"--b--\r\n",
        ]
    )
    sent = row.ask(own, body, headers={"Content_Type": "multipart/form-data; boundary=b"}, NAME="line2/a")
    assert sent.status == 201
    assert (sent.json()["name"], sent.json()["filename"]) == ("line2/a", "a.jpg")
    assert sent.json()["data"] == {"n": 1, "label": "fine", "_id": "7"}
    nameless = own("POST", "/images", body, Content_Type="multipart/form-data; boundary=b").json()
    assert nameless["name"] == nameless["image_id"] == f"sha256:{nameless['sha256']}"


@of(SET, ROUTES, "GET /images")
def test_images_are_listed(row: Row, house: Client) -> None:
    answer = row.ask(house)
    assert names_of(answer) == [ID, ID2, ID3]
    assert {"count", "page", "limit", "pages", "images"} <= set(answer.json())


@of(SET, ROUTES, "PATCH /images?KEY=VALUE")
def test_data_of_many_is_merged(row: Row, own: Client) -> None:
    assert row.send(own, {"seen": True, "at": {"y": None}}).json() == {"matched": 2, "modified": 2}
    assert own.get(f"/images/{ID}?meta=True").json()["data"]["at"] == {"x": 1}
    assert names_of(own.get("/images?seen=true")) == [ID, ID2]
    assert own("PATCH", "/images", "{}", Content_Type="application/json").status == 400


@of(SET, ROUTES, "DELETE /images?KEY=VALUE")
def test_many_are_deleted(row: Row, own: Client) -> None:
    assert row.ask(own).json()["modified"] == 2
    assert names_of(own.get("/images")) == [ID3]


@of(SET, ROUTES, "GET /images/:ID")
def test_what_is_known_of_an_image_is_told(row: Row, house: Client) -> None:
    assert row.ask(house, ID=ID).json()["data"]["label"] == "ok"


@of(SET, ROUTES, "GET /images/:ID/image")
def test_the_bare_address_is_the_picture(row: Row, house: Client) -> None:
    answer = row.ask(house, ID=ID)
    assert picture_of(answer) == ("JPEG", (40, 30))
    assert not answer.image().getexif()


@of(SET, ROUTES, "GET /images/:ID/image, the very bytes")
def test_the_very_bytes_are_there_as_well(row: Row, house: Client) -> None:
    answer = row.ask(house, ID=ID)
    assert answer.body == jpeg(photo(40, 30, seed=0), camera=True)
    assert answer.headers["Content-Disposition"].startswith("attachment")


@of(SET, ROUTES, "PATCH /images/:ID")
def test_data_of_one_is_merged(row: Row, own: Client) -> None:
    assert row.send(own, {"n": 4, "label": None}, ID=ID).json()["data"]["n"] == 4
    answer = own.get(f"/images/{ID}?meta=True")
    assert "label" not in answer.json()["data"]
    assert answer.json()["data"]["at"] == {"x": 1, "y": 2}
    stale = {"Content_Type": "application/json", "If_Match": '"of-yesterday"'}
    assert row.ask(own, "{}", headers=stale, ID=ID).status == 412


@of(SET, ROUTES, "PUT /images/:ID")
def test_data_of_one_is_replaced(row: Row, own: Client) -> None:
    assert row.send(own, {"n": 4}, ID=ID).json()["data"] == {"n": 4}
    assert picture_of(own.get(f"/images/{ID}"))[1] == (40, 30)
    assert row.ask(own, jpeg(photo(20, 20)), headers={"Content_Type": "image/jpeg"}, ID=ID).status == 200
    assert picture_of(own.get(f"/images/{ID}"))[1] == (20, 20)


@of(SET, ROUTES, "DELETE /images/:ID")
def test_one_is_deleted(row: Row, own: Client) -> None:
    assert row.ask(own, ID=ID).json()["deleted"]["original"] == 1
    assert own.get(f"/images/{ID}").status == 404


@of(SET, ROUTES, "GET /export")
def test_everything_is_exported(row: Row, house: Client) -> None:
    archive = zipfile.ZipFile(io.BytesIO(row.ask(house).body))
    assert {Path(name).stem for name in archive.namelist()} >= {ID, ID2, ID3, "metadata"}
    exact = zipfile.ZipFile(io.BytesIO(house.get("/export?kind=original").body))
    member = next(name for name in exact.namelist() if Path(name).stem == ID)
    assert exact.read(member) == jpeg(photo(40, 30, seed=0), camera=True)


@of(SET, ROUTES, "POST /import")
def test_an_export_is_imported(row: Row, own: Client) -> None:
    exported = own.get("/export?kind=original").body
    own.delete("/images?all=True")
    report = row.ask(own, exported, headers={"Content_Type": "application/zip"})
    assert report.status == 200
    assert all(name in report.body.decode() for name in (ID, ID2, ID3))
    assert names_of(own.get("/images?label=ok&time__exists=True")) == [ID, ID2]


@of(SET, ROUTES, "POST /import of its own export")
def test_its_own_export_is_imported(row: Row, tmp_path: Path) -> None:
    body = _own_export(tmp_path).read_bytes()
    with serving(embedded(tmp_path, create_new=True), tmp_path) as served:
        report = row.ask(served.client, body, headers={"Content_Type": "application/zip"})
        assert report.status == 200, report.body
        assert names_of(served.client.get("/images?sort=n")) == [ID, ID2, ID3]
        record = served.client.get(f"/images/{ID}?meta=True").json()
    assert (record["filename"], record["data"]["userId"]) == ("a.jpg", "u-7")


@of(SET, ROUTES, "GET /docs")
@pytest.mark.usefixtures("house")
def test_there_are_docs(row: Row, house: Client) -> None:
    assert row.ask(house).status == house.get("/openapi.json").status == 200


_FOUND = {
    "?KEY=VALUE": [ID, ID2],
    "?KEY=VALUE&regex=true": [ID, ID2],
    "?file=NAME": [ID],
    "?from=TIME&to=TIME": [ID],
    "?sort=KEY&order=-1": [ID3, ID2, ID],
    "?limit=N&skip=M": [ID2],
    '?filter={"data.n": {"$gt": 3}}': [ID2, ID3],
}


@of(SET, PARAMETERS, *_FOUND)
def test_the_same_images_are_found(row: Row, house: Client) -> None:
    answer = row.ask(house)
    assert names_of(answer) == _FOUND[row.there]
    if row.there == "?limit=N&skip=M":
        assert 'rel="next"' in answer.headers["Link"]


_FURTHER = {
    "n=3": [ID],
    "filename=a.jpg": [ID],
    "uploaded__gt=2020-01-01": [ID, ID2, ID3],
    "filter=x": [],
    "data.label=ok": [ID, ID2],
}


@pytest.mark.parametrize("query", _FURTHER)
def test_what_the_notes_say_of_parameters_is_so(query: str, house: Client) -> None:
    assert query.partition("=")[0] in DOCUMENT.read_text()
    assert names_of(house.get(f"/images?{query}")) == _FURTHER[query]


@pytest.mark.parametrize("refused", ["label__regex=(?=ok)", "limit=1001"])
def test_what_the_notes_say_is_refused_is_refused(refused: str, house: Client) -> None:
    assert house.get(f"/images?{refused}").status == 400


@of(SET, PARAMETERS, "?ids=A&ids=B")
def test_images_are_found_by_their_ids(row: Row, house: Client) -> None:
    assert names_of(row.ask(house, ID=ID, ID2=ID3)) == [ID, ID3]


@of(SET, PARAMETERS, "?select=KEYS")
def test_what_is_wanted_of_each_can_be_said(row: Row, house: Client) -> None:
    assert row.ask(house).json()["images"][0] == {"name": ID, "data": {"label": "ok"}}


@of(SET, FIELDS, "_id", "file", "time", "data", "userId")
def test_what_was_known_of_an_image_is_known_here(row: Row, house: Client) -> None:
    known = {
        "_id": [ID],
        "file": ["a.jpg", "line1/a.jpg"],
        "time": [None, "2022-10-02T15:59:32.123Z"],
        "data": [None],
        "userId": [None, "u-7"],
    }
    record = house.get(f"/images/{ID}?meta=True").json()
    values = [at(record, path) for path in row.spans]
    expected = known[row.there]
    assert [each if want is not None else None for each, want in zip(values, expected, strict=True)] == expected
    if row.there == "data":
        assert set(values[0]) == {"label", "n", "at", "file", "time", "userId"}
    if row.there == "time":
        assert values[0].endswith("Z")
    if row.there == "userId":
        assert values[0] is None


def at(record: Any, path: str) -> Any:
    """What a dotted path of the document leads to; a member that is missing is a mistake."""
    for member in path.split("."):
        record = record[member]
    return record


# -- images and artifacts under their SHA-256 ---------------------------------------------

PICTURE, MASK, TEXT = png(photo(400, 300)), b"a mask", b"no picture"
HEX, MASK_HEX, TEXT_HEX = (hashlib.sha256(content).hexdigest() for content in (PICTURE, MASK, TEXT))
CREATED = 1759650000.5


def _stored(folder: Path) -> Path:
    """What the store leaves behind: its data folder."""
    image = {"kind": "image", "mime": "image/png", "width": 400, "height": 300, "created_at": CREATED}
    records: dict[bytes, dict[str, Any]] = {
        PICTURE: {**image, "bytes": len(PICTURE)},
        TEXT: {**image, "mime": "text/plain", "bytes": len(TEXT), "width": None, "height": None},
        MASK: {"run": 7, "kind": "mask of a leaf", "bytes": len(MASK), "created_at": CREATED},
    }
    for content, meta in records.items():
        sha256 = hashlib.sha256(content).hexdigest()
        for kind, name, written in (("blobs", sha256, content), ("meta", f"{sha256}.json", json.dumps(meta).encode())):
            path = folder / "iss" / kind / sha256[:2] / sha256[2:4] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(written)
    return folder / "iss"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The store after its import; what tests add does no harm to the others."""
    folder = tmp_path_factory.mktemp("store")
    with serving(embedded(folder, create_new=True, serve_originals=True), folder) as served:
        take_in(served, _stored(folder))
        yield served.client


def _form(content: bytes, filename: str) -> tuple[bytes, dict[str, str]]:
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'.encode()
    return head + content + b"\r\n--b--\r\n", {"Content_Type": "multipart/form-data; boundary=b"}


@of(BLOBS, ROUTES, "POST /images")
def test_a_picture_is_named_by_its_bytes(row: Row, store: Client) -> None:
    content = png(photo(30, 20, seed=5))
    body, headers = _form(content, "a.png")
    first, again = row.ask(store, body, headers=headers), row.ask(store, body, headers=headers)
    assert (first.status, again.status) == (201, 200)
    expected = (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), "a.png")
    assert tuple(again.json()[member] for member in ("image_id", "bytes", "filename")) == expected
    body, headers = _form(b"no picture", "a.txt")
    assert row.ask(store, body, headers=headers).status == 415


@of(BLOBS, ROUTES, "GET /images/sha256:…", "GET /artifacts/sha256:… of an image")
def test_the_exact_bytes_of_an_image_are_served(row: Row, store: Client) -> None:
    answer = row.ask(store, HEX=HEX)
    assert (answer.body, answer.headers["Content-Type"]) == (PICTURE, "image/png")
    assert answer.headers["ETag"]
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    assert row.ask(store, headers={"Range": "bytes=0-3"}, HEX=HEX).body == PICTURE[:4]
    assert picture_of(store.get(f"/images/sha256:{HEX}"))[0] == "JPEG"
    assert store.get(f"/artifacts/sha256:{HEX}").status == 404


@of(BLOBS, ROUTES, "GET /images/sha256:…, smaller")
def test_an_image_under_its_digest_is_scaled(row: Row, store: Client) -> None:
    assert picture_of(row.ask(store, HEX=HEX)) == ("JPEG", (300, 225))


@of(BLOBS, ROUTES, "POST /artifacts?kind=K&meta={}")
def test_an_artifact_is_stored(row: Row, store: Client) -> None:
    body, headers = _form(b"weights", "model.bin")
    first, again = row.ask(store, body, headers=headers), row.ask(store, body, headers=headers)
    assert (first.status, again.status) == (201, 200)
    assert first.json()["artifact_id"] == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"
    assert (first.json()["kind"], first.json()["bytes"]) == ("mask", len(b"weights"))
    artifacts = store.get("/artifacts?meta.run=7&kind=mask").json()["artifacts"]
    assert [artifact["artifact_id"] for artifact in artifacts] == [first.json()["artifact_id"]]
    assert store("POST", "/artifacts?meta=%7B", body, **headers).status == 400


@of(BLOBS, ROUTES, "GET /artifacts/sha256:…")
def test_the_exact_bytes_of_an_artifact_are_served(row: Row, store: Client) -> None:
    answer = row.ask(store, HEX=MASK_HEX)
    assert answer.body == MASK
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["Repr-Digest"].startswith("sha-256=:")
    assert row.ask(store, headers={"Range": "bytes=0-0"}, HEX=MASK_HEX).body == MASK[:1]


@of(BLOBS, ROUTES, "GET /health", "GET /healthz")
def test_health_is_told(row: Row, store: Client) -> None:
    assert row.ask(store).json() == {"ok": True}
    assert store.get("/readyz").status == 200


@of(BLOBS, ROUTES, "GET /docs")
def test_the_store_has_docs_too(row: Row, store: Client) -> None:
    assert row.ask(store).status == 200


@of(BLOBS, FIELDS, "image_id", "filename", "bytes", "mime", "width height", "created_at")
def test_what_was_known_of_a_picture_is_known_here(row: Row, store: Client) -> None:
    body, headers = _form(png(photo(31, 21, seed=6)), "b.png")
    uploaded = store("POST", "/images", body, **headers).json()
    record = store.get(f"/images/sha256:{HEX}?meta=True").json()
    known: dict[str, list[Any]] = {
        "image_id": [f"sha256:{HEX}", f"sha256:{HEX}"],
        "bytes": [len(PICTURE)],
        "mime": ["image/png"],
        "width height": [400, 300],
    }
    if row.there == "filename":
        assert uploaded["filename"] == "b.png"
    elif row.there == "created_at":
        artifact = store.get(f"/artifacts?artifact_id=sha256:{MASK_HEX}").json()["artifacts"][0]
        assert record["uploaded"].endswith("Z")
        assert [at(record, row.spans[1]), at(artifact, row.spans[2])] == [CREATED, CREATED]
    else:
        assert [at(record, path) for path in row.spans] == known[row.there]
    assert record["data"]["mime"] == "image/png"


@of(BLOBS, FIELDS, "artifact_id", "kind")
def test_what_was_known_of_an_artifact_is_known_here(row: Row, store: Client) -> None:
    artifact = store.get(f"/artifacts?artifact_id=sha256:{MASK_HEX}").json()["artifacts"][0]
    assert at(artifact, row.spans[0]) == {"artifact_id": f"sha256:{MASK_HEX}", "kind": "mask-of-a-leaf"}[row.there]
    assert artifact["meta"]["kind"] == "mask of a leaf"


# -- descriptions without a schema --------------------------------------------------------

TALE: list[dict[str, Any]] = [
    {"name": "alpine", "size": 18, "stars": 5, "distro": "Alpine Linux 3.4"},
    {"name": "busybox", "size": 30, "stars": 5, "description": "Small"},
    {"name": "nginx", "size": 200, "stars": 9, "description": "nginx in Docker"},
    {
        "name": "onepill/docker-openresty:latest",
        "size": 250,
        "stars": 3,
        "description": "OpenResty version of a Docker image",
        "softwares": [{"ver": "1.24.2", "software": "httpd"}],
    },
    {
        "name": "python",
        "size": 400,
        "stars": 8,
        "distro": "Ubuntu 14.04",
        "softwares": [{"ver": "3.4.2", "software": "python"}, {"ver": "4.3.11", "software": "bash"}],
    },
    {"name": "redis", "size": "unknown", "stars": 4},
    {"name": "scratch", "stars": 0},
]
NAMES = [str(tale["name"]) for tale in TALE]
_ALPINE, _BUSYBOX, _NGINX, _RESTY, _PYTHON, _REDIS, _SCRATCH = NAMES
_TALE_IDS = {name: f"58467ada8d8c26001116f16{number}" for number, name in enumerate(NAMES)}


def _pulled(folder: Path) -> Path:
    """What ``ImagesManager.py pull`` writes."""
    documents = [{"_id": _TALE_IDS[str(tale["name"])], **tale, "__v": 0} for tale in TALE]
    (folder / "images.json").write_text(json.dumps({"count": len(documents), "images": documents}))
    return folder / "images.json"


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The descriptions after their import; only read."""
    yield from _descriptions(tmp_path_factory.mktemp("tales"))


@pytest.fixture
def own_tales(tmp_path: Path) -> Iterator[Client]:
    """The same for a test of its own."""
    yield from _descriptions(tmp_path)


def _descriptions(folder: Path) -> Iterator[Client]:
    config = embedded(folder, create_new=True, repository_base_pathname="api/images")
    with serving(config, folder) as served:
        take_in(served, _pulled(folder))
        yield served.client


@of(TALES, ROUTES, "POST /api/images")
def test_a_description_names_itself(row: Row, own_tales: Client) -> None:
    members = {"name": "library/debian:8", "stars": 2}
    assert row.send(own_tales, members).json()["name"] == "library/debian:8"
    assert row.send(own_tales, {**members, "stars": 3}).json()["data"] == {**members, "stars": 3}
    headers = {"Content_Type": "application/json", "If_None_Match": "*"}
    assert row.ask(own_tales, json.dumps(members), headers=headers).status == 412


@of(TALES, ROUTES, "GET /api/images")
def test_descriptions_are_listed(row: Row, tales: Client) -> None:
    answer = row.ask(tales)
    assert names_of(answer) == NAMES
    assert answer.json()["count"] == len(NAMES)
    assert answer.json()["images"][2]["data"]["stars"] == 9


@of(TALES, ROUTES, "GET /api/images?total=true")
def test_how_many_there_are_is_told(row: Row, tales: Client) -> None:
    assert row.ask(tales).json()["count"] == len(NAMES)


@of(TALES, ROUTES, "GET /api/images/:id")
def test_a_description_is_told_by_its_name(row: Row, tales: Client) -> None:
    assert row.ask(tales, NAME=_RESTY).json()["data"]["size"] == 250
    assert names_of(tales.get(f"/api/images?_id={_TALE_IDS[_RESTY]}")) == [_RESTY]


@of(TALES, ROUTES, "PUT /api/images/:id")
def test_only_the_given_fields_are_changed(row: Row, own_tales: Client) -> None:
    changed = row.send(own_tales, {"description": "new", "name": "other"}, NAME=_NGINX).json()
    assert (changed["name"], changed["data"]["description"], changed["data"]["stars"]) == (_NGINX, "new", 9)
    assert changed["data"]["name"] == "other"
    replaced = own_tales("PUT", f"/api/images/{_NGINX}", '{"x": 1}', Content_Type="application/json")
    assert replaced.json()["data"] == {"x": 1}


@of(TALES, ROUTES, "DELETE /api/images/:id")
def test_a_description_is_deleted(row: Row, own_tales: Client) -> None:
    assert row.ask(own_tales, NAME=_NGINX).status == 200
    assert row.ask(own_tales, NAME=_NGINX).status == 404
    assert _NGINX not in names_of(own_tales.get("/api/images"))


_SEARCHED = {
    "GET /search?python=3.4": [_PYTHON],
    "GET /search?stars_gt=5": [_NGINX, _PYTHON],
    "GET /search?size_lte=200": [_ALPINE, _BUSYBOX, _NGINX],
    "GET /search?distro=ubuntu 14": [_PYTHON],
    "GET /search?sort=stars": [_NGINX, _PYTHON, _ALPINE, _BUSYBOX, _REDIS, _RESTY, _SCRATCH],
    "GET /search?page=2&limit=1": [_BUSYBOX],
}


@of(TALES, ROUTES, *_SEARCHED)
def test_the_same_descriptions_are_searched(row: Row, tales: Client) -> None:
    answer = row.ask(tales)
    assert names_of(answer) == _SEARCHED[row.there]
    assert {"count", "page", "limit", "pages", "images"} <= set(answer.json())


@of(TALES, ROUTES, "GET /stats/stars")
def test_statistics_are_told(row: Row, tales: Client) -> None:
    document = row.ask(tales).json()
    assert {name: document[name] for name in ("_id", "max", "min", "avg", "count", "key")} == {
        "_id": None,
        "max": 9,
        "min": 0,
        "avg": pytest.approx(34 / 7),
        "count": 7,
        "key": "stars",
    }
    assert document["values"][0] == {"count": 2, "value": 5}
    assert re.findall(r'"(\w+)"', row.note) == list(document)


_OPERATORS = {
    "sort=name": NAMES,
    "sort=-name": NAMES[::-1],
    "select=name": NAMES,
    "skip=5": NAMES[5:],
    "limit=5": NAMES[:5],
    "name__equals=nginx": [_NGINX],
    "name=nginx": [_NGINX],
    "name__ne=nginx": [name for name in NAMES if name != _NGINX],
    "size__gt=200": [_RESTY, _PYTHON],
    "size__gte=200": [_NGINX, _RESTY, _PYTHON],
    "size__lt=200": [_ALPINE, _BUSYBOX],
    "size__lte=200": [_ALPINE, _BUSYBOX, _NGINX],
    "size__in=30,200": [_BUSYBOX, _NGINX],
    "size__nin=18,30": [_NGINX, _RESTY, _PYTHON, _REDIS, _SCRATCH],
    "description__regex=Docker": [_NGINX, _RESTY],
}


@of(TALES, PARAMETERS, *_OPERATORS)
def test_the_same_descriptions_are_found(row: Row, tales: Client) -> None:
    answer = row.ask(tales)
    assert names_of(answer) == _OPERATORS[row.there]
    if row.there == "select=name":
        assert answer.json()["images"][0] == {"name": _ALPINE}


@of(TALES, PARAMETERS, "select=stars")
def test_a_member_of_the_data_is_selected(row: Row, tales: Client) -> None:
    assert row.ask(tales).json()["images"][0] == {"data": {"stars": 5}}


@of(TALES, FIELDS, "name", "_id", "every other")
def test_what_was_said_is_said_here(row: Row, tales: Client) -> None:
    record = tales.get(f"/api/images/{_NGINX}?meta=True").json()
    expected = {"name": [_NGINX, _NGINX], "_id": [_TALE_IDS[_NGINX]], "every other": [9]}
    assert [at(record, path) for path in row.spans] == expected[row.there]
    if row.there == "every other":
        assert names_of(tales.get("/api/images?stars=9")) == [_NGINX]


# -- settings -----------------------------------------------------------------------------

_THEIRS = {
    "APP_PORT": "3000",
    "MONGODB_CONNECTION_STRING": "mongodb://secret-7f3a@mongo",
    "UPLOADS_DIRECTORY": "uploads",
    "S3_BUCKET": "images",
    "S3_ACCESS_KEY_ID": "secret-7f3a",
    "S3_SECRET_ACCESS_KEY": "secret-7f3a",
    "S3_REGION": "eu",
    "S3_ENDPOINT": "https://s3.example",
    "OIDC_JWKS_URI": "https://id.example/jwks",
    "IMAGE_SCOPE": "user",
    "USER_IDENTIFIER": "sub",
    "ISS_DATA": "data",
    "ISS_HOST": "0.0.0.0",
    "ISS_PORT": "8000",
}


@of(SET, SETTINGS, "APP_PORT", "UPLOADS_DIRECTORY")
def test_what_means_the_same_is_read_below_our_own_settings_and_told(row: Row, tmp_path: Path) -> None:
    theirs = {row.there: _THEIRS[row.there]}
    (tmp_path / "config.yml").write_text(row.spans[0])
    assert load(None, theirs) == load(tmp_path / "config.yml", {}) != Config()
    (line,) = foreign(theirs, load(None, theirs))
    assert line.startswith(f"{row.there} is read as ")
    ours = {"IMAGE_REPO_LISTEN": "0.0.0.0:1", "IMAGE_REPO_PERSISTENT_STORE_CONFIGURATION__PATH": "ours"}
    assert load(None, {**theirs, **ours}) == load(None, ours)
    assert foreign(theirs, load(None, ours)) == []


def test_a_port_that_is_none_is_refused_at_its_place() -> None:
    with pytest.raises(ConfigurationError, match="APP_PORT"):
        load(None, {"APP_PORT": "many"})


@of(SET, SETTINGS, "MONGODB_CONNECTION_STRING")
def test_what_does_it_here_is_a_setting_and_ends_the_advice(row: Row, tmp_path: Path) -> None:
    _same_setting(row, tmp_path)


@of(BLOBS, SETTINGS, "ISS_DATA", "ISS_HOST ISS_PORT")
def test_so_it_is_for_the_store(row: Row, tmp_path: Path) -> None:
    _same_setting(row, tmp_path)


def _same_setting(row: Row, folder: Path) -> None:
    variables = row.there.split()
    theirs = {variable: _THEIRS[variable] for variable in variables}
    (line,) = foreign(theirs, load(None, theirs))
    assert all(variable in line for variable in variables)
    (setting,) = yaml.safe_load(row.spans[0])
    assert setting in line
    (folder / "config.yml").write_text(row.spans[0])
    assert foreign(theirs, load(folder / "config.yml", {})) == []
    assert load(None, theirs) == Config()


@of(SET, SETTINGS, "S3_BUCKET S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY S3_REGION S3_ENDPOINT")
def test_the_variables_of_s3_mean_the_same(row: Row) -> None:
    assert row.here == "the same"
    theirs = {variable: _THEIRS[variable] for variable in row.there.replace("`", "").split()}
    config = load(None, theirs)
    store = config.persistent_store_configuration
    assert (store.resolved_kind, store.container) == ("s3", theirs["S3_BUCKET"])
    names = ("access_key_id", "secret_access_key", "region", "endpoint")
    assert all(getattr(store.credentials, name) == theirs[f"S3_{name.upper()}"] for name in names)
    assert foreign(theirs, config) == []


@of(SET, SETTINGS, "OIDC_JWKS_URI")
def test_the_keys_of_its_provider_are_ours(row: Row, tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(row.spans[0])
    ours = load(tmp_path / "config.yml", {}).access
    assert ours == load(None, {row.there: _THEIRS[row.there]}).access
    assert not ours.is_open
    assert foreign({row.there: "x"}, Config()) == []


@of(SET, SETTINGS, "IMAGE_SCOPE", "USER_IDENTIFIER")
def test_users_are_kept_apart_by_its_variables(row: Row, tmp_path: Path) -> None:
    theirs = {row.there: _THEIRS[row.there]}
    (tmp_path / "config.yml").write_text(row.spans[0])
    assert load(None, theirs) == load(tmp_path / "config.yml", {}) != Config()
    (line,) = foreign(theirs, load(None, theirs))
    assert line.startswith(f"{row.there} is read as access.")
    assert load(tmp_path / "config.yml", {row.there: ""}) == load(tmp_path / "config.yml", {})


def test_a_scope_that_is_none_does_not_start_open() -> None:
    with pytest.raises(ConfigurationError, match="IMAGE_SCOPE"):
        load(None, {"IMAGE_SCOPE": "users"})


def test_their_settings_are_told_at_the_start_without_their_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in _THEIRS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    startup.prepare(embedded(tmp_path, persistent_store_configuration=PersistentStoreConfiguration(), create_new=True))
    log_text = "\n".join(record.getMessage() for record in caplog.records)
    assert not [name for name in _THEIRS if name not in log_text and name not in (*IMAGE_STORAGE, *OBEYED)]
    assert "secret-7f3a" not in log_text


@pytest.mark.parametrize(("options", "is_logged"), [((), True), (("-q",), False)], ids=["aloud", "quietly"])
def test_the_command_tells_them_unless_it_is_to_be_quiet(
    options: tuple[str, ...], is_logged: bool, tmp_path: Path
) -> None:
    config = commands.configure(tmp_path, create_new=True)
    ended = commands.run("-y", config, "-t", *options, MONGODB_URL="mongodb://x")
    assert ended.returncode == 0, ended.stderr
    assert ("MONGODB_URL is not read here" in ended.stdout + ended.stderr) is is_logged


def test_a_setting_of_theirs_in_a_file_is_a_mistake_with_the_same_advice(tmp_path: Path) -> None:
    assert "app_port: is not read here: HOST:PORT is listen" in _mistake(tmp_path, "app_port: 3000")


def _mistake(folder: Path, text: str) -> str:
    (folder / "config.yml").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load(folder / "config.yml", {})
    (mistake,) = refused.value.mistakes
    return mistake


# -- what they leave behind ---------------------------------------------------------------


def _own_export(folder: Path) -> Path:
    """The zip of the service: the files, its documents as it tells them, and a spreadsheet."""
    _, uploads = _exported(folder)
    documents = [plain(json.loads(line)) for line in _EXPORTED.splitlines()]
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        for document in documents:
            archive.write(uploads / document["file"], document["file"])
        archive.writestr("mongodb_data.json", json.dumps(documents))
        archive.writestr("mongodb_data.xlsx", b"PK")
    return folder / "export.zip"


def _check_set(config: Path) -> None:
    originals = config.parent / "originals"
    assert (originals / f"{ID}.jpg").read_bytes() == jpeg(photo(40, 30, seed=0), camera=True)
    assert json.loads((originals / f"{ID}.json").read_text())["data"]["userId"] == "u-7"


def _check_tales(config: Path) -> None:
    record = json.loads((config.parent / "originals" / "nginx.json").read_text())
    assert record["data"]["stars"] == 9


def _check_store(config: Path) -> None:
    originals = config.parent / "originals"
    assert [path.name for path in originals.glob("sha256*.png")] == [f"sha256:{HEX}.png"]
    assert {path.stem for path in (originals / ".artifacts").rglob("*.json")} == {MASK_HEX, TEXT_HEX}


_LEFT: dict[tuple[str, str], tuple[Callable[[Path], Any], Callable[[Path], None]]] = {
    (SET, "mongoexport --collection images --out images.json"): (_exported, _check_set),
    (SET, "GET /export"): (_own_export, _check_set),
    (BLOBS, "ISS_DATA"): (_stored, _check_store),
    (TALES, "ImagesManager.py pull --file=images.json"): (_pulled, _check_tales),
}


@of(SET, LEFT, *(there for system, there in _LEFT if system == SET))
def test_what_a_data_set_leaves_is_taken_in(row: Row, tmp_path: Path) -> None:
    _imported(row, tmp_path)


@of(BLOBS, LEFT, *(there for system, there in _LEFT if system == BLOBS))
def test_what_a_store_leaves_is_taken_in(row: Row, tmp_path: Path) -> None:
    _imported(row, tmp_path)


@of(TALES, LEFT, *(there for system, there in _LEFT if system == TALES))
def test_what_a_store_of_descriptions_leaves_is_taken_in(row: Row, tmp_path: Path) -> None:
    _imported(row, tmp_path)


def _imported(row: Row, folder: Path) -> None:
    """Runs the command that stands in the row."""
    leave, check = _LEFT[row.system, row.there]
    leave(folder)
    config = commands.configure(folder, create_new=True)
    words = row.spans[0].removeprefix("image_repo ").split()
    ended = commands.run("-y", config, *words, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    check(config)


_EXTENDED = [row.there for row in ROWS.values() if row.there.startswith('{"$')]


@of(SET, LEFT, *_EXTENDED)
def test_extended_json_becomes_what_the_table_says(row: Row) -> None:
    assert json.dumps(plain(json.loads(row.there))) == json.dumps(json.loads(row.spans[0]))


# -- the first image_repo -------------------------------------------------------------------


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Client]:
    """Pictures of two folders."""
    with serving(embedded(tmp_path, create_new=True), tmp_path) as served:
        for name in ("sites/north", "sites/south", "alone"):
            assert served.client.put(f"/images/{name}", jpeg(photo(40, 20))).status == 201
        yield served.client


@of(FIRST, ANSWERS, "GET /images", "GET /images?regex=EXPR")
def test_names_are_found_by_any_part(row: Row, first: Client) -> None:
    names = names_of(row.ask(first))
    assert names == (["sites/north"] if "regex" in row.here else ["alone", "sites/north", "sites/south"])
    assert names_of(first.get("/images?regex=^or$")) == []


@of(FIRST, ANSWERS, "GET /images/NAME?meta=True", "GET /images/NAME?url=True")
def test_facts_and_links_of_one_image_are_an_object(row: Row, first: Client) -> None:
    answer = row.ask(first, NAME="alone").json()
    assert answer["name"] == "alone"
    assert answer.keys() == {"name", "url", "expires"} or "width" in answer


@of(FIRST, ANSWERS, "GET /images/FOLDER/")
def test_a_folder_is_a_zip_of_plain_names(row: Row, first: Client) -> None:
    members = zipfile.ZipFile(io.BytesIO(row.ask(first).body)).namelist()
    assert [name for name in members if name.endswith(".jpg")] == ["sites/north.jpg", "sites/south.jpg"]


@of(FIRST, ANSWERS, "GET /images/NAME?xsize=30", "GET /images/NAME?kind=bmp", "GET /images/NAME?thumbnail=True")
def test_pictures_of_the_first_parameters(row: Row, first: Client) -> None:
    sizes = {"xsize": (30, 15), "kind": (40, 20), "thumbnail": (40, 20)}
    (size,) = (size for parameter, size in sizes.items() if parameter in row.here)
    assert picture_of(row.ask(first, NAME="alone"))[1] == size
    assert first.get("/images/alone?xsize=400").image().size == (40, 20)
    assert {first.get(f"/images/alone?kind={kind}").status for kind in ("bmp", "bpg")} == {400}


@of(FIRST, ANSWERS, "POST /images/NAME")
def test_an_upload_by_the_first_form_answers_the_record(row: Row, first: Client) -> None:
    body, headers = _form(jpeg(photo(8, 6)), "a.txt")
    sent = row.ask(first, body, headers=headers, NAME="new")
    assert (sent.status, sent.json()["name"]) == (201, "new")


@of(FIRST, ANSWERS, "DELETE /images/NAME")
def test_a_deletion_deletes(row: Row, first: Client) -> None:
    assert row.ask(first, NAME="alone").status == 200
    assert first.get("/images/alone").status == 404


def test_the_command_of_the_page_lists_the_renditions_of_a_container_of_the_first(tmp_path: Path) -> None:
    (line,) = (line for line in DOCUMENT.read_text().splitlines() if line.startswith("    swift list CONTAINER |"))
    keys = "a+original(None).jpg\nsites/b%20c+size(30,None).jpg\nphoto (1).jpg\nd+thumbnail(50,50,es).png\n"
    command = line.partition("|")[2]
    listed = subprocess.run(["bash", "-c", command], input=keys, capture_output=True, text=True, check=True)
    assert listed.stdout.split() == ["sites/b%20c+size(30,None).jpg", "d+thumbnail(50,50,es).png"]

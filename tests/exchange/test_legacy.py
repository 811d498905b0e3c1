"""What neighbours leave behind is read to the last entry, whatever is wrong with one, and nothing outside of it is.

The samples of MongoDB Extended JSON are those of its specification (mongodb/specifications, extended-json, "Conversion
table" and "Example"), and of the manual for version 1; the documents have the fields of the services that wrote them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import jpeg, photo
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.errors import BadParameter, Problem
from image_repo.exchange.base import About, Exported, Item
from image_repo.exchange.imagefolder import ImageFolder
from image_repo.exchange.importer import Importer, from_folder
from image_repo.exchange.legacy import Blob, Blobs, Documents, detect, outcomes
from image_repo.exchange.legacy.extended_json import MAX_LEVELS, NotExtended, plain
from image_repo.exchange.legacy.json_stream import CHUNK, MAX_VALUE_BYTES, values
from image_repo.exchange.manifest_lines import ManifestLines
from image_repo.model.names import ImageName
from image_repo.model.record import Record
from image_repo.repository.artifacts import Artifacts
from image_repo.repository.repository import Repository
from image_repo.repository.spool import Spool

OID = "57e193d7a9cc81b4027498b5"

# -- extended JSON ------------------------------------------------------------------------

EXTENDED: dict[str, tuple[Any, Any]] = {
    "an object id": ({"$oid": OID}, OID),
    "a 32-bit number": ({"$numberInt": "42"}, 42),
    "a 64-bit number, with all its digits": ({"$numberLong": "9223372036854775807"}, 9223372036854775807),
    "a 64-bit number of version 1": ({"$numberLong": 7}, 7),
    "a double": ({"$numberDouble": "-42.5"}, -42.5),
    "a double with an exponent": ({"$numberDouble": "1.0E+2"}, 100.0),
    "what is no number": ({"$numberDouble": "NaN"}, "NaN"),
    "infinity": ({"$numberDouble": "-Infinity"}, "-Infinity"),
    "a decimal that a double holds": ({"$numberDecimal": "0.1"}, 0.1),
    "a decimal that no double holds": (
        {"$numberDecimal": "0.1000000000000000000000001"},
        "0.1000000000000000000000001",
    ),
    "a decimal beyond every double": ({"$numberDecimal": "1E+6144"}, "1E+6144"),
    "a decimal that is none": ({"$numberDecimal": "NaN"}, "NaN"),
    "a time, relaxed": ({"$date": "2019-08-11T17:54:14.692Z"}, "2019-08-11T17:54:14.692Z"),
    "a time, canonical": ({"$date": {"$numberLong": "1565546054692"}}, "2019-08-11T17:54:14.692Z"),
    "a time of version 1 as a number": ({"$date": 1565546054692}, "2019-08-11T17:54:14.692Z"),
    "a time with another zone": ({"$date": "2019-08-11T19:54:14+0200"}, "2019-08-11T17:54:14.000Z"),
    "a time before 1970": ({"$date": {"$numberLong": "-1"}}, "1969-12-31T23:59:59.999Z"),
    "a time beyond the year 9999": ({"$date": {"$numberLong": "253402300800000"}}, 253402300800000),
    "bytes": ({"$binary": {"base64": "o0w498Or7cijeBSpkquNtg==", "subType": "00"}}, "o0w498Or7cijeBSpkquNtg=="),
    "bytes of version 1": ({"$binary": "AAEC", "$type": "00"}, "AAEC"),
    "a UUID as bytes": (
        {"$binary": {"base64": "c//SZESzTGmQ6OfR38A11A==", "subType": "04"}},
        "73ffd264-44b3-4c69-90e8-e7d1dfc035d4",
    ),
    "a UUID as text": ({"$uuid": "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"}, "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"),
    "a timestamp": ({"$timestamp": {"t": 1565545664, "i": 1}}, {"t": 1565545664, "i": 1}),
    "an expression": ({"$regularExpression": {"pattern": "^H", "options": "i"}}, "/^H/i"),
    "an expression of version 1": ({"$regex": "^H", "$options": "i"}, "/^H/i"),
    "a symbol": ({"$symbol": "a"}, "a"),
    "code": ({"$code": "function() {}"}, "function() {}"),
    "code with a scope": ({"$code": "f", "$scope": {"x": {"$numberInt": "1"}}}, {"$code": "f", "$scope": {"x": 1}}),
    "a reference": ({"$ref": "c", "$id": {"$oid": OID}}, {"$ref": "c", "$id": OID}),
    "a pointer": ({"$dbPointer": {"$ref": "c", "$id": {"$oid": OID}}}, {"$dbPointer": {"$ref": "c", "$id": OID}}),
    "the least key": ({"$minKey": 1}, "MinKey"),
    "the greatest key": ({"$maxKey": 1}, "MaxKey"),
    "nothing": ({"$undefined": True}, None),
    "a query that somebody has stored": ({"$regex": "^H"}, {"$regex": "^H"}),
    "a name with a dollar of the user's own": ({"$price": 3}, {"$price": 3}),
    "everything inside of objects and lists": ({"a": [{"b": {"$numberInt": "1"}}]}, {"a": [{"b": 1}]}),
    "what is plain already": ({"a": [1, 2.5, "x", True, None]}, {"a": [1, 2.5, "x", True, None]}),
}


@pytest.mark.parametrize("case", EXTENDED)
def test_extended_json_becomes_plain(case: str) -> None:
    given, expected = EXTENDED[case]
    made = plain(given)
    assert json.dumps(made) == json.dumps(expected)  # 1, 1.0 and True are not the same here


@pytest.mark.parametrize(
    "wrong",
    [
        {"$oid": "57e1"},
        {"$oid": 5},
        {"$numberInt": True},
        {"$numberInt": "4.2"},
        {"$numberLong": "٤٢"},
        {"$numberDouble": "1e999"},
        {"$numberDouble": "1_0"},
        {"$numberDecimal": "0x10"},
        {"$date": "yesterday"},
        {"$date": {"$date": {"$date": 0}}},
        {"$date": None},
        {"$binary": {"base64": "§", "subType": "00"}},
        {"$binary": 5},
        {"$uuid": "73ffd264"},
        {"$timestamp": {"t": 1}},
        {"$timestamp": {"t": "a", "i": 1}},
        {"$regularExpression": "^H"},
        {"$symbol": 1},
    ],
    ids=json.dumps,
)
def test_a_wrapper_that_does_not_hold_what_it_says_is_named(wrong: Any) -> None:
    with pytest.raises(NotExtended, match=r"\$"):
        plain({"a": wrong})


def test_extended_json_without_pymongo_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text('{"name": "a"}')
    (tmp_path / "dump.json").write_text('{"name": "a", "at": {"$date": 0}}\n{"name": "b"}')
    script = (
        "import sys; sys.modules['bson'] = None\n"
        "from pathlib import Path\n"
        "from image_repo.exchange.legacy import detect\n"
        "print([item.name for item in detect(Path('plain.json')).items()])\n"
        "list(detect(Path('dump.json')).items())"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.stdout == "['a']\n"
    assert "LibraryMissing" in ended.stderr
    assert "pip install 'image_repo[mongo]'" in ended.stderr


def test_nothing_is_followed_deeper_than_it_may_be() -> None:
    deep: Any = 1
    for _ in range(MAX_LEVELS + 1):
        deep = [deep]
    with pytest.raises(NotExtended, match="deep"):
        plain(deep)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text().map(lambda t: t.lstrip("$")), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_plain_json_stays_as_it_is(value: Any) -> None:
    assert plain(value) == value


# -- one value after the other ------------------------------------------------------------

DOCUMENTS = [{"name": "a"}, {"name": 'b"]},{[\\'}, {"name": "c", "inner": {"list": [[], {}, "}"]}}]
INDENTED = "".join(json.dumps(document, indent="\t") + "\n" for document in DOCUMENTS)
WRITTEN = {
    "JSON lines": "\n".join(map(json.dumps, DOCUMENTS)),
    "JSON lines that end as on Windows, with empty ones": "\r\n\r\n".join(map(json.dumps, DOCUMENTS)) + "\r\n",
    "one array": json.dumps(DOCUMENTS),
    "one array over lines": json.dumps(DOCUMENTS, indent=1),
    "one behind the other, indented": INDENTED,
    "the page of a service": json.dumps({"count": 3, "images": DOCUMENTS}),
    "the page of another": json.dumps({"total": 3, "skip": "0", "limit": 100, "items": DOCUMENTS}, indent=2),
    "with a byte order mark": "\ufeff" + json.dumps(DOCUMENTS),
}


def reading(folder: Path, content: str | bytes, uploads: Path | None = None) -> list[Item]:
    file = folder / "dump.json"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    source = detect(file, uploads)
    assert isinstance(source, Documents)
    items = list(source.items())
    assert source.done == source.total
    return items


@pytest.mark.parametrize("form", WRITTEN)
def test_documents_are_read_however_they_are_written(form: str, tmp_path: Path) -> None:
    items = reading(tmp_path, WRITTEN[form])
    assert [item.data for item in items] == DOCUMENTS
    assert [item.problem for item in items] == [None] * 3


@pytest.mark.parametrize("form", WRITTEN)
def test_values_that_lie_across_what_is_read_at_a_time_are_whole(form: str, tmp_path: Path) -> None:
    long = [{"name": f"{number}", "text": '\\"' * (CHUNK // 5 + number)} for number in range(7)]
    written = {
        "JSON lines": "\n".join(map(json.dumps, long)),
        "one array": json.dumps(long),
        "one behind the other, indented": "".join(json.dumps(each, indent=1) + "\n" for each in long),
        "the page of a service": json.dumps({"count": 3, "images": long}),
    }
    assert [item.data for item in reading(tmp_path, written.get(form, written["one array"]))] == long


@given(
    st.lists(st.dictionaries(st.sampled_from(["name", "x", "_"]), _JSON, max_size=3), max_size=5),
    st.sampled_from([1, 2, 7, 1 << 20]),
)
def test_every_list_of_documents_is_split_where_json_says(documents: list[dict[str, Any]], size: int) -> None:
    for text in (json.dumps(documents), "\n".join(map(json.dumps, documents)), json.dumps(documents, indent=0)):
        encoded = text.encode()
        pieces = [encoded[at : at + size] for at in range(0, len(encoded), size)]
        assert [value.value for value in values(pieces)] == documents


GOOD = '{"name": "good"}'
DEEP = '{"name": "deep", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
BROKEN = {
    "no JSON": '{"name": ]',
    "NaN": '{"name": "x", "n": NaN}',
    "a number beyond every double": '{"name": "x", "n": 1e999}',
    "a number of 5,000 digits": '{"name": "x", "n": ' + "9" * 5000 + "}",
    "100,000 levels": DEEP,
    "half a surrogate pair": '{"name": "\\ud800"}',
    "no UTF-8": b'{"name": "\xff"}',
    "too many bytes": '{"name": "' + "x" * (MAX_VALUE_BYTES + 1) + '"}',
    "no object": "[1, 2]",
    "a value alone": '{"$oid": "57e193d7a9cc81b4027498b5"}',
    "no name": '{"x": 1}',
    "a name that is no text": '{"name": ["x"]}',
    "extended JSON that is none": '{"name": "x", "t": {"$date": "never"}}',
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.parametrize("form", ["lines", "array"])
def test_a_broken_entry_is_told_and_the_next_one_read(form: str, what: str, tmp_path: Path) -> None:
    broken = BROKEN[what] if isinstance(BROKEN[what], bytes) else BROKEN[what].encode()  # type: ignore[union-attr]
    pieces = [GOOD.replace("good", "before").encode(), broken, GOOD.encode()]
    if form == "array" and what == "no JSON":
        pieces[1] = b'{"name": nothing}'
    items = reading(tmp_path, b"\n".join(pieces) if form == "lines" else b"[" + b",".join(pieces) + b"]")
    assert [item.problem is None for item in items] == [True, False, True]
    assert items[1].entry.startswith("line 2" if form == "lines" else "element 2")
    assert isinstance(items[1].problem, Problem)
    assert items[1].problem.status < 500


@pytest.mark.parametrize("cut", ["[", '[{"name": "a"}', '[{"name": "a"},', '[{"name": "a"}, {"name'])
def test_a_list_that_is_cut_off_is_told(cut: str, tmp_path: Path) -> None:
    last = reading(tmp_path, cut)[-1]
    assert last.problem is not None
    assert "ends before" in last.problem.detail


@pytest.mark.parametrize("empty", ["[]", " [ ] ", '{"count": 0, "images": []}'])
def test_an_empty_list_is_empty(empty: str, tmp_path: Path) -> None:
    assert reading(tmp_path, empty) == []


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\xff\xd8\xff\xe0", b"", b"name,x\n"])
def test_other_files_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert detect(tmp_path / "file") is None


# -- an image-data-set service ------------------------------------------------------------

#: as ``mongoexport`` writes it since MongoDB 4.2: relaxed, and with ``--jsonFormat=canonical``
RELAXED = (
    '{"_id":{"$oid":"6339b5e4c5b1a4f0a1b2c3d4"},"file":"line1/a.jpg","__v":0,'
    '"data":{"label":"ok","score":0.98,"n":3},"time":{"$date":"2022-10-02T15:59:32.123Z"},"userId":"u-7"}'
)
CANONICAL = (
    '{"_id":{"$oid":"6339b5e4c5b1a4f0a1b2c3d4"},"file":"line1/a.jpg","__v":{"$numberInt":"0"},'
    '"data":{"label":"ok","score":{"$numberDouble":"0.98"},"n":{"$numberInt":"3"}},'
    '"time":{"$date":{"$numberLong":"1664726372123"}},"userId":"u-7"}'
)
#: as its own export writes it: ``mongodb_data.json``
OWN = (
    '[{"_id":"6339b5e4c5b1a4f0a1b2c3d4","file":"line1/a.jpg","__v":0,'
    '"data":{"label":"ok","score":0.98,"n":3},"time":"2022-10-02T15:59:32.123Z","userId":"u-7"}]'
)


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    folder = tmp_path / "uploads"
    (folder / "line1").mkdir(parents=True)
    (folder / "line1" / "a.jpg").write_bytes(b"bytes")
    (tmp_path / "secret").write_bytes(b"secret")
    return folder


@pytest.mark.parametrize("written", [RELAXED, CANONICAL, OWN], ids=["relaxed", "canonical", "its own export"])
def test_an_image_keeps_its_id_its_data_and_what_was_known_of_it(written: str, tmp_path: Path, uploads: Path) -> None:
    (item,) = reading(tmp_path, written, uploads)
    assert item.problem is None
    assert item.name == "6339b5e4c5b1a4f0a1b2c3d4"
    assert item.data == {
        "label": "ok",
        "score": 0.98,
        "n": 3,
        "file": "line1/a.jpg",
        "time": "2022-10-02T15:59:32.123Z",
        "userId": "u-7",
    }
    assert item.filename == "a.jpg"
    assert item.open is not None
    assert b"".join(item.open()) == b"bytes"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"time": "noon"}, {"time": "noon", "_time": "T", "file": "line1/a.jpg"}),
        ({"file": 1, "_file": 2}, {"file": 1, "_file": 2, "__file": "line1/a.jpg", "time": "T"}),
        ([1, 2], {"data": [1, 2], "time": "T", "file": "line1/a.jpg"}),
        (None, {"time": "T", "file": "line1/a.jpg"}),
    ],
    ids=["the user's own member stays", "both of the user's own stay", "a list is one member", "nothing was said"],
)
def test_what_was_known_never_covers_what_the_user_said(
    data: Any, expected: Any, tmp_path: Path, uploads: Path
) -> None:
    document = {"_id": "x", "file": "line1/a.jpg", "time": "T", "data": data}
    assert reading(tmp_path, json.dumps([document]), uploads)[0].data == expected


@pytest.mark.parametrize("identity", [None, True, 1.5, [], {"a": 1}, ""])
def test_what_identifies_an_image_has_to_be_one_thing(identity: Any, tmp_path: Path, uploads: Path) -> None:
    (item,) = reading(tmp_path, json.dumps([{"_id": identity, "file": "line1/a.jpg"}]), uploads)
    assert item.problem is not None
    assert "_id" in item.problem.detail


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (7, "7"),
        ("camera 1/7", "camera 1/7"),
        ({"$uuid": "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"}, "73ffd264-44b3-4c69-90e8-e7d1dfc035d4"),
    ],
    ids=["a number", "text", "a UUID"],
)
def test_ids_of_other_kinds_are_names_too(identity: Any, name: str, tmp_path: Path, uploads: Path) -> None:
    (item,) = reading(tmp_path, json.dumps([{"_id": identity, "file": "line1/a.jpg"}]), uploads)
    assert (item.name, item.problem) == (name, None)


def test_files_that_are_named_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="--uploads"):
        reading(tmp_path, RELAXED)


def _hostile(folder: Path) -> dict[str, str]:
    outside = folder.parent / "secret"
    (folder / "link.jpg").symlink_to(outside)
    (folder / "way").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe.jpg")
    return {
        "..": "../secret",
        ".. in between": "line1/../../secret",
        "absolute": str(outside),
        "a link": "link.jpg",
        "behind a link": "way/secret",
        "a folder": "line1",
        "a pipe": "pipe.jpg",
        "NUL": "a\0.jpg",
        "empty": "",
        "not there": "line1/b.jpg",
        "below a file": "line1/a.jpg/b",
        "too long": "x" * 5000,
    }


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path, uploads: Path) -> None:
    hostile = _hostile(uploads)
    documents = [{"_id": what, "file": file, "data": {}} for what, file in hostile.items()]
    items = reading(tmp_path, json.dumps(documents), uploads)
    for what, item in zip(hostile, items, strict=True):
        assert item.open is not None
        with pytest.raises(Problem) as refused:
            b"".join(item.open())
        assert refused.value.status == 400, what
        assert "secret" not in repr(refused.value.detail).replace(hostile[what], ""), what


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    (item,) = reading(tmp_path, RELAXED, tmp_path / "nowhere")
    assert item.open is not None
    with pytest.raises(Problem, match="folder"):
        b"".join(item.open())


def test_a_folder_of_the_exported_is_taken_in_with_what_it_tells(tmp_path: Path, uploads: Path) -> None:
    (uploads / "mongodb_data.json").write_text(f'[{OWN[1:-1]}, {{"_id": "y", "file": 5}}, 3, {{"_id": "x"}}]')
    files = [uploads / "mongodb_data.json", uploads / "line1" / "a.jpg"]
    with (tmp_path / "lines").open("w+b") as lines:
        items = {item.entry: item for item in from_folder(uploads, files, lines).items}
    picture = items.pop("line1/a.jpg")
    assert (picture.name, picture.filename) == ("6339b5e4c5b1a4f0a1b2c3d4", "a.jpg")
    assert picture.data is not None
    assert (picture.data["label"], picture.data["userId"]) == ("ok", "u-7")
    assert {entry: (item.name, item.problem is None) for entry, item in items.items()} == {
        "mongodb_data.json:2": ("y", True),
        "mongodb_data.json:3": ("", False),
        "mongodb_data.json:4": ("x", True),
    }


# -- descriptions -------------------------------------------------------------------------


def test_a_description_keeps_its_name_and_everything_else(tmp_path: Path) -> None:
    document = {
        "_id": "58467ada8d8c26001116f167",
        "name": "onepill/docker-openresty:latest",
        "stars": 0,
        "softwares": [{"ver": "1.24.2", "software": "httpd"}],
        "last_scan": "2016-12-06T08:46:18.414Z",
        "is_private": None,
    }
    (item,) = reading(tmp_path, json.dumps({"count": 1, "images": [document]}))
    assert (item.name, item.data, item.open, item.problem) == (document["name"], document, None, None)


def test_a_description_without_a_name_is_called_by_its_id(tmp_path: Path) -> None:
    (item,) = reading(tmp_path, json.dumps({"_id": {"$oid": OID}, "stars": 1}))
    assert (item.name, item.data) == (OID, {"_id": OID, "stars": 1})


def test_of_a_page_of_our_own_the_data_is_taken(tmp_path: Path) -> None:
    record = Record.description("a", {"n": 1}).public()
    (item,) = reading(tmp_path, json.dumps({"count": 1, "page": 1, "limit": 100, "pages": 1, "images": [record]}))
    assert (item.name, item.data) == ("a", {"n": 1})


def test_lines_that_belong_to_files_beside_them_are_refused(tmp_path: Path) -> None:
    (item,) = reading(tmp_path, '{"file_name": "a.jpg", "name": "a"}')
    assert item.problem is not None
    assert "zip" in item.problem.detail


# -- images and artifacts under their digest ----------------------------------------------


def store(folder: Path, content: bytes, meta: Any) -> str:
    """As the store writes it."""
    sha256 = hashlib.sha256(content).hexdigest()
    for kind, name, written in (("blobs", sha256, content), ("meta", sha256 + ".json", json.dumps(meta).encode())):
        path = folder / kind / sha256[:2] / sha256[2:4] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(written)
    return sha256


IMAGE = {"kind": "image", "bytes": 5, "mime": "image/png", "width": 1, "height": 1, "created_at": 1759650000.5}
ARTIFACT = {"run": 7, "kind": "calibration result", "bytes": 3, "created_at": 1759650001.25}


def blobs(folder: Path) -> list[Blob | Item]:
    source = detect(folder)
    assert isinstance(source, Blobs)
    read = [*source.images(), *source.artifacts()]
    assert source.done == source.total == len(read)
    return read


def test_an_image_is_called_by_its_digest(tmp_path: Path) -> None:
    sha256 = store(tmp_path, b"image", IMAGE)
    (blob,) = blobs(tmp_path)
    assert isinstance(blob, Blob)
    assert blob.is_image
    assert (blob.item.name, blob.item.sha256) == (f"sha256:{sha256}", sha256)
    assert blob.item.data == {"mime": "image/png", "created_at": 1759650000.5}
    assert b"".join(blob.open()) == b"image"


def test_an_artifact_has_its_kind_and_what_was_said(tmp_path: Path) -> None:
    store(tmp_path, b"art", ARTIFACT)
    (blob,) = blobs(tmp_path)
    assert isinstance(blob, Blob)
    assert not blob.is_image
    assert blob.kind == "calibration-result"
    assert blob.artifact_meta == {"run": 7, "created_at": 1759650001.25, "kind": "calibration result"}


def test_bytes_of_which_nothing_was_said_may_be_an_image(tmp_path: Path) -> None:
    sha256 = store(tmp_path, b"image", IMAGE)
    (tmp_path / "meta" / sha256[:2] / sha256[2:4] / f"{sha256}.json").unlink()
    (blob,) = blobs(tmp_path)
    assert isinstance(blob, Blob)
    assert blob.is_image
    assert (blob.item.data, blob.kind, blob.artifact_meta) == (None, None, {})


@pytest.mark.parametrize(
    "meta",
    [
        b"{",
        b'{"a": NaN}',
        b"[]",
        b"\xff",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": "' + b"x" * (1 << 20),
    ],
    ids=["no JSON", "NaN", "no object", "no UTF-8", "100,000 levels", "too long"],
)
def test_what_was_said_and_cannot_be_read_is_told(meta: bytes, tmp_path: Path) -> None:
    sha256 = store(tmp_path, b"image", IMAGE)
    (tmp_path / "meta" / sha256[:2] / sha256[2:4] / f"{sha256}.json").write_bytes(meta)
    store(tmp_path, b"other", IMAGE)
    read = blobs(tmp_path)
    assert sorted(isinstance(each, Blob) for each in read) == [False, True]


def test_what_lies_there_and_is_no_blob_is_told_and_no_link_is_followed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    store(folder, b"image", IMAGE)
    (tmp_path / "secret").write_bytes(b"secret")
    linked = hashlib.sha256(b"secret").hexdigest()
    (folder / "blobs" / linked).symlink_to(tmp_path / "secret")
    (folder / "blobs" / "notes.txt").write_bytes(b"notes")
    (folder / "blobs" / "\udcff").write_bytes(b"x")
    (folder / "blobs" / "away").symlink_to(tmp_path)
    (folder / "blobs" / ".hidden").write_bytes(b"x")
    deep = folder / "blobs" / "1/2/3/4/5/6"
    deep.mkdir(parents=True)
    members = {each.entry: each for each in blobs(folder)}
    assert sum(isinstance(each, Blob) for each in members.values()) == 2
    through = members[f"blobs/{linked}"]
    assert isinstance(through, Blob)
    with pytest.raises(Problem, match="symbolic link"):
        b"".join(through.open())
    refused = {entry for entry, each in members.items() if isinstance(each, Item) and each.problem}
    assert refused == {"blobs/notes.txt", "blobs/\\udcff", "blobs/away", "blobs/1/2/3/4/5"}


def test_another_folder_is_none(tmp_path: Path) -> None:
    assert detect(tmp_path) is None


# -- taken in -----------------------------------------------------------------------------


@dataclass(frozen=True)
class ImportTarget:
    repo: Repository
    artifacts: Artifacts


@pytest.fixture
def house(tmp_path: Path) -> Iterator[ImportTarget]:
    config = embedded(tmp_path / "repo", create_new=True)
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    repo = wiring.build(config)
    yield ImportTarget(repo, wiring.build_artifacts(config, repo))
    repo.close()


def taken(
    path: Path, house: ImportTarget, uploads: Path | None = None, *, dry_run: bool = False
) -> dict[str, tuple[str, str | None]]:
    """Entry → status, and the slug of its problem."""
    source = detect(path, uploads)
    assert source is not None
    importer = Importer(house.repo, ADMIN, dry_run=dry_run)
    made = outcomes(source, importer, house.repo, ADMIN, house.artifacts, dry_run=dry_run)
    return {outcome.entry: (outcome.status, outcome.problem.slug if outcome.problem else None) for outcome in made}


def test_pictures_of_a_data_set_are_taken_in_and_may_be_again(
    tmp_path: Path, uploads: Path, house: ImportTarget
) -> None:
    (uploads / "line1" / "a.jpg").write_bytes(jpeg(photo(8, 6)))
    dump = tmp_path / "dump.json"
    dump.write_text(f'{RELAXED}\n{{"_id":"gone","file":"b.jpg"}}\n{{"_id":"../x","file":"line1/a.jpg"}}\n{RELAXED}\n')
    assert list(taken(dump, house, uploads).values()) == [
        ("stored", None),
        ("failed", "bad-request"),
        ("failed", "bad-name"),
        ("failed", "name-conflict"),
    ]
    assert next(iter(taken(dump, house, uploads).values())) == ("unchanged", None)
    record = house.repo.reader.record(ADMIN, house.repo.reader.resolve(ADMIN, [ImageName("6339b5e4c5b1a4f0a1b2c3d4")]))
    assert (record.width, record.height, record.filename) == (8, 6, "a.jpg")
    assert record.data["label"] == "ok"


def test_of_what_lies_outside_nothing_is_taken_in(tmp_path: Path, uploads: Path, house: ImportTarget) -> None:
    (tmp_path / "secret").write_bytes(jpeg(photo(8, 6)))
    documents = [{"_id": f"{n}", "file": file, "data": {}} for n, file in enumerate(_hostile(uploads).values())]
    (tmp_path / "dump.json").write_text(json.dumps(documents))
    assert set(taken(tmp_path / "dump.json", house, uploads).values()) == {("failed", "bad-request")}
    assert list(house.repo.reader.images(ADMIN)) == []


def test_descriptions_are_taken_in(tmp_path: Path, house: ImportTarget) -> None:
    dump = tmp_path / "images.json"
    dump.write_text('{"count": 1, "images": [{"name": "library/nginx:latest", "stars": 4}]}')
    assert list(taken(dump, house).values()) == [("stored", None)]
    record = house.repo.reader.description(ADMIN, [ImageName("library/nginx:latest")])
    assert record.data == {"name": "library/nginx:latest", "stars": 4}


def test_blobs_become_images_and_artifacts_and_none_is_lost(tmp_path: Path, house: ImportTarget) -> None:
    folder, picture = tmp_path / "iss", jpeg(photo(8, 6))
    image = store(folder, picture, IMAGE)
    mask = store(folder, b"mask", ARTIFACT)
    none = store(folder, b"no picture", {**IMAGE, "mime": "text/plain"})
    cut = store(folder, picture[: len(picture) // 2], IMAGE)
    false = store(folder, b"true", IMAGE)
    wrong = store(folder, b"right", ARTIFACT)
    for sha256 in (false, wrong):
        (folder / "blobs" / sha256[:2] / sha256[2:4] / sha256).write_bytes(picture + b"rotten")
    members = {entry.rpartition("/")[2]: outcome for entry, outcome in taken(folder, house).items()}
    assert members == {
        image: ("stored", None),
        mask: ("stored", None),
        none: ("stored", "not-a-picture"),
        cut: ("stored", "broken-picture"),
        false: ("failed", "digest-mismatch"),
        wrong: ("failed", "digest-mismatch"),
    }
    artifacts, repo = house.artifacts, house.repo
    assert repo.reader.record(ADMIN, repo.reader.resolve(ADMIN, [ImageName(f"sha256:{image}")])).sha256 == image
    assert artifacts.get(ADMIN, f"sha256:{mask}").meta == {
        "run": 7,
        "created_at": 1759650001.25,
        "kind": "calibration result",
    }
    assert (
        artifacts.get(ADMIN, f"sha256:{none}").kind,
        artifacts.get(ADMIN, f"sha256:{none}").media_type,
    ) == ("image", "text/plain")
    with Spool(None, 100) as spool:
        artifacts.put(ADMIN, spool.fill([b"mask"]), kind="ours", meta={"run": 8})
    before = artifacts.get(ADMIN, f"sha256:{mask}")
    assert {status for status, _ in taken(folder, house).values()} == {"unchanged", "failed"}
    assert artifacts.get(ADMIN, f"sha256:{mask}") == before, "an import changes nothing of what is there"


def test_a_dry_run_tells_a_known_artifact_from_a_new_one_and_stores_neither(
    tmp_path: Path, house: ImportTarget
) -> None:
    folder = tmp_path / "iss"
    known, new = store(folder, b"mask", ARTIFACT), store(folder, b"another", ARTIFACT)
    with Spool(None, 100) as spool:
        house.artifacts.put(ADMIN, spool.fill([b"mask"]), kind="ours")
    statuses = {entry.rpartition("/")[2]: status for entry, (status, _) in taken(folder, house, dry_run=True).items()}
    assert statuses == {known: "unchanged", new: "stored"}
    assert house.artifacts.get(ADMIN, f"sha256:{known}").kind == "ours"
    assert not house.artifacts.is_stored(new)


@pytest.mark.parametrize("data", ["hello", "[1]", "", [1], 0, {"a": 1}], ids=json.dumps)
def test_what_an_export_says_of_descriptions_is_the_same_however_it_is_taken(data: Any, tmp_path: Path) -> None:
    """As a file by itself, beside pictures, and in the neighbour's spelling."""
    document = {**Record.description("n", data).public()}
    sheet = ImageFolder(About("title", None, lambda: (tmp_path / "tmp").open("w+b")))
    sheet.add(Exported(document, None))
    ((name, file), *_) = sheet.members(0.0)
    line = file.read()
    sheet.close()
    assert name == "descriptions.jsonl"
    (alone,) = reading(tmp_path, line)
    lines = ManifestLines(io.BytesIO())
    lines.add(name, [line])
    (beside,) = lines.rest()
    spelled = ManifestLines(io.BytesIO())
    spelled.add("mongodb_data.json", [b"[" + line.strip() + b"]"])
    (neighbours,) = spelled.rest()
    assert [item.data for item in (alone, beside, neighbours)] == [data] * 3


def test_an_image_that_has_lost_its_file_is_a_description(tmp_path: Path) -> None:
    """Of the image-data-set service: its data is data, not a member of it."""
    (item,) = reading(
        tmp_path, '{"_id":{"$oid":"5f0c1e2d3a4b5c6d7e8f9a0b"},"data":{"label":"ok"},"userId":"u","__v":0}'
    )
    assert (item.name, item.open, item.data) == ("5f0c1e2d3a4b5c6d7e8f9a0b", None, {"label": "ok", "userId": "u"})

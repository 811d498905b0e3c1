"""Exports and imports without HTTP: names of members, lines, what becomes of each entry, and the command line."""

import io
import json
import re
import struct
import tempfile
import threading
import tracemalloc
import unicodedata
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pictures
import pytest
from commands import configure, run
from hypothesis import given
from hypothesis import strategies as st
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.cli import exchange
from image_repo.errors import BadBody, BadRequest, BrokenArchive, NotAPicture
from image_repo.exchange.base import About, Exported, File, ImportOutcome, Item
from image_repo.exchange.exporter import Export, member_name, settled, write_folder
from image_repo.exchange.exporter import pictures as picture_members
from image_repo.exchange.formats import FORMATS
from image_repo.exchange.imagefolder import ImageFolder
from image_repo.exchange.importer import AT_ONCE, Importer, from_folder, from_zip
from image_repo.exchange.manifest_lines import ManifestLines
from image_repo.exchange.zip_writer import stream_zip
from image_repo.model.names import ImageName
from image_repo.repository import bulk
from image_repo.repository.metadata import UNCONDITIONAL

PICTURE = pictures.jpeg(pictures.photo(24, 16))
OTHER = pictures.jpeg(pictures.photo(24, 16, 1))


@contextmanager
def opened(folder: Path, **changes):
    folder.mkdir(exist_ok=True)
    config = embedded(folder, **changes)
    assert wiring.prepare(config, wiring.build_stores(config)) == []
    repo = wiring.build(config)
    try:
        yield repo
    finally:
        repo.close()


@pytest.fixture
def repo(tmp_path):
    with opened(tmp_path) as repo:
        yield repo


def store(repo, name: str, body: bytes = PICTURE, **data):
    with repo.writer.spool() as spool:
        return repo.writer.put(ADMIN, ImageName.parse(name), spool.fill([body]), **data)[0]


def record(repo, name: str):
    return repo.reader.record(ADMIN, repo.reader.resolve(ADMIN, [ImageName.parse(name)], aliases=False))


def original(repo, name: str) -> bytes:
    with repo.reader.original(ADMIN, repo.reader.resolve(ADMIN, [ImageName.parse(name)], aliases=False)) as (_, spool):
        return spool.file.read()


def description(repo, name: str):
    return repo.reader.description(ADMIN, [ImageName.parse(name)]).data


def jsonl(*lines) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def take_in(repo, *members: tuple[str, bytes], prefix: str = "", made: bytes | None = None):
    """Entry → outcome, for a zip of these members."""
    body = made if made is not None else b"".join(stream_zip((name, 0.0, data) for name, data in members))
    with tempfile.TemporaryFile() as lines:
        batch = from_zip(io.BytesIO(body), len(body), lines, 1_000)
        outcomes = list(Importer(repo, ADMIN, prefix).run(batch.items))
    assert len(outcomes) <= batch.total + 10
    entries = [outcome.entry for outcome in outcomes]
    assert len(set(entries)) == len(entries) or Counter(entries).most_common(1)[0][1] > 1
    return {outcome.entry: outcome for outcome in outcomes}


def statuses(outcomes) -> dict[str, str]:
    return {entry: outcome.status for entry, outcome in outcomes.items()}


# -- names of members ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "member"),
    [
        pytest.param("sites/plot-12/north", "sites/plot-12/north.jpg", id="an ordinary name"),
        pytest.param("été/photo@2x+b (1)", "été/photo@2x+b (1).jpg", id="another ordinary name"),
        pytest.param("v1.2/a.b", "v1.2/a.b.jpg", id="dots"),
        pytest.param("x.tif", "x.tif.jpg", id="a name with the ending of a picture"),
        pytest.param("sha256:ab", "sha256%3Aab.jpg", id="a content address"),
        pytest.param("C:/Windows/x", "C%3A/Windows/x.jpg", id="a drive"),
        pytest.param("con", "%63on.jpg", id="a device of Windows"),
        pytest.param("a/Aux.old/b", "a/%41ux.old/b.jpg", id="a device with an ending, as a folder"),
        pytest.param("console/com12", "console/com12.jpg", id="no device"),
        pytest.param("a. /b", "a.%20/b.jpg", id="a blank at the end of a folder"),
        pytest.param("a./b.", "a%2E/b..jpg", id="a dot at an end"),
        pytest.param(" a", "%20a.jpg", id="a blank ahead"),
        pytest.param("a.jpg/b", "a%2Ejpg/b.jpg", id="a folder called like the picture a"),
        pytest.param("metadata.jsonl/b", "metadata%2Ejsonl/b.jpg", id="a folder called like a file of ours"),
        pytest.param('a<b>"c|d?e*f', "a%3Cb%3E%22c%7Cd%3Fe%2Af.jpg", id="what Windows refuses"),
        pytest.param("100%25", "100%2525.jpg", id="what reads as an escape"),
        pytest.param("100%", "100%.jpg", id="a percent sign that is none"),
        pytest.param("a\\b\x07", "a%5Cb%07.jpg", id="a foreign name"),
        pytest.param("../.././x", "%2E%2E/%2E%2E/%2E/x.jpg", id="a foreign way up"),
        pytest.param("/x//y", "%00/x/%00/y.jpg", id="foreign empty parts"),
        pytest.param("a\u0308", "ä.jpg", id="decomposed letters"),
    ],
)
def test_a_picture_is_called_by_its_name(name, member):
    assert member_name(name, "jpg") == member


def test_a_long_part_of_a_name_is_shortened_and_stays_its_own():
    one, other = (member_name(f"{'ü' * 110}{end}/b", "jpg") for end in "xy")
    assert one != other
    assert all(len(part.encode()) <= 210 for part in one.split("/"))


_ODD = st.text(st.sampled_from(list("aA.% :\\con/\x07\u0308ü25~")), min_size=1, max_size=12)


@given(st.lists(_ODD, min_size=2, max_size=8))
def test_members_are_safe_and_different_whatever_the_names(names):
    names = {unicodedata.normalize("NFC", name) for name in names}
    made = [member_name(name, "jpg") for name in names]
    assert len(set(made)) == len(names)
    for member in made:
        assert not re.search(r'[\\:*?"<>|\x00-\x1f]', member)
        assert unicodedata.normalize("NFC", member) == member or "%" in member
        for part in member.split("/"):
            assert part and not part.startswith(".") and not part.endswith((" ", "."))
    folders = {member.rpartition("/")[0] for member in made}
    assert not folders & set(made), "no file lies where another's folder does"


# -- lines ----------------------------------------------------------------------------------


def lines_of(*lines, path: str = "metadata.jsonl") -> ManifestLines:
    made = ManifestLines(io.BytesIO())
    made.add(path, [jsonl(*lines)])
    return made


def item(*lines, path: str = "a.jpg", sheet: str = "metadata.jsonl"):
    return lines_of(*lines, path=sheet).item(path, lambda: [PICTURE])


def test_a_line_of_ours_tells_name_data_and_filename():
    entry = item({"file_name": "a.jpg", "name": "x/y.png", "data": {"n": 1}, "filename": "IMG.JPG", "owner": "eve"})
    assert (entry.name, entry.data, entry.filename) == ("x/y.png", {"n": 1}, "IMG.JPG")


@pytest.mark.parametrize(
    ("members", "filename"),
    [({}, "a.jpg"), ({"filename": None}, None), ({"filename": ""}, None), ({"filename": "I.JPG"}, "I.JPG")],
)
def test_a_file_was_called_as_it_is_told_else_as_it_is_called_now(members, filename):
    assert item({"file_name": "x/a.jpg", "data": {}, **members}, path="x/a.jpg").filename == filename


def test_what_stands_beside_data_is_data_too():
    entry = item({"file_name": "a.jpg", "data": {"n": 1}, "extra": [None, {}], "n": 2, "owner": "eve"})
    assert (entry.name, entry.data) == ("a", {"extra": [None, {}], "n": 1})


def test_a_line_of_another_tool_is_all_data():
    entry = item({"file_name": "a.jpg", "label": 3, "name": "tabby", "owner": "eve"})
    assert (entry.name, entry.data) == ("a", {"label": 3, "name": "tabby", "owner": "eve"})


def test_data_may_stand_there_as_text():
    assert item({"file_name": "a.jpg", "data": '{"n": [1]}'}).data == {"n": [1]}


@pytest.mark.parametrize(
    ("sheet", "path", "named"),
    [
        ("metadata.jsonl", "a/b.jpg", "a/b.jpg"),
        ("a/metadata.jsonl", "a/b.jpg", "b.jpg"),
        ("a/metadata.jsonl", "b.jpg", "../b.jpg"),
        ("metadata.jsonl", "b.jpg", "./b.jpg"),
    ],
)
def test_a_line_names_its_file_from_where_it_lies(sheet, path, named):
    assert item({"file_name": named, "data": {"n": 1}}, path=path, sheet=sheet).data == {"n": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b'{"file_name":"a.jpg","data":{"n":NaN}}', "not JSON", id="NaN"),
        pytest.param(b'{"file_name":"a.jpg","data":{"n":1e999}}', "too large", id="a number beyond a double"),
        pytest.param(b'{"file_name":"a.jpg","data":{"n":"\\ud800"}}', "surrogate", id="half a surrogate pair"),
        pytest.param(b'{"file_name":"a.jpg","data":"[1"}', "JSON", id="text of half a list"),
        pytest.param(b'{"file_name":"a.jpg","data":[1],"n":1}', "JSON object", id="a list, and a column beside it"),
        pytest.param(b'{"file_name":"a.jpg","data":{},"name":7}', "name to be text", id="a name that is none"),
        pytest.param(b'{"file_name":"a.jpg","data":{},"sha256":"x"}', "64 hex", id="a digest that is none"),
        pytest.param(b'{"file_name":"a.jpg","data":{},"sha256":7}', "64 hex", id="a digest that is a number"),
    ],
)
def test_a_picture_is_not_taken_without_what_is_said_of_it(line, reason):
    """A line that cannot be read, but whose file can be told, is the file's problem."""
    problem = item(line).problem
    assert isinstance(problem, BadBody)
    assert re.search(reason, problem.detail)


DEEP = b'"data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b'{"file_name":"a.jpg",' + DEEP, "at most 32 deep", id="nested 100,000 deep"),
        pytest.param(b'{"data":{},"n":1,, "file_name" : "\\u0061.jpg"}', "JSON", id="no JSON, the file escaped"),
        pytest.param(b'{"file_name":"a.jpg","data":{"n":"\xff"}}', "UTF-8", id="no UTF-8"),
        pytest.param(b'{"data":{"file_name":"b.jpg"},, "file_name":"a.jpg"}', "JSON", id="two files, one in data"),
        pytest.param(b'[{"file_name":"b.jpg"},{"file_name":"a.jpg"}]', "JSON object", id="a list"),
        pytest.param(b'{"file_name":"a.jpg","n":"' + b"x" * (1 << 20) + b'"}', "at most", id="too long"),
        pytest.param(b'{"n":"' + b"x" * (3 << 20) + b'","file_name":"a.jpg"}', "at most", id="too long, named last"),
        pytest.param(b'{"":"' + b"x" * ((1 << 20) - 20) + b'","file_name":"a.jpg"}', "at most", id="named in between"),
    ],
)
def test_nor_without_what_nobody_can_read(line, reason):
    made = lines_of(line)
    problem = made.item("a.jpg", lambda: [PICTURE]).problem
    assert isinstance(problem, BadBody)
    assert re.search(reason, problem.detail)
    assert all(item.entry == "metadata.jsonl:1" and item.problem for item in made.rest())


def test_a_line_without_end_is_refused_before_it_is_stored():
    """1 GB of one line: it is refused after its first MiB."""
    chunks_read = 0

    def endless():
        nonlocal chunks_read
        for _ in range(1024):
            chunks_read += 1
            yield b"x" * (1 << 20)

    file = io.BytesIO()
    with pytest.raises(BrokenArchive, match="at most 1048576 bytes"):
        ManifestLines(file).add("metadata.jsonl", endless())
    assert chunks_read == 2
    assert file.tell() <= 1 << 20


@pytest.mark.parametrize(
    "document",
    [
        pytest.param('{"_id":"x","file":"a.jpg",' + DEEP.decode(), id="nested 100,000 deep"),
        pytest.param('{"_id":"x","file":"a.jpg","data":"' + "x" * (1 << 19) + '"}', id="too long"),
        pytest.param('{"_id":[1],"file":"a.jpg","data":{}}', id="an _id that is no name"),
        pytest.param('{"_id":{"$date":[]},"file":"a.jpg","data":{}}', id="no extended JSON"),
    ],
)
def test_nor_without_a_document_of_a_neighbour_that_cannot_be_taken(document):
    made = ManifestLines(io.BytesIO())
    made.add("mongodb_data.json", [f'[{{"_id":"y","file":"b.jpg","data":{{}}}},{document}]'.encode()])
    assert made.item("a.jpg", lambda: [PICTURE]).problem
    assert made.item("b.jpg", lambda: [PICTURE]).name == "y"


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"\n" * 4], id="empty ones"),
        pytest.param([b"{}\n{}", b"\n{}\n{}"], id="the last one not ended"),
        pytest.param([b'[{"file_name":"1"},{"file_name":"2"},{"file_name":"3"},{"file_name":"4"}]'], id="files of one"),
    ],
)
def test_lines_are_bounded(chunks):
    ManifestLines(io.BytesIO(), 4).add("metadata.jsonl", chunks)
    both = ManifestLines(io.BytesIO(), 7)
    both.add("a/metadata.jsonl", chunks)
    with pytest.raises(BrokenArchive, match="At most 7 lines of metadata"):
        both.add("b/descriptions.jsonl", chunks)


def test_documents_of_a_neighbour_are_bounded_like_lines():
    with pytest.raises(BrokenArchive, match="At most 2 lines"):
        ManifestLines(io.BytesIO(), 2).add("mongodb_data.json", [b'[{"_id":"a"},{"_id":"b"},{"_id":"c"}]'])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"{" * 5, "JSON", id="no JSON"),
        pytest.param(b'["a.jpg"]', "JSON object", id="no object"),
        pytest.param(b'{"a":' * 100_000, "at most 32 deep", id="nested 100,000 deep"),
        pytest.param(b'{"a":"' + b"x" * (1 << 20) + b'"}', "at most", id="a line of more than a megabyte"),
        pytest.param(b"\xff\xfe", "UTF-8", id="no UTF-8"),
        pytest.param(b'{"file_name":"gone.jpg"}', "no file 'gone.jpg'", id="a file that is not there"),
        pytest.param(b'{"data":{}}', "to have a name", id="neither a file nor a name"),
    ],
)
def test_a_line_that_tells_of_nothing_is_told(line, reason):
    good = {"name": "x", "data": {"n": 1}}
    first, second, third = lines_of(good, line, {"name": "y", "data": {}}).rest()
    assert (first.name, first.data, third.name) == ("x", {"n": 1}, "y")
    assert (second.entry, second.problem is not None) == ("metadata.jsonl:2", True)
    assert re.search(reason, second.problem.detail)


def test_of_several_lines_of_a_file_the_first_counts_and_the_others_are_told():
    made = lines_of({"file_name": "a.jpg", "data": {"n": 1}}, {"file_name": "a.jpg", "data": {"n": 2}})
    assert made.item("a.jpg", lambda: [PICTURE]).data == {"n": 1}
    (other,) = made.rest()
    assert isinstance(other.problem, BrokenArchive)


def test_blank_lines_marks_of_order_and_windows_are_no_matter():
    made = ManifestLines(io.BytesIO())
    made.add("metadata.jsonl", [b"\xef\xbb\xbf", b'{"name":"x","data":{}}\r\n\r\n  \n', b'{"name":"y","data":{}}'])
    assert [(item.entry, item.name) for item in made.rest()] == [("metadata.jsonl:1", "x"), ("metadata.jsonl:4", "y")]


def test_several_files_tell_of_their_own():
    made = ManifestLines(io.BytesIO())
    for folder in ("a", "b"):
        made.add(f"{folder}/metadata.jsonl", [jsonl({"file_name": "x.jpg", "data": {"folder": folder}})])
        made.add(f"{folder}/descriptions.jsonl", [jsonl({"name": folder, "data": {}})])
    assert [made.item(f"{folder}/x.jpg", lambda: []).data["folder"] for folder in "ba"] == ["b", "a"]
    assert [item.entry for item in made.rest()] == ["a/descriptions.jsonl:1", "b/descriptions.jsonl:1"]


# -- taking in --------------------------------------------------------------------------------


def test_any_zip_of_pictures_is_taken(repo):
    outcomes = take_in(repo, ("a/b.jpg", PICTURE), ("x.tif.JPEG", OTHER), ("notes.txt", b"no picture"), ("a/", b""))
    assert statuses(outcomes) == {"a/b.jpg": "stored", "x.tif.JPEG": "stored", "notes.txt": "skipped"}
    assert (original(repo, "a/b"), original(repo, "x.tif")) == (PICTURE, OTHER)
    assert record(repo, "a/b").filename == "b.jpg"


def test_below_a_prefix(repo):
    outcomes = take_in(repo, ("a.jpg", PICTURE), ("descriptions.jsonl", jsonl({"name": "d", "data": {}})), prefix="p/q")
    assert {outcome.name for outcome in outcomes.values()} == {"p/q/a", "p/q/d"}
    assert original(repo, "p/q/a") == PICTURE


def test_what_is_there_already_is_unchanged_and_other_bytes_replace_it(repo):
    store(repo, "a", data={"kept": True})
    store(repo, "b")
    outcomes = take_in(repo, ("a.jpg", PICTURE), ("b.jpg", OTHER))
    assert statuses(outcomes) == {"a.jpg": "unchanged", "b.jpg": "replaced"}
    assert (record(repo, "a").data, original(repo, "b")) == ({"kept": True}, OTHER)


def test_data_that_is_given_replaces_what_was_said(repo):
    store(repo, "a", data={"old": 1})
    store(repo, "b", data={"same": True})
    lines = jsonl(
        {"file_name": "a.jpg", "name": "a", "data": {"new": 2}},
        {"file_name": "b.jpg", "name": "b", "data": {"same": 1}},
    )
    outcomes = take_in(repo, ("a.jpg", PICTURE), ("b.jpg", PICTURE), ("metadata.jsonl", lines))
    assert statuses(outcomes) == {"a.jpg": "replaced", "b.jpg": "replaced"}, "in JSON, true is not 1"
    assert (record(repo, "a").data, record(repo, "b").data) == ({"new": 2}, {"same": 1})
    again = take_in(repo, ("a.jpg", PICTURE), ("b.jpg", PICTURE), ("metadata.jsonl", lines))
    assert set(statuses(again).values()) == {"unchanged"}


def test_where_nothing_may_be_overwritten_other_bytes_fail(tmp_path):
    with opened(tmp_path, overwrite=False) as repo:
        store(repo, "a")
        store(repo, "b")
        outcomes = take_in(repo, ("a.jpg", PICTURE), ("b.jpg", OTHER))
        assert statuses(outcomes) == {"a.jpg": "unchanged", "b.jpg": "failed"}
        assert outcomes["b.jpg"].problem.status == 412
        assert original(repo, "b") == PICTURE


def test_a_digest_that_does_not_fit_fails(repo):
    lines = jsonl({"file_name": "a.jpg", "name": "a", "sha256": "0" * 64, "data": {}})
    outcome = take_in(repo, ("a.jpg", PICTURE), ("metadata.jsonl", lines))["a.jpg"]
    assert (outcome.status, outcome.problem.slug) == ("failed", "digest-mismatch")


def test_a_rendition_never_replaces_the_picture_that_it_was_made_of(repo):
    stored = store(repo, "a")
    lines = jsonl({"file_name": "a.jpg", "name": "a", "image_id": f"sha256:{stored.sha256}", "data": {"n": 1}})
    outcomes = take_in(repo, ("a.jpg", OTHER), ("metadata.jsonl", lines))
    assert statuses(outcomes) == {"a.jpg": "replaced"}
    assert (original(repo, "a"), record(repo, "a").data) == (PICTURE, {"n": 1})


def test_what_belongs_to_the_system_is_made_anew(repo):
    lies = {"owner": "eve", "width": 9, "uploaded": "1999", "version": "v", "exif": {"x": 1}, "media_type": "text/html"}
    take_in(
        repo, ("a.jpg", PICTURE), ("metadata.jsonl", jsonl({"file_name": "a.jpg", "name": "a", "data": {}, **lies}))
    )
    imported = record(repo, "a").public()
    assert (imported["owner"], imported["width"], imported["exif"], imported["media_type"]) == (
        None,
        24,
        {},
        "image/jpeg",
    )
    assert imported["uploaded"] > "2020"
    assert imported["version"] != "v"


def test_a_line_may_change_what_is_said_of_a_picture_that_is_there(repo):
    store(repo, "a", data={"old": 1})
    outcomes = take_in(repo, ("descriptions.jsonl", jsonl({"name": "a", "data": {"n": 1}}, {"name": "b", "data": {}})))
    assert list(statuses(outcomes).values()) == ["replaced", "stored"]
    assert (record(repo, "a").data, original(repo, "a"), description(repo, "b")) == ({"n": 1}, PICTURE, {})


def test_two_entries_of_one_name_are_told(repo):
    outcomes = take_in(repo, ("a.jpg", PICTURE), ("a.png", pictures.png(pictures.photo(8, 8))), ("A.jpg", PICTURE))
    assert statuses(outcomes) == {"a.jpg": "stored", "a.png": "failed", "A.jpg": "stored"}
    assert original(repo, "a") == PICTURE


HOSTILE = [
    pytest.param("../a.jpg", "bad-name", id="a way up"),
    pytest.param("x/../../a.jpg", "bad-name", id="a way up from within"),
    pytest.param("/etc/a.jpg", "bad-name", id="an absolute path"),
    pytest.param("//host/share/a.jpg", "bad-name", id="a path of a network"),
    pytest.param("C:/a.jpg", "bad-name", id="a drive"),
    pytest.param("c:a.jpg", "bad-name", id="a drive without a slash"),
    pytest.param("..\\a.jpg", "bad-name", id="a way up with backslashes"),
    pytest.param("x/\x07a.jpg", "bad-name", id="a control character"),
    pytest.param("x//a.jpg", "bad-name", id="an empty part"),
    pytest.param("x" * 800 + ".jpg", "bad-name", id="too long a name"),
    pytest.param(".hidden/a.jpg", "not-a-picture", id="a hidden folder"),
    pytest.param("__MACOSX/._a.jpg", "not-a-picture", id="what macOS adds"),
]


@pytest.mark.parametrize(("entry", "slug"), HOSTILE)
def test_an_entry_is_refused_and_the_others_are_not(repo, tmp_path, entry, slug):
    before = {path for path in tmp_path.rglob("*") if "shared" not in path.parts}
    outcomes = take_in(repo, (entry, PICTURE), ("good.jpg", PICTURE))
    refused = outcomes[entry.replace("\\", "/")]
    assert (refused.status, refused.problem.slug) == ("skipped" if slug == "not-a-picture" else "failed", slug)
    assert outcomes["good.jpg"].status == "stored"
    new = set(tmp_path.rglob("*.jp*g")) - before
    assert {path.name for path in new if "data" in path.parts} == {"good.jpg"}
    assert not list(tmp_path.parent.glob("*.jpg"))


def test_a_line_cannot_name_what_a_path_cannot(repo):
    names = ["../a", "/a", "a\\b", "a\x07", ".hidden", "", "x" * 800]
    lines = jsonl(*({"name": name, "data": {}} for name in names))
    outcomes = take_in(repo, ("descriptions.jsonl", lines))
    assert {outcome.status for outcome in outcomes.values()} == {"failed"}
    assert len(outcomes) == len(names)


@pytest.mark.parametrize(
    ("body", "status", "slug"),
    [
        pytest.param(b"", "skipped", "not-a-picture", id="nothing"),
        pytest.param(b"<svg/>", "skipped", "not-a-picture", id="no picture"),
        pytest.param(PICTURE[:60], "failed", "broken-picture", id="a picture that was cut off"),
        pytest.param(PICTURE[:-200], "failed", "broken-picture", id="a picture that lacks its end"),
    ],
)
def test_what_is_no_whole_picture_is_not_taken(repo, body, status, slug):
    outcome = take_in(repo, ("a.jpg", body))["a.jpg"]
    assert (outcome.status, outcome.problem.slug) == (status, slug)


def test_what_somebody_says_of_a_file_that_is_no_picture_fails_loudly(repo):
    outcome = take_in(repo, ("a.txt", b"text"), ("metadata.jsonl", jsonl({"file_name": "a.txt", "data": {}})))["a.txt"]
    assert outcome.status == "failed"


def test_data_that_is_too_much_fails(repo):
    lines = jsonl({"name": "a", "data": {"x": "y" * (64 << 10)}}, {"name": "b", "data": {}})
    outcomes = take_in(repo, ("descriptions.jsonl", lines))
    assert [outcome.status for outcome in outcomes.values()] == ["failed", "stored"]
    assert outcomes["descriptions.jsonl:1"].problem.slug == "too-large"


def test_a_bomb_is_not_unpacked_to_its_end(repo):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text.bin", bytes(40 << 20))
        archive.writestr("picture.jpg", PICTURE + bytes(40 << 20))
    with opened_limit(repo, 1 << 20):
        outcomes = take_in(repo, made=file.getvalue())
    assert outcomes["text.bin"].problem.slug == "not-a-picture", "its beginning is enough"
    assert outcomes["picture.jpg"].problem.slug == "too-large"


@contextmanager
def opened_limit(repo, most: int):
    writer = repo.writer
    before, writer.policy = writer.policy, replace(writer.policy, most_upload=most)
    try:
        yield
    finally:
        writer.policy = before


def test_metadata_that_cannot_be_read_refuses_the_whole(repo):
    """Pictures without what is said of them would be a loss that nobody sees."""
    made = bytearray(b"".join(stream_zip([("a.jpg", 0.0, PICTURE), ("metadata.jsonl", 0.0, b"{}\n")])))
    at = made.rfind(b"PK\1\2")
    struct.pack_into("<H", made, at + 8, 1)
    with pytest.raises(BrokenArchive, match=r"metadata\.jsonl.*encrypted"):
        take_in(repo, made=bytes(made))


def test_the_items_of_an_import_do_not_wait_in_memory(repo):
    taken, reported = 0, []

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield Item(str(taken), f"n{taken}", lambda: [b"no picture"])

    outcomes = Importer(repo, ADMIN).run(endless())
    for _ in range(500):
        reported.append(next(outcomes))
    outcomes.close()
    assert taken <= 500 + 3 * AT_ONCE
    assert [outcome.entry for outcome in reported] == [str(number) for number in range(1, 501)], "in their order"


def test_memory_does_not_grow_with_the_entries(repo):
    def peak(number: int) -> int:
        lines_text = jsonl(*({"name": f".{each}", "data": {"n": each}} for each in range(number)))
        body = b"".join(stream_zip([("descriptions.jsonl", 0.0, lines_text)]))
        with tempfile.TemporaryFile() as lines:
            tracemalloc.start()
            items = from_zip(io.BytesIO(body), len(body), lines, number).items
            assert sum(1 for _ in Importer(repo, ADMIN).run(items)) == number
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return most

    few, many = peak(500), peak(4_000)
    assert many < few + 500_000


# -- many at once -----------------------------------------------------------------------------


def put_records(repo, **data):
    return repo.writer.replace_many(
        ADMIN, {ImageName.parse(name.replace("__", "/")): value for name, value in data.items()}
    )


def test_what_is_said_of_many_is_what_would_be_said_one_by_one(repo):
    store(repo, "f/picture", data={"old": 1})
    repo.writer.replace_data(ADMIN, ImageName("f/known"), {"same": 1}, UNCONDITIONAL)
    repo.writer.replace_data(ADMIN, ImageName("f/other"), {"old": 1}, UNCONDITIONAL)
    done = put_records(repo, f__new={"n": 1}, f__known={"same": 1}, f__other={"n": 2}, f__picture={"n": 3})
    assert {name.text: outcome for name, outcome in done.items()} == {
        "f/new": "stored", "f/known": "unchanged", "f/other": "replaced", "f/picture": "replaced",
    }  # fmt: skip
    assert (description(repo, "f/new"), description(repo, "f/other")) == ({"n": 1}, {"n": 2})
    assert (record(repo, "f/picture").data, original(repo, "f/picture")) == ({"n": 3}, PICTURE)
    stamps = {
        name: repo.indexer.index.stamps([name]).get(name) for name in ("f/new", "f/known", "f/other", "f/picture")
    }
    assert stamps == {name: repo.metadata.row(ImageName(name)).stamp for name in stamps}, (
        "the catalogue was told of each"
    )


def test_what_is_not_plain_is_left_to_be_done_one_by_one(repo, tmp_path):
    store(repo, "two")
    folder = tmp_path / "data"
    (folder / "two.png").write_bytes(pictures.png(pictures.photo(8, 8)))
    (folder / "foreign.jpg").write_bytes(PICTURE)
    (folder / "json.json").write_text('{"somebody": "else"}')
    (folder / "plain").write_bytes(PICTURE)
    done = put_records(repo, two={"n": 1}, foreign={"n": 1}, json={"n": 1}, plain={"n": 1}, ü={"n": 1}, free={"n": 1})
    assert not done.keys() & {ImageName(name) for name in ("two", "foreign", "json", "plain", "ü")}
    outcomes = take_in(
        repo,
        (
            "descriptions.jsonl",
            jsonl(*({"name": name, "data": {"n": 1}} for name in ("two", "foreign", "json", "plain", "ü"))),
        ),
    )
    statuses = {outcome.name: outcome.status for outcome in outcomes.values()}
    assert statuses == {"two": "replaced", "foreign": "replaced", "json": "failed", "plain": "replaced", "ü": "stored"}
    assert record(repo, "foreign").data == {"n": 1}


def test_what_is_called_like_another_with_its_ending_is_left_to_be_done_one_by_one(repo, tmp_path):
    (tmp_path / "data" / "a.jpg").write_bytes(PICTURE)
    assert repo.writer.replace_many(ADMIN, {ImageName("a"): {"n": 1}, ImageName("a.jpg"): {"n": 2}}) == {}
    assert not (tmp_path / "data" / "a.json").exists()


@pytest.mark.parametrize(
    "names",
    [
        pytest.param([f"d/{number:06}" for number in range(80)], id="one folder"),
        pytest.param([f"d{number % 7}/{number}" for number in range(80)], id="several folders"),
        pytest.param([str(number) for number in range(80)], id="the root"),
        pytest.param(["a", "a/b", "a/b/c", "a.b", "a.b/c", "a-b", "ab", "a b"], id="names in one another"),
    ],
)
def test_many_descriptions(repo, names):
    for number in range(300):  # what lies between them
        if number % 30 == 0:
            repo.writer.replace_data(ADMIN, ImageName(f"d/{number:06}x"), {}, UNCONDITIONAL)
    lines = jsonl(*({"name": name, "data": {"n": name}} for name in names))
    assert Counter(statuses(take_in(repo, ("descriptions.jsonl", lines))).values()) == {"stored": len(names)}
    assert all(description(repo, name) == {"n": name} for name in names)
    assert Counter(statuses(take_in(repo, ("descriptions.jsonl", lines))).values()) == {"unchanged": len(names)}
    assert all(repo.indexer.index.stamps([name]) == {name: repo.metadata.row(ImageName(name)).stamp} for name in names)


def test_two_imports_of_the_same_names_end(repo):
    """Each takes several names at a time; in whatever order they come, none waits for who waits for it."""
    names = [f"d/{number:03}" for number in range(3 * bulk.MAX_NAMES)]
    start = threading.Barrier(2)

    def run_one(order, data):
        lines = jsonl(*({"name": name, "data": data} for name in order))
        start.wait(10)
        return Counter(statuses(take_in(repo, ("descriptions.jsonl", lines))).values())

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(run_one, names, {"n": 1}), pool.submit(run_one, names[::-1], {"n": 2})]
        counts = [each.result(60) for each in both]
    assert sum(each["stored"] for each in counts) == len(names)
    assert sum(each["failed"] for each in counts) == 0
    assert all(repo.indexer.index.stamps([name]) == {name: repo.metadata.row(ImageName(name)).stamp} for name in names)


# -- out, and in again -------------------------------------------------------------------------


def documents(repo, *names: str):
    for name in names:
        try:
            yield record(repo, name).public()
        except Exception:
            yield repo.reader.description(ADMIN, [ImageName(name)]).public()


def export_of(repo, data=None, **options) -> Export:
    about = About("everything", None, tempfile.TemporaryFile)
    made = settled(data or {"kind": "original"}, wiring.defaults(embedded(Path("/nowhere"))))
    return Export(repo, ADMIN, made, about, **options)


def exported(repo, docs, data=None, **options) -> bytes:
    return b"".join(stream_zip(export_of(repo, data, **options).members(docs)))


def unzipped(body: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.testzip() is None
        return {info.filename: archive.read(info) for info in archive.infolist()}


def documents_in(members: dict[str, bytes], name: str = "metadata.jsonl") -> list[dict]:
    return [json.loads(line) for line in members[name].splitlines()]


NAMES = ["a", "a.jpg", "a.jpg/b", "a/b", "con", "x.tif", "sites/plot-12/north", "ü/é", "100%25", "C:/x", "A"]


def test_nothing_is_lost(repo, tmp_path):
    for number, name in enumerate(NAMES):
        store(
            repo,
            name,
            pictures.jpeg(pictures.photo(24, 16, number)),
            data={"n": number, "tags": [name]},
            filename="I.JPG",
        )
    by_content = store(repo, f"sha256:{sha256(PICTURE).hexdigest()}").name
    repo.writer.replace_data(
        ADMIN, ImageName("only/words"), {"species": None, "deep": {"a": [1, "x", {}]}}, UNCONDITIONAL
    )
    everything = [*NAMES, by_content, "only/words"]
    made = exported(repo, documents(repo, *everything))
    with opened(tmp_path / "other") as other:
        assert set(statuses(take_in(other, made=made)).values()) == {"stored"}
        for name in [*NAMES, by_content]:
            assert original(other, name) == original(repo, name)
            ours, theirs = record(repo, name), record(other, name)
            assert (ours.data, ours.filename, ours.sha256) == (theirs.data, theirs.filename, theirs.sha256)
        assert description(other, "only/words") == description(repo, "only/words")
        assert set(statuses(take_in(other, made=made)).values()) == {"unchanged"}


def test_a_line_has_the_file_first_then_the_record_with_the_facts_of_the_file(repo):
    store(repo, "a", data={"n": 1})
    members = unzipped(exported(repo, documents(repo, "a"), {"xsize": "12", "kind": "png"}))
    (line,) = documents_in(members)
    assert next(iter(line)) == "file_name"
    assert set(line) == {"file_name", *record(repo, "a").public()}
    file = members[line["file_name"]]
    assert line["sha256"] == sha256(file).hexdigest()
    assert (line["bytes"], line["width"], line["height"], line["media_type"]) == (len(file), 12, 8, "image/png")
    assert (line["image_id"], line["data"]) == (record(repo, "a").public()["image_id"], {"n": 1})


def test_the_same_export_has_the_same_bytes(repo):
    for name in "abc":
        store(repo, name)
    first = exported(repo, documents(repo, *"abc"))
    repo.reader.resolve(ADMIN, [ImageName("a")])
    assert exported(repo, documents(repo, *"abc")) == first


def test_members_are_as_old_as_their_uploads(repo):
    uploaded = store(repo, "a").uploaded
    with zipfile.ZipFile(io.BytesIO(exported(repo, documents(repo, "a")))) as archive:
        for info in archive.infolist():
            moment = "{:04}-{:02}-{:02}T{:02}:{:02}".format(*info.date_time)
            assert moment == uploaded[:16]


def test_what_is_missing_is_told_and_what_was_said_of_it_stays(repo, tmp_path):
    store(repo, "a")
    store(repo, "b", data={"kept": True})
    docs = list(documents(repo, "a", "b"))
    repo.writer.delete(ADMIN, ImageName("b"))
    members = unzipped(exported(repo, docs))
    assert sorted(members) == ["_missing.txt", "a.jpg", "descriptions.jsonl", "metadata.jsonl"]
    assert members["_missing.txt"].startswith(b"b: 404 ")
    assert [(line["name"], line["data"]) for line in documents_in(members, "descriptions.jsonl")] == [
        ("b", {"kept": True})
    ]


def test_a_picture_that_was_replaced_comes_with_what_is_known_of_it_now(repo):
    store(repo, "a", data={"n": 1})
    docs = list(documents(repo, "a"))
    store(repo, "a", OTHER, data={"n": 2})
    members = unzipped(exported(repo, docs))
    assert (members["a.jpg"], documents_in(members)[0]["data"]) == (OTHER, {"n": 2})


def test_a_frozen_picture_is_the_very_one_or_missing(repo):
    store(repo, "a", data={"n": 1})
    store(repo, "b", data={"n": 1})
    docs = list(documents(repo, "a", "b"))
    store(repo, "a", OTHER)
    repo.writer.replace_data(ADMIN, ImageName("b"), {"n": 2}, UNCONDITIONAL)
    members = unzipped(exported(repo, docs, frozen=True))
    assert sorted(members) == ["_missing.txt", "b.jpg", "descriptions.jsonl", "metadata.jsonl"]
    assert documents_in(members)[0]["data"] == {"n": 1}, "as it was said then"
    store(repo, "a", PICTURE)  # the same bytes again, under another version
    assert "a.jpg" in unzipped(exported(repo, docs, frozen=True))


def test_who_goes_away_ends_an_export(repo):
    store(repo, "a")
    seen = []

    def docs():
        for _ in range(1000):
            seen.append(1)
            yield from documents(repo, "a")

    stream = stream_zip(export_of(repo).members(docs()))
    next(stream)
    stream.close()
    assert len(seen) < 10


def test_foreign_names_never_reach_a_zip_as_they_are(repo, tmp_path):
    """What no image can be called is none; what another system takes for something else is escaped."""
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    for name in ("a\\..\\b\x07.jpg", "new\nline.jpg", "C:x.jpg"):
        (folder / name).write_bytes(PICTURE)
    settle = settled({"kind": "original"}, wiring.defaults(embedded(Path("/x"))))
    members = unzipped(
        b"".join(stream_zip(picture_members(repo, ADMIN, repo.reader.images(ADMIN), lambda _: settle(None, ""))))
    )
    assert members == {"C%3Ax.jpg": PICTURE}


# -- tables -----------------------------------------------------------------------------------


def table(*data, exif=()) -> dict[str, list[dict]]:
    sheet = ImageFolder(About("", None, tempfile.TemporaryFile))
    for number, each in enumerate(data):
        document = {
            "name": str(number),
            "filename": None,
            "owner": None,
            "exif": exif[number] if exif else {},
            "data": each,
        }
        sheet.add(Exported(document, File(f"{number}.jpg", "0" * 64, "image/jpeg", 1, 1, 1)))
    members = dict(sheet.members(0.0))
    files = {name: [json.loads(line) for line in body] for name, body in members.items() if name.endswith(".jsonl")}
    sheet.close()
    return files


def test_a_change_of_types_is_noted_with_the_key():
    writer = ImageFolder(About("", None, tempfile.TemporaryFile))
    for number, stars in enumerate((3, "three")):
        document = {"name": str(number), "data": {"stars": stars}, "exif": {}}
        writer.add(Exported(document, File(f"{number}.jpg", "0" * 64, "image/jpeg", 1, 1, 1)))
    notes = dict(writer.members(0.0))["_imagefolder_notes.txt"]
    writer.close()
    assert notes == (b"metadata.jsonl: data is JSON text in every line: data.stars has values of different types\n")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([{"n": 1}, {"n": 2.5}], id="whole numbers and others"),
        pytest.param([{"n": 1}, {}, {"m": "x"}, {"n": None}], id="members that lack"),
        pytest.param([{"t": "2024-01-01"}, {"t": "soon"}], id="times and texts"),
        pytest.param([{"l": [1, 2]}, {"l": []}, {"o": {"a": [{"b": True}]}}], id="lists and objects"),
        pytest.param([{}, {}], id="nothing at all"),
    ],
)
def test_data_stays_data_where_a_table_takes_it(data):
    assert [line["data"] for line in table(*data)["metadata.jsonl"]] == data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param([{"n": 1}, {"n": "x"}], id="a number and a text"),
        pytest.param([{"n": True}, {"n": 1}], id="a truth and a number"),
        pytest.param([{"n": [1, "x"]}], id="a list of several kinds"),
        pytest.param([{"n": {"a": 1}}, {"n": [1]}], id="an object and a list"),
        pytest.param([{"n": 2**63}], id="a number beyond 64 bits"),
        pytest.param([{"a": {"file_name": "x.jpg"}}], id="what a reader would take for a picture"),
        pytest.param([{f"k{number}": 1 for number in range(3000)}], id="too many members"),
    ],
)
def test_data_is_text_in_every_line_where_a_table_does_not_take_it(data):
    written = [line["data"] for line in table(*data)["metadata.jsonl"]]
    assert all(isinstance(text, str) for text in written)
    assert [json.loads(text) for text in written] == data


def test_only_what_does_not_fit_is_text():
    lines = table({"n": 1}, {"n": 2}, exif=[{"ISO": 100}, {"ISO": "high"}])["metadata.jsonl"]
    assert [line["data"] for line in lines] == [{"n": 1}, {"n": 2}]
    assert [json.loads(line["exif"]) for line in lines] == [{"ISO": 100}, {"ISO": "high"}]


# -- folders, and the command line --------------------------------------------------------------


def test_a_folder_is_what_a_zip_of_it_would_be(repo, tmp_path):
    for name in ("a", "b/c"):
        store(repo, name, data={"n": name})
    repo.writer.replace_data(ADMIN, ImageName("d"), {}, UNCONDITIONAL)
    out = tmp_path / "out"
    write_folder(export_of(repo).members(documents(repo, "a", "b/c", "d")), out)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    assert [path.relative_to(out).as_posix() for path in files] == [
        "a.jpg",
        "b/c.jpg",
        "descriptions.jsonl",
        "metadata.jsonl",
    ]
    with opened(tmp_path / "other") as other, tempfile.TemporaryFile() as lines:
        batch = from_folder(out, files, lines)
        outcomes = list(Importer(other, ADMIN).run(batch.items))
        assert (batch.total, [outcome.status for outcome in outcomes]) == (3, ["stored"] * 3)
        assert record(other, "b/c").data == {"n": "b/c"}


def test_what_is_written_into_a_folder_does_not_follow_links(repo, tmp_path):
    store(repo, "a")
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere.txt"
    out.mkdir()
    elsewhere.write_text("mine")
    (out / "a.jpg").symlink_to(elsewhere)
    write_folder(export_of(repo).members(documents(repo, "a")), out)
    assert (elsewhere.read_text(), (out / "a.jpg").read_bytes()) == ("mine", PICTURE)


def test_the_command_line_takes_out_and_in(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number in range(3):
        (folder / "sub" / f"{number}.jpg").write_bytes(pictures.jpeg(pictures.photo(24, 16, number)))
    (folder / "metadata.jsonl").write_bytes(jsonl({"file_name": "sub/1.jpg", "data": {"species": "fox"}}))
    (folder / "notes.txt").write_text("no picture")
    config = configure(tmp_path)
    first = run("-y", config, "import", folder)
    assert (first.returncode, first.stdout) == (0, "3 stored, 0 replaced, 0 unchanged, 1 skipped, 0 failed.\n"), (
        first.stderr
    )
    assert "notes.txt: skipped" in first.stderr

    made = run("-y", config, "export", "-o", tmp_path / "all.zip")
    assert (made.returncode, "3 pictures, 0 descriptions, 0 missing" in made.stdout) == (0, True), made.stderr
    members = unzipped((tmp_path / "all.zip").read_bytes())
    assert members["sub/2.jpg"] == (folder / "sub" / "2.jpg").read_bytes(), "originals, whatever is served"

    some = run("-y", config, "export", "sub/", "species=fox", "xsize=12", "kind=png", "-o", tmp_path / "some")
    assert some.returncode == 0, some.stderr
    assert sorted(path.name for path in (tmp_path / "some").rglob("*.*")) == ["1.png", "metadata.jsonl"]

    mistyped = run("-y", config, "export", "sorrt=a", "-o", tmp_path / "none")
    assert mistyped.returncode == 1
    assert "No record has the key sorrt. Did you mean sort?" in mistyped.stderr

    again = run("-y", config, "import", tmp_path / "all.zip")
    assert again.stdout == "0 stored, 0 replaced, 3 unchanged, 0 skipped, 0 failed.\n"


@pytest.mark.parametrize(
    ("arguments", "originals", "reason"),
    [
        pytest.param(["xsize=20"], True, "Originals are exported unchanged", id="a size for originals"),
        pytest.param(["a/", "b/"], None, "one PATH/", id="two folders"),
        pytest.param(["limit=3"], None, "means nothing here", id="a page"),
        pytest.param(["kind=exe"], None, "one of jpg", id="no kind of picture"),
        pytest.param(["../a"], None, "may begin with a dot", id="a way up"),
        pytest.param(["snapshot=x", "n=1"], None, "exported whole", id="a part of a snapshot"),
    ],
)
def test_the_command_line_tells_what_it_does_not_understand(arguments, originals, reason):
    with pytest.raises(BadRequest, match=reason):
        exchange.read_export(embedded(Path("/nowhere")), arguments, str, originals=originals, format=None)


@pytest.mark.parametrize(
    ("arguments", "originals", "kind"),
    [
        pytest.param([], None, "original", id="originals, if nothing is said"),
        pytest.param(["n=1", "a/"], None, "original", id="originals of what a filter means"),
        pytest.param(["xsize=20"], None, "jpg", id="rendered, if a size is"),
        pytest.param(["kind=original"], None, "original", id="originals by name"),
        pytest.param([], False, "jpg", id="rendered, if that is said"),
    ],
)
def test_the_command_line_takes_originals_unless_it_is_said_how(arguments, originals, kind):
    options = exchange.read_export(embedded(Path("/nowhere")), arguments, str, originals=originals, format=None)
    assert options.settled(None, "").kind == kind


def test_the_command_line_knows_every_format():
    (option,) = [each for each in exchange.export_command.params if each.name == "format_"]
    assert list(option.type.choices) == [made.name for made in FORMATS]


@contextmanager
def no_bar(what: str, length: int):
    yield lambda more: None


def test_an_export_that_fails_leaves_nothing(repo, tmp_path):
    store(repo, "a")
    config = embedded(tmp_path)
    options = exchange.read_export(config, [], str, originals=None, format=None)
    (tmp_path / "taken.zip").mkdir()
    for output in (tmp_path / "nowhere" / "x.zip", tmp_path / "taken.zip"):
        with pytest.raises(OSError, match=r"No such file|Is a directory"):
            exchange.export(config, repo, options, output, no_bar)
    assert [path.name for path in tmp_path.rglob("*.zip*")] == ["taken.zip"]


def test_a_name_of_an_entry_forges_no_line(capsys):
    exchange._print_problem(ImportOutcome("a\nall is well\x1b[2J.jpg", "skipped", problem=NotAPicture("no\npicture")))
    error_text = capsys.readouterr().err
    assert (error_text.count("\n"), "\x1b" in error_text) == (1, False)

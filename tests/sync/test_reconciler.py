"""The index is held against the container: whatever other tools do there, it follows, and does nothing twice."""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pictures
import pytest
from following import followed, indexed_records, swept
from hypothesis import given, settings
from hypothesis import strategies as st
from webserver import embedded

from image_repo import wiring
from image_repo.access.principal import ADMIN
from image_repo.catalogue.base import Row
from image_repo.catalogue.indexer import BROKEN, UNREAD, completes
from image_repo.catalogue.query import Filter
from image_repo.errors import BadName, StoreUnavailable
from image_repo.model.names import ImageName
from image_repo.model.record import Record
from image_repo.repository.metadata import UNCONDITIONAL
from image_repo.repository.repository import Repository
from image_repo.sync import reconciler
from image_repo.sync.reconciler import Sweep, compare, run_to_end, sweep

ONE = pictures.jpeg(pictures.photo(40, 30), gps=True, camera=True)
TWO = pictures.jpeg(pictures.photo(20, 10, seed=1))


@pytest.fixture
def repo(tmp_path) -> Iterator[Repository]:
    with closing(wiring.build(embedded(tmp_path))) as repo:
        yield repo


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where other tools put files."""
    (tmp_path / "data").mkdir(exist_ok=True)
    return tmp_path / "data"


def lay(folder: Path, key: str, body: bytes, *, age: float = 0.0) -> Path:
    """What another tool does, some seconds ago."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    return path


def upload(repo: Repository, name: str, body: bytes = ONE, **data: object) -> None:
    with repo.writer.spool() as spool:
        spool.fill([body])
        repo.writer.put(ADMIN, ImageName(name), spool, data=data or None)


def stamp(repo: Repository, name: str) -> str | None:
    return repo.indexer.index.stamps([name]).get(name)


# -- what other tools do ---------------------------------------------------------------


def test_a_picture_that_another_tool_put_there_is_told_of_at_once_and_read_later(repo, folder):
    lay(folder, "a/b.JPG", ONE)
    assert swept(repo).unread == 1
    first = indexed_records(repo)["a/b"]
    assert (first["media_type"], first["bytes"], first["width"], first["sha256"]) == (
        "image/jpeg",
        len(ONE),
        None,
        None,
    )
    assert first["uploaded"] is not None
    assert followed(repo).written == 0, "what a listing tells is there already"
    whole = indexed_records(repo)["a/b"]
    assert (whole["width"], whole["height"]) == (40, 30)
    assert whole == repo.reader.record(ADMIN, repo.reader.resolve(ADMIN, [ImageName("a/b")])).public()


def test_what_a_listing_tells_has_every_member_of_a_record(repo, folder):
    lay(folder, "a.jpg", ONE)
    swept(repo)
    listed = indexed_records(repo)["a"]
    followed(repo)
    whole = indexed_records(repo)["a"]
    assert whole.keys() - listed.keys() == {"dhash", "thumbhash", "palette"}, "these need pixels"
    assert listed.keys() <= whole.keys()
    assert listed["version"] == whole["version"]


def test_a_replaced_picture_is_read_again_and_keeps_what_its_user_said(repo, folder):
    upload(repo, "a", site=12)
    lay(folder, "a.jpg", TWO, age=-5)
    swept(repo)
    assert indexed_records(repo)["a"]["data"] == {"site": 12}, "before it is read too"
    followed(repo)
    assert (indexed_records(repo)["a"]["width"], indexed_records(repo)["a"]["data"]) == (20, {"site": 12})


def test_a_picture_that_is_gone_is_taken_out_with_what_was_said_of_it(repo, folder):
    upload(repo, "a", site=12)
    upload(repo, "b")
    (folder / "a.jpg").unlink()
    assert swept(repo).removed == 1
    assert indexed_records(repo).keys() == {"b"}


def test_a_record_without_its_original_is_not_read_again_and_again(repo, folder):
    upload(repo, "a")
    (folder / "a.jpg").unlink()
    images, again = reconciler.images(repo)
    loaded = []
    again._load = lambda name: loaded.append(name) or images.load(name)
    for _ in range(3):
        run_to_end(again.run(images.listing()))
    assert loaded == ["a"]


def test_a_changed_record_is_seen(repo, folder):
    upload(repo, "a", site=1)
    path = folder / "a.json"
    lay(folder, "a.json", path.read_bytes().replace(b'"site":1', b'"site":2'), age=-5)
    swept(repo)
    assert indexed_records(repo)["a"]["data"] == {"site": 2}


def test_a_description_is_an_image_whose_picture_is_still_to_come(repo, folder):
    repo.writer.replace_data(ADMIN, ImageName("later"), {"site": 3}, UNCONDITIONAL)
    before = indexed_records(repo)
    repo.indexer.index.clear()
    swept(repo)
    assert indexed_records(repo) == before
    assert indexed_records(repo)["later"]["version"] is None


def test_json_of_another_tool_is_no_record(repo, folder):
    lay(folder, "a.jpg", ONE)
    lay(folder, "a.json", b'{"name": "a", "data": {"site": 9}}')
    lay(folder, "b.json", b"[]")
    lay(folder, "notes.txt", b"note")
    followed(repo)
    assert indexed_records(repo).keys() == {"a"}
    assert (indexed_records(repo)["a"]["data"], indexed_records(repo)["a"]["width"]) == ({}, 40)
    assert (folder / "a.json").read_bytes() == b'{"name": "a", "data": {"site": 9}}'
    assert stamp(repo, "a").rstrip("?!") == stamp(repo, "a"), "it is whole, although its record cannot be kept"
    assert followed(repo).written == 0


@pytest.mark.parametrize("name", ["grün/Möhre", "Ά/ё", "한글"], ids=["Latin", "Greek and Cyrillic", "Hangul"])
def test_names_as_macos_spells_them(repo, folder, name):
    lay(folder, unicodedata.normalize("NFD", name) + ".jpg", ONE)
    followed(repo)
    followed(repo)  # by now there is a record, in the other spelling
    assert indexed_records(repo)[name]["width"] == 40
    assert swept(repo) == replace(swept(repo), written=0, removed=0, failed=[])
    repo.writer.patch_data(ADMIN, ImageName(name), {"site": 1}, UNCONDITIONAL)
    repo.indexer.index.clear()
    followed(repo)
    assert indexed_records(repo)[name]["data"] == {"site": 1}


@pytest.mark.parametrize("newer", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["grün", "Ά"])
def test_of_two_spellings_of_a_name_the_newest_original_is_the_image(repo, folder, name, newer):
    for form, body in (("NFC", ONE), ("NFD", TWO)):
        lay(folder, unicodedata.normalize(form, name) + ".jpg", body, age=0 if form == newer else 60)
    followed(repo)
    followed(repo)
    assert indexed_records(repo)[name]["width"] == (40 if newer == "NFC" else 20)
    assert repo.reader.resolve(ADMIN, [ImageName(name)]).version == indexed_records(repo)[name]["version"]


@pytest.mark.parametrize(
    ("older", "newer", "width"),
    [("a.jpg", "a.png", 20), ("a.png", "a.jpg", 20), ("a.jpeg", "a.JPG", 20)],
)
def test_of_two_originals_the_newest_is_the_image(repo, folder, older, newer, width):
    lay(folder, older, ONE, age=60)
    lay(folder, newer, TWO)
    followed(repo)
    assert indexed_records(repo)["a"]["width"] == width
    assert repo.reader.resolve(ADMIN, [ImageName("a")]).version == indexed_records(repo)["a"]["version"]


def test_names_that_begin_alike_are_told_apart(repo, folder):
    names = {"a", "a.b", "a.b.c", "a/b", "a-1", "a ", "a.j", "a.jsonx", "ab", "a.jso"}
    for name in names:
        lay(folder, f"{name}.{'png' if name == 'a.jso' else 'jpg'}", ONE)
    followed(repo)
    repo.indexer.index.clear()
    followed(repo)
    assert indexed_records(repo).keys() == names
    assert all(document["width"] == 40 for document in indexed_records(repo).values())


def test_what_begins_with_a_dot_is_no_image(repo, folder):
    for key in (".artifacts/a.jpg", "b/.hidden.jpg", ".a.jpg", "+.jpg", "0.jpg"):
        lay(folder, key, ONE)
    swept(repo)
    assert indexed_records(repo).keys() == {"+", "0"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("t/back\\slash", id="a backslash"),
        pytest.param("t/new\nline", id="a new line"),
        pytest.param("\x1b[31mred", id="what colours a terminal"),
        pytest.param("t\x85/é", id="a control character beyond ASCII"),
        pytest.param("x" * 240 + "/" + "\N{PILE OF POO}" * 39, id="one that is too long"),
    ],
)
def test_what_has_a_name_that_nobody_could_ask_for_is_no_image(repo, folder, name):
    lay(folder, "good.jpg", ONE)
    lay(folder, name + ".jpg", ONE)
    lay(folder, "t/words.json", Record.description("t/words", {}).dump())
    lay(folder, name + "2.json", Record.description(name + "2", {}).dump())
    swept(repo)
    assert indexed_records(repo).keys() == {"good", "t/words"}
    assert [current.name.text for current in repo.reader.images(ADMIN)] == ["good"]


@given(st.text(st.characters() | st.sampled_from("./\\é\x7f"), max_size=12) | st.text("aé\N{PILE OF POO}", min_size=55))
@settings(max_examples=300)
def test_a_key_has_the_name_that_could_be_asked_for(text):
    try:
        expected = ImageName.parse(text)
    except BadName:
        expected = None
    assert ImageName.of_key(text) == expected


def test_a_broken_picture_is_read_once(repo, folder, caplog):
    lay(folder, "a.jpg", ONE[:200])
    lay(folder, "b.jpg", b"no picture at all")
    followed(repo)
    assert indexed_records(repo).keys() == {"a", "b"}
    assert indexed_records(repo)["b"]["width"] is None
    assert stamp(repo, "b").endswith(BROKEN)
    caplog.clear()
    assert followed(repo).unread == 0
    assert not caplog.records
    lay(folder, "b.jpg", TWO, age=-5)
    followed(repo)
    assert indexed_records(repo)["b"]["width"] == 20


# -- nothing twice ---------------------------------------------------------------------


def test_what_is_unchanged_is_not_loaded(repo, folder):
    for number in range(5):
        upload(repo, f"a/{number}", n=number)
    lay(folder, "b.jpg", ONE)
    followed(repo)
    images, again = reconciler.images(repo)
    again._load = pytest.fail
    outcome = run_to_end(again.run(images.listing()))
    assert (outcome.seen, outcome.whole, outcome.written, outcome.removed) == (6, 6, 0, 0)


def test_our_own_writes_leave_the_stamps_that_the_listing_tells(repo):
    upload(repo, "a", site=1)
    upload(repo, "b")
    repo.writer.patch_data(ADMIN, ImageName("a"), {"site": 2}, UNCONDITIONAL)
    repo.writer.replace_data(ADMIN, ImageName("b"), {"said": True}, UNCONDITIONAL)
    repo.writer.replace_data(ADMIN, ImageName("c"), {"said": True}, UNCONDITIONAL)
    assert compare(repo.indexer.index, reconciler.Images(repo).listing()) == reconciler.Difference()


def test_a_sweep_that_was_interrupted_goes_on_where_it_was(repo, folder):
    for number in range(250):
        upload(repo, f"{number:03}") if number < 3 else lay(folder, f"{number:03}.jpg", ONE)
    repo.indexer.index.clear()
    images, first = reconciler.images(repo)
    loaded = []

    def load(name: str) -> Row | None:
        if len(loaded) == 150:
            raise StoreUnavailable("It is gone.")
        loaded.append(name)
        return images.load(name)

    first._load = load
    with pytest.raises(StoreUnavailable):
        run_to_end(first.run(images.listing()))
    there = repo.indexer.index.count(Filter())
    assert 0 < there <= 150
    images, second = reconciler.images(repo)
    outcome = run_to_end(second.run(images.listing()))
    assert (outcome.written, outcome.seen) == (250 - there, 250)


def test_a_write_while_an_older_state_is_loaded_is_not_overwritten(repo, folder):
    upload(repo, "a", site="old")
    repo.indexer.index.clear()
    images, again = reconciler.images(repo)

    def load(name: str) -> Row | None:
        row = images.load(name)
        repo.writer.patch_data(ADMIN, ImageName(name), {"site": "new"}, UNCONDITIONAL)
        return row

    again._load = load
    run_to_end(again.run(images.listing()))
    assert indexed_records(repo)["a"]["data"] == {"site": "new"}


def test_a_deletion_while_it_is_loaded_is_not_undone(repo, folder):
    upload(repo, "a")
    repo.indexer.index.clear()
    images, again = reconciler.images(repo)

    def load(name: str) -> Row | None:
        row = images.load(name)
        repo.writer.delete(ADMIN, ImageName(name))
        return row

    again._load = load
    run_to_end(again.run(images.listing()))
    assert indexed_records(repo) == {}


WRITES = {
    "changed data": lambda repo: repo.writer.patch_data(ADMIN, ImageName("a"), {"site": "new"}, UNCONDITIONAL),
    "another picture": lambda repo: upload(repo, "a", TWO, site="new"),
    "a deletion": lambda repo: repo.writer.delete(ADMIN, ImageName("a")),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_after_an_original_was_read_is_not_overwritten(repo, folder, write):
    for name in ("a", "b"):
        lay(folder, f"{name}.jpg", ONE)
    swept(repo)
    for (name, known), *others in list(reconciler.unread(repo.indexer.index)):
        rows = [repo.metadata.complete(name, known), *(repo.metadata.complete(*other) for other in others)]
        WRITES[write](repo)
        after = indexed_records(repo).get("a")
        repo.indexer.index.put(rows, completes)
    assert indexed_records(repo).get("a") == after
    assert indexed_records(repo)["b"]["width"] == 40
    assert followed(repo).written == 0


def test_the_rows_of_originals_that_were_read_are_written_together(repo, folder):
    for number in range(5):
        lay(folder, f"p{number}.jpg", ONE)
    lay(folder, "broken.jpg", b"no picture")
    swept(repo)
    assert list(reconciler.complete(repo, at_once=2, rows=4)) == [0, 4, 2]
    assert [document["width"] for document in indexed_records(repo).values()] == [None, *[40] * 5]
    assert stamp(repo, "broken").endswith(BROKEN)
    assert followed(repo).written == 0


def test_an_original_that_was_replaced_since_its_listing_is_read_as_it_is_now(repo, folder):
    lay(folder, "a.jpg", ONE)
    swept(repo)
    ((name, known),) = next(reconciler.unread(repo.indexer.index))
    lay(folder, "a.jpg", TWO, age=-5)
    row = repo.metadata.complete(name, known)
    assert row.document["width"] == 20
    repo.indexer.index.put([row], completes)
    assert indexed_records(repo)["a"]["width"] == 20


def test_what_a_listing_that_lags_does_not_show_stays(repo):
    upload(repo, "a")
    upload(repo, "b")
    images, again = reconciler.images(repo)
    outcome = run_to_end(again.run(each for each in images.listing() if each[0] != "b"))
    assert outcome.removed == 0
    assert indexed_records(repo).keys() == {"a", "b"}


def test_a_damaged_record_does_not_keep_the_others_out(repo, folder):
    upload(repo, "a")
    upload(repo, "b")
    upload(repo, "c")
    text = (folder / "b.json").read_bytes()
    lay(folder, "b.json", text[: len(text) // 2], age=-5)
    repo.indexer.index.clear()
    followed(repo)
    assert indexed_records(repo).keys() == {"a", "b", "c"}
    assert indexed_records(repo)["b"]["width"] == 40


def test_a_row_that_the_index_does_not_take_does_not_keep_the_others_out(repo):
    listing = [("a", "1"), ("b", "1"), ("c", "1")]

    def load(name: str) -> Row:
        return Row(name, {"name": name, "data": {"x": math.nan if name == "b" else 1}}, "1")

    outcome = sweep(repo.indexer.index, listing, load)
    assert [name for name, _ in outcome.failed] == ["b"]
    assert indexed_records(repo).keys() == {"a", "c"}


# -- the model -------------------------------------------------------------------------

_states = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["1", "2", "3"]))


@settings(max_examples=25)
@given(states=st.lists(_states, min_size=1, max_size=4))
def test_after_a_sweep_the_index_holds_what_was_listed(tmp_path_factory, states):
    with closing(wiring.build(embedded(tmp_path_factory.mktemp("model")))) as repo:
        index = repo.indexer.index
        for state in states:
            outcome = sweep(
                index,
                sorted(state.items()),
                lambda name, state=state: Row(name, {"name": name}, state[name]) if name in state else None,
            )
            assert index.stamps("abcdefgh") == state
            assert outcome.seen == len(state)


@given(st.sets(st.text(max_size=6), max_size=300), st.sets(st.text(max_size=6), max_size=50))
def test_hashes_of_names_stand_for_the_names(names, others):
    there = reconciler._Hashes()
    for name in [*names, *names]:
        there.add(name)
    there.seal()
    assert len(there) == len(names)
    assert {name for name in names | others if name in there} == names


def test_many_names_take_eight_bytes_each():
    there = reconciler._Hashes()
    for number in range(20_000):
        there.add(f"sites/plot-{number}")
    there.seal()
    assert sum(bucket.buffer_info()[1] * bucket.itemsize for bucket in there._buckets) == 8 * 20_000
    assert "sites/plot-19999" in there and "sites/plot-20000" not in there


# -- policy ----------------------------------------------------------------------------


def test_positions_are_in_no_index_of_a_repository_that_does_not_tell_them(tmp_path, folder):
    lay(folder, "a.jpg", ONE)
    for location in (False, True, False):
        with closing(wiring.build(embedded(tmp_path, metadata_location=location))) as repo:
            followed(repo)
            known = json.dumps(indexed_records(repo)["a"])
            assert ("46.9" in known) is location
            assert (
                indexed_records(repo)["a"]
                == repo.reader.record(ADMIN, repo.reader.resolve(ADMIN, [ImageName("a")])).public()
            )


def test_a_difference_is_told_and_nothing_is_changed(repo, folder):
    for name in "abc":
        upload(repo, name)
    lay(folder, "a.jpg", TWO, age=-5)
    (folder / "b.jpg").unlink()
    (folder / "b.json").unlink()
    lay(folder, "d.jpg", ONE)
    before = indexed_records(repo)
    difference = compare(repo.indexer.index, reconciler.Images(repo).listing())
    assert difference == reconciler.Difference(missing=1, stale=1, gone=1)
    assert indexed_records(repo) == before
    swept(repo)
    assert compare(repo.indexer.index, reconciler.Images(repo).listing()) == reconciler.Difference(unread=2)
    assert stamp(repo, "d").endswith(UNREAD)


def test_loads_go_on_side_by_side_where_that_is_wanted(repo):
    together = Sweep(repo.indexer.index, lambda name: Row(name, {"name": name}, "1"), at_once=3)
    outcome = run_to_end(together.run((f"{number}", "1") for number in range(2_500)))
    assert (outcome.written, repo.indexer.index.count(Filter())) == (2_500, 2_500)
